//! The one place where the events of a lab arise: each gets its number, goes into the journal and the timeline, and to
//! all who listen.

pub mod event;
mod journal;
pub mod timeline;

use std::collections::{BTreeMap, VecDeque};
use std::path::Path;
use std::sync::{Mutex, MutexGuard};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use anyhow::Result;
use tokio::sync::watch;

use self::event::{Event, Happening, NodeHeld, NodeIdentity, NodesChanged, WantedChanged};
use self::journal::{Checkpoint, Journal, Kept};
use self::timeline::Timeline;
use crate::lab::metadata::Power;
use crate::lab::plan::DomainChange;

/// Records what happens to a lab.
#[derive(Debug)]
pub struct Recorder {
    book: Mutex<Book>,
    newest: watch::Sender<u64>,
}

#[derive(Debug)]
struct Book {
    journal: Journal,
    timeline: Timeline,
    /// The events that can still be told one by one, with the length of their lines in the journal.
    recent: VecDeque<(Event, usize)>,
    recent_bytes: usize,
    /// What had come out of all before them.
    before: Checkpoint,
}

impl Recorder {
    /// Goes on with what `journal` holds, for the nodes that there are now.
    ///
    /// # Errors
    /// If the journal cannot be read or written.
    pub fn open(journal: &Path, nodes: &[NodeIdentity]) -> Result<Self> {
        let (journal, Kept { checkpoint, events: recent }) = Journal::open(journal)?;
        // A journal that is begun anew has larger numbers than one that was lost; see `journal::read`.
        let first = recent.front().map_or_else(now_ms, |(event, _)| event.id - 1);
        let begun = || Checkpoint { id: first, checkpoint: Timeline::new(nodes) };
        let before = checkpoint.unwrap_or_else(begun);
        let timeline = replay(&before.checkpoint, &recent);
        let recent_bytes = recent.iter().map(|(_, length)| length).sum();
        let newest = recent.back().map_or(before.id, |(event, _)| event.id);
        let book = Book { journal, timeline, recent, recent_bytes, before };
        let recorder = Self { book: Mutex::new(book), newest: watch::Sender::new(newest) };
        recorder.set_nodes(nodes);
        Ok(recorder)
    }

    /// Something happened now.
    pub(super) fn record(&self, what: Happening) {
        self.record_all(now_ms(), |_| vec![what]);
    }

    /// Notes what libvirt says of the domain of a node.
    pub(super) fn domain(&self, node: u32, change: DomainChange, at_ms: u64) {
        self.record_all(at_ms, |timeline| {
            timeline.node(node).map(|node| node.follow(change, at_ms)).unwrap_or_default()
        });
    }

    /// Notes which nodes are not wanted to run; all others are.
    pub(super) fn wanted(&self, not_on: &BTreeMap<u32, Power>) {
        let wanted = |index: u32| not_on.get(&index).copied().unwrap_or_default();
        self.record_all(now_ms(), |timeline| {
            let changed = timeline.nodes.iter().filter(|node| node.wanted != wanted(node.index));
            let change = changed.map(|node| (node.index, wanted(node.index)));
            change.map(|(node, wanted)| Happening::Wanted(WantedChanged { node, wanted })).collect()
        });
    }

    /// Notes why a node does not get its config, if that is news.
    pub(super) fn held(&self, node: u32, held: &str) {
        self.record_all(now_ms(), |timeline| {
            let is_known =
                timeline.node(node).is_some_and(|node| node.held.as_deref() == Some(held));
            let news = Happening::Held(NodeHeld { node, held: held.to_owned() });
            if is_known { Vec::new() } else { vec![news] }
        });
    }

    /// The lab has these nodes from now on.
    pub(super) fn set_nodes(&self, nodes: &[NodeIdentity]) {
        self.record_all(now_ms(), |timeline| {
            let mut changed = timeline.clone();
            changed.set_nodes(nodes);
            let change = NodesChanged { nodes: nodes.to_vec() };
            if changed == *timeline { Vec::new() } else { vec![Happening::Nodes(change)] }
        });
    }

    /// What is known now, with the number of the last event that it comes from.
    pub fn snapshot(&self) -> (u64, Timeline) {
        let book = self.book();
        (book.newest(), book.timeline.clone())
    }

    /// Looks at what is known now.
    pub(super) fn look<T>(&self, look: impl FnOnce(&Timeline) -> T) -> T {
        look(&self.book().timeline)
    }

    /// All events after that with this number; `None` if they cannot be told one by one, because they are too
    /// long ago or because there was no such event.
    pub(super) fn after(&self, id: u64) -> Option<Vec<Event>> {
        let book = self.book();
        if id < book.before.id || id > book.newest() {
            return None;
        }
        let start = book.recent.partition_point(|(event, _)| event.id <= id);
        Some(book.recent.range(start..).map(|(event, _)| event.clone()).collect())
    }

    /// The last events up to that with this number, `most` of them at the most.
    pub(super) fn until(&self, id: u64, most: usize) -> Vec<Event> {
        let book = self.book();
        let end = book.recent.partition_point(|(event, _)| event.id <= id);
        let start = end.saturating_sub(most);
        book.recent.range(start..end).map(|(event, _)| event.clone()).collect()
    }

    /// Tells the number of each newest event.
    pub(super) fn listen(&self) -> watch::Receiver<u64> {
        self.newest.subscribe()
    }

    /// Records what `find` makes of what is known. Nothing else happens meanwhile.
    fn record_all(&self, at_ms: u64, find: impl FnOnce(&Timeline) -> Vec<Happening>) {
        let mut book = self.book();
        for what in find(&book.timeline) {
            book.add(at_ms, what);
        }
        let newest = book.newest();
        drop(book);
        self.newest.send_if_modified(|id| std::mem::replace(id, newest) != newest);
    }

    fn book(&self) -> MutexGuard<'_, Book> {
        self.book.lock().expect("nobody panics with it")
    }
}

impl Book {
    fn newest(&self) -> u64 {
        self.recent.back().map_or(self.before.id, |(event, _)| event.id)
    }

    fn add(&mut self, at_ms: u64, what: Happening) {
        let event = Event { id: self.newest() + 1, at_ms, what };
        tracing::debug!(?event);
        let length = self.journal.append(&event).unwrap_or_else(|error| {
            tracing::warn!("writing the journal: {error:#}");
            0
        });
        self.timeline.apply(&event);
        self.recent.push_back((event, length));
        self.recent_bytes += length;
        if self.journal.is_too_long() {
            self.shorten();
        }
    }

    /// Keeps the newer half of the journal.
    fn shorten(&mut self) {
        while self.recent_bytes > journal::LONGEST / 2 {
            let Some((event, length)) = self.recent.pop_front() else { break };
            self.recent_bytes -= length;
            self.before.checkpoint.apply(&event);
            self.before.id = event.id;
        }
        let events = self.recent.iter().map(|(event, _)| event);
        if let Err(error) = self.journal.rewrite(&self.before, events) {
            tracing::warn!("shortening the journal: {error:#}");
        }
    }
}

/// What the journal at `path` says of these nodes, where no server runs that could be asked; `None` if there is no journal.
///
/// # Errors
/// If it cannot be read.
pub(crate) fn read(path: &Path, nodes: &[NodeIdentity]) -> Result<Option<Timeline>> {
    if !path.try_exists()? {
        return Ok(None);
    }
    let Kept { checkpoint, events } = Journal::read(path)?;
    let before = checkpoint.map_or_else(|| Timeline::new(nodes), |kept| kept.checkpoint);
    let mut timeline = replay(&before, &events);
    timeline.set_nodes(nodes);
    Ok(Some(timeline))
}

fn replay(before: &Timeline, events: &VecDeque<(Event, usize)>) -> Timeline {
    let mut timeline = before.clone();
    for (event, _) in events {
        timeline.apply(event);
    }
    timeline
}

/// Milliseconds since the epoch, as events count.
pub(crate) fn now_ms() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or(Duration::ZERO);
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests;
