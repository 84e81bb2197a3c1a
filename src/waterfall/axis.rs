//! The seconds below the bars.

#![expect(clippy::cast_precision_loss, reason = "a tenth of a pixel is precise enough")]

use super::Waterfall;
use crate::svg::round_steps;

/// From power-on at 0 to `width`, in whatever lengths there are.
#[derive(Clone, Copy, Debug)]
pub(super) struct Axis {
    end_ms: u64,
    width: f64,
}

impl Axis {
    /// An axis on which every stage that was reached has its place. A node that is stuck for hours does not make the others'
    /// bars invisible: its bar leaves the axis.
    pub(super) fn new(waterfall: &Waterfall, width: f64) -> Self {
        let bars = waterfall.all_bars();
        let closed = bars.clone().map(super::Bar::closed_ms).max().unwrap_or(0);
        let open = bars.filter_map(|bar| bar.open_ms).max().unwrap_or(0);
        let most_open = (OPEN_FACTOR * closed).max(LEAST_OPEN_MS);
        Self { end_ms: closed.max(open.min(most_open)).max(1), width }
    }

    /// Where a time is; what is later than the end is at the end.
    pub(super) fn at(self, ms: u64) -> f64 {
        ms.min(self.end_ms) as f64 / self.end_ms as f64 * self.width
    }

    pub(super) fn is_beyond(self, ms: u64) -> bool {
        ms > self.end_ms
    }

    /// Round seconds that are at least so far apart as their labels need. `room` gives the room of a label.
    pub(super) fn ticks(self, room: impl Fn(&str) -> f64) -> Vec<(f64, String)> {
        let fits = |step: &u64| {
            let last = self.end_ms / step * step;
            self.at(*step) >= room(&label(last, *step))
        };
        let steps = round_steps().map(|step| u64::from(step) * LEAST_STEP_MS);
        let step = steps.take_while(|step| *step <= self.end_ms).find(fits);
        let Some(step) = step else { return vec![(0.0, "0".to_owned())] };
        (0..=self.end_ms / step)
            .map(|index| (self.at(index * step), label(index * step, step)))
            .collect()
    }
}

/// Whole seconds, or tenths where the steps are.
fn label(ms: u64, step: u64) -> String {
    if ms == 0 || step.is_multiple_of(1000) {
        return (ms / 1000).to_string();
    }
    format!("{}.{}", ms / 1000, ms % 1000 / 100)
}

const LEAST_STEP_MS: u64 = 100;
/// How much longer than the longest time to a stage an open bar may be, and how long it may be in any case.
const OPEN_FACTOR: u64 = 3;
const LEAST_OPEN_MS: u64 = 30_000;
