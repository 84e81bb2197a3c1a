//! What of the faults of a node is in force. What libvirt keeps of a domain is asked for beside what runs only where there is a
//! fault, or was one: a look at labs without faults takes no call more.

use anyhow::Result;
use virt::connect::Connect;
use virt::domain::Domain;

use super::filters::filter_on;
use super::limits::level_of;
use super::links::link_of;
use crate::lab::Lab;
use crate::lab::fault::{FaultName, Faults, InForce, Limits, Wire};

/// A domain of a node that was looked at.
pub(super) struct SeenDomain<'a> {
    pub(super) lab: &'a Lab,
    pub(super) index: u32,
    pub(super) domain: &'a Domain,
    /// What runs of it; what is kept if it is off.
    pub(super) xml: &'a str,
}

impl SeenDomain<'_> {
    /// What is in force of these faults, which its mark names, and what is left of others.
    pub(super) fn in_force(&self, connection: &Connect, faults: Faults) -> Result<InForce> {
        let Self { lab, index, domain, xml } = *self;
        let mut limits = Limits::default();
        for limit in faults.iter().filter_map(|fault| fault.kind.limit()) {
            limits = limits.with(limit.name(), level_of(domain, xml, limit.name())?);
        }
        let is_parted = faults.has(FaultName::Partition);
        Ok(InForce {
            link: link_of(domain, xml, faults.has(FaultName::Cut))?,
            filter: filter_on(connection, lab, index, domain, xml, is_parted)?,
            limits,
            // No work of libvirt's.
            wire: Wire::Unseen,
        })
    }
}
