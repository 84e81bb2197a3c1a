//! `virtlab pxe`: network boot by servers that are not virtlab's.

mod export;
mod serve;

use anyhow::Result;

use crate::cli::pxe::PxeCommand;

use crate::session::Session;

pub(super) fn run(session: &Session, command: &PxeCommand) -> Result<()> {
    match command {
        PxeCommand::Export(args) => export::run(session, args),
        PxeCommand::Serve(args) => serve::run(session, args),
    }
}
