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
    /// The names of all members.
    pub members: Vec<String>,
    /// The name of the leader, if all agree on one.
    pub leader: Option<String>,
    /// What was written on one node was read on the others; the reason if not.
    pub read_write: Option<String>,
    /// Everything is as it should be.
    pub healthy: bool,
}

/// What a node says.
#[derive(Clone, Debug, Serialize)]
pub struct NodeReport {
    /// Its name.
    pub name: String,
    /// It says that it is healthy.
    pub healthy: bool,
    /// Why it is not, as far as can be told.
    pub problem: Option<String>,
}

/// Asks whether each node is healthy, all at the same time.
pub fn health(endpoints: &[Endpoint]) -> Vec<NodeReport> {
    let Ok(http) = client() else { return Vec::new() };
    on_each(endpoints, |endpoint| match is_healthy(&http, endpoint) {
        Ok(()) => NodeReport { name: endpoint.name.clone(), healthy: true, problem: None },
        Err(error) => {
            NodeReport { name: endpoint.name.clone(), healthy: false, problem: Some(short(&error)) }
        }
    })
}

/// Checks the whole cluster. Writes a key that only this check has, and deletes it again.
///
/// # Errors
/// If there can be no HTTP client, which is a bug.
pub fn check(endpoints: &[Endpoint], mark: &str) -> Result<Report> {
    let http = client()?;
    let nodes = health(endpoints);
    let answering: Vec<&Endpoint> = endpoints
        .iter()
        .zip(&nodes)
        .filter(|(_, node)| node.healthy)
        .map(|(endpoint, _)| endpoint)
        .collect();
    let members =
        answering.first().and_then(|endpoint| members(&http, endpoint).ok()).unwrap_or_default();
    let leader = leader(&http, &answering, &members);
    let read_write =
        write_here_read_there(&http, &answering, mark).err().map(|error| short(&error));
    let names: BTreeSet<&str> = members.iter().map(|member| member.name.as_str()).collect();
    let healthy = nodes.iter().all(|node| node.healthy)
        && names.len() == endpoints.len()
        && endpoints.iter().all(|endpoint| names.contains(endpoint.name.as_str()))
        && leader.is_some()
        && read_write.is_none();
    let members = members.into_iter().map(|member| member.name).collect();
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

#[derive(Deserialize)]
struct Member {
    #[serde(rename = "ID")]
    id: String,
    #[serde(default)]
    name: String,
}

fn members(http: &Client, endpoint: &Endpoint) -> Result<Vec<Member>> {
    #[derive(Deserialize)]
    struct Members {
        #[serde(default)]
        members: Vec<Member>,
    }
    let answer: Members = call(http, endpoint, "/v3/cluster/member/list", &json!({}))?;
    Ok(answer.members)
}

/// The member that all of `endpoints` call their leader.
fn leader(http: &Client, endpoints: &[&Endpoint], members: &[Member]) -> Option<String> {
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
    members.iter().find(|member| member.id == leader).map(|member| member.name.clone())
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
