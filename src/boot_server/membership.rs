//! How a node is to start its etcd: as a founder of a new cluster, or as a member that joins the one there is.
//!
//! A node that boots anew has lost its memory. etcd lets no member start twice from nothing, so its old member
//! leaves the cluster and it joins as a new one. Where the whole lab was off, there is nothing to join and nothing
//! to lose: it founds a new cluster. Where a majority lost its memory while others still run, the data is gone,
//! and only a person can say that it may be given up.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::Result;
use fs_err as fs;
use serde::{Deserialize, Serialize};

use crate::cluster::etcd::membership::{Outlook, Peer};
use crate::cluster::etcd::{self, Endpoint};
use crate::files::{self, Readers};

/// How a node is to start its etcd.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Start {
    /// With all nodes of the lab, as a new cluster.
    New,
    /// As one of these members of the cluster that is there.
    Existing(Vec<Peer>),
    /// Not now: too few members are left to take it in.
    Hold,
}

/// What is known of the cluster's past, in the lab's folder.
#[derive(Debug)]
pub(super) struct Membership {
    path: PathBuf,
    /// Held as long as a node is taken into a cluster: one at a time.
    past: Mutex<Past>,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
struct Past {
    /// Whether the present cluster was healthy once, so that it may hold data.
    formed: bool,
    /// The nodes that joined it after it was founded, by index.
    joined: BTreeSet<u32>,
}

/// A node that asks, with the addresses of all others that are to be members.
#[derive(Debug)]
pub(super) struct Applicant {
    pub(super) index: u32,
    pub(super) own: Endpoint,
    pub(super) others: Vec<Endpoint>,
}

#[derive(Debug, PartialEq, Eq)]
enum Decision {
    Found,
    FoundAnew,
    Join,
    GoOn,
    Hold,
}

impl Membership {
    /// Goes on with what the lab's folder holds.
    pub(super) fn open(path: &Path) -> Self {
        let past = fs::read_to_string(path).ok().and_then(|text| serde_json::from_str(&text).ok());
        Self { path: path.to_owned(), past: Mutex::new(past.unwrap_or_default()) }
    }

    /// The cluster is healthy: from now on there may be data in it.
    pub(super) fn has_formed(&self) {
        self.change(|past| past.formed = true);
    }

    /// Finds out how a node is to start, and takes it into the cluster if it has to join. Asks etcd, which may
    /// take seconds.
    ///
    /// # Errors
    /// If etcd refuses to change its members for longer than firmware and Ignition wait for an answer.
    pub(super) fn start(&self, node: &Applicant) -> Result<Start> {
        let deadline = Instant::now() + PATIENCE;
        loop {
            // etcd changes nothing within 5 s of the loss of a connection between members.
            match self.try_start(node) {
                Err(error) if Instant::now() < deadline => {
                    tracing::debug!("taking {} into its cluster: {error:#}", node.own.name);
                    thread::sleep(PAUSE);
                }
                other => return other,
            }
        }
    }

    /// Calls `renew` if the node is the first one of a lab that was off as a whole: what the old cluster had to know of its
    /// members is of no use to the new one. Asks etcd, which may take seconds.
    ///
    /// # Errors
    /// Those of `renew`; the next node that asks is the first one then.
    pub(super) fn if_all_were_off(
        &self,
        node: &Applicant,
        renew: impl FnOnce() -> Result<()>,
    ) -> Result<()> {
        let mut past = self.past.lock().unwrap_or_else(PoisonError::into_inner);
        if !past.formed || !matches!(Outlook::of(&node.others), Ok(Outlook::Silent)) {
            return Ok(());
        }
        renew()?;
        *past = Past::default();
        self.save(&past);
        Ok(())
    }

    fn try_start(&self, node: &Applicant) -> Result<Start> {
        // Founders do not wait for each other's questions, which take seconds where an etcd waits for the rest of its cluster.
        let mut outlook = Outlook::of(&node.others)?;
        let mut past = self.past.lock().unwrap_or_else(PoisonError::into_inner);
        if matches!(outlook, Outlook::Healthy(_)) {
            // Another node may have been taken in meanwhile.
            outlook = Outlook::of(&node.others)?;
        }
        let is_running = || is_member(&node.own);
        let decision = decide(&past, node.index, node.own.ip, &outlook, is_running);
        tracing::info!("{} starts its etcd: {decision:?}", node.own.name);
        let all: Vec<Endpoint> = node.others.iter().chain([&node.own]).cloned().collect();
        let start = match (&decision, outlook) {
            (Decision::Join, Outlook::Healthy(mut cluster)) => {
                // First: an answer of etcd's may get lost, and then the node must not pass for a founder.
                past.joined.insert(node.index);
                past.formed = true;
                self.save(&past);
                let peers = cluster.readd(&node.own, &all)?;
                Start::Existing(peers)
            }
            (Decision::GoOn, Outlook::Healthy(cluster)) => Start::Existing(cluster.peers(&all)),
            (Decision::FoundAnew, _) => {
                *past = Past::default();
                Start::New
            }
            (Decision::Hold, _) => Start::Hold,
            _ => Start::New,
        };
        self.save(&past);
        Ok(start)
    }

    fn change(&self, change: impl FnOnce(&mut Past)) {
        let mut past = self.past.lock().unwrap_or_else(PoisonError::into_inner);
        let before = past.clone();
        change(&mut past);
        if *past != before {
            self.save(&past);
        }
    }

    fn save(&self, past: &Past) {
        let text = serde_json::to_vec(past).expect("it is plain data");
        if let Err(error) = files::replace(&self.path, &text, Readers::Owner) {
            tracing::warn!("{error:#}");
        }
    }
}

/// `is_running` tells whether the node's own etcd answers, which is asked only where it makes a difference.
fn decide(
    past: &Past,
    node: u32,
    ip: IpAddr,
    outlook: &Outlook,
    is_running: impl FnOnce() -> bool,
) -> Decision {
    match outlook {
        Outlook::Silent if past.formed => Decision::FoundAnew,
        Outlook::NoQuorum if past.formed => Decision::Hold,
        Outlook::Silent | Outlook::NoQuorum => Decision::Found,
        Outlook::Healthy(cluster) => match cluster.member_on(ip) {
            // It has its place and has not started yet: as a founder, or after it was taken in.
            Some(member) if member.name.is_empty() => {
                if past.joined.contains(&node) {
                    Decision::GoOn
                } else {
                    Decision::Found
                }
            }
            Some(_) if is_running() => Decision::GoOn,
            Some(_) | None => Decision::Join,
        },
    }
}

/// Makes members that joined full ones as soon as they have all data.
pub(super) fn promote(nodes: &[Endpoint]) -> Result<()> {
    match Outlook::of(nodes)? {
        Outlook::Healthy(cluster) => cluster.promote(),
        _ => Ok(()),
    }
}

fn is_member(node: &Endpoint) -> bool {
    let reports = etcd::health(std::slice::from_ref(node));
    reports.is_ok_and(|reports| reports.iter().any(|report| report.healthy || report.learner))
}

/// Ignition gives up a request after 10 s and asks again.
const PATIENCE: Duration = Duration::from_secs(8);
const PAUSE: Duration = Duration::from_secs(1);

#[cfg(test)]
mod tests {
    use super::*;

    fn decided(formed: bool, outlook: &Outlook) -> Decision {
        let past = Past { formed, ..Past::default() };
        decide(&past, 1, "10.0.0.2".parse().unwrap(), outlook, || false)
    }

    #[test]
    fn a_lab_that_was_off_founds_a_new_cluster_and_one_that_lost_its_majority_waits() {
        assert_eq!(decided(false, &Outlook::Silent), Decision::Found);
        assert_eq!(decided(true, &Outlook::Silent), Decision::FoundAnew);
        assert_eq!(decided(false, &Outlook::NoQuorum), Decision::Found);
        assert_eq!(decided(true, &Outlook::NoQuorum), Decision::Hold);
    }

    /// etcd listens at once, and answers when it has found a majority. Ignition asks again after 10 s.
    #[test]
    fn founders_are_answered_in_time_beside_one_that_waits_for_them() {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let mute = listener.local_addr().unwrap();
        let endpoint =
            |name: &str, port| Endpoint { name: name.to_owned(), ip: mute.ip(), port, voter: true };
        let folder = tempfile::tempdir().unwrap();
        let membership = Membership::open(&folder.path().join("cluster.json"));
        let start = |index| {
            let own = endpoint("own", 1);
            let others = vec![endpoint("mute", mute.port()), endpoint("closed", 2)];
            let asked = Instant::now();
            let start = membership.start(&Applicant { index, own, others }).unwrap();
            (start, asked.elapsed())
        };
        thread::scope(|scope| {
            let founders: Vec<_> = (2..=5).map(|index| scope.spawn(move || start(index))).collect();
            for founder in founders {
                let (start, took) = founder.join().unwrap();
                assert_eq!(start, Start::New);
                assert!(took < Duration::from_secs(9), "{took:?}");
            }
        });
    }

    #[test]
    fn the_past_is_kept() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("cluster.json");
        Membership::open(&path).has_formed();
        assert!(Membership::open(&path).past.lock().unwrap().formed);
        fs::write(&path, "nonsense").unwrap();
        assert_eq!(*Membership::open(&path).past.lock().unwrap(), Past::default());
    }
}
