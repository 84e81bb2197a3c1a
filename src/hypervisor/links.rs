//! The links of a domain's network cards: the cable that is pulled, and plugged in again. Both what runs and what libvirt keeps
//! have it, so that a node which is cut off is so after its next start as well.

use anyhow::{Result, bail};
use virt::connect::Connect;
use virt::domain::Domain;
use virt::error::ErrorNumber;

use super::Hypervisor;
use super::cards::{update_cards, update_running_cards};
use super::domains::own_domain;
use super::error::{Already, Doing};
use super::kept::kept_domain;
use crate::lab::Lab;
use crate::lab::fault::Link;
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
        let changed = |card: &_| (links::is_up(card) != is_up).then(|| with_link(card, is_up));
        update_cards(&domain, changed).doing(doing)
    }

    /// The same in what runs of a domain alone: whatever it is now, its next start is as it was to be.
    ///
    /// # Errors
    /// If libvirt cannot.
    pub fn set_running_link(&self, lab: &Lab, index: u32, is_up: bool) -> Result<()> {
        let doing = || format!("setting the link of domain `{}`", lab.name.node(index));
        let Some(domain) = own_domain(&self.connection()?, lab, index)? else { return Ok(()) };
        let changed = |card: &_| (links::is_up(card) != is_up).then(|| with_link(card, is_up));
        update_running_cards(&domain, changed).doing(doing)
    }
}

/// The link of a domain, given what runs of it (what is kept if it is off). Both are looked at where one of them may be without.
pub(super) fn link_of(domain: &Domain, xml: &str, is_to_be_cut: bool) -> Result<Link> {
    let doing = || "reading a domain".to_owned();
    let link = links::of(xml);
    if link == Link::Up && !is_to_be_cut {
        return Ok(link);
    }
    let kept = kept_domain(domain).already(&[ErrorNumber::NoDomain]).doing(doing)?;
    let is_same = kept.is_none_or(|kept| links::of(&kept) == link);
    Ok(if is_same { link } else { Link::Between })
}
