//! What etcd is asked, in the API that it has: v3 as JSON, or v2, which is all that the etcd of 2016
//! knows.
//!
//! <https://etcd.io/docs/v3.4/dev-guide/api_grpc_gateway/>,
//! <https://etcd.io/docs/v2.3/api/>

use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use reqwest::StatusCode;
use reqwest::blocking::{Client, RequestBuilder, Response};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use super::{Endpoint, Member, TIMEOUT};
use crate::http::nearby_client;

/// Asks etcd; one for any number of endpoints.
#[derive(Debug)]
pub(super) struct Api {
    http: Client,
    version: Version,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Version {
    V2,
    V3,
}

impl Api {
    /// For endpoints that have the JSON form of v3, until [`Api::members`] knows better.
    pub(super) fn new() -> Result<Self> {
        Self::with_patience(TIMEOUT, TIMEOUT)
    }

    /// The same with other limits: for a connection, and for all of an answer.
    pub(super) fn with_patience(connection: Duration, answer: Duration) -> Result<Self> {
        let http = nearby_client(answer).connect_timeout(connection).build();
        Ok(Self { http: http.context("making an HTTP client")?, version: Version::V3 })
    }

    /// Whether an endpoint says that it is healthy. The same in all versions. A learner says so as well.
    pub(super) fn is_healthy(&self, endpoint: &Endpoint) -> Result<()> {
        #[derive(Deserialize)]
        struct Health {
            health: String,
        }
        let answer = self.http.get(endpoint.url("/health")).send().context("no answer")?;
        let health: Health = answer.json().context("no answer of etcd's")?;
        if health.health != "true" {
            bail!("it says health={}", health.health);
        }
        Ok(())
    }

    /// Whether an endpoint is a learner: it gets all data, has no vote yet, and refuses nearly all that it is
    /// asked. Versions before 3.4 know no learners.
    pub(super) fn is_learner(&self, endpoint: &Endpoint) -> bool {
        #[derive(Deserialize)]
        struct Status {
            #[serde(default, rename = "isLearner")]
            learner: bool,
        }
        let status = self.post::<Status>(endpoint, STATUS_V3, &json!({}));
        status.is_ok_and(|status| status.learner)
    }

    /// Whether anybody listens there, whatever is answered.
    pub(super) fn answers(&self, endpoint: &Endpoint) -> bool {
        self.http.get(endpoint.url("/version")).send().is_ok()
    }

    /// All members. Which API `endpoint` has is found out by that, for all that is asked later.
    pub(super) fn members(&mut self, endpoint: &Endpoint) -> Result<Vec<Member>> {
        #[derive(Deserialize)]
        struct Members {
            #[serde(default)]
            members: Vec<MemberAnswer>,
        }
        #[derive(Deserialize)]
        struct MemberAnswer {
            #[serde(alias = "ID")]
            id: String,
            #[serde(default)]
            name: String,
            #[serde(default, rename = "peerURLs")]
            peer_urls: Vec<String>,
            #[serde(default, rename = "clientURLs")]
            client_urls: Vec<String>,
            #[serde(default, rename = "isLearner")]
            learner: bool,
        }
        let v3 = self.http.post(endpoint.url(MEMBERS_V3)).json(&json!({}));
        let mut answer = v3.send().context("no answer")?;
        self.version = Version::V3;
        if answer.status() == StatusCode::NOT_FOUND {
            answer = self.http.get(endpoint.url(MEMBERS_V2)).send().context("no answer")?;
            self.version = Version::V2;
            ensure!(
                answer.status() != StatusCode::NOT_FOUND,
                "it has neither etcd's v3 API as JSON (enable-grpc-gateway) nor v2 (enable-v2)"
            );
        }
        let answer: Members = content(answer)?;
        let member = |answer: MemberAnswer| Member {
            id: self.id(answer.id),
            name: answer.name,
            peer_urls: answer.peer_urls,
            client_urls: answer.client_urls,
            learner: answer.learner,
        };
        Ok(answer.members.into_iter().map(member).collect())
    }

    /// Adds a member that gets all data and has no vote yet; since etcd 3.4. Earlier ones do not know what
    /// a learner is and add a full member.
    pub(super) fn add_learner(&self, endpoint: &Endpoint, peer_url: &str) -> Result<()> {
        self.require_v3()?;
        let body = json!({"peerURLs": [peer_url], "isLearner": true});
        let _: Value = self.post(endpoint, "/v3/cluster/member/add", &body)?;
        Ok(())
    }

    /// Takes a member out of the cluster.
    pub(super) fn remove_member(&self, endpoint: &Endpoint, id: &str) -> Result<()> {
        self.require_v3()?;
        let _: Value =
            self.post(endpoint, "/v3/cluster/member/remove", &json!({"ID": decimal(id)}))?;
        Ok(())
    }

    /// Gives a learner its vote.
    pub(super) fn promote(&self, endpoint: &Endpoint, id: &str) -> Result<()> {
        self.require_v3()?;
        let _: Value =
            self.post(endpoint, "/v3/cluster/member/promote", &json!({"ID": decimal(id)}))?;
        Ok(())
    }

    /// Whether the endpoint that was asked last for members knows v3.
    pub(super) fn has_v3(&self) -> bool {
        self.version == Version::V3
    }

    fn require_v3(&self) -> Result<()> {
        ensure!(self.has_v3(), "members are changed by etcd's v3 API, which it has not");
        Ok(())
    }

    /// The id of the member that `endpoint` calls its leader.
    pub(super) fn leader(&self, endpoint: &Endpoint) -> Result<String> {
        #[derive(Deserialize)]
        struct Status {
            #[serde(default)]
            leader: String,
        }
        #[derive(Deserialize)]
        struct Own {
            #[serde(rename = "leaderInfo")]
            leader_info: Status,
        }
        let leader = match self.version {
            Version::V3 => self.post::<Status>(endpoint, STATUS_V3, &json!({}))?.leader,
            Version::V2 => {
                let own = self.http.get(endpoint.url("/v2/stats/self"));
                answer_of::<Own>(own)?.leader_info.leader
            }
        };
        Ok(self.id(leader))
    }

    /// Writes a key, with a value of letters and digits. It goes by itself after a minute, also if
    /// nobody is left to delete it.
    pub(super) fn put(&self, endpoint: &Endpoint, key: &str, value: &str) -> Result<Written> {
        #[derive(Deserialize)]
        struct Lease {
            #[serde(rename = "ID")]
            id: String,
        }
        match self.version {
            Version::V3 => {
                let ttl = json!({"TTL": TTL_S});
                let lease: Lease = self.post(endpoint, "/v3/lease/grant", &ttl)?;
                let pair = json!({
                    "key": STANDARD.encode(key),
                    "value": STANDARD.encode(value),
                    "lease": lease.id,
                });
                let _: Value = self.post(endpoint, "/v3/kv/put", &pair)?;
                Ok(Written { lease: lease.id })
            }
            Version::V2 => {
                // Both are read from the query as well as from a form; `value` needs no escapes.
                let url = format!("{}?ttl={TTL_S}&value={value}", endpoint.url(&key_v2(key)));
                let _: Value = answer_of(self.http.put(url))?;
                Ok(Written { lease: String::new() })
            }
        }
    }

    /// What a key holds, as a majority of the members has it.
    pub(super) fn get(&self, endpoint: &Endpoint, key: &str) -> Result<Option<String>> {
        #[derive(Deserialize)]
        struct Range {
            #[serde(default)]
            kvs: Vec<KeyValue>,
        }
        #[derive(Deserialize)]
        struct Node {
            node: KeyValue,
        }
        #[derive(Deserialize)]
        struct KeyValue {
            value: String,
        }
        match self.version {
            Version::V3 => {
                let key = json!({"key": STANDARD.encode(key)});
                let range: Range = self.post(endpoint, "/v3/kv/range", &key)?;
                let Some(pair) = range.kvs.first() else { return Ok(None) };
                let value = STANDARD.decode(&pair.value).context("reading a value")?;
                Ok(String::from_utf8(value).ok())
            }
            Version::V2 => {
                let url = format!("{}?quorum=true", endpoint.url(&key_v2(key)));
                Ok(Some(answer_of::<Node>(self.http.get(url))?.node.value))
            }
        }
    }

    /// Deletes a key that [`Api::put`] wrote.
    pub(super) fn delete(&self, endpoint: &Endpoint, key: &str, written: &Written) -> Result<()> {
        let _: Value = match self.version {
            Version::V3 => {
                self.post(endpoint, "/v3/lease/revoke", &json!({"ID": written.lease}))?
            }
            Version::V2 => answer_of(self.http.delete(endpoint.url(&key_v2(key))))?,
        };
        Ok(())
    }

    /// One call of v3.
    pub(super) fn post<T: DeserializeOwned>(
        &self,
        endpoint: &Endpoint,
        path: &str,
        body: &Value,
    ) -> Result<T> {
        answer_of(self.http.post(endpoint.url(path)).json(body))
    }

    /// v2 prints ids as people know them; JSON has no numbers of 64 bits, so v3 writes them as
    /// decimal strings there.
    fn id(&self, id: String) -> String {
        match self.version {
            Version::V3 => hex(id),
            Version::V2 => id,
        }
    }
}

/// A key that was written, and how it is deleted again.
#[derive(Debug)]
pub(super) struct Written {
    lease: String,
}

fn answer_of<T: DeserializeOwned>(request: RequestBuilder) -> Result<T> {
    content(request.send().context("no answer")?)
}

/// etcd says in the body what it does not like.
fn content<T: DeserializeOwned>(answer: Response) -> Result<T> {
    let status = answer.status();
    if status.is_success() {
        return answer.json().context("no answer of etcd's");
    }
    let body: Value = answer.json().unwrap_or_default();
    let said = ["message", "error"].into_iter().find_map(|name| body.get(name)?.as_str());
    bail!("it answers {status}{}", said.map(|said| format!(": {said}")).unwrap_or_default())
}

fn key_v2(key: &str) -> String {
    format!("/v2/keys/{key}")
}

pub(super) fn hex(id: String) -> String {
    id.parse::<u64>().map_or(id, |id| format!("{id:x}"))
}

/// As v3 takes an id.
fn decimal(id: &str) -> String {
    u64::from_str_radix(id, 16).map_or_else(|_| id.to_owned(), |id| id.to_string())
}

const MEMBERS_V3: &str = "/v3/cluster/member/list";
pub(super) const STATUS_V3: &str = "/v3/maintenance/status";
const MEMBERS_V2: &str = "/v2/members";
const TTL_S: u32 = 60;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_are_shown_as_etcd_prints_them() {
        assert_eq!(hex("10276657743932975437".to_owned()), "8e9e05c52164694d");
        assert_eq!(hex("x".to_owned()), "x");
    }
}
