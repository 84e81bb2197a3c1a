//! The waterfall as SVG, in the style of the memory chart: it brings its own background and switches with the reader's light
//! or dark theme. Colours for light are attributes, for renderers without style sheets. Texts have places that are theirs
//! whatever the numbers are. The same boots give the same bytes.

use anyhow::{Context, Result};
use serde::Serialize;

use super::axis::Axis;
use super::{Bar, Waterfall, short};
use crate::boot_server::stage::Stage;
use crate::svg::{self, TITLE_LENGTH, Tick, px};

impl Waterfall {
    /// Draws it.
    ///
    /// # Errors
    /// If the template is wrong, which is a bug.
    pub(crate) fn to_svg(&self) -> Result<String> {
        svg::render(TEMPLATE, self.drawing()).context("drawing a timeline")
    }

    fn drawing(&self) -> Drawing {
        let names = self.all_bars().map(|bar| svg::fitting(&bar.name, NAME_LENGTH));
        let longest = names.clone().map(|name| name.chars().count()).max().unwrap_or(0);
        let left = MARGIN + i32::try_from(longest).unwrap_or(0) * NAME_CHARACTER + NAME_GAP;
        let bars = self.all_bars().count();
        let row_height = if bars > MANY { LOW_ROW } else { HIGH_ROW };
        let count = i32::try_from(bars).unwrap_or(0);
        let bottom = TOP + count * row_height + ROWS_GAP;
        let axis = Axis::new(self, f64::from(RIGHT - left));
        let tick = |(at, label): (f64, String)| Tick { at: px(f64::from(left) + at), label };
        let row = |(index, (bar, name)): (i32, (&Bar, String))| {
            Row::new(bar, name, axis, left, TOP + index * row_height + row_height / 2)
        };
        Drawing {
            width: WIDTH,
            height: bottom + BELOW,
            margin: MARGIN,
            left,
            right: RIGHT,
            top: TOP,
            bottom,
            bar_height: row_height * 3 / 5,
            columns: COLUMNS,
            title: svg::fitting(&self.title(), TITLE_LENGTH),
            subtitle: svg::fitting(&self.summary(), SUBTITLE_LENGTH),
            summary: self.summary(),
            ticks: axis.ticks(tick_room).into_iter().map(tick).collect(),
            rows: (0..).zip(self.all_bars().zip(names)).map(row).collect(),
            legend: self.drawn_legend(),
        }
    }

    /// What the colours mean, one beside the other.
    fn drawn_legend(&self) -> Vec<LegendItem> {
        let mut items: Vec<(&str, Kind)> =
            self.stages().into_iter().map(|stage| (stage.name(), Kind::Stage(stage))).collect();
        if self.is_open() {
            items.push(("waiting", Kind::Open));
        }
        if !items.is_empty() {
            items.push(("slowest of a node", Kind::Slowest));
        }
        let mut x = MARGIN;
        let mut legend = Vec::new();
        for (name, kind) in items {
            let (class, colour) = match kind {
                Kind::Stage(stage) => (stage.name(), colour(stage)),
                Kind::Open => ("open", ""),
                Kind::Slowest => ("slowest", ""),
            };
            legend.push(LegendItem { x, name: name.to_owned(), class, colour });
            x += LEGEND_GAP + i32::try_from(name.len()).unwrap_or(0) * NAME_CHARACTER;
        }
        legend
    }
}

enum Kind {
    Stage(Stage),
    Open,
    Slowest,
}

/// What the template draws; lengths in user units, positions that follow from times as text.
#[derive(Serialize)]
struct Drawing {
    width: i32,
    height: i32,
    margin: i32,
    left: i32,
    right: i32,
    top: i32,
    bottom: i32,
    bar_height: i32,
    columns: [i32; 2],
    title: String,
    subtitle: String,
    summary: String,
    ticks: Vec<Tick>,
    rows: Vec<Row>,
    legend: Vec<LegendItem>,
}

#[derive(Serialize)]
struct Row {
    y: i32,
    name: String,
    state: String,
    slowest_text: String,
    parts: Vec<Part>,
    open: Option<Open>,
    slowest: Option<Part>,
}

/// A stage of a node.
#[derive(Clone, Serialize)]
struct Part {
    x: String,
    width: String,
    class: &'static str,
    colour: &'static str,
    label: String,
}

/// What a node waits for now. `arrow` says that it does not end here.
#[derive(Serialize)]
struct Open {
    x1: String,
    x2: String,
    arrow: bool,
    label: String,
}

#[derive(Serialize)]
struct LegendItem {
    x: i32,
    name: String,
    class: &'static str,
    colour: &'static str,
}

impl Row {
    fn new(bar: &Bar, name: String, axis: Axis, left: i32, y: i32) -> Self {
        let x = |ms: u64| f64::from(left) + axis.at(ms);
        let slowest = bar.slowest();
        let (mut parts, mut marked) = (Vec::new(), None);
        for span in &bar.spans {
            let stage = span.stage.name();
            let (from, to) = (short(span.from_ms), short(span.to_ms));
            let part = Part {
                x: px(x(span.from_ms)),
                width: px(x(span.to_ms) - x(span.from_ms)),
                class: stage,
                colour: colour(span.stage),
                label: format!("{name}: {stage} {}, {from} to {to}", short(span.length_ms())),
            };
            if slowest == Some(*span) {
                marked = Some(part.clone());
            }
            parts.push(part);
        }
        let open = bar.open_ms.map(|ms| Open {
            x1: px(x(bar.closed_ms())),
            x2: px(x(ms)),
            arrow: axis.is_beyond(ms),
            label: format!(
                "{name}: waiting for {}",
                bar.waiting_ms().map(short).unwrap_or_default()
            ),
        });
        Self {
            y,
            state: bar.state_text(),
            slowest_text: bar.slowest_text(),
            parts,
            open,
            slowest: marked,
            name,
        }
    }
}

#[expect(clippy::cast_precision_loss, reason = "a label has few characters")]
fn tick_room(label: &str) -> f64 {
    label.len() as f64 * 8.5 + 24.0
}

/// On white each has a contrast of 3 and more, and neighbours differ in lightness too.
fn colour(stage: Stage) -> &'static str {
    match stage {
        Stage::PowerOn | Stage::Script => "#818b98",
        Stage::Kernel => "#0550ae",
        Stage::Initrd => "#218bff",
        Stage::Rootfs => "#6639ba",
        Stage::Config => "#d4661c",
        Stage::Ready => "#116329",
    }
}

const TEMPLATE: &str = include_str!("picture.svg.j2");

const WIDTH: i32 = 960;
const MARGIN: i32 = 32;
const TOP: i32 = 88;
const RIGHT: i32 = 690;
/// Where the states and the slowest stages are written.
const COLUMNS: [i32; 2] = [RIGHT + 14, RIGHT + 146];
/// Heights of rows; that of the lower ones is for more than `MANY` nodes.
const HIGH_ROW: i32 = 34;
const LOW_ROW: i32 = 22;
const MANY: usize = 8;
/// Between the last row and the axis.
const ROWS_GAP: i32 = 6;
/// The axis' labels, its title and the legend.
const BELOW: i32 = 88;
/// What a character takes where the only font is a wide one.
const NAME_CHARACTER: i32 = 9;
const NAME_LENGTH: usize = 24;
const NAME_GAP: i32 = 14;
const SUBTITLE_LENGTH: usize = 98;
/// A coloured square, and the way to the next one.
const LEGEND_GAP: i32 = 40;
