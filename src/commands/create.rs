//! `virtlab create`: decide, check, prepare, plan, apply, wait.

use anyhow::Result;

use super::autostart::warn_of_lack;
use super::progress;
use crate::cli::CreateArgs;
use crate::cluster::etcd;
use crate::error::Interrupted;
use crate::hypervisor::{Found, Hypervisor};
use crate::images::Readiness;
use crate::lab::Lab;
use crate::lab::plan::{self, Goal, LabStep, Observed, Step};
use crate::provision::apply::{Applier, print_steps};
use crate::provision::discovery_url;
use crate::provision::draft::{self, Draft};
use crate::provision::drift::Drift;
use crate::provision::lab_lock::LabLock;
use crate::provision::scaling;
use crate::provision::shutdown::Shutdown;
use crate::provision::survey::CreateMode;
use crate::provision::teardown::{destroy, remove_folder, stop_outdated_server, undo};
use crate::session::Session;
use crate::status::missing::Awaited;
use crate::status::no_lab;

/// Makes a lab, or completes one that is half made.
pub(super) fn run(session: &Session, args: &CreateArgs) -> Result<()> {
    make(session, args, None)
}

/// Another number of nodes for a lab that is there.
pub(super) struct Resize {
    pub(super) nodes: u32,
    /// How those go that are too many.
    pub(super) shutdown: Shutdown,
}

/// The same as [`run`]; with `resize`, of a lab that is there.
pub(super) fn make(session: &Session, args: &CreateArgs, resize: Option<&Resize>) -> Result<()> {
    let options = draft::read_options(&args.lab, args.file.as_deref())?;
    let name = options.lab_name();
    let hypervisor = session.hypervisor()?;
    draft::refuse_remote(&hypervisor, &name)?;

    let verb = if resize.is_some() { "scale" } else { "create" };
    let take_lock = |patience| LabLock::take(session, &hypervisor, &name, verb, patience);
    let alone = if args.dry_run { None } else { Some(take_lock(args.lock.patience())?) };
    let mode = CreateMode {
        pin: args.pin.clone(),
        overcommit: args.overcommit,
        starts: None,
        nodes: resize.map(|resize| resize.nodes),
        dry_run: args.dry_run,
        replaces: args.recreate,
    };
    let draft = draft::draft(session, &hypervisor, &options, &mode)?;
    if let Some(found) = &draft.found {
        let lab = &draft.prepared.lab;
        let check = || scaling::refuse_impossible(&hypervisor, found, lab);
        session.persistently(&hypervisor, check)?;
    }
    if args.dry_run {
        warn_of_lack(session.printer, &draft.prepared.lab);
        if args.recreate {
            destroy(session, &hypervisor, &name, args.dry_run)?;
        }
        return print_plan(session, &hypervisor, &draft);
    }
    warn_of_lack(session.printer, &draft.prepared.lab);
    let discovery_url = discovery_url::outside(&options, &draft.prepared)?;
    // Until here nothing was made or removed, and Ctrl-C just ended the program.
    session.catch_signals()?;
    if args.recreate {
        // Everything that can be checked while the old lab exists has passed.
        destroy(session, &hypervisor, &name, false)?;
        session.refuse_interrupt()?;
    }
    let Draft { mut prepared, found, lock, left_over, .. } = draft;
    left_over.iter().try_for_each(|folder| remove_folder(&name, folder))?;
    stop_outdated_server(&prepared.lab)?;
    discovery_url::put(&hypervisor, &mut prepared, discovery_url)?;
    let lab = &prepared.lab;
    let mut applier = Applier::new(session, &hypervisor, lab, Some(&prepared))?;
    applier.shutdown = resize.map(|resize| resize.shutdown).unwrap_or_default();
    let steps = plan::plan(lab, Goal::Up, &applier.observed(found.as_ref())?);
    if steps.is_empty() {
        drop(lock);
        session.printer.note(format!("lab `{name}` is there already, nothing to do"));
    } else {
        // What may not be permitted comes before anything is made.
        let switches = usize::from(steps[0] == Step::Lab(LabStep::ClaimKsm));
        let (switch, steps) = steps.split_at(switches);
        applier.apply(switch)?;
        // The first step claims the subnet; what follows needs no lock.
        let (claim, rest) = steps.split_at(steps.len().min(1));
        let made = applier.apply(claim).and_then(|()| {
            drop(lock);
            applier.apply(rest)
        });
        if let Err(error) = made {
            undo(session, &applier, found.is_some() || args.keep_on_failure);
            return Err(error);
        }
    }
    if let Some(found) = &found {
        warn_of_outdated(session, &hypervisor, found, lab)?;
    }
    // Others may look after the lab, or destroy it, while it is waited for.
    drop(alone);
    if args.no_wait {
        // Nodes that were stopped or paused stay so.
        let boots = found.as_ref().is_none_or(|found| !found.nodes_to_run().is_empty());
        let done = match resize {
            Some(Resize { nodes, .. }) => format!("lab `{name}` has {nodes} nodes now"),
            None => format!("lab `{name}` is made"),
        };
        let rest = format!("; `virtlab wait {name}` waits until it is ready");
        if !steps.is_empty() {
            session.printer.note(if boots { done + &rest } else { done });
        }
        return Ok(());
    }
    let inventory = session.observe(&hypervisor)?;
    let made = inventory.labs.get(&lab.uuid).ok_or_else(|| no_lab(&inventory, &lab.name))?;
    let awaited = Awaited::whenever_booted(made.nodes_to_run());
    if awaited.nodes.is_empty() {
        session
            .printer
            .note(format!("all nodes are stopped or paused; `virtlab start {name}` starts them"));
        return super::status::print(session, &hypervisor, made, etcd::CLIENT_PORT);
    }
    let (was_up, timeout) = (steps.is_empty(), args.timeout.into());
    let waited = progress::until_ready(session, &hypervisor, made, &awaited, was_up, timeout);
    waited.inspect_err(|error| {
        if error.is::<Interrupted>() {
            let _alone = take_lock(None);
            undo(session, &applier, found.is_some() || args.keep_on_failure);
        }
    })?;
    let inventory = session.observe(&hypervisor)?;
    let found = inventory.labs.get(&lab.uuid).ok_or_else(|| no_lab(&inventory, &lab.name))?;
    super::status::print(session, &hypervisor, found, etcd::CLIENT_PORT)?;
    session.printer.note(next_steps(found));
    Ok(())
}

/// Warns of what runs otherwise than it is kept, until it is started anew. libvirt may have gone since the last step.
fn warn_of_outdated(
    session: &Session,
    hypervisor: &Hypervisor,
    found: &Found,
    lab: &Lab,
) -> Result<()> {
    let look = || Drift::look(session, hypervisor, found);
    for outdated in session.persistently(hypervisor, look)?.outdated(lab) {
        session.printer.warn(outdated);
    }
    Ok(())
}

/// What one may type next, now that the lab is ready.
fn next_steps(found: &Found) -> String {
    let lab = &found.lab;
    let node = found.nodes_to_run().first().map_or_else(|| lab.name.node(1), |it| it.name.clone());
    let enter = match lab.spec.ready {
        Readiness::Ssh | Readiness::Command(_) => format!("`virtlab ssh {node}` logs in"),
        _ => format!("`virtlab console {node}` opens a console"),
    };
    format!("next: {enter}, `virtlab destroy {}` removes the lab", lab.name)
}

/// What is to be done, for people to read.
fn print_plan(session: &Session, hypervisor: &Hypervisor, draft: &Draft) -> Result<()> {
    let Draft { prepared, found, .. } = draft;
    let lab = &prepared.lab;
    let applier = Applier::new(session, hypervisor, lab, Some(prepared))?;
    let observed = if let Some(found) = found {
        applier.observed(Some(found))?
    } else {
        Observed { server_unit: applier.server_unit(), ..Observed::default() }
    };
    if draft.lacks_image {
        session.printer.data(format!("get image `{}`", lab.spec.image.name));
    }
    print_steps(session.printer, lab, &plan::plan(lab, Goal::Up, &observed));
    Ok(())
}
