//! How far the nodes are, as it is seen while one waits for them: live on a terminal, a line for each stage elsewhere.

use std::collections::BTreeSet;
use std::time::Duration;

use anyhow::Result;
use indicatif::ProgressBar;

use crate::boot_server::recorder::timeline::{NodeTimeline, Timeline};
use crate::boot_server::stage::Stage;
use crate::hypervisor::{Found, Hypervisor};
use crate::lab::Lab;
use crate::output::Printer;
use crate::session::Session;
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
    let mut progress = Progress::new(session.printer, &found.lab, was_up);
    let mut show = |news: News| match news {
        News::Known(known) => progress.show(known),
        News::Unheard(unheard) => session.printer.warn(unheard),
    };
    let waited = wait::until_ready(session, hypervisor, found, awaited, timeout, &mut show);
    progress.finish();
    waited
}

/// The stages as they are reached.
struct Progress<'a> {
    printer: &'a Printer,
    bars: Vec<ProgressBar>,
    told: BTreeSet<(u32, Stage)>,
    /// What was reached before is no news.
    skips: bool,
}

impl<'a> Progress<'a> {
    /// `was_up` says that the lab was complete before, so that what its nodes have reached is no news.
    fn new(printer: &'a Printer, lab: &Lab, was_up: bool) -> Self {
        let live = printer.is_live() && lab.spec.nodes <= MAX_BARS;
        let nodes = if live { lab.nodes() } else { Vec::new() };
        let bars = nodes.iter().map(|node| printer.spinner(&node.name)).collect();
        Self { printer, bars, told: BTreeSet::new(), skips: was_up }
    }

    /// Shows what is known now.
    fn show(&mut self, known: &Timeline) {
        if std::mem::take(&mut self.skips) {
            let reached = |node: &NodeTimeline| {
                let index = node.index;
                node.stages.keys().map(move |stage| (index, *stage)).collect::<Vec<_>>()
            };
            self.told.extend(known.nodes.iter().flat_map(reached));
        }
        for node in &known.nodes {
            if let Some(bar) = self.bars.get(node.index as usize - 1) {
                bar.set_message(stages(node));
                continue;
            }
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
        self.bars.iter().for_each(ProgressBar::finish_and_clear);
    }
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

/// More lines than this do not fit on a terminal.
const MAX_BARS: u32 = 30;
