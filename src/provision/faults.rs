//! Breaks nodes on purpose, and heals them: one lab at a time, all its nodes at once.

use std::collections::BTreeMap;
use std::time::Duration;

use anyhow::{Context, Result};

use super::apply::{Applier, print_steps};
use super::lab_lock::LabLock;
use super::power::{Chosen, removed};
use crate::boot_server::recorder::now_ms;
use crate::error::hinted;
use crate::hypervisor::{Found, Hypervisor};
use crate::lab::fault::{FaultKind, Faults};
use crate::lab::plan::{self, Goal, Observed};
use crate::session::Session;

/// What is done to nodes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum FaultVerb {
    /// They get this fault beside those that they have.
    Break(FaultKind),
    /// All of their faults go.
    Heal,
}

/// How the faults of nodes are changed.
pub(crate) struct FaultChange<'a> {
    pub(crate) session: &'a Session<'a>,
    pub(crate) hypervisor: &'a Hypervisor,
    pub(crate) verb: FaultVerb,
    pub(crate) dry_run: bool,
    /// How long another virtlab that works on the lab is waited for.
    pub(crate) patience: Option<Duration>,
}

impl FaultChange<'_> {
    /// Changes the faults of these nodes, or prints the steps. Nothing but the nodes is looked at and changed.
    ///
    /// # Errors
    /// If it could not be done on all of them; each is told.
    pub(crate) fn apply(&self, chosen: &Chosen) -> Result<()> {
        let Self { session, hypervisor, .. } = self;
        let take_lock =
            || LabLock::take(session, hypervisor, &chosen.lab, self.lock_name(), self.patience);
        let _alone = if self.dry_run { None } else { Some(take_lock()?) };
        let inventory = session.observe(hypervisor)?;
        let found = inventory.labs.get(&chosen.uuid).with_context(|| removed(chosen))?;
        let observed = Observed {
            domains: found.domains.clone(),
            marks: found.marks.clone(),
            links: found.links.clone(),
            ..Observed::default()
        };
        let wanted = self.wanted(found, chosen)?;
        let steps = plan::plan(&found.lab, Goal::Faulted(wanted), &observed);
        if self.dry_run {
            print_steps(session.printer, &found.lab, &steps);
            return Ok(());
        }
        Applier::new(session, hypervisor, &found.lab, None)?.apply_all(&steps)
    }

    fn lock_name(&self) -> &'static str {
        match self.verb {
            FaultVerb::Break(_) => "fault",
            FaultVerb::Heal => "heal",
        }
    }

    /// The faults that each of the nodes is to have.
    fn wanted(&self, found: &Found, chosen: &Chosen) -> Result<BTreeMap<u32, Faults>> {
        let FaultVerb::Break(kind) = self.verb else {
            return Ok(chosen.nodes.iter().map(|index| (*index, Faults::default())).collect());
        };
        let missing = chosen.nodes.iter().find(|index| !found.domains.contains_key(index));
        if let Some(index) = missing {
            return Err(hinted(
                format!("the domain of node `{}` is missing", chosen.lab.node(*index)),
                format!("`virtlab create {}` completes the lab", chosen.lab),
            ));
        }
        let now_ms = now_ms();
        let with = |index: &u32| (*index, found.faults(*index).with(kind, now_ms));
        Ok(chosen.nodes.iter().map(with).collect())
    }
}
