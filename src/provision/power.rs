//! Changes the power of nodes: one lab at a time, all its nodes at once.

use std::collections::BTreeSet;
use std::time::Duration;

use anyhow::{Context, Result};
use uuid::Uuid;

use super::apply::{Applier, print_steps};
use super::discovery_url;
use super::draft::{self, Draft};
use super::lab_lock::LabLock;
use super::rejoining;
use super::shutdown::Shutdown;
use super::survey::CreateMode;
use super::teardown::stop_outdated_server;
use crate::boot_server::recorder::now_ms;
use crate::error::hinted;
use crate::hypervisor::{Found, Hypervisor};
use crate::images::Readiness;
use crate::lab::LabName;
use crate::lab::options::LabOptions;
use crate::lab::plan::{self, DomainState, Goal, NodeStep, Observed, PowerOff, Step};
use crate::session::Session;
use crate::status::targets::Target;

/// What is done with nodes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum PowerVerb {
    Start,
    Restart(PowerOff),
    Stop(PowerOff),
    Pause,
    Resume,
}

/// Some nodes of a lab.
#[derive(Clone, Debug)]
pub(crate) struct Chosen {
    pub(crate) lab: LabName,
    pub(crate) uuid: Uuid,
    /// Their indices.
    pub(crate) nodes: BTreeSet<u32>,
    /// Whether the lab was named, and not only nodes of it.
    pub(crate) is_whole: bool,
}

impl From<&Target<'_>> for Chosen {
    fn from(target: &Target) -> Self {
        let lab = target.lab();
        let nodes = target.nodes.iter().map(|node| node.index).collect();
        Self { lab: lab.name.clone(), uuid: lab.uuid, nodes, is_whole: target.is_whole }
    }
}

/// How the power of nodes is changed.
pub(crate) struct PowerChange<'a> {
    pub(crate) session: &'a Session<'a>,
    pub(crate) hypervisor: &'a Hypervisor,
    pub(crate) verb: PowerVerb,
    pub(crate) shutdown: Shutdown,
    /// Whether nodes are started even if the host has too little memory for them.
    pub(crate) overcommit: bool,
    pub(crate) dry_run: bool,
    /// How long another virtlab that works on the lab is waited for.
    pub(crate) patience: Option<Duration>,
}

/// The nodes that a run started.
#[derive(Debug, Default)]
pub(crate) struct Booted {
    pub(crate) nodes: BTreeSet<u32>,
    /// When the first of them was, at the earliest, in milliseconds since the epoch.
    pub(crate) since_ms: u64,
}

impl PowerVerb {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Start => "start",
            Self::Restart(_) => "restart",
            Self::Stop(_) => "stop",
            Self::Pause => "pause",
            Self::Resume => "resume",
        }
    }

    fn goal(self, nodes: BTreeSet<u32>) -> Goal {
        match self {
            Self::Start => Goal::Started(nodes),
            Self::Restart(how) => Goal::Restarted(nodes, how),
            Self::Stop(how) => Goal::Stopped(nodes, how),
            Self::Pause => Goal::Paused(nodes),
            Self::Resume => Goal::Resumed(nodes),
        }
    }
}

impl PowerChange<'_> {
    /// Changes the power of these nodes, or prints the steps.
    ///
    /// # Errors
    /// If it could not be done on all of them; each is told.
    pub(crate) fn apply(&self, chosen: &Chosen) -> Result<Booted> {
        let (session, verb) = (self.session, self.verb.name());
        let take_lock =
            || LabLock::take(session, self.hypervisor, &chosen.lab, verb, self.patience);
        let _alone = if self.dry_run { None } else { Some(take_lock()?) };
        match self.verb {
            PowerVerb::Start | PowerVerb::Restart(_) => self.bring_up(chosen),
            PowerVerb::Stop(_) | PowerVerb::Pause | PowerVerb::Resume => {
                self.switch(chosen)?;
                Ok(Booted::default())
            }
        }
    }

    /// What nodes need to boot is checked, prepared and brought back as `create` does it.
    pub(super) fn bring_up(&self, chosen: &Chosen) -> Result<Booted> {
        let (session, hypervisor) = (self.session, self.hypervisor);
        draft::refuse_remote(hypervisor, &chosen.lab)?;
        let options = LabOptions { name: Some(chosen.lab.clone()), ..LabOptions::default() };
        let mode = CreateMode {
            overcommit: self.overcommit,
            starts: Some(chosen.nodes.clone()),
            dry_run: self.dry_run,
            ..CreateMode::default()
        };
        let Draft { mut prepared, found, lock, .. } =
            draft::draft(session, hypervisor, &options, &mode)?;
        // It has its subnet.
        drop(lock);
        let found = found.filter(|found| found.lab.uuid == chosen.uuid);
        let found = found.with_context(|| removed(&chosen.lab))?;
        if !self.dry_run {
            stop_outdated_server(&prepared.lab)?;
            discovery_url::put(hypervisor, &mut prepared, None)?;
        }
        let lab = &prepared.lab;
        let applier = Applier {
            shutdown: self.shutdown,
            ..Applier::new(session, hypervisor, lab, Some(&prepared))?
        };
        let goal = self.verb.goal(chosen.nodes.clone());
        let lost = rejoining::lost_majority(&found, &goal);
        let steps = plan::plan(lab, goal, &applier.observed(Some(&found))?);
        let started = |step: &Step| match step {
            Step::Node(index, NodeStep::Start) => Some(*index),
            _ => None,
        };
        let nodes: BTreeSet<u32> = steps.iter().filter_map(started).collect();
        let is_new_cluster = is_new_cluster(&found, &nodes);
        let joins = !nodes.is_empty() && !is_new_cluster;
        let news = rejoining::cannot_rejoin(lab, &prepared.content).filter(|_| joins);
        let news = news.or(lost);
        if let Some(news) = news {
            session.printer.warn(news);
        }
        if self.dry_run {
            print_steps(session.printer, lab, &steps);
            return Ok(Booted::default());
        }
        let since_ms = now_ms();
        applier.apply(&steps)?;
        if is_new_cluster {
            session.printer.note(format!(
                "no node of lab `{}` ran, so its etcd is a new cluster, without what the old one held",
                lab.name
            ));
        }
        Ok(Booted { nodes, since_ms })
    }

    /// Nothing but the nodes is looked at and changed.
    fn switch(&self, chosen: &Chosen) -> Result<()> {
        let (session, hypervisor) = (self.session, self.hypervisor);
        let inventory = session.observe(hypervisor)?;
        let found = inventory.labs.get(&chosen.uuid).with_context(|| removed(&chosen.lab))?;
        if matches!(self.verb, PowerVerb::Pause | PowerVerb::Resume) {
            self.refuse_off(found, chosen)?;
        }
        let lab = &found.lab;
        let observed = Observed {
            domains: found.domains.clone(),
            marks: found.marks.clone(),
            ..Observed::default()
        };
        let goal = self.verb.goal(chosen.nodes.clone());
        let lost = rejoining::lost_majority(found, &goal);
        let steps = plan::plan(lab, goal, &observed);
        if let Some(lost) = lost {
            session.printer.warn(lost);
        }
        if self.dry_run {
            print_steps(session.printer, lab, &steps);
            return Ok(());
        }
        let applier =
            Applier { shutdown: self.shutdown, ..Applier::new(session, hypervisor, lab, None)? };
        applier.apply_all(&steps)
    }

    /// A node that is off can be neither paused nor resumed. Of a whole lab those are meant that run.
    fn refuse_off(&self, found: &Found, chosen: &Chosen) -> Result<()> {
        let is_off =
            |index: &&u32| matches!(found.domains.get(index), None | Some(DomainState::Off));
        let off: Vec<String> =
            chosen.nodes.iter().filter(is_off).map(|index| chosen.lab.node(*index)).collect();
        let verb = self.verb.name();
        if chosen.is_whole && off.len() == chosen.nodes.len() {
            return Err(hinted(
                format!("no node of lab `{}` runs, so there is nothing to {verb}", chosen.lab),
                format!("`virtlab start {}` starts them", chosen.lab),
            ));
        }
        if chosen.is_whole || off.is_empty() {
            return Ok(());
        }
        let (nodes, are) = if off.len() == 1 { ("node", "is") } else { ("nodes", "are") };
        Err(hinted(
            format!("{nodes} `{}` {are} off, so there is nothing to {verb}", off.join("`, `")),
            format!("`virtlab start {}` starts what is off", off.join(" ")),
        ))
    }
}

/// What etcd holds is in its members' memory: where all of them are off, it is gone.
fn is_new_cluster(found: &Found, started: &BTreeSet<u32>) -> bool {
    let mut domains = found.domains.iter().filter(|(index, _)| found.lab.is_voter(**index));
    let is_lost = |(index, state): (&u32, &DomainState)| {
        *state == DomainState::Off || started.contains(index)
    };
    let starts_one = started.iter().any(|index| found.lab.is_voter(*index));
    found.lab.spec.ready == Readiness::Etcd && starts_one && domains.all(is_lost)
}

pub(super) fn removed(lab: &LabName) -> String {
    format!("lab `{lab}` was removed meanwhile")
}
