//! Whether an etcd cluster is healthy, by etcd's own API: every node says so, all are members,
//! they agree on one leader, and what is written on one is read on the others.
//!
//! <https://etcd.io/docs/v3.4/dev-guide/api_grpc_gateway/>

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::thread;
use std::time::Duration;

use anyhow::Context;
use anyhow::Result;
use anyhow::bail;
use anyhow::ensure;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use reqwest::blocking::Client;
use serde::Deserialize;
use serde::Serialize;
use serde_json::json;

/// A node that is to be a member.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Endpoint {
    /// The node's name, which is the member's as well.
    pub name: String,
    /// Where it listens for clients.
    pub ip: IpAddr,
    /// The port for clients.
    pub port: u16,
}

impl Endpoint {
    /// An endpoint at etcd's own client port, 2379.
    pub fn new(name: impl Into<String>, ip: IpAddr) -> Self {
        Self { name: name.into(), ip, port: CLIENT_PORT }
    }

    fn url(&self, path: &str) -> String {
        format!("http://{}{path}", std::net::SocketAddr::new(self.ip, self.port))
    }
}

/// What was found out about a cluster.
#[derive(Clone, Debug, Serialize)]
pub struct Report {
    /// Each node in the order in which they were asked for.
    pub nodes: Vec<NodeReport>,
    /// All members.
    pub members: Vec<Member>,
    /// The node that leads, if all agree on one.
    pub leader: Option<String>,
    /// Why what was written on one node was not read on the others.
    pub read_write: Option<String>,
    /// Everything is as it should be.
    pub healthy: bool,
}

/// What a node says.
#[derive(Clone, Debug, Serialize)]
pub struct NodeReport {
    /// Its name.
    pub name: String,
    /// Its address.
    pub ip: IpAddr,
    /// It says that it is healthy.
    pub healthy: bool,
    /// The id of the member that it is, hexadecimal.
    pub member: Option<String>,
    /// All agree that it leads.
    pub leader: bool,
    /// Why it is not, as far as can be told.
    pub problem: Option<String>,
}

/// A member of a cluster.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Member {
    /// Its id, hexadecimal as etcd prints it.
    pub id: String,
    /// Its own name, which need not be the node's; empty until it has started.
    pub name: String,
    /// Where the other members reach it.
    pub peer_urls: Vec<String>,
    /// Where clients reach it.
    pub client_urls: Vec<String>,
}

impl Member {
    /// Whether the member runs on the node with this address.
    fn is_on(&self, ip: IpAddr) -> bool {
        self.peer_urls.iter().chain(&self.client_urls).any(|url| is_at(url, ip))
    }
}

/// Whether a URL's host is this address.
pub fn is_at(url: &str, ip: IpAddr) -> bool {
    let url = reqwest::Url::parse(url).ok();
    let host = url.as_ref().and_then(reqwest::Url::host_str).unwrap_or_default();
    host.trim_start_matches('[').trim_end_matches(']').parse() == Ok(ip)
}

/// Asks whether each node is healthy, all at the same time.
pub fn health(endpoints: &[Endpoint]) -> Vec<NodeReport> {
    let Ok(http) = client() else { return Vec::new() };
    on_each(endpoints, |endpoint| NodeReport {
        name: endpoint.name.clone(),
        ip: endpoint.ip,
        problem: is_healthy(&http, endpoint).err().map(|error| short(&error)),
        healthy: false,
        member: None,
        leader: false,
    })
    .into_iter()
    .map(|node| NodeReport { healthy: node.problem.is_none(), ..node })
    .collect()
}

/// Checks the whole cluster. Writes a key that only this check has, and deletes it again.
///
/// # Errors
/// If there can be no HTTP client, which is a bug.
pub fn check(endpoints: &[Endpoint], mark: &str) -> Result<Report> {
    let http = client()?;
    let mut nodes = health(endpoints);
    let answering: Vec<&Endpoint> = endpoints
        .iter()
        .zip(&nodes)
        .filter(|(_, node)| node.healthy)
        .map(|(endpoint, _)| endpoint)
        .collect();
    let members =
        answering.first().and_then(|endpoint| members(&http, endpoint).ok()).unwrap_or_default();
    let leader_id = leader(&http, &answering);
    for node in &mut nodes {
        // A member names itself as it likes; one found by discovery often by its machine's id.
        let member = members.iter().find(|member| member.is_on(node.ip));
        node.leader = leader_id.is_some() && member.map(|member| &member.id) == leader_id.as_ref();
        node.member = member.map(|member| member.id.clone());
    }
    let read_write =
        write_here_read_there(&http, &answering, mark).err().map(|error| short(&error));
    let leader = nodes.iter().find(|node| node.leader).map(|node| node.name.clone());
    let healthy = nodes.iter().all(|node| node.healthy && node.member.is_some())
        && members.len() == endpoints.len()
        && leader.is_some()
        && read_write.is_none();
    Ok(Report { nodes, members, leader, read_write, healthy })
}

impl Report {
    /// What is missing, one line for each thing; empty if the cluster is healthy.
    pub fn problems(&self) -> Vec<String> {
        let mut problems: Vec<String> = self
            .nodes
            .iter()
            .filter(|node| !node.healthy)
            .map(|node| {
                format!(
                    "{}: etcd is not healthy: {}",
                    node.name,
                    node.problem.as_deref().unwrap_or("unknown")
                )
            })
            .collect();
        let strangers = self.nodes.iter().filter(|node| node.healthy && node.member.is_none());
        problems.extend(strangers.map(|node| {
            format!("{}: it is healthy, but no member of the same cluster", node.name)
        }));
        if self.members.len() != self.nodes.len() {
            problems.push(format!(
                "etcd has {} members of {}",
                self.members.len(),
                self.nodes.len()
            ));
        }
        if self.leader.is_none() {
            problems.push("etcd has no leader that all nodes agree on".to_owned());
        }
        if let Some(problem) = &self.read_write {
            problems.push(format!("writing on one node and reading on the others: {problem}"));
        }
        problems
    }
}

fn client() -> Result<Client> {
    Client::builder().no_proxy().timeout(TIMEOUT).build().context("making an HTTP client")
}

fn is_healthy(http: &Client, endpoint: &Endpoint) -> Result<()> {
    #[derive(Deserialize)]
    struct Health {
        health: String,
    }
    let answer = http.get(endpoint.url("/health")).send().context("no answer")?;
    let health: Health = answer.json().context("no answer of etcd's")?;
    ensure!(health.health == "true", "it says health={}", health.health);
    Ok(())
}

fn members(http: &Client, endpoint: &Endpoint) -> Result<Vec<Member>> {
    #[derive(Deserialize)]
    struct Members {
        #[serde(default)]
        members: Vec<MemberAnswer>,
    }
    #[derive(Deserialize)]
    struct MemberAnswer {
        #[serde(rename = "ID")]
        id: String,
        #[serde(default)]
        name: String,
        #[serde(default, rename = "peerURLs")]
        peer_urls: Vec<String>,
        #[serde(default, rename = "clientURLs")]
        client_urls: Vec<String>,
    }
    let answer: Members = call(http, endpoint, "/v3/cluster/member/list", &json!({}))?;
    let member = |answer: MemberAnswer| Member {
        id: hex(&answer.id),
        name: answer.name,
        peer_urls: answer.peer_urls,
        client_urls: answer.client_urls,
    };
    Ok(answer.members.into_iter().map(member).collect())
}

/// The id of the member that all of `endpoints` call their leader.
fn leader(http: &Client, endpoints: &[&Endpoint]) -> Option<String> {
    #[derive(Deserialize)]
    struct Status {
        leader: String,
    }
    let leaders: BTreeSet<String> = on_each(endpoints, |endpoint| {
        call::<Status>(http, endpoint, "/v3/maintenance/status", &json!({}))
            .map(|status| status.leader)
    })
    .into_iter()
    .collect::<Result<_>>()
    .ok()?;
    let [leader] = Vec::from_iter(leaders).try_into().ok()?;
    Some(hex(&leader))
}

/// JSON has no numbers of 64 bits, so etcd writes its ids as decimal strings there.
fn hex(id: &str) -> String {
    id.parse::<u64>().map_or_else(|_| id.to_owned(), |id| format!("{id:x}"))
}

fn write_here_read_there(http: &Client, endpoints: &[&Endpoint], mark: &str) -> Result<()> {
    #[derive(Deserialize)]
    struct Range {
        #[serde(default)]
        kvs: Vec<KeyValue>,
    }
    #[derive(Deserialize)]
    struct KeyValue {
        value: String,
    }
    let Some(first) = endpoints.first() else { bail!("no node answers") };
    let key = STANDARD.encode(format!("virtlab/check/{mark}"));
    let value = STANDARD.encode(mark);
    let _: serde_json::Value =
        call(http, first, "/v3/kv/put", &json!({"key": key, "value": value}))
            .with_context(|| format!("writing on {}", first.name))?;
    let reads = on_each(endpoints, |endpoint| -> Result<()> {
        let range: Range = call(http, endpoint, "/v3/kv/range", &json!({"key": key}))?;
        let read = range.kvs.first().map(|pair| pair.value.as_str());
        ensure!(read == Some(value.as_str()), "it was not read on {}", endpoint.name);
        Ok(())
    });
    let _: serde_json::Value = call(http, first, "/v3/kv/deleterange", &json!({"key": key}))?;
    reads.into_iter().collect()
}

fn call<T: serde::de::DeserializeOwned>(
    http: &Client,
    endpoint: &Endpoint,
    path: &str,
    body: &serde_json::Value,
) -> Result<T> {
    let answer = http.post(endpoint.url(path)).json(body).send()?.error_for_status()?;
    Ok(answer.json()?)
}

fn on_each<E: Sync, R: Send>(endpoints: &[E], ask: impl Fn(&E) -> R + Sync) -> Vec<R> {
    thread::scope(|scope| {
        let ask = &ask;
        let threads: Vec<_> =
            endpoints.iter().map(|endpoint| scope.spawn(move || ask(endpoint))).collect();
        threads.into_iter().map(|thread| thread.join().expect("asking does not panic")).collect()
    })
}

/// The first and the last cause: what was asked, and the system's word.
fn short(error: &anyhow::Error) -> String {
    let (first, last) = (error.to_string(), error.root_cause().to_string());
    if first == last { first } else { format!("{first}: {last}") }
}

const CLIENT_PORT: u16 = 2379;
/// An emulated node that is electing a leader is slow to answer.
const TIMEOUT: Duration = Duration::from_secs(5);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_url_is_at_an_address_or_not() {
        for (url, ip, expected) in [
            ("http://10.0.0.2:2380", "10.0.0.2", true),
            ("http://10.0.0.23:2380", "10.0.0.2", false),
            ("http://[fd00::1]:2380", "fd00::1", true),
            ("http://node:2380", "10.0.0.2", false),
            ("nonsense", "10.0.0.2", false),
        ] {
            assert_eq!(is_at(url, ip.parse().unwrap()), expected, "{url}");
        }
    }

    #[test]
    fn ids_are_shown_as_etcd_prints_them() {
        assert_eq!(hex("10276657743932975437"), "8e9e05c52164694d");
        assert_eq!(hex("x"), "x");
    }
}
