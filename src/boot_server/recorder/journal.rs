//! The journal: a line of JSON for each event, by which a server that is started again knows what happened before. When
//! it gets too long, its older half is replaced by what came out of it.

use std::collections::VecDeque;
use std::io::{Read, Write};
use std::path::{Path, PathBuf};

use anyhow::Result;
use fs_err as fs;
use serde::{Deserialize, Serialize};

use super::event::Event;
use super::timeline::Timeline;
use crate::files::{self, Readers};

/// The file, open for more.
#[derive(Debug)]
pub(super) struct Journal {
    path: PathBuf,
    file: fs::File,
    length: usize,
}

/// What came out of all events up to that with the number `id`, which the journal no longer has.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Checkpoint {
    pub(super) id: u64,
    pub(super) checkpoint: Timeline,
}

/// What a journal holds.
#[derive(Debug, Default)]
pub(super) struct Kept {
    pub(super) checkpoint: Option<Checkpoint>,
    /// With the length of their lines.
    pub(super) events: VecDeque<(Event, usize)>,
}

#[derive(Deserialize)]
#[serde(untagged)]
enum Line {
    Checkpoint(Checkpoint),
    Event(Event),
}

impl Journal {
    /// Opens the journal at `path`, or begins one there.
    ///
    /// # Errors
    /// If it cannot be read or written.
    pub(super) fn open(path: &Path) -> Result<(Self, Kept)> {
        let mut file = fs::File::options().read(true).create(true).append(true).open(path)?;
        let mut bytes = Vec::new();
        file.read_to_end(&mut bytes)?;
        let mut length = bytes.len();
        // A line that was cut off by a crash is not worth failing for, but the next one must not
        // become a part of it.
        if !bytes.is_empty() && !bytes.ends_with(b"\n") {
            file.write_all(b"\n")?;
            length += 1;
        }
        let kept = read(&String::from_utf8_lossy(&bytes));
        Ok((Self { path: path.to_owned(), file, length }, kept))
    }

    /// What the journal at `path` holds; nothing is changed in it.
    ///
    /// # Errors
    /// If it cannot be read.
    pub(super) fn read(path: &Path) -> Result<Kept> {
        Ok(read(&String::from_utf8_lossy(&fs::read(path)?)))
    }

    /// Adds an event, and gives the length of its line.
    ///
    /// # Errors
    /// If it cannot be written.
    pub(super) fn append(&mut self, event: &Event) -> Result<usize> {
        let line = line(event);
        self.file.write_all(line.as_bytes())?;
        self.length += line.len();
        Ok(line.len())
    }

    /// Whether it is time for [`Self::rewrite`].
    pub(super) fn is_too_long(&self) -> bool {
        self.length > LONGEST
    }

    /// Replaces all that it holds in one step.
    ///
    /// # Errors
    /// If the new file cannot be written; the old one is kept then.
    pub(super) fn rewrite<'a>(
        &mut self,
        checkpoint: &Checkpoint,
        events: impl Iterator<Item = &'a Event>,
    ) -> Result<()> {
        let mut text = line(checkpoint);
        text.extend(events.map(line));
        // It is as private as the configs in the folder that it lies in.
        files::replace(&self.path, text.as_bytes(), Readers::Owner)?;
        self.file = fs::File::options().append(true).open(&self.path)?;
        self.length = text.len();
        Ok(())
    }
}

/// Gives numbers to events that have none: virtlab 0.1 wrote those. The first is the time of the event, so that a
/// journal that is begun anew has larger numbers than one that was lost. Numbers always grow.
fn read(text: &str) -> Kept {
    let mut kept = Kept::default();
    let mut last = 0;
    for text in text.lines() {
        match serde_json::from_str(text) {
            Ok(line) if number(&line) > LARGEST_NUMBER => {
                tracing::debug!("a line of the journal has a number that is too large");
            }
            Ok(Line::Checkpoint(checkpoint)) => {
                last = checkpoint.id;
                kept = Kept { checkpoint: Some(checkpoint), events: VecDeque::new() };
            }
            Ok(Line::Event(mut event)) => {
                if event.id <= last {
                    event.id =
                        if last == 0 { event.at_ms.clamp(1, LARGEST_NUMBER) } else { last + 1 };
                }
                last = event.id;
                kept.events.push_back((event, text.len() + 1));
            }
            Err(error) => tracing::debug!("a line of the journal is no event: {error}"),
        }
    }
    kept
}

fn number(line: &Line) -> u64 {
    match line {
        Line::Checkpoint(checkpoint) => checkpoint.id,
        Line::Event(event) => event.id,
    }
}

fn line(value: &impl Serialize) -> String {
    let mut line = serde_json::to_string(value).expect("an event is plain data");
    line.push('\n');
    line
}

/// Bytes. A boot of a node takes some 600.
pub(super) const LONGEST: usize = 1 << 20;

/// Times since the epoch are far smaller, and there is room for all that comes after.
const LARGEST_NUMBER: u64 = u64::MAX / 2;
