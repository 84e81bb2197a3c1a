//! `virtlab destroy`: any subset of a lab goes, and nothing is left.

use std::collections::BTreeSet;

use anyhow::Result;

use crate::cli::DestroyArgs;
use crate::error::all_errors;
use crate::hypervisor::Hypervisor;
use crate::lab::LabName;
use crate::provision::lab_lock::LabLock;
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
    all_errors(names.map(|name| destroy_one(session, &hypervisor, name, args)).collect())
}

fn destroy_one(
    session: &Session,
    hypervisor: &Hypervisor,
    name: &LabName,
    args: &DestroyArgs,
) -> Result<()> {
    let take_lock = || LabLock::take(session, hypervisor, name, "destroy", args.lock.patience());
    let _alone = if args.dry_run { None } else { Some(take_lock()?) };
    if destroy(session, hypervisor, name, args.dry_run)? {
        return Ok(());
    }
    Err(no_lab(&session.observe(hypervisor)?, name))
}
