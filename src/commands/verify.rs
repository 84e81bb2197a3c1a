//! `virtlab verify`: the article's last section. Who has registered at the discovery URL, what each
//! member says of itself, and whether what is written on one node is read on the others.

use std::net::IpAddr;

use anyhow::Result;
use anyhow::bail;
use serde::Serialize;

use super::Context;
use super::status::no_lab;
use crate::boot_server::process::Client;
use crate::cli::VerifyArgs;
use crate::cluster::discovery;
use crate::cluster::discovery::Registration;
use crate::cluster::etcd;
use crate::cluster::etcd::Endpoint;
use crate::lab::Lab;
use crate::output::Table;
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

pub(super) fn run(context: &Context, args: &VerifyArgs) -> Result<()> {
    let hypervisor = context.hypervisor()?;
    let inventory = context.observe(&hypervisor)?;
    let Some(found) = inventory.lab(&args.lab) else { return Err(no_lab(&args.lab)) };
    let verdict = verify(&found.lab, args.client_port)?;
    print(context, &verdict)?;
    if !verdict.healthy {
        bail!("lab `{}` is not healthy:\n  {}", verdict.lab, verdict.problems.join("\n  "));
    }
    Ok(())
}

/// The discovery URL that the lab was given and who has registered there; `None` if it uses none.
pub(super) fn discovery_status(lab: &Lab) -> Result<Option<DiscoveryStatus>> {
    let content = StateDir::of(&lab.name)?.content().ok();
    let url = content.filter(|content| content.uuid == lab.uuid).and_then(|own| own.discovery_url);
    Ok(url.map(|url| match discovery::registrations(&url, discovery::TIMEOUT) {
        Ok(registrations) => DiscoveryStatus { url, registrations, problem: None },
        Err(error) => {
            let problem = Some(format!("{error:#}"));
            DiscoveryStatus { url, registrations: Vec::new(), problem }
        }
    }))
}

fn verify(lab: &Lab, client_port: u16) -> Result<Verdict> {
    let timeline = Client::new(lab)?.status().map(|status| status.timeline.nodes);
    let mut endpoints = Vec::new();
    let mut problems = Vec::new();
    for node in lab.nodes() {
        let seen = timeline.as_ref().and_then(|nodes| nodes.iter().find(|n| n.index == node.index));
        match node.ip.map(IpAddr::V4).or_else(|| seen?.ip) {
            Some(ip) => endpoints.push(Endpoint { name: node.name, ip, port: client_port }),
            None => problems.push(format!("{}: nobody knows its address", node.name)),
        }
    }
    let etcd = etcd::check(&endpoints, &lab.uuid.to_string())?;
    problems.extend(etcd.problems());
    let discovery = discovery_status(lab)?;
    if let Some(discovery) = &discovery {
        let (there, wanted) = (discovery.registrations.len(), lab.spec.nodes as usize);
        // A service that has gone since does not make a cluster worse that has found itself.
        if discovery.problem.is_none() && there < wanted {
            problems
                .push(format!("{there} of {wanted} members are registered at {}", discovery.url));
        }
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
        let registered = verdict.discovery.as_ref().map_or("-".to_owned(), |discovery| {
            let own =
                |one: &&Registration| one.peer_urls.iter().any(|url| etcd::is_at(url, node.ip));
            discovery.registrations.iter().find(own).map_or("no".to_owned(), |r| r.id.clone())
        });
        table.row([
            node.name.clone(),
            yes(node.healthy),
            node.member.clone().unwrap_or_else(|| "-".to_owned()),
            yes(node.leader),
            registered,
        ]);
    }
    let names: Vec<String> = verdict.etcd.nodes.iter().map(|node| node.name.clone()).collect();
    context.printer.listing(verdict, &names, &table)?;
    if let Some(discovery) = &verdict.discovery {
        match &discovery.problem {
            Some(problem) => context.printer.warn(problem),
            None => context.printer.note(format!(
                "discovery: {} registered at {}",
                discovery.registrations.len(),
                discovery.url
            )),
        }
    }
    if let (true, Some(leader)) = (verdict.healthy, &verdict.etcd.leader) {
        context.printer.note(format!(
            "etcd: healthy, {} members, leader {leader}; what was written on one node was read on all",
            verdict.etcd.members.len()
        ));
    }
    Ok(())
}
