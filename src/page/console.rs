//! The last lines of the nodes' consoles, each with its number, so that who follows gets each of them once.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Mutex};

use anyhow::{Context, Result, bail};
use uuid::Uuid;

use super::lock;
use crate::boot_server::page::insight::ConsolePart;
use crate::hypervisor::{ConsolePlace, Hypervisor};
use crate::lab::{Lab, Node};
use crate::output::guest_text::Lines;

/// The consoles that somebody has looked at.
#[derive(Default)]
pub(super) struct Consoles(Mutex<BTreeMap<u32, Arc<Mutex<Option<Console>>>>>);

/// What is kept of a console.
struct Console {
    lab: Lab,
    node: Node,
    place: ConsolePlace,
    text: Text,
}

/// Lines that come in pieces.
#[derive(Default)]
struct Text {
    lines: Lines,
    kept: VecDeque<String>,
    /// The number of the last line.
    count: u64,
}

impl Consoles {
    /// What a node wrote after line `after`.
    pub(super) fn read(
        &self,
        hypervisor: &Hypervisor,
        lab: Uuid,
        index: u32,
        after: Option<u64>,
    ) -> Result<ConsolePart> {
        let console = Arc::clone(lock(&self.0).entry(index).or_default());
        let mut console = lock(&console);
        if console.is_none() {
            let inventory = hypervisor.observe()?;
            let found = inventory.labs.get(&lab).context("libvirt has no such lab")?;
            let (lab, node) = (found.lab.clone(), found.lab.node(index));
            let place = ConsolePlace::default();
            *console = Some(Console { lab, node, place, text: Text::default() });
        }
        let Some(console) = console.as_mut() else { bail!("there is no such node") };
        let read = hypervisor.read_console(&console.lab, &console.node, console.place)?;
        let Some((bytes, place)) = read else {
            bail!("the lab has no storage pool, which keeps the consoles");
        };
        console.place = place;
        console.text.push(&bytes);
        Ok(console.text.after(after))
    }
}

impl Text {
    fn push(&mut self, bytes: &[u8]) {
        for line in self.lines.push(bytes) {
            self.kept.push_back(line);
            self.count += 1;
        }
        self.kept.drain(..self.kept.len().saturating_sub(MOST));
    }

    fn after(&self, after: Option<u64>) -> ConsolePart {
        let first = self.count - self.kept.len() as u64;
        // Of a server before this one somebody may have more lines than there are.
        let after = after.filter(|after| *after <= self.count).unwrap_or(first).max(first);
        let skip = usize::try_from(after - first).unwrap_or(usize::MAX);
        let lines = self.kept.iter().skip(skip).cloned().collect();
        ConsolePart { after, lines, rest: self.lines.unfinished() }
    }
}

/// As many lines as a page shows.
const MOST: usize = 500;

#[cfg(test)]
mod tests {
    use super::*;

    fn part(after: u64, lines: &[&str], rest: &str) -> ConsolePart {
        let lines = lines.iter().map(|line| (*line).to_owned()).collect();
        ConsolePart { after, lines, rest: rest.to_owned() }
    }

    #[test]
    fn who_follows_gets_each_line_once() {
        let mut text = Text::default();
        assert_eq!(text.after(None), part(0, &[], ""));
        text.push(b"one\r\n\x1b[1mtwo\x1b[0m\n<script>alert(1)</script>\nlog");
        let all = ["one", "two", "<script>alert(1)</script>"];
        assert_eq!(text.after(None), part(0, &all, "log"));
        assert_eq!(text.after(Some(2)), part(2, &all[2..], "log"));
        text.push(b"in: ");
        assert_eq!(text.after(Some(3)), part(3, &[], "login:"));
        assert_eq!(text.after(Some(4711)), part(0, &all, "login:"));
    }

    #[test]
    fn only_the_last_lines_are_kept() {
        let mut text = Text::default();
        (0..MOST + 10).for_each(|line| text.push(format!("{line}\n").as_bytes()));
        let all = text.after(None);
        assert_eq!((all.after, all.lines.len(), all.lines[0].as_str()), (10, MOST, "10"));
        assert_eq!(text.after(Some(3)), all);
    }
}
