//! Whether nodes can be held to less than they have: found out before anything is changed.

use anyhow::{Result, bail};

use crate::error::hinted;
use crate::hypervisor::{Found, Hypervisor};
use crate::lab::fault::{FaultKind, Limit, LimitName};
use crate::lab::plan::DomainState;
use crate::lab::size::MemoryMib;
use crate::render::limits;

/// # Errors
/// If libvirt or the host cannot, or if one of these nodes has such a limit of its own, which a heal would not know again.
pub(super) fn refuse_impossible(
    hypervisor: &Hypervisor,
    found: &Found,
    nodes: &[u32],
    kind: FaultKind,
) -> Result<()> {
    let Some(limit) = kind.limit() else { return Ok(()) };
    match limit {
        Limit::Cpu(_) => refuse_cpu(hypervisor, found)?,
        Limit::Disk(_) => refuse_diskless(hypervisor, found, nodes)?,
        Limit::Clock(_) => {}
        Limit::Memory(memory) => refuse_memory(hypervisor, found, nodes, memory)?,
    }
    let is_new = |index: &u32| !found.faults(*index).has(kind.name());
    let new: Vec<u32> = nodes.iter().copied().filter(is_new).collect();
    let name = limit.name();
    let limited = hypervisor.nodes_with(&found.lab, &new, |_, domain| limits::has(domain, name))?;
    if let Some(index) = limited.first() {
        let own = match name {
            LimitName::Clock => "a clock".to_owned(),
            limit => format!("a limit of its {}", limit.what()),
        };
        bail!(
            "the domain of node `{}` has {own} of its own, and can have no other",
            found.lab.name.node(*index)
        );
    }
    Ok(())
}

/// libvirt takes a limit for a domain that is off, and then cannot start it: so one that is not off is looked at.
fn refuse_cpu(hypervisor: &Hypervisor, found: &Found) -> Result<()> {
    let is_on = |(_, state): &(&u32, &DomainState)| **state != DomainState::Off;
    let on = found.domains.iter().find(is_on);
    let Some((index, _)) = on.or_else(|| found.domains.iter().next()) else { return Ok(()) };
    let lack = hypervisor.lacks_cpu_limits(&found.lab, *index)?;
    let name = &found.lab.name;
    if let Some(lack) = lack {
        return Err(hinted(
            format!("libvirt at `{}` cannot limit processors: {lack}", hypervisor.uri()?),
            "it takes `qemu:///system` and the host's cgroup controller `cpu`",
        ));
    }
    if on.is_none() {
        return Err(hinted(
            format!(
                "all nodes of lab `{name}` are off, so whether their processors can be limited is not known"
            ),
            format!("`virtlab start {}` starts one", name.node(*index)),
        ));
    }
    Ok(())
}

fn refuse_memory(
    hypervisor: &Hypervisor,
    found: &Found,
    nodes: &[u32],
    memory: MemoryMib,
) -> Result<()> {
    let lab = &found.lab;
    if memory >= lab.spec.memory {
        bail!(
            "a node of lab `{}` has {}, so {memory} is no less (--memory)",
            lab.name,
            lab.spec.memory
        );
    }
    let without = hypervisor.nodes_with(lab, nodes, |_, domain| !limits::has_balloon(domain))?;
    if let Some(index) = without.first() {
        bail!(
            "the domain of node `{}` has no balloon, by which memory is taken from a guest",
            lab.name.node(*index)
        );
    }
    Ok(())
}

fn refuse_diskless(hypervisor: &Hypervisor, found: &Found, nodes: &[u32]) -> Result<()> {
    let lab = &found.lab;
    let without = hypervisor.nodes_with(lab, nodes, |_, it| limits::disk_target(it).is_none())?;
    let Some(index) = without.first() else { return Ok(()) };
    Err(hinted(
        format!("node `{}` has no disk to slow down", lab.name.node(*index)),
        "`virtlab create --disk SIZE` makes a lab with disks",
    ))
}
