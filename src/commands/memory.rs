//! `virtlab memory`: what a lab's nodes take and what merging saves, once, live, or as a curve.

use std::time::Duration;

use anyhow::Result;

use super::curve;
use crate::cli::memory::{MemoryArgs, MemoryCommand, ShowArgs};
use crate::deadline::Deadline;
use crate::hypervisor::Found;
use crate::lab::plan::DomainState;
use crate::memory::{CurveFiles, LabMemory, bars};
use crate::output::Format;
use crate::output::terminal::Size;
use crate::session::Session;
use crate::status::{memory, no_lab};

pub(super) fn run(session: &Session, args: &MemoryArgs) -> Result<()> {
    match &args.command {
        Some(MemoryCommand::Curve(args)) => curve::run(session, args),
        None => show(session, &args.show),
    }
}

fn show(session: &Session, args: &ShowArgs) -> Result<()> {
    let files = CurveFiles { svg: args.svg.as_deref(), csv: args.csv.as_deref() };
    files.require_writable()?;
    let mut curve = files.read()?;
    let hypervisor = session.hypervisor()?;
    if args.watch {
        session.catch_signals()?;
    }
    loop {
        let inventory = session.observe(&hypervisor)?;
        let Some(found) = inventory.lab(&args.lab) else {
            return Err(no_lab(&inventory, &args.lab));
        };
        let memory = memory::observe(&hypervisor, found)?;
        if files.are_wanted() {
            match running(&memory, found).sample() {
                Ok(sample) => curve.add(sample),
                // Nodes may be on their way up or down.
                Err(_) if args.watch => {}
                Err(error) => return Err(error),
            }
            files.write(&curve)?;
        }
        print(session, &memory, args.watch)?;
        if !args.watch || pause(session) {
            return Ok(());
        }
    }
}

/// The same of the nodes that run.
fn running(memory: &LabMemory, found: &Found) -> LabMemory {
    let runs = |index: u32| found.domains.get(&index).is_some_and(|s| *s != DomainState::Off);
    let nodes = (1..).zip(&memory.nodes).filter(|(index, _)| runs(*index));
    LabMemory::new(nodes.map(|(_, node)| node.clone()).collect(), memory.ksm.clone())
}

fn print(session: &Session, memory: &LabMemory, watch: bool) -> Result<()> {
    let printer = session.printer;
    let table = memory.table();
    if watch && printer.format() == Format::Table {
        let bars = bars(&memory.nodes, Size::of(std::io::stdout()).columns);
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
fn pause(session: &Session) -> bool {
    let interrupted = || Ok(session.is_interrupted().then_some(()));
    let found = Deadline::after(WATCH_INTERVAL).wait_for(POLL, interrupted);
    found.is_ok_and(|found| found.is_some())
}

const WATCH_INTERVAL: Duration = Duration::from_secs(2);
const POLL: Duration = Duration::from_millis(100);

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

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
}
