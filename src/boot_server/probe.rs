//! Asks the nodes whether they are ready, and how their etcd is, as soon as they have booted so far that they can answer.
//! It runs in the server, so a lab becomes ready whether or not anybody waits for it.

use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::Result;
use tokio::task::spawn_blocking;
use tokio::time::{sleep, timeout};

use super::content::Content;
use super::membership;
use super::recorder::event::{AddressFound, ClusterHealth, EtcdChanged, Happening, StageReached};
use super::recorder::now_ms;
use super::recorder::timeline::{NodeTimeline, Timeline};
use super::server::Server;
use super::stage::Stage;
use crate::cluster::etcd::{self, Away, Endpoint, NodeReport, Report};
use crate::cluster::readiness;
use crate::host::{self, neighbour};
use crate::images::Readiness;
use crate::lab::metadata::Power;
use crate::lab::plan::DomainState;
use crate::lab::readiness::{LastSeen, ReadyWhen};

/// Asks again and again until the server ends.
pub(super) async fn probe(server: Arc<Server>) {
    let mut newest = server.recorder().listen();
    let mut closing = server.closing();
    let mut prober = Prober::new(server);
    loop {
        newest.borrow_and_update();
        let round = spawn_blocking(move || {
            let pause = prober.round();
            (prober, pause)
        });
        let Ok((again, pause)) = round.await else { return };
        prober = again;
        let news = async {
            sleep(SHORTEST).await;
            // What a node reached may be what it was waited for.
            if timeout(pause, newest.changed()).await.is_ok() {
                // Nodes go off together: whoever asks the second one when the first is off waits for it in vain.
                sleep(TOGETHER).await;
            }
        };
        tokio::select! {
            () = news => {}
            _ = closing.wait_for(|closed| *closed) => return,
        }
    }
}

struct Prober {
    server: Arc<Server>,
    searched: Option<Instant>,
}

impl Prober {
    fn new(server: Arc<Server>) -> Self {
        Self { server, searched: None }
    }

    /// Asks everybody once, and gives the time until the next round.
    fn round(&mut self) -> Duration {
        let content = self.server.content();
        let Some(when) = &content.ready_when else { return LONGEST };
        self.find_addresses(&content);
        let known = self.known();
        let waiting: Vec<&NodeTimeline> =
            known.nodes.iter().filter(|node| may_be_ready(&content, when, node)).collect();
        match self.ask(when, &waiting) {
            Ok(ready) => ready.into_iter().for_each(|node| {
                let reached = StageReached::unasked(node, Stage::Ready);
                self.record(Happening::Stage(reached));
            }),
            Err(error) => tracing::warn!("asking whether nodes are ready: {error:#}"),
        }
        let is_settled = |node: &NodeTimeline| node.has(Stage::Ready) || away(node).is_some();
        let mut is_settled = self.known().nodes.iter().all(is_settled);
        if when.criterion == Readiness::Etcd {
            is_settled &= self.look_at_etcd(&content, is_settled).unwrap_or_else(|error| {
                tracing::warn!("asking etcd: {error:#}");
                false
            });
        }
        pause(&self.known(), is_settled)
    }

    fn known(&self) -> Timeline {
        self.server.recorder().look(Timeline::clone)
    }

    fn record(&self, what: Happening) {
        self.server.recorder().record(what);
    }

    /// Looks for nodes that somebody else's DHCP server gave an address.
    fn find_addresses(&mut self, content: &Content) {
        let Some(interface) = &content.interface else { return };
        let known = self.known();
        let lost: Vec<&NodeTimeline> =
            known.nodes.iter().filter(|node| node.ip.is_none() && !is_off(node)).collect();
        if lost.is_empty() {
            return;
        }
        if self.searched.is_none_or(|searched| searched.elapsed() >= SEARCH) {
            self.searched = Some(Instant::now());
            if let Ok(Some(subnet)) = host::interface_subnet(interface) {
                neighbour::arp_sweep(subnet);
            }
        }
        for (ip, mac) in neighbour::on_interface(interface) {
            if let Some(node) = lost.iter().find(|node| node.mac == mac) {
                self.record(Happening::Address(AddressFound { node: node.index, ip: ip.into() }));
            }
        }
    }

    /// How the cluster is, as soon as all nodes are ready and from then on; whether it is healthy.
    fn look_at_etcd(&self, content: &Content, all_ready: bool) -> Result<bool> {
        let known = self.known();
        if !all_ready && known.etcd.is_none() {
            return Ok(false);
        }
        let mut report = report(content, &known, away)?;
        // The etcd of a node that is shut down ends before the node does.
        let away_or_leaving = |node: &NodeTimeline| away(node).or_else(|| leaving(node));
        if !report.healthy && known.nodes.iter().any(|node| leaving(node).is_some()) {
            report = self::report(content, &known, away_or_leaving)?;
        }
        if report.healthy {
            self.server.membership.has_formed();
        }
        self.promote_learners(&report.nodes);
        let etcd = ClusterHealth {
            healthy: report.healthy,
            members: report.members.len(),
            leader: report.leader.clone(),
            problems: report.problems(),
            away: report.away,
        };
        let healthy = etcd.healthy;
        if known.etcd.is_none_or(|known| differs(&known, &etcd)) {
            self.record(Happening::Etcd(EtcdChanged { etcd }));
        }
        Ok(healthy)
    }

    /// Which of these nodes are ready, by index.
    fn ask(&self, when: &ReadyWhen, nodes: &[&NodeTimeline]) -> Result<Vec<u32>> {
        let all = || nodes.iter().map(|node| node.index);
        if nodes.is_empty() || when.criterion == Readiness::Config {
            return Ok(all().collect());
        }
        // All of them have an address, or they would not be asked.
        let asked = endpoints(&self.server.content(), nodes.iter().copied());
        let ready = if when.criterion == Readiness::Etcd {
            let reports = etcd::health(&asked)?;
            self.promote_learners(&reports);
            reports.iter().map(|it| it.healthy).collect()
        } else {
            readiness::are_ready(&when.criterion, when.user.as_deref(), &asked)?
        };
        Ok(all().zip(ready).filter(|(_, ready)| *ready).map(|(node, _)| node).collect())
    }

    /// A node that joined its cluster is ready when it has its vote.
    fn promote_learners(&self, reports: &[NodeReport]) {
        if !reports.iter().any(|node| node.learner) {
            return;
        }
        let known = self.known();
        let mut members = endpoints(&self.server.content(), known.nodes.iter());
        members.retain(|endpoint| endpoint.voter);
        if let Err(error) = membership::promote(&members) {
            tracing::debug!("{error:#}");
        }
    }
}

/// Whether a node that is not known to be ready has booted so far that it is worth asking.
fn may_be_ready(content: &Content, when: &ReadyWhen, node: &NodeTimeline) -> bool {
    if node.has(Stage::Ready) || is_off(node) {
        return false;
    }
    // Other servers gave it everything, as far as we can tell.
    let elsewhere =
        when.maybe_elsewhere && node.stage().is_none_or(|stage| stage == Stage::PowerOn);
    let is_known = when.criterion == Readiness::Config || node.ip.is_some();
    let restored = node.restored && node.has(Stage::PowerOn);
    is_known && (elsewhere || restored || has_last_seen(content, when.after, node))
}

fn has_last_seen(content: &Content, last: LastSeen, node: &NodeTimeline) -> bool {
    match last {
        LastSeen::PowerOn => node.has(Stage::PowerOn),
        LastSeen::Config => node.has(Stage::Config),
        LastSeen::Files => [Stage::Kernel, Stage::Initrd, Stage::Rootfs]
            .into_iter()
            .all(|stage| has_files(content, stage, node)),
    }
}

/// Whether a node has the files of a stage: all that its boot script names, and one of those that the initrd fetches,
/// since those may be there for choice. virtlab 0.1 did not always note which file it was.
fn has_files(content: &Content, stage: Stage, node: &NodeTimeline) -> bool {
    let mut names = content.files.iter().filter(|(_, file)| file.stage == stage).peekable();
    if names.peek().is_none() {
        return true;
    }
    let Some(has) = node.files.get(&stage) else { return node.has(stage) };
    stage == Stage::Rootfs || names.all(|(name, _)| has.contains_key(name))
}

/// How the cluster is without the nodes that are `away`.
fn report(
    content: &Content,
    known: &Timeline,
    away: impl Fn(&NodeTimeline) -> Option<Power>,
) -> Result<Report> {
    let absent = |node| Some((endpoint(content, node)?, away(node)?));
    let nodes = known.nodes.iter().filter_map(absent).collect();
    let absent = Away { lab: content.lab.to_string(), nodes };
    let wanted = known.nodes.iter().filter(|node| away(node).is_none());
    // One that cannot answer would be waited for, and who comes back meanwhile as well.
    let (silent, asked): (Vec<_>, Vec<_>) = wanted.partition(|node| is_silent(node));
    let endpoints = endpoints(content, asked.into_iter());
    // Writing shows that it has become healthy; later it would only be in the way.
    let report = if known.etcd.as_ref().is_some_and(|etcd| etcd.healthy) {
        etcd::glance_without(&endpoints, &absent)?
    } else {
        etcd::examine_without(&endpoints, &absent, &content.uuid.to_string())?
    };
    let unasked = silent.iter().filter_map(|node| {
        let state = if is_off(node) { "off" } else { "paused" };
        Some((endpoint(content, node)?, format!("the node is {state}")))
    });
    Ok(report.with_unasked(unasked.collect()))
}

/// The power that is wanted of a node that somebody stopped or paused, and that does not run.
fn away(node: &NodeTimeline) -> Option<Power> {
    (is_silent(node) && node.wanted != Power::On).then_some(node.wanted)
}

/// The same of a node that somebody stops and that still runs the boot of before.
fn leaving(node: &NodeTimeline) -> Option<Power> {
    let is_leaving = node.wanted != Power::On && node.has(Stage::Ready);
    is_leaving.then_some(node.wanted)
}

fn is_silent(node: &NodeTimeline) -> bool {
    matches!(node.power, Some(DomainState::Off | DomainState::Paused))
}

fn is_off(node: &NodeTimeline) -> bool {
    node.power == Some(DomainState::Off)
}

fn endpoints<'a>(
    content: &Content,
    nodes: impl Iterator<Item = &'a NodeTimeline>,
) -> Vec<Endpoint> {
    nodes.filter_map(|node| endpoint(content, node)).collect()
}

fn endpoint(content: &Content, node: &NodeTimeline) -> Option<Endpoint> {
    let (name, port, voter) = (node.name.clone(), etcd::CLIENT_PORT, content.is_voter(node.index));
    Some(Endpoint { name, ip: node.ip?, port, voter })
}

/// Whether a change is worth an event. How a problem is put into words may change at every look.
fn differs(known: &ClusterHealth, now: &ClusterHealth) -> bool {
    let facts = |etcd: &ClusterHealth| {
        let away: Vec<_> = etcd.away.iter().map(|node| (node.name.clone(), node.power)).collect();
        (etcd.healthy, etcd.members, etcd.leader.clone(), away)
    };
    facts(known) != facts(now)
}

/// Often while something happens, and the more seldom the longer nothing did.
fn pause(known: &Timeline, is_settled: bool) -> Duration {
    if is_settled {
        return LONGEST;
    }
    let newest = known.nodes.iter().flat_map(|node| node.stages.values()).map(|it| it.at_ms).max();
    let quiet = Duration::from_millis(now_ms().saturating_sub(newest.unwrap_or_default()));
    (quiet / 40).clamp(SHORTEST, LONGEST)
}

const SHORTEST: Duration = Duration::from_millis(200);
const LONGEST: Duration = Duration::from_secs(5);
/// How long what happens to all nodes of a lab may take.
const TOGETHER: Duration = Duration::from_millis(100);
/// How often all addresses of a foreign network are asked for nodes.
const SEARCH: Duration = Duration::from_secs(5);

#[cfg(test)]
mod tests;
