//! Everything virtlab says goes through a [`Printer`].
//!
//! Data goes to stdout and is stable; conversation goes to stderr; whether there are colours and
//! moving bars is decided once, here, and not by each caller.

pub(crate) mod guest_text;
pub(crate) mod prefix;
pub(crate) mod raw_terminal;
pub(crate) mod screen;
pub(crate) mod terminal;

use std::collections::BTreeSet;
use std::fmt::Display;
use std::io::{IsTerminal, Write};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use anstyle::{AnsiColor, Style};
use clap::ValueEnum;
use indicatif::{MultiProgress, ProgressBar, ProgressDrawTarget, ProgressStyle};
use serde::Serialize;

/// How listings are printed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum Format {
    /// Columns for people
    #[default]
    Table,
    /// One JSON document
    Json,
    /// One YAML document
    Yaml,
    /// Names only, one a line
    Name,
}

/// Where text and progress go, decided once from the flags and the terminal.
#[derive(Clone, Debug)]
pub struct Printer {
    quiet: bool,
    format: Format,
    bars: MultiProgress,
    warnings: Arc<Mutex<BTreeSet<String>>>,
}

impl Printer {
    /// A printer that shows progress only on a terminal, and never when `quiet`.
    pub fn new(quiet: bool, format: Format) -> Self {
        let bars = MultiProgress::new();
        if quiet || !std::io::stderr().is_terminal() {
            bars.set_draw_target(ProgressDrawTarget::hidden());
        }
        Self { quiet, format, bars, warnings: Arc::default() }
    }

    /// The format that `-o/--output` asked for.
    pub fn format(&self) -> Format {
        self.format
    }

    /// Whether progress is drawn in place; if not, callers print a line for each event worth one.
    pub fn is_live(&self) -> bool {
        !self.bars.is_hidden()
    }

    /// A line of data on stdout. A reader that went away is not an error.
    pub fn data(&self, line: impl Display) {
        self.data_if_read(line);
    }

    /// The same, for those who go on as long as somebody reads: whether somebody does.
    pub(crate) fn data_if_read(&self, line: impl Display) -> bool {
        self.bars.suspend(|| writeln!(anstream::stdout(), "{line}").is_ok())
    }

    /// Text on stdout in place of what the terminal shows; elsewhere it follows as data does.
    pub fn screen(&self, text: impl Display) {
        let clear = if std::io::stdout().is_terminal() { CLEAR_SCREEN } else { "" };
        self.data(format!("{clear}{text}"));
    }

    /// A line of conversation on stderr, unless `--quiet`.
    pub fn note(&self, line: impl Display) {
        if !self.quiet {
            self.say(line);
        }
    }

    /// A line on stderr that `--quiet` does not silence: what a command on a node has to say.
    pub(crate) fn complaint(&self, line: impl Display) {
        self.say(line);
    }

    /// A warning on stderr; `--quiet` does not silence it. The same one is said once.
    pub fn warn(&self, line: impl Display) {
        let line = cut_lines(&line.to_string());
        if !self.warnings.lock().expect("nobody panics with it").insert(line.clone()) {
            return;
        }
        let style = AnsiColor::Yellow.on_default().bold();
        self.say(format!("{style}warning{style:#}: {line}"));
    }

    /// An error on stderr with its hints, in the house form: `error: …`, a blank line, `hint: …`.
    pub fn error(&self, error: &anyhow::Error, hints: &[String]) {
        let style = AnsiColor::Red.on_default().bold();
        self.say(format!("{style}error{style:#}: {}", cut_lines(&format!("{error:#}"))));
        if !hints.is_empty() {
            self.say("");
        }
        let style = AnsiColor::Cyan.on_default().bold();
        for hint in hints {
            self.say(format!("{style}hint{style:#}: {}", cut_lines(hint)));
        }
    }

    /// Prints a listing in the chosen format. `rows` is what JSON and YAML show, `table` what
    /// people see, `names` what `--output name` shows.
    ///
    /// # Errors
    /// If the rows cannot be serialised, which is a bug.
    pub fn listing<T: Serialize>(
        &self,
        rows: &T,
        names: &[String],
        table: &Table,
    ) -> anyhow::Result<()> {
        self.document(rows, names, || table.to_string())
    }

    /// The same of what is no table: `text` makes what people see.
    ///
    /// # Errors
    /// If the document cannot be serialised, which is a bug.
    pub(crate) fn document<T: Serialize>(
        &self,
        document: &T,
        names: &[impl AsRef<str>],
        text: impl FnOnce() -> String,
    ) -> anyhow::Result<()> {
        match self.format {
            Format::Table => {
                // No line, rather than an empty one.
                Some(text())
                    .filter(|text| !text.is_empty())
                    .iter()
                    .for_each(|text| self.data(text));
            }
            Format::Json => self.data(serde_json::to_string_pretty(document)?),
            Format::Yaml => self.data(serde_saphyr::to_string(document)?.trim_end()),
            Format::Name => names.iter().for_each(|name| self.data(name.as_ref())),
        }
        Ok(())
    }

    /// A bar for bytes, with speed and time left; how many there will be is for [`set_total`].
    pub fn byte_bar(&self, name: &str) -> ProgressBar {
        let bar = self.bars.add(ProgressBar::no_length().with_prefix(sanitize(name)));
        set_total(&bar, None);
        bar
    }

    /// A line that turns while something is waited for.
    pub fn spinner(&self, name: &str) -> ProgressBar {
        let bar = ProgressBar::new_spinner().with_prefix(sanitize(name)).with_style(
            ProgressStyle::with_template("{spinner} {prefix} {msg}")
                .expect("the template is valid"),
        );
        let bar = self.bars.add(bar);
        if self.is_live() {
            bar.enable_steady_tick(SPINNER_TICK);
        }
        bar
    }

    /// A line that says for how long something is waited for.
    pub(crate) fn clock(&self, message: &str) -> ProgressBar {
        let style = ProgressStyle::with_template("{spinner} {msg}, {elapsed}");
        let bar = ProgressBar::new_spinner().with_style(style.expect("the template is valid"));
        let bar = self.bars.add(bar.with_message(message.to_owned()));
        if self.is_live() {
            bar.enable_steady_tick(SPINNER_TICK);
        }
        bar
    }

    fn say(&self, line: impl Display) {
        self.bars.suspend(|| {
            let _ = writeln!(anstream::stderr(), "{line}");
        });
    }
}

/// Tells a bar how many bytes there will be, or that nobody knows: then it shows no part of a whole.
pub fn set_total(bar: &ProgressBar, total: Option<u64>) {
    let template = match total {
        Some(_) => "{prefix:<32} {bar:24} {bytes:>10}/{total_bytes} {bytes_per_sec:>12} {eta:>4}",
        None => "{prefix:<32} {spinner} {bytes:>10} {bytes_per_sec:>12}",
    };
    bar.set_style(ProgressStyle::with_template(template).expect("the template is valid"));
    match total {
        Some(total) => bar.set_length(total),
        None => bar.unset_length(),
    }
}

/// Plain columns under upper-case heads, as virsh and kubectl print them.
#[derive(Debug)]
pub struct Table {
    rows: Vec<Vec<String>>,
}

impl Table {
    /// A table with these column heads.
    pub fn new(heads: &[&str]) -> Self {
        Self { rows: vec![heads.iter().map(|head| head.to_uppercase()).collect()] }
    }

    /// Adds a row; text that came from a guest or a server is made harmless.
    pub fn row(&mut self, cells: impl IntoIterator<Item = String>) {
        self.rows.push(cells.into_iter().map(|cell| sanitize(&cell)).collect());
    }
}

impl Display for Table {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let columns = self.rows.first().map_or(0, Vec::len);
        let width = |column: usize| {
            self.rows.iter().map(|row| row[column].chars().count()).max().unwrap_or(0)
        };
        let widths: Vec<usize> = (0..columns).map(width).collect();
        for (index, row) in self.rows.iter().enumerate() {
            let line: Vec<String> =
                row.iter().zip(&widths).map(|(cell, width)| format!("{cell:<width$}")).collect();
            let line = line.join(COLUMN_GAP);
            if index > 0 {
                writeln!(f)?;
            }
            if index == 0 {
                let style = Style::new().bold();
                write!(f, "{style}{}{style:#}", line.trim_end())?;
            } else {
                write!(f, "{}", line.trim_end())?;
            }
        }
        Ok(())
    }
}

/// Escapes control and direction-changing characters, so that text from a guest, a lease or a
/// server cannot drive the terminal that shows it.
pub fn sanitize(text: &str) -> String {
    text.chars()
        .flat_map(|c| {
            let harmful = c.is_control()
                || matches!(c, '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}');
            let escaped = harmful.then(|| c.escape_unicode().to_string());
            let plain = escaped.is_none().then_some(c);
            escaped.unwrap_or_default().chars().chain(plain).collect::<Vec<_>>()
        })
        .collect()
}

/// Text of which no line is longer than people read: input that a message repeats may be of any length.
pub fn cut_lines(text: &str) -> String {
    let cut = |line: &str| match line.char_indices().nth(MAX_LINE) {
        None => line.to_owned(),
        Some((end, _)) => {
            let more = line[end..].chars().count();
            format!("{}… ({more} characters more)", line[..end].trim_end())
        }
    };
    text.split('\n').map(cut).collect::<Vec<_>>().join("\n")
}

/// What a console shows of its log at the end: without the sequences that drive a terminal, and with what
/// backspaces and carriage returns took away taken away.
pub fn console_text(log: &str) -> String {
    let show = |line: &str| {
        let line = line.trim_end_matches('\r');
        let line = line.rsplit('\r').next().unwrap_or_default();
        let mut shown = String::new();
        for (index, part) in line.split('\u{8}').enumerate() {
            if index > 0 {
                shown.pop();
            }
            shown.push_str(&anstream::adapter::strip_str(part).to_string());
        }
        shown
    };
    log.split('\n').map(show).collect::<Vec<_>>().join("\n")
}

/// A duration as people read it: `0.4s`, `25.1s`, `3m07s`.
pub fn seconds(duration: Duration) -> String {
    let total = duration.as_secs();
    if total < 100 {
        format!("{:.1}s", duration.as_secs_f64())
    } else {
        format!("{}m{:02}s", total / 60, total % 60)
    }
}

/// Whether the user's locale can show more than ASCII.
pub(crate) fn is_utf8_locale() -> bool {
    let names = ["LC_ALL", "LC_CTYPE", "LANG"];
    is_utf8(names.map(|name| std::env::var(name).ok()))
}

/// The first of POSIX' variables for character sets that says something counts.
fn is_utf8(variables: [Option<String>; 3]) -> bool {
    let locale = variables.into_iter().flatten().find(|value| !value.is_empty());
    let locale = locale.unwrap_or_default().to_ascii_lowercase();
    locale.contains("utf-8") || locale.contains("utf8")
}

/// Erases all and goes to the first line (ECMA-48).
const CLEAR_SCREEN: &str = "\x1b[2J\x1b[H";
/// Longer than any line of our own.
const MAX_LINE: usize = 1000;
const COLUMN_GAP: &str = "  ";
const SPINNER_TICK: Duration = Duration::from_millis(120);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_table_pads_its_columns_and_leaves_no_trailing_blanks() {
        let mut table = Table::new(&["name", "state"]);
        table.row(["lab-1".to_owned(), "ready".to_owned()]);
        table.row(["a".to_owned(), String::new()]);
        let plain = anstream::adapter::strip_str(&table.to_string()).to_string();
        assert_eq!(plain, "NAME   STATE\nlab-1  ready\na");
    }

    #[test]
    fn text_from_a_guest_cannot_drive_the_terminal() {
        assert_eq!(sanitize("a\u{1b}[2Jb\u{202e}c"), "a\\u{1b}[2Jb\\u{202e}c");
        assert_eq!(sanitize("grün"), "grün");
    }

    #[test]
    fn a_long_line_is_cut_and_the_others_are_not() {
        let text = format!("reading `x`:\n{}\nend", "ü".repeat(100_000));
        let expected = format!("reading `x`:\n{}… (99000 characters more)\nend", "ü".repeat(1000));
        assert_eq!(cut_lines(&text), expected);
    }

    #[test]
    fn a_console_is_shown_as_a_screen_would_show_it() {
        for (log, shown) in [
            ("\u{1b}[0m\u{1b}[1;32mok\u{1b}[0m login:\r\nnext\r\n", "ok login:\nnext\n"),
            (
                "Press Ctrl-B\u{8}\u{8}\u{8}\u{8}\u{8}\u{8}\u{8}\u{8}\u{8}\u{8}\u{8}\u{8}iPXE",
                "iPXE",
            ),
            ("\u{8}\u{8}a", "a"),
            (" 10%\r 50%\r100%\n", "100%\n"),
            ("cut \u{1b}[3", "cut "),
        ] {
            assert_eq!(console_text(log), shown, "{log:?}");
        }
    }

    #[test]
    fn the_first_variable_that_says_something_tells_the_character_set() {
        for (variables, expected) in [
            ([None, None, None], false),
            ([None, None, Some("de_DE.UTF-8")], true),
            ([Some(""), Some("C.utf8"), Some("C")], true),
            ([Some("C"), Some("C.UTF-8"), Some("C.UTF-8")], false),
        ] {
            let variables = variables.map(|it| it.map(ToOwned::to_owned));
            assert_eq!(is_utf8(variables.clone()), expected, "{variables:?}");
        }
    }

    #[test]
    fn durations_are_short() {
        assert_eq!(seconds(Duration::from_millis(2460)), "2.5s");
        assert_eq!(seconds(Duration::from_secs(187)), "3m07s");
    }
}
