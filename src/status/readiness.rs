//! Whether nodes are ready, asked of the nodes themselves: what `create` waits for, and what `status`
//! and `verify` tell.

use std::net::IpAddr;

use anyhow::Result;

use crate::cluster::etcd::{self, Away, Endpoint};
use crate::cluster::readiness;
use crate::lab::Lab;
use crate::lab::metadata::Power;

/// Whether each of these nodes is ready, all asked at the same time. Where having fetched the config
/// is enough, they are.
pub(crate) fn are_ready(lab: &Lab, nodes: &[(u32, IpAddr)]) -> Result<Vec<bool>> {
    let nodes = endpoints(lab, nodes, etcd::CLIENT_PORT);
    readiness::are_ready(&lab.spec.ready, lab.spec.ready_user.as_deref(), &nodes)
}

/// Where the etcds of these nodes listen for clients.
pub(crate) fn endpoints(lab: &Lab, nodes: &[(u32, IpAddr)], port: u16) -> Vec<Endpoint> {
    nodes.iter().map(|(index, ip)| endpoint(lab, *index, *ip, port)).collect()
}

/// Where the etcd of the node with this index and this address listens for clients.
pub(crate) fn endpoint(lab: &Lab, index: u32, ip: IpAddr, port: u16) -> Endpoint {
    Endpoint { name: lab.name.node(index), ip, port, voter: lab.is_voter(index) }
}

/// Those of the nodes that are not wanted to run, with where their etcds would listen for clients.
pub(crate) fn away(
    lab: &Lab,
    nodes: impl Iterator<Item = (u32, IpAddr, Power)>,
    port: u16,
) -> Away {
    let nodes = nodes.filter(|(_, _, wanted)| *wanted != Power::On);
    let nodes = nodes.map(|(index, ip, wanted)| (endpoint(lab, index, ip, port), wanted));
    Away { lab: lab.name.to_string(), nodes: nodes.collect() }
}
