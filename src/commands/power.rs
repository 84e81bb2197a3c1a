//! `virtlab start`, `stop`, `restart`, `pause`, `resume`: the power of labs and of nodes.

use std::collections::BTreeSet;
use std::thread;
use std::time::Duration;

use anyhow::Result;

use super::node_states::{self, NodeState};
use super::progress;
use crate::cli::power::{PowerArgs, ReadyArgs, RestartArgs, StartArgs, StopArgs};
use crate::error::all_errors;
use crate::hypervisor::{Found, Hypervisor};
use crate::lab::plan::PowerOff;
use crate::provision::power::{Booted, Chosen, PowerChange, PowerVerb};
use crate::provision::shutdown::Shutdown;
use crate::session::Session;
use crate::status::missing::Awaited;
use crate::status::no_lab;
use crate::status::targets::targets;

/// `start`.
pub(super) fn start(session: &Session, args: &StartArgs) -> Result<()> {
    let how = How { power: &args.power, shutdown: Shutdown::default(), ready: Some(&args.ready) };
    how.run(session, PowerVerb::Start)
}

/// `restart`.
pub(super) fn restart(session: &Session, args: &RestartArgs) -> Result<()> {
    let shutdown = Shutdown::Within(args.stop_timeout.into());
    let how = How { power: &args.power, shutdown, ready: Some(&args.ready) };
    how.run(session, PowerVerb::Restart(power_off(args.force)))
}

/// `stop`.
pub(super) fn stop(session: &Session, args: &StopArgs) -> Result<()> {
    let shutdown =
        if args.no_wait { Shutdown::Asked } else { Shutdown::Within(args.timeout.into()) };
    let how = How { power: &args.power, shutdown, ready: None };
    how.run(session, PowerVerb::Stop(power_off(args.force)))
}

/// `pause`.
pub(super) fn pause(session: &Session, args: &PowerArgs) -> Result<()> {
    How::at_once(args).run(session, PowerVerb::Pause)
}

/// `resume`.
pub(super) fn resume(session: &Session, args: &PowerArgs) -> Result<()> {
    How::at_once(args).run(session, PowerVerb::Resume)
}

fn power_off(force: bool) -> PowerOff {
    if force { PowerOff::Plug } else { PowerOff::Shutdown }
}

/// What was asked for beside the verb.
struct How<'a> {
    power: &'a PowerArgs,
    shutdown: Shutdown,
    ready: Option<&'a ReadyArgs>,
}

impl<'a> How<'a> {
    fn at_once(power: &'a PowerArgs) -> Self {
        Self { power, shutdown: Shutdown::default(), ready: None }
    }

    /// Labs are worked on at the same time, and so are the nodes of each. What goes wrong in one keeps no other.
    fn run(&self, session: &Session, verb: PowerVerb) -> Result<()> {
        let hypervisor = session.hypervisor()?;
        let inventory = session.observe(&hypervisor)?;
        let targets = targets(&inventory, &self.power.names)?;
        let chosen: Vec<Chosen> = targets.iter().map(Chosen::from).collect();
        let change = PowerChange {
            session,
            hypervisor: &hypervisor,
            verb,
            shutdown: self.shutdown,
            overcommit: self.ready.is_some_and(|ready| ready.overcommit),
            dry_run: self.power.dry_run,
            patience: self.power.lock.patience(),
        };
        if self.power.dry_run {
            return all_errors(chosen.iter().map(|it| change.apply(it).map(drop)).collect());
        }
        session.catch_signals()?;
        let done: Vec<Result<Booted>> = thread::scope(|scope| {
            let threads: Vec<_> =
                chosen.iter().map(|chosen| scope.spawn(|| change.apply(chosen))).collect();
            threads.into_iter().map(|it| it.join().expect("no lab's thread panics")).collect()
        });
        let waits = self.ready.filter(|ready| !ready.no_wait);
        let mut ready = BTreeSet::new();
        let mut results = Vec::new();
        for (chosen, done) in chosen.iter().zip(done) {
            results.push(done.and_then(|booted| {
                let Some(args) = waits else { return Ok(()) };
                until_ready(session, &hypervisor, args, chosen, booted)?;
                ready.extend(chosen.nodes.iter().map(|index| (chosen.uuid, *index)));
                Ok(())
            }));
        }
        let inventory = session.observe(&hypervisor)?;
        let states = chosen.iter().filter_map(|chosen| {
            let found = inventory.labs.get(&chosen.uuid)?;
            let state = |index: &u32| {
                let is_ready = ready.contains(&(chosen.uuid, *index));
                NodeState::of(found, *index, is_ready.then_some(true))
            };
            Some(chosen.nodes.iter().map(state).collect::<Vec<_>>())
        });
        node_states::print(session.printer, states.flatten().collect())?;
        all_errors(results)
    }
}

/// Waits for the nodes of a lab that was restored, unless nobody wants that, and prints the states of all of its nodes.
pub(super) fn until_restored(
    session: &Session,
    hypervisor: &Hypervisor,
    found: &Found,
    booted: Booted,
    timeout: Option<Duration>,
) -> Result<()> {
    let lab = &found.lab;
    let on = booted.nodes.clone();
    let waited = timeout.map_or(Ok(()), |timeout| {
        let nodes = lab.nodes().into_iter().filter(|it| on.contains(&it.index)).collect();
        let awaited = Awaited { nodes, booted: booted.nodes, since_ms: booted.since_ms };
        progress::until_ready(session, hypervisor, found, &awaited, true, timeout)
    });
    let are_ready = timeout.is_some() && waited.is_ok();
    let state = |index: u32| {
        let is_ready = are_ready && on.contains(&index);
        NodeState::of(found, index, is_ready.then_some(true))
    };
    node_states::print(session.printer, (1..=lab.spec.nodes).map(state).collect())?;
    waited
}

fn until_ready(
    session: &Session,
    hypervisor: &Hypervisor,
    args: &ReadyArgs,
    chosen: &Chosen,
    booted: Booted,
) -> Result<()> {
    let inventory = session.observe(hypervisor)?;
    let found = inventory.labs.get(&chosen.uuid).ok_or_else(|| no_lab(&inventory, &chosen.lab))?;
    let lab = &found.lab;
    let Booted { nodes, since_ms } = booted;
    let awaited = Awaited {
        nodes: lab.nodes().into_iter().filter(|it| chosen.nodes.contains(&it.index)).collect(),
        booted: nodes,
        since_ms,
    };
    progress::until_ready(session, hypervisor, found, &awaited, true, args.timeout.into())
}
