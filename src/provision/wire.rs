//! Checks, before anything is made, of a wire that is not ours: a host's bridge or a libvirt
//! network that exists already. Nothing here changes anything.

use std::net::IpAddr;

use anyhow::{Context, Result};
use uuid::Uuid;

use crate::error::hinted;
use crate::host::{self, bridge};
use crate::hypervisor::{Attachment, Hypervisor, Inventory, SeenNetwork};
use crate::lab::hardware::Nic;
use crate::lab::options::LabOptions;
use crate::lab::{Lab, MacAddr, Network};

/// A wire that was found fit for a lab.
#[derive(Debug, Default)]
pub(crate) struct Wire {
    /// The host's bridge, if there is one.
    pub(crate) bridge: Option<String>,
    /// The host's own address on it.
    pub(crate) address: Option<IpAddr>,
    /// What it lacks.
    pub(crate) lacks: Option<String>,
}

impl Wire {
    /// The interface on which the host's boot server sees the nodes of `lab`: the bridge, if it is there that it listens.
    pub(crate) fn interface_of(&self, lab: &Lab) -> Option<String> {
        self.bridge.clone().filter(|_| self.address == Some(lab.spec.boot_address))
    }
}

/// Finds the wire that nodes on `network` are attached to. `session` says that libvirt is the user's own.
///
/// # Errors
/// If nodes cannot be attached to it, with what to do about it.
pub(crate) fn find(network: &Network, inventory: &Inventory, session: bool) -> Result<Wire> {
    match network {
        Network::Managed(_) => Ok(Wire::default()),
        Network::Bridge(name) => {
            bridge::require(name, session)?;
            let address = host::interface_address(name)?;
            Ok(Wire { bridge: Some(name.clone()), address, lacks: None })
        }
        Network::Existing(name) => {
            let network = require_network(name, inventory.networks.get(name))?;
            let lacks = (!network.boots).then(|| {
                format!(
                    "network `{name}` names no boot file: its nodes need a PXE server, such as \
                     `virtlab pxe serve --proxy-dhcp` or what `virtlab pxe export` prepares"
                )
            });
            let address = match (&network.address, &network.bridge) {
                (Some(address), _) => Some((*address).into()),
                (None, Some(bridge)) => host::interface_address(bridge)?,
                (None, None) => None,
            };
            Ok(Wire { bridge: network.bridge.clone(), address, lacks })
        }
    }
}

/// Refuses further network cards on networks and bridges that are not there.
pub(crate) fn refuse_missing_nics(lab: &Lab, inventory: &Inventory, session: bool) -> Result<()> {
    let (has_own_network, own_name) = (lab.spec.network.managed().is_some(), lab.name.to_string());
    for nic in &lab.spec.hardware.nics {
        match nic {
            Nic::Bridge(name) => bridge::require(name, session).map(drop),
            // The lab's own network may be still to be made.
            Nic::Network(name) if has_own_network && *name == own_name => Ok(()),
            Nic::Network(name) => require_network(name, inventory.networks.get(name)).map(drop),
        }
        .with_context(|| format!("checking --nic {nic}"))?;
    }
    Ok(())
}

/// Only root may make a bridge, and the user's own libvirt is not root's.
pub(crate) fn refuse_own_network_in_session(
    hypervisor: &Hypervisor,
    options: &LabOptions,
) -> Result<()> {
    if hypervisor.is_session()? && options.foreign_network()?.is_none() {
        return Err(hinted(
            format!(
                "lab `{}` cannot have a network of its own at {}: that takes a bridge, which only the \
                 host's own libvirt may make",
                options.lab_name(),
                hypervisor.uri()?
            ),
            "`virtlab --connect qemu:///system create …` makes one; here nodes can be attached to a bridge \
             that exists: --network bridge --bridge br0",
        ));
    }
    Ok(())
}

/// Refuses MAC addresses that other domains on the same wire have, but for those of the lab with the
/// UUID `replaced`.
pub(crate) fn refuse_taken_macs(
    lab: &Lab,
    replaced: Option<Uuid>,
    wire: &Wire,
    cards: &[Attachment],
) -> Result<()> {
    let Some(bridge) = &wire.bridge else { return Ok(()) };
    let Some((mac, owner)) = clash(lab, replaced, bridge, cards) else { return Ok(()) };
    Err(hinted(
        format!("MAC address {mac} is that of domain `{owner}` on bridge `{bridge}` already"),
        "choose other addresses by --mac-prefix, such as 52:54:00:12:34, or another name for the lab",
    ))
}

fn require_network<'a>(name: &str, network: Option<&'a SeenNetwork>) -> Result<&'a SeenNetwork> {
    let Some(network) = network else {
        return Err(hinted(
            format!("there is no libvirt network `{name}`"),
            "`virsh net-list --all` shows those there are; networks of a lab's own are nat, isolated and routed",
        ));
    };
    if let Some(lab) = &network.lab {
        return Err(hinted(
            format!("network `{name}` belongs to lab `{lab}` and goes with it"),
            "name a network that was not made by virtlab",
        ));
    }
    if !network.active {
        return Err(hinted(
            format!("network `{name}` is not active"),
            format!("`virsh net-start {name}` starts it"),
        ));
    }
    Ok(network)
}

fn clash(
    lab: &Lab,
    replaced: Option<Uuid>,
    bridge: &str,
    cards: &[Attachment],
) -> Option<(MacAddr, String)> {
    let macs: Vec<MacAddr> = lab.nodes().iter().map(|node| node.mac).collect();
    let is_other = |card: &&Attachment| {
        card.lab.is_none_or(|owner| owner != lab.uuid && Some(owner) != replaced)
    };
    let others = cards.iter().filter(is_other);
    let mut taken = others.filter(|card| card.bridge == bridge && macs.contains(&card.mac));
    taken.next().map(|card| (card.mac, card.domain.clone()))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;
    use crate::lab::tests::lab;

    #[test]
    fn a_mac_address_clashes_with_anothers_on_the_same_bridge_only() {
        let lab = lab(2);
        let card = |owner: Option<Uuid>, mac: &str, bridge: &str| Attachment {
            domain: "vm".to_owned(),
            lab: owner,
            mac: mac.parse().unwrap(),
            bridge: bridge.to_owned(),
        };
        for (attachment, clashes) in [
            (card(None, "52:54:00:12:34:02", "br0"), true),
            (card(Some(Uuid::nil()), "52:54:00:12:34:02", "br0"), true),
            (card(Some(lab.uuid), "52:54:00:12:34:02", "br0"), false),
            (card(None, "52:54:00:12:34:03", "br0"), false),
            (card(None, "52:54:00:12:34:02", "br1"), false),
        ] {
            assert_eq!(
                clash(&lab, None, "br0", std::slice::from_ref(&attachment)).is_some(),
                clashes,
                "{attachment:?}"
            );
        }
    }

    #[test]
    fn a_network_must_be_there_be_active_and_be_nobodys() {
        let network = SeenNetwork {
            name: "lan".to_owned(),
            active: true,
            lab: None,
            bridge: None,
            address: None,
            boots: false,
            subnets: Vec::new(),
            reserved: BTreeSet::new(),
        };
        let inactive = SeenNetwork { active: false, ..network.clone() };
        let of_lab = SeenNetwork { lab: Some("demo".to_owned()), ..network.clone() };
        for (found, expected) in [
            (None, "there is no libvirt network `lan`"),
            (Some(&inactive), "network `lan` is not active"),
            (Some(&of_lab), "network `lan` belongs to lab `demo` and goes with it"),
        ] {
            assert_eq!(require_network("lan", found).unwrap_err().to_string(), expected);
        }
        assert_eq!(require_network("lan", Some(&network)).unwrap(), &network);
    }
}
