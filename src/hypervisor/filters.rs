//! The filters of libvirt that keep nodes apart. A filter has no metadata, so it is ours if its UUID is the one that the lab's
//! leads to. It is defined before a card names it, and goes after none does.
//!
//! <https://libvirt.org/formatnwfilter.html>

use anyhow::{Result, bail, ensure};
use virt::connect::Connect;
use virt::domain::Domain;
use virt::error::ErrorNumber;
use virt::nwfilter::NWFilter;

use super::Hypervisor;
use super::cards::update_cards;
use super::domains::own_domain;
use super::error::{Already, Doing};
use super::kept::kept_domain;
use crate::lab::Lab;
use crate::lab::fault::Filter;
use crate::lab::node_set::NodeSet;
use crate::render::element::Element;
use crate::render::filters::{self, filter_of, with_filter};
use crate::render::links::cards;

impl Hypervisor {
    /// Whether libvirt has network filters: its drivers for tests and for a user's own QEMU have none that work.
    ///
    /// # Errors
    /// If it cannot tell.
    pub fn has_filters(&self) -> Result<bool> {
        let there = self.connection()?.list_all_nw_filters(0);
        let there = there.already(&[ErrorNumber::NoSupport]);
        Ok(there.doing(|| "listing network filters".to_owned())?.is_some() && !self.is_session()?)
    }

    /// Which of these nodes have a card with a filter that is not the lab's. A card has one filter at the most.
    ///
    /// # Errors
    /// If libvirt cannot tell.
    pub fn filtered_otherwise(&self, lab: &Lab, nodes: &[u32]) -> Result<Vec<u32>> {
        self.nodes_with(lab, nodes, |index, domain| {
            let name = lab.filter_name(index);
            cards(domain).filter_map(filter_of).any(|filter| filter != name)
        })
    }

    /// Keeps a node apart from others, by a filter on all of its network cards. It is in force when this returns.
    ///
    /// # Errors
    /// If libvirt cannot, or the domain is not there any more.
    pub fn part(connection: &Connect, lab: &Lab, index: u32, from: NodeSet) -> Result<()> {
        let name = lab.name.node(index);
        let doing = || format!("keeping domain `{name}` apart");
        let Some(domain) = own_domain(connection, lab, index)? else {
            bail!("{}: it is not there any more", doing());
        };
        // It would take another one's name, since a filter is known by that.
        own_filter(connection, lab, index)?;
        connection.define_nwfilter_xml(&filters::xml(lab, index, from)).doing(doing)?;
        let filter = lab.filter_name(index);
        update_cards(&domain, |card| changed(card, &filter, true)).doing(doing)
    }

    /// Lets a node hear all others again, and removes its filter.
    ///
    /// # Errors
    /// If libvirt cannot.
    pub fn join(connection: &Connect, lab: &Lab, index: u32) -> Result<()> {
        let doing = || format!("letting domain `{}` hear all nodes again", lab.name.node(index));
        let filter = lab.filter_name(index);
        if let Some(domain) = own_domain(connection, lab, index)? {
            update_cards(&domain, |card| changed(card, &filter, false)).doing(doing)?;
        }
        let Some(filter) = own_filter(connection, lab, index)? else { return Ok(()) };
        filter.undefine().already(&[ErrorNumber::NoNwfilter]).doing(doing)?;
        Ok(())
    }
}

/// What keeps a node apart, given what runs of its domain (what is kept if it is off).
pub(super) fn filter_on(
    connection: &Connect,
    lab: &Lab,
    index: u32,
    domain: &Domain,
    xml: &str,
    is_wanted: bool,
) -> Result<Filter> {
    let name = lab.filter_name(index);
    if !is_wanted && filters::named(xml, &name, NodeSet::default()) == Filter::Absent {
        return Ok(Filter::Absent);
    }
    let doing = || format!("reading domain `{}`", lab.name.node(index));
    let filter = own_filter(connection, lab, index)?;
    let gone = [ErrorNumber::NoNwfilter, ErrorNumber::NoDomain];
    let filter = filter.map(|filter| filter.xml_desc(0)).transpose();
    let filter = filter.already(&gone).doing(doing)?.flatten();
    let from = filter.map(|xml| filters::kept_apart(lab, index, &xml)).transpose()?;
    let kept = kept_domain(domain).already(&gone).doing(doing)?;
    let from_whom = from.flatten().unwrap_or_default();
    let named = filters::named(xml, &name, from_whom);
    let is_same = kept.is_none_or(|kept| filters::named(&kept, &name, from_whom) == named);
    Ok(match (from, named) {
        (None, Filter::Absent) if is_same => Filter::Absent,
        (Some(Some(_)), Filter::InForce(_)) if is_same => named,
        _ => Filter::Between,
    })
}

/// The filter of a node.
fn own_filter(connection: &Connect, lab: &Lab, index: u32) -> Result<Option<NWFilter>> {
    let name = lab.filter_name(index);
    let doing = || format!("looking up network filter `{name}`");
    // A driver without filters has none of ours.
    let gone = [ErrorNumber::NoNwfilter, ErrorNumber::NoSupport];
    let Some(filter) = connection.lookup_nwfilter_by_name(&name).already(&gone).doing(doing)?
    else {
        return Ok(None);
    };
    let is_ours = filter.uuid().doing(doing)? == lab.filter_uuid(index);
    ensure!(is_ours, "network filter `{name}` is not the lab's; it is left alone");
    Ok(Some(filter))
}

/// A card that is to have the filter and has not, or the other way round.
fn changed(card: &Element, filter: &str, is_filtered: bool) -> Option<Element> {
    let differs = (filter_of(card) == Some(filter)) != is_filtered;
    differs.then(|| with_filter(card, filter, is_filtered))
}
