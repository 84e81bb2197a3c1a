//! What the nodes of a lab take in memory.

use std::collections::BTreeMap;

use anyhow::Result;

use crate::hypervisor::{Found, Hypervisor};
use crate::ksm::process::Processes;
use crate::ksm::{Ksm, KsmError, KsmStatus};
use crate::lab::plan::DomainState;
use crate::memory::{LabMemory, NodeMemory};

/// The memory of a lab: of this host's processes, or what libvirt knows of another host's.
pub(crate) fn observe(hypervisor: &Hypervisor, found: &Found) -> Result<LabMemory> {
    let is_local = hypervisor.is_local()?;
    let domains = hypervisor.domain_memory(&found.lab)?;
    let processes = Processes::host();
    let pids = if is_local { processes.qemu_by_uuid()? } else { BTreeMap::new() };
    let page_size = Ksm::host().page_size();
    let node_memory = |index: u32, name: &str| {
        let (Some(state), Some(domain)) = (found.domains.get(&index), domains.get(&index)) else {
            return NodeMemory::none(name, "a node is missing");
        };
        match (state, pids.get(&domain.uuid)) {
            (DomainState::Off, _) => NodeMemory::none(name, "a node is off"),
            (_, Some(pid)) => NodeMemory::of(name, processes.memory(*pid, page_size)),
            (_, None) if is_local => {
                NodeMemory::unknown(name, "there is no QEMU process of a node on this host")
            }
            (_, None) => NodeMemory {
                resident_bytes: domain.resident_bytes,
                ..NodeMemory::unknown(name, "libvirt does not tell what is merged of a node")
            },
        }
    };
    let nodes = found.lab.nodes();
    let nodes = nodes.iter().map(|node| node_memory(node.index, &node.name)).collect();
    let ksm = if is_local { local_ksm() } else { hypervisor.ksm_status()? };
    Ok(LabMemory::new(nodes, ksm))
}

/// That it cannot be read is no reason to show nothing.
fn local_ksm() -> Option<KsmStatus> {
    match Ksm::host().status() {
        Ok(status) => Some(status),
        Err(KsmError::NotInKernel { .. }) => None,
        Err(error) => {
            tracing::warn!("{error}");
            None
        }
    }
}
