//! Measures a curve: grows a lab node by node, and each time waits until KSM has had its chance.

use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, bail};

use crate::ksm::{Ksm, KsmStatus};
use crate::memory::{Curve, NodeMemory, Sample};

/// A lab that can be made larger.
pub trait Growable {
    /// Brings the lab to `nodes` nodes that are up, and returns when they are.
    ///
    /// # Errors
    /// If they do not come up.
    fn grow_to(&mut self, nodes: u32) -> anyhow::Result<()>;

    /// What the nodes take now.
    ///
    /// # Errors
    /// If the lab cannot be asked.
    fn memory(&self) -> anyhow::Result<Vec<NodeMemory>>;
}

/// How to measure.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Growth {
    /// The number of nodes to end with.
    pub max_nodes: u32,
    /// How many full scans of KSM to wait for after each step. While the kernel skips pages
    /// (`smart_scan`), so many more as it may skip.
    pub scans: u64,
    /// How long to wait for them; then the sample is taken as it is.
    pub deadline: Duration,
    /// How often to look.
    pub poll: Duration,
}

impl Growth {
    /// The usual way to measure up to `max_nodes`.
    pub fn to(max_nodes: u32) -> Self {
        Self { max_nodes, scans: SCANS, deadline: DEADLINE, poll: POLL }
    }

    /// Measures with 1, 2, … nodes and tells `on_event` how it goes. When `stop` is set, or a step
    /// fails, what was measured until then is kept.
    ///
    /// KSM should run with [`Ksm::settings_to_measure`], or it takes long and misses twins.
    ///
    /// Each node's own account of what it is spared counts. Where the kernel does not give it, the
    /// host's does, less what was saved before the first node; what other guests gain or lose
    /// meanwhile is in it then.
    ///
    /// # Errors
    /// Before the first node only: if KSM cannot be read or does not run.
    pub fn measure(
        &self,
        lab: &mut impl Growable,
        ksm: &Ksm,
        stop: &AtomicBool,
        mut on_event: impl FnMut(&Event),
    ) -> anyhow::Result<Measured> {
        let before = ksm.status()?;
        if !before.is_running() {
            bail!("measuring with kernel samepage merging: it is not running on this host");
        }
        let skipped = if before.smart_scan == Some(true) { SKIPPED_SCANS } else { 0 };
        let growth = Self { scans: self.scans + skipped, ..*self };
        let mut measured = Measured::default();
        for nodes in 1..=self.max_nodes {
            on_event(&Event::Growing { nodes });
            match growth.step(lab, ksm, &before, nodes, stop, &mut on_event) {
                Err(error) => {
                    let error = error.context(format!("measuring at node {nodes}"));
                    measured.end = End::Failed(error);
                    break;
                }
                Ok(None) => {
                    measured.end = End::Interrupted;
                    break;
                }
                Ok(Some((sample, settled))) => {
                    if !settled {
                        measured.unsettled.push(nodes);
                    }
                    on_event(&Event::Measured { sample: sample.clone(), settled });
                    measured.curve.add(sample);
                }
            }
        }
        Ok(measured)
    }

    /// One sample and whether KSM was through in time, or nothing if `stop` was set.
    fn step(
        &self,
        lab: &mut impl Growable,
        ksm: &Ksm,
        before: &KsmStatus,
        nodes: u32,
        stop: &AtomicBool,
        on_event: &mut impl FnMut(&Event),
    ) -> anyhow::Result<Option<(Sample, bool)>> {
        if stop.load(Ordering::Relaxed) {
            return Ok(None);
        }
        lab.grow_to(nodes)?;
        let Some(settled) = self.wait_for_scans(ksm, nodes, stop, on_event)? else {
            return Ok(None);
        };
        let (nodes, now) = (lab.memory()?, ksm.status()?);
        let saved = now.saved_bytes().saturating_sub(before.saved_bytes());
        let sample = sample(&nodes, saved, Some(now.full_scans))?;
        Ok(Some((sample, settled)))
    }

    fn wait_for_scans(
        &self,
        ksm: &Ksm,
        nodes: u32,
        stop: &AtomicBool,
        on_event: &mut impl FnMut(&Event),
    ) -> anyhow::Result<Option<bool>> {
        let first = ksm.status()?.full_scans;
        let deadline = Instant::now() + self.deadline;
        loop {
            if stop.load(Ordering::Relaxed) {
                return Ok(None);
            }
            let status = ksm.status()?;
            if !status.is_running() {
                bail!("waiting for kernel samepage merging: somebody has switched it off");
            }
            let done = status.full_scans.saturating_sub(first).min(self.scans);
            on_event(&Event::Scanning { nodes, done, wanted: self.scans });
            if done == self.scans {
                return Ok(Some(true));
            }
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Ok(Some(false));
            }
            thread::sleep(self.poll.min(left));
        }
    }
}

/// What happens while a curve is measured.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// The lab is being brought to so many nodes.
    Growing {
        /// The number of nodes.
        nodes: u32,
    },
    /// KSM is at work; told at every look.
    Scanning {
        /// The number of nodes.
        nodes: u32,
        /// How many full scans were made since the lab has so many nodes.
        done: u64,
        /// How many are waited for.
        wanted: u64,
    },
    /// A sample was taken.
    Measured {
        /// The sample.
        sample: Sample,
        /// Whether KSM was through in time; if not, it may yet save more than the sample says.
        settled: bool,
    },
}

/// A curve and how its measurement ended.
#[derive(Debug, Default)]
pub struct Measured {
    /// What was measured.
    pub curve: Curve,
    /// The numbers of nodes at which the deadline passed before KSM was through.
    pub unsettled: Vec<u32>,
    /// How it ended.
    pub end: End,
}

/// How a measurement ended.
#[derive(Debug, Default)]
pub enum End {
    /// With all nodes.
    #[default]
    Complete,
    /// By the user.
    Interrupted,
    /// By an error; the samples before it stand.
    Failed(anyhow::Error),
}

/// The sample of these nodes. What KSM saves of them is what the kernel says of each, in which
/// other guests of the host have no part; only where it does not say, what is saved on the host.
pub(super) fn sample(
    nodes: &[NodeMemory],
    host_saved_bytes: u64,
    full_scans: Option<u64>,
) -> anyhow::Result<Sample> {
    let resident: u64 = nodes
        .iter()
        .map(|node| {
            node.resident_bytes.with_context(|| {
                format!("reading the memory of `{}`: {}", node.node, node.missing.join(", "))
            })
        })
        .sum::<anyhow::Result<u64>>()?;
    let saved_bytes: Option<u64> = nodes.iter().map(|node| node.saved_bytes).sum();
    let saved_bytes = saved_bytes.unwrap_or(host_saved_bytes);
    Ok(Sample {
        nodes: u32::try_from(nodes.len())?,
        without_ksm_bytes: resident,
        with_ksm_bytes: resident.saturating_sub(saved_bytes),
        merged_bytes: nodes.iter().map(|node| node.merged_bytes).sum(),
        proportional_bytes: nodes.iter().map(|node| node.proportional_bytes).sum(),
        full_scans,
    })
}

/// A new process is put behind the scan under way, so the end of that one says nothing of it; the
/// next notes the checksum of each page; the one after merges those that have not changed.
const SCANS: u64 = 3;

/// With `smart_scan` a page that found no twin is passed over for 1, 2, 4 and then 8 scans, so the
/// pages of the first nodes meet those of a new one late. (Seen on Linux 6.18: after three scans
/// nothing of two equal processes was merged.)
const SKIPPED_SCANS: u64 = 8;

/// At the kernel's default speed (100 pages, 20 ms) a scan looks at about 20 MB a second: three
/// scans of 2 GiB take five minutes.
const DEADLINE: Duration = Duration::from_secs(600);

const POLL: Duration = Duration::from_millis(250);

#[cfg(test)]
mod tests;
