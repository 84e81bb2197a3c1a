//! The devices that the host has for the network cards of a domain that runs.

use anyhow::Result;
use virt::connect::Connect;
use virt::error::ErrorNumber;

use super::Hypervisor;
use super::domains::own_domain;
use super::error::{Already, Doing};
use crate::lab::Lab;
use crate::render::element::Element;

impl Hypervisor {
    /// The names of these devices, `vnet0`: none of a domain that is off or not there, or whose cards have none.
    /// <https://libvirt.org/formatdomain.html#overriding-the-target-element>
    ///
    /// # Errors
    /// If libvirt cannot tell.
    pub(crate) fn node_taps(&self, lab: &Lab, index: u32) -> Result<Vec<String>> {
        Self::taps(&self.connection()?, lab, index)
    }

    /// The same over this connection.
    ///
    /// # Errors
    /// If libvirt cannot tell.
    pub(crate) fn taps(connection: &Connect, lab: &Lab, index: u32) -> Result<Vec<String>> {
        let doing = || format!("reading domain `{}`", lab.name.node(index));
        let Some(domain) = own_domain(connection, lab, index)? else { return Ok(Vec::new()) };
        let read = || if domain.is_active()? { domain.xml_desc(0).map(Some) } else { Ok(None) };
        let xml = read().already(&[ErrorNumber::NoDomain]).doing(doing)?.flatten();
        xml.map_or_else(|| Ok(Vec::new()), |xml| Ok(of(&Element::parse(&xml)?)))
    }
}

fn of(domain: &Element) -> Vec<String> {
    let devices = domain.child("devices").into_iter().flat_map(|devices| &devices.children);
    let cards = devices.filter(|device| device.name == "interface");
    let tap = |card: &Element| card.child("target")?.attribute("dev").map(str::to_owned);
    cards.filter_map(tap).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_network_cards_with_a_device_have_one() {
        let xml = "<domain><devices><disk><target dev='vda'/></disk>\
            <interface type='network'><target dev='vnet3'/></interface>\
            <interface type='user'/></devices></domain>";
        assert_eq!(of(&Element::parse(xml).unwrap()), ["vnet3"]);
    }
}
