//! Taking a lab away: all of it, what a failed run made of it, or what is left of one that libvirt has
//! forgotten.

use anyhow::Result;

use super::apply::{Applier, print_steps};
use super::merging;
use crate::boot_server::client::Client;
use crate::boot_server::process;
use crate::host::systemd::BootUnit;
use crate::hypervisor::{Found, Hypervisor, Inventory};
use crate::lab::plan::{self, Goal};
use crate::lab::{Lab, LabName};
use crate::session::Session;
use crate::state::{Origin, StateDir};

/// Removes everything of the lab of this name; `false` if there was nothing.
pub(crate) fn destroy(
    session: &Session,
    hypervisor: &Hypervisor,
    name: &LabName,
    dry_run: bool,
) -> Result<bool> {
    let inventory = session.observe(hypervisor)?;
    if !dry_run {
        merging::repair(session.printer, hypervisor, &inventory);
    }
    for copied in inventory.foreign.copies.iter().filter(|copied| copied.lab == *name) {
        session.printer.warn(format!(
            "domain `{}` is a copy of node `{}` and not virtlab's; it stays",
            copied.domain, copied.node
        ));
    }
    let Some(found) = inventory.lab(name) else {
        return remove_rest(session, hypervisor, &inventory, name, dry_run);
    };
    let lab = &found.lab;
    let applier = Applier::new(session, hypervisor, lab, None)?;
    let steps = plan::plan(lab, Goal::Gone, &applier.observed(Some(found))?);
    if dry_run {
        print_steps(session.printer, lab, &steps);
        return Ok(true);
    }
    applier.apply_all(&steps)?;
    session.printer.note(format!("lab `{name}` is gone"));
    Ok(true)
}

/// A lab of which libvirt has nothing may have left its folder and its boot server here.
fn remove_rest(
    session: &Session,
    hypervisor: &Hypervisor,
    inventory: &Inventory,
    name: &LabName,
    dry_run: bool,
) -> Result<bool> {
    let folders = left_over(hypervisor, inventory, None, name)?;
    if folders.is_empty() {
        return Ok(false);
    }
    if dry_run {
        session.printer.data(format!("remove what is left of lab `{name}`: configs and logs"));
        return Ok(true);
    }
    folders.iter().try_for_each(|folder| remove_folder(name, folder))?;
    session.printer.note(format!("what was left of lab `{name}` is gone"));
    Ok(true)
}

/// The folders of labs of this name that were in the libvirt of `hypervisor` and are there no more. A lab
/// of the same name in another libvirt keeps its folder and its boot server, and so does one whose libvirt
/// is not known. `replaced` goes with its own folder.
pub(crate) fn left_over(
    hypervisor: &Hypervisor,
    inventory: &Inventory,
    replaced: Option<&Found>,
    name: &LabName,
) -> Result<Vec<StateDir>> {
    let folders = StateDir::all_of(name)?;
    // What could not be understood may be the lab.
    if folders.is_empty() || !inventory.foreign.unreadable.is_empty() {
        return Ok(Vec::new());
    }
    let here = Origin::of(hypervisor)?;
    let replaced = replaced.map(|found| found.lab.uuid);
    let is_left = |state: &StateDir| {
        state.is_left_over(&here, |uuid| inventory.labs.contains_key(uuid))
            && state.uuid() != replaced
    };
    Ok(folders.into_iter().filter(is_left).collect())
}

/// Ends the boot server that a folder of a lab of this name names, and removes the folder.
pub(crate) fn remove_folder(name: &LabName, state: &StateDir) -> Result<()> {
    if let Some(unit) = state.uuid().map(|uuid| BootUnit::named(name, uuid))
        && unit.is_enabled()
    {
        unit.stop()?;
        unit.disable()?;
    }
    process::stop(state.path())?;
    state.remove()
}

/// Takes back what this run made, and says so. What was there before is kept.
pub(crate) fn undo(session: &Session, applier: &Applier, keep: bool) {
    let name = &applier.lab.name;
    if keep {
        session.printer.note(format!(
            "lab `{name}` is left half made; `virtlab create {name}` goes on, `virtlab destroy {name}` removes it"
        ));
        return;
    }
    session.printer.note(format!("undoing what was made of lab `{name}`"));
    if let Err(error) = take_down(applier) {
        session.printer.warn(format!("undoing: {error:#}; `virtlab destroy {name}` tries again"));
    }
}

/// Removes everything that there is of the lab.
pub(crate) fn take_down(applier: &Applier) -> Result<()> {
    let inventory = applier.session.observe(applier.hypervisor)?;
    let observed = applier.observed(inventory.labs.get(&applier.lab.uuid))?;
    applier.apply_all(&plan::plan(applier.lab, Goal::Gone, &observed))
}

/// Ends the lab's own boot server if it does not speak as this virtlab does. The plan starts another one.
pub(crate) fn stop_outdated_server(lab: &Lab) -> Result<()> {
    if Client::new(lab)?.is_outdated() {
        process::stop(StateDir::of(lab)?.path())?;
    }
    Ok(())
}
