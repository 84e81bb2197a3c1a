//! The plans of faults. A mark says what is wrong with its node from before it is until after it was: what a run that was killed
//! has begun, the next one completes.

use std::collections::{BTreeMap, BTreeSet};

use super::{DomainState, NodeStep, Observed, Step, autostart};
use crate::lab::Lab;
use crate::lab::fault::{FaultKind, FaultName, Faults, Filter, Flaws, InForce, Level, Link, Wire};
use crate::lab::metadata::{Desired, Power};
use crate::lab::node_set::NodeSet;

/// `wanted` are the faults of some nodes; the others stay as they are.
pub(super) fn plan_faults(
    lab: &Lab,
    wanted: &BTreeMap<u32, Faults>,
    observed: &Observed,
) -> Vec<Step> {
    let there = wanted.iter().filter(|(index, _)| observed.domains.contains_key(index));
    let of_node = |(index, faults): (&u32, &Faults)| {
        let steps = changes(lab, *index, *faults, observed).into_iter();
        steps.map(|(phase, step)| (phase, step.of(*index))).collect::<Vec<_>>()
    };
    let mut steps: Vec<(Phase, Step)> = there.flat_map(of_node).collect();
    steps.sort_by_key(|(phase, _)| *phase);
    steps.into_iter().map(|(_, step)| step).collect()
}

/// What is done for all nodes before the next is begun.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Phase {
    Undo,
    Start,
    Resume,
    Mark,
    Make,
}

/// What gives a node these faults, and no others.
fn changes(lab: &Lab, index: u32, faults: Faults, observed: &Observed) -> Vec<(Phase, NodeStep)> {
    let marked = observed.desired(index);
    let wanted = Desired { faults, ..marked };
    let in_force = InForce::of(index, observed);
    let less = in_force.heal(marked.faults, faults);
    let more = in_force.keep(faults).into_iter().filter(|step| !less.contains(step));
    let mut steps: Vec<(Phase, NodeStep)> = more.map(|step| (Phase::Make, step)).collect();
    steps.extend(less.into_iter().map(|step| (Phase::Undo, step)));
    let (before, after) = (marked.faults.flaws(), faults.flaws());
    let is_less = after != before && after.also(before) == before;
    let phase = if is_less { Phase::Undo } else { Phase::Make };
    let is_on = observed.domains[&index] != DomainState::Off;
    steps.extend(in_force.spoil(before, after, is_on).map(|step| (phase, step)));
    let mark = observed.marks.nodes.get(&index);
    let is_old = mark.is_none_or(|mark| mark.generation < lab.generation);
    if marked != wanted || is_old {
        steps.push((Phase::Mark, NodeStep::Mark(wanted)));
    }
    if marked.faults.are_of_power() || faults.are_of_power() {
        let flag = autostart::node_step(lab, index, wanted.effective_power(), observed);
        steps.extend(flag.map(|step| (Phase::Mark, step)));
        steps.extend(power_steps(marked, wanted, observed.domains[&index]));
    }
    steps
}

/// What brings a node to the power that it is to have by its faults. One that is off for another reason stays off.
fn power_steps(marked: Desired, wanted: Desired, state: DomainState) -> Vec<(Phase, NodeStep)> {
    let is_revived = marked.is_killed() && !wanted.is_killed();
    let (start, resume) = ((Phase::Start, NodeStep::Start), (Phase::Resume, NodeStep::Resume));
    match (wanted.effective_power(), state) {
        (Power::Off, DomainState::Running | DomainState::Paused) if wanted.is_killed() => {
            vec![(Phase::Make, NodeStep::Stop)]
        }
        (Power::Paused, DomainState::Running) => vec![(Phase::Make, NodeStep::Suspend)],
        (Power::Paused, DomainState::Off) if is_revived => vec![start],
        (Power::On, DomainState::Paused) => vec![resume],
        (Power::On, DomainState::Off) if is_revived => vec![start, resume],
        _ => Vec::new(),
    }
}

/// Those of these nodes that are not off boot anew.
pub(super) fn plan_reset(nodes: &BTreeSet<u32>, observed: &Observed) -> Vec<Step> {
    let domains = observed.domains.iter().filter(|(index, _)| nodes.contains(index));
    let on = domains.filter(|(_, state)| **state != DomainState::Off);
    on.map(|(index, _)| NodeStep::Reset.of(*index)).collect()
}

/// What brings nodes to the faults that their marks say they have.
pub(super) fn plan_kept(lab: &Lab, observed: &Observed) -> Vec<Step> {
    let members = observed.marks.nodes.iter().filter(|(index, _)| **index <= lab.spec.nodes);
    let steps = members.flat_map(|(index, mark)| {
        let in_force = InForce::of(*index, observed);
        let flaws = mark.desired.faults.flaws();
        let is_on = observed.domains.get(index).is_some_and(|state| *state != DomainState::Off);
        let spoilt = in_force.spoil(flaws, flaws, is_on);
        let steps = in_force.keep(mark.desired.faults).into_iter().chain(spoilt);
        steps.map(|step| step.of(*index)).collect::<Vec<_>>()
    });
    steps.collect()
}

/// What takes away of a node's faults that goes with its domain and is no part of it.
pub(super) fn plan_unmade(index: u32, observed: &Observed) -> Vec<Step> {
    let is_there = InForce::of(index, observed).filter != Filter::Absent;
    let faults = observed.desired(index).faults;
    let joined = (is_there || faults.has(FaultName::Partition)).then_some(NodeStep::Join);
    let lost = Flaws { loss: faults.flaws().loss, ..Flaws::default() };
    // What netem does goes with the network cards.
    let lossless = NodeStep::SetFlaws { from: lost, to: Flaws::default() };
    let lossless = (!lost.is_empty()).then_some(lossless);
    joined.into_iter().chain(lossless).map(|step| step.of(index)).collect()
}

/// A node that starts has new network cards, and what spoilt the packets of the old ones is gone.
pub(super) fn spoil_starts(steps: &[Step], observed: &Observed) -> Vec<Step> {
    let mut wanted = BTreeMap::new();
    for step in steps {
        if let Step::Node(index, NodeStep::Mark(desired) | NodeStep::Redefine(desired)) = step {
            wanted.insert(*index, desired.faults.flaws());
        }
    }
    let flaws = |index: u32| {
        let marked = || observed.desired(index).faults.flaws();
        wanted.get(&index).copied().unwrap_or_else(marked)
    };
    let is_start =
        |step: &&Step| matches!(step, Step::Node(_, NodeStep::Start | NodeStep::RestoreMemory(_)));
    let spoilt = steps.iter().filter(is_start).filter_map(|step| match step {
        Step::Node(index, _) if !flaws(*index).is_empty() => {
            Some(NodeStep::SetFlaws { from: flaws(*index), to: flaws(*index) }.of(*index))
        }
        _ => None,
    });
    let spoilt: Vec<Step> = spoilt.collect();
    let after = steps.iter().rposition(|step| is_start(&step)).map_or(0, |last| last + 1);
    let (before, after) = steps.split_at(after);
    [before, &spoilt, after].concat()
}

impl InForce {
    fn of(index: u32, observed: &Observed) -> Self {
        observed.in_force.get(&index).copied().unwrap_or_default()
    }

    /// What undoes that which its mark wanted until now and nobody wants any more.
    fn heal(self, marked: Faults, wanted: Faults) -> Vec<NodeStep> {
        let mut steps = Vec::new();
        let is_over = |name| marked.has(name) && !wanted.has(name);
        if is_over(FaultName::Cut) && self.link != Link::Up {
            steps.push(NodeStep::RestoreLink);
        }
        let over = FaultName::ALL.into_iter().filter(|name| is_over(*name));
        let limits = over.filter_map(FaultName::limit);
        let set = limits.filter(|limit| self.limits.get(*limit) != Level::Absent);
        steps.extend(set.map(NodeStep::Unlimit));
        let Some(marked) = marked.apart_from() else { return steps };
        match wanted.apart_from() {
            None => steps.extend((self.filter != Filter::Absent).then_some(NodeStep::Join)),
            Some(wanted) if !marked.without(wanted).is_empty() => {
                steps.extend(self.part(wanted));
            }
            Some(_) => {}
        }
        steps
    }

    /// What makes its faults, as far as they are not made.
    fn keep(self, wanted: Faults) -> Vec<NodeStep> {
        // Of one that comes and goes, what libvirt keeps has no link.
        let is_cut = |kind| match kind {
            FaultKind::Flap(_) => self.link != Link::Up,
            _ => self.link == Link::Down,
        };
        let cut = wanted.get(FaultName::Cut).is_some_and(|fault| !is_cut(fault.kind));
        let cut = cut.then_some(NodeStep::CutLink);
        let part = wanted.apart_from().and_then(|from| self.part(from));
        let limits = wanted.iter().filter_map(|fault| fault.kind.limit());
        let unset = limits.filter(|it| self.limits.get(it.name()) != Level::InForce(*it));
        cut.into_iter().chain(part).chain(unset.map(NodeStep::Limit)).collect()
    }

    /// What brings the packets of a node from the flaws `before`, which its mark wanted until now, to those `after`. What is off has no
    /// network cards that the host knows.
    fn spoil(self, before: Flaws, after: Flaws, is_on: bool) -> Option<NodeStep> {
        let is_needed = if after.is_empty() {
            !before.is_empty() && self.wire != Wire::Whole
        } else {
            let is_so = matches!(self.wire, Wire::Unseen) || self.wire == Wire::InForce(after);
            is_on && (before != after || !is_so)
        };
        is_needed.then_some(NodeStep::SetFlaws { from: before.also(after), to: after })
    }

    fn part(self, from: NodeSet) -> Option<NodeStep> {
        (self.filter != Filter::InForce(from)).then_some(NodeStep::Part(from))
    }
}

#[cfg(test)]
#[expect(clippy::large_stack_arrays, reason = "tables of what nodes are to have")]
mod tests {
    use super::super::tests::complete;
    use super::super::{Goal, plan};
    use super::*;
    use crate::lab::fault::{LimitName, Limits, Term};
    use crate::lab::tests::lab;

    fn cut() -> Faults {
        Faults::default().with(FaultKind::Cut, Term::since(7))
    }

    /// Three nodes, of which the second one has this fault in its mark and this link.
    fn second(faults: Faults, link: Link) -> Observed {
        let mut observed = complete(3);
        observed.marks.nodes.get_mut(&2).unwrap().desired.faults = faults;
        observed.in_force.insert(2, InForce { link, ..InForce::default() });
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
    fn a_link_that_comes_and_goes_is_taken_away_once() {
        let flap = of_power(FaultKind::Flap("2s".parse().unwrap()));
        for (mark, link, wanted, expected) in [
            (Faults::default(), Link::Up, flap, &[MARK, CUT][..]),
            (flap, Link::Down, flap, &[]),
            (flap, Link::Between, flap, &[]),
            (flap, Link::Up, flap, &[CUT]),
            (flap, Link::Between, Faults::default(), &[HEAL, UNMARK]),
            (flap, Link::Between, cut(), &[MARK, CUT]),
            (cut(), Link::Down, flap, &[MARK]),
        ] {
            let steps = said(faulted(wanted), &second(mark, link));
            assert_eq!(steps, expected, "{mark} {link:?} {wanted}");
        }
    }

    #[test]
    fn what_is_wrong_with_packets_is_brought_from_this_to_that() {
        let faults = |text: &str| text.parse::<Faults>().unwrap();
        let flaws = |text: &str| faults(text).flaws();
        let (loss, both) = (faults("loss=7:20%"), faults("delay=7:100ms loss=7:20%"));
        let set = |from: &str, to: &str| NodeStep::SetFlaws { from: flaws(from), to: flaws(to) };
        let mark = |faults: &str| {
            let faults = faults.parse().unwrap();
            NodeStep::Mark(Desired { power: Power::On, faults })
        };
        let (l, b, m) = ("loss=7:20%", "delay=7:100ms loss=7:20%", "loss=7:50%");
        let in_force = |text: &str| Wire::InForce(flaws(text));
        for (marked, wire, wanted, steps) in [
            (Faults::default(), Wire::Unseen, loss, vec![mark(l), set(l, l)]),
            (loss, in_force(l), loss, vec![]),
            (loss, Wire::Unseen, loss, vec![]),
            // A run was killed in between.
            (loss, Wire::Whole, loss, vec![set(l, l)]),
            (loss, Wire::Between, loss, vec![set(l, l)]),
            (loss, in_force(l), both, vec![mark(b), set(b, b)]),
            (loss, in_force(l), faults(m), vec![mark(m), set(l, m)]),
            // No mark goes while its fault is left.
            (both, in_force(b), loss, vec![set(b, l), mark(l)]),
            (both, Wire::Between, Faults::default(), vec![set(b, ""), mark("")]),
            (both, Wire::Whole, Faults::default(), vec![mark("")]),
        ] {
            let mut observed = second(marked, Link::Up);
            observed.in_force.insert(2, InForce { wire, ..InForce::default() });
            let steps: Vec<Step> = steps.into_iter().map(|step| step.of(2)).collect();
            assert_eq!(
                plan(&lab(3), faulted(wanted), &observed),
                steps,
                "{marked} {wire:?} {wanted}"
            );
        }
    }

    #[test]
    fn a_node_that_starts_has_bad_packets_before_it_runs() {
        let faults: Faults = "delay=7:100ms loss=7:20%".parse().unwrap();
        let set = NodeStep::SetFlaws { from: faults.flaws(), to: faults.flaws() }.of(2);
        let mut off = second(faults, Link::Up);
        off.domains.insert(2, DomainState::Off);
        let up = [NodeStep::Start.of(2), set, NodeStep::Resume.of(2)];
        assert_eq!(plan(&lab(3), Goal::Up, &off), up);
        assert_eq!(plan(&lab(3), Goal::Started([2].into()), &off), up);
        // Of a domain that goes, what is no part of it is left.
        let lost = Flaws { delay: None, ..faults.flaws() };
        let gone = plan(&lab(3), Goal::Gone, &off);
        assert!(gone.contains(&NodeStep::SetFlaws { from: lost, to: Flaws::default() }.of(2)));
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

    fn of_power(kind: FaultKind) -> Faults {
        Faults::default().with(kind, Term::since(7))
    }

    /// Three nodes, of which the second one is in this state, and this is wanted of it.
    fn second_wanted(power: Power, faults: Faults, state: DomainState) -> Observed {
        let mut observed = complete(3);
        observed.marks.nodes.get_mut(&2).unwrap().desired = Desired { power, faults };
        observed.domains.insert(2, state);
        observed
    }

    const START: &str = "start domain `demo-2` paused";
    const RESUME: &str = "resume domain `demo-2`";
    const DESTROY: &str = "destroy domain `demo-2`";
    const SUSPEND: &str = "suspend domain `demo-2`";

    #[test]
    fn a_fault_takes_the_power_of_a_node_that_is_wanted_to_have_it() {
        use DomainState::{Off, Paused, Running};
        let (none, kill, pause) =
            (Faults::default(), of_power(FaultKind::Kill), of_power(FaultKind::Pause));
        let both = kill.with(FaultKind::Pause, Term::since(7));
        let mark = |what: &str| format!("{UNMARK}: it is to be {what}");
        let (killed, paused) = (mark("killed"), mark("paused"));
        for (power, marked, state, wanted, expected) in [
            (Power::On, none, Running, kill, vec![killed.as_str(), DESTROY]),
            (Power::On, kill, Off, none, vec![START, RESUME, UNMARK]),
            (Power::On, none, Running, pause, vec![&paused, SUSPEND]),
            (Power::On, pause, Paused, none, vec![RESUME, UNMARK]),
            // A run was killed in between.
            (Power::On, kill, Running, kill, vec![DESTROY]),
            (Power::On, kill, Paused, none, vec![RESUME, UNMARK]),
            (Power::On, pause, Running, pause, vec![SUSPEND]),
            (Power::On, pause, Running, none, vec![UNMARK]),
            // It is so already.
            (Power::On, kill, Off, kill, vec![]),
            (Power::On, pause, Paused, pause, vec![]),
            // Both, and one of them is enough.
            (Power::On, pause, Paused, both, vec![&mark("paused and killed"), DESTROY]),
            (Power::On, both, Off, pause, vec![START, &paused]),
            // Somebody stopped or paused the node by a power verb, and it stays so.
            (Power::Off, none, Off, kill, vec![&mark("off and killed")]),
            (Power::Off, kill, Off, none, vec![&mark("off")]),
            (Power::Off, pause, Off, none, vec![&mark("off")]),
            (Power::Paused, pause, Paused, none, vec![&mark("paused")]),
            (Power::Paused, kill, Off, none, vec![START, &mark("paused")]),
            // It went off by itself.
            (Power::On, pause, Off, none, vec![UNMARK]),
            (Power::On, none, Off, cut(), vec![MARK, CUT]),
        ] {
            let steps = said(faulted(wanted), &second_wanted(power, marked, state));
            assert_eq!(steps, expected, "{power:?} {marked:?} {state:?} {wanted:?}");
        }
    }

    #[test]
    fn power_verbs_and_what_brings_a_lab_up_keep_a_node_killed_or_paused() {
        use DomainState::{Off, Paused, Running};
        let (kill, pause) = (of_power(FaultKind::Kill), of_power(FaultKind::Pause));
        let second = || BTreeSet::from([2]);
        let restarted = || Goal::Restarted(second(), super::super::PowerOff::Plug);
        let stopped = || Goal::Stopped(second(), super::super::PowerOff::Plug);
        let (off, on) = (
            format!("{UNMARK}: it is to be off and killed"),
            format!("{UNMARK}: it is to be killed"),
        );
        for (goal, power, faults, state, expected) in [
            (Goal::Up, Power::On, kill, Off, vec![]),
            (Goal::Up, Power::On, pause, Paused, vec![]),
            (Goal::Up, Power::On, kill, Running, vec![DESTROY]),
            (Goal::Up, Power::On, pause, Off, vec![START]),
            (Goal::Started(second()), Power::Off, kill, Off, vec![on.as_str()]),
            (Goal::Started(second()), Power::On, kill, Off, vec![]),
            (restarted(), Power::On, pause, Paused, vec![DESTROY, START]),
            (restarted(), Power::On, kill, Off, vec![]),
            (stopped(), Power::On, kill, Off, vec![&off]),
            (Goal::Resumed(second()), Power::On, pause, Paused, vec![]),
            (
                Goal::Paused(second()),
                Power::On,
                pause,
                Paused,
                vec!["bring the mark of domain `demo-2` up to date: it is to be paused"],
            ),
        ] {
            let steps = said(goal.clone(), &second_wanted(power, faults, state));
            assert_eq!(steps, expected, "{goal:?} {power:?} {faults:?} {state:?}");
        }
    }

    #[test]
    fn a_killed_node_does_not_come_back_with_its_host() {
        let mut lab = lab(3);
        lab.spec.autostart = true;
        let kill = of_power(FaultKind::Kill);
        let steps = |marked, state, wanted, has: bool| {
            let mut observed = second_wanted(Power::On, marked, state);
            observed.autostart.nodes = if has { [1, 2, 3].into() } else { [1, 3].into() };
            let steps = plan(&lab, faulted(wanted), &observed);
            steps
                .into_iter()
                .filter(|step| matches!(step, Step::Node(_, NodeStep::Autostart(_))))
                .collect::<Vec<_>>()
        };
        let none = Faults::default();
        assert_eq!(
            steps(none, DomainState::Running, kill, true),
            [NodeStep::Autostart(false).of(2)]
        );
        assert_eq!(steps(kill, DomainState::Off, none, false), [NodeStep::Autostart(true).of(2)]);
        assert_eq!(steps(none, DomainState::Running, cut(), false), []);
    }

    #[test]
    fn those_that_are_not_off_are_reset() {
        let mut observed = complete(3);
        observed.domains.insert(2, DomainState::Off);
        observed.domains.insert(3, DomainState::Paused);
        let steps = plan(&lab(3), Goal::Reset([1, 2, 3].into()), &observed);
        assert_eq!(steps, [NodeStep::Reset.of(1), NodeStep::Reset.of(3)]);
    }

    #[test]
    fn a_node_without_a_domain_gets_no_fault() {
        let mut observed = complete(3);
        observed.domains.remove(&2);
        observed.marks.nodes.remove(&2);
        assert_eq!(said(faulted(cut()), &observed), Vec::<String>::new());
    }

    fn apart(from: &str) -> Faults {
        Faults::default().with(FaultKind::Partition(set(from)), Term::since(7))
    }

    fn set(text: &str) -> NodeSet {
        text.parse().unwrap()
    }

    /// Three nodes, of which the second one has this fault in its mark and this filter.
    fn second_filtered(faults: Faults, filter: Filter) -> Observed {
        let mut observed = second(faults, Link::Up);
        observed.in_force.insert(2, InForce { filter, ..InForce::default() });
        observed
    }

    const JOIN: &str = "let domain `demo-2` hear all nodes again";
    const MARK_APART: &str =
        "bring the mark of domain `demo-2` up to date: it is to be kept apart from others";

    fn part(from: &str) -> String {
        format!("keep domain `demo-2` apart from nodes {from}")
    }

    #[test]
    fn a_node_is_kept_apart_from_those_that_its_mark_names() {
        let none = Faults::default();
        let (absent, between) = (Filter::Absent, Filter::Between);
        let force = |from: &str| Filter::InForce(set(from));
        for (mark, filter, wanted, expected) in [
            (none, absent, apart("1"), vec![MARK_APART.to_owned(), part("1")]),
            (apart("1"), force("1"), none, vec![JOIN.to_owned(), UNMARK.to_owned()]),
            (apart("1"), force("1"), apart("1,3"), vec![MARK_APART.to_owned(), part("1,3")]),
            // Another node is healed: first the effect, then the mark.
            (apart("1,3"), force("1,3"), apart("1"), vec![part("1"), MARK_APART.to_owned()]),
            // A run was killed in between.
            (apart("1"), absent, apart("1"), vec![part("1")]),
            (apart("1"), between, apart("1"), vec![part("1")]),
            (apart("1"), between, none, vec![JOIN.to_owned(), UNMARK.to_owned()]),
            (apart("1"), force("1"), apart("1"), vec![]),
            (none, absent, none, vec![]),
        ] {
            let steps = said(faulted(wanted), &second_filtered(mark, filter));
            assert_eq!(steps, expected, "{mark:?} {filter:?} {wanted:?}");
        }
        let kept = said(Goal::Up, &second_filtered(apart("1"), between));
        assert_eq!(kept, [part("1")]);
        assert_eq!(said(Goal::Up, &second_filtered(apart("1"), force("1"))), Vec::<String>::new());
    }

    #[test]
    fn a_node_is_held_to_the_limit_that_its_mark_names() {
        let starve = |percent: &str| {
            let kind = FaultKind::Starve(percent.parse().unwrap());
            (of_power(kind), kind.limit().unwrap())
        };
        let (none, (tenth, limit)) = (Faults::default(), starve("10%"));
        let (half, half_limit) = starve("50%");
        let mark = format!("{UNMARK}: it is to be starved");
        let hold = |share: &str| format!("hold domain `demo-2` to {share} of its processors");
        let free = "let domain `demo-2` have all of its processors again".to_owned();
        let in_force = Level::InForce;
        for (marked, level, wanted, expected) in [
            (none, Level::Absent, tenth, vec![mark.clone(), hold("10%")]),
            (tenth, in_force(limit), none, vec![free.clone(), UNMARK.to_owned()]),
            (tenth, in_force(limit), half, vec![mark.clone(), hold("50%")]),
            // A run was killed in between.
            (tenth, Level::Between, tenth, vec![hold("10%")]),
            (half, in_force(limit), half, vec![hold("50%")]),
            (tenth, Level::Between, none, vec![free, UNMARK.to_owned()]),
            (tenth, Level::Absent, none, vec![UNMARK.to_owned()]),
            // It is so already.
            (half, in_force(half_limit), half, vec![]),
            (none, Level::Absent, none, vec![]),
        ] {
            let mut observed = second(marked, Link::Up);
            let limits = Limits::default().with(LimitName::Cpu, level);
            observed.in_force.insert(2, InForce { limits, ..InForce::default() });
            let steps = said(faulted(wanted), &observed);
            assert_eq!(steps, expected, "{marked} {level:?} {wanted}");
        }
    }

    #[test]
    fn no_filter_outlives_its_domain() {
        let parted = |observed: &Observed, goal: Goal, lab: &Lab| {
            let steps = plan(lab, goal, observed);
            let place = |step: Step| steps.iter().position(|it| *it == step);
            let (join, undefine) = (NodeStep::Join.of(2), NodeStep::Undefine.of(2));
            assert!(undefine.waits_for(join));
            place(join).zip(place(undefine)).is_some_and(|(join, undefine)| join < undefine)
        };
        for (mark, filter) in [
            (apart("1"), Filter::InForce(set("1"))),
            (apart("1"), Filter::Absent),
            (Faults::default(), Filter::Between),
        ] {
            let observed = second_filtered(mark, filter);
            assert!(parted(&observed, Goal::Gone, &lab(3)), "{mark:?} {filter:?}");
            assert!(parted(&observed, Goal::Up, &lab(1)), "{mark:?} {filter:?}");
        }
        assert!(!parted(&complete(3), Goal::Gone, &lab(3)));
    }
}
