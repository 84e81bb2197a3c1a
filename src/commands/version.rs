//! `virtlab version`.

use anyhow::Result;
use serde::Serialize;

use super::Context;
use crate::hypervisor::Hypervisor;
use crate::output::Format;

#[derive(Serialize)]
struct Versions {
    virtlab: &'static str,
    libvirt: String,
}

pub(super) fn run(context: &Context) -> Result<()> {
    let versions =
        Versions { virtlab: env!("CARGO_PKG_VERSION"), libvirt: Hypervisor::library_version()? };
    match context.printer.format() {
        Format::Table | Format::Name => {
            context
                .printer
                .data(format!("virtlab {}\nlibvirt {}", versions.virtlab, versions.libvirt));
        }
        Format::Json => context.printer.data(serde_json::to_string_pretty(&versions)?),
        Format::Yaml => context.printer.data(serde_saphyr::to_string(&versions)?.trim_end()),
    }
    Ok(())
}
