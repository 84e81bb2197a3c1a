//! A verdict as a picture: how many writes were acknowledged in each second, how long each took, while the nodes were broken and
//! who was elected.
//!
//! It has a light and a dark side as our other drawings, and the same history gives the same bytes.

use anyhow::{Context, Result};
use serde::Serialize;

use super::history::{History, Kind, Operation};
use super::judge::{Breakage, Moments, Verdict, well};
use crate::cluster::etcd::ledger::Outcome;
use crate::svg::{self, TITLE_LENGTH, Tick, px};

/// Draws it.
///
/// # Errors
/// If the template and the drawing do not fit together, which is a bug.
pub fn to_svg(
    title: &str,
    history: &History,
    moments: &Moments,
    verdict: &Verdict,
) -> Result<String> {
    let drawing = Drawing::of(title, history, moments, verdict);
    svg::render(TEMPLATE, drawing).context("drawing a verdict")
}

/// What the template draws; lengths in user units.
#[derive(Serialize)]
struct Drawing {
    width: i32,
    height: i32,
    left: i32,
    right: i32,
    /// The upper and the lower end of each panel: rates above, latencies below.
    rates: [i32; 2],
    latencies: [i32; 2],
    title: String,
    caption: String,
    summary: String,
    seconds: Vec<Tick>,
    rate_ticks: Vec<Tick>,
    latency_ticks: Vec<Tick>,
    bands: Vec<Band>,
    columns: Vec<Column>,
    dots: Vec<Dot>,
    marks: Vec<Mark>,
}

/// While nodes were broken by one fault.
#[derive(Serialize)]
struct Band {
    x: String,
    width: String,
    label_x: String,
    label: String,
}

/// The writes of half a second, or the answers.
#[derive(Serialize)]
struct Column {
    x: String,
    y: String,
    width: String,
    height: String,
}

/// A write or a probe: when it was sent, and how long it took.
#[derive(Serialize)]
struct Dot {
    x: String,
    y: String,
    is_done: bool,
}

/// A moment with a name.
#[derive(Serialize)]
struct Mark {
    class: &'static str,
    colour: &'static str,
    x: String,
    label_x: String,
    label_y: i32,
    anchor: &'static str,
    label: String,
}

impl Drawing {
    fn of(title: &str, history: &History, moments: &Moments, verdict: &Verdict) -> Self {
        let scale = Scale { end_ms: history.end_ms.max(1) };
        let (kind, caption) = match &history.probe {
            Some(probe) => (Kind::Probe, format!("answers to {probe}, in a second, {EACH}")),
            None => (Kind::Write, format!("writes that were acknowledged, in a second, {EACH}")),
        };
        let writes = || history.operations.iter().filter(|it| it.kind == kind);
        let rates = rates(writes(), history.end_ms);
        let most = rates.iter().copied().max().unwrap_or_default().max(NOMINAL);
        let elections = verdict.elections.iter().zip([0, 1].into_iter().cycle());
        let elected = elections.map(|(it, row)| {
            let label = format!("{} leads", it.leader);
            scale.mark(("elected", "#8250df"), it.at_ms, MARK_ROWS[row], label)
        });
        let healthy = verdict.healthy_ms.map(|at_ms| {
            scale.mark(("healthy", "#1a7f37"), at_ms, MARK_ROWS[2], well(history).to_owned())
        });
        Self {
            width: WIDTH,
            height: HEIGHT,
            left: LEFT,
            right: RIGHT,
            rates: RATES,
            latencies: LATENCIES,
            title: svg::fitting(title, TITLE_LENGTH),
            caption: svg::fitting(&caption, CAPTION_LENGTH),
            summary: verdict.summary.clone(),
            seconds: scale.seconds(moments.begin_ms()),
            rate_ticks: [0, most / 2, most].map(|rate| rate_tick(rate, most)).into(),
            latency_ticks: [(10, "10 ms"), (100, "0.1 s"), (1000, "1 s")]
                .map(|(ms, label)| Tick { at: px(latency_y(ms)), label: label.to_owned() })
                .into(),
            bands: bands(&scale, moments),
            columns: columns(&scale, &rates, most),
            dots: writes().map(|write| scale.dot(write)).collect(),
            marks: elected.chain(healthy).collect(),
        }
    }
}

/// Of one fault it is plain which it was; several have their names, each as near to its band as there is room.
fn bands(scale: &Scale, moments: &Moments) -> Vec<Band> {
    let Moments { faults, heal } = moments;
    let mut free = 0.0;
    let band = |it: &Breakage| {
        let healed_ms = heal.map_or(it.made.to_ms, |heal| heal.to_ms);
        let [from, to] = [it.made.from_ms, it.until_ms.unwrap_or(healed_ms)].map(|at| scale.at(at));
        let label = if faults.len() == 1 { "broken" } else { &it.what };
        let label = svg::fitting(label, BAND_LABEL_LENGTH);
        let length = CHARACTER * small(label.chars().count() as u64);
        let label_x = (from + 6.0).max(free).min(f64::from(WIDTH) - length);
        free = label_x + length;
        Band { x: px(from), width: px(to - from), label_x: px(label_x), label }
    };
    faults.iter().map(band).collect()
}

/// How often writes were acknowledged in a second, for each half of one.
fn rates<'a>(writes: impl Iterator<Item = &'a Operation>, end_ms: u64) -> Vec<u32> {
    let slot = |at_ms: u64| usize::try_from(at_ms / SLOT_MS).unwrap_or(usize::MAX);
    let mut rates = vec![0; slot(end_ms) + 1];
    for write in writes.filter(|it| it.revision().is_some()) {
        if let Some(rate) = rates.get_mut(slot(write.end_ms)) {
            *rate += 2;
        }
    }
    rates
}

fn columns(scale: &Scale, rates: &[u32], most: u32) -> Vec<Column> {
    let column = |(start_ms, rate): (u64, u32)| {
        let (x, y) = (scale.at(start_ms), rate_y(rate, most));
        let width = (scale.at(start_ms + SLOT_MS) - x - 1.0).max(1.0);
        let height = f64::from(RATES[1]) - y;
        Column { x: px(x), y: px(y), width: px(width), height: px(height) }
    };
    let starts = (0..).map(|slot| slot * SLOT_MS);
    starts.zip(rates.iter().copied()).filter(|(_, rate)| *rate > 0).map(column).collect()
}

fn rate_tick(rate: u32, most: u32) -> Tick {
    Tick { at: px(rate_y(rate, most)), label: rate.to_string() }
}

fn rate_y(rate: u32, most: u32) -> f64 {
    let [top, bottom] = RATES.map(f64::from);
    bottom - (bottom - top) * f64::from(rate) / f64::from(most)
}

/// On a logarithmic scale, from 5 ms to 5 s.
fn latency_y(ms: u32) -> f64 {
    let [top, bottom] = LATENCIES.map(f64::from);
    bottom - (bottom - top) * (f64::from(ms.clamp(5, 5000)) / 5.0).log10() / 3.0
}

/// The horizontal axis.
struct Scale {
    end_ms: u64,
}

impl Scale {
    fn at(&self, at_ms: u64) -> f64 {
        let share = small(at_ms.min(self.end_ms)) / small(self.end_ms);
        f64::from(LEFT) + f64::from(RIGHT - LEFT) * share
    }

    /// Round seconds, counted from the fault.
    fn seconds(&self, fault_ms: u64) -> Vec<Tick> {
        let all = self.end_ms / 1000;
        let is_enough = |step: &u64| all / step <= 12;
        let step = svg::round_steps().map(u64::from).find(is_enough).unwrap_or(u64::MAX);
        let before = (1..=fault_ms / 1000 / step).rev();
        let earlier =
            before.map(|count| (fault_ms - count * step * 1000, format!("-{}", count * step)));
        let later = (0..).map(|count| (fault_ms + count * step * 1000, (count * step).to_string()));
        let later = later.take_while(|(at_ms, _)| *at_ms <= self.end_ms);
        let tick = |(at_ms, label)| Tick { at: px(self.at(at_ms)), label };
        earlier.chain(later).map(tick).collect()
    }

    fn dot(&self, write: &Operation) -> Dot {
        let took_ms = u32::try_from(write.end_ms - write.start_ms).unwrap_or(u32::MAX);
        let is_done = matches!(write.outcome, Outcome::Acknowledged { .. });
        Dot { x: px(self.at(write.start_ms)), y: px(latency_y(took_ms)), is_done }
    }

    /// Its label is on the side that has room for it.
    fn mark(
        &self,
        (class, colour): (&'static str, &'static str),
        at_ms: u64,
        label_y: i32,
        label: String,
    ) -> Mark {
        let x = self.at(at_ms);
        let has_room = x < f64::from(RIGHT) - LABEL_WIDTH;
        let (anchor, gap) = if has_room { ("start", 6.0) } else { ("end", -6.0) };
        Mark { class, colour, x: px(x), label_x: px(x + gap), label_y, anchor, label }
    }
}

/// No run lasts so long that this loses a millisecond.
#[expect(clippy::cast_precision_loss, reason = "2^53 ms are longer than any run")]
fn small(ms: u64) -> f64 {
    ms as f64
}

const TEMPLATE: &str = include_str!("picture.svg.j2");

const WIDTH: i32 = 960;
const HEIGHT: i32 = 560;
const LEFT: i32 = 70;
const RIGHT: i32 = 930;
const RATES: [i32; 2] = [160, 300];
const LATENCIES: [i32; 2] = [340, 490];
/// Of elections in turn, and of health.
const MARK_ROWS: [i32; 3] = [116, 132, 148];
const EACH: &str = "and below how long each took";
const CAPTION_LENGTH: usize = 110;
const LABEL_WIDTH: f64 = 160.0;
/// Characters of the name of a fault, and how wide each is at the most.
const BAND_LABEL_LENGTH: usize = 24;
const CHARACTER: f64 = 8.6;
const SLOT_MS: u64 = 500;
/// Writes in a second where none fails.
const NOMINAL: u32 = 10;

#[cfg(test)]
mod tests;
