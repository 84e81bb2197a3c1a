//! Where numbers stand on the axes, and at which of them a label is put.

#![expect(clippy::cast_precision_loss, reason = "a tenth of a pixel is precise enough")]

use crate::svg::{Tick, px, round_steps};
use crate::units::Unit;

/// The axis of memory, from nothing up to a whole number of steps.
#[derive(Clone, Copy, Debug)]
pub(super) struct MemoryScale {
    top: f64,
    bottom: f64,
    step: u64,
    steps: u64,
}

/// An axis that has room for `most` bytes between `top` and `bottom`. Its steps are powers of two,
/// as memory is, so labels in the step's unit are whole numbers.
pub(super) fn memory_scale(most: u64, top: f64, bottom: f64) -> MemoryScale {
    let mut step = 1_u64;
    while most.div_ceil(step) > MOST_STEPS {
        step *= 2;
    }
    MemoryScale { top, bottom, step, steps: most.div_ceil(step).max(1) }
}

impl MemoryScale {
    pub(super) fn at(&self, bytes: u64) -> f64 {
        let part = bytes as f64 / (self.step as f64 * self.steps as f64);
        self.bottom - (self.bottom - self.top) * part
    }

    pub(super) fn unit(&self) -> &'static str {
        Unit::of(self.step).name
    }

    pub(super) fn ticks(&self) -> Vec<Tick> {
        let unit = Unit::of(self.step).bytes;
        let tick = |index: u64| Tick {
            at: px(self.at(0) + (self.top - self.bottom) * index as f64 / self.steps as f64),
            label: (index * (self.step / unit)).to_string(),
        };
        (0..=self.steps).map(tick).collect()
    }
}

/// The axis of the number of nodes.
#[derive(Clone, Copy, Debug)]
pub(super) struct NodeScale {
    first: u32,
    last: u32,
    left: f64,
    right: f64,
}

impl NodeScale {
    /// An axis from `first` to `last` between `left` and `right`, with a little air at its ends.
    pub(super) fn new(first: u32, last: u32, left: f64, right: f64) -> Self {
        Self { first, last, left: left + AIR, right: right - AIR }
    }

    pub(super) fn at(&self, nodes: u32) -> f64 {
        if self.first == self.last {
            return f64::midpoint(self.left, self.right);
        }
        self.left + f64::from(nodes - self.first) * self.per_node()
    }

    /// Round numbers, as many as there is room for, and the first one if it has room too.
    pub(super) fn ticks(&self) -> Vec<Tick> {
        let digits = self.last.to_string().len() as f64;
        let room = digits * DIGIT_WIDTH + LABEL_GAP;
        let step = round_steps()
            .find(|&step| f64::from(step) * self.per_node() >= room)
            .unwrap_or(u32::MAX);
        let mut numbers: Vec<u32> =
            (self.first.div_ceil(step)..=self.last / step).map(|index| index * step).collect();
        let has_room = |&number: &u32| self.at(number) - self.at(self.first) >= room;
        if numbers.first().is_none_or(has_room) {
            numbers.insert(0, self.first);
        }
        let tick = |&number: &u32| Tick { at: px(self.at(number)), label: number.to_string() };
        numbers.iter().map(tick).collect()
    }

    fn per_node(&self) -> f64 {
        (self.right - self.left) / f64::from((self.last - self.first).max(1))
    }
}

const MOST_STEPS: u64 = 6;
const AIR: f64 = 18.0;
const DIGIT_WIDTH: f64 = 8.5;
const LABEL_GAP: f64 = 14.0;

#[cfg(test)]
mod tests {
    use super::*;

    fn labels(ticks: &[Tick]) -> String {
        ticks.iter().map(|tick| tick.label.as_str()).collect::<Vec<_>>().join(" ")
    }

    #[test]
    fn memory_has_whole_numbers_in_a_fitting_unit() {
        let mib = 1 << 20;
        let table = [
            (0, "B: 0 1"),
            (mib, "KiB: 0 256 512 768 1024"),
            (384 * mib, "MiB: 0 64 128 192 256 320 384"),
            (500 * mib, "MiB: 0 128 256 384 512"),
            (7680 * mib, "GiB: 0 2 4 6 8"),
            (mib * mib, "GiB: 0 256 512 768 1024"),
            (u64::MAX, "PiB: 0 4096 8192 12288 16384"),
        ];
        for (most, expected) in table {
            let scale = memory_scale(most, 0.0, 400.0);
            assert_eq!(format!("{}: {}", scale.unit(), labels(&scale.ticks())), expected);
            assert!(scale.at(most) >= 0.0, "{most} is on the axis");
        }
    }

    #[test]
    fn nodes_have_round_numbers_that_do_not_touch() {
        let table = [
            (1, 1, "1"),
            (1, 2, "1 2"),
            (1, 20, "1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 19 20"),
            (1, 40, "2 4 6 8 10 12 14 16 18 20 22 24 26 28 30 32 34 36 38 40"),
            (1, 100, "10 20 30 40 50 60 70 80 90 100"),
            (3, 7, "3 4 5 6 7"),
        ];
        for (first, last, expected) in table {
            let ticks = NodeScale::new(first, last, 0.0, 704.0).ticks();
            let text = labels(&ticks);
            assert!(text.ends_with(expected), "{first} to {last}: {text}");
        }
        for last in 1..=1000 {
            let ticks = NodeScale::new(1, last, 0.0, 704.0).ticks();
            assert!(!ticks.is_empty());
            for pair in ticks.windows(2) {
                let gap = pair[1].at.parse::<f64>().unwrap() - pair[0].at.parse::<f64>().unwrap();
                assert!(gap >= 22.0, "{last} nodes: {pair:?}");
            }
        }
    }
}
