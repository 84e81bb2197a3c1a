//! The network cards of a domain, of which both what runs and what libvirt keeps are changed.

use virt::domain::Domain;
use virt::error::Error;
use virt::sys;

use super::kept::kept_domain;
use crate::render::element::Element;
use crate::render::links::cards;

/// Changes the cards in what libvirt keeps of a domain and then in what of it runs, each by its own XML. `change` gives a card as
/// it is to be; `None` leaves it alone.
pub(super) fn update_cards(
    domain: &Domain,
    change: impl Fn(&Element) -> Option<Element>,
) -> Result<(), Error> {
    update(domain, &kept_domain(domain)?, sys::VIR_DOMAIN_AFFECT_CONFIG, &change)?;
    update_running_cards(domain, change)
}

/// Changes the cards in what of a domain runs, if it does.
pub(super) fn update_running_cards(
    domain: &Domain,
    change: impl Fn(&Element) -> Option<Element>,
) -> Result<(), Error> {
    if domain.is_active()? {
        update(domain, &domain.xml_desc(0)?, sys::VIR_DOMAIN_AFFECT_LIVE, &change)?;
    }
    Ok(())
}

fn update(
    domain: &Domain,
    xml: &str,
    flags: u32,
    change: &impl Fn(&Element) -> Option<Element>,
) -> Result<(), Error> {
    let Ok(element) = Element::parse(xml) else { return Ok(()) };
    let mut changed = cards(&element).filter_map(change);
    changed.try_for_each(|card| domain.update_device_flags(&card.to_string(), flags))
}
