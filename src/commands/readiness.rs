//! Whether nodes are ready, asked of the nodes themselves: what `create` waits for, and what `status`
//! and `verify` tell.

use std::collections::BTreeMap;
use std::net::IpAddr;

use anyhow::Result;

use super::attach;
use crate::boot_server::process::Client;
use crate::boot_server::timeline::{NodeTimeline, Stage};
use crate::cluster::etcd::{self, Endpoint};
use crate::cluster::ssh;
use crate::hypervisor::Hypervisor;
use crate::images::Readiness;
use crate::lab::Lab;
use crate::lab::boot::Transport;

/// The address of each node, by its index, as far as anybody knows it: reserved, seen by the boot
/// server, or, where somebody else's servers boot it, in this host's neighbour table. `search` asks
/// a whole foreign subnet for the nodes that are missing.
pub(super) fn addresses(
    hypervisor: &Hypervisor,
    lab: &Lab,
    timeline: &[NodeTimeline],
    search: bool,
) -> BTreeMap<u32, IpAddr> {
    let nodes = lab.nodes();
    let reserved = nodes.iter().filter_map(|node| Some((node.index, node.ip?.into())));
    let seen = timeline.iter().filter_map(|node| Some((node.index, node.ip?)));
    let mut addresses: BTreeMap<u32, IpAddr> = seen.chain(reserved).collect();
    if addresses.len() < nodes.len() {
        let neighbours = attach::neighbours(hypervisor, lab, search);
        for node in nodes {
            let neighbour = neighbours.iter().find(|(mac, _)| *mac == node.mac);
            if let Some((_, ip)) = neighbour {
                addresses.entry(node.index).or_insert(*ip);
            }
        }
    }
    addresses
}

/// The same for those who know no timeline. Where every address is reserved, nobody is asked.
pub(super) fn find_addresses(
    hypervisor: &Hypervisor,
    lab: &Lab,
    search: bool,
) -> Result<BTreeMap<u32, IpAddr>> {
    let status = match lab.spec.network.managed() {
        Some(_) => None,
        None => Client::new(lab)?.status(),
    };
    let timeline = status.map(|status| status.timeline.nodes).unwrap_or_default();
    Ok(addresses(hypervisor, lab, &timeline, search))
}

/// The last stage of a boot that the boot server sees; what comes after it, the node itself has to
/// tell. An image without a config asks for none, and what goes by TFTP is not seen.
pub(super) fn last_seen_stage(lab: &Lab) -> Stage {
    match (lab.spec.config.is_none(), lab.spec.boot.transport) {
        (false, _) => Stage::Config,
        (true, Transport::Http) => Stage::Kernel,
        (true, Transport::Tftp) => Stage::PowerOn,
    }
}

/// Whether each of these nodes is ready, all asked at the same time. Where having fetched the config
/// is enough, they are.
pub(super) fn are_ready(lab: &Lab, nodes: &[(&str, IpAddr)]) -> Result<Vec<bool>> {
    Ok(match lab.spec.ready {
        Readiness::Config => vec![true; nodes.len()],
        Readiness::Ssh => ssh::answer(&nodes.iter().map(|(_, ip)| *ip).collect::<Vec<_>>()),
        Readiness::Etcd => {
            let reports = etcd::health(&endpoints(nodes, etcd::CLIENT_PORT))?;
            reports.iter().map(|report| report.healthy).collect()
        }
    })
}

/// Where the etcds of these nodes listen for clients.
pub(super) fn endpoints(nodes: &[(&str, IpAddr)], port: u16) -> Vec<Endpoint> {
    nodes.iter().map(|(name, ip)| Endpoint { name: (*name).to_owned(), ip: *ip, port }).collect()
}
