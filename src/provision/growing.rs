//! A lab that grows node by node, to be measured.

use std::thread;
use std::time::{Duration, Instant};

use anyhow::Result;

use super::apply::Applier;
use crate::lab::plan::{self, Goal};
use crate::memory::{Growable, NodeMemory};
use crate::status::{memory, no_lab, wait};

/// A lab that is made for all its nodes, which are let run one after the other.
pub(crate) struct GrowingLab<'a> {
    applier: &'a Applier<'a>,
    /// Held until the lab's network is there.
    lock: Option<std::fs::File>,
    nodes: u32,
    timeout: Duration,
}

impl<'a> GrowingLab<'a> {
    /// A lab of which nothing is there yet. `lock` is held until its network is.
    pub(crate) fn new(
        applier: &'a Applier<'a>,
        lock: Option<std::fs::File>,
        timeout: Duration,
    ) -> Self {
        Self { applier, lock, nodes: 0, timeout }
    }
}

impl Growable for GrowingLab<'_> {
    fn grow_to(&mut self, nodes: u32) -> Result<()> {
        let Applier { session, hypervisor, lab, .. } = *self.applier;
        let inventory = hypervisor.observe()?;
        let observed = self.applier.observed(inventory.labs.get(&lab.uuid))?;
        let steps = plan::plan(lab, Goal::Grown(nodes), &observed);
        let (first, rest) = steps.split_at(steps.len().min(1));
        self.applier.apply(first)?;
        drop(self.lock.take());
        self.applier.apply(rest)?;
        self.nodes = nodes;
        // A growing cluster is not ready before its last node; wait only for this node's config.
        wait::until_configured(session, hypervisor, lab, &lab.node(nodes), self.timeout)?;
        self.settle()
    }

    fn memory(&self) -> Result<Vec<NodeMemory>> {
        let Applier { session, hypervisor, lab, .. } = *self.applier;
        let inventory = session.observe(hypervisor)?;
        let Some(found) = inventory.labs.get(&lab.uuid) else {
            return Err(no_lab(&lab.name));
        };
        let nodes = memory::observe(hypervisor, found)?.nodes;
        Ok(nodes.into_iter().take(self.nodes as usize).collect())
    }
}

impl GrowingLab<'_> {
    /// Waits until the newest node's programs are loaded, so that its memory hardly grows.
    fn settle(&self) -> Result<()> {
        let resident = || -> Result<u64> {
            Ok(self.memory()?.last().and_then(|node| node.resident_bytes).unwrap_or(0))
        };
        let deadline = Instant::now() + SETTLE_DEADLINE;
        let mut before = resident()?;
        loop {
            let next = Instant::now() + SETTLE_INTERVAL;
            while Instant::now() < next {
                self.applier.session.refuse_interrupt()?;
                thread::sleep(POLL);
            }
            let now = resident()?;
            if now.saturating_sub(before) < now / SETTLED_PART || Instant::now() >= deadline {
                return Ok(());
            }
            before = now;
        }
    }
}

/// A node has settled when it grows by less than this part of its memory from look to look.
const SETTLED_PART: u64 = 100;
const SETTLE_INTERVAL: Duration = Duration::from_secs(4);
const SETTLE_DEADLINE: Duration = Duration::from_secs(60);
const POLL: Duration = Duration::from_millis(100);
