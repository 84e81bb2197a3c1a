//! The plans of the power verbs.

use std::collections::BTreeSet;

use super::{DomainState, NodeStep, Observed, PowerOff, Step, autostart, plan_up};
use crate::lab::Lab;
use crate::lab::metadata::Power;

/// Everything that the nodes need is there before the first of them stops. Their marks say all the time that they are
/// to run, so a run that is killed in between leaves nodes that the next one starts.
pub(super) fn plan_restart(
    lab: &Lab,
    nodes: &BTreeSet<u32>,
    how: PowerOff,
    observed: &Observed,
) -> Vec<Step> {
    let mut off = observed.clone();
    let mut stops = Vec::new();
    for (index, state) in &mut off.domains {
        if nodes.contains(index) && *state != DomainState::Off {
            *state = DomainState::Off;
            stops.push(step_off(how).of(*index));
        }
    }
    let power = |index: u32| nodes.contains(&index).then_some(Power::On);
    let mut steps = plan_up(lab, &power, &off);
    let is_start = |step: &Step| matches!(step, Step::Node(_, NodeStep::Start));
    let first_start = steps.iter().position(is_start).unwrap_or(steps.len());
    steps.splice(first_start..first_start, stops);
    steps
}

/// What is done to nodes without a look at the rest of their lab.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Switch {
    Off(PowerOff),
    Paused,
    Resumed,
}

/// A node that is off is none to be paused or resumed.
pub(super) fn plan_switch(
    lab: &Lab,
    nodes: &BTreeSet<u32>,
    switch: Switch,
    observed: &Observed,
) -> Vec<Step> {
    let wanted = match switch {
        Switch::Off(_) => Power::Off,
        Switch::Paused => Power::Paused,
        Switch::Resumed => Power::On,
    };
    let is_meant = |index: u32, state: DomainState| {
        nodes.contains(&index) && (state != DomainState::Off || wanted == Power::Off)
    };
    let is_outdated = |index: u32| {
        let mark = observed.marks.nodes.get(&index);
        mark.is_none_or(|mark| mark.desired.power != wanted || mark.generation < lab.generation)
    };
    // A fault may keep a node from what is wanted of it.
    let effective = |index: u32| observed.desired_with(index, wanted).effective_power();
    let step = |index: u32, state: DomainState| match (switch, state) {
        (Switch::Off(how), DomainState::Running | DomainState::Paused) => Some(step_off(how)),
        (Switch::Paused, DomainState::Running) => Some(NodeStep::Suspend),
        (Switch::Resumed, DomainState::Paused) if effective(index) == Power::On => {
            Some(NodeStep::Resume)
        }
        _ => None,
    };
    let (mut marks, mut flags, mut steps) = (Vec::new(), Vec::new(), Vec::new());
    for (index, state) in &observed.domains {
        if is_meant(*index, *state) {
            let mark = || NodeStep::Mark(observed.desired_with(*index, wanted)).of(*index);
            marks.extend(is_outdated(*index).then(mark));
            flags.extend(autostart::node(lab, *index, effective(*index), observed));
            steps.extend(step(*index, *state).map(|step| step.of(*index)));
        }
    }
    [marks, flags, steps].concat()
}

fn step_off(how: PowerOff) -> NodeStep {
    match how {
        PowerOff::Shutdown => NodeStep::Shutdown,
        PowerOff::Plug => NodeStep::Stop,
    }
}
