//! `virtlab create`: decide, check, prepare, plan, apply, wait.

use anyhow::Result;

use super::apply::Applier;
use super::draft::{self, Draft, Wishes};
use super::prepare::Prepared;
use super::{Context, destroy, wait};
use crate::boot_server::{Discovery, process};
use crate::cli::CreateArgs;
use crate::cluster::discovery;
use crate::hint::Interrupted;
use crate::hypervisor::Hypervisor;
use crate::lab::Lab;
use crate::lab::options::LabOptions;
use crate::lab::plan::{self, Goal, Observed, Step};
use crate::state::StateDir;

/// Makes a lab, or completes one that is half made.
pub(super) fn run(context: &Context, args: &CreateArgs) -> Result<()> {
    let options = draft::read_options(&args.lab, args.file.as_deref())?;
    let name = options.lab_name();
    let hypervisor = context.hypervisor()?;
    draft::refuse_remote(&hypervisor, &name)?;

    let mut wishes = Wishes {
        pin: args.pin.clone(),
        overcommit: args.overcommit,
        dry_run: args.dry_run,
        replaces: args.recreate,
    };
    let mut draft = draft::draft(context, &hypervisor, &options, &wishes)?;
    if args.dry_run {
        if args.recreate {
            destroy::destroy(context, &hypervisor, &name, args.dry_run)?;
        }
        return print_steps(context, &hypervisor, &draft);
    }
    let discovery_url = outside_discovery_url(&options, &draft.prepared)?;
    // Until here nothing was made or removed, and Ctrl-C just ended the program.
    context.catch_signals()?;
    if args.recreate {
        // Nothing is wrong with the new one that can be known before the old one is gone.
        destroy::destroy(context, &hypervisor, &name, false)?;
        context.check_interrupt()?;
        wishes.replaces = false;
        drop(draft.lock);
        draft = draft::draft(context, &hypervisor, &options, &wishes)?;
    }
    let Draft { mut prepared, found, lock, .. } = draft;
    stop_unknown_server(&prepared.lab)?;
    put_discovery_url(&mut prepared, discovery_url)?;
    let lab = &prepared.lab;
    let applier = Applier::new(context, &hypervisor, lab, Some(&prepared))?;
    let steps = plan::plan(lab, Goal::Up, &applier.observed(found.as_ref())?);
    if steps.is_empty() {
        drop(lock);
        context.printer.note(format!("lab `{name}` is there already, nothing to do"));
    } else {
        // What may not be permitted comes before anything is made.
        let switches = usize::from(steps[0] == Step::ClaimKsm);
        let (switch, steps) = steps.split_at(switches);
        applier.apply(switch)?;
        applier.state.save(lab, &prepared.content)?;
        for (name, text) in &prepared.own_templates {
            applier.state.keep_template(name, text)?;
        }
        // The first step claims the subnet; what follows needs no lock.
        let (claim, rest) = steps.split_at(steps.len().min(1));
        let made = applier.apply(claim).and_then(|()| {
            drop(lock);
            applier.apply(rest)
        });
        if let Err(error) = made {
            undo(context, &applier, found.is_some() || args.keep_on_failure);
            return Err(error);
        }
    }
    if args.no_wait {
        return Ok(());
    }
    let wait = wait::Wait { timeout: args.timeout.into(), was_up: steps.is_empty() };
    wait::until_ready(context, &hypervisor, lab, &wait).inspect_err(|error| {
        if error.is::<Interrupted>() {
            undo(context, &applier, found.is_some() || args.keep_on_failure);
        }
    })
}

/// What is to be done, for people to read.
fn print_steps(context: &Context, hypervisor: &Hypervisor, draft: &Draft) -> Result<()> {
    let Draft { prepared, found, .. } = draft;
    let lab = &prepared.lab;
    let observed = match found {
        Some(found) => {
            Applier::new(context, hypervisor, lab, Some(prepared))?.observed(Some(found))?
        }
        None => Observed::default(),
    };
    if draft.lacks_image {
        context.printer.data(format!("get image `{}`", lab.spec.image.name));
    }
    for step in plan::plan(lab, Goal::Up, &observed) {
        context.printer.data(step.describe(lab));
    }
    Ok(())
}

/// Takes back what this run made, and says so. What was there before is kept.
fn undo(context: &Context, applier: &Applier, keep: bool) {
    let name = &applier.lab.name;
    if keep {
        context.printer.note(format!(
            "lab `{name}` is left half made; `virtlab create {name}` goes on, `virtlab destroy {name}` removes it"
        ));
        return;
    }
    context.printer.note(format!("undoing what was made of lab `{name}`"));
    if let Err(error) = take_down(applier) {
        context.printer.warn(format!("undoing: {error:#}; `virtlab destroy {name}` tries again"));
    }
}

/// Removes everything that there is of the lab.
pub(super) fn take_down(applier: &Applier) -> Result<()> {
    let inventory = applier.hypervisor.observe()?;
    let observed = applier.observed(inventory.labs.get(&applier.lab.uuid))?;
    applier.apply_all(&plan::plan(applier.lab, Goal::Gone, &observed))
}

/// Ends a boot server that gives out what we know nothing of: that of an earlier lab of this name, or
/// one whose content cannot be read. The plan starts one with what we save.
fn stop_unknown_server(lab: &Lab) -> Result<()> {
    let state = StateDir::of(&lab.name)?;
    if state.content().is_ok_and(|content| content.uuid == lab.uuid) {
        return Ok(());
    }
    process::stop(state.path())
}

/// A discovery URL that no lab had before, of the service that was named; `None` if that is the lab's
/// own one, or if no config lacks a URL.
pub(super) fn outside_discovery_url(
    options: &LabOptions,
    prepared: &Prepared,
) -> Result<Option<String>> {
    let service = options.discovery.as_ref().filter(|_| prepared.content.wants_discovery());
    let size = prepared.lab.spec.nodes as usize;
    service.map(|it| discovery::request_token(it, size, discovery::TIMEOUT)).transpose()
}

/// Puts a discovery URL where a config lacks one: the one from `outside`, or else a new one of the
/// lab's own discovery.
pub(super) fn put_discovery_url(prepared: &mut Prepared, outside: Option<String>) -> Result<()> {
    let (lab, content) = (&prepared.lab, &mut prepared.content);
    if !content.wants_discovery() {
        return Ok(());
    }
    let url = if let Some(url) = outside {
        url
    } else {
        let state = StateDir::of(&lab.name)?;
        state.claim(lab)?;
        // The boot server finds the token when it starts.
        let discovery = Discovery::open(&state.discovery(), &content.discovery_base())?;
        discovery.new_token(lab.spec.nodes as usize)?
    };
    content.put_discovery_url(url);
    Ok(())
}
