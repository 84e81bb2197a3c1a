//! Numbers that are written into etcd one by one, to see later whether each that it acknowledged is still there.
//!
//! A write is a transaction: it puts a key of its own, and the same number into a register that all writes share. The register's
//! revision grows with each write, so a linearizable read of it that finds an earlier one than was known before is stale.
//!
//! <https://etcd.io/docs/v3.5/learning/api_guarantees/>

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::api::{Api, STATUS_V3, hex};
use super::{Endpoint, Member, short};
use crate::cluster::on_each;

/// A place in etcd for the numbers of one run.
#[derive(Debug)]
pub struct Ledger {
    /// For what is measured: who does not answer soon has failed.
    quick: Api,
    patient: Api,
    prefix: String,
    lease: String,
}

/// What came of a write or a read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case", tag = "outcome")]
pub enum Outcome {
    /// Done. The register has this revision by it, or had it when it was read; 0 if nothing was there.
    Acknowledged {
        /// Of the store's.
        revision: u64,
    },
    /// There was no connection, so nothing was done.
    Failed,
    /// It was asked for, and the answer was an error or did not come: it may be done.
    Unknown,
}

/// Who leads, as a member has it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Leader {
    /// Its member's id, hexadecimal.
    pub member: String,
    /// The term of its election; each election has a higher one.
    pub term: u64,
}

/// The name of each member's node, by the member's id, as the first endpoint that answers has them.
///
/// # Errors
/// If none answers.
pub fn nodes(endpoints: &[Endpoint]) -> Result<BTreeMap<String, String>> {
    let mut api = Api::new()?;
    let members = endpoints.iter().find_map(|endpoint| api.members(endpoint).ok());
    let node = |member: Member| {
        let node = endpoints.iter().find(|endpoint| member.is_on(endpoint.ip))?;
        Some((member.id, node.name.clone()))
    };
    Ok(members.context("no etcd names the members")?.into_iter().filter_map(node).collect())
}

impl Ledger {
    /// A ledger below `virtlab/verdict/` and `run`, which goes by itself after `ttl` if nobody closes it.
    ///
    /// # Errors
    /// If no endpoint answers, or etcd has no v3 API as JSON.
    pub fn open(endpoints: &[Endpoint], run: &str, ttl: Duration) -> Result<Self> {
        let mut patient = Api::new()?;
        let first = endpoints.first().context("there is no etcd to be asked")?;
        let about = || format!("asking etcd on {}", first.name);
        patient.members(first).with_context(about)?;
        if !patient.has_v3() {
            bail!("the etcd on {} has no v3 API as JSON (enable-grpc-gateway)", first.name);
        }
        let ttl = json!({"TTL": ttl.as_secs()});
        let lease: Lease = patient.post(first, "/v3/lease/grant", &ttl).with_context(about)?;
        let quick = Api::with_patience(CONNECTION, ANSWER)?;
        Ok(Self { quick, patient, prefix: format!("virtlab/verdict/{run}"), lease: lease.id })
    }

    /// Writes a number.
    pub fn write(&self, endpoint: &Endpoint, number: u64) -> Outcome {
        #[derive(Deserialize)]
        struct Done {
            header: Header,
        }
        let put = |key: String| {
            let value = STANDARD.encode(number.to_string());
            json!({"requestPut": {"key": STANDARD.encode(key), "value": value, "lease": self.lease}})
        };
        let key = format!("{}/numbers/{number}", self.prefix);
        let both = json!({"success": [put(key), put(self.register())]});
        let done = self.quick.post::<Done>(endpoint, "/v3/kv/txn", &both);
        outcome(done.and_then(|done| Ok(done.header.revision.parse()?)))
    }

    /// Reads the register, as a majority of the members has it.
    pub fn read(&self, endpoint: &Endpoint) -> Outcome {
        let key = json!({"key": STANDARD.encode(self.register())});
        let range = self.quick.post::<Range>(endpoint, "/v3/kv/range", &key);
        outcome(range.and_then(|range| {
            Ok(range.kvs.first().map_or(Ok(0), |pair| pair.mod_revision.parse())?)
        }))
    }

    /// Who leads, as the member itself has it.
    ///
    /// # Errors
    /// If it does not answer, or has no leader.
    pub fn leader(&self, endpoint: &Endpoint) -> Result<Leader> {
        #[derive(Deserialize)]
        struct Status {
            #[serde(default)]
            leader: String,
            #[serde(default, rename = "raftTerm")]
            term: String,
        }
        let Status { leader, term } = self.quick.post(endpoint, STATUS_V3, &json!({}))?;
        // JSON leaves a number out that is 0.
        if leader.is_empty() || leader == "0" {
            bail!("it has no leader");
        }
        Ok(Leader { member: hex(leader), term: term.parse().context("reading its term")? })
    }

    /// All numbers that are there, as each endpoint reads them now, or why it does not.
    pub fn numbers(&self, endpoints: &[Endpoint]) -> Vec<Result<BTreeSet<u64>, String>> {
        let folder = format!("{}/numbers/", self.prefix);
        // The next character, as etcd's own clients make it.
        let end = format!("{}/numbers0", self.prefix);
        let range = json!({"key": STANDARD.encode(&folder), "range_end": STANDARD.encode(end)});
        on_each(endpoints, |endpoint| {
            let range = self.patient.post::<Range>(endpoint, "/v3/kv/range", &range);
            range.and_then(|range| range.numbers()).map_err(|error| short(&error))
        })
    }

    /// Removes all numbers.
    ///
    /// # Errors
    /// If no endpoint does it; they go by themselves later.
    pub fn close(&self, endpoints: &[Endpoint]) -> Result<()> {
        let body = json!({"ID": self.lease});
        let revoke =
            |it: &Endpoint| self.patient.post::<Value>(it, "/v3/lease/revoke", &body).map(|_| ());
        endpoints.iter().map(revoke).find(Result::is_ok).unwrap_or_else(|| {
            bail!("no etcd removes the keys below `{}`; they go by themselves", self.prefix)
        })
    }

    fn register(&self) -> String {
        format!("{}/register", self.prefix)
    }
}

#[derive(Deserialize)]
struct Lease {
    #[serde(rename = "ID")]
    id: String,
}

#[derive(Deserialize)]
struct Header {
    revision: String,
}

#[derive(Deserialize)]
struct Range {
    #[serde(default)]
    kvs: Vec<Pair>,
}

#[derive(Deserialize)]
struct Pair {
    value: String,
    mod_revision: String,
}

impl Range {
    fn numbers(&self) -> Result<BTreeSet<u64>> {
        let number = |pair: &Pair| {
            let value = String::from_utf8(STANDARD.decode(&pair.value)?)?;
            Ok(value.parse::<u64>()?)
        };
        self.kvs.iter().map(number).collect()
    }
}

fn outcome(answer: Result<u64>) -> Outcome {
    match answer {
        Ok(revision) => Outcome::Acknowledged { revision },
        Err(error) => {
            let error = error.downcast_ref::<reqwest::Error>();
            if error.is_some_and(reqwest::Error::is_connect) {
                Outcome::Failed
            } else {
                Outcome::Unknown
            }
        }
    }
}

/// A connection takes a round trip. A new attempt asks at once where TCP would wait longer each time.
const CONNECTION: Duration = Duration::from_secs(1);
/// An emulated node is slow; one that is asked again only after this time keeps no other waiting.
const ANSWER: Duration = Duration::from_secs(2);
