//! `virtlab memory curve`: makes a lab, lets its nodes run one after the other, measures each time
//! what they take, and leaves nothing but the numbers.

use std::path::PathBuf;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::Result;
use clap::Args;
use indicatif::ProgressBar;
use serde::Serialize;

use super::apply::Applier;
use super::draft::{self, Draft, Wishes};
use super::memory::{self, CurveFiles};
use super::{Context, create, ksm, wait};
use crate::hint::{Interrupted, hinted};
use crate::ksm::claims::Claims;
use crate::lab::LabName;
use crate::lab::options::{LabOptions, Span, VirtTypeChoice};
use crate::lab::plan::{self, Goal};
use crate::lab::size::MemoryMib;
use crate::memory::{Analysis, Curve, End, Event, Growable, Growth, Measured, NodeMemory, Sample};
use crate::output::Table;
use crate::units::{human_bytes, human_signed_bytes};

/// `memory curve`.
#[derive(Args, Debug)]
pub struct CurveArgs {
    /// Number of nodes to end with
    #[arg(short = 'n', long, value_name = "N", default_value_t = 8, value_parser = clap::value_parser!(u32).range(1..=1000))]
    pub max_nodes: u32,
    /// Name of the lab that is made for it
    #[arg(long, value_name = "LAB", default_value = "memory-curve")]
    pub name: LabName,
    /// Memory of each node [default: 1024MiB]
    #[arg(short, long, value_name = "SIZE")]
    pub memory: Option<MemoryMib>,
    /// Processor cores of each node [default: 1]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=255))]
    pub vcpus: Option<u32>,
    /// What to boot: a name of the catalogue or a TOML file [default: micro]
    #[arg(long, value_name = "IMAGE")]
    pub image: Option<String>,
    /// Template of the nodes' config [default: the image's own]
    #[arg(long, value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// Hardware virtualisation or emulation [default: auto]
    #[arg(long, value_name = "TYPE")]
    pub virt_type: Option<VirtTypeChoice>,
    /// How long to wait for each node to come up
    #[arg(long, value_name = "TIME", default_value = "5m")]
    pub timeout: Span,
    /// Draw memory against the number of nodes
    #[arg(long, value_name = "FILE")]
    pub svg: Option<PathBuf>,
    /// Keep the numbers
    #[arg(long, value_name = "FILE")]
    pub csv: Option<PathBuf>,
}

impl CurveArgs {
    fn options(&self) -> LabOptions {
        LabOptions {
            name: Some(self.name.clone()),
            nodes: Some(self.max_nodes),
            memory: self.memory,
            vcpus: self.vcpus,
            image: self.image.clone(),
            config: self.config.clone(),
            virt_type: self.virt_type,
            ..LabOptions::default()
        }
    }
}

pub(super) fn run(context: &Context, args: &CurveArgs) -> Result<()> {
    let files = CurveFiles { svg: args.svg.as_deref(), csv: args.csv.as_deref() };
    files.check()?;
    let hypervisor = context.hypervisor()?;
    draft::refuse_remote(&hypervisor, &args.name)?;
    refuse_existing(context, &hypervisor, &args.name)?;
    let options = draft::read_options(&args.options(), None)?;
    // It is to find out how many nodes fit.
    let wishes = Wishes { overcommit: true, ..Wishes::default() };
    let Draft { mut prepared, lock, .. } = draft::draft(context, &hypervisor, &options, &wishes)?;
    // Until here nothing was made, and Ctrl-C just ended the program.
    context.catch_signals()?;
    create::put_discovery_url(&mut prepared, None)?;
    let lab = &prepared.lab;
    let claims = Claims::host();
    ksm::claim(context.printer, &hypervisor, lab, claims.ksm().settings_to_measure()?)?;

    let applier = Applier::new(context, &hypervisor, lab, Some(&prepared))?;
    let timeout = args.timeout.into();
    let mut growing = GrowingLab { applier: &applier, lock: Some(lock), nodes: 0, timeout };
    let mut progress = Progress::new(context, files);
    let measured = applier.state.save(lab, &prepared.content).and_then(|()| {
        let growth = Growth::to(args.max_nodes);
        growth
            .measure(&mut growing, claims.ksm(), &context.interrupted, |event| progress.show(event))
    });
    progress.bar.finish_and_clear();
    let removed = create::take_down(&applier);
    let Measured { curve, unsettled, end } = measured?;
    for nodes in unsettled {
        context.printer.warn(format!(
            "with {nodes} node(s) KSM was not through in time and may save more in the end"
        ));
    }
    files.write(&curve)?;
    print(context, &curve)?;
    removed?;
    match end {
        End::Complete => Ok(()),
        End::Interrupted => Err(Interrupted.into()),
        End::Failed(error) if error.is::<Interrupted>() => Err(Interrupted.into()),
        End::Failed(error) => Err(error),
    }
}

/// A lab that is there is not one that grows, and would be destroyed at the end.
fn refuse_existing(
    context: &Context,
    hypervisor: &crate::hypervisor::Hypervisor,
    name: &LabName,
) -> Result<()> {
    if context.observe(hypervisor)?.lab(name).is_none() {
        return Ok(());
    }
    Err(hinted(
        format!("lab `{name}` exists, and a curve begins with none"),
        format!("`virtlab destroy {name}` removes it; --name makes another one"),
    ))
}

/// A lab that is made for all its nodes, which are let run one after the other.
struct GrowingLab<'a> {
    applier: &'a Applier<'a>,
    /// Held until the lab's network is there.
    lock: Option<std::fs::File>,
    nodes: u32,
    timeout: Duration,
}

impl Growable for GrowingLab<'_> {
    fn grow_to(&mut self, nodes: u32) -> Result<()> {
        let Applier { context, hypervisor, lab, .. } = *self.applier;
        let inventory = hypervisor.observe()?;
        let observed = self.applier.observed(inventory.labs.get(&lab.uuid))?;
        let steps = plan::plan(lab, Goal::Grown(nodes), &observed);
        let (first, rest) = steps.split_at(steps.len().min(1));
        self.applier.apply(first)?;
        drop(self.lock.take());
        self.applier.apply(rest)?;
        self.nodes = nodes;
        // Of a cluster only the last node would make it ready, if then: each one's config will do.
        wait::until_configured(context, hypervisor, lab, &lab.node(nodes), self.timeout)?;
        self.settle()
    }

    fn memory(&self) -> Result<Vec<NodeMemory>> {
        let Applier { context, hypervisor, lab, .. } = *self.applier;
        let inventory = context.observe(hypervisor)?;
        let Some(found) = inventory.labs.get(&lab.uuid) else {
            return Err(super::status::no_lab(&lab.name));
        };
        let nodes = memory::observe(hypervisor, found)?.nodes;
        Ok(nodes.into_iter().take(self.nodes as usize).collect())
    }
}

impl GrowingLab<'_> {
    /// Waits until the newest node's programs are loaded, so that its memory hardly grows.
    fn settle(&self) -> Result<()> {
        let resident = || -> Result<u64> {
            Ok(self.memory()?.last().and_then(|node| node.resident_bytes).unwrap_or(0))
        };
        let deadline = Instant::now() + SETTLE_DEADLINE;
        let mut before = resident()?;
        loop {
            let next = Instant::now() + SETTLE_INTERVAL;
            while Instant::now() < next {
                self.applier.context.check_interrupt()?;
                thread::sleep(POLL);
            }
            let now = resident()?;
            if now.saturating_sub(before) < now / SETTLED_PART || Instant::now() >= deadline {
                return Ok(());
            }
            before = now;
        }
    }
}

/// How far it is, and what was measured until then on disk.
struct Progress<'a> {
    context: &'a Context<'a>,
    files: CurveFiles<'a>,
    curve: Curve,
    bar: ProgressBar,
}

impl<'a> Progress<'a> {
    fn new(context: &'a Context<'a>, files: CurveFiles<'a>) -> Self {
        Self { context, files, curve: Curve::default(), bar: context.printer.spinner("measuring") }
    }

    fn show(&mut self, event: &Event) {
        match event {
            Event::Growing { nodes } => self.bar.set_message(format!("node {nodes} boots")),
            Event::Scanning { nodes, done, wanted } => {
                let scan = (done + 1).min(*wanted);
                self.bar.set_message(format!("{nodes} node(s): full scan {scan} of {wanted}"));
            }
            Event::Measured { sample, .. } => {
                self.curve.add(sample.clone());
                // A kill keeps it too. Tried again at the end, where a failure is an error.
                if let Err(error) = self.files.write(&self.curve) {
                    tracing::warn!("{error:#}");
                }
                self.context.printer.note(format!(
                    "{} node(s): {} without KSM, {} with it",
                    sample.nodes,
                    human_bytes(sample.without_ksm_bytes),
                    human_bytes(sample.with_ksm_bytes)
                ));
            }
        }
    }
}

/// What `-o json` prints.
#[derive(Serialize)]
struct Report<'a> {
    samples: &'a [Sample],
    analysis: Option<Analysis>,
}

fn print(context: &Context, curve: &Curve) -> Result<()> {
    let mut table = Table::new(&["nodes", "without ksm", "with ksm", "saved"]);
    for sample in curve.samples() {
        let amounts = [sample.without_ksm_bytes, sample.with_ksm_bytes, sample.saved_bytes()];
        table.row(std::iter::once(sample.nodes.to_string()).chain(amounts.map(human_bytes)));
    }
    let analysis = curve.analysis();
    let report = Report { samples: curve.samples(), analysis: analysis.clone() };
    let names: Vec<String> = curve.samples().iter().map(|s| s.nodes.to_string()).collect();
    context.printer.listing(&report, &names, &table)?;
    if let Some(analysis) = analysis {
        context.printer.note(said(&analysis));
    }
    Ok(())
}

/// What the curve says, in one line.
fn said(analysis: &Analysis) -> String {
    let saved = human_bytes(analysis.saved_bytes);
    let saved = format!("{} node(s): {saved} ({} %) saved", analysis.nodes, analysis.saved_percent);
    let further =
        (analysis.per_further_node_without_ksm_bytes, analysis.per_further_node_with_ksm_bytes);
    let (Some(without), Some(with)) = further else { return saved };
    let (without, with) = (human_signed_bytes(without), human_signed_bytes(with));
    format!("{saved}; each further node takes {with} instead of {without}")
}

/// A node has settled when it grows by less than this part of its memory from look to look.
const SETTLED_PART: u64 = 100;
const SETTLE_INTERVAL: Duration = Duration::from_secs(4);
const SETTLE_DEADLINE: Duration = Duration::from_secs(60);
const POLL: Duration = Duration::from_millis(100);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_articles_curve_is_said_in_one_line() {
        let article = include_str!("../../tests/fixtures/article-memory.csv");
        let analysis = Curve::from_csv(article).unwrap().analysis().unwrap();
        assert_eq!(
            said(&analysis),
            "20 node(s): 4.06 GiB (54 %) saved; each further node takes 165 MiB instead of 384 MiB"
        );
        let one = Analysis {
            nodes: 1,
            per_further_node_without_ksm_bytes: None,
            per_further_node_with_ksm_bytes: None,
            ..analysis
        };
        assert_eq!(said(&one), "1 node(s): 4.06 GiB (54 %) saved");
    }
}
