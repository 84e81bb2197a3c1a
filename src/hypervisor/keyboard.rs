//! Keys for a node's keyboard.

use anyhow::Result;
use uuid::Uuid;
use virt::domain::Domain;
use virt::sys;

use super::Hypervisor;
use super::error::LibvirtError;
use crate::lab::metadata::Mark;

/// The keyboard of a domain.
pub(crate) struct Keyboard(Domain);

impl Hypervisor {
    /// The keyboard of the domain with this name, if it carries the mark of the lab.
    ///
    /// # Errors
    /// If libvirt cannot look the domain up.
    pub(crate) fn keyboard(&self, lab: Uuid, name: &str) -> Result<Option<Keyboard>> {
        let Some((domain, xml)) = self.domain_named(name)? else { return Ok(None) };
        let is_ours = Mark::from_object_xml(&xml)?.is_some_and(|mark| mark.lab.uuid == lab);
        Ok(is_ours.then_some(Keyboard(domain)))
    }
}

impl Keyboard {
    /// Presses the space bar for as long as QEMU usually holds a key, 100 ms; does not wait for that.
    /// <https://libvirt.org/html/libvirt-libvirt-domain.html#virDomainSendKey>
    ///
    /// # Errors
    /// If the domain is off or has no keyboard.
    pub(crate) fn press_space(&self) -> Result<(), LibvirtError> {
        let mut keys = [KEY_SPACE];
        let set = sys::VIR_KEYCODE_SET_LINUX;
        Ok(self.0.send_key(set, 0, keys.as_mut_ptr(), 1, 0)?)
    }
}

/// Its number in Linux's input-event-codes.h.
const KEY_SPACE: u32 = 57;
