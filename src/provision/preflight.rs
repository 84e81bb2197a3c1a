//! What is looked at before anything is made.

use anyhow::Result;

use super::survey::{CreateMode, Survey};
use crate::error::hinted;
use crate::host::bridge;
use crate::host::firewall::{self, Access, Needs};
use crate::hypervisor::{Found, Inventory};
use crate::lab::fault::FaultName;
use crate::lab::metadata::Power;
use crate::lab::plan::DomainState;
use crate::lab::spec::VirtType;
use crate::lab::{Lab, Network, Node, address};
use crate::units::human_bytes;

/// Nothing foreign may have a name that the lab needs.
pub(crate) fn conflicts(lab: &Lab, inventory: &Inventory) -> Result<()> {
    let foreign = &inventory.foreign;
    let taken = |kind: &str, name: &str, list: &str| {
        Err(hinted(
            format!("{kind} `{name}` exists already and is not virtlab's"),
            format!("choose another name for the lab; `virsh {list} --all` shows what there is"),
        ))
    };
    if matches!(lab.spec.network, Network::Managed(_))
        && foreign.networks.contains(&lab.name.to_string())
    {
        return taken("network", lab.name.as_str(), "net-list");
    }
    if foreign.pools.contains(&lab.pool_name()) {
        return taken("storage pool", &lab.pool_name(), "pool-list");
    }
    let bridge = address::bridge_name(lab.uuid);
    let is_ours = inventory.networks.get(lab.name.as_str()).is_some_and(|network| network.active);
    if lab.spec.network.managed().is_some() && !is_ours && bridge::exists(&bridge) {
        return Err(hinted(
            format!("bridge `{bridge}` exists already and is not that of a network of libvirt's"),
            format!("if nobody needs it, `sudo ip link delete {bridge}` removes it"),
        ));
    }
    for found in inventory.labs.values().filter(|found| found.lab.uuid != lab.uuid) {
        refuse_shared_name(lab, &found.lab)?;
        refuse_shared_name(&found.lab, lab)?;
    }
    let others = inventory.labs.values().filter(|found| found.lab.uuid != lab.uuid);
    let other_nodes: Vec<String> = others
        .flat_map(|found| found.domains.keys().map(|index| found.lab.name.node(*index)))
        .collect();
    for node in lab.nodes() {
        if foreign.domains.contains(&node.name) || other_nodes.contains(&node.name) {
            return taken("domain", &node.name, "list");
        }
    }
    Ok(())
}

/// A name means one thing: no lab is called as a node of another one.
fn refuse_shared_name(lab: &Lab, other: &Lab) -> Result<()> {
    let is_shared = |node: &Node| node.name == other.name.as_str();
    match lab.nodes().iter().find(|node| is_shared(node)) {
        None => Ok(()),
        Some(node) => Err(hinted(
            format!("`{}` would be a lab and a node of lab `{}`", node.name, lab.name),
            "choose another name for the lab; `virtlab list` shows those that are taken",
        )),
    }
}

/// The nodes' memory against what the host has left: a warning where it may become tight. Guests take what
/// they use, not what they have, and may share what is the same: so only what can hardly work at all is
/// refused. Nodes that run already are not started; those of a lab that is replaced give back at most all
/// the memory that they have.
pub(crate) fn memory(lab: &Lab, survey: &Survey, mode: &CreateMode) -> Result<Option<String>> {
    if mode.overcommit || lab.spec.virt_type == VirtType::Test {
        return Ok(None);
    }
    let starting = nodes_to_start(lab, survey.found.as_ref(), mode).count() as u64;
    let given_back = survey.replaced.as_ref();
    let given_back = given_back.map_or(0, |old| running_nodes(old) * old.lab.spec.memory.bytes());
    let available = survey.available_memory + given_back;
    match judge(starting, lab, u64::from(survey.spec.memory_mib) << 20, available) {
        Memory::Enough => Ok(None),
        Memory::Tight(text) => Ok(Some(text)),
        Memory::TooLittle(text) => Err(hinted(
            text,
            "fewer nodes (--nodes), less memory in each (--memory) or a smaller image help; \
             --overcommit tries it all the same",
        )),
    }
}

/// The nodes that are not active and are to be.
fn nodes_to_start<'a>(
    lab: &Lab,
    found: Option<&'a Found>,
    mode: &'a CreateMode,
) -> impl Iterator<Item = u32> + 'a {
    let is_killed =
        move |index| found.is_some_and(|found| found.faults(index).has(FaultName::Kill));
    let is_meant = move |index: u32| match (&mode.starts, found) {
        _ if is_killed(index) => false,
        (Some(starts), _) => starts.contains(&index),
        (None, Some(found)) => found.wanted(index) != Power::Off,
        (None, None) => true,
    };
    let state = move |index| found.and_then(|found| found.domains.get(&index));
    let is_off = move |index| matches!(state(index), None | Some(DomainState::Off));
    (1..=lab.spec.nodes).filter(move |index| is_meant(*index) && is_off(*index))
}

/// The host's firewall must let the nodes that are to be started reach their boot server. Where this user may
/// not ask it, the wait for the nodes tells.
pub(crate) fn firewall(lab: &Lab, survey: &Survey) -> Result<()> {
    let running = survey.found.as_ref().map_or(0, running_nodes);
    if lab.spec.virt_type == VirtType::Test || running == u64::from(lab.spec.nodes) {
        return Ok(());
    }
    let dnsmasq = firewall::libvirt_uses_nftables(survey.libvirt);
    let needs = Needs::of(lab, survey.wire.bridge.as_deref(), dnsmasq);
    let Some(verdict) = needs.map(|needs| firewall::look(&needs)) else { return Ok(()) };
    if verdict.access != Access::Closed {
        return Ok(());
    }
    Err(hinted(
        format!(
            "this host's firewall ({}) keeps nodes from {}, which they boot from",
            verdict.firewall, verdict.ports
        ),
        format!("`{}` opens it for good", verdict.command),
    ))
}

fn running_nodes(found: &Found) -> u64 {
    found.domains.values().filter(|state| **state != DomainState::Off).count() as u64
}

#[derive(Debug, PartialEq, Eq)]
enum Memory {
    Enough,
    Tight(String),
    TooLittle(String),
}

/// Whether `starting` more nodes fit into `available` bytes, with the memory that they are to have, or
/// at least with the `least` that their image needs.
fn judge(starting: u64, lab: &Lab, least: u64, available: u64) -> Memory {
    let wanted = starting * lab.spec.memory.bytes();
    let have = human_bytes(available);
    if starting * least > available {
        return Memory::TooLittle(format!(
            "{starting} nodes need {} at least for image `{}`, and this host has {have} of memory left",
            human_bytes(starting * least),
            lab.spec.image.name
        ));
    }
    if wanted > available {
        return Memory::Tight(format!(
            "{starting} nodes of {} may take {}, and this host has {have} of memory left; KSM lets nodes \
             share what is the same: `virtlab ksm on`",
            lab.spec.memory,
            human_bytes(wanted)
        ));
    }
    Memory::Enough
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::lab::tests::lab;

    #[test]
    fn the_hosts_memory_is_enough_or_tight_or_too_little() {
        // Nodes of 1024 MiB of an image that needs 512.
        let judge = |gib: u64| judge(20, &lab(20), 512 << 20, gib << 30);
        assert_eq!(judge(20), Memory::Enough);
        assert_eq!(
            judge(19),
            Memory::Tight(
                "20 nodes of 1024MiB may take 20.0 GiB, and this host has 19.0 GiB of memory left; KSM \
                 lets nodes share what is the same: `virtlab ksm on`"
                    .to_owned()
            )
        );
        assert_eq!(
            judge(9),
            Memory::TooLittle(
                "20 nodes need 10.0 GiB at least for image `micro`, and this host has 9.00 GiB of memory \
                 left"
                    .to_owned()
            )
        );
    }
}
