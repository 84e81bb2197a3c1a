//! Shutting nodes down: their systems are asked, waited for, and lose their power if they do not go.

use std::time::{Duration, Instant};

use anyhow::Result;

use crate::deadline::Deadline;
use crate::hypervisor::{Connection, Hypervisor};
use crate::lab::Lab;
use crate::output::seconds;
use crate::session::Session;

/// What is done with a node that was asked to shut down.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Shutdown {
    /// It is waited for. One that takes longer loses its power.
    Within(Duration),
    /// Nothing: it goes or does not.
    Asked,
}

impl Default for Shutdown {
    fn default() -> Self {
        Self::Within(DEFAULT_PATIENCE)
    }
}

impl Shutdown {
    /// Shuts these nodes down, all at the same time.
    pub(super) fn apply(
        self,
        session: &Session,
        hypervisor: &Hypervisor,
        lab: &Lab,
        nodes: &[u32],
    ) -> Result<()> {
        let ask = |nodes: &[u32]| {
            hypervisor.for_each(nodes, |connection, index| {
                Hypervisor::ask_to_shut_down(connection, lab, *index).map(drop)
            })
        };
        ask(nodes)?;
        let Self::Within(patience) = self else { return Ok(()) };
        let mut asked = Instant::now();
        let mut left = nodes.to_vec();
        let all_off = Deadline::after(patience).wait_for(POLL, || {
            session.refuse_interrupt()?;
            left = not_off(hypervisor, lab, &left)?;
            // A system that was just booting has not heard it.
            if asked.elapsed() >= ASK_AGAIN && !left.is_empty() {
                asked = Instant::now();
                ask(&left)?;
            }
            Ok(left.is_empty().then_some(()))
        })?;
        if all_off.is_some() {
            return Ok(());
        }
        for index in &left {
            session.printer.warn(format!(
                "node `{}` did not shut down within {}, so it loses its power",
                lab.name.node(*index),
                seconds(patience)
            ));
        }
        hypervisor
            .for_each(&left, |connection, index| Hypervisor::stop_domain(connection, lab, *index))
    }
}

fn not_off(hypervisor: &Hypervisor, lab: &Lab, nodes: &[u32]) -> Result<Vec<u32>> {
    let is_off = |connection: &Connection, index: &u32| Hypervisor::is_off(connection, lab, *index);
    let results = hypervisor.in_parallel(nodes, is_off);
    let results = results.into_iter().collect::<Result<Vec<bool>>>()?;
    Ok(nodes.iter().zip(results).filter(|(_, is_off)| !is_off).map(|(node, _)| *node).collect())
}

/// Debian takes a few seconds; an emulated node takes longer.
const DEFAULT_PATIENCE: Duration = Duration::from_secs(60);
const POLL: Duration = Duration::from_millis(200);
const ASK_AGAIN: Duration = Duration::from_secs(5);
