//! Makes a snapshot. Whatever goes wrong, the lab goes on, and what is not finished is removed.

use std::collections::BTreeMap;
use std::time::Duration;

use anyhow::{Result, bail};

use super::shelf::Shelf;
use super::shot::Shot;
use crate::boot_server::recorder::now_ms;
use crate::error::{all_errors, hinted};
use crate::hypervisor::{Found, Hypervisor};
use crate::lab::metadata::Power;
use crate::lab::plan::{self, DomainState, Goal, LabStep, NodeStep, Observed, Step};
use crate::lab::snapshot::{FORMAT, Manifest, SavedNode, SnapshotName};
use crate::lab::{Lab, LabName};
use crate::provision::apply::{Applier, print_steps};
use crate::provision::lab_lock::LabLock;
use crate::session::Session;
use crate::status::no_lab;
use crate::units::human_bytes;

/// How a snapshot is made.
pub(crate) struct Save<'a> {
    pub(crate) session: &'a Session<'a>,
    pub(crate) hypervisor: &'a Hypervisor,
    pub(crate) lab: &'a LabName,
    /// A number if nobody named it.
    pub(crate) name: Option<&'a SnapshotName>,
    pub(crate) dry_run: bool,
    /// How long another virtlab that works on the lab is waited for.
    pub(crate) patience: Option<Duration>,
}

impl Save<'_> {
    /// Makes it, or prints the steps and gives `None`.
    ///
    /// # Errors
    /// If it cannot be; the lab goes on.
    pub(crate) fn run(&self) -> Result<Option<Manifest>> {
        let Self { session, hypervisor, .. } = self;
        let take_lock =
            || LabLock::take(session, hypervisor, self.lab, "snapshot save", self.patience);
        let _alone = if self.dry_run { None } else { Some(take_lock()?) };
        let inventory = session.observe(hypervisor)?;
        let Some(found) = inventory.lab(self.lab) else {
            return Err(no_lab(&inventory, self.lab));
        };
        let lab = &found.lab;
        super::refuse_faults(found)?;
        refuse_incomplete(found)?;
        let shelf = Shelf::look(session, hypervisor, found)?;
        let name = self.free_name(lab, &shelf)?;
        self.refuse_disks(found)?;
        if !self.dry_run {
            shelf.sweep(session, hypervisor, lab)?;
        }
        self.refuse_without_room(found)?;
        let observed = Observed {
            domains: found.domains.clone(),
            marks: found.marks.clone(),
            ..Observed::default()
        };
        let steps = plan::plan(lab, Goal::Saved, &observed);
        if self.dry_run {
            print_steps(session.printer, lab, &steps);
            return Ok(None);
        }
        let shot = Shot { manifest: self.manifest(found, name)?, domains: BTreeMap::new() };
        let applier =
            Applier { snapshot: Some(&shot), ..Applier::new(session, hypervisor, lab, None)? };
        session.catch_signals()?;
        self.take(&applier, &shot, &steps)?;
        shot.with_lengths(hypervisor, lab).map(Some)
    }

    /// The nodes stand still no longer than it takes to save them, and run on whatever happened.
    fn take(&self, applier: &Applier, shot: &Shot, steps: &[Step]) -> Result<()> {
        let is_later = |step: &Step| {
            matches!(step, Step::Node(_, NodeStep::Resume) | Step::Lab(LabStep::WriteManifest))
        };
        let first_later = steps.iter().position(is_later).unwrap_or(steps.len());
        let (taking, later) = steps.split_at(first_later);
        let (resumes, rest): (Vec<Step>, Vec<Step>) =
            later.iter().partition(|step| matches!(step, Step::Node(..)));
        let taken = applier.apply(taking);
        let resumed = applier.apply_all(&resumes);
        let taken = taken.and_then(|()| self.session.refuse_interrupt());
        let written = if taken.is_ok() { applier.apply_all(&rest) } else { Ok(()) };
        if taken.is_err() || written.is_err() {
            self.take_back(applier.lab, shot);
        }
        all_errors(vec![taken, resumed, written])
    }

    fn take_back(&self, lab: &Lab, shot: &Shot) {
        let name = &shot.manifest.name;
        let memories = shot.manifest.saved().map(|node| name.memory_file(node.index));
        for file in std::iter::once(name.manifest_file()).chain(memories) {
            let delete = || {
                // What QEMU wrote is known to libvirt only after a look.
                self.hypervisor.stored_files(lab, |_| false)?;
                self.hypervisor.delete_file(lab, &file)
            };
            if let Err(error) = self.session.persistently(self.hypervisor, delete) {
                self.session.printer.warn(format!(
                    "{error:#}; the next `virtlab snapshot save {}` tries again",
                    lab.name
                ));
            }
        }
    }

    fn free_name(&self, lab: &Lab, shelf: &Shelf) -> Result<SnapshotName> {
        let Some(name) = self.name else { return Ok(SnapshotName::next(shelf.names())) };
        if shelf.names().any(|taken| taken == name) {
            return Err(hinted(
                format!("lab `{}` has a snapshot `{name}` already", lab.name),
                format!(
                    "give it another name, or remove the old one by `virtlab snapshot rm {} {name}`",
                    lab.name
                ),
            ));
        }
        Ok(name.clone())
    }

    fn refuse_disks(&self, found: &Found) -> Result<()> {
        let disks = || self.hypervisor.writable_disks(found);
        let disks = self.session.persistently(self.hypervisor, disks)?;
        if !disks.is_empty() {
            bail!(
                "nodes of lab `{}` write to disks ({}), and a snapshot saves memory only: disks are not saved yet",
                found.lab.name,
                disks.join(", ")
            );
        }
        Ok(())
    }

    /// What is saved of a node is what it has used of its memory, at the most.
    fn refuse_without_room(&self, found: &Found) -> Result<()> {
        let (hypervisor, lab) = (self.hypervisor, &found.lab);
        let look = || Ok((hypervisor.domain_memory(lab)?, hypervisor.free_space(lab)?));
        let (memory, free) = self.session.persistently(hypervisor, look)?;
        let size = lab.spec.memory.bytes();
        let on = found.domains.iter().filter(|(_, state)| **state != DomainState::Off);
        let needed: u64 = on
            .map(|(index, _)| {
                let resident = memory.get(index).and_then(|memory| memory.resident_bytes);
                resident.map_or(size, |resident| resident.min(size))
            })
            .sum();
        if needed <= free {
            return Ok(());
        }
        Err(hinted(
            format!(
                "a snapshot of lab `{}` takes up to {} in {}, where {} are free",
                lab.name,
                human_bytes(needed),
                lab.pool_path(),
                human_bytes(free)
            ),
            format!("`virtlab snapshot list {}` shows what could be removed", lab.name),
        ))
    }

    fn manifest(&self, found: &Found, name: SnapshotName) -> Result<Manifest> {
        let lab = &found.lab;
        let node = |index: u32| SavedNode { index, power: found.wanted(index), bytes: 0 };
        Ok(Manifest {
            format: FORMAT,
            name,
            uuid: lab.uuid,
            made_at_ms: now_ms(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            spec: lab.spec.clone(),
            host_cpu: self.hypervisor.capabilities()?.and_then(|host| host.cpu_model),
            nodes: (1..=lab.spec.nodes).map(node).collect(),
        })
    }
}

/// A node that somebody stopped is remembered so. What went down or went missing by itself is put right before.
fn refuse_incomplete(found: &Found) -> Result<()> {
    let lab = &found.lab;
    let name = &lab.name;
    let whole: Vec<u32> = (1..=lab.spec.nodes).collect();
    if !found.domains.keys().eq(&whole) {
        return Err(hinted(
            format!("lab `{name}` is not complete: its nodes are not those that it should have"),
            format!("`virtlab create {name}` completes it"),
        ));
    }
    let off = found.domains.iter().filter(|(_, state)| **state == DomainState::Off);
    let off: Vec<u32> = off.map(|(index, _)| *index).collect();
    if off.len() == whole.len() {
        return Err(hinted(
            format!("no node of lab `{name}` runs, so there is nothing to save"),
            format!("`virtlab start {name}` starts them"),
        ));
    }
    let down: Vec<String> = off
        .into_iter()
        .filter(|index| found.wanted(*index) != Power::Off)
        .map(|index| name.node(index))
        .collect();
    if down.is_empty() {
        return Ok(());
    }
    let nodes = down.join(" ");
    let (what, is, it) =
        if down.len() == 1 { ("node", "is", "it") } else { ("nodes", "are", "them") };
    Err(hinted(
        format!("{what} `{}` {is} off, though nobody stopped {it}", down.join("`, `")),
        format!(
            "`virtlab start {nodes}` starts what is off; `virtlab stop {nodes}` says that it is to be off"
        ),
    ))
}
