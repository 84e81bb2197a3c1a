//! Brings a lab back to a snapshot. What its nodes do now is thrown away, so everything that can be is looked at before.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use anyhow::{Context, Result, bail};

use super::shelf::{Kept, Shelf};
use super::shot::Shot;
use crate::boot_server::recorder::now_ms;
use crate::error::hinted;
use crate::hypervisor::{Connection, Found, Hypervisor, Inventory};
use crate::lab::metadata::Power;
use crate::lab::plan::{self, Activity, Goal};
use crate::lab::snapshot::{Manifest, SnapshotName};
use crate::lab::spec::VirtType;
use crate::lab::{Lab, LabName};
use crate::provision::apply::{Applier, print_steps};
use crate::provision::lab_lock::LabLock;
use crate::provision::power::{Booted, Chosen, PowerChange, PowerVerb};
use crate::provision::shutdown::Shutdown;
use crate::provision::teardown::stop_outdated_server;
use crate::session::Session;
use crate::status::no_lab;

/// How a snapshot is brought back.
pub(crate) struct Restore<'a> {
    pub(crate) session: &'a Session<'a>,
    pub(crate) hypervisor: &'a Hypervisor,
    pub(crate) lab: &'a LabName,
    /// The newest one if nobody named it.
    pub(crate) name: Option<&'a SnapshotName>,
    pub(crate) dry_run: bool,
    /// How long another virtlab that works on the lab is waited for.
    pub(crate) patience: Option<Duration>,
}

/// A lab that was brought back.
pub(crate) struct Restored {
    pub(crate) manifest: Manifest,
    pub(crate) found: Found,
    /// The nodes that run.
    pub(crate) booted: Booted,
}

impl Restore<'_> {
    /// Brings it back, or prints the steps and gives `None`.
    ///
    /// # Errors
    /// If it cannot be. What is found out before anything is stopped leaves the lab as it is.
    pub(crate) fn run(&self) -> Result<Option<Restored>> {
        let Self { session, hypervisor, .. } = self;
        let take_lock =
            || LabLock::take(session, hypervisor, self.lab, "snapshot restore", self.patience);
        let _alone = if self.dry_run { None } else { Some(take_lock()?) };
        let mut found = self.look()?;
        super::refuse_faults(&found)?;
        let shelf = Shelf::look(session, hypervisor, &found)?;
        let kept = shelf.find(&found.lab, self.name)?;
        self.refuse(&found.lab, kept)?;
        let shot = self.shot(&found.lab, kept)?;
        if !self.dry_run {
            session.catch_signals()?;
            stop_outdated_server(&found.lab)?;
        }
        if !self.is_served(&found)? {
            self.bring_up(&found)?;
            found = self.look()?;
        }
        let lab = &found.lab;
        let applier =
            Applier { snapshot: Some(&shot), ..Applier::new(session, hypervisor, lab, None)? };
        let goal = Goal::Restored(shot.manifest.powers());
        let steps = plan::plan(lab, goal, &applier.observed(Some(&found))?);
        if self.dry_run {
            print_steps(session.printer, lab, &steps);
            return Ok(None);
        }
        let since_ms = now_ms();
        let name = &shot.manifest.name;
        applier.apply(&steps).with_context(|| {
            session.printer.note(format!(
                "snapshot `{name}` is still there: `virtlab snapshot restore {} {name}` tries again",
                lab.name
            ));
            format!("restoring snapshot `{name}` of lab `{}`", lab.name)
        })?;
        let on = shot.manifest.nodes.iter().filter(|node| node.power == Power::On);
        let booted = Booted { nodes: on.map(|node| node.index).collect(), since_ms };
        Ok(Some(Restored { found: self.look()?, manifest: shot.manifest, booted }))
    }

    fn look(&self) -> Result<Found> {
        let inventory: Inventory = self.session.observe(self.hypervisor)?;
        inventory.lab(self.lab).cloned().ok_or_else(|| no_lab(&inventory, self.lab))
    }

    /// What can be told before the lab is touched.
    fn refuse(&self, lab: &Lab, kept: &Kept) -> Result<()> {
        let Kept { manifest, damage } = kept;
        let name = &manifest.name;
        if let Err(error) = manifest.require_same(lab) {
            let (then, now) = (manifest.spec.nodes, lab.spec.nodes);
            let hint = if manifest.uuid == lab.uuid && then != now {
                format!("`virtlab scale {} {then}` makes them as many as they were", lab.name)
            } else {
                format!("`virtlab snapshot rm {} {name}` removes it", lab.name)
            };
            return Err(hinted(error.to_string(), hint));
        }
        if let Some(damage) = damage {
            return Err(hinted(
                format!("snapshot `{name}` of lab `{}` is damaged: {damage}", lab.name),
                format!("`virtlab snapshot rm {} {name}` removes it", lab.name),
            ));
        }
        let (then, host) = (&manifest.host_cpu, self.hypervisor.capabilities()?);
        let now = host.and_then(|host| host.cpu_model);
        if let (VirtType::Kvm, Some(then), Some(now)) = (lab.spec.virt_type, then, now)
            && *then != now
        {
            bail!(
                "snapshot `{name}` was made on a processor of model {then}, and this host has {now}: its nodes would not \
                 go on there"
            );
        }
        Ok(())
    }

    /// The domains as they were, which libvirt gives only of files that are whole.
    fn shot(&self, lab: &Lab, kept: &Kept) -> Result<Shot> {
        let mut shot = Shot { manifest: kept.manifest.clone(), domains: BTreeMap::new() };
        let nodes: Vec<u32> = shot.manifest.saved().map(|node| node.index).collect();
        let read = |connection: &Connection, index: &u32| {
            Hypervisor::saved_domain(connection, lab, *index, &shot.path(lab, *index))
        };
        let read = || {
            let all = self.hypervisor.in_parallel(&nodes, read);
            nodes.iter().copied().zip(all).map(|(index, xml)| Ok((index, xml?))).collect()
        };
        let domains = self.session.persistently(self.hypervisor, read);
        shot.domains = domains.with_context(|| {
            format!("snapshot `{}` of lab `{}` is damaged", kept.manifest.name, lab.name)
        })?;
        Ok(shot)
    }

    /// Whether all is there that nodes need beside themselves.
    fn is_served(&self, found: &Found) -> Result<bool> {
        let applier = Applier::new(self.session, self.hypervisor, &found.lab, None)?;
        let observed = applier.observed(Some(found))?;
        let has_network = found.lab.spec.network.managed().is_none()
            || (observed.network == Some(Activity::Active) && observed.dhcp);
        let has_domains = (1..=found.lab.spec.nodes).all(|it| found.domains.contains_key(&it));
        Ok(has_network && has_domains && observed.boot_server)
    }

    /// Brings back, as `start` does it, what there is beside the nodes, and starts none of them.
    fn bring_up(&self, found: &Found) -> Result<()> {
        let change = PowerChange {
            session: self.session,
            hypervisor: self.hypervisor,
            verb: PowerVerb::Start,
            shutdown: Shutdown::default(),
            overcommit: true,
            dry_run: self.dry_run,
            patience: None,
        };
        let chosen = Chosen {
            lab: found.lab.name.clone(),
            uuid: found.lab.uuid,
            nodes: BTreeSet::new(),
            is_whole: false,
        };
        change.bring_up(&chosen).map(drop)
    }
}
