//! A terminal that passes on every key as it is pressed, and that is as before afterwards.

use std::io::{self, IsTerminal, Read, Write};
use std::time::Duration;

use anyhow::{Context, Result};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use rustix::termios::{OptionalActions, Termios, tcgetattr, tcsetattr};

/// The terminal at stdin and stdout. When it is dropped, be it by a panic, it is as it was.
#[derive(Debug)]
pub(crate) struct RawTerminal {
    before: Termios,
}

/// What somebody typed.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Typed {
    /// Nothing for now.
    Nothing,
    /// These keys.
    Keys(Vec<u8>),
    /// Nobody can type any more.
    Ended,
}

impl RawTerminal {
    /// Whether stdin and stdout are a terminal.
    pub(crate) fn is_there() -> bool {
        io::stdin().is_terminal() && io::stdout().is_terminal()
    }

    /// Takes the terminal; Ctrl-C and its like are keys as others.
    ///
    /// # Errors
    /// If stdin is no terminal.
    pub(crate) fn enter() -> Result<Self> {
        let before = tcgetattr(io::stdin()).context("reading how the terminal is set")?;
        let mut raw = before.clone();
        raw.make_raw();
        tcsetattr(io::stdin(), OptionalActions::Now, &raw).context("setting the terminal")?;
        Ok(Self { before })
    }

    /// What was typed, waiting for it for at most `patience`.
    ///
    /// # Errors
    /// If stdin cannot be read.
    #[expect(clippy::unused_self, reason = "only a raw terminal gives every key at once")]
    pub(crate) fn read(&self, patience: Duration) -> Result<Typed> {
        let stdin = io::stdin();
        let mut ready = [PollFd::new(&stdin, PollFlags::IN)];
        let patience = Timespec::try_from(patience).context("waiting for keys")?;
        match poll(&mut ready, Some(&patience)) {
            Ok(0) | Err(Errno::INTR) => return Ok(Typed::Nothing),
            other => other.context("waiting for keys")?,
        };
        let mut keys = vec![0; MOST_KEYS];
        // Its buffer is empty: nobody else reads from it.
        let read = stdin.lock().read(&mut keys).context("reading keys")?;
        keys.truncate(read);
        Ok(if keys.is_empty() { Typed::Ended } else { Typed::Keys(keys) })
    }

    /// Shows bytes as they are.
    ///
    /// # Errors
    /// If the terminal is gone.
    #[expect(clippy::unused_self, reason = "what is no raw terminal gets lines, by the printer")]
    pub(crate) fn show(&self, bytes: &[u8]) -> Result<()> {
        let mut stdout = io::stdout().lock();
        stdout.write_all(bytes).and_then(|()| stdout.flush()).context("writing to the terminal")
    }
}

impl Drop for RawTerminal {
    fn drop(&mut self) {
        let _ = tcsetattr(io::stdin(), OptionalActions::Now, &self.before);
    }
}

const MOST_KEYS: usize = 4096;
