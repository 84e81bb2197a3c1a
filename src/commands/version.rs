//! `virtlab version`.

use anyhow::Result;
use serde::Serialize;

use crate::hypervisor::Hypervisor;
use crate::output::Format;
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
    match session.printer.format() {
        Format::Table | Format::Name => {
            session
                .printer
                .data(format!("virtlab {}\nlibvirt {}", versions.virtlab, versions.libvirt));
        }
        Format::Json => session.printer.data(serde_json::to_string_pretty(&versions)?),
        Format::Yaml => session.printer.data(serde_saphyr::to_string(&versions)?.trim_end()),
    }
    Ok(())
}
