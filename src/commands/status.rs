//! `virtlab status`: every node of a lab, its stages, and whether it is ready now.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::time::Duration;

use anyhow::Result;
use serde::Serialize;

use super::readiness::{self, endpoints, last_seen_stage};
use super::verify::DiscoveryStatus;
use super::{Context, memory};
use crate::boot_server::process::Client;
use crate::boot_server::timeline::{NodeTimeline, Stage};
use crate::cli::ClusterArgs;
use crate::cluster::etcd;
use crate::hint::hinted;
use crate::hypervisor::{Found, Hypervisor};
use crate::images::Readiness;
use crate::lab::plan::DomainState;
use crate::lab::{Lab, LabName, MacAddr};
use crate::memory::LabMemory;
use crate::output::Table;

/// What `-o json` prints.
#[derive(Serialize)]
struct LabStatus {
    name: String,
    uuid: String,
    image: String,
    network: String,
    boot_server: BootServerStatus,
    nodes: Vec<NodeStatus>,
    #[serde(skip_serializing_if = "Option::is_none")]
    etcd: Option<etcd::Report>,
    #[serde(skip_serializing_if = "Option::is_none")]
    discovery: Option<DiscoveryStatus>,
    memory: LabMemory,
}

#[derive(Serialize)]
struct BootServerStatus {
    url: String,
    running: bool,
}

#[derive(Serialize)]
struct NodeStatus {
    name: String,
    index: u32,
    ip: Option<IpAddr>,
    mac: MacAddr,
    domain: &'static str,
    state: String,
    ready: bool,
    /// Seconds from power-on to each stage.
    seconds: BTreeMap<&'static str, f64>,
    /// Bytes sent for each stage.
    bytes: BTreeMap<&'static str, u64>,
}

/// Shows the lab of this name.
pub(super) fn run(context: &Context, args: &ClusterArgs) -> Result<()> {
    let hypervisor = context.hypervisor()?;
    let inventory = context.observe(&hypervisor)?;
    let Some(found) = inventory.lab(&args.lab) else { return Err(no_lab(&args.lab)) };
    print(context, &hypervisor, found, args.client_port)
}

/// The error for a lab that is not there.
pub(super) fn no_lab(name: &LabName) -> anyhow::Error {
    hinted(format!("there is no lab `{name}`"), "`virtlab list` shows the labs there are")
}

/// Shows a lab.
pub(super) fn print(
    context: &Context,
    hypervisor: &Hypervisor,
    found: &Found,
    client_port: u16,
) -> Result<()> {
    let lab = &found.lab;
    let timeline = Client::new(lab)?.status().map(|status| status.timeline.nodes);
    if timeline.is_none() {
        context.printer.warn(format!(
            "the boot server at {} does not answer; `virtlab create {}` brings it back",
            lab.boot_url(),
            lab.name
        ));
    }
    let status = observe(hypervisor, found, timeline.as_deref(), client_port)?;
    let mut table = Table::new(&[
        "node", "ip", "mac", "state", "script", "kernel", "initrd", "config", "ready",
    ]);
    for node in &status.nodes {
        let seconds = |stage: Stage| {
            node.seconds.get(stage.name()).map_or_else(|| "-".to_owned(), |s| format!("{s:.1}s"))
        };
        let ip = node.ip.map_or_else(|| "-".to_owned(), |ip| ip.to_string());
        let mut row = vec![node.name.clone(), ip, node.mac.to_string(), node.state.clone()];
        row.extend(
            [Stage::Script, Stage::Kernel, Stage::Initrd, Stage::Config, Stage::Ready].map(seconds),
        );
        table.row(row);
    }
    let names: Vec<String> = status.nodes.iter().map(|node| node.name.clone()).collect();
    context.printer.listing(&status, &names, &table)?;
    if let Some(report) = &status.etcd {
        let summary = match (&report.leader, report.healthy) {
            (Some(leader), true) => {
                format!("etcd: healthy, {} members, leader {leader}", report.members.len())
            }
            _ => format!("etcd: {}", report.problems().join("; ")),
        };
        context.printer.note(summary);
    }
    if let Some(discovery) = &status.discovery {
        discovery.print(context.printer);
    }
    context.printer.note(status.memory.line());
    Ok(())
}

fn observe(
    hypervisor: &Hypervisor,
    found: &Found,
    timeline: Option<&[NodeTimeline]>,
    client_port: u16,
) -> Result<LabStatus> {
    let lab = &found.lab;
    let addresses = readiness::addresses(hypervisor, lab, timeline.unwrap_or_default(), false);
    let seen =
        |index: u32| timeline.and_then(|nodes| nodes.iter().find(|node| node.index == index));
    let mut nodes: Vec<NodeStatus> = lab
        .nodes()
        .into_iter()
        .map(|node| {
            let domain = found.domains.get(&node.index).copied();
            let seen = seen(node.index);
            let stages = seen.map(|seen| seen.stages.clone()).unwrap_or_default();
            let seconds = |stage: &Stage| seen.and_then(|seen| seen.seconds_to(*stage));
            NodeStatus {
                ip: addresses.get(&node.index).copied(),
                name: node.name,
                index: node.index,
                mac: node.mac,
                domain: domain_word(domain),
                state: String::new(),
                ready: false,
                seconds: stages
                    .keys()
                    .filter_map(|stage| Some((stage.name(), seconds(stage)?)))
                    .collect(),
                bytes: stages
                    .iter()
                    .map(|(stage, reached)| (stage.name(), reached.bytes))
                    .collect(),
            }
        })
        .collect();
    let report = are_ready_now(lab, &mut nodes, client_port)?;
    for node in &mut nodes {
        let stage = seen(node.index).and_then(NodeTimeline::stage);
        node.state = match (node.domain, node.ready, stage) {
            ("running", true, _) => "ready".to_owned(),
            ("running", false, Some(Stage::Ready)) => "not ready".to_owned(),
            ("running", false, Some(stage)) => stage.name().to_owned(),
            (domain, _, _) => domain.to_owned(),
        };
    }
    Ok(LabStatus {
        name: lab.name.to_string(),
        uuid: lab.uuid.to_string(),
        image: lab.spec.image.to_string(),
        network: lab.spec.network.to_string(),
        boot_server: BootServerStatus { url: lab.boot_url(), running: timeline.is_some() },
        nodes,
        etcd: report,
        discovery: DiscoveryStatus::of(lab, PATIENCE)?,
        memory: memory::observe(hypervisor, found)?,
    })
}

/// Asks the nodes themselves, all at the same time.
fn are_ready_now(
    lab: &Lab,
    nodes: &mut [NodeStatus],
    client_port: u16,
) -> Result<Option<etcd::Report>> {
    let last = last_seen_stage(lab).name();
    // An etcd that is down is a member all the same.
    let is_asked = |node: &&NodeStatus| match lab.spec.ready {
        Readiness::Etcd => true,
        Readiness::Ssh => node.domain == "running",
        Readiness::Config => node.domain == "running" && node.seconds.contains_key(last),
    };
    let asked: Vec<(&str, IpAddr)> = nodes
        .iter()
        .filter(is_asked)
        .filter_map(|node| Some((node.name.as_str(), node.ip?)))
        .collect();
    let report = if lab.spec.ready == Readiness::Etcd {
        Some(etcd::check(&endpoints(&asked, client_port), &lab.uuid.to_string())?)
    } else {
        None
    };
    let ready = match &report {
        Some(report) => report.nodes.iter().map(|node| node.healthy).collect(),
        None => readiness::are_ready(lab, &asked)?,
    };
    let both = asked.iter().zip(ready).filter(|(_, ready)| *ready);
    let ready: Vec<String> = both.map(|((name, _), _)| (*name).to_owned()).collect();
    for node in nodes {
        node.ready = ready.contains(&node.name);
    }
    Ok(report)
}

fn domain_word(state: Option<DomainState>) -> &'static str {
    match state {
        None => "missing",
        Some(DomainState::Off) => "off",
        Some(DomainState::Paused) => "paused",
        Some(DomainState::Running) => "running",
    }
}

/// How long a discovery service may take; who looks at a lab is not to wait for it.
const PATIENCE: Duration = Duration::from_secs(3);
