//! `virtlab fault` and `virtlab heal`: what is broken on purpose.

use std::thread;

use anyhow::Result;
use serde::Serialize;

use super::verdict;
use crate::boot_server::recorder::now_ms;
use crate::cli::fault::{
    ChangeArgs, ClockArgs, CutArgs, DelayArgs, FaultArgs, FaultCommand, FaultListArgs, HealArgs,
    LastingArgs, PartitionArgs, RateArgs, ShareArgs, SlowDiskArgs, SqueezeArgs, StarveArgs,
    VerdictArgs,
};
use crate::error::{all_errors, hinted};
use crate::hypervisor::{Found, Hypervisor, Inventory};
use crate::lab::LabName;
use crate::lab::fault::{Delay, FaultKind, Flaw, Percent};
use crate::lab::node_word::Lot;
use crate::lab::options::Span;
use crate::output::{Format, Printer, Table};
use crate::provision::faults::{FaultChange, FaultVerb};
use crate::provision::power::Chosen;
use crate::session::Session;
use crate::status::chosen::{self, Expanded};
use crate::status::faults::{self, FaultNow};
use crate::status::no_lab;
use crate::status::targets::{lab_names, targets};

/// `fault`.
pub(super) fn run(session: &Session, command: &FaultCommand) -> Result<()> {
    match Wish::asked(command) {
        Ok(wish) => wish.fulfil(session),
        Err(args) => list(session, args),
    }
}

/// `heal`.
pub(super) fn heal(session: &Session, args: &HealArgs) -> Result<()> {
    let hypervisor = session.hypervisor()?;
    let inventory = session.observe(&hypervisor)?;
    let change = change(session, &hypervisor, &args.change, FaultVerb::Heal);
    change_all(&change, &inventory, &or_all_labs(&inventory, &args.names))
}

/// A fault that somebody wishes for, before it is looked at which nodes there are.
pub(super) struct Wish<'a> {
    who: Who<'a>,
    /// Groups that are parted are filled in when it is known who is in them.
    pub(super) verb: FaultVerb,
    pub(super) time: Option<Span>,
    change: &'a ChangeArgs,
    verdict: &'a VerdictArgs,
}

/// Names and words for nodes.
enum Who<'a> {
    Nodes(&'a [String]),
    Groups(&'a LabName, &'a [String]),
}

impl<'a> Wish<'a> {
    /// The one of this command.
    ///
    /// # Errors
    /// If it is to list faults.
    pub(super) fn asked(command: &'a FaultCommand) -> Result<Self, &'a FaultListArgs> {
        let make = |kind| FaultVerb::Make(kind);
        let spoil = |args: &'a ShareArgs, flaw: fn(Percent) -> Flaw| {
            Self::lasting(&args.lasting, make(FaultKind::Wire(flaw(args.percent))))
        };
        Ok(match command {
            FaultCommand::List(args) => return Err(args),
            FaultCommand::Partition(args) => Self::parting(args),
            FaultCommand::Cut(CutArgs { flap, lasting }) => {
                Self::lasting(lasting, make(flap.map_or(FaultKind::Cut, FaultKind::Flap)))
            }
            FaultCommand::Pause(args) => Self::lasting(args, make(FaultKind::Pause)),
            FaultCommand::Kill(args) => Self::lasting(args, make(FaultKind::Kill)),
            FaultCommand::Starve(StarveArgs { cpu, lasting }) => {
                Self::lasting(lasting, make(FaultKind::Starve(*cpu)))
            }
            FaultCommand::SlowDisk(SlowDiskArgs { pace, lasting }) => {
                Self::lasting(lasting, make(FaultKind::SlowDisk(pace.pace())))
            }
            FaultCommand::Clock(ClockArgs { offset, lasting }) => {
                Self::lasting(lasting, make(FaultKind::Clock(*offset)))
            }
            FaultCommand::Delay(DelayArgs { by, jitter, lasting }) => {
                let delay = Flaw::Delay(Delay { by: *by, jitter: *jitter });
                Self::lasting(lasting, make(FaultKind::Wire(delay)))
            }
            FaultCommand::Loss(args) => spoil(args, Flaw::Loss),
            FaultCommand::Corrupt(args) => spoil(args, Flaw::Corrupt),
            FaultCommand::Duplicate(args) => spoil(args, Flaw::Duplicate),
            FaultCommand::Reorder(args) => spoil(args, Flaw::Reorder),
            FaultCommand::Rate(RateArgs { to, lasting }) => {
                Self::lasting(lasting, make(FaultKind::Wire(Flaw::Rate(*to))))
            }
            FaultCommand::Squeeze(SqueezeArgs { memory, lasting }) => {
                Self::lasting(lasting, make(FaultKind::Squeeze(*memory)))
            }
            FaultCommand::Isolate(args) => Self::lasting(args, FaultVerb::Isolate),
            FaultCommand::Reset(args) => Self::of(args, FaultVerb::Reset, None),
        })
    }

    fn of(args: &'a FaultArgs, verb: FaultVerb, time: Option<Span>) -> Self {
        let FaultArgs { names, change, verdict } = args;
        Self { who: Who::Nodes(names), verb, time, change, verdict }
    }

    fn lasting(args: &'a LastingArgs, verb: FaultVerb) -> Self {
        Self::of(&args.nodes, verb, args.term.time)
    }

    fn parting(args: &'a PartitionArgs) -> Self {
        let PartitionArgs { lab, groups, term, change, verdict } = args;
        let verb = FaultVerb::Partition(Vec::new());
        Self { who: Who::Groups(lab, groups), verb, time: term.time, change, verdict }
    }

    /// What is to be done with which nodes, as it is now. What words mean is told.
    pub(super) fn choose(
        &self,
        session: &Session,
        hypervisor: &Hypervisor,
        lot: Option<Lot>,
    ) -> Result<(FaultVerb, Vec<Chosen>)> {
        let inventory = session.observe(hypervisor)?;
        match self.who {
            Who::Nodes(names) => {
                let Expanded { nodes, meant } = chosen::names(hypervisor, &inventory, names, lot)?;
                note_all(session, meant);
                let targets = targets(&inventory, &nodes)?;
                Ok((self.verb.clone(), targets.iter().map(Chosen::from).collect()))
            }
            Who::Groups(lab, groups) => {
                let found = inventory.lab(lab).ok_or_else(|| no_lab(&inventory, lab))?;
                let Expanded { nodes: groups, meant } =
                    chosen::groups(hypervisor, found, groups, lot)?;
                note_all(session, meant);
                let nodes = groups.iter().flat_map(|group| group.iter()).collect();
                let uuid = found.lab.uuid;
                let chosen = Chosen { lab: lab.clone(), uuid, nodes, is_whole: false };
                Ok((FaultVerb::Partition(groups), vec![chosen]))
            }
        }
    }

    fn fulfil(&self, session: &Session) -> Result<()> {
        let hypervisor = session.hypervisor()?;
        let (verb, chosen) = self.choose(session, &hypervisor, None)?;
        let change = FaultChange {
            lasts: self.time.map(Into::into),
            ..change(session, &hypervisor, self.change, verb)
        };
        if self.verdict.verdict {
            self.refuse_unseen()?;
            verdict::of_one(&change, chosen, self.verdict)
        } else {
            change_chosen(&change, &chosen)
        }
    }

    /// # Errors
    /// If there is nothing to be judged while the fault lasts.
    fn refuse_unseen(&self) -> Result<()> {
        match self.verb {
            FaultVerb::Make(FaultKind::Clock(_)) => Err(hinted(
                "a clock is set at a node's next power-on, so there is nothing to judge (--verdict)",
                "`virtlab drill FILE` judges a `clock` with a `kill` after it",
            )),
            _ => Ok(()),
        }
    }
}

/// Which nodes words have chosen.
fn note_all(session: &Session, meant: Vec<String>) {
    for line in meant {
        session.printer.note(line);
    }
}

fn change<'a>(
    session: &'a Session<'a>,
    hypervisor: &'a Hypervisor,
    flags: &ChangeArgs,
    verb: FaultVerb,
) -> FaultChange<'a> {
    let ChangeArgs { dry_run, lock } = flags;
    let patience = lock.patience();
    FaultChange { session, hypervisor, verb, lasts: None, dry_run: *dry_run, patience }
}

/// Labs are worked on at the same time, and so are the nodes of each. What goes wrong in one keeps no other.
fn change_all(change: &FaultChange, inventory: &Inventory, names: &[String]) -> Result<()> {
    let targets = targets(inventory, names)?;
    change_chosen(change, &targets.iter().map(Chosen::from).collect::<Vec<_>>())
}

fn change_chosen(change: &FaultChange, chosen: &[Chosen]) -> Result<()> {
    let FaultChange { session, hypervisor, .. } = change;
    if change.dry_run {
        return all_errors(chosen.iter().map(|it| change.apply(it)).collect());
    }
    session.catch_signals()?;
    let results: Vec<Result<()>> = thread::scope(|scope| {
        let threads: Vec<_> =
            chosen.iter().map(|chosen| scope.spawn(|| change.apply(chosen))).collect();
        threads.into_iter().map(|it| it.join().expect("no lab's thread panics")).collect()
    });
    match change.verb {
        FaultVerb::Reset => note_reset(session, chosen, &results),
        FaultVerb::Make(FaultKind::Clock(_)) => note_clock(session),
        _ => {}
    }
    // For people there is nothing more to be said of a reset.
    if change.verb != FaultVerb::Reset || session.printer.format() != Format::Table {
        print_chosen(session, hypervisor, chosen)?;
    }
    all_errors(results)
}

/// A reset leaves no fault that could be listed.
fn note_reset(session: &Session, chosen: &[Chosen], results: &[Result<()>]) {
    for (chosen, _) in chosen.iter().zip(results).filter(|(_, result)| result.is_ok()) {
        let nodes: Vec<String> = chosen.nodes.iter().map(|it| chosen.lab.node(*it)).collect();
        let boot = if nodes.len() == 1 { "boots" } else { "boot" };
        session.printer.note(format!("{} {boot} anew", nodes.join(", ")));
    }
}

/// Nothing is seen of a clock before a node is started.
fn note_clock(session: &Session) {
    session.printer.note("a node has this time from its next power-on; `virtlab restart` is one");
}

/// Only nodes that have faults are listed.
fn list(session: &Session, args: &FaultListArgs) -> Result<()> {
    let hypervisor = session.hypervisor()?;
    let inventory = session.observe(&hypervisor)?;
    let targets = targets(&inventory, &or_all_labs(&inventory, &args.names))?;
    let nodes = targets.iter().flat_map(|target| {
        target.nodes.iter().map(|node| NodeFaults::of(target.found, node.index))
    });
    let nodes: Vec<NodeFaults> = nodes.filter(|node| !node.faults.is_empty()).collect();
    if nodes.is_empty() && session.printer.format() == Format::Table {
        session.printer.note("no node has a fault; `virtlab fault cut NODE` gives it one");
        return Ok(());
    }
    print(session.printer, nodes)
}

fn or_all_labs(inventory: &Inventory, names: &[String]) -> Vec<String> {
    if names.is_empty() { lab_names(inventory) } else { names.to_owned() }
}

/// A node and what is wrong with it.
#[derive(Serialize)]
struct NodeFaults {
    name: String,
    lab: String,
    faults: Vec<FaultNow>,
}

/// What `-o json` prints, see docs/faults.md.
#[derive(Serialize)]
struct Document {
    schema_version: u32,
    nodes: Vec<NodeFaults>,
}

impl NodeFaults {
    fn of(found: &Found, index: u32) -> Self {
        let name = &found.lab.name;
        let faults = faults::of(found, index);
        Self { name: name.node(index), lab: name.to_string(), faults }
    }
}

fn print_chosen(session: &Session, hypervisor: &Hypervisor, chosen: &[Chosen]) -> Result<()> {
    let inventory = session.observe(hypervisor)?;
    let nodes = chosen.iter().filter_map(|chosen| {
        let found = inventory.labs.get(&chosen.uuid)?;
        Some(chosen.nodes.iter().map(|index| NodeFaults::of(found, *index)).collect::<Vec<_>>())
    });
    print(session.printer, nodes.flatten().collect())
}

/// A row for each fault, and one for each node without.
fn print(printer: &Printer, nodes: Vec<NodeFaults>) -> Result<()> {
    let now_ms = now_ms();
    let mut table = Table::new(&["node", "fault", "since", "left"]);
    for node in &nodes {
        for FaultNow { fault, since_ms, until_ms, from, options, .. } in &node.faults {
            let seconds = now_ms.saturating_sub(*since_ms) / 1000;
            let what = match (from.as_slice(), options) {
                ([], None) => (*fault).to_owned(),
                ([], Some(options)) => format!("{fault} {options}"),
                (from, _) => format!("{fault} from {}", from.join(", ")),
            };
            let left = until_ms.map(|until| until.saturating_sub(now_ms).div_ceil(1000));
            let left = left.map_or_else(|| "-".to_owned(), |seconds| format!("{seconds} s"));
            table.row([node.name.clone(), what, format!("{seconds} s"), left]);
        }
        if node.faults.is_empty() {
            table.row([node.name.as_str(), "-", "-", "-"].map(str::to_owned));
        }
    }
    let names: Vec<String> = nodes.iter().map(|node| node.name.clone()).collect();
    printer.listing(&Document { schema_version: SCHEMA_VERSION, nodes }, &names, &table)
}

const SCHEMA_VERSION: u32 = 1;
