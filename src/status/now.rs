//! Whether the nodes are ready at this moment. Only those are asked that may answer: who looks at a lab is not to wait for
//! a node of which libvirt or the boot server knows that it is silent.

use std::net::IpAddr;

use anyhow::Result;

use super::NodeStatus;
use super::readiness::{are_ready, endpoints};
use crate::boot_server::recorder::timeline::NodeTimeline;
use crate::boot_server::stage::Stage;
use crate::cluster::etcd::{self, Endpoint, Report};
use crate::images::Readiness;
use crate::lab::Lab;
use crate::lab::metadata::Power;
use crate::lab::plan::DomainState;

/// Marks the nodes that are ready, and looks at their etcd. `known` is what the boot server knows, if it runs.
pub(super) fn ask(
    lab: &Lab,
    nodes: &mut [NodeStatus],
    known: Option<&[NodeTimeline]>,
    client_port: u16,
) -> Result<Option<Report>> {
    // The boot server asks etcd at its usual port only.
    let is_elsewhere = lab.spec.ready == Readiness::Etcd && client_port != etcd::CLIENT_PORT;
    let known = known.filter(|_| !is_elsewhere);
    let silent = |node: &NodeStatus| why_silent(lab, node, known);
    let may_answer = |node: &&NodeStatus| silent(node).is_none();
    let (ready, report): (Vec<String>, _) = if lab.spec.ready == Readiness::Etcd {
        let wanted = || nodes.iter().filter(|node| node.wanted == Power::On);
        let asked = addresses(wanted().filter(may_answer));
        let stopped = nodes.iter().filter(|node| node.wanted != Power::On);
        let stopped: Vec<IpAddr> = stopped.filter_map(|node| node.ip).collect();
        let asked = endpoints(&asked, client_port);
        let report = etcd::examine_without(&asked, &stopped, &lab.uuid.to_string())?;
        let unasked = wanted().filter_map(|node| {
            let endpoint = Endpoint { name: node.name.clone(), ip: node.ip?, port: client_port };
            Some((endpoint, silent(node)?))
        });
        let mut report = report.with_unasked(unasked.collect());
        report.nodes.sort_by_key(|it| nodes.iter().position(|node| node.name == it.name));
        let healthy = report.nodes.iter().filter(|node| node.healthy);
        (healthy.map(|node| node.name.clone()).collect(), Some(report))
    } else {
        let asked = addresses(nodes.iter().filter(may_answer));
        let both = asked.iter().zip(are_ready(lab, &asked)?);
        let ready = both.filter(|(_, ready)| *ready).map(|((name, _), _)| (*name).to_owned());
        (ready.collect(), None)
    };
    for node in nodes {
        node.ready = ready.contains(&node.name);
    }
    Ok(report)
}

/// Why it is of no use to ask a node, if it is known.
fn why_silent(lab: &Lab, node: &NodeStatus, known: Option<&[NodeTimeline]>) -> Option<String> {
    match node.domain {
        None => return Some("the node is missing".to_owned()),
        Some(DomainState::Off) => return Some("the node is off".to_owned()),
        Some(DomainState::Paused) => return Some("the node is paused".to_owned()),
        Some(DomainState::Running) => {}
    }
    let is_up = |seen: &NodeTimeline| match lab.spec.ready {
        Readiness::Config => seen.has(Stage::Ready),
        // The boot server may be about to ask it.
        _ => seen.has(Stage::Config) || seen.has(Stage::Ready),
    };
    // Without its boot server nobody has seen that a node has its config.
    let has_booted = known.map_or(lab.spec.ready != Readiness::Config, |known| {
        known.iter().any(|seen| seen.index == node.index && is_up(seen))
    });
    (!has_booted).then(|| "the node has not booted yet".to_owned())
}

/// The names and addresses of nodes, as far as those are known.
fn addresses<'a>(nodes: impl Iterator<Item = &'a NodeStatus>) -> Vec<(&'a str, IpAddr)> {
    nodes.filter_map(|node| Some((node.name.as_str(), node.ip?))).collect()
}
