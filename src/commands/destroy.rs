//! `virtlab destroy`: any subset of a lab goes, and nothing is left.

use std::collections::BTreeSet;

use anyhow::Result;

use super::Context;
use super::apply::{Applier, all_errors};
use super::status::no_lab;
use crate::boot_server::process;
use crate::cli::DestroyArgs;
use crate::hypervisor::Hypervisor;
use crate::lab::LabName;
use crate::lab::plan::{self, Goal};
use crate::state::StateDir;

pub(super) fn run(context: &Context, args: &DestroyArgs) -> Result<()> {
    let hypervisor = context.hypervisor()?;
    let names = if args.all {
        let inventory = context.observe(&hypervisor)?;
        inventory.labs.values().map(|found| found.lab.name.clone()).collect::<Vec<_>>()
    } else {
        args.labs.clone()
    };
    // One that cannot be removed does not keep the others.
    let names = names.iter().collect::<BTreeSet<_>>().into_iter();
    let results = names.map(|name| match destroy(context, &hypervisor, name, args.dry_run) {
        Ok(false) => Err(no_lab(name)),
        other => other.map(|_| ()),
    });
    all_errors(results.collect())
}

/// Removes everything of the lab of this name; `false` if there was nothing.
pub(super) fn destroy(
    context: &Context,
    hypervisor: &Hypervisor,
    name: &LabName,
    dry_run: bool,
) -> Result<bool> {
    let inventory = context.observe(hypervisor)?;
    let Some(found) = inventory.lab(name) else {
        return remove_rest(context, name, dry_run);
    };
    let lab = &found.lab;
    let applier = Applier::new(context, hypervisor, lab, None)?;
    let steps = plan::plan(lab, Goal::Gone, &applier.observed(Some(found))?);
    if dry_run {
        for step in &steps {
            context.printer.data(step.describe(lab));
        }
        return Ok(true);
    }
    applier.apply_all(&steps)?;
    context.printer.note(format!("lab `{name}` is gone"));
    Ok(true)
}

/// A lab of which libvirt has nothing may have left its folder and its boot server here.
fn remove_rest(context: &Context, name: &LabName, dry_run: bool) -> Result<bool> {
    let state = StateDir::of(name)?;
    if !state.exists() {
        return Ok(false);
    }
    if dry_run {
        context.printer.data(format!("remove what is left of lab `{name}`: configs and logs"));
        return Ok(true);
    }
    process::stop(state.path())?;
    state.remove()?;
    context.printer.note(format!("what was left of lab `{name}` is gone"));
    Ok(true)
}
