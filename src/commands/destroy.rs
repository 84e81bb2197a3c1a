//! `virtlab destroy`: any subset of a lab goes, and nothing is left.

use std::collections::BTreeSet;

use anyhow::Result;

use crate::cli::DestroyArgs;
use crate::error::all_errors;
use crate::provision::teardown::destroy;
use crate::session::Session;
use crate::status::no_lab;

pub(super) fn run(session: &Session, args: &DestroyArgs) -> Result<()> {
    let hypervisor = session.hypervisor()?;
    let names = if args.all {
        let inventory = session.observe(&hypervisor)?;
        inventory.labs.values().map(|found| found.lab.name.clone()).collect::<Vec<_>>()
    } else {
        args.labs.clone()
    };
    // One that cannot be removed does not keep the others.
    let names = names.iter().collect::<BTreeSet<_>>().into_iter();
    let results = names.map(|name| match destroy(session, &hypervisor, name, args.dry_run) {
        Ok(false) => Err(no_lab(name)),
        other => other.map(|_| ()),
    });
    all_errors(results.collect())
}
