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
    let update = |xml: &str, flags: u32| {
        let Ok(element) = Element::parse(xml) else { return Ok(()) };
        let mut changed = cards(&element).filter_map(&change);
        changed.try_for_each(|card| domain.update_device_flags(&card.to_string(), flags))
    };
    update(&kept_domain(domain)?, sys::VIR_DOMAIN_AFFECT_CONFIG)?;
    if domain.is_active()? {
        update(&domain.xml_desc(0)?, sys::VIR_DOMAIN_AFFECT_LIVE)?;
    }
    Ok(())
}
