//! Writes the marks of objects that are there already anew, of those that run and of what libvirt
//! keeps of them both.

use anyhow::{Context, Result, bail};
use serde::Deserialize;
use virt::connect::Connect;
use virt::domain::Domain;
use virt::error::ErrorNumber;
use virt::sys;

use super::domains::own_domain;
use super::error::{Already, Doing};
use super::{Hypervisor, raw};
use crate::lab::metadata::{Desired, Mark, NAMESPACE};
use crate::lab::{Lab, MacAddr, Node};

impl Hypervisor {
    /// Brings the mark of a node's domain up to date.
    ///
    /// # Errors
    /// If libvirt cannot, or the domain is not there any more.
    pub fn mark_domain(
        connection: &Connect,
        lab: &Lab,
        index: u32,
        desired: Desired,
    ) -> Result<()> {
        let name = lab.name.node(index);
        let doing = || format!("writing the mark of domain `{name}`");
        let (domain, flags) = described_domain(connection, lab, index, doing)?;
        let mark = Mark::of_node(lab, index, desired).to_plain_xml()?;
        let kind = sys::VIR_DOMAIN_METADATA_ELEMENT.cast_signed();
        domain.set_metadata(kind, Some(&mark), Some(KEY), Some(NAMESPACE), flags).doing(doing)?;
        Ok(())
    }

    /// Brings the title and the description of a node's domain up to date with its new `xml`: they may tell how many
    /// nodes the lab has.
    ///
    /// # Errors
    /// If libvirt cannot, or the domain is not there any more.
    pub fn title_domain(connection: &Connect, lab: &Lab, index: u32, xml: &str) -> Result<()> {
        let name = lab.name.node(index);
        let doing = || format!("writing the title of domain `{name}`");
        let (domain, flags) = described_domain(connection, lab, index, doing)?;
        let texts: Texts = quick_xml::de::from_str(xml).with_context(doing)?;
        for (kind, text) in [
            (sys::VIR_DOMAIN_METADATA_TITLE, texts.title),
            (sys::VIR_DOMAIN_METADATA_DESCRIPTION, texts.description),
        ] {
            let Some(text) = text.as_deref() else { continue };
            domain.set_metadata(kind.cast_signed(), Some(text), None, None, flags).doing(doing)?;
        }
        Ok(())
    }

    /// Brings the mark of the lab's network up to date.
    ///
    /// # Errors
    /// If libvirt cannot, or the network is not there any more.
    pub fn mark_network(&self, lab: &Lab) -> Result<()> {
        let doing = || format!("writing the mark of network `{}`", lab.name);
        let Some(network) = self.own_network(lab)? else {
            bail!("writing the mark of network `{}`: it is not there any more", lab.name);
        };
        let mut flags = sys::VIR_NETWORK_UPDATE_AFFECT_CONFIG;
        if network.is_active().doing(doing)? {
            flags |= sys::VIR_NETWORK_UPDATE_AFFECT_LIVE;
        }
        let mark = Mark::of_lab(lab);
        let plain = mark.to_plain_xml()?;
        let written = raw::set_network_metadata(&network, &plain, KEY, NAMESPACE, flags);
        if written.already(&[ErrorNumber::NoSupport]).doing(doing)? == Some(true) {
            return Ok(());
        }
        // Before libvirt 9.7 what runs keeps its mark until it is started again; we look at what libvirt
        // keeps of it.
        let xml = Self::kept_xml(&network).doing(doing)?;
        let Some(xml) = with_mark(&xml, &mark.to_xml()?) else {
            bail!("writing the mark of network `{}`: it has none", lab.name);
        };
        self.define_network(lab, &xml)
    }

    /// Reserves the addresses of nodes in the lab's network that it does not have yet.
    ///
    /// # Errors
    /// If libvirt cannot, or the network is not there any more.
    pub fn reserve_addresses(&self, lab: &Lab) -> Result<()> {
        let doing = || format!("reserving addresses in network `{}`", lab.name);
        let Some(network) = self.own_network(lab)? else {
            bail!("reserving addresses in network `{}`: it is not there any more", lab.name);
        };
        let mut places =
            vec![(Self::kept_xml(&network).doing(doing)?, sys::VIR_NETWORK_UPDATE_AFFECT_CONFIG)];
        if network.is_active().doing(doing)? {
            let running = network.xml_desc(0).doing(doing)?;
            places.push((running, sys::VIR_NETWORK_UPDATE_AFFECT_LIVE));
        }
        for (xml, flags) in places {
            let nodes = lab.nodes().into_iter();
            let lacking = nodes.filter(|node| !xml.contains(&mac(node.mac)));
            for host in lacking.filter_map(|node| reservation(&node)) {
                let command = sys::VIR_NETWORK_UPDATE_COMMAND_ADD_LAST;
                let section = sys::VIR_NETWORK_SECTION_IP_DHCP_HOST;
                network.update(command, section, -1, &host, flags).doing(doing)?;
            }
        }
        Ok(())
    }
}

/// A node's domain, and the flags that write into what libvirt keeps of it and into what runs. `doing` is for errors.
fn described_domain(
    connection: &Connect,
    lab: &Lab,
    index: u32,
    doing: impl Fn() -> String,
) -> Result<(Domain, u32)> {
    let Some(domain) = own_domain(connection, lab, index)? else {
        bail!("{}: it is not there any more", doing());
    };
    let mut flags = sys::VIR_DOMAIN_AFFECT_CONFIG;
    if domain.is_active().doing(doing)? {
        flags |= sys::VIR_DOMAIN_AFFECT_LIVE;
    }
    Ok((domain, flags))
}

/// What a domain's XML tells people.
#[derive(Deserialize)]
struct Texts {
    title: Option<String>,
    description: Option<String>,
}

/// <https://libvirt.org/formatnetwork.html#addressing>
fn reservation(node: &Node) -> Option<String> {
    let Node { name, mac, ip, .. } = node;
    Some(format!("<host mac='{mac}' name='{name}' ip='{}'/>", (*ip)?))
}

/// As libvirt writes it.
fn mac(mac: MacAddr) -> String {
    format!("mac='{mac}'")
}

/// An object's XML with another mark in the place of its own.
pub(super) fn with_mark(xml: &str, mark: &str) -> Option<String> {
    let start = xml.find("<virtlab:lab ")?;
    let end = start + xml[start..].find(END)? + END.len();
    Some(format!("{}{mark}{}", &xml[..start], &xml[end..]))
}

const END: &str = "</virtlab:lab>";
/// The prefix of our namespace in libvirt's XML.
const KEY: &str = "virtlab";

#[cfg(test)]
mod tests {
    use super::*;
    use crate::lab::tests::lab;

    #[test]
    fn a_network_is_given_another_mark_and_nothing_else() {
        let xml = include_str!("../../tests/fixtures/v0.1/network.xml");
        let mark = Mark::of_lab(&lab(3));
        let changed = with_mark(xml, &mark.to_xml().unwrap()).unwrap();
        assert_eq!(Mark::from_object_xml(&changed).unwrap(), Some(mark));
        let old = Mark::from_object_xml(xml).unwrap().unwrap();
        assert_eq!(with_mark(&changed, "").unwrap(), with_mark(xml, "").unwrap());
        assert_ne!(old.lab.uuid, lab(3).uuid);
    }
}
