//! What of a lab is not as it should be, each with the command to type.

use crate::boot_server::page::insight::Wrong;
use crate::boot_server::recorder::now_ms;
use crate::boot_server::recorder::timeline::{NodeTimeline, Timeline};
use crate::boot_server::stage::Stage;
use crate::cluster::etcd::Report;
use crate::hypervisor::{Found, Hypervisor};
use crate::lab::metadata::Power;
use crate::lab::plan::DomainState;
use crate::output::sanitize;
use crate::status::unheard::{self, Unheard};
use crate::status::{CUT_OFF, LabStatus, NodeStatus, faults, first_steps, missing};

/// Looks for what keeps nodes from the boot server, which takes several looks.
pub(super) struct Watch {
    patience: unheard::Patience,
    found: Option<Unheard>,
}

impl Watch {
    pub(super) fn new() -> Self {
        Self { patience: unheard::Patience::new(), found: None }
    }

    /// All that is wrong, what is most urgent first.
    pub(super) fn wrong(
        &mut self,
        hypervisor: &Hypervisor,
        found: &Found,
        known: &Timeline,
        status: &LabStatus,
    ) -> Vec<Wrong> {
        let lab = &found.lab;
        let mut all = Vec::new();
        if status.dhcp_running == Some(false) {
            let text = format!(
                "the DHCP and TFTP server of network `{}` has ended: no node can boot",
                lab.name
            );
            all.push(wrong(&text, format!("virtlab create {}", lab.name)));
        }
        if !known.nodes.iter().any(unheard::is_unheard) {
            self.found = None;
        }
        if let Some(news) = self.patience.look(hypervisor, lab, known) {
            self.found = Some(news);
        }
        // That the server has ended is told already.
        let unheard = self.found.as_ref().filter(|_| status.dhcp_running != Some(false));
        if let Some(unheard) = unheard {
            all.push(Wrong { text: sanitize(&unheard.to_string()), command: None });
        }
        for node in &status.nodes {
            let runs = node.domain == Some(DomainState::Running);
            let is_told = runs || found.faults(node.index).are_of_power();
            if let Some(faults) = faults::describe(found, node.index).filter(|_| is_told) {
                all.push(wrong(&format!("{}: it is {faults}", node.name), faults::heal(found)));
                continue;
            }
            let seen = known.node(node.index);
            all.extend(of_node(node, status.etcd.as_ref(), |long| {
                let seen = seen?;
                let waits = waits_for_ms(seen)?;
                let lacks = if unheard::is_unheard(seen) {
                    first_steps::of(hypervisor, lab, &lab.node(node.index)).describe(lab)
                } else {
                    missing::of_node(lab, seen)?.to_string()
                };
                (waits >= long).then(|| format!("{lacks} for {} s", waits / 1000))
            }));
        }
        if let Some(report) = &status.etcd
            && known.etcd.is_some()
            && !report.healthy
        {
            // What is to be said of single nodes is said of them.
            let is_known = |problem: &&String| {
                !status.nodes.iter().any(|node| problem.starts_with(&format!("{}: ", node.name)))
            };
            let problems = report.problems();
            let rest = problems.iter().filter(is_known);
            all.extend(rest.map(|it| wrong(it, format!("virtlab verify {}", lab.name))));
        }
        all
    }
}

/// What is wrong with a node. `lacks` tells what one that boots lacks, if it has lacked it for so many milliseconds.
fn of_node(
    node: &NodeStatus,
    etcd: Option<&Report>,
    lacks: impl FnOnce(u64) -> Option<String>,
) -> Option<Wrong> {
    let name = &node.name;
    let (text, command) = match (node.domain, node.wanted) {
        (None, _) => ("it is missing".to_owned(), format!("virtlab create {}", lab_of(name))),
        (Some(DomainState::Off), Power::On) => {
            ("it is off".to_owned(), format!("virtlab start {name}"))
        }
        (Some(DomainState::Paused), Power::On) => {
            ("it is paused".to_owned(), format!("virtlab resume {name}"))
        }
        (Some(DomainState::Running), _) if node.state == CUT_OFF => (
            "its network card has no link".to_owned(),
            format!("virsh domif-setlink {name} {} up", node.mac),
        ),
        (Some(DomainState::Running), _) if !node.ready => {
            if node.state == NOT_READY {
                (why_not_ready(etcd, name), format!("virtlab logs {name}"))
            } else {
                (lacks(STUCK_MS)?, format!("virtlab logs {name}"))
            }
        }
        _ => return None,
    };
    Some(wrong(&format!("{name}: {text}"), command))
}

/// What etcd says of a node, or that nothing is said.
fn why_not_ready(etcd: Option<&Report>, name: &str) -> String {
    let report = etcd.and_then(|etcd| etcd.nodes.iter().find(|node| node.name == name));
    match report.and_then(|node| node.problem.as_ref()) {
        Some(problem) => format!("etcd is not healthy: {problem}"),
        None => "it was ready and does not answer".to_owned(),
    }
}

fn wrong(text: &str, command: String) -> Wrong {
    Wrong { text: sanitize(text), command: Some(command) }
}

/// How long it is since a node that boots did something.
fn waits_for_ms(node: &NodeTimeline) -> Option<u64> {
    let last = node.stages.values().map(|reached| reached.at_ms).max()?;
    (!node.has(Stage::Ready)).then(|| now_ms().saturating_sub(last))
}

/// The lab of a node, by its name.
fn lab_of(node: &str) -> &str {
    node.rsplit_once('-').map_or(node, |(lab, _)| lab)
}

/// What `status` calls a node that was ready before.
const NOT_READY: &str = "not ready";
/// A node under emulation takes its time for a stage, but not as long.
const STUCK_MS: u64 = 60_000;

#[cfg(test)]
mod tests {
    use super::*;

    fn said(domain: Option<DomainState>, wanted: Power, state: &str, ready: bool) -> String {
        let node = NodeStatus {
            name: "demo-2".to_owned(),
            index: 2,
            ip: None,
            mac: "52:54:00:12:34:02".parse().unwrap(),
            domain,
            wanted,
            state: state.to_owned(),
            ready,
            faults: Vec::new(),
            seconds: std::collections::BTreeMap::new(),
            bytes: std::collections::BTreeMap::new(),
        };
        let wrong =
            of_node(&node, None, |_| Some("kernel fetched, initrd not for 61 s".to_owned()));
        wrong.map_or_else(String::new, |it| format!("{} | {}", it.text, it.command.unwrap()))
    }

    #[test]
    fn what_is_wrong_with_a_node_is_told_with_the_command() {
        let running = Some(DomainState::Running);
        for (domain, wanted, state, ready, expected) in [
            (running, Power::On, "ready", true, ""),
            (Some(DomainState::Off), Power::Off, "stopped", false, ""),
            (Some(DomainState::Paused), Power::Paused, "paused", false, ""),
            (None, Power::On, "missing", false, "demo-2: it is missing | virtlab create demo"),
            (
                Some(DomainState::Off),
                Power::On,
                "off",
                false,
                "demo-2: it is off | virtlab start demo-2",
            ),
            (
                Some(DomainState::Paused),
                Power::On,
                "paused",
                false,
                "demo-2: it is paused | virtlab resume demo-2",
            ),
            (
                running,
                Power::On,
                CUT_OFF,
                false,
                "demo-2: its network card has no link | virsh domif-setlink demo-2 52:54:00:12:34:02 up",
            ),
            (
                running,
                Power::On,
                NOT_READY,
                false,
                "demo-2: it was ready and does not answer | virtlab logs demo-2",
            ),
            (
                running,
                Power::On,
                "kernel",
                false,
                "demo-2: kernel fetched, initrd not for 61 s | virtlab logs demo-2",
            ),
        ] {
            assert_eq!(said(domain, wanted, state, ready), expected);
        }
    }
}
