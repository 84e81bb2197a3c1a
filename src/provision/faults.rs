//! Breaks nodes on purpose, and heals them: one lab at a time, all its nodes at once.

use std::collections::BTreeMap;
use std::time::Duration;

use anyhow::{Context, Result};

use super::apply::{Applier, print_steps};
use super::filters;
use super::flaws;
use super::lab_lock::LabLock;
use super::limits;
use super::power::{Chosen, removed};
use super::rejoining;
use crate::boot_server::client::Client;
use crate::boot_server::recorder::now_ms;
use crate::error::hinted;
use crate::hypervisor::{Found, Hypervisor};
use crate::lab::fault::{FaultKind, FaultName, Faults, Term};
use crate::lab::node_set::NodeSet;
use crate::lab::plan::{self, DomainState, Goal, Observed};
use crate::session::Session;

/// What is done to nodes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum FaultVerb {
    /// Each gets this fault.
    Make(FaultKind),
    /// Each hears no other node of its lab.
    Isolate,
    /// Nodes of different groups do not hear each other.
    Partition(Vec<NodeSet>),
    /// They boot anew at once.
    Reset,
    /// All of their faults go.
    Heal,
    /// Those of their faults go that end by themselves, and whose time is over.
    HealOverdue,
}

impl FaultVerb {
    /// Its word on the command line.
    pub(crate) fn name(&self) -> &'static str {
        match self {
            Self::Make(kind) => kind.name().word(),
            Self::Isolate => "isolate",
            Self::Partition(_) => "partition",
            Self::Reset => "reset",
            Self::Heal | Self::HealOverdue => "heal",
        }
    }
}

/// How the faults of nodes are changed.
pub(crate) struct FaultChange<'a> {
    pub(crate) session: &'a Session<'a>,
    pub(crate) hypervisor: &'a Hypervisor,
    pub(crate) verb: FaultVerb,
    /// After which time the fault is healed; `None` if it stays.
    pub(crate) lasts: Option<Duration>,
    pub(crate) dry_run: bool,
    /// How long another virtlab that works on the lab is waited for.
    pub(crate) patience: Option<Duration>,
}

impl FaultChange<'_> {
    /// Changes the faults of these nodes, or prints the steps. Nothing but the nodes is looked at and changed.
    ///
    /// # Errors
    /// If it could not be done on all of them; the next run completes it.
    pub(crate) fn apply(&self, chosen: &Chosen) -> Result<()> {
        let Self { session, hypervisor, .. } = self;
        let take_lock =
            || LabLock::take(session, hypervisor, &chosen.lab, self.lock_name(), self.patience);
        let _alone = if self.dry_run { None } else { Some(take_lock()?) };
        let inventory = session.observe(hypervisor)?;
        let found = inventory.labs.get(&chosen.uuid).with_context(|| removed(&chosen.lab))?;
        let observed = Observed {
            domains: found.domains.clone(),
            marks: found.marks.clone(),
            in_force: flaws::in_force(hypervisor, found)?,
            autostart: found.autostart.clone(),
            ..Observed::default()
        };
        let steps = plan::plan(&found.lab, self.goal(found, chosen)?, &observed);
        let lost = self.lost_majority(found, chosen).filter(|_| !steps.is_empty());
        if let Some(lost) = lost {
            session.printer.warn(lost);
        }
        if self.dry_run {
            print_steps(session.printer, &found.lab, &steps);
            return Ok(());
        }
        // No mark goes while its fault is left.
        Applier::new(session, hypervisor, &found.lab, None)?.apply(&steps)
    }

    /// What the cluster loses by it. A partition leaves the majority to one side.
    fn lost_majority(&self, found: &Found, chosen: &Chosen) -> Option<String> {
        let forgets = match self.verb {
            FaultVerb::Make(FaultKind::Kill) | FaultVerb::Reset => true,
            FaultVerb::Make(FaultKind::Cut | FaultKind::Pause) => false,
            _ => return None,
        };
        rejoining::broken_majority(found, &chosen.nodes, forgets)
    }

    fn lock_name(&self) -> &'static str {
        if self.heals() { "heal" } else { "fault" }
    }

    fn heals(&self) -> bool {
        matches!(self.verb, FaultVerb::Heal | FaultVerb::HealOverdue)
    }

    fn goal(&self, found: &Found, chosen: &Chosen) -> Result<Goal> {
        if self.verb != FaultVerb::Reset {
            return Ok(Goal::Faulted(self.wanted(found, chosen)?));
        }
        refuse_missing(found, chosen)?;
        refuse_off(found, chosen)?;
        Ok(Goal::Reset(chosen.nodes.clone()))
    }

    /// The faults that nodes are to have.
    fn wanted(&self, found: &Found, chosen: &Chosen) -> Result<BTreeMap<u32, Faults>> {
        let nodes: NodeSet = chosen.nodes.iter().copied().collect();
        if !self.heals() {
            refuse_missing(found, chosen)?;
        }
        if self.lasts.is_some() {
            refuse_unserved(found, "heals faults (--for)")?;
        }
        if matches!(self.verb, FaultVerb::Make(FaultKind::Flap(_))) {
            refuse_unserved(found, "lets links come and go (--flap)")?;
        }
        let term = self.term(now_ms());
        let with = |(index, kind): (u32, FaultKind)| (index, found.faults(index).with(kind, term));
        match &self.verb {
            FaultVerb::Make(kind) => {
                let indices: Vec<u32> = nodes.iter().collect();
                limits::refuse_impossible(self.hypervisor, found, &indices, *kind)?;
                flaws::refuse_impossible(self.hypervisor, found, &indices, *kind)?;
                Ok(indices.into_iter().map(|index| with((index, *kind))).collect())
            }
            FaultVerb::Partition(groups) => {
                Ok(self.parted(found, groups)?.into_iter().map(with).collect())
            }
            FaultVerb::Isolate => {
                let all: NodeSet = found.domains.keys().copied().collect();
                let each = nodes.iter().map(|index| NodeSet::from_iter([index]));
                let groups: Vec<NodeSet> = each.chain([all.without(nodes)]).collect();
                Ok(self.parted(found, &groups)?.into_iter().map(with).collect())
            }
            FaultVerb::Heal => Ok(healed(found, nodes)),
            FaultVerb::HealOverdue => Ok(left(found, term.since_ms)),
            FaultVerb::Reset => Ok(BTreeMap::new()),
        }
    }

    /// From now on, for as long as it was asked for.
    fn term(&self, since_ms: u64) -> Term {
        let end = |lasts: Duration| {
            since_ms.saturating_add(u64::try_from(lasts.as_millis()).unwrap_or(u64::MAX))
        };
        Term { since_ms, until_ms: self.lasts.map(end) }
    }

    /// What keeps these groups apart.
    ///
    /// # Errors
    /// If it cannot be.
    fn parted(&self, found: &Found, groups: &[NodeSet]) -> Result<BTreeMap<u32, FaultKind>> {
        let parted = parted(groups);
        let indices: Vec<u32> = parted.keys().copied().collect();
        filters::refuse_impossible(self.hypervisor, found, &indices)?;
        Ok(parted)
    }
}

/// Each node is kept apart from those of all other groups.
fn parted(groups: &[NodeSet]) -> BTreeMap<u32, FaultKind> {
    let all = groups.iter().fold(NodeSet::default(), |all, group| all.union(*group));
    let of_group = |group: &NodeSet| {
        let others = all.without(*group);
        group.iter().map(move |index| (index, FaultKind::Partition(others))).collect::<Vec<_>>()
    };
    groups.iter().flat_map(of_group).collect()
}

/// These nodes have no faults any more, and nobody is kept apart from them.
fn healed(found: &Found, nodes: NodeSet) -> BTreeMap<u32, Faults> {
    let chosen = nodes.iter().map(|index| (index, Faults::default()));
    let others = found.faulty().filter(|index| !nodes.contains(*index));
    let others = others.map(|index| (index, found.faults(index).without(nodes)));
    chosen.chain(others).collect()
}

/// What is left at this time of the faults of all nodes. Of two that are kept apart, none is any more when it is over for one.
fn left(found: &Found, now_ms: u64) -> BTreeMap<u32, Faults> {
    let before = |index: u32| found.faults(index);
    let is_over = |index: &u32| {
        let is_apart = |faults: Faults| faults.has(FaultName::Partition);
        is_apart(before(*index)) && !is_apart(before(*index).left_at(now_ms))
    };
    let joined: NodeSet = found.faulty().filter(is_over).collect();
    let all = found.faulty().map(|index| (index, before(index).left_at(now_ms).without(joined)));
    all.filter(|(index, left)| before(*index) != *left).collect()
}

/// What is done later is done by the lab's boot server.
fn refuse_unserved(found: &Found, what: &str) -> Result<()> {
    let lab = &found.lab;
    if Client::new(lab)?.status().is_some() {
        return Ok(());
    }
    Err(hinted(
        format!("the boot server of lab `{}` does not answer, and it is what {what}", lab.name),
        format!("`virtlab create {}` brings it back", lab.name),
    ))
}

fn refuse_missing(found: &Found, chosen: &Chosen) -> Result<()> {
    let missing = chosen.nodes.iter().find(|index| !found.domains.contains_key(index));
    let Some(index) = missing else { return Ok(()) };
    Err(hinted(
        format!("the domain of node `{}` is missing", chosen.lab.node(*index)),
        format!("`virtlab create {}` completes the lab", chosen.lab),
    ))
}

/// A node that is off has no memory to lose.
fn refuse_off(found: &Found, chosen: &Chosen) -> Result<()> {
    let is_off = |index: &&u32| found.domains.get(index) == Some(&DomainState::Off);
    let Some(index) = chosen.nodes.iter().find(is_off) else { return Ok(()) };
    let node = chosen.lab.node(*index);
    let hint = if found.desired(*index).is_killed() {
        format!("`virtlab heal {node}` starts it")
    } else {
        format!("`virtlab start {node}` starts it")
    };
    Err(hinted(format!("node `{node}` is off, so there is nothing to reset"), hint))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::hypervisor::Inventory;
    use crate::lab::metadata::{Desired, Power};
    use crate::lab::plan::DomainMark;
    use crate::lab::tests::lab;

    #[test]
    fn nodes_of_different_groups_do_not_hear_each_other() {
        let set = |text: &str| text.parse::<NodeSet>().unwrap();
        let said = |groups: &[&str]| {
            let groups: Vec<NodeSet> = groups.iter().map(|group| set(group)).collect();
            let line = |(index, kind): (u32, FaultKind)| match kind {
                FaultKind::Partition(from) => format!("{index}: {from}"),
                other => panic!("{other:?} is no partition"),
            };
            parted(&groups).into_iter().map(line).collect::<Vec<_>>()
        };
        assert_eq!(said(&["1,2", "4"]), ["1: 4", "2: 4", "4: 1-2"]);
        assert_eq!(said(&["1", "2", "3,5"]), ["1: 2-3,5", "2: 1,3,5", "3: 1-2", "5: 1-2"]);
    }
    /// What is left at 10 ms of the faults of three nodes, of which the first two are kept apart until then.
    fn left_of(third: Faults) -> String {
        let set = |text: &str| text.parse::<NodeSet>().unwrap();
        let apart = |from: &str, until_ms| {
            let term = Term { since_ms: 1, until_ms };
            Faults::default().with(FaultKind::Partition(set(from)), term)
        };
        let cut = |faults: Faults| faults.with(FaultKind::Cut, Term::since(1));
        let mut inventory = Inventory::default();
        inventory.insert(lab(3));
        let mut found = inventory.take(&lab(3).name).unwrap();
        for (index, faults) in
            [(1, cut(apart("2-3", Some(10)))), (2, apart("1", Some(10))), (3, third)]
        {
            let desired = Desired { power: Power::On, faults };
            found.marks.nodes.insert(index, DomainMark { generation: 1, desired });
        }
        assert_eq!(left(&found, 9), BTreeMap::new());
        let lines = left(&found, 10).into_iter().map(|(index, left)| format!("{index}: {left}"));
        lines.collect::<Vec<_>>().join(", ")
    }

    #[test]
    fn of_two_that_are_kept_apart_none_is_when_the_time_of_one_is_over() {
        let with = |kind: FaultKind| Faults::default().with(kind, Term::since(1));
        let from = |text: &str| FaultKind::Partition(text.parse().unwrap());
        assert_eq!(left_of(with(FaultKind::Kill)), "1: cut=1, 2: ");
        assert_eq!(left_of(with(from("1"))), "1: cut=1, 2: , 3: ");
        assert_eq!(left_of(with(from("1,7"))), "1: cut=1, 2: , 3: partition=1:7");
    }
}
