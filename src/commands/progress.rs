//! How far the nodes are, as it is seen while one waits for them: live on a terminal, a line for each stage elsewhere.

use std::collections::BTreeSet;
use std::time::Duration;

use anyhow::Result;
use indicatif::ProgressBar;

use crate::boot_server::recorder::timeline::{NodeTimeline, Timeline};
use crate::boot_server::stage::Stage;
use crate::hypervisor::{Found, Hypervisor};
use crate::lab::{Lab, Node};
use crate::output::terminal::Size;
use crate::output::{Printer, sanitize};
use crate::session::Session;
use crate::status::behind;
use crate::status::missing::Awaited;
use crate::status::wait::{self, News};

/// Waits until the nodes are ready, and shows how far they are. `was_up` says that they were up before, so that what they
/// have reached is no news.
///
/// # Errors
/// As [`wait::until_ready`].
pub(super) fn until_ready(
    session: &Session,
    hypervisor: &Hypervisor,
    found: &Found,
    awaited: &Awaited,
    was_up: bool,
    timeout: Duration,
) -> Result<()> {
    let mut progress = Progress::new(session.printer, &awaited.nodes, was_up);
    let mut show = |news: News| match news {
        News::Known(known) => progress.show(known),
        News::Silent(lab) => session.printer.warn(silence(lab)),
        News::Unheard(unheard) => session.printer.warn(unheard),
        News::Held(line) | News::Faulty(line) => session.printer.warn(line),
    };
    let waited = wait::until_ready(session, hypervisor, found, awaited, timeout, &mut show);
    progress.finish();
    waited
}

/// That the boot server of a lab does not answer.
pub(super) fn silence(lab: &Lab) -> String {
    format!(
        "the boot server at {} does not answer; `virtlab create {}` brings it back",
        lab.boot_url(),
        lab.name
    )
}

/// The stages as they are reached.
struct Progress<'a> {
    printer: &'a Printer,
    live: Option<Live>,
    told: BTreeSet<(u32, Stage)>,
    /// What was reached before is no news.
    skips: bool,
}

impl<'a> Progress<'a> {
    /// `was_up` says that the lab was complete before, so that what its nodes have reached is no news.
    fn new(printer: &'a Printer, awaited: &[Node], was_up: bool) -> Self {
        let live = printer.is_live().then(|| Live::new(printer, awaited));
        Self { printer, live, told: BTreeSet::new(), skips: was_up }
    }

    /// Shows what is known now.
    fn show(&mut self, known: &Timeline) {
        if let Some(live) = &self.live {
            return live.show(known);
        }
        if std::mem::take(&mut self.skips) {
            let reached = |node: &NodeTimeline| {
                let index = node.index;
                node.stages.keys().map(move |stage| (index, *stage)).collect::<Vec<_>>()
            };
            self.told.extend(known.nodes.iter().flat_map(reached));
        }
        for node in &known.nodes {
            for stage in node.stages.keys() {
                if self.told.insert((node.index, *stage)) && *stage != Stage::PowerOn {
                    let after = node.seconds_to(*stage).unwrap_or_default();
                    let (name, stage) = (&node.name, stage.name());
                    self.printer.note(format!("{name}: {stage} after {after:.1} s"));
                }
            }
        }
    }

    /// Takes what is live from the terminal.
    fn finish(&self) {
        self.live.iter().for_each(Live::finish);
    }
}

/// Lines in place: how many are ready and since when one waits, and a line for each node that has room.
struct Live {
    awaited: Vec<u32>,
    summary: ProgressBar,
    rows: Vec<ProgressBar>,
}

impl Live {
    fn new(printer: &Printer, awaited: &[Node]) -> Self {
        let summary = printer.clock(&summary(0, awaited.len()));
        // One line is the summary's, and the cursor stands in the last one.
        let room =
            Size::of(std::io::stderr()).rows.saturating_sub(2).clamp(1, awaited.len().max(1));
        let rows = (0..room).map(|_| printer.spinner("")).collect();
        Self { awaited: awaited.iter().map(|node| node.index).collect(), summary, rows }
    }

    fn show(&self, known: &Timeline) {
        let nodes: Vec<&NodeTimeline> =
            known.nodes.iter().filter(|node| self.awaited.contains(&node.index)).collect();
        let ready = nodes.iter().filter(|node| node.has(Stage::Ready)).count();
        self.summary.set_message(summary(ready, self.awaited.len()));
        let shown = behind::in_room(nodes, self.rows.len());
        let width = shown.nodes.iter().map(|node| node.name.chars().count()).max().unwrap_or(0);
        let mut rows = self.rows.iter();
        for (node, row) in shown.nodes.iter().zip(&mut rows) {
            row.set_prefix(format!("{:<width$}", sanitize(&node.name)));
            row.set_message(stages(node));
        }
        if let Some(row) = rows.next()
            && shown.others > 0
        {
            row.set_prefix(format!("and {} more, at least as far", shown.others));
            row.set_message("");
        }
    }

    fn finish(&self) {
        std::iter::once(&self.summary).chain(&self.rows).for_each(ProgressBar::finish_and_clear);
    }
}

fn summary(ready: usize, all: usize) -> String {
    format!("{ready} of {all} nodes ready")
}

/// `script 2.5s  kernel 2.8s  …`
fn stages(node: &NodeTimeline) -> String {
    let stages = node.stages.keys().filter(|stage| **stage != Stage::PowerOn);
    let stages: Vec<String> = stages
        .map(|stage| {
            format!("{} {:.1}s", stage.name(), node.seconds_to(*stage).unwrap_or_default())
        })
        .collect();
    if stages.is_empty() { "starting".to_owned() } else { stages.join("  ") }
}
