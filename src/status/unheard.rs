//! Why the boot server hears nothing of a node that is on, looked for after some time: a firewall that keeps nodes from it
//! is reported while one waits, so that the nodes can go on.

use std::collections::BTreeSet;
use std::fmt;
use std::time::{Duration, Instant};

use super::first_steps::{self, FirstStep};
use crate::boot_server::recorder::timeline::{NodeTimeline, Timeline};
use crate::host::dnsmasq;
use crate::hypervisor::Hypervisor;
use crate::lab::Lab;

/// What may keep a node from the boot server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Unheard {
    node: String,
    what: String,
    reason: String,
    /// The way out.
    pub(crate) hint: String,
}

impl fmt::Display for Unheard {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { node, what, reason, hint } = self;
        write!(f, "{node}: {what}: {reason}; {hint}")
    }
}

/// Whether a node is on and has asked the boot server for nothing yet.
pub(crate) fn is_unheard(node: &NodeTimeline) -> bool {
    node.is_in_firmware()
}

/// That the server is gone from which a node gets its address and its first file; `None` if it is there.
pub(crate) fn without_dhcp(hypervisor: &Hypervisor, lab: &Lab, index: u32) -> Option<Unheard> {
    if dnsmasq::serves(lab) != Some(false) {
        return None;
    }
    let node = lab.node(index);
    Some(Unheard {
        what: first_steps::of(hypervisor, lab, &node).describe(lab),
        node: node.name,
        reason: format!("the DHCP and TFTP server (dnsmasq) of network `{}` has ended", lab.name),
        hint: format!("`virtlab create {}` brings it back, and the nodes go on", lab.name),
    })
}

/// Looks now and then.
#[derive(Debug)]
pub(crate) struct Patience {
    next_look: Instant,
    asked_before: BTreeSet<u32>,
}

impl Patience {
    /// One that looks after a while for the first time.
    pub(crate) fn new() -> Self {
        Self { next_look: Instant::now() + UNHEARD, asked_before: BTreeSet::new() }
    }

    /// What there is to report, if it is time to look. Whoever asks at two looks does not just ask at this moment.
    pub(crate) fn look(
        &mut self,
        hypervisor: &Hypervisor,
        lab: &Lab,
        known: &Timeline,
    ) -> Option<Unheard> {
        if Instant::now() < self.next_look {
            return None;
        }
        self.next_look = Instant::now() + UNHEARD_AGAIN;
        let unheard = known.nodes.iter().filter(|node| is_unheard(node));
        let (step, node) = unheard
            .map(|node| (first_steps::of(hypervisor, lab, &lab.node(node.index)), node))
            .max_by_key(|(step, _)| *step)?;
        let without_dhcp = || without_dhcp(hypervisor, lab, node.index);
        if let Some(report) = (step != FirstStep::Asking).then(without_dhcp).flatten() {
            return Some(report);
        }
        if self.asked_before.insert(node.index) {
            return None;
        }
        let (reason, hint) = match (first_steps::suspect(hypervisor, lab, step), step) {
            (Some(verdict), _) => (
                format!(
                    "this host's firewall ({}) may keep it from {}",
                    verdict.firewall, verdict.ports
                ),
                format!("`{}` opens it for good, and the nodes go on", verdict.command),
            ),
            (None, FirstStep::Asking) => (
                "a firewall on this host?".to_owned(),
                format!(
                    "`sudo nft list ruleset` shows what keeps nodes from port {}",
                    lab.spec.boot_port
                ),
            ),
            (None, _) => return None,
        };
        Some(Unheard { node: node.name.clone(), what: step.describe(lab), reason, hint })
    }
}

/// After this time nodes have asked for their script, unless they are emulated on a busy host.
const UNHEARD: Duration = Duration::from_secs(15);
const UNHEARD_AGAIN: Duration = Duration::from_secs(5);
