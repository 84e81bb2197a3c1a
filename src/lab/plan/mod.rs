//! From what is wanted and what is there to what must be done. Pure: a half-made lab, a lab that
//! is up and no lab at all are just three observations, and `create`, `destroy` and `--dry-run`
//! are the same machinery.

mod autostart;
mod faults;
mod power;
mod snapshot;
mod steps;
#[cfg(test)]
#[expect(clippy::large_stack_arrays, reason = "tables of steps")]
pub(crate) mod tests;

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use self::autostart::plan_autostart;
pub use self::autostart::{Autostart, ServerUnit};
use self::faults::{plan_faults, plan_kept, plan_reset, plan_unmade, spoil_starts};
use self::power::{Switch, plan_restart, plan_switch};
use self::snapshot::{plan_restored, plan_saved};
pub use self::steps::{LabStep, NodeStep, Step};
use super::fault::{Faults, InForce};
use super::metadata::{Desired, Power};
use super::{Lab, Network};

/// What was found of a lab.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[expect(clippy::struct_excessive_bools, reason = "each is there or not by itself")]
pub struct Observed {
    /// The lab's own network.
    pub network: Option<Activity>,
    /// Whether the DHCP and TFTP server of its network serves.
    pub dhcp: bool,
    /// The lab's storage pool.
    pub pool: Option<Activity>,
    /// Whether all boot files lie in the pool.
    pub boot_files: bool,
    /// Whether its boot server answers.
    pub boot_server: bool,
    /// Its domains by node index.
    pub domains: BTreeMap<u32, DomainState>,
    /// What the marks of its objects say.
    pub marks: Marks,
    /// What of the faults of its nodes is in force, by node index; of one that is missing, nothing is.
    pub in_force: BTreeMap<u32, InForce>,
    /// What is defined otherwise than the specification wants it.
    pub changed: Changed,
    /// For how many nodes, from the first on, its network has an address reserved; `None` if for none,
    /// as a template of the user's may want it.
    pub reserved: Option<u32>,
    /// Whether what the boot server gives out is kept on this machine and is that of the specification.
    pub configs: bool,
    /// Whether there is a state folder of the lab on this machine.
    pub state: bool,
    /// What of it libvirt starts with the host.
    pub autostart: Autostart,
    /// Whether systemd starts its boot server with the host.
    pub server_unit: ServerUnit,
    /// Whether the lab is among those that the host's KSM was switched on for.
    pub ksm: bool,
}

/// The objects of a lab whose definition is not what the specification wants, as after `virsh edit`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Changed {
    /// Its network.
    pub network: bool,
    /// Its storage pool.
    pub pool: bool,
    /// Its domains, by node index.
    pub nodes: BTreeSet<u32>,
}

/// What the marks of a lab's objects say, where they can differ: a run may have been killed while it
/// changed the specification.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Marks {
    /// The generation of the specification that the network carries.
    pub network: Option<u32>,
    /// What the domains carry, by node index.
    pub nodes: BTreeMap<u32, DomainMark>,
}

/// What the mark of a domain says beside the specification.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DomainMark {
    /// The generation of the specification that it carries.
    pub generation: u32,
    /// What is wanted of the node.
    pub desired: Desired,
}

/// Whether an object of libvirt's is only defined or also active.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Activity {
    /// Defined only.
    Inactive,
    /// Started.
    Active,
}

/// The states of a domain that make a difference to what must be done.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum DomainState {
    /// Defined only, shut off or crashed.
    Off,
    /// Made, with its processors stopped.
    Paused,
    /// Running, or on its way out of it.
    Running,
}

/// What libvirt says of a domain while a lab lives.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DomainChange {
    /// It is like this now, whatever it was before.
    Is(DomainState),
    /// It was started, and is like this now.
    Started(DomainState),
    /// It was started where it was when its memory was saved, and is like this now. It does not boot.
    Restored(DomainState),
    /// It was reset while it ran, and boots again.
    Reset,
}

/// What is wanted of a lab.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Goal {
    /// All of it is there, and each node has the power that its mark says; a new one runs.
    Up,
    /// All of it is there, and these nodes run from now on; the others are as they are.
    Started(BTreeSet<u32>),
    /// The same, and none of these nodes ran in between.
    Restarted(BTreeSet<u32>, PowerOff),
    /// These nodes are off from now on; nothing else is changed.
    Stopped(BTreeSet<u32>, PowerOff),
    /// Those of these nodes that run are paused from now on; nothing else is changed.
    Paused(BTreeSet<u32>),
    /// Those of these nodes that are paused run from now on; nothing else is changed.
    Resumed(BTreeSet<u32>),
    /// These nodes have these faults from now on, and no others; nothing else is changed.
    Faulted(BTreeMap<u32, Faults>),
    /// Those of these nodes that are not off boot anew at once; nothing else is changed.
    Reset(BTreeSet<u32>),
    /// There is a snapshot of its nodes, and they are as they are wanted again.
    Saved,
    /// Those nodes that a snapshot has the memory of are as they were then, with this power; the others are off.
    Restored(BTreeMap<u32, Power>),
    /// What there is of it comes back with the host, or does not, as its specification says; nothing is made,
    /// started or stopped.
    Autostart,
    /// All of it is there, and so many nodes, from the first on, run.
    Grown(u32),
    /// Nothing of it is there.
    Gone,
}

/// How a node that runs gets off.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PowerOff {
    /// Its system is asked to shut down, and loses its power if it does not.
    Shutdown,
    /// It loses its power at once.
    Plug,
}

/// What must be done to get from `observed` to `goal`, in order. The lab may have another specification
/// than its objects, with a higher generation: then the plan brings their marks up to it, and what follows
/// from them.
///
/// An object that carries our mark is made first and removed last, so that a run that was killed
/// anywhere leaves something that leads to all the rest. Marks change before what they say does: the next
/// run sees what was wanted.
pub fn plan(lab: &Lab, goal: Goal, observed: &Observed) -> Vec<Step> {
    spoil_starts(&steps_to(lab, goal, observed), observed)
}

fn steps_to(lab: &Lab, goal: Goal, observed: &Observed) -> Vec<Step> {
    let runs = |nodes: &BTreeSet<u32>, index| nodes.contains(&index).then_some(Power::On);
    match goal {
        Goal::Up => plan_up(lab, &|index| Some(observed.marked(index)), observed),
        Goal::Started(nodes) => plan_up(lab, &|index| runs(&nodes, index), observed),
        Goal::Restarted(nodes, how) => plan_restart(lab, &nodes, how, observed),
        Goal::Stopped(nodes, how) => plan_switch(lab, &nodes, Switch::Off(how), observed),
        Goal::Paused(nodes) => plan_switch(lab, &nodes, Switch::Paused, observed),
        Goal::Resumed(nodes) => plan_switch(lab, &nodes, Switch::Resumed, observed),
        Goal::Faulted(faults) => plan_faults(lab, &faults, observed),
        Goal::Reset(nodes) => plan_reset(&nodes, observed),
        Goal::Saved => plan_saved(observed),
        Goal::Restored(powers) => plan_restored(lab, &powers, observed),
        Goal::Autostart => plan_autostart(lab, observed),
        Goal::Grown(nodes) => {
            plan_up(lab, &|index| (index <= nodes).then_some(Power::On), observed)
        }
        Goal::Gone => plan_gone(observed),
    }
}

impl Observed {
    /// The power that the mark of a node says is wanted; a new node is to run.
    pub fn marked(&self, index: u32) -> Power {
        self.desired(index).power
    }

    /// All that the mark of a node says is wanted of it.
    pub fn desired(&self, index: u32) -> Desired {
        self.marks.nodes.get(&index).map(|mark| mark.desired).unwrap_or_default()
    }

    /// What is wanted of a node that is to have this power now.
    fn desired_with(&self, index: u32, power: Power) -> Desired {
        Desired { power, ..self.desired(index) }
    }
}

/// `power` is what is wanted of each node; `None` leaves it as it is.
fn plan_up(lab: &Lab, power: &dyn Fn(u32) -> Option<Power>, observed: &Observed) -> Vec<Step> {
    let managed = matches!(lab.spec.network, Network::Managed(_));
    let mut steps = Vec::new();
    let mut add = |needed: bool, step: Step| {
        if needed {
            steps.push(step);
        }
    };
    let state = |index: u32| observed.domains.get(&index);
    let nodes = || 1..=lab.spec.nodes;

    // Before anything is made, since it may not be permitted.
    add(lab.spec.ksm && !observed.ksm, LabStep::ClaimKsm.into());
    add(managed && observed.network.is_none(), LabStep::DefineNetwork.into());
    for step in plan_changes(lab, power, observed) {
        add(true, step);
    }
    // Without a network of ours the domains are what leads to the pool.
    nodes().for_each(|index| add(!managed && state(index).is_none(), NodeStep::Define.of(index)));
    let has_pool = observed.pool == Some(Activity::Active) && !observed.changed.pool;
    add(!has_pool, LabStep::MakePool.into());
    add(managed && !observed.boot_files, LabStep::UploadBootFiles.into());
    add(managed && observed.network != Some(Activity::Active), LabStep::StartNetwork.into());
    let is_mute = observed.network == Some(Activity::Active) && !observed.dhcp;
    add(managed && is_mute, LabStep::RestoreDhcp.into());
    // A boot server gives out what it has read when it started.
    add(observed.boot_server && !observed.configs, LabStep::StopBootServer.into());
    add(!observed.configs, LabStep::WriteConfigs.into());
    // Where systemd starts it with the host, systemd starts it now as well.
    if let Some(step) = autostart::server(lab, observed) {
        add(true, step);
    }
    add(!observed.boot_server || !observed.configs, LabStep::StartBootServer.into());
    nodes().for_each(|index| add(managed && state(index).is_none(), NodeStep::Define.of(index)));
    let lasting = |index| power(index).unwrap_or_else(|| observed.marked(index));
    let lasting = |index| observed.desired_with(index, lasting(index)).effective_power();
    for step in autostart::libvirt(lab, &lasting, observed, &|_| true) {
        add(true, step);
    }
    let power = |index| effective(power(index), index, observed);
    nodes().for_each(|index| {
        let is_off = matches!(state(index), None | Some(DomainState::Off));
        let is_wanted = matches!(power(index), Some(Power::On | Power::Paused));
        add(is_wanted && is_off, NodeStep::Start.of(index));
    });
    nodes().for_each(|index| {
        let runs = state(index) == Some(&DomainState::Running);
        add(power(index) == Some(Power::On) && !runs, NodeStep::Resume.of(index));
    });
    steps
}

/// The power that a node is to have by its faults, if this one is wanted of it.
fn effective(power: Option<Power>, index: u32, observed: &Observed) -> Option<Power> {
    power.map(|power| observed.desired_with(index, power).effective_power())
}

/// What is there already, and is not what the specification and the wanted power say.
fn plan_changes(lab: &Lab, power: &dyn Fn(u32) -> Option<Power>, observed: &Observed) -> Vec<Step> {
    let marked_power = |index| power(index).unwrap_or_else(|| observed.marked(index));
    let mut steps = marks(lab, &marked_power, observed);
    let (members, others): (Vec<_>, Vec<_>) =
        observed.domains.iter().partition(|(index, _)| **index <= lab.spec.nodes);
    if observed.reserved.is_some_and(|reserved| reserved < lab.spec.nodes) {
        steps.push(LabStep::ReserveAddresses.into());
    }
    if observed.network.is_some() && observed.changed.network {
        steps.push(LabStep::RedefineNetwork.into());
    }
    for (index, _) in &members {
        if observed.changed.nodes.contains(index) {
            let wanted = power(**index).unwrap_or_else(|| observed.marked(**index));
            let desired = observed.desired_with(**index, wanted);
            steps.push(NodeStep::Redefine(desired).of(**index));
        }
    }
    steps.extend(plan_kept(lab, observed));
    for (index, state) in &members {
        // A run that was killed has not done yet what the mark says.
        let power = power(**index);
        let is_killed = power != Some(Power::Off) && observed.desired(**index).is_killed();
        match (effective(power, **index, observed), state) {
            (Some(Power::Off), DomainState::Running | DomainState::Paused) => {
                let step = if is_killed { NodeStep::Stop } else { NodeStep::Shutdown };
                steps.push(step.of(**index));
            }
            (Some(Power::Paused), DomainState::Running) => {
                steps.push(NodeStep::Suspend.of(**index));
            }
            _ => {}
        }
    }
    // The last one first, and all leave their cluster while it still has all its members.
    let others: Vec<_> = others.into_iter().rev().collect();
    steps.extend(others.iter().map(|(index, _)| NodeStep::LeaveCluster.of(**index)));
    let to_stop = others.iter().filter(|(_, state)| **state != DomainState::Off);
    steps.extend(to_stop.map(|(index, _)| NodeStep::Shutdown.of(**index)));
    steps.extend(others.iter().map(|(index, _)| NodeStep::DeleteVolumes.of(**index)));
    steps.extend(others.iter().flat_map(|(index, _)| plan_unmade(**index, observed)));
    steps.extend(others.iter().map(|(index, _)| NodeStep::Undefine.of(**index)));
    steps
}

/// The marks that say something else than the specification and the wanted power.
fn marks(lab: &Lab, power: &dyn Fn(u32) -> Power, observed: &Observed) -> Vec<Step> {
    let mut steps = Vec::new();
    let generation = Some(lab.generation);
    if observed.network.is_some() && observed.marks.network < generation {
        steps.push(LabStep::MarkNetwork.into());
    }
    for index in observed.domains.keys().filter(|index| **index <= lab.spec.nodes) {
        let mark = observed.marks.nodes.get(index);
        let wanted = power(*index);
        if mark.map(|mark| mark.generation) < generation || observed.marked(*index) != wanted {
            steps.push(NodeStep::Mark(observed.desired_with(*index, wanted)).of(*index));
        }
    }
    steps
}

fn plan_gone(observed: &Observed) -> Vec<Step> {
    let mut steps = Vec::new();
    let has_unit = observed.server_unit == ServerUnit::Enabled;
    // systemd may be about to start it again.
    if observed.boot_server || has_unit {
        steps.push(LabStep::StopBootServer.into());
    }
    if has_unit {
        steps.push(LabStep::DisableBootServer.into());
    }
    let active = observed.domains.iter().filter(|(_, state)| **state != DomainState::Off);
    steps.extend(active.map(|(index, _)| NodeStep::Stop.of(*index)));
    if observed.pool.is_some() {
        steps.push(LabStep::DeletePool.into());
    }
    steps.extend(observed.domains.keys().flat_map(|index| plan_unmade(*index, observed)));
    steps.extend(observed.domains.keys().map(|index| NodeStep::Undefine.of(*index)));
    if observed.network.is_some() {
        steps.push(LabStep::RemoveNetwork.into());
    }
    if observed.state {
        steps.push(LabStep::RemoveState.into());
    }
    if observed.ksm {
        steps.push(LabStep::ReleaseKsm.into());
    }
    steps
}
