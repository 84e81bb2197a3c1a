//! `virtlab memory`: what a lab's nodes take and what merging saves, once, live, or as a curve.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::atomic::Ordering;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use clap::{Args, Subcommand};
use fs_err as fs;

use super::Context;
use super::curve::{self, CurveArgs};
use super::status::no_lab;
use crate::hypervisor::{Found, Hypervisor};
use crate::ksm::process::Processes;
use crate::ksm::{Ksm, KsmError, KsmStatus};
use crate::lab::LabName;
use crate::lab::plan::DomainState;
use crate::memory::{Chart, Curve, LabMemory, NodeMemory, bars};
use crate::output::{Format, terminal_width};

/// `memory`: of a lab, or a curve that makes its own lab.
#[derive(Args, Debug)]
#[command(args_conflicts_with_subcommands = true, after_help = LAB_CALLED_CURVE)]
pub struct MemoryArgs {
    /// What to do instead of showing a lab.
    #[command(subcommand)]
    pub command: Option<MemoryCommand>,
    /// Which lab to show and how.
    #[command(flatten)]
    pub show: ShowArgs,
}

/// What `memory` does beside showing a lab.
#[derive(Debug, Subcommand)]
pub enum MemoryCommand {
    /// Grow a lab node by node, measure it, draw it, and destroy it
    Curve(CurveArgs),
}

/// `memory LAB`.
#[derive(Args, Debug)]
pub struct ShowArgs {
    /// Name of the lab
    #[arg(value_name = "LAB", default_value = "lab", env = "VIRTLAB_LAB")]
    pub lab: LabName,
    /// Show it again and again until Ctrl-C
    #[arg(short, long)]
    pub watch: bool,
    /// Draw memory against the number of nodes, as far as it was seen
    #[arg(long, value_name = "FILE")]
    pub svg: Option<PathBuf>,
    /// Add a line for the nodes that run now; lines for other numbers of nodes stay
    #[arg(long, value_name = "FILE")]
    pub csv: Option<PathBuf>,
}

pub(super) fn run(context: &Context, args: &MemoryArgs) -> Result<()> {
    match &args.command {
        Some(MemoryCommand::Curve(args)) => curve::run(context, args),
        None => show(context, &args.show),
    }
}

fn show(context: &Context, args: &ShowArgs) -> Result<()> {
    let files = CurveFiles { svg: args.svg.as_deref(), csv: args.csv.as_deref() };
    files.check()?;
    let mut curve = files.read()?;
    let hypervisor = context.hypervisor()?;
    if args.watch {
        context.catch_signals()?;
    }
    loop {
        let inventory = context.observe(&hypervisor)?;
        let Some(found) = inventory.lab(&args.lab) else { return Err(no_lab(&args.lab)) };
        let memory = observe(&hypervisor, found)?;
        if files.are_wanted() {
            match running(&memory, found).sample() {
                Ok(sample) => curve.add(sample),
                // Nodes may be on their way up or down.
                Err(_) if args.watch => {}
                Err(error) => return Err(error),
            }
            files.write(&curve)?;
        }
        print(context, &memory, args.watch)?;
        if !args.watch || pause(context) {
            return Ok(());
        }
    }
}

/// The memory of a lab: of this host's processes, or what libvirt knows of another host's.
pub(super) fn observe(hypervisor: &Hypervisor, found: &Found) -> Result<LabMemory> {
    let is_local = hypervisor.is_local()?;
    let domains = hypervisor.domain_memory(&found.lab)?;
    let processes = Processes::host();
    let pids = if is_local { processes.qemu_by_uuid()? } else { BTreeMap::new() };
    let page_size = Ksm::host().page_size();
    let node_memory = |index: u32, name: &str| {
        let (Some(state), Some(domain)) = (found.domains.get(&index), domains.get(&index)) else {
            return NodeMemory::unknown(name, "a node is missing");
        };
        match (state, pids.get(&domain.uuid)) {
            (DomainState::Off, _) => NodeMemory::unknown(name, "a node is off"),
            (_, Some(pid)) => NodeMemory::of(name, processes.memory(*pid, page_size)),
            (_, None) if is_local => {
                NodeMemory::unknown(name, "there is no QEMU process of a node on this host")
            }
            (_, None) => NodeMemory {
                resident_bytes: domain.resident_bytes,
                ..NodeMemory::unknown(name, "libvirt does not tell what is merged of a node")
            },
        }
    };
    let nodes = found.lab.nodes();
    let nodes = nodes.iter().map(|node| node_memory(node.index, &node.name)).collect();
    let ksm = if is_local { local_ksm() } else { hypervisor.ksm_status()? };
    Ok(LabMemory::new(nodes, ksm))
}

/// That it cannot be read is no reason to show nothing.
fn local_ksm() -> Option<KsmStatus> {
    match Ksm::host().status() {
        Ok(status) => Some(status),
        Err(KsmError::NotInKernel { .. }) => None,
        Err(error) => {
            tracing::warn!("{error}");
            None
        }
    }
}

/// The same of the nodes that run.
fn running(memory: &LabMemory, found: &Found) -> LabMemory {
    let runs = |index: u32| found.domains.get(&index).is_some_and(|s| *s != DomainState::Off);
    let nodes = (1..).zip(&memory.nodes).filter(|(index, _)| runs(*index));
    LabMemory::new(nodes.map(|(_, node)| node.clone()).collect(), memory.ksm.clone())
}

fn print(context: &Context, memory: &LabMemory, watch: bool) -> Result<()> {
    let printer = context.printer;
    let table = memory.table();
    if watch && printer.format() == Format::Table {
        let bars = bars(&memory.nodes, terminal_width());
        printer.screen(format!("{table}\n\n{bars}\n\n{}", memory.summary()));
        return Ok(());
    }
    let names: Vec<String> = memory.nodes.iter().map(|node| node.node.clone()).collect();
    printer.listing(memory, &names, &table)?;
    printer.note(memory.summary());
    for reason in memory.missing() {
        printer.note(format!("-: {reason}"));
    }
    Ok(())
}

/// Waits for the next look; whether somebody pressed Ctrl-C.
fn pause(context: &Context) -> bool {
    let end = Instant::now() + WATCH_INTERVAL;
    while Instant::now() < end {
        if context.interrupted.load(Ordering::Relaxed) {
            return true;
        }
        thread::sleep(POLL);
    }
    false
}

/// Where a curve is kept.
#[derive(Clone, Copy, Debug)]
pub(super) struct CurveFiles<'a> {
    pub(super) svg: Option<&'a Path>,
    pub(super) csv: Option<&'a Path>,
}

impl CurveFiles<'_> {
    fn are_wanted(self) -> bool {
        self.svg.is_some() || self.csv.is_some()
    }

    /// Measuring takes long: that the files cannot be written is told before.
    pub(super) fn check(self) -> Result<()> {
        for (flag, path) in [("--svg", self.svg), ("--csv", self.csv)] {
            let Some(path) = path else { continue };
            let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty());
            tempfile::tempfile_in(folder.unwrap_or(Path::new("."))).with_context(|| {
                format!("writing to the folder of `{}` ({flag})", path.display())
            })?;
        }
        Ok(())
    }

    /// What the CSV file has already.
    fn read(self) -> Result<Curve> {
        let Some(path) = self.csv.filter(|path| path.exists()) else {
            return Ok(Curve::default());
        };
        let curve = Curve::from_csv(&fs::read_to_string(path)?);
        curve.with_context(|| format!("reading `{}` (--csv)", path.display()))
    }

    /// Writes both; without samples there is nothing to draw.
    pub(super) fn write(self, curve: &Curve) -> Result<()> {
        if let Some(path) = self.csv {
            fs::write(path, curve.to_csv())?;
        }
        if let Some(path) = self.svg.filter(|_| !curve.samples().is_empty()) {
            fs::write(path, Chart::of(curve).to_svg()?)?;
        }
        Ok(())
    }
}

const LAB_CALLED_CURVE: &str = "A lab that is called curve: virtlab memory -- curve";
const WATCH_INTERVAL: Duration = Duration::from_secs(2);
const POLL: Duration = Duration::from_millis(100);

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;
    use crate::memory::Sample;

    #[derive(Parser)]
    struct Cli {
        #[command(flatten)]
        args: MemoryArgs,
    }

    fn parse(line: &str) -> Result<MemoryArgs, clap::Error> {
        Cli::try_parse_from(line.split(' ')).map(|cli| cli.args)
    }

    #[test]
    fn a_lab_and_the_curve_are_told_apart() {
        let lab = |line| {
            let args = parse(line).unwrap();
            args.command.is_none().then(|| args.show.lab.to_string())
        };
        assert_eq!(lab("memory demo --watch").as_deref(), Some("demo"));
        assert_eq!(lab("memory -- curve").as_deref(), Some("curve"));
        assert_eq!(lab("memory curve --max-nodes 8"), None);
        assert!(parse("memory demo curve --max-nodes 8").is_err());
        assert!(parse("memory --watch curve --max-nodes 8").is_err());
    }

    #[test]
    fn a_file_that_cannot_be_written_is_told_before_anything() {
        let files = CurveFiles { svg: None, csv: Some(Path::new("no/such/folder/a.csv")) };
        let error = files.check().unwrap_err();
        assert_eq!(error.to_string(), "writing to the folder of `no/such/folder/a.csv` (--csv)");
    }

    #[test]
    fn what_a_file_has_is_kept_and_the_chart_shows_all_of_it() {
        let dir = tempfile::tempdir().unwrap();
        let (svg, csv) = (dir.path().join("a.svg"), dir.path().join("a.csv"));
        let files = CurveFiles { svg: Some(&svg), csv: Some(&csv) };
        files.check().unwrap();
        files.write(&files.read().unwrap()).unwrap();
        assert!(!svg.exists(), "there is nothing to draw");
        let sample = |nodes| Sample { nodes, without_ksm_bytes: 1 << 30, ..Sample::default() };
        for nodes in [1, 3] {
            let mut curve = files.read().unwrap();
            curve.add(sample(nodes));
            files.write(&curve).unwrap();
        }
        let expected = Curve::new([sample(1), sample(3)]);
        assert_eq!(files.read().unwrap(), expected);
        let drawn = fs::read_to_string(&svg).unwrap();
        assert_eq!(drawn, Chart::of(&expected).to_svg().unwrap());
    }
}
