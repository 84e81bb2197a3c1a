//! The snapshot that the steps of a plan make or bring back.

use std::collections::BTreeMap;

use anyhow::{Context, Result};

use crate::hypervisor::{Connection, Hypervisor};
use crate::lab::Lab;
use crate::lab::metadata::Power;
use crate::lab::snapshot::Manifest;

/// What the steps need to know of it.
#[derive(Debug)]
pub(crate) struct Shot {
    /// What is written last; the lengths of its files are known when they are there.
    pub(crate) manifest: Manifest,
    /// The domains as they were when they were saved, as XML, by node index: of one that is brought back.
    pub(crate) domains: BTreeMap<u32, String>,
}

impl Shot {
    /// Saves the memory of a node.
    pub(crate) fn save(&self, connection: &Connection, lab: &Lab, index: u32) -> Result<()> {
        Hypervisor::save_memory(connection, lab, index, &self.path(lab, index))
    }

    /// Brings the memory of a node back.
    pub(crate) fn restore(
        &self,
        connection: &Connection,
        lab: &Lab,
        index: u32,
        power: Power,
    ) -> Result<()> {
        let saved = self.domains.get(&index).context("the snapshot has no such node")?;
        let path = self.path(lab, index);
        Hypervisor::restore_memory(connection, lab, index, power, &path, saved)
    }

    /// The file of a node's memory on libvirt's host.
    pub(super) fn path(&self, lab: &Lab, index: u32) -> String {
        format!("{}/{}", lab.pool_path(), self.manifest.name.memory_file(index))
    }

    /// Writes the manifest, with the lengths of what is there.
    pub(crate) fn write_manifest(&self, hypervisor: &Hypervisor, lab: &Lab) -> Result<()> {
        let manifest = self.with_lengths(hypervisor, lab)?;
        hypervisor.upload_private(lab, &manifest.name.manifest_file(), &manifest.to_json()?)
    }

    /// The manifest with the lengths of its files.
    ///
    /// # Errors
    /// If one is missing.
    pub(super) fn with_lengths(&self, hypervisor: &Hypervisor, lab: &Lab) -> Result<Manifest> {
        let mut manifest = self.manifest.clone();
        let name = manifest.name.clone();
        let wanted: Vec<String> =
            manifest.saved().map(|node| name.memory_file(node.index)).collect();
        let there = hypervisor.stored_files(lab, |file| wanted.iter().any(|name| name == file))?;
        for node in manifest.nodes.iter_mut().filter(|node| node.power != Power::Off) {
            let file = name.memory_file(node.index);
            let stored = there.iter().find(|stored| stored.name == file);
            let stored = stored.with_context(|| format!("`{file}` is not there any more"))?;
            node.bytes = stored.bytes;
        }
        Ok(manifest)
    }
}
