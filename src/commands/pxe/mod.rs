//! `virtlab pxe`: network boot by servers that are not virtlab's.

pub(super) mod export;
pub(super) mod serve;

use anyhow::Result;
use clap::Subcommand;

pub use self::export::ExportArgs;
pub use self::serve::ServeArgs;
use super::Context;

/// `pxe`.
#[derive(Debug, Subcommand)]
pub enum PxeCommand {
    /// Write all that a DHCP, TFTP and HTTP server needs to boot a lab
    Export(Box<ExportArgs>),

    /// Give a lab's nodes their boot files beside a DHCP server that does not
    Serve(ServeArgs),
}

pub(super) fn run(context: &Context, command: &PxeCommand) -> Result<()> {
    match command {
        PxeCommand::Export(args) => export::run(context, args),
        PxeCommand::Serve(args) => serve::run(context, args),
    }
}
