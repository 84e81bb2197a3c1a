//! What a boot server has to give, all of it decided before it starts.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::path::PathBuf;

use serde::Deserialize;
use serde::Serialize;
use uuid::Uuid;

use super::timeline::Stage;
use crate::lab::LabName;
use crate::lab::MacAddr;

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
