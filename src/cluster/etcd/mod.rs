//! Whether an etcd cluster is healthy, by etcd's own API: every node says so, all are members or pass on to them,
//! they agree on one leader, and what is written on one is read on the others.

mod api;
pub(crate) mod away;
pub mod ledger;
pub mod membership;

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::time::Duration;

use anyhow::{Context, Result, anyhow, bail, ensure};
use serde::Serialize;
use uuid::Uuid;

use self::api::Api;
pub use self::away::{Away, AwayNode};
use super::on_each;
use crate::output::sanitize;

/// A node that is to have an etcd.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Endpoint {
    /// The node's name, which is the member's as well.
    pub name: String,
    /// Where it listens for clients.
    pub ip: IpAddr,
    /// The port for clients.
    pub port: u16,
    /// Whether it is to be a member. If not it is a client, which passes on to the members what it is asked.
    pub voter: bool,
}

impl Endpoint {
    /// Where the other members reach it.
    pub fn peer_url(&self) -> String {
        format!("http://{}", std::net::SocketAddr::new(self.ip, PEER_PORT))
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
    /// Why what was written on one node was not read on the others; `None` if it was.
    pub read_write_problem: Option<String>,
    /// The nodes that are not to answer, since somebody stopped or paused them.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub away: Vec<AwayNode>,
    /// The lab's name, where nodes are away.
    #[serde(skip)]
    lab: String,
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
    /// It says that it is healthy, and it is no learner.
    pub healthy: bool,
    /// It gets all data and has no vote yet.
    #[serde(skip)]
    pub learner: bool,
    /// It is to be no member, but to pass on to the members what it is asked.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub client: bool,
    /// The id of the member that it is, hexadecimal.
    pub member: Option<String>,
    /// It is the one that all nodes call their leader.
    pub leader: bool,
    /// Why it is not healthy, or cannot tell more; `None` if it is.
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
    /// It gets all data and has no vote yet.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub learner: bool,
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
///
/// # Errors
/// If there can be no HTTP client, which is a bug.
pub fn health(endpoints: &[Endpoint]) -> Result<Vec<NodeReport>> {
    Ok(health_by(&Api::new()?, endpoints))
}

fn health_by(api: &Api, endpoints: &[Endpoint]) -> Vec<NodeReport> {
    on_each(endpoints, |endpoint| {
        let mut problem = api.is_healthy(endpoint).err().map(|error| short(&error));
        let learner = problem.is_none() && api.is_learner(endpoint);
        if learner {
            problem = Some("it is a learner: it has no vote yet".to_owned());
        }
        NodeReport {
            name: endpoint.name.clone(),
            ip: endpoint.ip,
            healthy: problem.is_none(),
            learner,
            client: !endpoint.voter,
            member: None,
            leader: false,
            problem,
        }
    })
}

/// Checks the whole cluster. Writes a key that no other check has, below `virtlab/check/` and
/// `mark`, and deletes it again; etcd itself does so after a minute.
///
/// # Errors
/// If there can be no HTTP client, which is a bug.
pub fn examine(endpoints: &[Endpoint], mark: &str) -> Result<Report> {
    examine_without(endpoints, &Away::default(), mark)
}

/// The same where some nodes are away: those stay members.
///
/// # Errors
/// If there can be no HTTP client, which is a bug.
pub fn examine_without(endpoints: &[Endpoint], away: &Away, mark: &str) -> Result<Report> {
    report(endpoints, away, |api, answering| write_here_read_there(api, answering, mark))
}

/// The same without writing anything, for those who look again and again.
///
/// # Errors
/// If there can be no HTTP client, which is a bug.
pub fn glance(endpoints: &[Endpoint]) -> Result<Report> {
    glance_without(endpoints, &Away::default())
}

/// The same where some nodes are away.
///
/// # Errors
/// If there can be no HTTP client, which is a bug.
pub fn glance_without(endpoints: &[Endpoint], away: &Away) -> Result<Report> {
    report(endpoints, away, |_, _| Ok(()))
}

fn report(
    endpoints: &[Endpoint],
    away: &Away,
    try_out: impl FnOnce(&Api, &[&Endpoint]) -> Result<()>,
) -> Result<Report> {
    let mut api = Api::new()?;
    let mut nodes = health_by(&api, endpoints);
    let both = endpoints.iter().zip(&nodes);
    let answering: Vec<&Endpoint> =
        both.filter(|(_, node)| node.healthy).map(|(endpoint, _)| endpoint).collect();
    let (mut members, mut leader_id) = (Vec::new(), None);
    let mut read_write = Err(anyhow!("no node answers"));
    if let Some(first) = answering.first() {
        match api.members(first) {
            Ok(found) => {
                members = found;
                leader_id = leader(&api, &answering);
                read_write = try_out(&api, &answering);
            }
            Err(error) => {
                let asked = nodes.iter_mut().find(|node| node.name == first.name);
                let asked = asked.context("every endpoint has a report")?;
                asked.problem = Some(short(&error));
            }
        }
    }
    for node in &mut nodes {
        // A member names itself as it likes; one found by discovery often by its machine's id.
        let member = members.iter().find(|member| member.is_on(node.ip));
        node.leader = leader_id.is_some() && member.map(|member| &member.id) == leader_id.as_ref();
        node.member = member.map(|member| member.id.clone());
    }
    let leader = nodes.iter().find(|node| node.leader).map(|node| node.name.clone());
    let read_write_problem = read_write.err().map(|error| short(&error));
    let (lab, away) = (away.lab.clone(), away.among(&members));
    let voters = endpoints.iter().filter(|endpoint| endpoint.voter).count();
    let healthy = nodes.iter().all(|node| node.healthy && (node.client || node.member.is_some()))
        && members.len() - away::absent(&away) == voters
        && leader.is_some()
        && read_write_problem.is_none();
    Ok(Report { nodes, members, leader, read_write_problem, away, lab, healthy })
}

impl Report {
    /// The same with nodes that were not asked, since somebody knows that they cannot answer, each with the reason. They
    /// are to be healthy members, and are not.
    #[must_use]
    pub fn with_unasked(mut self, unasked: Vec<(Endpoint, String)>) -> Self {
        self.healthy &= unasked.is_empty();
        self.nodes.extend(unasked.into_iter().map(|(endpoint, reason)| {
            let member = self.members.iter().find(|member| member.is_on(endpoint.ip));
            NodeReport {
                member: member.map(|member| member.id.clone()),
                name: endpoint.name,
                ip: endpoint.ip,
                healthy: false,
                learner: false,
                client: !endpoint.voter,
                leader: false,
                problem: Some(reason),
            }
        }));
        self
    }

    /// What is missing, one line for each thing; empty if the cluster is healthy.
    pub fn problems(&self) -> Vec<String> {
        let mut problems = Vec::from_iter(self.lost_majority());
        for node in &self.nodes {
            match (&node.problem, &node.member) {
                (Some(problem), _) if node.healthy => {
                    problems.push(format!("{}: {problem}", node.name));
                }
                (Some(problem), _) => {
                    problems.push(format!("{}: etcd is not healthy: {problem}", node.name));
                }
                (None, None) if !self.members.is_empty() && !node.client => problems.push(format!(
                    "{}: it is healthy, but no member of the same cluster",
                    node.name
                )),
                (None, _) => {}
            }
        }
        if self.nodes.is_empty() && problems.is_empty() {
            problems.push("etcd: no node's address is known".to_owned());
        }
        // Where no node could be asked for more, there is no more to say.
        if self.members.is_empty() {
            if problems.is_empty() {
                problems.push("etcd names no members".to_owned());
            }
            return problems;
        }
        let (there, wanted) = (self.members.len(), self.voters() + away::absent(&self.away));
        if there != wanted {
            problems.push(format!("etcd has {there} members of {wanted}"));
        }
        if self.leader.is_none() {
            problems.push("etcd has no leader that all nodes agree on".to_owned());
        }
        if let Some(problem) = &self.read_write_problem {
            problems.push(format!("writing on one node and reading on the others: {problem}"));
        }
        problems
    }

    /// That it has no majority because of those that are away, if it is so.
    fn lost_majority(&self) -> Option<String> {
        let lost = away::lost_majority(&self.lab, self.voters(), &self.away);
        lost.filter(|_| self.leader.is_none())
    }

    /// How many nodes are to be members and to answer.
    fn voters(&self) -> usize {
        self.nodes.iter().filter(|node| !node.client).count()
    }
}

/// The id of the member that all of `endpoints` call their leader.
fn leader(api: &Api, endpoints: &[&Endpoint]) -> Option<String> {
    let leaders = on_each(endpoints, |endpoint| api.leader(endpoint));
    let leaders = leaders.into_iter().collect::<Result<BTreeSet<String>>>().ok()?;
    let [leader] = Vec::from_iter(leaders).try_into().ok()?;
    Some(leader)
}

fn write_here_read_there(api: &Api, endpoints: &[&Endpoint], mark: &str) -> Result<()> {
    let Some(first) = endpoints.first() else { bail!("no node answers") };
    // Checks may run side by side.
    let value = Uuid::new_v4().to_string();
    let key = format!("virtlab/check/{mark}/{value}");
    let written =
        api.put(first, &key, &value).with_context(|| format!("writing on {}", first.name))?;
    let reads = on_each(endpoints, |endpoint| -> Result<()> {
        let name = &endpoint.name;
        let read = api.get(endpoint, &key).with_context(|| format!("reading on {name}"))?;
        ensure!(read.as_deref() == Some(&value), "it was not read on {name}");
        Ok(())
    });
    if let Err(error) = api.delete(first, &key, &written) {
        tracing::debug!("deleting `{key}`, which goes by itself: {error:#}");
    }
    reads.into_iter().collect()
}

/// The first and the last cause: what was asked, and the system's word.
fn short(error: &anyhow::Error) -> String {
    let (first, last) = (error.to_string(), error.root_cause().to_string());
    sanitize(&if first == last { first } else { format!("{first}: {last}") })
}

/// The port on which etcd listens for clients unless it is told otherwise.
pub const CLIENT_PORT: u16 = 2379;
/// The port on which etcd listens for other members unless it is told otherwise.
pub const PEER_PORT: u16 = 2380;
/// An emulated node that is electing a leader is slow to answer.
const TIMEOUT: Duration = Duration::from_secs(5);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_node_that_is_known_to_be_off_is_a_member_that_is_not_healthy() {
        let ip: IpAddr = "10.0.0.3".parse().unwrap();
        let member = Member {
            id: "b".to_owned(),
            name: "x".to_owned(),
            peer_urls: vec!["http://10.0.0.3:2380".to_owned()],
            client_urls: Vec::new(),
            learner: false,
        };
        let report = Report {
            nodes: Vec::new(),
            members: vec![member],
            leader: Some("demo-1".to_owned()),
            read_write_problem: None,
            away: Vec::new(),
            lab: String::new(),
            healthy: true,
        };
        let endpoint = Endpoint { name: "demo-2".to_owned(), ip, port: CLIENT_PORT, voter: true };
        let report = report.with_unasked(vec![(endpoint, "the node is off".to_owned())]);
        assert_eq!(report.problems(), ["demo-2: etcd is not healthy: the node is off"]);
        assert_eq!((report.nodes[0].member.as_deref(), report.healthy), (Some("b"), false));
        assert!(report.clone().with_unasked(Vec::new()).problems() == report.problems());
    }

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
}
