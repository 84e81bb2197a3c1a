//! What a change of power does to the etcd cluster of a lab whose nodes have its data in memory: told before it is done.

use std::collections::BTreeSet;

use crate::boot_server::Content;
use crate::cluster::etcd::{AwayNode, away};
use crate::hypervisor::Found;
use crate::images::Readiness;
use crate::lab::Lab;
use crate::lab::fault::FaultName;
use crate::lab::metadata::Power;
use crate::lab::plan::{DomainState, Goal};

/// That the cluster loses its majority, if it does so on the way to this goal.
pub(super) fn lost_majority(found: &Found, goal: &Goal) -> Option<String> {
    let (nodes, power) = match goal {
        Goal::Stopped(nodes, _) | Goal::Restarted(nodes, _) => (nodes, Power::Off),
        Goal::Paused(nodes) => (nodes, Power::Paused),
        _ => return None,
    };
    let lab = &found.lab;
    let runs = |index: &u32| found.domains.get(index) == Some(&DomainState::Running);
    let (running, others): (Vec<u32>, Vec<u32>) = (1..=lab.voters()).partition(runs);
    let (going, staying): (Vec<u32>, Vec<u32>) =
        running.iter().partition(|index| nodes.contains(index));
    let had_majority = running.len() * 2 > running.len() + others.len();
    // Who switches off all of them has no cluster in mind.
    if lab.spec.ready != Readiness::Etcd || !had_majority || staying.is_empty() {
        return None;
    }
    let is_paused = |index: &u32| found.domains.get(index) == Some(&DomainState::Paused);
    let will_be = |index: &u32| match (nodes.contains(index), is_paused(index)) {
        (true, _) => power,
        (false, true) => Power::Paused,
        (false, false) => Power::Off,
    };
    let node = |index: &u32| AwayNode {
        name: lab.name.node(*index),
        power: will_be(index),
        member: None,
        client: false,
    };
    let indices: BTreeSet<u32> = going.into_iter().chain(others).collect();
    let away: Vec<AwayNode> = indices.iter().map(node).collect();
    let lost = away::lost_majority(lab.name.as_str(), staying.len(), &away)?;
    let but = match goal {
        Goal::Restarted(..) => ", so what is restarted cannot join again",
        _ => "",
    };
    Some(format!("the etcd cluster of lab `{}` stands still{but}: {lost}", lab.name))
}

/// That a fault of these nodes takes the cluster's majority, if it does; `forgets` where they lose their memory by it.
pub(super) fn broken_majority(
    found: &Found,
    nodes: &BTreeSet<u32>,
    forgets: bool,
) -> Option<String> {
    let Lab { name, spec, .. } = &found.lab;
    let all = found.lab.voters();
    let is_there = |index: &u32| {
        let faults = found.faults(*index);
        let is_away = faults.has(FaultName::Cut) || faults.are_of_power();
        found.domains.get(index) == Some(&DomainState::Running) && !is_away
    };
    let there: Vec<u32> = (1..=all).filter(is_there).collect();
    let left = there.iter().filter(|index| !nodes.contains(index)).count();
    let is_majority = |count: usize| count * 2 > usize::try_from(all).unwrap_or(usize::MAX);
    if spec.ready != Readiness::Etcd || !is_majority(there.len()) || is_majority(left) {
        return None;
    }
    let lost = format!(
        "the etcd cluster of lab `{name}` keeps {left} of {all} members, which is no majority"
    );
    Some(if forgets {
        format!(
            "{lost}: what it holds is lost with the memory of the others; `virtlab restart {name}` forms a new one"
        )
    } else {
        format!("{lost}: it stands still until `virtlab heal {name}`")
    })
}

/// That nodes which boot anew do not join their cluster again, where they found each other by a discovery URL.
pub(super) fn cannot_rejoin(lab: &Lab, content: &Content) -> Option<String> {
    let (url, name) = (content.discovery_url.as_ref()?, &lab.name);
    // The boot server gives out a new URL where all were off, which it knows where it looks at etcd.
    let way_out = match lab.spec.ready {
        Readiness::Etcd => format!("`virtlab restart {name}` forms a new cluster"),
        _ => format!("`virtlab create {name} --recreate …` makes a new lab"),
    };
    Some(format!(
        "the nodes of lab `{name}` find each other by {url}, which takes each of them once: one whose etcd data was in \
         memory does not join its cluster again; {way_out}"
    ))
}
