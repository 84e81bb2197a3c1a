//! The console logs of several nodes, read on and on.

use anyhow::Result;

use super::targets::Target;
use crate::hypervisor::{ConsolePlace, Hypervisor};
use crate::lab::{Lab, Node};
use crate::output::guest_text::Lines;

/// The console log of one node.
#[derive(Debug)]
pub(crate) struct ConsoleLog<'a> {
    /// The lab.
    pub(crate) lab: &'a Lab,
    /// The node.
    pub(crate) node: Node,
    place: ConsolePlace,
    lines: Lines,
    start: Start,
    /// How often in turn nothing was there to read.
    quiet: u32,
}

/// Where to begin.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Start {
    /// With all that is kept: from the last power-on.
    PowerOn,
    /// With the last start of the firmware.
    Boot,
}

/// What there is to read.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum News {
    /// These lines, as long as there are some.
    Lines(Vec<String>),
    /// The lab is gone.
    Gone,
}

impl<'a> ConsoleLog<'a> {
    /// The logs of all nodes that are meant.
    pub(crate) fn of(targets: &[Target<'a>], start: Start) -> Vec<Self> {
        let of = |target: &Target<'a>| {
            let lab = target.lab();
            let log = move |node: &Node| Self {
                lab,
                node: node.clone(),
                place: ConsolePlace::default(),
                lines: Lines::default(),
                start,
                quiet: 0,
            };
            target.nodes.iter().map(log).collect::<Vec<_>>()
        };
        targets.iter().flat_map(of).collect()
    }

    /// The lines that have come since the last call. One that did not go on for as many calls as `patience` counts as a
    /// whole one.
    pub(crate) fn read(&mut self, hypervisor: &Hypervisor, patience: u32) -> Result<News> {
        let read = hypervisor.read_console(self.lab, &self.node, self.place)?;
        let Some((bytes, place)) = read else { return Ok(News::Gone) };
        self.place = place;
        if bytes.is_empty() {
            self.quiet += 1;
            let rest = if self.quiet >= patience { self.lines.rest() } else { None };
            return Ok(News::Lines(rest.into_iter().collect()));
        }
        self.quiet = 0;
        let bytes = match self.start {
            Start::Boot => since_boot(&bytes),
            Start::PowerOn => &bytes,
        };
        // What comes later is later than that boot.
        self.start = Start::PowerOn;
        Ok(News::Lines(self.lines.push(bytes)))
    }
}

/// The text from the line on with which the firmware began last; all of it if that is not seen.
fn since_boot(text: &[u8]) -> &[u8] {
    let begins =
        |line: &[u8]| FIRMWARE.iter().any(|mark| line.windows(mark.len()).any(|it| it == *mark));
    let mut start = 0;
    let mut last = 0;
    for line in text.split_inclusive(|byte| *byte == b'\n') {
        if begins(line) {
            last = start;
        }
        start += line.len();
    }
    &text[last..]
}

/// What `SeaBIOS` says first, and how edk2 sets up its terminal.
const FIRMWARE: [&[u8]; 2] = [b"SeaBIOS (version ", b"\x1b[=3h"];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_boot_begins_where_the_firmware_began_last() {
        let bios = "\x1bc\x1b[?7l\x1b[2J\x1b[0mSeaBIOS (version 1.16.3)\r\n";
        let uefi = "\x1b[2J\x1b[01;01H\x1b[=3h\x1b[2J\r\n";
        for firmware in [bios, uefi] {
            let text = format!("{firmware}first\r\n{firmware}second\r\nlogin: ");
            let expected = format!("{firmware}second\r\nlogin: ");
            assert_eq!(since_boot(text.as_bytes()), expected.as_bytes());
        }
        assert_eq!(since_boot(b"of another\nfirmware\n"), b"of another\nfirmware\n");
    }
}
