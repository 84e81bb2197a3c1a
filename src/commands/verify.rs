//! `virtlab verify`: the article's last section. Who has registered at the discovery URL, what each
//! member says of itself, and whether what is written on one node is read on the others.

use anyhow::{Result, bail};
use serde::Serialize;

use crate::cli::ClusterArgs;
use crate::cluster::{discovery, etcd};
use crate::hypervisor::Hypervisor;
use crate::lab::Lab;
use crate::output::Table;
use crate::session::Session;
use crate::status::discovery::DiscoveryStatus;
use crate::status::readiness::endpoints;
use crate::status::{addresses, no_lab};

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

pub(super) fn run(session: &Session, args: &ClusterArgs) -> Result<()> {
    let hypervisor = session.hypervisor()?;
    let inventory = session.observe(&hypervisor)?;
    let Some(found) = inventory.lab(&args.lab) else { return Err(no_lab(&args.lab)) };
    let verdict = verify(&hypervisor, &found.lab, args.client_port)?;
    print(session, &verdict)?;
    if !verdict.healthy {
        bail!("lab `{}` is not healthy:\n  {}", verdict.lab, verdict.problems.join("\n  "));
    }
    Ok(())
}

fn verify(hypervisor: &Hypervisor, lab: &Lab, client_port: u16) -> Result<Verdict> {
    let addresses = addresses::find(hypervisor, lab, false)?;
    let nodes = lab.nodes();
    let known =
        nodes.iter().filter_map(|node| Some((node.name.as_str(), *addresses.get(&node.index)?)));
    let etcd =
        etcd::examine(&endpoints(&known.collect::<Vec<_>>(), client_port), &lab.uuid.to_string())?;
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

fn print(session: &Session, verdict: &Verdict) -> Result<()> {
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
    session.printer.listing(verdict, &names, &table)?;
    if let Some(discovery) = &verdict.discovery {
        super::print_discovery(session.printer, discovery);
    }
    if let (true, Some(leader)) = (verdict.healthy, &verdict.etcd.leader) {
        session.printer.note(format!(
            "etcd: healthy, {} members, leader {leader}; what was written on one node was read on all",
            verdict.etcd.members.len()
        ));
    }
    Ok(())
}
