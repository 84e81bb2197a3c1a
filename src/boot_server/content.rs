//! What a boot server has to give, all of it decided before.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use fs_err as fs;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::recorder::event::NodeIdentity;
use super::stage::Stage;
use crate::cluster::etcd::membership::{Peer, initial_cluster};
use crate::cluster::etcd::{self, Endpoint};
use crate::lab::readiness::ReadyWhen;
use crate::lab::{LabName, MacAddr};
use crate::render::config;

/// Everything that a lab's boot server gives out.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Content {
    /// The lab.
    pub lab: LabName,
    /// The lab's UUID, by which a client knows that it asks the right server.
    pub uuid: Uuid,
    /// The server's own address: who asks from there is this host.
    pub address: IpAddr,
    /// The TCP port it listens on.
    pub port: u16,
    /// The nodes.
    pub nodes: Vec<ServedNode>,
    /// The image's files by name.
    pub files: BTreeMap<String, ServedFile>,
    /// The media type of the configs.
    pub config_type: String,
    /// The public SSH keys in the configs.
    #[serde(default)]
    pub ssh_keys: Vec<String>,
    /// The etcd discovery URL in the configs, if they have one.
    #[serde(default)]
    pub discovery_url: Option<String>,
    /// When a node is ready; virtlab 0.1 did not keep it here.
    #[serde(default)]
    pub ready_when: Option<ReadyWhen>,
    /// The host's interface on which the nodes are, if it is known.
    #[serde(default)]
    pub interface: Option<String>,
    /// Behind a router a node is who it says it is.
    #[serde(default)]
    pub trust_claimed_mac: bool,
    /// Whether a key ends the wait of the nodes' iPXE for Ctrl-B.
    #[serde(default)]
    pub knock: bool,
}

impl Content {
    /// Reads what was written for a boot server.
    ///
    /// # Errors
    /// If it is not there, or was written by a virtlab that is not understood.
    pub fn read(path: &Path) -> Result<Self> {
        let text = fs::read_to_string(path)?;
        serde_json::from_str(&text).context("reading what the boot server gives out")
    }

    /// The URL below which the boot server's own etcd discovery is.
    pub fn discovery_base(&self) -> String {
        format!("http://{}{DISCOVERY_PATH}", SocketAddr::new(self.address, self.port))
    }

    /// Whether a config has a place for a discovery URL, and none in it yet.
    pub fn wants_discovery(&self) -> bool {
        self.nodes.iter().any(|node| config::wants_discovery(&node.config))
    }

    /// Puts a discovery URL into all configs.
    pub fn put_discovery_url(&mut self, url: String) {
        for node in &mut self.nodes {
            node.config = config::put_discovery_url(&node.config, &url);
        }
        self.discovery_url = Some(url);
    }

    /// Puts another discovery URL in the place of the one that is in the configs.
    pub(super) fn change_discovery_url(&mut self, url: &str) {
        if let Some(old) = self.discovery_url.replace(url.to_owned()) {
            for node in &mut self.nodes {
                node.config = node.config.replace(&old, url);
            }
        }
    }

    /// The members to be whose addresses are known, as etcd's `initial-cluster` names the members of a new cluster.
    pub fn founders(&self) -> String {
        let peer = |node: &ServedNode| {
            let endpoint = Endpoint {
                name: node.name.clone(),
                ip: node.ip?,
                port: etcd::CLIENT_PORT,
                voter: true,
            };
            Some(Peer { url: endpoint.peer_url(), name: endpoint.name })
        };
        initial_cluster(
            &self.nodes.iter().filter(|node| node.voter).filter_map(peer).collect::<Vec<_>>(),
        )
    }

    /// The config of a node, if there is such a node.
    pub fn config_of(&self, index: u32) -> Option<&str> {
        self.nodes.iter().find(|node| node.index == index).map(|node| node.config.as_str())
    }

    /// Whether the node with this index is to be a member of the lab's etcd cluster.
    pub(super) fn is_voter(&self, index: u32) -> bool {
        self.nodes.iter().find(|node| node.index == index).is_none_or(|node| node.voter)
    }

    /// Which nodes there are.
    pub(super) fn identities(&self) -> Vec<NodeIdentity> {
        let identity = |node: &ServedNode| NodeIdentity {
            index: node.index,
            name: node.name.clone(),
            mac: node.mac,
            ip: node.ip,
        };
        self.nodes.iter().map(identity).collect()
    }
}

/// What a node gets.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct ServedNode {
    /// 1 for the first node.
    pub index: u32,
    /// Its host name.
    pub name: String,
    /// Its MAC address.
    pub mac: MacAddr,
    /// Its reserved address; `None` where we do not give addresses.
    pub ip: Option<IpAddr>,
    /// Whether it is to be a member of the lab's etcd cluster; all nodes are in labs of earlier virtlabs.
    #[serde(default = "yes")]
    pub voter: bool,
    /// The arguments of its kernel; virtlab 0.1 did not keep them here.
    #[serde(default)]
    pub arguments: Option<String>,
    /// Its iPXE script.
    pub script: String,
    /// Its config, with the address placeholders still in it.
    pub config: String,
}

/// A file of the image.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct ServedFile {
    /// Where it is.
    pub path: PathBuf,
    /// The stage of a boot that having it means.
    pub stage: Stage,
}

fn yes() -> bool {
    true
}

/// What is given out, in the lab's folder.
pub(crate) const CONTENT_FILE: &str = "content.json";
/// Where the boot server's own etcd discovery is, below the server's URL.
pub(super) const DISCOVERY_PATH: &str = "/discovery";
