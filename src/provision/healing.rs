//! Faults that end by themselves are healed here, in the boot server's process: it lives as long as the lab does, whoever made the
//! fault and whatever became of that terminal. When they end is in the marks of the nodes, so a boot server that was started anew
//! heals what is overdue.

use std::sync::mpsc::{self, Receiver, RecvTimeoutError, Sender};
use std::thread;
use std::time::Duration;

use anyhow::Result;
use uuid::Uuid;

use super::faults::{FaultChange, FaultVerb};
use super::power::Chosen;
use crate::boot_server::recorder::now_ms;
use crate::hypervisor::{Found, Hypervisor};
use crate::output::{Format, Printer};
use crate::session::Session;

/// Heals in a thread of its own, which lives as long as this.
pub(crate) struct Healer {
    ends: Sender<Option<u64>>,
}

impl Healer {
    /// For the lab with this UUID.
    pub(crate) fn new(uri: Option<String>, lab: Uuid) -> Self {
        let (ends, told) = mpsc::channel();
        thread::spawn(move || heal_in_time(&told, || heal_overdue(uri.as_deref(), lab)));
        Self { ends }
    }

    /// When the next fault ends, in milliseconds since the epoch, as the marks say it now.
    pub(crate) fn next_ends_at(&self, end_ms: Option<u64>) {
        let _ = self.ends.send(end_ms);
    }
}

/// Waits for the next end, and calls `heal` then, which gives the one after that.
fn heal_in_time(told: &Receiver<Option<u64>>, mut heal: impl FnMut() -> Result<Option<u64>>) {
    let mut end_ms: Option<u64> = None;
    loop {
        let left = end_ms.map(|end_ms| Duration::from_millis(end_ms.saturating_sub(now_ms())));
        // The clock may be set meanwhile.
        match told.recv_timeout(left.unwrap_or(LONGEST).min(LONGEST)) {
            Ok(next) => end_ms = next,
            Err(RecvTimeoutError::Disconnected) => return,
            Err(RecvTimeoutError::Timeout) if end_ms.is_none_or(|end_ms| end_ms > now_ms()) => {}
            Err(RecvTimeoutError::Timeout) => {
                end_ms = heal().unwrap_or_else(|error| {
                    tracing::warn!("healing faults, which is tried again: {error:#}");
                    thread::sleep(PAUSE);
                    end_ms
                });
            }
        }
    }
}

/// Heals all of the lab's faults whose time is over, and gives the end of the next one.
fn heal_overdue(uri: Option<&str>, lab: Uuid) -> Result<Option<u64>> {
    let printer = Printer::new(true, Format::default());
    let session = Session::new(&printer, uri.map(str::to_owned), None);
    let hypervisor = session.hypervisor()?;
    let look =
        |hypervisor: &Hypervisor| Ok::<_, anyhow::Error>(hypervisor.observe()?.labs.remove(&lab));
    let Some(Found { lab, .. }) = look(&hypervisor)? else { return Ok(None) };
    let chosen = Chosen {
        nodes: (1..=lab.spec.nodes).collect(),
        uuid: lab.uuid,
        lab: lab.name,
        is_whole: true,
    };
    tracing::info!("healing the faults whose time is over");
    let change = FaultChange {
        session: &session,
        hypervisor: &hypervisor,
        verb: FaultVerb::HealOverdue,
        lasts: None,
        dry_run: false,
        patience: None,
    };
    change.apply(&chosen)?;
    Ok(look(&hypervisor)?.and_then(|found| found.first_end_ms()))
}

const LONGEST: Duration = Duration::from_secs(60);
const PAUSE: Duration = Duration::from_secs(2);

#[cfg(test)]
mod tests {
    use anyhow::bail;

    use super::*;

    #[test]
    fn faults_are_healed_when_they_end_and_again_where_that_failed() {
        let (ends, told) = mpsc::channel();
        let (done, healed) = mpsc::channel();
        let begun = now_ms();
        let mut tries = 0;
        thread::spawn(move || {
            heal_in_time(&told, || {
                tries += 1;
                done.send(now_ms())?;
                match tries {
                    1 => Ok(Some(now_ms() + 200)),
                    2 => bail!("libvirt is away"),
                    _ => Ok(None),
                }
            });
        });
        ends.send(Some(begun)).unwrap();
        let first = healed.recv_timeout(LONG).unwrap();
        let second = healed.recv_timeout(LONG).unwrap();
        assert!(first >= begun && second >= first + 200, "{first} {second}");
        assert!(healed.recv_timeout(LONG).unwrap() >= second + 1000);
        ends.send(Some(now_ms() + 60_000)).unwrap();
        ends.send(None).unwrap();
        assert!(healed.recv_timeout(Duration::from_millis(300)).is_err());
        drop(ends);
        // The thread ends, and what it would tell by.
        assert_eq!(healed.recv_timeout(LONG), Err(RecvTimeoutError::Disconnected));
    }

    const LONG: Duration = Duration::from_secs(20);
}
