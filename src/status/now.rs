//! Whether the nodes are ready at this moment. Only those are asked that may answer: who looks at a lab is not to wait for
//! a node of which libvirt or the boot server knows that it is silent.

use std::net::IpAddr;

use anyhow::Result;

use super::readiness::{are_ready, away, endpoint, endpoints};
use super::{NodeStatus, faults};
use crate::boot_server::recorder::timeline::NodeTimeline;
use crate::boot_server::stage::Stage;
use crate::cluster::etcd::{self, Report};
use crate::hypervisor::Found;
use crate::images::Readiness;
use crate::lab::fault::FaultName;
use crate::lab::metadata::Power;
use crate::lab::plan::DomainState;

/// How etcd is asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Asking {
    /// Something is written and read again.
    Thoroughly,
    /// Nothing is written: for who looks again and again.
    InPassing,
}

/// Marks the nodes that are ready, and looks at their etcd. `known` is what the boot server knows, if it runs.
pub(super) fn ask(
    found: &Found,
    nodes: &mut [NodeStatus],
    known: Option<&[NodeTimeline]>,
    client_port: u16,
    asking: Asking,
) -> Result<Option<Report>> {
    let lab = &found.lab;
    // The boot server asks etcd at its usual port only.
    let is_elsewhere = lab.spec.ready == Readiness::Etcd && client_port != etcd::CLIENT_PORT;
    let known = known.filter(|_| !is_elsewhere);
    let silent = |node: &NodeStatus| why_silent(found, node, known);
    let may_answer = |node: &&NodeStatus| silent(node).is_none();
    let (ready, report): (Vec<u32>, _) = if lab.spec.ready == Readiness::Etcd {
        let wanted = || nodes.iter().filter(|node| node.wanted == Power::On);
        let asked = addresses(wanted().filter(may_answer));
        let wanted_powers =
            nodes.iter().filter_map(|node| Some((node.index, node.ip?, node.wanted)));
        let away = away(lab, wanted_powers, client_port);
        let asked = endpoints(lab, &asked, client_port);
        let report = match asking {
            Asking::Thoroughly => etcd::examine_without(&asked, &away, &lab.uuid.to_string())?,
            Asking::InPassing => etcd::glance_without(&asked, &away)?,
        };
        let unasked = wanted().filter_map(|node| {
            let endpoint = endpoint(lab, node.index, node.ip?, client_port);
            Some((endpoint, silent(node)?))
        });
        let mut report = report.with_unasked(unasked.collect());
        report.nodes.sort_by_key(|it| nodes.iter().position(|node| node.name == it.name));
        let is_healthy = |name: &str| report.nodes.iter().any(|it| it.healthy && it.name == name);
        let healthy = nodes.iter().filter(|node| is_healthy(&node.name));
        (healthy.map(|node| node.index).collect(), Some(report))
    } else {
        let asked = addresses(nodes.iter().filter(may_answer));
        let both = asked.iter().zip(are_ready(lab, &asked)?);
        let ready = both.filter(|(_, ready)| *ready).map(|((index, _), _)| *index);
        (ready.collect(), None)
    };
    for node in nodes {
        node.ready = ready.contains(&node.index);
    }
    Ok(report)
}

/// Why it is of no use to ask a node, if it is known.
fn why_silent(found: &Found, node: &NodeStatus, known: Option<&[NodeTimeline]>) -> Option<String> {
    let lab = &found.lab;
    let faults = found.faults(node.index);
    let by_fault = match node.domain {
        Some(DomainState::Off) => faults.has(FaultName::Kill),
        Some(DomainState::Paused) => faults.has(FaultName::Pause),
        Some(DomainState::Running) => faults.has(FaultName::Cut),
        None => false,
    };
    if by_fault {
        return faults::describe(found, node.index).map(|faults| format!("the node is {faults}"));
    }
    match node.domain {
        None => return Some("the node is missing".to_owned()),
        Some(DomainState::Off) => return Some("the node is off".to_owned()),
        Some(DomainState::Paused) => return Some("the node is paused".to_owned()),
        Some(DomainState::Running) => {}
    }
    let is_up = |seen: &NodeTimeline| match lab.spec.ready {
        Readiness::Config => seen.has(Stage::Ready),
        // The boot server may be about to ask it.
        _ => seen.has(Stage::Config) || seen.has(Stage::Ready) || seen.restored,
    };
    // Without its boot server nobody has seen that a node has its config.
    let has_booted = known.map_or(lab.spec.ready != Readiness::Config, |known| {
        known.iter().any(|seen| seen.index == node.index && is_up(seen))
    });
    (!has_booted).then(|| "the node has not booted yet".to_owned())
}

/// The indices and addresses of nodes, as far as those are known.
fn addresses<'a>(nodes: impl Iterator<Item = &'a NodeStatus>) -> Vec<(u32, IpAddr)> {
    nodes.filter_map(|node| Some((node.index, node.ip?))).collect()
}
