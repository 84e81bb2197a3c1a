//! `virtlab verify`: the article's last section. Who has registered at the discovery URL, what each
//! member says of itself, and whether what is written on one node is read on the others.

use std::collections::BTreeMap;

use anyhow::{Result, bail};
use serde::Serialize;

use crate::boot_server::client::Client;
use crate::cli::ClusterArgs;
use crate::cluster::discovery;
use crate::cluster::etcd::{self, AwayNode};
use crate::hypervisor::{Found, Hypervisor};
use crate::images::Readiness;
use crate::lab::metadata::Power;
use crate::output::Table;
use crate::session::Session;
use crate::status::discovery::DiscoveryStatus;
use crate::status::readiness::{away, endpoints};
use crate::status::{self, Asking, addresses, faults, no_lab};

/// What `-o json` prints.
#[derive(Serialize)]
struct Verdict {
    lab: String,
    healthy: bool,
    problems: Vec<String>,
    /// All nodes.
    #[serde(skip)]
    nodes: Vec<String>,
    /// When a node of this lab is ready, if that is not an etcd's health and there is no etcd.
    #[serde(skip_serializing_if = "Option::is_none")]
    ready_by: Option<Readiness>,
    etcd: etcd::Report,
    #[serde(skip_serializing_if = "Option::is_none")]
    discovery: Option<DiscoveryStatus>,
}

pub(super) fn run(session: &Session, args: &ClusterArgs) -> Result<()> {
    let hypervisor = session.hypervisor()?;
    let inventory = session.observe(&hypervisor)?;
    let Some(found) = inventory.lab(&args.lab) else { return Err(no_lab(&inventory, &args.lab)) };
    for line in faults::lines(found) {
        session.printer.warn(line);
    }
    let verdict = verify(&hypervisor, found, args.client_port)?;
    print(session, &verdict)?;
    if !verdict.healthy {
        bail!(
            "lab `{}` is not {}:\n  {}",
            verdict.lab,
            if verdict.ready_by.is_some() { "ready" } else { "healthy" },
            verdict.problems.join("\n  ")
        );
    }
    Ok(())
}

fn verify(hypervisor: &Hypervisor, found: &Found, client_port: u16) -> Result<Verdict> {
    let lab = &found.lab;
    let addresses = addresses::find(hypervisor, lab, false)?;
    let nodes = lab.nodes();
    let known: Vec<_> =
        nodes.iter().filter_map(|node| Some((node.index, *addresses.get(&node.index)?))).collect();
    let is_to_run = |index: u32| found.wanted(index) == Power::On;
    let asked: Vec<_> = known.iter().copied().filter(|(index, _)| is_to_run(*index)).collect();
    let powers = known.iter().map(|(index, ip)| (*index, *ip, found.wanted(*index)));
    let away = away(lab, powers, client_port);
    let asked = endpoints(lab, &asked, client_port);
    let etcd = etcd::examine_without(&asked, &away, &lab.uuid.to_string())?;
    let unknown =
        nodes.iter().filter(|node| !addresses.contains_key(&node.index) && is_to_run(node.index));
    let mut problems: Vec<String> =
        unknown.map(|node| format!("{}: nobody knows its address", node.name)).collect();
    // A lab that is to be ready without an etcd may have one all the same.
    let names = nodes.iter().map(|node| node.name.clone()).collect();
    let has_etcd = etcd.nodes.iter().any(|node| node.healthy || node.member.is_some());
    if lab.spec.ready != Readiness::Etcd && !has_etcd {
        let timeline = Client::new(lab)?.status().map(|status| status.timeline.nodes);
        let timeline = timeline.as_deref();
        let status = status::look(hypervisor, found, timeline, client_port, Asking::Thoroughly)?;
        let wanted = status.nodes.iter().filter(|node| node.wanted == Power::On);
        let not_ready = wanted.filter(|node| node.ip.is_some() && !node.ready);
        problems.extend(
            not_ready.map(|node| format!("{}: not ready, it is `{}`", node.name, node.state)),
        );
        return Ok(Verdict {
            lab: lab.name.to_string(),
            healthy: problems.is_empty(),
            problems,
            nodes: names,
            ready_by: Some(lab.spec.ready.clone()),
            etcd,
            discovery: None,
        });
    }
    problems.extend(etcd.problems());
    let discovery = DiscoveryStatus::of(lab, discovery::TIMEOUT)?;
    // A service that has gone or forgotten since does not make a cluster worse that has found itself.
    if let Some(discovery) = discovery.as_ref().filter(|it| it.problem.is_none() && !etcd.healthy) {
        let members = etcd.nodes.iter().filter(|node| !node.client);
        let missing = members.filter(|node| discovery.registration(node.ip).is_none());
        problems.extend(
            missing.map(|node| format!("{}: it is not registered at {}", node.name, discovery.url)),
        );
    }
    Ok(Verdict {
        lab: lab.name.to_string(),
        healthy: problems.is_empty(),
        problems,
        nodes: names,
        ready_by: None,
        etcd,
        discovery,
    })
}

fn print(session: &Session, verdict: &Verdict) -> Result<()> {
    if let Some(readiness) = &verdict.ready_by {
        return print_readiness(session, verdict, readiness);
    }
    let mut table = Table::new(&["node", "healthy", "member", "leader", "registered"]);
    let yes = |yes: bool| if yes { "yes" } else { "no" }.to_owned();
    let mut rows = BTreeMap::new();
    for node in &verdict.etcd.nodes {
        let registered = verdict.discovery.as_ref().map_or("-", |discovery| {
            discovery.registration(node.ip).map_or("no", |own| own.id.as_str())
        });
        rows.insert(
            node.name.as_str(),
            [yes(node.healthy), member_word(node), yes(node.leader), registered.to_owned()],
        );
    }
    for node in &verdict.etcd.away {
        let member = node.member.clone().unwrap_or_else(|| "-".to_owned());
        let rest = [node.state().to_owned(), member, yes(false), "-".to_owned()];
        rows.insert(node.name.as_str(), rest);
    }
    for name in &verdict.nodes {
        if let Some([healthy, member, leader, registered]) = rows.remove(name.as_str()) {
            table.row([name.clone(), healthy, member, leader, registered]);
        }
    }
    session.printer.listing(verdict, &verdict.nodes, &table)?;
    if let Some(discovery) = &verdict.discovery {
        super::print_discovery(session.printer, discovery);
    }
    if let (true, Some(leader)) = (verdict.healthy, &verdict.etcd.leader) {
        session.printer.note(format!(
            "etcd: healthy, {}; what was written on one node was read on all",
            etcd::away::summary(verdict.etcd.members.len(), leader, &verdict.etcd.away)
        ));
    }
    Ok(())
}

/// The id of the member that a node is.
fn member_word(node: &etcd::NodeReport) -> String {
    let other = if node.client { "client" } else { "-" };
    node.member.clone().unwrap_or_else(|| other.to_owned())
}

/// A lab without etcd has nothing more to verify than that its nodes are ready.
fn print_readiness(session: &Session, verdict: &Verdict, readiness: &Readiness) -> Result<()> {
    let mut table = Table::new(&["node", "ready"]);
    let is_ready =
        |name: &str| !verdict.problems.iter().any(|it| it.starts_with(&format!("{name}:")));
    for name in &verdict.nodes {
        let away = verdict.etcd.away.iter().find(|node| node.name == *name);
        let ready = if is_ready(name) { "yes" } else { "no" };
        table.row([name.as_str(), away.map_or(ready, AwayNode::state)].map(str::to_owned));
    }
    session.printer.listing(verdict, &verdict.nodes, &table)?;
    let when = readiness.when();
    session.printer.note(format!(
        "no etcd answers, and none is expected: a node of lab `{}` is ready when {when} (--ready {readiness})",
        verdict.lab
    ));
    Ok(())
}
