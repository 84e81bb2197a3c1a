//! Faults while clients are at work: they begin, nodes are broken and healed again, and the clients go on until all is well.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use uuid::Uuid;

use super::faults::{FaultChange, FaultVerb};
use super::live_picture::LivePicture;
use super::power::{Chosen, removed};
use crate::boot_server::page::VERDICT_FILE;
use crate::cluster::etcd::{self, Endpoint};
use crate::cluster::readiness;
use crate::deadline::Deadline;
use crate::error::{Interrupted, hinted};
use crate::hypervisor::Hypervisor;
use crate::images::Readiness;
use crate::lab::metadata::Power;
use crate::lab::{Lab, LabName};
use crate::output::seconds;
use crate::session::Session;
use crate::state::StateDir;
use crate::status::addresses;
use crate::status::faults::heal;
use crate::status::readiness::{away, endpoints};
use crate::verdict::history::{History, Span};
use crate::verdict::judge::{Breakage, Moments};
use crate::verdict::workload::{TICK, Workload, millis};

/// What is tried on a lab.
pub(crate) struct Trial<'a> {
    pub(crate) session: &'a Session<'a>,
    pub(crate) hypervisor: &'a Hypervisor,
    /// The lab.
    pub(crate) lab: &'a LabName,
    /// Its UUID.
    pub(crate) uuid: Uuid,
    /// What its picture is called.
    pub(crate) title: &'a str,
    /// What is broken, in the order of time.
    pub(crate) acts: Vec<Act<'a>>,
    /// How soon its nodes have to be well again. It is waited for somewhat longer, so that one sees how late it is.
    pub(crate) within: Duration,
    /// What nodes are asked for instead of their etcd.
    pub(crate) probe: Option<&'a Readiness>,
    /// How long another virtlab that works on the lab is waited for.
    pub(crate) patience: Option<Duration>,
}

/// One fault of a trial.
pub(crate) struct Act<'a> {
    /// How long after the clients have worked for a while.
    pub(crate) at: Duration,
    /// How long the nodes are broken at the least.
    pub(crate) hold: Duration,
    /// Whether they are healed after that, and not only when all is over.
    pub(crate) heals_itself: bool,
    /// How they are broken and which: chosen when its time has come.
    pub(crate) choose: Box<dyn Fn() -> Result<(FaultVerb, Chosen)> + 'a>,
}

/// How long nodes are broken: for so long as somebody said, or for a while. One that was reset boots at once.
pub(crate) fn hold(verb: &FaultVerb, lasts: Option<Duration>) -> Duration {
    if *verb == FaultVerb::Reset { Duration::ZERO } else { lasts.unwrap_or(HOLD) }
}

impl Act<'_> {
    fn end(&self) -> Duration {
        self.at + self.hold
    }
}

/// What came of a trial.
pub(crate) struct Tried {
    /// What clients did and saw.
    pub(crate) history: History,
    /// What was broken when.
    pub(crate) moments: Moments,
    /// The nodes that were.
    pub(crate) nodes: BTreeSet<u32>,
}

/// A trial that goes on.
struct Run {
    workload: Workload,
    faults: Vec<Breakage>,
    nodes: BTreeSet<u32>,
    /// Whether something has to be healed: what was reset boots by itself.
    has_to_heal: bool,
    heal: Option<Span>,
    picture: LivePicture,
}

impl Run {
    /// What was done so far. What is broken is so until now.
    fn moments_now(&self) -> Moments {
        let now_ms = self.workload.now_ms();
        let mut faults = self.faults.clone();
        for fault in faults.iter_mut().filter(|_| self.heal.is_none()) {
            fault.until_ms = Some(fault.until_ms.unwrap_or(now_ms).min(now_ms));
        }
        Moments { faults, heal: self.heal }
    }

    fn draw(&mut self) {
        let Self { workload, picture, .. } = self;
        if picture.is_due() {
            let (history, moments) = (workload.so_far(), self.moments_now());
            self.picture.draw(&history, &moments);
        }
    }
}

impl Trial<'_> {
    /// Tries it. Signals are to be caught. The nodes are healed whatever goes wrong.
    ///
    /// # Errors
    /// If the lab has faults already or is not well; if nodes could not be broken or healed; [`Interrupted`].
    pub(crate) fn run(&self) -> Result<Tried> {
        let mut run = self.start()?;
        let printer = self.session.printer;
        let work = if self.probe.is_some() { "asking all nodes" } else { "writing and reading" };
        printer.note(format!("{work} for {} before the fault", seconds(BEFORE)));
        self.pass(&mut run, BEFORE)?;
        let played = self.play(&mut run);
        // That something is broken still is worse than why.
        run.heal = self.heal_all(&run)?;
        played?;
        let (turn_ms, _) = run.moments_now().turn();
        // Whether it became so is in the history.
        Deadline::after(self.within.max(PATIENCE)).wait_for(TICK, || {
            self.session.refuse_interrupt()?;
            run.draw();
            Ok(run.workload.healthy_ms(turn_ms))
        })?;
        self.pass(&mut run, AFTER)?;
        let Run { workload, faults, nodes, heal, mut picture, .. } = run;
        let (history, moments) = (workload.finish()?, Moments { faults, heal });
        picture.draw(&history, &moments);
        Ok(Tried { history, moments, nodes })
    }

    /// Breaks what is to be broken, each at its time, and lets it be so until the end.
    fn play(&self, run: &mut Run) -> Result<()> {
        let begun = Instant::now();
        let left = |at: Duration| at.saturating_sub(begun.elapsed());
        for act in &self.acts {
            self.pass(run, left(act.at))?;
            self.break_nodes(run, act)?;
        }
        self.pass(run, left(self.end()))
    }

    fn end(&self) -> Duration {
        self.acts.iter().map(Act::end).max().unwrap_or_default()
    }

    fn break_nodes(&self, run: &mut Run, act: &Act) -> Result<()> {
        let (verb, chosen) = (act.choose)()?;
        if chosen.uuid != self.uuid {
            bail!("lab `{}` is not the one that is tried, `{}`", chosen.lab, self.lab);
        }
        let is_reset = verb == FaultVerb::Reset;
        // What does not heal itself lasts until the end. Should this run be killed, the lab's boot server heals it somewhat later.
        let (hold, lasts) = if act.heals_itself {
            (act.hold, act.hold)
        } else {
            let hold = self.end().saturating_sub(act.at);
            (hold, hold + RESCUE)
        };
        let change = FaultChange { lasts: (!is_reset).then_some(lasts), ..self.change(verb) };
        let nodes = names(self.lab, &chosen.nodes);
        let what = format!("{} {nodes}", change.verb.name());
        run.nodes.extend(&chosen.nodes);
        run.has_to_heal |= !is_reset;
        let made = span(&run.workload, || change.apply(&chosen))?;
        let who = if self.acts.len() == 1 { &nodes } else { &what };
        self.session.printer.note(if is_reset {
            format!("{who}: booting anew")
        } else {
            format!("{who}: broken for {}", seconds(hold))
        });
        let is_over_early = act.heals_itself && act.end() < self.end();
        let until_ms = is_over_early.then(|| made.from_ms + millis(act.hold));
        run.faults.push(Breakage { what, made, until_ms });
        Ok(())
    }

    /// To the end, also if somebody presses Ctrl-C.
    fn heal_all(&self, run: &Run) -> Result<Option<Span>> {
        if !run.has_to_heal {
            return Ok(None);
        }
        let nodes = &run.nodes;
        let (printer, lab) = (self.session.printer, self.lab);
        if self.session.is_interrupted() {
            printer.note(format!("healing lab `{lab}`, as `virtlab heal {lab}` does"));
        }
        let session = &self.session.undisturbed();
        let change = FaultChange { session, ..self.change(FaultVerb::Heal) };
        let chosen =
            Chosen { lab: lab.clone(), uuid: self.uuid, nodes: nodes.clone(), is_whole: false };
        let heal = span(&run.workload, || change.apply(&chosen))?;
        printer.note(format!("{}: healed", names(lab, nodes)));
        Ok(Some(heal))
    }

    fn change(&self, verb: FaultVerb) -> FaultChange<'_> {
        let Self { session, hypervisor, patience, .. } = *self;
        FaultChange { session, hypervisor, verb, lasts: None, dry_run: false, patience }
    }

    /// Clients at work, if all is well.
    fn start(&self) -> Result<Run> {
        let inventory = self.session.observe(self.hypervisor)?;
        let found = inventory.labs.get(&self.uuid).with_context(|| removed(self.lab))?;
        let lab = &found.lab;
        if let Some(index) = found.faulty().next() {
            return Err(hinted(
                format!("node `{}` has a fault already (--verdict)", lab.name.node(index)),
                format!("`{}` takes it away", heal(found)),
            ));
        }
        let known = addresses::find(self.hypervisor, lab, false)?.into_iter();
        let (on, off): (Vec<_>, Vec<_>) =
            known.partition(|(index, _)| found.wanted(*index) == Power::On);
        let endpoints = endpoints(lab, &on, etcd::CLIENT_PORT);
        if let Some(probe) = self.probe {
            refuse_silent(lab, probe, &endpoints)?;
            return self.begin(lab, Workload::probing(probe, &endpoints)?);
        }
        let off = off.into_iter().map(|(index, ip)| (index, ip, found.wanted(index)));
        let away = away(lab, off, etcd::CLIENT_PORT);
        let report = etcd::glance_without(&endpoints, &away)?;
        if !report.healthy {
            let problems = report.problems().join("\n  ");
            bail!("lab `{}` has no healthy etcd to be broken:\n  {problems}", lab.name);
        }
        self.begin(lab, Workload::start(&endpoints)?)
    }

    fn begin(&self, lab: &Lab, workload: Workload) -> Result<Run> {
        let path = StateDir::of(lab)?.path().join(VERDICT_FILE);
        Ok(Run {
            workload,
            faults: Vec::new(),
            nodes: BTreeSet::new(),
            has_to_heal: false,
            heal: None,
            picture: LivePicture::new(path, self.title, self.within),
        })
    }

    fn pass(&self, run: &mut Run, time: Duration) -> Result<()> {
        let is_interrupted = || {
            run.draw();
            Ok(self.session.is_interrupted().then_some(()))
        };
        match Deadline::after(time).wait_for(TICK, is_interrupted)? {
            Some(()) => Err(Interrupted.into()),
            None => Ok(()),
        }
    }
}

/// A node that does not answer before the fault tells nothing of it.
fn refuse_silent(lab: &Lab, probe: &Readiness, endpoints: &[Endpoint]) -> Result<()> {
    let answers = readiness::are_ready(probe, None, endpoints)?;
    let silent = endpoints.iter().zip(answers).find(|(_, answers)| !answers);
    let Some((Endpoint { name, .. }, _)) = silent else { return Ok(()) };
    Err(hinted(
        format!("node `{name}` does not answer {probe} (--probe)"),
        format!("`virtlab status {}` shows how far it is", lab.name),
    ))
}

fn names(lab: &LabName, nodes: &BTreeSet<u32>) -> String {
    nodes.iter().map(|index| lab.node(*index)).collect::<Vec<_>>().join(", ")
}

/// From when to when something is done.
fn span(workload: &Workload, work: impl FnOnce() -> Result<()>) -> Result<Span> {
    let from_ms = workload.now_ms();
    work()?;
    Ok(Span { from_ms, to_ms: workload.now_ms() })
}

/// How long clients work before the fault, so that one sees how it was.
const BEFORE: Duration = Duration::from_secs(3);
/// How long nodes are broken unless it is said.
const HOLD: Duration = Duration::from_secs(10);
/// How much later the boot server heals what a killed run has left.
const RESCUE: Duration = Duration::from_secs(10);
/// How long they work when all is well again.
const AFTER: Duration = Duration::from_secs(1);
/// An emulated cluster takes some ten seconds.
const PATIENCE: Duration = Duration::from_secs(120);
