//! What the page of a lab shows beside what its boot server knows: libvirt, the nodes and this host are asked, as `status`,
//! `memory` and `logs` do it.

mod console;
mod labs;
mod look;
mod wrong;

use std::sync::{Mutex, MutexGuard, PoisonError};

use anyhow::{Context, Result};
use uuid::Uuid;

use self::console::Consoles;
use self::wrong::Watch;
use crate::boot_server::page::insight::{ConsolePart, Insight, Look, OtherLab};
use crate::boot_server::recorder::timeline::Timeline;
use crate::hypervisor::{Found, Hypervisor};

/// Looks at one lab by a connection of its own.
pub(crate) struct HostInsight {
    uri: Option<String>,
    lab: Uuid,
    connection: Mutex<Option<Hypervisor>>,
    consoles: Consoles,
    watch: Mutex<Watch>,
}

impl HostInsight {
    /// Of the lab with this UUID. Nobody is asked before somebody looks.
    pub(crate) fn new(uri: Option<String>, lab: Uuid) -> Self {
        let (connection, watch) = (Mutex::default(), Mutex::new(Watch::new()));
        Self { uri, lab, connection, consoles: Consoles::default(), watch }
    }

    /// Does `work` with a connection and with what libvirt has of the lab.
    fn with_lab<T>(&self, work: impl FnOnce(&Hypervisor, &Found) -> Result<T>) -> Result<T> {
        let hypervisor = self.take_connection()?;
        let result = hypervisor.observe().and_then(|inventory| {
            let found = inventory.labs.get(&self.lab).context("libvirt has no such lab")?;
            work(&hypervisor, found)
        });
        *lock(&self.connection) = Some(hypervisor);
        result
    }

    /// The connection, or another one while somebody else uses it.
    fn take_connection(&self) -> Result<Hypervisor> {
        let kept = lock(&self.connection).take();
        kept.map_or_else(|| Hypervisor::open(self.uri.as_deref()), Ok)
    }
}

impl Insight for HostInsight {
    fn look(&self, known: &Timeline) -> Look {
        self.with_lab(|hypervisor, found| {
            look::look(hypervisor, found, known, &mut lock(&self.watch))
        })
        .unwrap_or_else(|error| look::without_libvirt(&error))
    }

    fn console(&self, node: u32, after: Option<u64>) -> Result<ConsolePart> {
        let hypervisor = self.take_connection()?;
        let read = self.consoles.read(&hypervisor, self.lab, node, after);
        *lock(&self.connection) = Some(hypervisor);
        read
    }

    fn labs(&self) -> Vec<OtherLab> {
        labs::labs(self.lab).unwrap_or_else(|error| {
            tracing::warn!("looking for labs: {error:#}");
            Vec::new()
        })
    }
}

fn lock<T>(kept: &Mutex<T>) -> MutexGuard<'_, T> {
    kept.lock().unwrap_or_else(PoisonError::into_inner)
}
