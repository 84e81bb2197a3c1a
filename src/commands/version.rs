//! `virtlab version`.

use anyhow::Result;
use serde::Serialize;

use crate::hypervisor::Hypervisor;
use crate::session::Session;

#[derive(Serialize)]
struct Versions {
    virtlab: &'static str,
    libvirt: String,
}

pub(super) fn run(session: &Session) -> Result<()> {
    let versions = Versions {
        virtlab: env!("CARGO_PKG_VERSION"),
        libvirt: Hypervisor::library_version()?.to_string(),
    };
    let text = format!("virtlab {}\nlibvirt {}", versions.virtlab, versions.libvirt);
    session.printer.document(&versions, &[&text], || text.clone())
}
