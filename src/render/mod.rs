//! From a lab to text: libvirt XML, boot scripts, configs. Pure: the texts of the
//! templates come from [`crate::template`].

pub mod boot;
pub(crate) mod comparison;
pub mod config;
pub(crate) mod element;
pub mod filters;
pub(crate) mod inventory;
pub(crate) mod limits;
pub(crate) mod links;
pub mod pxe;
pub(crate) mod secrets;
pub(crate) mod ssh_config;
pub mod xml;

use std::net::Ipv4Addr;

use ipnet::Ipv4Net;
use serde::Serialize;
use uuid::Uuid;

use crate::lab::{Lab, MacAddr, Node, address};

/// What every template knows of the lab, as `lab`.
#[derive(Debug, Serialize)]
pub(crate) struct LabContext<'a> {
    name: &'a str,
    uuid: Uuid,
    nodes: u32,
    voters: u32,
    image: &'a str,
    description: Option<&'a str>,
}

impl<'a> LabContext<'a> {
    pub(crate) fn new(lab: &'a Lab) -> Self {
        Self {
            name: lab.name.as_str(),
            uuid: lab.uuid,
            nodes: lab.spec.nodes,
            voters: lab.voters(),
            image: &lab.spec.image.name,
            description: lab.spec.description.as_deref(),
        }
    }
}

/// What templates know of a node, as `node` or as one of `nodes`.
#[derive(Debug, Serialize)]
pub(crate) struct NodeContext {
    index: u32,
    name: String,
    uuid: Uuid,
    mac: MacAddr,
    ip: Option<Ipv4Addr>,
    pxelinux_cfg: String,
}

impl From<Node> for NodeContext {
    fn from(node: Node) -> Self {
        let Node { index, name, uuid, mac, ip } = node;
        Self { index, name, uuid, mac, ip, pxelinux_cfg: boot::pxelinux_cfg_name(mac) }
    }
}

/// The nodes that a network of the lab's own has an address for: those that there are, and those that the
/// lab may get later, up to what a /24 has room for.
pub(crate) fn reserved_nodes(lab: &Lab, subnet: Ipv4Net) -> Vec<NodeContext> {
    let room = address::capacity(subnet).min(lab.spec.mac_prefix.capacity()).min(RESERVED);
    (1..=room.max(lab.spec.nodes)).map(|index| lab.node(index).into()).collect()
}

/// What a /24 has room for beside its gateway.
const RESERVED: u32 = 253;

pub(crate) fn all_nodes(lab: &Lab) -> Vec<NodeContext> {
    lab.nodes().into_iter().map(NodeContext::from).collect()
}
