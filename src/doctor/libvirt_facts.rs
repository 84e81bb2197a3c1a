//! What libvirt tells, or why it does not answer.

use anyhow::Result;

use crate::hypervisor::{ErrorNumber, Hypervisor, Inventory, LibvirtError, VirtProbe};
use crate::lab::LibvirtVersion;
use crate::lab::hardware::Arch;
use crate::session::Session;
use crate::state::Origin;

/// What libvirt tells.
#[derive(Debug)]
pub(super) struct LibvirtFacts {
    pub(super) origin: Origin,
    pub(super) version: LibvirtVersion,
    pub(super) driver: String,
    /// The version of what runs the guests, as libvirt counts: `major * 1,000,000 + minor * 1,000 + release`.
    pub(super) driver_version: Option<u32>,
    pub(super) is_local: bool,
    pub(super) is_session: bool,
    pub(super) inventory: Inventory,
    /// What guests run on; `None` if that could not be tried.
    pub(super) virt: Option<VirtProbe>,
}

/// Why libvirt does not answer.
#[derive(Debug)]
pub(super) struct Refusal {
    pub(super) message: String,
    pub(super) kind: RefusalKind,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum RefusalKind {
    /// polkit, or whoever else is asked, does not let the user in.
    Permission,
    /// Nobody is there, or the socket may not be used.
    Transport,
    /// Whatever else.
    Other,
}

impl LibvirtFacts {
    pub(super) fn gather(session: &Session) -> Result<Self, Refusal> {
        let look = || {
            let hypervisor = session.hypervisor()?;
            Self::ask(&hypervisor)
        };
        look().map_err(|error| Refusal { kind: kind(&error), message: format!("{error:#}") })
    }

    fn ask(hypervisor: &Hypervisor) -> Result<Self> {
        let (driver, driver_version) = hypervisor.driver()?;
        Ok(Self {
            origin: Origin::of(hypervisor)?,
            version: hypervisor.version()?,
            driver,
            driver_version,
            is_local: hypervisor.is_local()?,
            is_session: hypervisor.is_session()?,
            inventory: hypervisor.observe()?,
            virt: hypervisor.probe_virt_type(Arch::default().as_str()).ok(),
        })
    }
}

fn kind(error: &anyhow::Error) -> RefusalKind {
    let cause = error.chain().find_map(|cause| cause.downcast_ref::<LibvirtError>());
    match cause {
        Some(error)
            if error.is_any(&[
                ErrorNumber::AuthFailed,
                ErrorNumber::AuthUnavailable,
                ErrorNumber::AuthCancelled,
                ErrorNumber::AccessDenied,
            ]) =>
        {
            RefusalKind::Permission
        }
        Some(error) if error.is_from_transport() => RefusalKind::Transport,
        _ => RefusalKind::Other,
    }
}
