//! `virtlab drill`: faults one after the other, and what they did to a lab's etcd.

use anyhow::{Result, anyhow};
use uuid::Uuid;

use super::fault::Wish;
use super::verdict::{self, Wanted};
use crate::cli::drill::DrillArgs;
use crate::hypervisor::Hypervisor;
use crate::lab::node_word::Lot;
use crate::lab::options::Span;
use crate::provision::drill::{Drill, Planned};
use crate::provision::power::Chosen;
use crate::provision::trial::{Act, Trial, hold};
use crate::session::Session;
use crate::status::no_lab;

pub(super) fn run(session: &Session, args: &DrillArgs) -> Result<()> {
    let drill = Drill::read(&args.file, args.lab.as_ref())?;
    if args.dry_run {
        print_plan(session, &drill);
        return Ok(());
    }
    let seed = args.seed.or(drill.seed).unwrap_or_else(|| Uuid::new_v4().as_u64_pair().0 >> 32);
    let hypervisor = session.hypervisor()?;
    let inventory = session.observe(&hypervisor)?;
    let found = inventory.lab(&drill.lab).ok_or_else(|| no_lab(&inventory, &drill.lab))?;
    let within = args.within.or(drill.within).unwrap_or(WITHIN);
    session.printer.note(format!("seed {seed}: `--seed {seed}` draws the same nodes again"));
    let acts = drill
        .faults
        .iter()
        .zip(0..)
        .filter_map(|(planned, draw)| act(session, &hypervisor, planned, Lot::of(seed, draw)));
    let title = format!("{} on {}", args.file.display(), drill.lab);
    let trial = Trial {
        title: &title,
        session,
        hypervisor: &hypervisor,
        lab: &drill.lab,
        uuid: found.lab.uuid,
        acts: acts.collect(),
        within: within.into(),
        probe: args.probe.as_ref().or(drill.probe.as_ref()),
        patience: args.lock.patience(),
    };
    verdict::run(&trial, &Wanted { within, svg: args.svg.as_deref() })
}

/// Which nodes words mean is seen when the time has come. `None` where nothing is broken.
fn act<'a>(
    session: &'a Session,
    hypervisor: &'a Hypervisor,
    planned: &'a Planned,
    lot: Lot,
) -> Option<Act<'a>> {
    let wish = Wish::asked(&planned.command).ok()?;
    let hold = hold(&wish.verb, wish.time.map(Into::into));
    let heals_itself = wish.time.is_some();
    let choose = move || {
        let (verb, chosen) = wish.choose(session, hypervisor, Some(lot))?;
        let [chosen] = <[Chosen; 1]>::try_from(chosen).map_err(|_| {
            anyhow!("`{}` names nodes of several labs; a drill is that of one", planned.words)
        })?;
        Ok((verb, chosen))
    };
    Some(Act { at: planned.at.into(), hold, heals_itself, choose: Box::new(choose) })
}

/// A line for each fault.
fn print_plan(session: &Session, drill: &Drill) {
    for Planned { at, words, .. } in &drill.faults {
        session.printer.data(format!("{at}\t{words}"));
    }
}

const WITHIN: Span = Span(120_000);
