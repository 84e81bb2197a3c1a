//! A fault while clients are at work: they begin, the nodes are broken and healed again, and the clients go on until all is well.

use std::time::Duration;

use anyhow::{Context, Result, bail};

use super::faults::{FaultChange, FaultVerb};
use super::power::{Chosen, removed};
use crate::cluster::etcd::{self, Endpoint};
use crate::deadline::Deadline;
use crate::error::{Interrupted, hinted};
use crate::lab::metadata::Power;
use crate::output::seconds;
use crate::status::addresses;
use crate::status::faults::heal;
use crate::status::readiness::{away, endpoints};
use crate::verdict::history::{History, Span};
use crate::verdict::judge::Moments;
use crate::verdict::workload::{TICK, Workload};

/// What is tried on a lab.
pub(crate) struct Trial<'a> {
    /// How its nodes are broken.
    pub(crate) fault: &'a FaultChange<'a>,
    /// Which.
    pub(crate) chosen: &'a Chosen,
    /// How soon its etcd has to be healthy again. It is waited for somewhat longer, so that one sees how late it is.
    pub(crate) within: Duration,
}

impl Trial<'_> {
    /// Tries it. Signals are to be caught. The nodes are healed whatever goes wrong.
    ///
    /// # Errors
    /// If the lab has faults already or its etcd is not healthy; if nodes could not be broken or healed; [`Interrupted`].
    pub(crate) fn run(&self) -> Result<(History, Moments)> {
        let workload = Workload::start(&self.healthy_endpoints()?)?;
        let printer = self.fault.session.printer;
        printer.note(format!("writing and reading for {} before the fault", seconds(BEFORE)));
        self.pass(BEFORE)?;
        let fault = span(&workload, || {
            self.break_nodes()?;
            printer.note(self.broken());
            Ok(())
        });
        let moments = self.hold_and_heal(&workload, fault)?;
        // Whether it became so is in the history.
        Deadline::after(self.within.max(PATIENCE)).wait_for(TICK, || {
            self.fault.session.refuse_interrupt()?;
            Ok(workload.healthy_ms(moments.turn().0))
        })?;
        self.pass(AFTER)?;
        Ok((workload.finish()?, moments))
    }

    /// Should this run be killed, the lab's boot server heals them somewhat later.
    fn break_nodes(&self) -> Result<()> {
        let verb = self.fault.verb.clone();
        let lasts = (verb != FaultVerb::Reset).then(|| self.hold() + RESCUE);
        FaultChange { verb, lasts, ..*self.fault }.apply(self.chosen)
    }

    /// How long the nodes are broken.
    fn hold(&self) -> Duration {
        self.fault.lasts.unwrap_or(HOLD)
    }

    /// A node that was reset boots by itself.
    fn hold_and_heal(&self, workload: &Workload, fault: Result<Span>) -> Result<Moments> {
        if self.fault.verb == FaultVerb::Reset {
            return Ok(Moments { fault: fault?, heal: None });
        }
        let held = fault.and_then(|fault| self.pass(self.hold()).map(|()| fault));
        // That something is broken still is worse than why.
        let heal = span(workload, || self.heal())?;
        self.fault.session.printer.note(format!("{}: healed", self.nodes()));
        Ok(Moments { fault: held?, heal: Some(heal) })
    }

    /// Where the etcds are, if all is well.
    fn healthy_endpoints(&self) -> Result<Vec<Endpoint>> {
        let FaultChange { session, hypervisor, .. } = self.fault;
        let inventory = session.observe(hypervisor)?;
        let found = inventory.labs.get(&self.chosen.uuid).with_context(|| removed(self.chosen))?;
        let lab = &found.lab;
        if let Some(index) = found.faulty().next() {
            return Err(hinted(
                format!("node `{}` has a fault already (--verdict)", lab.name.node(index)),
                format!("`{}` takes it away", heal(found)),
            ));
        }
        let known = addresses::find(hypervisor, lab, false)?.into_iter();
        let (on, off): (Vec<_>, Vec<_>) =
            known.partition(|(index, _)| found.wanted(*index) == Power::On);
        let off = off.into_iter().map(|(index, ip)| (index, ip, found.wanted(index)));
        let away = away(lab, off, etcd::CLIENT_PORT);
        let endpoints = endpoints(lab, &on, etcd::CLIENT_PORT);
        let report = etcd::glance_without(&endpoints, &away)?;
        if !report.healthy {
            let problems = report.problems().join("\n  ");
            bail!("lab `{}` has no healthy etcd to be broken:\n  {problems}", lab.name);
        }
        Ok(endpoints)
    }

    /// To the end, also if somebody presses Ctrl-C.
    fn heal(&self) -> Result<()> {
        let session = self.fault.session;
        if session.is_interrupted() {
            let lab = &self.chosen.lab;
            session.printer.note(format!("healing lab `{lab}`, as `virtlab heal {lab}` does"));
        }
        let session = &session.undisturbed();
        let verb = FaultVerb::Heal;
        FaultChange { session, verb, lasts: None, ..*self.fault }.apply(self.chosen)
    }

    fn pass(&self, time: Duration) -> Result<()> {
        let is_interrupted = || Ok(self.fault.session.is_interrupted().then_some(()));
        match Deadline::after(time).wait_for(TICK, is_interrupted)? {
            Some(()) => Err(Interrupted.into()),
            None => Ok(()),
        }
    }

    fn broken(&self) -> String {
        let nodes = self.nodes();
        match self.fault.verb {
            FaultVerb::Reset => format!("{nodes}: booting anew"),
            _ => format!("{nodes}: broken for {}", seconds(self.hold())),
        }
    }

    fn nodes(&self) -> String {
        let names = self.chosen.nodes.iter().map(|index| self.chosen.lab.node(*index));
        names.collect::<Vec<_>>().join(", ")
    }
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
