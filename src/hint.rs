//! What to do about an error. Hints for libvirt's errors go by its codes, never by its text.

use crate::error::{Hinted, TimedOut};
use crate::hypervisor::{ErrorNumber, LibvirtError};
use crate::ksm::KsmError;

/// The hints for an error and its causes.
pub fn hints(error: &anyhow::Error) -> Vec<String> {
    error
        .chain()
        .flat_map(|cause| {
            if let Some(hinted) = cause.downcast_ref::<Hinted>() {
                return vec![hinted.hint().to_owned()];
            }
            if let Some(timed_out) = cause.downcast_ref::<TimedOut>() {
                return timed_out.hint.iter().cloned().collect();
            }
            if let Some(error) = cause.downcast_ref::<KsmError>() {
                return error.hints();
            }
            let hint = cause.downcast_ref::<LibvirtError>().and_then(libvirt_hint);
            hint.map(ToOwned::to_owned).into_iter().collect()
        })
        .collect()
}

fn libvirt_hint(error: &LibvirtError) -> Option<&'static str> {
    if error.is_any(&[ErrorNumber::SystemError]) && error.is_from_transport() {
        return Some(
            "is libvirt running, and may you use it? `systemctl start libvirtd` (or virtqemud); \
             join the group with `sudo usermod -aG libvirt $USER`, then log in again",
        );
    }
    if error.is_any(&[
        ErrorNumber::AuthFailed,
        ErrorNumber::AuthUnavailable,
        ErrorNumber::AuthCancelled,
    ]) {
        return Some(
            "join the group that may use libvirt with `sudo usermod -aG libvirt $USER`, then log in again",
        );
    }
    if error.is_any(&[ErrorNumber::NoConnect, ErrorNumber::InvalidConn]) {
        return Some("a libvirt URI looks like qemu:///system; see https://libvirt.org/uri.html");
    }
    if error.is_any(&[ErrorNumber::NoSupport]) {
        return Some("this libvirt driver cannot do that; virtlab is made for qemu:///system");
    }
    None
}
