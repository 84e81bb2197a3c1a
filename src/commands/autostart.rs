//! `virtlab autostart`: whether a lab comes back with the host.

use anyhow::Result;

use crate::cli::AutostartArgs;
use crate::host::systemd::{BootUnit, Lack};
use crate::lab::Lab;
use crate::lab::plan::{self, Goal};
use crate::output::Printer;
use crate::provision::apply::{Applier, print_steps};
use crate::provision::draft;
use crate::provision::lab_lock::LabLock;
use crate::session::Session;
use crate::status::no_lab;

pub(super) fn run(session: &Session, args: &AutostartArgs) -> Result<()> {
    let hypervisor = session.hypervisor()?;
    draft::refuse_remote(&hypervisor, &args.lab)?;
    let patience = args.lock.patience();
    let take_lock = || LabLock::take(session, &hypervisor, &args.lab, "autostart", patience);
    let _alone = if args.dry_run { None } else { Some(take_lock()?) };
    let inventory = session.observe(&hypervisor)?;
    let Some(found) = inventory.lab(&args.lab) else { return Err(no_lab(&inventory, &args.lab)) };

    let lab = found.lab.with_autostart(args.autostart.is_on());
    let mut observed =
        Applier::new(session, &hypervisor, &found.lab, None)?.observed(Some(found))?;
    let applier = Applier::new(session, &hypervisor, &lab, None)?;
    observed.server_unit = applier.server_unit();
    let steps = plan::plan(&lab, Goal::Autostart, &observed);
    if args.dry_run {
        print_steps(session.printer, &lab, &steps);
    } else {
        session.catch_signals()?;
        applier.apply(&steps)?;
    }
    warn_of_lack(session.printer, &lab);
    if !args.dry_run {
        let name = &lab.name;
        session.printer.note(match (lab.spec.autostart, steps.is_empty()) {
            (true, false) => format!("lab `{name}` comes back with the host from now on"),
            (false, false) => format!("lab `{name}` stays off when the host comes back"),
            (_, true) => format!("that is so already of lab `{name}`, nothing to do"),
        });
    }
    Ok(())
}

/// Says what of a lab that is to come back with the host will not, and why.
pub(super) fn warn_of_lack(printer: &Printer, lab: &Lab) {
    if !lab.spec.autostart {
        return;
    }
    let Some(lack) = BootUnit::of(lab).lack() else { return };
    let name = &lab.name;
    printer.warn(format!(
        "libvirt starts network and nodes of lab `{name}` with the host, but its boot server does not come back by \
         itself: {}; nodes wait for it, and `virtlab start {name}` starts it",
        lack.reason()
    ));
    match lack {
        Lack::Systemd => {}
        Lack::Unit => printer.note(format!(
            "hint: `sudo make install` in virtlab's source, then `virtlab autostart {name} on`"
        )),
        Lack::Linger => printer
            .note(format!("hint: `loginctl enable-linger`, then `virtlab autostart {name} on`")),
    }
}
