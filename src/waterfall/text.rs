//! The waterfall for a terminal. Stages differ by their cells and not by colour alone.

#![expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    clippy::cast_precision_loss,
    reason = "cells of a terminal are few, and none of them is below 0"
)]

use anstyle::{AnsiColor, Style};

use super::axis::Axis;
use super::{Bar, Waterfall};
use crate::boot_server::stage::Stage;
use crate::output::sanitize;

/// What a terminal can show.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Letters {
    Unicode,
    Ascii,
}

/// One cell, and how it is drawn.
type Cell = (char, Style);

impl Waterfall {
    /// One line a node in `width` columns, seconds below, and what the cells mean.
    ///
    /// ```text
    /// NODE    SECONDS FROM POWER-ON         STATE         SLOWEST
    /// demo-1  ░░░░▒▒▓▓[██████████]▄▄▄▄▄▄▄▄  ready 18.6s   config 7.8s
    /// demo-2  ░░░░▒▒▓▓····················  initrd 18.6s  waiting 13.3s
    ///         ┬──────┬───────┬──────┬──────
    ///         0      5       10     15
    /// ░ script  ▒ kernel  ▓ initrd  █ config  ▄ ready  · waiting  [ ] slowest
    /// ```
    pub(crate) fn to_text(&self, width: usize, letters: Letters) -> String {
        let columns = Columns::new(self, width);
        let axis = Axis::new(self, columns.bar as f64);
        let mut lines = vec![columns.head()];
        for bar in self.all_bars() {
            lines.push(columns.line(&bar.name, &cells(bar, axis, letters), bar));
        }
        lines.extend(columns.axis(axis, letters));
        lines.extend(wrapped(&self.legend(letters), width));
        lines.join("\n")
    }

    fn legend(&self, letters: Letters) -> Vec<(String, Style)> {
        let stage =
            |stage: Stage| (format!("{} {}", letters.cell(stage), stage.name()), colour(stage));
        let mut legend: Vec<(String, Style)> = self.stages().into_iter().map(stage).collect();
        if self.is_open() {
            legend.push((format!("{} waiting", letters.open()), Style::new()));
        }
        if !legend.is_empty() {
            legend.push(("[ ] slowest".to_owned(), Style::new()));
        }
        legend
    }
}

/// How wide the columns are. Where there is little room, first the slowest stage goes, then the state.
struct Columns {
    width: usize,
    name: usize,
    bar: usize,
    state: usize,
    slowest: usize,
}

impl Columns {
    fn new(waterfall: &Waterfall, width: usize) -> Self {
        let most = |head: &str, of: &dyn Fn(&Bar) -> String| {
            let lengths = waterfall.all_bars().map(|bar| of(bar).chars().count());
            lengths.max().unwrap_or(0).max(head.len())
        };
        let name = most("node", &|bar| sanitize(&bar.name)).min(LONGEST_NAME);
        let (state, slowest) =
            (most("state", &Bar::state_text), most("slowest", &Bar::slowest_text));
        let rest = |columns: &[usize]| {
            let taken: usize = columns.iter().map(|column| column + GAP.len()).sum();
            width.saturating_sub(taken)
        };
        let (all, without) = (rest(&[name, state, slowest]), rest(&[name, state]));
        if all >= LEAST_BAR {
            Self { width, name, bar: all, state, slowest }
        } else if without >= LEAST_BAR {
            Self { width, name, bar: without, state, slowest: 0 }
        } else {
            Self { width, name, bar: rest(&[name]), state: 0, slowest: 0 }
        }
    }

    fn head(&self) -> String {
        let title = cut("SECONDS FROM POWER-ON", self.bar);
        let line = self.row("NODE", &format!("{title:<0$}", self.bar), "STATE", "SLOWEST");
        let style = Style::new().bold();
        format!("{style}{}{style:#}", cut(line.trim_end(), self.width))
    }

    fn line(&self, name: &str, cells: &[Cell], bar: &Bar) -> String {
        let name = cut(&sanitize(name), self.name);
        if self.bar == 0 {
            return cut(&name, self.width);
        }
        let blank = " ".repeat(self.bar - cells.len());
        let drawn = format!("{}{blank}", painted(cells));
        self.row(&name, &drawn, &bar.state_text(), &bar.slowest_text()).trim_end().to_owned()
    }

    /// `bar` is as wide as it is to be.
    fn row(&self, name: &str, bar: &str, state: &str, slowest: &str) -> String {
        let mut cells = vec![format!("{name:<0$}", self.name), bar.to_owned()];
        for (text, width) in [(state, self.state), (slowest, self.slowest)] {
            if width > 0 {
                cells.push(format!("{text:<width$}"));
            }
        }
        cells.join(GAP)
    }

    /// The line with the ticks and the one with their labels.
    fn axis(&self, axis: Axis, letters: Letters) -> Vec<String> {
        if self.bar == 0 {
            return Vec::new();
        }
        let (line, tick) = match letters {
            Letters::Unicode => ('─', '┬'),
            Letters::Ascii => ('-', '+'),
        };
        let mut ruler = vec![line; self.bar];
        let mut labels = String::new();
        for (at, label) in axis.ticks(|label| (label.len() + GAP.len()) as f64) {
            // A tick at the end is within the last cell.
            let column = (at.round() as usize).min(self.bar - 1);
            ruler[column] = tick;
            labels = format!("{labels:<column$}{label}");
        }
        let indent = " ".repeat(self.name + GAP.len());
        let ruler: String = ruler.into_iter().collect();
        [ruler, labels].map(|line| cut(&format!("{indent}{line}"), self.width)).into()
    }
}

/// The cells of a bar, from power-on to its end.
fn cells(bar: &Bar, axis: Axis, letters: Letters) -> Vec<Cell> {
    let column = |ms: u64| axis.at(ms).round() as usize;
    let mut cells: Vec<Cell> = Vec::new();
    let slowest = bar.slowest();
    for span in &bar.spans {
        let from = cells.len();
        let style = colour(span.stage);
        cells.resize(column(span.to_ms).max(from), (letters.cell(span.stage), style));
        if slowest == Some(*span) && cells.len() - from >= LEAST_MARKED {
            let last = cells.len() - 1;
            cells[from] = ('[', style.bold());
            cells[last] = (']', style.bold());
        }
    }
    if let Some(ms) = bar.open_ms {
        let end = column(ms).max(cells.len());
        cells.resize(end, (letters.open(), Style::new()));
        if axis.is_beyond(ms)
            && let Some(last) = cells.last_mut()
        {
            *last = ('>', Style::new());
        }
    }
    cells
}

/// Cells of one style are painted together.
fn painted(cells: &[Cell]) -> String {
    let run = |run: &[Cell]| {
        let style = run[0].1;
        let text: String = run.iter().map(|(c, _)| *c).collect();
        format!("{style}{text}{style:#}")
    };
    cells.chunk_by(|a, b| a.1 == b.1).map(run).collect()
}

/// Items one after the other, on as many lines as it takes.
fn wrapped(items: &[(String, Style)], width: usize) -> Vec<String> {
    let mut lines: Vec<(String, usize)> = Vec::new();
    for (text, style) in items {
        let text = cut(text, width);
        let length = text.chars().count();
        let painted = format!("{style}{text}{style:#}");
        match lines.last_mut() {
            Some((line, taken)) if *taken + GAP.len() + length <= width => {
                line.push_str(GAP);
                line.push_str(&painted);
                *taken += GAP.len() + length;
            }
            _ => lines.push((painted, length)),
        }
    }
    lines.into_iter().map(|(line, _)| line).collect()
}

fn cut(text: &str, length: usize) -> String {
    text.chars().take(length).collect()
}

impl Letters {
    /// All of them are in Unicode's Block Elements, which every terminal's font has.
    fn cell(self, stage: Stage) -> char {
        let (unicode, ascii) = match stage {
            Stage::PowerOn => (' ', ' '),
            Stage::Script => ('░', 's'),
            Stage::Kernel => ('▒', 'k'),
            Stage::Initrd => ('▓', 'i'),
            Stage::Rootfs => ('▚', 'f'),
            Stage::Config => ('█', 'c'),
            Stage::Ready => ('▄', 'r'),
        };
        if self == Self::Unicode { unicode } else { ascii }
    }

    fn open(self) -> char {
        if self == Self::Unicode { '·' } else { '.' }
    }
}

fn colour(stage: Stage) -> Style {
    let colour = match stage {
        Stage::PowerOn | Stage::Script => AnsiColor::BrightBlack,
        Stage::Kernel => AnsiColor::Blue,
        Stage::Initrd => AnsiColor::Cyan,
        Stage::Rootfs => AnsiColor::Magenta,
        Stage::Config => AnsiColor::Yellow,
        Stage::Ready => AnsiColor::Green,
    };
    colour.on_default()
}

const GAP: &str = "  ";
const LONGEST_NAME: usize = 24;
const LEAST_BAR: usize = 20;
/// Two brackets and something between them.
const LEAST_MARKED: usize = 3;
