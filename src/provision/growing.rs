//! A lab that grows node by node, to be measured.

use std::time::Duration;

use anyhow::Result;

use super::apply::Applier;
use crate::deadline::Deadline;
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
            return Err(no_lab(&inventory, &lab.name));
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
        let mut before = resident()?;
        Deadline::after(SETTLE_DEADLINE).wait_for(Duration::ZERO, || {
            self.pause()?;
            let now = resident()?;
            let has_settled = now.saturating_sub(before) < now / SETTLED_PART;
            before = now;
            Ok(has_settled.then_some(()))
        })?;
        Ok(())
    }

    /// The time between two looks at the memory.
    fn pause(&self) -> Result<()> {
        Deadline::after(SETTLE_INTERVAL).wait_for(POLL, || {
            self.applier.session.refuse_interrupt()?;
            Ok(None::<()>)
        })?;
        Ok(())
    }
}

/// A node has settled when it grows by less than this part of its memory from look to look.
const SETTLED_PART: u64 = 100;
const SETTLE_INTERVAL: Duration = Duration::from_secs(4);
const SETTLE_DEADLINE: Duration = Duration::from_secs(60);
const POLL: Duration = Duration::from_millis(100);
