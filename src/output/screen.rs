//! The whole screen of a terminal, drawn again and again, and given back as it was. The few control sequences that it takes
//! are ECMA-48's and xterm's, which every terminal of today knows; a library would be larger than what it replaces.
//!
//! <https://invisible-island.net/xterm/ctlseqs/ctlseqs.html>

use std::fmt::Write;
use std::time::Duration;

use anstyle::Style;
use anyhow::Result;

use super::raw_terminal::{RawTerminal, Typed};
use super::terminal::Size;

/// The screen, ours until it is dropped, be it by a panic.
#[derive(Debug)]
pub(crate) struct Screen {
    terminal: RawTerminal,
    has_styles: bool,
}

/// A line of text on the screen.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Line {
    pub(crate) text: String,
    pub(crate) bold: bool,
}

impl Screen {
    /// Takes the screen.
    ///
    /// # Errors
    /// If stdin is no terminal, or it is gone.
    pub(crate) fn enter() -> Result<Self> {
        let choice = anstream::AutoStream::choice(&std::io::stdout());
        let has_styles = choice != anstream::ColorChoice::Never;
        let screen = Self { terminal: RawTerminal::enter()?, has_styles };
        screen.terminal.show(ENTER.as_bytes())?;
        Ok(screen)
    }

    /// Shows these lines and nothing else, as far as there is room.
    ///
    /// # Errors
    /// If the terminal is gone.
    pub(crate) fn draw(&self, lines: &[Line], size: Size) -> Result<()> {
        self.terminal.show(picture(lines, size, self.has_styles).as_bytes())
    }

    /// What was typed, waiting for it for at most `patience`, or until the size changes.
    ///
    /// # Errors
    /// If stdin cannot be read.
    pub(crate) fn typed(&self, patience: Duration) -> Result<Typed> {
        self.terminal.read(patience)
    }
}

impl Drop for Screen {
    fn drop(&mut self) {
        let _ = self.terminal.show(LEAVE.as_bytes());
    }
}

/// Text on lines of so many columns, broken between words; what has no room on `most` lines is cut.
pub(crate) fn wrapped(text: &str, columns: usize, most: usize) -> Vec<String> {
    let columns = columns.max(1);
    let mut lines: Vec<String> = Vec::new();
    let mut taken = columns;
    for word in text.split(' ') {
        let length = word.chars().count();
        match lines.last_mut() {
            Some(line) if taken + 1 + length <= columns => {
                line.push(' ');
                taken += 1;
            }
            _ => taken = columns,
        }
        for c in word.chars() {
            if taken == columns {
                lines.push(String::new());
                taken = 0;
            }
            if let Some(line) = lines.last_mut() {
                line.push(c);
                taken += 1;
            }
        }
    }
    if lines.len() > most {
        lines.truncate(most);
        if let Some(last) = lines.last_mut() {
            *last = last.chars().take(columns.saturating_sub(2)).chain(" …".chars()).collect();
        }
    }
    lines
}

/// A line is erased before it is written: a terminal that stands behind its last column would erase that one.
fn picture(lines: &[Line], size: Size, has_styles: bool) -> String {
    let mut picture = HOME.to_owned();
    for (index, line) in lines.iter().take(size.rows).enumerate() {
        let gap = if index == 0 { "" } else { "\r\n" };
        let text: String = line.text.chars().take(size.columns).collect();
        let style = if line.bold && has_styles { Style::new().bold() } else { Style::new() };
        let _ = write!(picture, "{gap}{ERASE_LINE}{style}{text}{style:#}");
    }
    if lines.len() < size.rows {
        picture.push_str("\r\n");
        picture.push_str(ERASE_BELOW);
    }
    picture
}

/// To the alternate screen, without a cursor. Nor does the terminal wrap lines there: a character may take two columns, and
/// one line more than there is room for would scroll the first one away.
const ENTER: &str = "\x1b[?1049h\x1b[?25l\x1b[?7l";
const LEAVE: &str = "\x1b[?7h\x1b[?25h\x1b[?1049l";
const HOME: &str = "\x1b[H";
const ERASE_LINE: &str = "\x1b[2K";
const ERASE_BELOW: &str = "\x1b[J";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_cut_to_the_screen_and_what_was_below_is_erased() {
        let line = |text: &str, bold| Line { text: text.to_owned(), bold };
        let lines = [line("héad", true), line("12345", false), line("more", false)];
        for (rows, has_styles, expected) in [
            (4, true, "\x1b[H\x1b[2K\x1b[1mhéa\x1b[0m\r\n\x1b[2K123\r\n\x1b[2Kmor\r\n\x1b[J"),
            (2, false, "\x1b[H\x1b[2Khéa\r\n\x1b[2K123"),
        ] {
            assert_eq!(picture(&lines, Size { rows, columns: 3 }, has_styles), expected);
        }
    }

    #[test]
    fn text_is_broken_between_words_and_a_word_that_is_too_long_within() {
        for (text, columns, most, expected) in [
            ("", 5, 3, ""),
            ("one two", 7, 3, "one two|"),
            ("one two", 6, 3, "one|two|"),
            ("öne twö thrée", 7, 3, "öne twö|thrée|"),
            ("one twothree", 5, 3, "one|twoth|ree|"),
            ("one two three four", 7, 2, "one two|three …|"),
            ("one two three", 7, 1, "one t …|"),
            ("ab", 1, 9, "a|b|"),
            ("ab", 0, 9, "a|b|"),
            ("ab", 5, 0, ""),
        ] {
            let lines = wrapped(text, columns, most);
            let shown: String = lines.iter().flat_map(|line| [line.as_str(), "|"]).collect();
            assert_eq!(shown, expected, "{text} on {columns}×{most}");
        }
    }
}
