//! Whether the etcd of the nodes that are waited for is as it should be.

use std::time::{Duration, Instant};

use anyhow::Result;

use super::missing::{self, Awaited, Problem};
use super::readiness::{away, endpoints};
use crate::boot_server::recorder::timeline::Timeline;
use crate::cluster::etcd;
use crate::hypervisor::Found;
use crate::images::Readiness;
use crate::lab::metadata::Power;
use crate::lab::plan::DomainState;

/// The etcd of a lab, or of the part of it that is waited for.
pub(super) struct Cluster<'a> {
    found: &'a Found,
    awaited: &'a Awaited,
    /// The nodes that are to be members and healthy; all others may be off.
    wanted: Vec<u32>,
    asked: Option<(Instant, Vec<Problem>)>,
}

impl<'a> Cluster<'a> {
    /// Its members are to be the awaited nodes and those that run beside them. A node that somebody stopped may stay
    /// away, and so may one that went down and is not waited for.
    pub(super) fn of(found: &'a Found, awaited: &'a Awaited) -> Self {
        let runs = |index: u32| found.domains.get(&index) == Some(&DomainState::Running);
        let to_run = found.nodes_to_run();
        let is_meant = |index: u32| awaited.has(index) || runs(index);
        let wanted =
            to_run.iter().map(|node| node.index).filter(|index| is_meant(*index)).collect();
        Self { found, awaited, wanted, asked: None }
    }

    /// What it lacks.
    pub(super) fn problems(&mut self, known: &Timeline) -> Result<Vec<Problem>> {
        let lab = &self.found.lab;
        let is_whole = self.wanted.len() == lab.spec.nodes as usize;
        // The boot server knows all about a whole cluster, unless its last look was before the nodes booted.
        if lab.spec.ready != Readiness::Etcd || (is_whole && self.awaited.booted.is_empty()) {
            return Ok(missing::of_cluster(lab, known));
        }
        if let Some((asked, problems)) = &self.asked
            && asked.elapsed() < PAUSE
        {
            return Ok(problems.clone());
        }
        let (mut members, mut others) = (Vec::new(), Vec::new());
        for node in &known.nodes {
            let Some(ip) = node.ip else { continue };
            if self.wanted.contains(&node.index) {
                members.push((node.index, ip));
            } else {
                // One that went down and is not waited for is as good as stopped.
                let power = self.found.wanted(node.index);
                let power = if power == Power::On { Power::Off } else { power };
                others.push((node.index, ip, power));
            }
        }
        let away = away(lab, others.into_iter(), etcd::CLIENT_PORT);
        let report = etcd::glance_without(&endpoints(lab, &members, etcd::CLIENT_PORT), &away)?;
        let problems: Vec<Problem> = if report.healthy {
            Vec::new()
        } else {
            report.problems().into_iter().map(Problem::Cluster).collect()
        };
        self.asked = Some((Instant::now(), problems.clone()));
        Ok(problems)
    }
}

const PAUSE: Duration = Duration::from_secs(1);
