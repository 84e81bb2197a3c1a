//! What to do about an error. Hints for libvirt's errors go by its codes, never by its text.

use crate::error::{Hinted, TimedOut};
use crate::host::libvirt_socket::SocketAccess;
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
    let denied =
        [ErrorNumber::AuthFailed, ErrorNumber::AuthUnavailable, ErrorNumber::AuthCancelled];
    if error.is_any(&denied) {
        return Some(JOIN_GROUP);
    }
    if error.is_any(&[ErrorNumber::SystemError]) && error.is_from_transport() {
        return Some(match error.socket() {
            Some(SocketAccess::Denied) => JOIN_GROUP,
            Some(SocketAccess::Absent) => START_LIBVIRT,
            Some(SocketAccess::Granted) | None => {
                "is libvirt running there, and may you use it? `virtlab doctor` looks"
            }
        });
    }
    if error.is_any(&[ErrorNumber::NoConnect, ErrorNumber::InvalidConn]) {
        return Some("a libvirt URI looks like qemu:///system; see https://libvirt.org/uri.html");
    }
    if error.is_any(&[ErrorNumber::NoSupport]) {
        return Some("this libvirt driver cannot do that; virtlab is made for qemu:///system");
    }
    None
}

const JOIN_GROUP: &str = "you may not use the host's libvirt yet: join its group with `sudo usermod -aG libvirt $USER`, then log in again";
const START_LIBVIRT: &str = "libvirt does not run here: `sudo systemctl start libvirtd` (or virtqemud) starts it; on Debian and Ubuntu \
    `sudo apt install libvirt-daemon-system` installs it";
