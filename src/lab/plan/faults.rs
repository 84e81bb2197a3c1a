//! The plans of faults. A mark says what is wrong with its node from before it is until after it was: what a run that was killed
//! has begun, the next one completes.

use std::collections::BTreeMap;

use super::{NodeStep, Observed, Step};
use crate::lab::Lab;
use crate::lab::fault::{Faults, Link};
use crate::lab::metadata::Desired;

/// `wanted` are the faults of some nodes; the others stay as they are.
pub(super) fn plan_faults(
    lab: &Lab,
    wanted: &BTreeMap<u32, Faults>,
    observed: &Observed,
) -> Vec<Step> {
    let (mut healed, mut marks, mut done) = (Vec::new(), Vec::new(), Vec::new());
    let there = wanted.iter().filter(|(index, _)| observed.domains.contains_key(index));
    for (index, faults) in there {
        let desired = observed.desired(*index);
        let link = observed.links.get(index).copied().unwrap_or_default();
        let was_cut = desired.faults.cut.is_some();
        if was_cut && faults.cut.is_none() && link != Link::Up {
            healed.push(NodeStep::RestoreLink.of(*index));
        }
        let mark = observed.marks.nodes.get(index);
        let is_old = mark.is_none_or(|mark| mark.generation < lab.generation);
        if desired.faults != *faults || is_old {
            marks.push(NodeStep::Mark(Desired { faults: *faults, ..desired }).of(*index));
        }
        if faults.cut.is_some() && link != Link::Down {
            done.push(NodeStep::CutLink.of(*index));
        }
    }
    [healed, marks, done].concat()
}

/// What brings nodes to the faults that their marks say they have.
pub(super) fn plan_kept(lab: &Lab, observed: &Observed) -> Vec<Step> {
    let members = observed.marks.nodes.iter().filter(|(index, _)| **index <= lab.spec.nodes);
    let is_to_be_cut = |index: u32, faults: Faults| {
        faults.cut.is_some() && observed.links.get(&index) != Some(&Link::Down)
    };
    let cut = members.filter(|(index, mark)| is_to_be_cut(**index, mark.desired.faults));
    cut.map(|(index, _)| NodeStep::CutLink.of(*index)).collect()
}

#[cfg(test)]
mod tests {
    use super::super::tests::complete;
    use super::super::{DomainState, Goal, plan};
    use super::*;
    use crate::lab::fault::FaultKind;
    use crate::lab::metadata::Power;
    use crate::lab::tests::lab;

    fn cut() -> Faults {
        Faults::default().with(FaultKind::Cut, 7)
    }

    /// Three nodes, of which the second one has this fault in its mark and this link.
    fn second(faults: Faults, link: Link) -> Observed {
        let mut observed = complete(3);
        observed.marks.nodes.get_mut(&2).unwrap().desired.faults = faults;
        observed.links.insert(2, link);
        observed
    }

    fn said(goal: Goal, observed: &Observed) -> Vec<String> {
        plan(&lab(3), goal, observed).into_iter().map(|step| step.describe(&lab(3))).collect()
    }

    fn faulted(faults: Faults) -> Goal {
        Goal::Faulted(BTreeMap::from([(2, faults)]))
    }

    const MARK: &str = "bring the mark of domain `demo-2` up to date: it is to be cut off";
    const UNMARK: &str = "bring the mark of domain `demo-2` up to date";
    const CUT: &str = "take the link of domain `demo-2` away";
    const HEAL: &str = "give domain `demo-2` its link again";

    #[test]
    fn the_mark_is_there_from_before_the_fault_until_after_it() {
        let (none, cut) = (Faults::default(), cut());
        for (mark, link, wanted, expected) in [
            (none, Link::Up, cut, &[MARK, CUT][..]),
            (cut, Link::Down, none, &[HEAL, UNMARK]),
            // A run was killed in between.
            (cut, Link::Up, cut, &[CUT]),
            (cut, Link::Between, cut, &[CUT]),
            (cut, Link::Between, none, &[HEAL, UNMARK]),
            (cut, Link::Up, none, &[UNMARK]),
            // It is so already.
            (cut, Link::Down, cut, &[]),
            (none, Link::Up, none, &[]),
            // Somebody else pulled the cable.
            (none, Link::Down, none, &[]),
        ] {
            let steps = said(faulted(wanted), &second(mark, link));
            assert_eq!(steps, expected, "{mark:?} {link:?} {wanted:?}");
        }
    }

    #[test]
    fn what_brings_a_lab_up_keeps_its_faults() {
        assert_eq!(said(Goal::Up, &second(cut(), Link::Down)), Vec::<String>::new());
        assert_eq!(said(Goal::Up, &second(cut(), Link::Between)), [CUT]);
        let mut off = second(cut(), Link::Up);
        off.domains.insert(2, DomainState::Off);
        let expected = [CUT, "start domain `demo-2` paused", "resume domain `demo-2`"];
        assert_eq!(said(Goal::Up, &off), expected);
        // Another power is wanted, and the fault stays.
        let stopped = plan(&lab(3), Goal::Paused([2].into()), &second(cut(), Link::Down));
        let desired = Desired { power: Power::Paused, faults: cut() };
        assert_eq!(stopped, [NodeStep::Mark(desired).of(2), NodeStep::Suspend.of(2)]);
    }

    #[test]
    fn a_node_without_a_domain_gets_no_fault() {
        let mut observed = complete(3);
        observed.domains.remove(&2);
        observed.marks.nodes.remove(&2);
        assert_eq!(said(faulted(cut()), &observed), Vec::<String>::new());
    }
}
