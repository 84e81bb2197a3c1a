//! What is on a wire that is not ours: libvirt networks made by others, and whose network cards
//! are attached where.

use std::collections::{BTreeMap, BTreeSet};
use std::net::Ipv4Addr;

use anyhow::{Context, Result};
use ipnet::Ipv4Net;
use serde::Deserialize;
use uuid::Uuid;
use virt::error::ErrorNumber;

use super::Hypervisor;
use super::error::{Already, Doing};
use crate::lab::MacAddr;
use crate::lab::metadata::Mark;

/// A libvirt network, ours or not, as far as a lab needs to know it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SeenNetwork {
    /// Its name.
    pub name: String,
    /// Whether it is started.
    pub active: bool,
    /// The name of the lab that it was made for, if it was.
    pub lab: Option<String>,
    /// The host's bridge behind it, if there is one.
    pub bridge: Option<String>,
    /// The host's IPv4 address on it, as far as libvirt gave it one.
    pub address: Option<Ipv4Addr>,
    /// Whether libvirt's DHCP server answers on it and names a boot file.
    pub boots: bool,
    /// Its IPv4 subnets.
    pub subnets: Vec<Ipv4Net>,
    /// The MAC addresses that it has an IP address reserved for.
    pub reserved: BTreeSet<MacAddr>,
}

/// A network card of a domain on a wire that others may be on too.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Attachment {
    /// The domain.
    pub domain: String,
    /// The lab that the domain belongs to, if it is one of ours.
    pub lab: Option<Uuid>,
    /// The card's address.
    pub mac: MacAddr,
    /// The host's bridge that it is attached to.
    pub bridge: String,
}

impl Hypervisor {
    /// The libvirt network of this name; `None` if there is none.
    pub fn network(&self, name: &str) -> Result<Option<SeenNetwork>> {
        let doing = || format!("looking up network `{name}`");
        let network = self.connection()?.lookup_network_by_name(name);
        let network = network.already(&[ErrorNumber::NoNetwork]).doing(doing)?;
        let Some(network) = network else { return Ok(None) };
        let active = network.is_active().doing(doing)?;
        let xml = network.xml_desc(0).doing(doing)?;
        parse_network(&xml, active).map(Some)
    }
}

/// Reads a network's XML.
pub(super) fn parse_network(xml: &str, active: bool) -> Result<SeenNetwork> {
    let parsed: NetworkXml = quick_xml::de::from_str(xml).context("reading a network's XML")?;
    let lab = Mark::from_object_xml(xml).ok().flatten().map(|mark| mark.lab.name.to_string());
    let address = parsed.ip.iter().find_map(|ip| ip.address.as_deref()?.parse().ok());
    let boots =
        parsed.ip.iter().any(|ip| ip.dhcp.as_ref().is_some_and(|dhcp| dhcp.bootp.is_some()));
    Ok(SeenNetwork {
        name: parsed.name,
        active,
        subnets: parsed.ip.iter().filter_map(IpXml::subnet).collect(),
        reserved: parsed.ip.iter().flat_map(IpXml::reserved).collect(),
        lab,
        bridge: parsed.bridge.and_then(|bridge| bridge.name),
        address,
        boots,
    })
}

/// Reads the network cards out of a domain's XML; `networks` by name.
pub(super) fn parse_cards(
    xml: &str,
    networks: &BTreeMap<String, SeenNetwork>,
) -> Result<Vec<Attachment>> {
    let domain: DomainXml = quick_xml::de::from_str(xml).context("reading a domain's XML")?;
    // A mark that cannot be understood is warned of by who looks for labs.
    let lab = Mark::from_object_xml(xml).ok().flatten().map(|mark| mark.lab.uuid);
    let cards = domain.devices.unwrap_or_default().interface.into_iter();
    Ok(cards
        .filter_map(|card| {
            let source = card.source?;
            let of_network = || networks.get(source.network.as_deref()?)?.bridge.clone();
            Some(Attachment {
                domain: domain.name.clone(),
                lab,
                mac: card.mac?.address.parse().ok()?,
                bridge: source.bridge.clone().or_else(of_network)?,
            })
        })
        .collect())
}

#[derive(Deserialize)]
struct NetworkXml {
    name: String,
    bridge: Option<BridgeXml>,
    #[serde(default)]
    ip: Vec<IpXml>,
}

#[derive(Deserialize)]
struct BridgeXml {
    #[serde(rename = "@name")]
    name: Option<String>,
}

#[derive(Deserialize)]
struct IpXml {
    #[serde(rename = "@address")]
    address: Option<String>,
    #[serde(rename = "@prefix")]
    prefix: Option<u8>,
    #[serde(rename = "@netmask")]
    netmask: Option<Ipv4Addr>,
    dhcp: Option<DhcpXml>,
}

impl IpXml {
    /// The MAC addresses of its reservations.
    fn reserved(&self) -> impl Iterator<Item = MacAddr> {
        let hosts = self.dhcp.iter().flat_map(|dhcp| &dhcp.host);
        hosts.filter_map(|host| host.mac.as_ref()?.parse().ok())
    }

    /// The IPv4 subnet, if this is one.
    fn subnet(&self) -> Option<Ipv4Net> {
        let address: Ipv4Addr = self.address.as_deref()?.parse().ok()?;
        let net = match (self.prefix, self.netmask) {
            (Some(prefix), _) => Ipv4Net::new(address, prefix).ok()?,
            (None, Some(mask)) => Ipv4Net::with_netmask(address, mask).ok()?,
            (None, None) => return None,
        };
        Some(net.trunc())
    }
}

#[derive(Deserialize)]
struct DhcpXml {
    #[serde(default)]
    host: Vec<HostXml>,
    bootp: Option<BootpXml>,
}

#[derive(Deserialize)]
struct HostXml {
    #[serde(rename = "@mac")]
    mac: Option<String>,
}

#[derive(Deserialize)]
struct BootpXml {}

#[derive(Deserialize)]
struct DomainXml {
    name: String,
    devices: Option<DevicesXml>,
}

#[derive(Default, Deserialize)]
struct DevicesXml {
    #[serde(default)]
    interface: Vec<InterfaceXml>,
}

#[derive(Deserialize)]
struct InterfaceXml {
    mac: Option<MacXml>,
    source: Option<SourceXml>,
}

#[derive(Deserialize)]
struct MacXml {
    #[serde(rename = "@address")]
    address: String,
}

#[derive(Deserialize)]
struct SourceXml {
    #[serde(rename = "@bridge")]
    bridge: Option<String>,
    #[serde(rename = "@network")]
    network: Option<String>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_network_says_what_it_has_and_lacks() {
        let plain = "<network><name>default</name><bridge name='virbr0' stp='on'/>\
            <ip family='ipv6' address='fd00::1' prefix='64'/>\
            <ip address='192.168.122.1' netmask='255.255.255.0'><dhcp><range start='192.168.122.2' end='192.168.122.254'/></dhcp></ip></network>";
        let network = parse_network(plain, false).unwrap();
        assert_eq!(
            network,
            SeenNetwork {
                name: "default".to_owned(),
                active: false,
                subnets: vec!["192.168.122.0/24".parse().unwrap()],
                reserved: BTreeSet::new(),
                lab: None,
                bridge: Some("virbr0".to_owned()),
                address: Some(Ipv4Addr::new(192, 168, 122, 1)),
                boots: false,
            }
        );
        let boots = plain.replace("<dhcp>", "<dhcp><bootp file='pxelinux.0'/>");
        assert!(parse_network(&boots, true).unwrap().boots);
    }

    #[test]
    fn network_cards_are_found_on_the_bridge_behind_their_network() {
        let xml = "<domain><name>vm</name><devices>\
            <interface type='bridge'><mac address='52:54:00:00:00:01'/><source bridge='br0'/></interface>\
            <interface type='network'><mac address='52:54:00:00:00:02'/><source network='lan'/></interface>\
            <interface type='user'><mac address='52:54:00:00:00:03'/></interface>\
            <interface type='network'><mac address='52:54:00:00:00:04'/><source network='nowhere'/></interface>\
            </devices></domain>";
        let lan = "<network><name>lan</name><bridge name='br0'/></network>";
        let networks = BTreeMap::from([("lan".to_owned(), parse_network(lan, true).unwrap())]);
        let found: Vec<String> = parse_cards(xml, &networks)
            .unwrap()
            .iter()
            .map(|card| format!("{} {} {}", card.domain, card.mac, card.bridge))
            .collect();
        assert_eq!(found, ["vm 52:54:00:00:00:01 br0", "vm 52:54:00:00:00:02 br0"]);
    }

    #[test]
    fn subnets_are_read_in_both_of_libvirts_spellings() {
        let xml = "<network><name>default</name><forward mode='nat'/>\
            <ip address='192.168.122.1' netmask='255.255.255.0'><dhcp/></ip>\
            <ip family='ipv6' address='fd00::1' prefix='64'/>\
            <ip address='10.1.2.1' prefix='20'/></network>";
        let network = parse_network(xml, true).unwrap();
        let subnets: Vec<String> = network.subnets.iter().map(ToString::to_string).collect();
        assert_eq!(subnets, ["192.168.122.0/24", "10.1.0.0/20"]);
    }
}
