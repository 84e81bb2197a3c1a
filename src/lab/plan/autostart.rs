//! What comes back with the host: by libvirt's autostart flags, and the boot server by systemd.

use std::collections::BTreeSet;

use super::{LabStep, NodeStep, Observed, Step, marks};
use crate::lab::Lab;
use crate::lab::metadata::Power;

/// What of a lab libvirt starts with the host.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Autostart {
    /// Its network.
    pub network: bool,
    /// Its storage pool.
    pub pool: bool,
    /// The domains of these nodes.
    pub nodes: BTreeSet<u32>,
}

/// Whether systemd starts the lab's boot server with the host.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ServerUnit {
    /// It cannot: there is no systemd, or no unit for it, or the user's units run only while they are logged in.
    #[default]
    Unavailable,
    /// It could.
    Disabled,
    /// It does.
    Enabled,
}

/// Brings what there is up to the specification, and makes, starts and stops nothing.
pub(super) fn plan_autostart(lab: &Lab, observed: &Observed) -> Vec<Step> {
    let power = |index| observed.marked(index);
    let mut steps = marks(lab, &power, observed);
    // The texts in the folder are not made from what has changed.
    if observed.configs && !steps.is_empty() {
        steps.push(LabStep::MarkConfigs.into());
    }
    steps.extend(server(lab, observed));
    let power = |index| observed.desired(index).effective_power();
    steps.extend(libvirt(lab, &power, observed, &|index| observed.domains.contains_key(&index)));
    steps
}

/// The step for the boot server.
pub(super) fn server(lab: &Lab, observed: &Observed) -> Option<Step> {
    match (lab.spec.autostart, observed.server_unit) {
        (true, ServerUnit::Disabled) => Some(LabStep::EnableBootServer.into()),
        (false, ServerUnit::Enabled) => Some(LabStep::DisableBootServer.into()),
        _ => None,
    }
}

/// The steps for libvirt's objects, those of nodes for which `is_there`. Network and pool of every lab are
/// started with the host unless somebody changed that.
pub(super) fn libvirt(
    lab: &Lab,
    power: &dyn Fn(u32) -> Power,
    observed: &Observed,
    is_there: &dyn Fn(u32) -> bool,
) -> Vec<Step> {
    let Observed { network, pool, autostart, .. } = observed;
    let lacks = network.is_some() && !autostart.network || pool.is_some() && !autostart.pool;
    let mut steps: Vec<Step> = Vec::new();
    if lab.spec.autostart && lacks {
        steps.push(LabStep::Autostart.into());
    }
    let nodes = (1..=lab.spec.nodes).filter(|index| is_there(*index));
    steps.extend(nodes.filter_map(|index| node(lab, index, power(index), observed)));
    steps
}

/// The step for a node of which this power is wanted: one that is to be off stays off.
pub(super) fn node(lab: &Lab, index: u32, power: Power, observed: &Observed) -> Option<Step> {
    node_step(lab, index, power, observed).map(|step| step.of(index))
}

/// The same, of that node.
pub(super) fn node_step(
    lab: &Lab,
    index: u32,
    power: Power,
    observed: &Observed,
) -> Option<NodeStep> {
    let wanted = lab.spec.autostart && power == Power::On;
    let has = observed.autostart.nodes.contains(&index);
    (wanted != has).then_some(NodeStep::Autostart(wanted))
}
