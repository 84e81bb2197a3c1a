//! What libvirt tells of memory: which process a node is and what it takes, and the KSM of a host
//! whose files we cannot read.

use std::collections::BTreeMap;

use anyhow::Result;
use uuid::Uuid;
use virt::error::ErrorNumber;
use virt::sys;

use super::domains::own_domain;
use super::error::{Already, Doing};
use super::{Hypervisor, raw};
use crate::ksm::KsmStatus;
use crate::lab::Lab;

/// The domain of a node, as far as its memory goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DomainMemory {
    /// libvirt's UUID of the domain, which is on QEMU's command line.
    pub uuid: Uuid,
    /// What its process has in memory in bytes; `None` where the driver does not tell or it is off.
    pub resident_bytes: Option<u64>,
}

impl Hypervisor {
    /// The domains of a lab by the index of their node. Those that vanish meanwhile are left out.
    pub fn domain_memory(&self, lab: &Lab) -> Result<BTreeMap<u32, DomainMemory>> {
        let nodes = lab.nodes();
        let each = |connection: &_, node: &crate::lab::Node| {
            let Some(domain) = own_domain(connection, lab, node.index)? else { return Ok(None) };
            let uuid = domain.uuid().doing(|| format!("asking for the UUID of `{}`", node.name))?;
            // Refused for a domain that is off, and by drivers that do not know it.
            let stats = domain.memory_stats(0).unwrap_or_default();
            let resident = stats.iter().find(|stat| stat.tag == sys::VIR_DOMAIN_MEMORY_STAT_RSS);
            let resident_bytes = resident.map(|stat| stat.val * 1024);
            Ok(Some((node.index, DomainMemory { uuid, resident_bytes })))
        };
        let found: Result<Vec<_>> = self.in_parallel(&nodes, each).into_iter().collect();
        Ok(found?.into_iter().flatten().collect())
    }

    /// The KSM of libvirt's host, as libvirt passes it on; `None` where it does not, or where that
    /// host's kernel has none.
    pub fn ksm_status(&self) -> Result<Option<KsmStatus>> {
        let doing = || "asking libvirt for its host's memory".to_owned();
        let unknown = [ErrorNumber::NoSupport];
        let parameters = raw::node_memory_parameters(&self.connection()?).already(&unknown);
        let Some(parameters) = parameters.doing(doing)? else { return Ok(None) };
        let page_size = self.capabilities()?.and_then(|host| host.page_size);
        Ok(page_size.and_then(|bytes| KsmStatus::from_node_memory(&parameters, bytes)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_driver_without_a_host_has_no_ksm() {
        assert_eq!(Hypervisor::open(Some("test:///default")).unwrap().ksm_status().unwrap(), None);
    }
}
