//! Memory against the number of nodes: the numbers behind the chart.

use serde::Serialize;

/// What was measured with one number of nodes.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Sample {
    /// How many nodes ran.
    pub nodes: u32,
    /// What they would take without KSM: the sum of their resident memory.
    pub without_ksm_bytes: u64,
    /// What they take: that less what KSM saves.
    pub with_ksm_bytes: u64,
    /// The sum of the nodes' merged pages.
    pub merged_bytes: Option<u64>,
    /// The sum of the nodes' proportional memory, another way to see what they take.
    pub proportional_bytes: Option<u64>,
    /// How many full scans KSM had made since boot.
    pub full_scans: Option<u64>,
}

impl Sample {
    /// What KSM saves, in bytes.
    pub fn saved_bytes(&self) -> u64 {
        self.without_ksm_bytes.saturating_sub(self.with_ksm_bytes)
    }
}

/// Samples in the order of the number of nodes, one for each number.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Curve {
    samples: Vec<Sample>,
}

impl Curve {
    /// A curve of these samples; of two with the same number of nodes the later one counts.
    pub fn new(samples: impl IntoIterator<Item = Sample>) -> Self {
        let mut curve = Self::default();
        samples.into_iter().for_each(|sample| curve.add(sample));
        curve
    }

    /// Adds a sample, or replaces the one with as many nodes.
    pub fn add(&mut self, sample: Sample) {
        match self.samples.binary_search_by_key(&sample.nodes, |sample| sample.nodes) {
            Ok(index) => self.samples[index] = sample,
            Err(index) => self.samples.insert(index, sample),
        }
    }

    /// The samples, by number of nodes.
    pub fn samples(&self) -> &[Sample] {
        &self.samples
    }

    /// What the curve says; `None` without samples.
    pub fn analysis(&self) -> Option<Analysis> {
        let (first, last) = (self.samples.first()?, self.samples.last()?);
        let per_further = |of: fn(&Sample) -> u64| {
            let nodes = i64::from(last.nodes) - i64::from(first.nodes);
            let grown = of(last).cast_signed() - of(first).cast_signed();
            (nodes > 0).then(|| grown / nodes)
        };
        Some(Analysis {
            nodes: last.nodes,
            without_ksm_bytes: last.without_ksm_bytes,
            with_ksm_bytes: last.with_ksm_bytes,
            saved_bytes: last.saved_bytes(),
            saved_percent: percent(last.saved_bytes(), last.without_ksm_bytes),
            per_further_node_without_ksm_bytes: per_further(|sample| sample.without_ksm_bytes),
            per_further_node_with_ksm_bytes: per_further(|sample| sample.with_ksm_bytes),
        })
    }
}

/// What a curve says, at its last sample and along the way.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Analysis {
    /// How many nodes the last sample has.
    pub nodes: u32,
    /// What they would take without KSM.
    pub without_ksm_bytes: u64,
    /// What they take.
    pub with_ksm_bytes: u64,
    /// The difference.
    pub saved_bytes: u64,
    /// The difference in hundredths of what they would take.
    pub saved_percent: u64,
    /// What each node after the first adds without KSM, on average; `None` with one sample.
    pub per_further_node_without_ksm_bytes: Option<i64>,
    /// What each node after the first adds with KSM.
    pub per_further_node_with_ksm_bytes: Option<i64>,
}

fn percent(part: u64, whole: u64) -> u64 {
    let (part, whole) = (u128::from(part), u128::from(whole.max(1)));
    u64::try_from((part * 100 + whole / 2) / whole).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::units::human_bytes;

    #[test]
    fn the_articles_numbers_say_what_the_article_says() {
        let article = include_str!("../../tests/fixtures/article-memory.csv");
        let expected = Analysis {
            nodes: 20,
            without_ksm_bytes: 7680 << 20,
            with_ksm_bytes: 3519 << 20,
            saved_bytes: 4161 << 20,
            saved_percent: 54,
            per_further_node_without_ksm_bytes: Some(384 << 20),
            per_further_node_with_ksm_bytes: Some(165 << 20),
        };
        let analysis = Curve::from_csv(article).unwrap().analysis().unwrap();
        assert_eq!(analysis, expected);
        assert_eq!(human_bytes(analysis.saved_bytes), "4.06 GiB");
    }

    #[test]
    fn one_sample_has_no_slope_and_none_has_no_analysis() {
        let sample =
            Sample { nodes: 3, without_ksm_bytes: 10, with_ksm_bytes: 12, ..Sample::default() };
        let analysis = Curve::new([sample]).analysis().unwrap();
        assert_eq!(analysis.saved_bytes, 0, "never below zero");
        assert_eq!(analysis.per_further_node_with_ksm_bytes, None);
        assert_eq!(Curve::default().analysis(), None);
    }

    #[test]
    fn samples_are_kept_in_order_and_the_later_measurement_counts() {
        let sample = |nodes, bytes| Sample { nodes, without_ksm_bytes: bytes, ..Sample::default() };
        let curve = Curve::new([sample(3, 30), sample(1, 10), sample(3, 33), sample(2, 20)]);
        assert_eq!(curve.samples(), [sample(1, 10), sample(2, 20), sample(3, 33)]);
    }
}
