//! What the handlers share: the content, which may be replaced while they run, and the recorder.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::ops::Deref;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use anyhow::Result;
use tokio::sync::watch;

use super::asking::Asking;
use super::content::{CONTENT_FILE, Content, ServedNode};
use super::membership::{Applicant, Membership};
use super::message::{FORMAT, Status};
use super::recorder::event::{Happening, StageReached};
use super::recorder::timeline::{NodeTimeline, Timeline};
use super::recorder::{Recorder, now_ms};
use super::stage::Stage;
use crate::cluster::etcd::{self, Endpoint};
use crate::host::neighbour::{self, Neighbour};
use crate::lab::metadata::Power;
use crate::lab::plan::{DomainChange, DomainState};

/// What the handlers share.
#[derive(Debug)]
pub struct Server {
    content: watch::Sender<Arc<Content>>,
    /// Where the content is kept.
    pub(super) content_file: PathBuf,
    recorder: Recorder,
    pub(super) membership: Membership,
    /// Who has which address on an interface.
    pub(crate) neighbour: fn(IpAddr, Option<&str>) -> Neighbour,
    refused: Mutex<BTreeSet<(IpAddr, &'static str)>>,
    /// Whether all who listen are to be sent away.
    closed: watch::Sender<bool>,
}

/// A node that was found in some content.
#[derive(Debug)]
pub(super) struct Claimed {
    pub(super) content: Arc<Content>,
    place: usize,
}

impl Deref for Claimed {
    type Target = ServedNode;

    fn deref(&self) -> &ServedNode {
        &self.content.nodes[self.place]
    }
}

impl Server {
    /// A server of `content` that goes on with what `journal` holds.
    ///
    /// # Errors
    /// If the journal cannot be read or written.
    pub fn new(content: Content, journal: &Path) -> Result<Self> {
        let recorder = Recorder::open(journal, &content.identities())?;
        Ok(Self {
            content: watch::Sender::new(Arc::new(content)),
            content_file: journal.with_file_name(CONTENT_FILE),
            recorder,
            membership: Membership::open(&journal.with_file_name(CLUSTER_FILE)),
            neighbour: neighbour::look_up,
            refused: Mutex::default(),
            closed: watch::Sender::new(false),
        })
    }

    /// What is given out now.
    pub fn content(&self) -> Arc<Content> {
        Arc::clone(&self.content.borrow())
    }

    /// Gives out something else from now on. The address and the port stay those on which it listens.
    pub fn replace_content(&self, mut content: Content) {
        content.ready_when = content.ready_when.or_else(|| self.content().ready_when.clone());
        self.recorder.set_nodes(&content.identities());
        self.content.send_replace(Arc::new(content));
    }

    /// Where events arise.
    pub fn recorder(&self) -> &Recorder {
        &self.recorder
    }

    /// Notes what libvirt says of a domain, if it is one of the lab's.
    pub fn domain(&self, name: &str, change: DomainChange, at_ms: u64) {
        let content = self.content();
        if let Some(node) = content.nodes.iter().find(|node| node.name == name) {
            self.recorder.domain(node.index, change, at_ms);
        }
    }

    /// Notes how the domain of a node is now, as a look at all domains has it. One that is not there, and never was, is
    /// nothing to note.
    pub fn domain_is(&self, node: u32, state: DomainState) {
        let is_known = |known: &Timeline| {
            known.node(node).is_some_and(|node| node.power.is_some() || !node.stages.is_empty())
        };
        if state != DomainState::Off || self.recorder.look(is_known) {
            self.recorder.domain(node, DomainChange::Is(state), now_ms());
        }
    }

    /// Notes that the host was off, and so all domains with it: what runs now has booted anew.
    pub fn host_was_off(&self) {
        for node in &self.content().nodes {
            self.domain_is(node.index, DomainState::Off);
        }
    }

    /// Notes which nodes are not wanted to run, as the marks of their domains say it.
    pub fn set_wanted(&self, not_on: &BTreeMap<u32, Power>) {
        self.recorder.wanted(not_on);
    }

    /// The names of the nodes whose iPXE may wait for a key just now, where the lab is one in which it gets one.
    pub fn waiting_for_a_key(&self) -> BTreeSet<String> {
        if !self.content().knock {
            return BTreeSet::new();
        }
        let now = now_ms();
        let waits = |node: &&NodeTimeline| node.may_wait_for_a_key(now);
        let names = |known: &Timeline| {
            known.nodes.iter().filter(waits).map(|node| node.name.clone()).collect()
        };
        self.recorder.look(names)
    }

    /// What is known of the lab.
    pub(super) fn status(&self) -> Status {
        let content = self.content();
        let (id, timeline) = self.recorder.snapshot();
        Status {
            format: FORMAT,
            lab: content.lab.clone(),
            uuid: content.uuid,
            version: env!("CARGO_PKG_VERSION").to_owned(),
            id,
            timeline,
        }
    }

    /// The node that asks.
    pub(super) fn node(&self, asking: &Asking) -> Option<Claimed> {
        let content = self.content();
        let seen_at = |ip: IpAddr| {
            let has_it = |node: &&NodeTimeline| node.ip == Some(ip);
            self.recorder.look(|seen| seen.nodes.iter().find(has_it).map(|node| node.index))
        };
        let place = asking.node(&content, self.neighbour, seen_at)?;
        Some(Claimed { content, place })
    }

    /// Where the etcds of all nodes are, as far as their addresses are known. The one that asks is where it asks
    /// from.
    pub(super) fn endpoints(&self, asking: Option<(u32, IpAddr)>) -> Vec<(u32, Endpoint)> {
        let content = self.content();
        let own = |index: u32| asking.filter(|(node, _)| *node == index).map(|(_, ip)| ip);
        let endpoint = |node: &NodeTimeline| {
            let ip = own(node.index).or(node.ip)?;
            let (name, port) = (node.name.clone(), etcd::CLIENT_PORT);
            Some((node.index, Endpoint { name, ip, port, voter: content.is_voter(node.index) }))
        };
        self.recorder.look(|known| known.nodes.iter().filter_map(endpoint).collect())
    }

    /// A node that asks how it is to start its etcd.
    pub(super) fn applicant(&self, index: u32, ip: IpAddr) -> Option<Applicant> {
        let (own, others): (Vec<_>, Vec<_>) =
            self.endpoints(Some((index, ip))).into_iter().partition(|(node, _)| *node == index);
        let others = others.into_iter().map(|(_, endpoint)| endpoint);
        let others = others.filter(|endpoint| endpoint.voter).collect();
        own.into_iter().next().map(|(_, own)| Applicant { index, own, others })
    }

    /// Notes that a node got a text by which it reaches a stage.
    pub(super) fn answered(&self, asking: &Asking, node: &ServedNode, stage: Stage, text: &str) {
        if asking.is_get {
            self.recorder.record(Happening::Stage(StageReached {
                node: node.index,
                stage,
                file: None,
                from: Some(asking.ip),
                bytes: text.len() as u64,
            }));
        }
    }

    /// Logs, once for each address, that somebody asked for what only nodes get. A log that a guest can make
    /// longer at will would fill the disk.
    pub(super) fn log_refusal(&self, asking: &Asking, what: &'static str) {
        let Asking { ip, mac, .. } = asking;
        let mut refused = self.refused.lock().expect("nobody panics with it");
        if refused.len() < MOST_REFUSALS && refused.insert((*ip, what)) {
            let mac = mac.map(|mac| format!(" ({mac})")).unwrap_or_default();
            tracing::warn!("{ip}{mac} asked for {what}, but is no node of this lab");
        }
    }

    /// Ends all answers that would go on for ever.
    pub(super) fn close(&self) {
        self.closed.send_replace(true);
    }

    /// Comes true when the server ends.
    pub(super) fn closing(&self) -> watch::Receiver<bool> {
        self.closed.subscribe()
    }
}

/// What is known of the etcd cluster's past, beside the journal.
const CLUSTER_FILE: &str = "cluster.json";
const MOST_REFUSALS: usize = 256;
