//! Which node leads a lab's etcd.

use std::net::IpAddr;
use std::time::Duration;

use anyhow::Result;

use super::addresses;
use super::readiness::endpoints;
use crate::cluster::etcd;
use crate::deadline::Deadline;
use crate::error::hinted;
use crate::hypervisor::{Found, Hypervisor};
use crate::lab::fault::FaultName;
use crate::lab::plan::DomainState;

/// The index of the node that leads, as all say that are healthy. A cluster that elects one is given time for it.
///
/// # Errors
/// If there is none that they agree on.
pub(crate) fn leader(hypervisor: &Hypervisor, found: &Found) -> Result<u32> {
    let lab = &found.lab;
    let may_answer = |index: u32| {
        lab.is_voter(index)
            && found.domains.get(&index) == Some(&DomainState::Running)
            && !found.faults(index).has(FaultName::Cut)
    };
    let addresses = addresses::find(hypervisor, lab, false)?.into_iter();
    let asked: Vec<(u32, IpAddr)> = addresses.filter(|(index, _)| may_answer(*index)).collect();
    let endpoints = endpoints(lab, &asked, etcd::CLIENT_PORT);
    let leader = Deadline::after(PATIENCE).wait_for(PAUSE, || {
        let leader = etcd::glance(&endpoints)?.leader;
        Ok(asked.iter().find(|(index, _)| leader == Some(lab.name.node(*index))).copied())
    })?;
    leader.map(|(index, _)| index).ok_or_else(|| {
        hinted(
            format!("etcd of lab `{}` has no leader that its nodes agree on", lab.name),
            format!(
                "`virtlab status {}` shows its etcd; nodes can be named by their names",
                lab.name
            ),
        )
    })
}

/// An emulated cluster takes some seconds to elect one.
const PATIENCE: Duration = Duration::from_secs(10);
const PAUSE: Duration = Duration::from_millis(500);
