//! `virtlab scale`: a lab that is there, with another number of nodes.

use anyhow::Result;

use super::create::{self, Resize};
use crate::cli::{CreateArgs, ScaleArgs};
use crate::images::PinChoice;
use crate::lab::options::LabOptions;
use crate::provision::shutdown::Shutdown;
use crate::session::Session;

/// Does what `create` does with a lab that is there, whose specification changed.
pub(super) fn run(session: &Session, args: &ScaleArgs) -> Result<()> {
    let create = CreateArgs {
        file: None,
        dry_run: args.dry_run,
        recreate: false,
        keep_on_failure: true,
        overcommit: args.overcommit,
        no_wait: args.no_wait,
        timeout: args.timeout,
        lock: args.lock.clone(),
        pin: PinChoice::default(),
        lab: LabOptions { name: Some(args.lab.clone()), ..LabOptions::default() },
    };
    let shutdown = Shutdown::Within(args.stop_timeout.into());
    create::make(session, &create, Some(&Resize { nodes: args.nodes, shutdown }))
}
