//! Taking a lab away: all of it, what a failed run made of it, or what is left of one that libvirt has
//! forgotten.

use anyhow::Result;

use super::apply::Applier;
use super::merging;
use crate::boot_server::client::Client;
use crate::boot_server::process;
use crate::hypervisor::Hypervisor;
use crate::lab::plan::{self, Goal};
use crate::lab::{Lab, LabName};
use crate::session::Session;
use crate::state::StateDir;

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
    let Some(found) = inventory.lab(name) else {
        return remove_rest(session, name, dry_run);
    };
    let lab = &found.lab;
    let applier = Applier::new(session, hypervisor, lab, None)?;
    let steps = plan::plan(lab, Goal::Gone, &applier.observed(Some(found))?);
    if dry_run {
        for step in &steps {
            session.printer.data(step.describe(lab));
        }
        return Ok(true);
    }
    applier.apply_all(&steps)?;
    session.printer.note(format!("lab `{name}` is gone"));
    Ok(true)
}

/// A lab of which libvirt has nothing may have left its folder and its boot server here.
fn remove_rest(session: &Session, name: &LabName, dry_run: bool) -> Result<bool> {
    let state = StateDir::of(name)?;
    if !state.exists() {
        return Ok(false);
    }
    if dry_run {
        session.printer.data(format!("remove what is left of lab `{name}`: configs and logs"));
        return Ok(true);
    }
    process::stop(state.path())?;
    state.remove()?;
    session.printer.note(format!("what was left of lab `{name}` is gone"));
    Ok(true)
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

/// Ends a boot server that gives out what we know nothing of: that of an earlier lab of this name, or
/// one whose content cannot be read; and one that does not speak as this virtlab does. The plan starts one with what
/// we save.
pub(crate) fn stop_unknown_server(lab: &Lab) -> Result<()> {
    let state = StateDir::of(&lab.name)?;
    let is_ours = state.content().is_ok_and(|content| content.uuid == lab.uuid);
    if is_ours && !Client::new(lab)?.is_outdated() {
        return Ok(());
    }
    process::stop(state.path())
}
