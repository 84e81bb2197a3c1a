//! `virtlab verify`: the article's last section. Who has registered at the discovery URL, what each
//! member says of itself, and whether what is written on one node is read on the others.

use std::net::IpAddr;
use std::time::Duration;

use anyhow::{Result, bail};
use serde::Serialize;

use super::Context;
use super::readiness::{self, endpoints};
use super::status::no_lab;
use crate::cli::ClusterArgs;
use crate::cluster::discovery::{self, Registration};
use crate::cluster::etcd;
use crate::hypervisor::Hypervisor;
use crate::lab::Lab;
use crate::output::{Printer, Table};
use crate::state::StateDir;

/// What `-o json` prints.
#[derive(Serialize)]
struct Verdict {
    lab: String,
    healthy: bool,
    problems: Vec<String>,
    etcd: etcd::Report,
    #[serde(skip_serializing_if = "Option::is_none")]
    discovery: Option<DiscoveryStatus>,
}

/// Who has registered with the lab's discovery URL.
#[derive(Serialize)]
pub(super) struct DiscoveryStatus {
    pub(super) url: String,
    pub(super) registrations: Vec<Registration>,
    /// Why they could not be asked for.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) problem: Option<String>,
}

pub(super) fn run(context: &Context, args: &ClusterArgs) -> Result<()> {
    let hypervisor = context.hypervisor()?;
    let inventory = context.observe(&hypervisor)?;
    let Some(found) = inventory.lab(&args.lab) else { return Err(no_lab(&args.lab)) };
    let verdict = verify(&hypervisor, &found.lab, args.client_port)?;
    print(context, &verdict)?;
    if !verdict.healthy {
        bail!("lab `{}` is not healthy:\n  {}", verdict.lab, verdict.problems.join("\n  "));
    }
    Ok(())
}

impl DiscoveryStatus {
    /// The discovery URL that the lab was given and who has registered there; `None` if it uses none.
    pub(super) fn of(lab: &Lab, timeout: Duration) -> Result<Option<Self>> {
        let content = StateDir::of(&lab.name)?.content().ok();
        let own = content.filter(|content| content.uuid == lab.uuid);
        let Some(url) = own.and_then(|own| own.discovery_url) else { return Ok(None) };
        Ok(Some(match discovery::registrations(&url, timeout) {
            Ok(registrations) => Self { url, registrations, problem: None },
            Err(error) => {
                Self { url, registrations: Vec::new(), problem: Some(format!("{error:#}")) }
            }
        }))
    }

    pub(super) fn print(&self, printer: &Printer) {
        match &self.problem {
            Some(problem) => printer.warn(problem),
            None => printer.note(format!(
                "discovery: {} registered at {}",
                self.registrations.len(),
                self.url
            )),
        }
    }

    /// As whom a node has registered.
    fn registration(&self, ip: IpAddr) -> Option<&Registration> {
        let is_at = |one: &&Registration| one.peer_urls.iter().any(|url| etcd::is_at(url, ip));
        self.registrations.iter().find(is_at)
    }
}

fn verify(hypervisor: &Hypervisor, lab: &Lab, client_port: u16) -> Result<Verdict> {
    let addresses = readiness::find_addresses(hypervisor, lab, false)?;
    let nodes = lab.nodes();
    let known =
        nodes.iter().filter_map(|node| Some((node.name.as_str(), *addresses.get(&node.index)?)));
    let etcd =
        etcd::check(&endpoints(&known.collect::<Vec<_>>(), client_port), &lab.uuid.to_string())?;
    let unknown = nodes.iter().filter(|node| !addresses.contains_key(&node.index));
    let mut problems: Vec<String> =
        unknown.map(|node| format!("{}: nobody knows its address", node.name)).collect();
    problems.extend(etcd.problems());
    let discovery = DiscoveryStatus::of(lab, discovery::TIMEOUT)?;
    // A service that has gone or forgotten since does not make a cluster worse that has found itself.
    if let Some(discovery) = discovery.as_ref().filter(|it| it.problem.is_none() && !etcd.healthy) {
        let missing = etcd.nodes.iter().filter(|node| discovery.registration(node.ip).is_none());
        problems.extend(
            missing.map(|node| format!("{}: it is not registered at {}", node.name, discovery.url)),
        );
    }
    Ok(Verdict {
        lab: lab.name.to_string(),
        healthy: problems.is_empty(),
        problems,
        etcd,
        discovery,
    })
}

fn print(context: &Context, verdict: &Verdict) -> Result<()> {
    let mut table = Table::new(&["node", "healthy", "member", "leader", "registered"]);
    let yes = |yes: bool| if yes { "yes" } else { "no" }.to_owned();
    for node in &verdict.etcd.nodes {
        let registered = verdict.discovery.as_ref().map_or("-", |discovery| {
            discovery.registration(node.ip).map_or("no", |own| own.id.as_str())
        });
        table.row([
            node.name.clone(),
            yes(node.healthy),
            node.member.clone().unwrap_or_else(|| "-".to_owned()),
            yes(node.leader),
            registered.to_owned(),
        ]);
    }
    let names: Vec<String> = verdict.etcd.nodes.iter().map(|node| node.name.clone()).collect();
    context.printer.listing(verdict, &names, &table)?;
    if let Some(discovery) = &verdict.discovery {
        discovery.print(context.printer);
    }
    if let (true, Some(leader)) = (verdict.healthy, &verdict.etcd.leader) {
        context.printer.note(format!(
            "etcd: healthy, {} members, leader {leader}; what was written on one node was read on all",
            verdict.etcd.members.len()
        ));
    }
    Ok(())
}
