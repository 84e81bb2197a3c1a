//! Where the nodes of a lab are: reserved addresses, those that the boot server has seen, and those that
//! this host's kernel knows.

use std::collections::BTreeMap;
use std::net::IpAddr;

use anyhow::Result;

use crate::boot_server::client::Client;
use crate::boot_server::recorder::timeline::NodeTimeline;
use crate::host::{self, neighbour};
use crate::hypervisor::Hypervisor;
use crate::lab::{Lab, MacAddr, Network};

/// The address of each node, by its index, as far as anybody knows it: reserved, seen by the boot
/// server, or, where somebody else's servers boot it, in this host's neighbour table. `search` asks
/// a whole foreign subnet for the nodes that are missing.
pub(crate) fn of(
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
        let neighbours = neighbours(hypervisor, lab, search);
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
pub(crate) fn find(
    hypervisor: &Hypervisor,
    lab: &Lab,
    search: bool,
) -> Result<BTreeMap<u32, IpAddr>> {
    let status = match lab.spec.network.managed() {
        Some(_) => None,
        None => Client::new(lab)?.status(),
    };
    let timeline = status.map(|status| status.timeline.nodes).unwrap_or_default();
    Ok(of(hypervisor, lab, &timeline, search))
}

/// The addresses of nodes that somebody else's DHCP server gave them, by their MAC addresses, as
/// far as this host has spoken with them. `search` asks for all of them first.
fn neighbours(hypervisor: &Hypervisor, lab: &Lab, search: bool) -> Vec<(MacAddr, IpAddr)> {
    let bridge = match &lab.spec.network {
        Network::Managed(_) => None,
        Network::Bridge(bridge) => Some(bridge.clone()),
        Network::Existing(name) => {
            hypervisor.network(name).ok().flatten().and_then(|network| network.bridge)
        }
    };
    let Some(bridge) = bridge else { return Vec::new() };
    if search && let Ok(Some(subnet)) = host::interface_subnet(&bridge) {
        neighbour::arp_sweep(subnet);
    }
    let found = neighbour::on_interface(&bridge).into_iter();
    found.map(|(ip, mac)| (mac, ip.into())).collect()
}
