//! `virtlab fault … --verdict`: what a fault did to a lab's etcd.

use anyhow::{Context, Result, bail};
use fs_err as fs;
use serde::Serialize;

use crate::cli::fault::VerdictArgs;
use crate::error::{TimedOut, hinted};
use crate::files;
use crate::lab::LabName;
use crate::provision::faults::FaultChange;
use crate::provision::power::Chosen;
use crate::provision::trial::Trial;
use crate::verdict::history::History;
use crate::verdict::judge::{Moments, Verdict, judge};
use crate::verdict::picture;

/// What `-o json` prints, see docs/faults.md.
#[derive(Serialize)]
struct Document<'a> {
    schema_version: u32,
    lab: &'a LabName,
    /// Those that were named.
    nodes: &'a [String],
    #[serde(flatten)]
    verdict: &'a Verdict,
    #[serde(flatten)]
    moments: Moments,
    history: &'a History,
}

/// Breaks the nodes, heals them, and prints the verdict.
pub(super) fn run(change: &FaultChange, chosen: &[Chosen], args: &VerdictArgs) -> Result<()> {
    let [chosen] = chosen else {
        return Err(hinted(
            "a verdict is that of one lab (--verdict)",
            "name nodes of one lab, or one lab",
        ));
    };
    if let Some(path) = &args.svg {
        files::require_writable("--svg", path)?;
    }
    let lab = &chosen.lab;
    change.session.catch_signals()?;
    let trial = Trial { fault: change, chosen, within: args.within.into() };
    let (history, moments) = trial.run()?;
    let verdict = judge(&history, &moments, args.within.0);
    let nodes: Vec<String> = chosen.nodes.iter().map(|index| lab.node(*index)).collect();
    if let Some(path) = &args.svg {
        let title = format!("{} {}", change.verb.name(), nodes.join(", "));
        let svg = picture::to_svg(&title, &history, &moments, &verdict)?;
        fs::write(path, svg).with_context(|| format!("writing `{}` (--svg)", path.display()))?;
    }
    let document = Document {
        schema_version: SCHEMA_VERSION,
        lab,
        nodes: &nodes,
        verdict: &verdict,
        moments,
        history: &history,
    };
    change.session.printer.document(&document, &nodes, || verdict.summary.clone())?;
    refuse_failed(lab, &verdict)
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
