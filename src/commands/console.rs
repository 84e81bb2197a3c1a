//! `virtlab console`: talking with a node by its serial console.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use anyhow::{Context, Result};
use signal_hook::consts::{SIGHUP, SIGQUIT};

use crate::cli::looking::ConsoleArgs;
use crate::error::{Interrupted, hinted};
use crate::hypervisor::{Console, ErrorNumber, LibvirtError, Received};
use crate::lab::plan::DomainState;
use crate::output::raw_terminal::{RawTerminal, Typed};
use crate::session::Session;
use crate::status::targets::one_node;

/// Connects the terminal with the console until one of them ends.
pub(super) fn run(session: &Session, args: &ConsoleArgs) -> Result<()> {
    let hypervisor = session.hypervisor()?;
    let inventory = session.observe(&hypervisor)?;
    let (found, node) = one_node(&inventory, &args.node)?;
    if matches!(found.domains.get(&node.index), None | Some(DomainState::Off)) {
        return Err(hinted(
            format!("node `{}` is off, and so is its console", node.name),
            format!("`virtlab create {}` starts it", found.lab.name),
        ));
    }
    if !RawTerminal::is_there() {
        return Err(hinted(
            format!("the console of `{}` needs a terminal at stdin and stdout", node.name),
            format!("`virtlab logs -f {}` reads it without one", node.name),
        ));
    }
    let console = hypervisor.open_console(&found.lab, &node, args.force);
    let console = console.map_err(|error| name_force(error, &node.name))?;
    let signals = Signals::catch(session)?;
    session.printer.note(format!("connected to `{}`; Ctrl-] leaves", node.name));
    let end = {
        let terminal = RawTerminal::enter()?;
        talk(&console, &terminal, || signals.have_come(session))
    };
    // The guest's cursor may be anywhere in a line.
    session.printer.note("");
    match end? {
        End::Left => Ok(()),
        End::Signal => Err(Interrupted.into()),
        End::Console => {
            session.printer.note(format!(
                "the console of `{}` has ended: it is off, or somebody else took it",
                node.name
            ));
            Ok(())
        }
    }
}

/// Why nobody talks any more.
#[derive(Debug, PartialEq, Eq)]
enum End {
    /// Ctrl-], or the terminal is gone.
    Left,
    /// The node went off, or somebody else took the console.
    Console,
    /// We are to end.
    Signal,
}

fn talk(console: &Console, terminal: &RawTerminal, is_over: impl Fn() -> bool) -> Result<End> {
    loop {
        if is_over() {
            return Ok(End::Signal);
        }
        match terminal.read(MOMENT)? {
            Typed::Nothing => {}
            Typed::Ended => return Ok(End::Left),
            Typed::Keys(keys) => {
                let (keys, leaves) = until_escape(&keys);
                console.send(keys)?;
                if leaves {
                    return Ok(End::Left);
                }
            }
        }
        loop {
            match console.receive()? {
                Received::Nothing => break,
                Received::Bytes(bytes) => terminal.show(&bytes)?,
                Received::Ended => return Ok(End::Console),
            }
        }
    }
}

/// What was typed before Ctrl-], and whether that was.
fn until_escape(keys: &[u8]) -> (&[u8], bool) {
    match keys.iter().position(|key| *key == ESCAPE) {
        Some(at) => (&keys[..at], true),
        None => (keys, false),
    }
}

/// Signals that would end us with the terminal as it is.
struct Signals {
    others: Arc<AtomicBool>,
}

impl Signals {
    fn catch(session: &Session) -> Result<Self> {
        session.catch_signals()?;
        let others = Arc::new(AtomicBool::new(false));
        for signal in [SIGHUP, SIGQUIT] {
            signal_hook::flag::register(signal, Arc::clone(&others)).context("catching signals")?;
        }
        Ok(Self { others })
    }

    fn have_come(&self, session: &Session) -> bool {
        session.is_interrupted() || self.others.load(Ordering::Relaxed)
    }
}

/// libvirt says that somebody has the console by this code.
fn name_force(error: anyhow::Error, node: &str) -> anyhow::Error {
    let taken = error.chain().find_map(|cause| cause.downcast_ref::<LibvirtError>());
    if !taken.is_some_and(|error| error.is_any(&[ErrorNumber::OperationFailed])) {
        return error;
    }
    hinted(
        format!("{error:#}"),
        format!("`virtlab console --force {node}` takes it from who has it"),
    )
}

/// Ctrl-], as telnet and virsh have it.
const ESCAPE: u8 = 0x1d;
/// How long keys are waited for before the console is looked at: not to be felt when typing.
const MOMENT: Duration = Duration::from_millis(15);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_typed_before_the_escape_is_sent() {
        assert_eq!(until_escape(b"ls\r"), (&b"ls\r"[..], false));
        assert_eq!(until_escape(b"exit\r\x1dx"), (&b"exit\r"[..], true));
        assert_eq!(until_escape(b"\x1d"), (&b""[..], true));
    }
}
