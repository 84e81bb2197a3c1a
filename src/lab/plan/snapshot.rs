//! The plans of snapshots. A node's processors stand still while its memory is saved, and those of all nodes from before the
//! first one is saved until after the last one: what they say to each other is either in all of the memories or in none.

use std::collections::BTreeMap;

use super::{DomainState, LabStep, NodeStep, Observed, Step, autostart};
use crate::lab::Lab;
use crate::lab::metadata::Power;

/// The manifest comes last: without it, what was saved is no snapshot.
pub(super) fn plan_saved(observed: &Observed) -> Vec<Step> {
    let of = |is_meant: &dyn Fn(u32, DomainState) -> bool, step: NodeStep| {
        let nodes = observed.domains.iter().filter(|(index, state)| is_meant(**index, **state));
        nodes.map(|(index, _)| step.of(*index)).collect::<Vec<Step>>()
    };
    let is_on = |_, state| state != DomainState::Off;
    // One that a run which was killed left paused is let run as well.
    let is_to_run = |index, state| is_on(index, state) && observed.marked(index) == Power::On;
    [
        of(&|_, state| state == DomainState::Running, NodeStep::Suspend),
        of(&is_on, NodeStep::SaveMemory),
        of(&is_to_run, NodeStep::Resume),
        vec![LabStep::WriteManifest.into()],
    ]
    .concat()
}

/// `powers` are those that the nodes had when they were saved. What runs now is thrown away.
pub(super) fn plan_restored(
    lab: &Lab,
    powers: &BTreeMap<u32, Power>,
    observed: &Observed,
) -> Vec<Step> {
    let of = |is_meant: &dyn Fn(u32, Power) -> bool, step: &dyn Fn(Power) -> NodeStep| {
        let nodes = powers.iter().filter(|(index, power)| is_meant(**index, **power));
        nodes.map(|(index, power)| step(*power).of(*index)).collect::<Vec<Step>>()
    };
    let is_outdated = |index: u32, power: Power| {
        let mark = observed.marks.nodes.get(&index);
        mark.is_none_or(|mark| mark.desired != power.into() || mark.generation < lab.generation)
    };
    let is_active = |index: u32, _| {
        observed.domains.get(&index).is_some_and(|state| *state != DomainState::Off)
    };
    let flags = powers.iter().filter_map(|(index, it)| autostart::node(lab, *index, *it, observed));
    [
        of(&is_outdated, &|power| NodeStep::Mark(power.into())),
        flags.collect(),
        of(&is_active, &|_| NodeStep::Stop),
        of(&|_, power| power != Power::Off, &NodeStep::RestoreMemory),
        of(&|_, power| power == Power::On, &|_| NodeStep::Resume),
    ]
    .concat()
}
