//! The chart of a curve as SVG: the number of nodes against memory, with and without KSM, as in the
//! article this tool comes from.
//!
//! It brings its own background and switches with the reader's light or dark theme. Colours for
//! light are attributes, so that a renderer that knows no style sheets or no media queries draws
//! that one; the lines differ in their markers too, not by colour alone. Texts have places that
//! are theirs whatever the numbers are, so nothing overlaps. The same curve gives the same bytes.

mod scale;

use anyhow::{Context, Result};
use serde::Serialize;

use crate::memory::{Analysis, Curve, Sample};
use crate::svg::{self, TITLE_LENGTH, Tick, px};
use crate::units::{human_bytes, human_signed_bytes};
use scale::{NodeScale, memory_scale};

/// A curve to draw, and what stands above it.
#[derive(Clone, Debug)]
pub struct Chart<'a> {
    curve: &'a Curve,
    title: String,
}

impl<'a> Chart<'a> {
    /// A chart of this curve with the usual title.
    pub fn of(curve: &'a Curve) -> Self {
        Self { curve, title: "Memory of the nodes with and without KSM".to_owned() }
    }

    /// The same with another title; what does not fit is cut.
    #[must_use]
    pub fn titled(self, title: &str) -> Self {
        Self { title: svg::fitting(title, TITLE_LENGTH), ..self }
    }

    /// Draws it.
    ///
    /// # Errors
    /// If the curve has no samples.
    pub fn to_svg(&self) -> Result<String> {
        let analysis = self.curve.analysis().context("drawing a chart: there are no samples")?;
        svg::render(TEMPLATE, self.drawing(&analysis)).context("drawing a chart")
    }

    fn drawing(&self, analysis: &Analysis) -> Drawing {
        let samples = self.curve.samples();
        let most = samples.iter().map(|s| s.without_ksm_bytes.max(s.with_ksm_bytes)).max();
        let memory = memory_scale(most.unwrap_or(0), TOP.into(), BOTTOM.into());
        let nodes = NodeScale::new(
            samples.first().map_or(0, |sample| sample.nodes),
            samples.last().map_or(0, |sample| sample.nodes),
            LEFT.into(),
            RIGHT.into(),
        );
        let points = |of: fn(&Sample) -> u64| -> Vec<Point> {
            samples.iter().map(|s| Point { x: nodes.at(s.nodes), y: memory.at(of(s)) }).collect()
        };
        let without = points(|sample| sample.without_ksm_bytes);
        let with = points(|sample| sample.with_ksm_bytes);
        let ends = [&without, &with].map(|points| points.last().map_or(0.0, |point| point.y));
        let label_y = apart(ends);
        let line = |index: usize, points: &[Point], bytes: u64, per_node: Option<i64>| Line {
            class: ["without", "with"][index],
            name: ["Without KSM", "With KSM"][index],
            colour: COLOURS[index],
            // So that the one below is seen where both are the same.
            is_dashed: index == 1 && samples.iter().all(|sample| sample.saved_bytes() == 0),
            marker: ["without-fill", "hole"][index],
            marker_fill: [COLOURS[0], "#ffffff"][index],
            points: path(points.iter()),
            dots: dots(points),
            label_y: px(label_y[index]),
            value: human_bytes(bytes),
            per_node: per_node.map(per_node_text),
            legend_x: i32::midpoint(LEFT, RIGHT) + [-130, 20][index],
        };
        let further = analysis.per_further_node_without_ksm_bytes;
        let further_with = analysis.per_further_node_with_ksm_bytes;
        Drawing {
            width: WIDTH,
            height: HEIGHT,
            left: LEFT,
            right: RIGHT,
            top: TOP,
            bottom: BOTTOM,
            title: self.title.clone(),
            summary: summary(analysis),
            unit: memory.unit(),
            y_ticks: memory.ticks(),
            x_ticks: nodes.ticks(),
            area: (samples.len() > 1).then(|| path(without.iter().chain(with.iter().rev()))),
            saving: saving(&without, &with, analysis),
            lines: vec![
                line(0, &without, analysis.without_ksm_bytes, further),
                line(1, &with, analysis.with_ksm_bytes, further_with),
            ],
        }
    }
}

/// What the template draws; lengths in user units, positions as text with one decimal at most.
#[derive(Serialize)]
struct Drawing {
    width: i32,
    height: i32,
    left: i32,
    right: i32,
    top: i32,
    bottom: i32,
    title: String,
    summary: String,
    unit: &'static str,
    y_ticks: Vec<Tick>,
    x_ticks: Vec<Tick>,
    area: Option<String>,
    saving: Option<Saving>,
    lines: Vec<Line>,
}

#[derive(Serialize)]
struct Line {
    class: &'static str,
    name: &'static str,
    colour: &'static str,
    is_dashed: bool,
    marker: &'static str,
    marker_fill: &'static str,
    points: String,
    dots: Vec<Dot>,
    label_y: String,
    value: String,
    per_node: Option<String>,
    legend_x: i32,
}

#[derive(Serialize)]
struct Dot {
    x: String,
    y: String,
}

/// The text between the curves.
#[derive(Serialize)]
struct Saving {
    x: String,
    y: String,
    label: String,
}

#[derive(Clone, Copy)]
struct Point {
    x: f64,
    y: f64,
}

/// What each further node adds.
fn per_node_text(bytes: i64) -> String {
    let plus = if bytes < 0 { "" } else { "+" };
    format!("{plus}{} per node", human_signed_bytes(bytes))
}

fn summary(analysis: &Analysis) -> String {
    let Analysis { nodes, saved_percent, .. } = analysis;
    let plural = if *nodes == 1 { "node takes" } else { "nodes take" };
    if analysis.saved_bytes == 0 {
        let bytes = human_bytes(analysis.with_ksm_bytes);
        return format!("{nodes} {plural} {bytes}; KSM saves nothing of it");
    }
    format!(
        "{nodes} {plural} {} instead of {}: {} saved, {saved_percent} %",
        human_bytes(analysis.with_ksm_bytes),
        human_bytes(analysis.without_ksm_bytes),
        human_bytes(analysis.saved_bytes),
    )
}

fn path<'p>(points: impl Iterator<Item = &'p Point>) -> String {
    points.map(|point| format!("{},{}", px(point.x), px(point.y))).collect::<Vec<_>>().join(" ")
}

/// A dot for each sample, or for the ends only where dots would touch each other.
fn dots(points: &[Point]) -> Vec<Dot> {
    let is_crowded = points.windows(2).any(|pair| pair[1].x - pair[0].x < DOT_GAP);
    let is_end = |index: usize| index == 0 || index + 1 == points.len();
    points
        .iter()
        .enumerate()
        .filter(|&(index, _)| !is_crowded || is_end(index))
        .map(|(_, point)| Dot { x: px(point.x), y: px(point.y) })
        .collect()
}

/// The heights of the two labels at the curves' ends: beside the end if both fit, else pushed apart
/// by as little as it takes, within the chart.
fn apart([first, second]: [f64; 2]) -> [f64; 2] {
    let (low, high) = (f64::from(TOP) + LABEL_HEIGHT / 2.0, f64::from(BOTTOM) - LABEL_HEIGHT / 2.0);
    let is_swapped = first > second;
    let (above, below) = if is_swapped { (second, first) } else { (first, second) };
    let push = ((LABEL_HEIGHT - (below - above)) / 2.0).max(0.0);
    let above = (above - push).clamp(low, high - LABEL_HEIGHT);
    let below = (below + push).clamp(above + LABEL_HEIGHT, high);
    if is_swapped { [below, above] } else { [above, below] }
}

/// What is saved, written between the curves, if there is room for it.
fn saving(without: &[Point], with: &[Point], analysis: &Analysis) -> Option<Saving> {
    let (first, last) = (without.first()?.x, without.last()?.x);
    let label = format!("{} saved", human_bytes(analysis.saved_bytes));
    (0..=20).rev().find_map(|step| {
        let x = first + (last - first) * f64::from(step) / 20.0;
        let (from, to) = (x - SAVING_WIDTH / 2.0, x + SAVING_WIDTH / 2.0);
        if from < first || to > last {
            return None;
        }
        // The narrowest passage: the curves are straight between samples.
        let corners = |points: &[Point]| -> Vec<f64> {
            let inner = points.iter().filter(|point| (from..=to).contains(&point.x));
            [height_at(points, from), height_at(points, to)]
                .into_iter()
                .chain(inner.map(|point| point.y))
                .collect()
        };
        let upper = corners(without).into_iter().fold(f64::MIN, f64::max);
        let lower = corners(with).into_iter().fold(f64::MAX, f64::min);
        let fits = lower - upper >= SAVING_HEIGHT;
        fits.then(|| Saving { x: px(x), y: px(f64::midpoint(upper, lower)), label: label.clone() })
    })
}

/// The height of the line at `x`, which is within its ends.
fn height_at(points: &[Point], x: f64) -> f64 {
    let after = points.partition_point(|point| point.x < x).clamp(1, points.len() - 1);
    let (a, b) = (points[after - 1], points[after]);
    a.y + (b.y - a.y) * (x - a.x) / (b.x - a.x)
}

const TEMPLATE: &str = include_str!("chart.svg.j2");

const WIDTH: i32 = 960;
const HEIGHT: i32 = 560;
const LEFT: i32 = 96;
const RIGHT: i32 = 800;
const TOP: i32 = 90;
const BOTTOM: i32 = 462;

/// The three lines of text at a curve's end.
const LABEL_HEIGHT: f64 = 58.0;
const DOT_GAP: f64 = 12.0;
const SAVING_WIDTH: f64 = 150.0;
const SAVING_HEIGHT: f64 = 30.0;

/// Without and with KSM on white: both have a contrast of 4.5 and more, and differ to all kinds of
/// colour vision.
const COLOURS: [&str; 2] = ["#bc4c00", "#0969da"];

#[cfg(test)]
mod tests;
