//! Links that come and go do so here, in the boot server's process, as faults are healed there: it lives as long as the lab does. A link
//! changes only while nobody else works on the lab, by what its node's mark says then: no link is taken away that was just healed.

use std::collections::BTreeMap;
use std::sync::mpsc::{self, Receiver, RecvTimeoutError, Sender};
use std::thread;
use std::time::Duration;

use anyhow::Result;
use uuid::Uuid;

use super::lab_lock::LabLock;
use crate::boot_server::recorder::now_ms;
use crate::error::TimedOut;
use crate::hypervisor::Found;
use crate::lab::fault::{Fault, FaultKind, FaultName, Faults, Turn};
use crate::lab::metadata::Desired;
use crate::output::{Format, Printer};
use crate::session::Session;

/// Takes links away and gives them back in a thread of its own, which lives as long as this.
pub(crate) struct Flapper {
    flapping: Sender<Flapping>,
}

/// The links that come and go, by node index, with when they went first in milliseconds since the epoch.
type Flapping = BTreeMap<u32, (u64, Turn)>;

impl Flapper {
    /// For the lab with this UUID.
    pub(crate) fn new(uri: Option<String>, lab: Uuid) -> Self {
        let (flapping, told) = mpsc::channel();
        thread::spawn(move || flap_in_time(&told, || flap(uri.as_deref(), lab)));
        Self { flapping }
    }

    /// What is wanted of nodes now.
    pub(crate) fn wanted(&self, wishes: &BTreeMap<u32, Desired>) {
        let faults = wishes.iter().map(|(index, desired)| (*index, desired.faults));
        let _ = self.flapping.send(flapping(faults));
    }
}

fn flapping(faults: impl Iterator<Item = (u32, Faults)>) -> Flapping {
    let turn = |(index, faults): (u32, Faults)| match faults.get(FaultName::Cut) {
        Some(Fault { kind: FaultKind::Flap(turn), term }) => Some((index, (term.since_ms, turn))),
        _ => None,
    };
    faults.filter_map(turn).collect()
}

/// Waits for the next turn of a link, and calls `change` then, which says what comes and goes from then on.
fn flap_in_time(told: &Receiver<Flapping>, mut change: impl FnMut() -> Result<Option<Flapping>>) {
    let mut now = Flapping::new();
    loop {
        let at = now_ms();
        let next = now.values().map(|(since_ms, turn)| turn.next_ms(*since_ms, at)).min();
        let left = next.map(|next| Duration::from_millis(next.saturating_sub(at)));
        // The clock may be set meanwhile.
        match told.recv_timeout(left.unwrap_or(LONGEST).min(LONGEST)) {
            Ok(next) => now = next,
            Err(RecvTimeoutError::Disconnected) => return,
            Err(RecvTimeoutError::Timeout) if now.is_empty() => {}
            Err(RecvTimeoutError::Timeout) => match change() {
                Ok(next) => now = next.unwrap_or(now),
                Err(error) => tracing::warn!("a link that comes and goes: {error:#}"),
            },
        }
    }
}

/// Gives each link that comes and goes its state of now. `None` where another virtlab works on the lab: it is left for the next turn.
fn flap(uri: Option<&str>, lab: Uuid) -> Result<Option<Flapping>> {
    let printer = Printer::new(true, Format::default());
    let session = Session::new(&printer, uri.map(str::to_owned), None);
    let hypervisor = session.hypervisor()?;
    let look = || Ok::<_, anyhow::Error>(hypervisor.observe()?.labs.remove(&lab));
    let Some(Found { lab, .. }) = look()? else { return Ok(Some(Flapping::new())) };
    let lock = LabLock::take(&session, &hypervisor, &lab.name, "serve", Some(Duration::ZERO));
    let _alone = match lock {
        Err(error) if error.is::<TimedOut>() => return Ok(None),
        lock => lock?,
    };
    let Some(found) = look()? else { return Ok(Some(Flapping::new())) };
    let flapping = flapping(found.faulty().map(|index| (index, found.faults(index))));
    for (index, (since_ms, turn)) in &flapping {
        hypervisor.set_running_link(&found.lab, *index, turn.is_up(*since_ms, now_ms()))?;
    }
    Ok(Some(flapping))
}

const LONGEST: Duration = Duration::from_secs(60);

#[cfg(test)]
mod tests {
    use anyhow::bail;

    use super::*;
    use crate::lab::fault::Term;

    #[test]
    fn links_change_in_time_and_also_after_it_failed_until_there_are_none() {
        let (flapper, told) = mpsc::channel();
        let (done, changed) = mpsc::channel();
        let begun = now_ms();
        let mut tries = 0;
        let faults =
            Faults::default().with(FaultKind::Flap("500ms".parse().unwrap()), Term::since(begun));
        let of_second = move || flapping([(1, Faults::default()), (2, faults)].into_iter());
        thread::spawn(move || {
            flap_in_time(&told, || {
                tries += 1;
                done.send(now_ms() - begun)?;
                match tries {
                    1 => bail!("libvirt is away"),
                    2 => Ok(None),
                    3 => Ok(Some(of_second())),
                    _ => Ok(Some(Flapping::new())),
                }
            });
        });
        flapper.send(of_second()).unwrap();
        for turn in 1..=4 {
            assert!(changed.recv_timeout(LONG).unwrap() >= turn * 500, "{turn}");
        }
        assert!(changed.recv_timeout(Duration::from_secs(1)).is_err());
        drop(flapper);
        // The thread ends, and what it would tell by.
        assert_eq!(changed.recv_timeout(LONG), Err(RecvTimeoutError::Disconnected));
    }

    const LONG: Duration = Duration::from_secs(20);
}
