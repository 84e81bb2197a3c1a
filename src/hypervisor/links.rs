//! The links of a domain's network cards: the cable that is pulled, and plugged in again. Both what runs and what libvirt keeps
//! have it, so that a node which is cut off is so after its next start as well.

use anyhow::{Result, bail};
use virt::connect::Connect;
use virt::domain::Domain;
use virt::error::{Error, ErrorNumber};
use virt::sys;

use super::Hypervisor;
use super::domains::own_domain;
use super::error::{Already, Doing};
use super::kept::kept_or_only;
use crate::lab::Lab;
use crate::lab::fault::Link;
use crate::render::element::Element;
use crate::render::links::{self, with_link};

impl Hypervisor {
    /// Takes the link of all network cards of a domain away, or gives it to them. The guest keeps its addresses.
    /// <https://libvirt.org/formatdomain.html#modifying-virtual-link-state>
    ///
    /// # Errors
    /// If libvirt cannot, or the domain is not there any more.
    pub fn set_link(connection: &Connect, lab: &Lab, index: u32, is_up: bool) -> Result<()> {
        let name = lab.name.node(index);
        let doing = || format!("setting the link of domain `{name}`");
        let Some(domain) = own_domain(connection, lab, index)? else {
            bail!("{}: it is not there any more", doing());
        };
        let kept = kept_xml(&domain).doing(doing)?;
        update_cards(&domain, &kept, is_up, sys::VIR_DOMAIN_AFFECT_CONFIG).doing(doing)?;
        if domain.is_active().doing(doing)? {
            let running = domain.xml_desc(0).doing(doing)?;
            update_cards(&domain, &running, is_up, sys::VIR_DOMAIN_AFFECT_LIVE).doing(doing)?;
        }
        Ok(())
    }
}

/// The link of a domain, given what runs of it (what is kept if it is off). Both are looked at where one of them may be without.
pub(super) fn link_of(domain: &Domain, xml: &str, is_to_be_cut: bool) -> Result<Option<Link>> {
    let doing = || "reading a domain".to_owned();
    let link = links::of(xml);
    if link == Link::Up && !is_to_be_cut {
        return Ok(None);
    }
    let kept = kept_xml(domain).already(&[ErrorNumber::NoDomain]).doing(doing)?;
    let is_same = kept.is_none_or(|kept| links::of(&kept) == link);
    Ok(Some(if is_same { link } else { Link::Between }))
}

fn kept_xml(domain: &Domain) -> Result<String, Error> {
    kept_or_only(|flags| domain.xml_desc(flags), sys::VIR_DOMAIN_XML_INACTIVE)
}

/// Updates the cards in `xml` whose link is another one.
fn update_cards(domain: &Domain, xml: &str, is_up: bool, flags: u32) -> Result<(), Error> {
    let Ok(element) = Element::parse(xml) else { return Ok(()) };
    links::cards(&element)
        .filter(|card| links::is_up(card) != is_up)
        .try_for_each(|card| domain.update_device_flags(&with_link(card, is_up).to_string(), flags))
}
