//! `virtlab fault … --verdict`: what a fault did to a lab's etcd.

use std::collections::BTreeSet;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use fs_err as fs;
use serde::Serialize;

use crate::cli::fault::VerdictArgs;
use crate::error::{TimedOut, hinted};
use crate::files;
use crate::lab::LabName;
use crate::lab::options::Span;
use crate::provision::faults::FaultChange;
use crate::provision::power::Chosen;
use crate::provision::trial::{Act, Trial, Tried, hold};
use crate::verdict::history::History;
use crate::verdict::judge::{Moments, Verdict, judge};
use crate::verdict::picture;

/// What `-o json` prints, see docs/faults.md.
#[derive(Serialize)]
struct Document<'a> {
    schema_version: u32,
    lab: &'a LabName,
    /// Those that were broken.
    nodes: &'a [String],
    #[serde(flatten)]
    verdict: &'a Verdict,
    #[serde(flatten)]
    moments: &'a Moments,
    history: &'a History,
}

/// What is wanted of a verdict.
pub(super) struct Wanted<'a> {
    /// How soon all is to be well again.
    pub(super) within: Span,
    /// Where the picture goes.
    pub(super) svg: Option<&'a Path>,
}

/// Breaks nodes once, heals them, and prints the verdict.
pub(super) fn of_one(change: &FaultChange, chosen: Vec<Chosen>, args: &VerdictArgs) -> Result<()> {
    let [chosen] = <[Chosen; 1]>::try_from(chosen).map_err(|_| {
        hinted("a verdict is that of one lab (--verdict)", "name nodes of one lab, or one lab")
    })?;
    let FaultChange { session, hypervisor, patience, .. } = *change;
    let act = Act {
        at: Duration::ZERO,
        hold: hold(&change.verb, change.lasts),
        heals_itself: false,
        choose: Box::new(|| Ok((change.verb.clone(), chosen.clone()))),
    };
    let (lab, uuid, acts) = (&chosen.lab, chosen.uuid, vec![act]);
    let within = args.within.into();
    let probe = args.probe.as_ref();
    let title = &format!("{} {}", change.verb.name(), names(lab, &chosen.nodes).join(", "));
    let trial = Trial { session, hypervisor, lab, uuid, title, acts, within, probe, patience };
    run(&trial, &Wanted { within: args.within, svg: args.svg.as_deref() })
}

/// Tries it, and prints the verdict.
pub(super) fn run(trial: &Trial, wanted: &Wanted) -> Result<()> {
    if let Some(path) = wanted.svg {
        files::require_writable("--svg", path)?;
    }
    let Trial { session, lab, .. } = *trial;
    session.catch_signals()?;
    let Tried { history, moments, nodes } = trial.run()?;
    let verdict = judge(&history, &moments, wanted.within.0);
    if let Some(path) = wanted.svg {
        let svg = picture::to_svg(trial.title, &history, &moments, &verdict)?;
        fs::write(path, svg).with_context(|| format!("writing `{}` (--svg)", path.display()))?;
    }
    let nodes = names(lab, &nodes);
    let document = Document {
        schema_version: SCHEMA_VERSION,
        lab,
        nodes: &nodes,
        verdict: &verdict,
        moments: &moments,
        history: &history,
    };
    session.printer.document(&document, &nodes, || verdict.summary.clone())?;
    refuse_failed(lab, &verdict)
}

fn names(lab: &LabName, nodes: &BTreeSet<u32>) -> Vec<String> {
    nodes.iter().map(|index| lab.node(*index)).collect()
}

/// A cluster that needs too long is a wait that timed out; one that lost something is worse.
fn refuse_failed(lab: &LabName, verdict: &Verdict) -> Result<()> {
    if verdict.passed {
        return Ok(());
    }
    let message = format!("lab `{lab}` did not pass:\n  {}", verdict.problems.join("\n  "));
    if verdict.is_late_only() {
        return Err(TimedOut { message, hint: None }.into());
    }
    bail!(message)
}

const SCHEMA_VERSION: u32 = 1;
