//! The memory of nodes in files on libvirt's host.
//!
//! It is saved as the memory of an external snapshot, and not as `virsh save` does it: a node's QEMU goes on, so a run that is
//! killed leaves nodes that at worst stand still. libvirt writes the same file either way, and starts a domain from it.
//! <https://libvirt.org/formatsnapshot.html>

use anyhow::{Context, Result, bail, ensure};
use virt::connect::Connect;
use virt::error::ErrorNumber;
use virt::sys;

use super::domains::own_domain;
use super::error::{Doing, Unless, is_any};
use super::marks::with_mark;
use super::{Found, Hypervisor};
use crate::lab::Lab;
use crate::lab::metadata::{Mark, Power};
use crate::lab::plan::DomainState;
use crate::render::element::Element;
use crate::render::xml;

impl Hypervisor {
    /// Saves the memory of a domain whose processors stand still into a file on its host, in the place of one that is there.
    ///
    /// # Errors
    /// If libvirt cannot, as for a domain with a device of the host's, or the domain is not there any more.
    pub fn save_memory(connection: &Connect, lab: &Lab, index: u32, path: &str) -> Result<()> {
        let name = lab.name.node(index);
        let doing = || format!("saving the memory of domain `{name}`");
        let Some(domain) = own_domain(connection, lab, index)? else {
            bail!("{}: it is not there any more", doing());
        };
        // What it consists of is ours to know, and not libvirt's.
        let flags = sys::VIR_DOMAIN_SNAPSHOT_CREATE_NO_METADATA;
        let save = || domain.create_snapshot_xml(&xml::memory_snapshot(path), flags).map(drop);
        match save() {
            // QEMU saves nobody twice who has not run in between: a run that was killed may have saved it, or one before
            // a node that is paused for long.
            Err(error) if is_any(&error, &QEMU_REFUSED) => {
                tracing::info!("{}: {}; once more", doing(), error.message());
                domain.resume().and_then(|()| domain.suspend()).doing(doing)?;
                save().doing(doing)
            }
            other => other.doing(doing),
        }
    }

    /// The domain of a node as it was when its memory was saved, as XML. libvirt gives it only of a file that is whole.
    ///
    /// # Errors
    /// If it is not, or is not that of this node.
    pub fn saved_domain(connection: &Connect, lab: &Lab, index: u32, path: &str) -> Result<String> {
        let doing = || format!("reading the saved memory of domain `{}`", lab.name.node(index));
        let xml = connection
            .save_image_xml_desc(path, sys::VIR_DOMAIN_SAVE_IMAGE_XML_SECURE)
            .doing(doing)?;
        let mark = Mark::from_object_xml(&xml).with_context(doing)?;
        let is_it = |mark: &Mark| {
            mark.lab.uuid == lab.uuid && mark.node.is_some_and(|node| node.index == index)
        };
        ensure!(mark.as_ref().is_some_and(is_it), "{}: it is another domain's", doing());
        Ok(xml)
    }

    /// Starts a domain that is off where it was when its memory was saved, with its processors stopped. `saved` is what
    /// [`Self::saved_domain`] gives; the mark in it is brought up to date.
    ///
    /// # Errors
    /// If libvirt cannot, or the domain is not there any more.
    pub fn restore_memory(
        connection: &Connect,
        lab: &Lab,
        index: u32,
        power: Power,
        path: &str,
        saved: &str,
    ) -> Result<()> {
        let doing = || format!("restoring the memory of domain `{}`", lab.name.node(index));
        let Some(domain) = own_domain(connection, lab, index)? else {
            bail!("{}: it is not there any more", doing());
        };
        if domain.is_active().doing(doing)? {
            return Ok(());
        }
        let mark = Mark::of_node(lab, index, power);
        let is_up_to_date = Mark::from_object_xml(saved)?.as_ref() == Some(&mark);
        let changed = if is_up_to_date { None } else { with_mark(saved, &mark.to_xml()?) };
        let flags = sys::VIR_DOMAIN_SAVE_PAUSED;
        let restored = connection.restore_domain_flags(path, changed.as_deref(), flags);
        restored.unless(|| domain.is_active()).doing(doing)
    }

    /// The disks of a lab's nodes that are on and may write to them, as `demo-1: vda`.
    ///
    /// # Errors
    /// If libvirt cannot tell.
    pub fn writable_disks(&self, found: &Found) -> Result<Vec<String>> {
        let lab = &found.lab;
        let on = found.domains.iter().filter(|(_, state)| **state != DomainState::Off);
        let on: Vec<u32> = on.map(|(index, _)| *index).collect();
        let read = |connection: &Connect, index: &u32| {
            let name = lab.name.node(*index);
            let Some(domain) = own_domain(connection, lab, *index)? else { return Ok(Vec::new()) };
            let xml = domain.xml_desc(0).doing(|| format!("reading domain `{name}`"))?;
            let disks = writable_targets(&Element::parse(&xml)?);
            Ok(disks.into_iter().map(|target| format!("{name}: {target}")).collect())
        };
        let read: Result<Vec<Vec<String>>> = self.in_parallel(&on, read).into_iter().collect();
        Ok(read?.concat())
    }
}

/// <https://libvirt.org/formatdomain.html#hard-drives-floppy-disks-cdroms>
fn writable_targets(domain: &Element) -> Vec<String> {
    let devices = domain.child("devices").into_iter().flat_map(|devices| &devices.children);
    let is_writable = |disk: &&Element| {
        disk.name == "disk"
            && disk.attribute("device") != Some("cdrom")
            && disk.child("readonly").is_none()
    };
    let target = |disk: &Element| disk.child("target")?.attribute("dev").map(ToOwned::to_owned);
    devices.filter(is_writable).map(|disk| target(disk).unwrap_or_default()).collect()
}

/// What libvirt says where QEMU refuses a command.
const QEMU_REFUSED: [ErrorNumber; 2] = [ErrorNumber::InternalError, ErrorNumber::OperationFailed];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn disks_are_those_that_are_written_to() {
        let domain = "<domain><devices>\
            <disk type='file' device='disk'><target dev='vda'/></disk>\
            <disk type='block'><target dev='vdb'/></disk>\
            <disk type='file' device='disk'><target dev='vdc'/><readonly/></disk>\
            <disk type='file' device='cdrom'><target dev='sda'/></disk>\
            <disk type='file' device='floppy'><target dev='fda'/></disk>\
            <interface/></devices></domain>";
        assert_eq!(writable_targets(&Element::parse(domain).unwrap()), ["vda", "vdb", "fda"]);
        assert!(writable_targets(&Element::parse("<domain/>").unwrap()).is_empty());
    }
}
