//! Kernel samepage merging for a lab: claimed before anything is made, given up when the lab is gone.

use anyhow::{Context, Result};

use crate::hint;
use crate::hypervisor::{Hypervisor, Inventory};
use crate::ksm::Settings;
use crate::ksm::claims::{Claimed, Claims, Released};
use crate::lab::Lab;
use crate::output::Printer;

/// Makes the host's KSM as `settings` for a lab, which need not be there yet.
pub(crate) fn claim(
    printer: &Printer,
    hypervisor: &Hypervisor,
    lab: &Lab,
    settings: Settings,
) -> Result<()> {
    let claimed = Claims::host()
        .claim(lab.uuid, &hypervisor.uri()?, settings)
        .context("switching on kernel samepage merging")?;
    if claimed == Claimed::AlreadyOnUnrecorded {
        printer.note(format!(
            "KSM is on already; without permission for it nobody knows that lab `{}` wants it",
            lab.name
        ));
    }
    Ok(())
}

/// Says what the end of a claim did. The lab is gone, so that KSM cannot be put back is a warning.
pub(crate) fn report(printer: &Printer, released: Result<Released>) {
    match released {
        Ok(Released::Nothing | Released::StillClaimed { .. }) => {}
        Ok(Released::Restored { foreign }) => {
            printer.note("KSM is as it was before the first lab that asked for it");
            for setting in foreign {
                printer.warn(setting);
            }
        }
        Err(error) => {
            printer.warn(format!("putting KSM back as it was: {error:#}"));
            for hint in hint::hints(&error) {
                printer.note(format!("hint: {hint}"));
            }
        }
    }
}

/// Puts KSM back if the labs that asked for it are gone, as after a kill.
pub(crate) fn repair(printer: &Printer, hypervisor: &Hypervisor, inventory: &Inventory) {
    // What could not be understood may be a lab that asked for it.
    if !inventory.foreign.unreadable.is_empty() {
        return;
    }
    let exists = |uuid| inventory.labs.contains_key(&uuid);
    report(printer, hypervisor.uri().and_then(|uri| Claims::host().repair(&uri, exists)));
}
