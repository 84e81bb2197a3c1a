//! Whether nodes are ready, asked of the nodes themselves: what `create` waits for, and what `status`
//! and `verify` tell.

use std::net::IpAddr;

use anyhow::Result;

use crate::cluster::etcd::{self, Endpoint};
use crate::cluster::readiness;
use crate::lab::Lab;

/// Whether each of these nodes is ready, all asked at the same time. Where having fetched the config
/// is enough, they are.
pub(crate) fn are_ready(lab: &Lab, nodes: &[(&str, IpAddr)]) -> Result<Vec<bool>> {
    let nodes = endpoints(nodes, etcd::CLIENT_PORT);
    readiness::are_ready(&lab.spec.ready, lab.spec.ready_user.as_deref(), &nodes)
}

/// Where the etcds of these nodes listen for clients.
pub(crate) fn endpoints(nodes: &[(&str, IpAddr)], port: u16) -> Vec<Endpoint> {
    nodes.iter().map(|(name, ip)| Endpoint { name: (*name).to_owned(), ip: *ip, port }).collect()
}
