//! `virtlab logs`: what nodes wrote to their serial consoles, and what they write.

use std::thread;
use std::time::Duration;

use anyhow::Result;

use crate::cli::looking::{LogsArgs, Since};
use crate::error::hinted;
use crate::hypervisor::Hypervisor;
use crate::lab::LabName;
use crate::output::prefix::Prefixes;
use crate::session::Session;
use crate::status::console_log::{ConsoleLog, News, Start};
use crate::status::targets::targets;

/// Prints the logs, and goes on with it.
pub(super) fn run(session: &Session, args: &LogsArgs) -> Result<()> {
    let hypervisor = session.hypervisor()?;
    let inventory = session.observe(&hypervisor)?;
    let targets = targets(&inventory, &args.names)?;
    let start = match args.since {
        Some(Since::Boot) => Start::Boot,
        None => Start::PowerOn,
    };
    let mut logs = ConsoleLog::of(&targets, start);
    let names: Vec<String> = logs.iter().map(|log| log.node.name.clone()).collect();
    // One node that was named needs no name before its lines.
    let is_one = names.len() == 1 && targets.iter().all(|target| !target.is_whole);
    let prefixes = (!is_one).then(|| Prefixes::new(&names));
    let mut look =
        |patience| print_new(session, &hypervisor, &mut logs, prefixes.as_ref(), patience);
    let Round { silent, gone, .. } = look(1)?;
    if let Some(lab) = gone.first() {
        return Err(hinted(
            format!("lab `{lab}` has no storage pool, which keeps the logs"),
            format!("`virtlab create {lab}` completes the lab"),
        ));
    }
    for name in silent {
        session.printer.note(format!("`{name}` has written nothing to its console yet"));
    }
    if !args.follow {
        // What stands after the last whole line.
        return look(1).map(drop);
    }
    loop {
        thread::sleep(POLL);
        let round = look(PATIENCE)?;
        if round.nobody_reads {
            return Ok(());
        }
        if round.gone.len() == names.len() {
            session.printer.note("there is nothing left to follow: the lab is gone");
            return Ok(());
        }
    }
}

/// What one look at all logs gave.
#[derive(Default)]
struct Round {
    /// Who wrote nothing.
    silent: Vec<String>,
    /// The labs that are gone, once for each node.
    gone: Vec<LabName>,
    /// Whether the reader of our output went away.
    nobody_reads: bool,
}

fn print_new(
    session: &Session,
    hypervisor: &Hypervisor,
    logs: &mut [ConsoleLog],
    prefixes: Option<&Prefixes>,
    patience: u32,
) -> Result<Round> {
    let mut round = Round::default();
    for (position, log) in logs.iter_mut().enumerate() {
        let lines = match session.persistently(hypervisor, || log.read(hypervisor, patience))? {
            News::Lines(lines) => lines,
            News::Gone => {
                round.gone.push(log.lab.name.clone());
                continue;
            }
        };
        if lines.is_empty() {
            round.silent.push(log.node.name.clone());
        }
        for line in lines {
            let line = prefixes.map_or_else(|| line.clone(), |it| it.put(position, &line));
            round.nobody_reads |= !session.printer.data_if_read(line);
        }
    }
    Ok(round)
}

const POLL: Duration = Duration::from_millis(500);
/// After how many looks at nothing new a line counts as a whole one.
const PATIENCE: u32 = 4;
