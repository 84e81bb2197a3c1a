//! What guests write to their terminals, as lines that are harmless on ours. A line is what a terminal would show of it in
//! the end: terminal sequences are taken out, backspaces and carriage returns are followed.
//! <https://ecma-international.org/publications-and-standards/standards/ecma-48/>

use super::sanitize;

/// Cuts what arrives in pieces into lines.
#[derive(Debug, Default)]
pub(crate) struct Lines {
    pending: Vec<u8>,
}

impl Lines {
    /// The lines that these bytes complete.
    pub(crate) fn push(&mut self, bytes: &[u8]) -> Vec<String> {
        self.pending.extend_from_slice(bytes);
        let end = match self.pending.iter().rposition(|byte| *byte == b'\n') {
            Some(end) => end + 1,
            // Who never ends a line is not to take all of our memory.
            None if self.pending.len() >= LONGEST => self.pending.len(),
            None => return Vec::new(),
        };
        let complete: Vec<u8> = self.pending.drain(..end).collect();
        plain_lines(&String::from_utf8_lossy(&complete)).collect()
    }

    /// What there is of a line that has not come to its end.
    pub(crate) fn unfinished(&self) -> String {
        plain_line(&String::from_utf8_lossy(&self.pending))
    }

    /// What there is of a line that has not come to its end; it counts as a line from now on.
    pub(crate) fn rest(&mut self) -> Option<String> {
        let rest = std::mem::take(&mut self.pending);
        let line = plain_line(&String::from_utf8_lossy(&rest));
        (!line.is_empty()).then_some(line)
    }
}

/// The lines of a guest's text.
pub(crate) fn plain_lines(text: &str) -> impl Iterator<Item = String> + '_ {
    text.lines().map(plain_line)
}

/// A line as a terminal shows it in the end.
pub(crate) fn plain_line(text: &str) -> String {
    let mut line = Line::default();
    let mut chars = text.chars().peekable();
    while let Some(c) = chars.next() {
        match c {
            '\x1b' => line.obey(sequence(&mut chars)),
            // The same in one character (C1).
            '\u{9b}' => line.obey(control_sequence(&mut chars)),
            '\r' => line.column = 0,
            '\u{8}' => line.column = line.column.saturating_sub(1),
            '\t' => line.put(c),
            c if c.is_control() => {}
            c => line.put(c),
        }
    }
    let shown: String = line.shown.into_iter().collect();
    // Tabs move nobody's cursor backwards.
    let parts: Vec<String> = shown.trim_end().split('\t').map(sanitize).collect();
    parts.join("\t")
}

/// What is shown of a line, and where the next character goes.
#[derive(Default)]
struct Line {
    shown: Vec<char>,
    column: usize,
}

impl Line {
    fn put(&mut self, c: char) {
        match self.shown.get_mut(self.column) {
            Some(place) => *place = c,
            None => self.shown.push(c),
        }
        self.column += 1;
    }

    fn obey(&mut self, sequence: Sequence) {
        match sequence {
            Sequence::EraseToEnd => self.shown.truncate(self.column),
            Sequence::EraseAll => *self = Self::default(),
            Sequence::Other => {}
        }
    }
}

/// The sequences that change what is to be read of a line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Sequence {
    EraseToEnd,
    EraseAll,
    Other,
}

/// What follows an escape.
fn sequence(chars: &mut std::iter::Peekable<std::str::Chars>) -> Sequence {
    match chars.next() {
        Some('[') => control_sequence(chars),
        // Strings (OSC, DCS, SOS, PM, APC) end with BEL or `ESC \`.
        Some(']' | 'P' | 'X' | '^' | '_') => {
            while let Some(c) = chars.next() {
                if c == '\u{7}' || c == '\u{9c}' {
                    break;
                }
                if c == '\x1b' {
                    chars.next();
                    break;
                }
            }
            Sequence::Other
        }
        // RIS: the terminal begins anew.
        Some('c') => Sequence::EraseAll,
        // Intermediate bytes go before the one that ends it, such as `ESC ( B`.
        Some(' '..='/') => {
            let is_intermediate = |c: &char| matches!(c, ' '..='/');
            while chars.next_if(is_intermediate).is_some() {}
            chars.next();
            Sequence::Other
        }
        _ => Sequence::Other,
    }
}

fn control_sequence(chars: &mut std::iter::Peekable<std::str::Chars>) -> Sequence {
    let mut parameters = String::new();
    while let Some(c) = chars.next_if(|c| matches!(c, ' '..='?')) {
        parameters.push(c);
    }
    // What is none of its last bytes belongs to the text that was cut into.
    match (chars.next_if(|c| matches!(c, '@'..='~')), parameters.as_str()) {
        (Some('K'), "" | "0") => Sequence::EraseToEnd,
        (Some('J' | 'K'), "2") => Sequence::EraseAll,
        _ => Sequence::Other,
    }
}

const LONGEST: usize = 64 << 10;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_is_what_a_terminal_shows_of_it() {
        for (text, expected) in [
            ("plain", "plain"),
            ("grün\r", "grün"),
            ("\x1b[32m[  OK  ]\x1b[0m Started", "[  OK  ] Started"),
            ("\x1b]0;title\x07\x1b(B\x1b[?2004h# ls", "# ls"),
            ("\x1b]8;;http://x\x1b\\link\x1b]8;;\x1b\\", "link"),
            ("lss\u{8} \u{8} -l", "ls -l"),
            ("10%\r20%\r100%", "100%"),
            ("loading...\r\x1b[Kdone", "done"),
            ("\x1bc\x1b[?7l\x1b[2J\x1b[0mSeaBIOS (version 1)", "SeaBIOS (version 1)"),
            ("junk\x1b[2Jclear", "clear"),
            ("\u{9b}31mred", "red"),
            ("a\tb\0\u{7}", "a\tb"),
            ("abc\u{202e}def", "abc\\u{202e}def"),
            // Sequences that never end, and what is none.
            ("x\x1b[", "x"),
            ("x\x1b[12\u{e4}y", "x\u{e4}y"),
            ("x\x1b]0;never", "x"),
            ("\x1b", ""),
            ("  indented  ", "  indented"),
        ] {
            assert_eq!(plain_line(text), expected, "{text:?}");
        }
    }

    #[test]
    fn what_arrives_in_pieces_is_cut_into_lines() {
        let mut lines = Lines::default();
        assert_eq!(lines.push(b"one\r\ntw"), ["one"]);
        assert_eq!(lines.push("o gr\u{fc}".as_bytes().split_last().unwrap().1), [""; 0]);
        assert_eq!(lines.push(b"\xbcn\n\nlogin: "), ["two gr\u{fc}n", ""]);
        assert_eq!(lines.rest().as_deref(), Some("login:"));
        assert_eq!(lines.rest(), None);
        assert_eq!(lines.push(&vec![b'x'; LONGEST + 1]), ["x".repeat(LONGEST + 1)]);
        assert_eq!(lines.push(b"\xff\n"), ["\u{fffd}"]);
    }
}
