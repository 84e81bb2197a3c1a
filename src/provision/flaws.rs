//! What is wrong with the packets of nodes: looked at, made, undone, and refused where the host cannot.

use std::collections::BTreeMap;

use anyhow::Result;

use crate::error::hinted;
use crate::host::privileged::NotRun;
use crate::host::wire::Cards;
use crate::hypervisor::{Connection, Found, Hypervisor};
use crate::lab::Lab;
use crate::lab::fault::{FaultKind, Flaws, InForce, Wire};
use crate::lab::plan::DomainState;

/// What is in force of the faults of a lab, with the flaws among them. Nothing is looked at for labs without.
///
/// # Errors
/// If libvirt or the host cannot tell.
pub(super) fn in_force(hypervisor: &Hypervisor, found: &Found) -> Result<BTreeMap<u32, InForce>> {
    let mut all = found.in_force.clone();
    for index in found.faulty() {
        let flaws = found.faults(index).flaws();
        if !flaws.is_empty() {
            let taps = hypervisor.node_taps(&found.lab, index)?;
            let wire = match Cards::new(&found.lab.filter_name(index), taps)?.look(flaws) {
                // Who may not look may have other things to do with the lab.
                Err(error) if error.is::<NotRun>() => Wire::Unseen,
                other => other?,
            };
            let there = all.entry(index).or_default();
            *there = InForce { wire, ..*there };
        }
    }
    Ok(all)
}

/// Brings the flaws of a node to others.
///
/// # Errors
/// If libvirt or the host cannot.
pub(super) fn set(
    connection: &Connection,
    lab: &Lab,
    index: u32,
    from: Flaws,
    to: Flaws,
) -> Result<()> {
    let taps = Hypervisor::taps(connection, lab, index)?;
    Cards::new(&lab.filter_name(index), taps)?.set(from, to)
}

/// # Errors
/// If these nodes cannot have this flaw. It is seen of nodes that run.
pub(super) fn refuse_impossible(
    hypervisor: &Hypervisor,
    found: &Found,
    nodes: &[u32],
    kind: FaultKind,
) -> Result<()> {
    let FaultKind::Wire(flaw) = kind else { return Ok(()) };
    let lab = &found.lab;
    let flaws = Flaws::from_iter([flaw]);
    let is_on =
        |index: &&u32| found.domains.get(index).is_some_and(|state| *state != DomainState::Off);
    let on: Vec<u32> = nodes.iter().filter(is_on).copied().collect();
    if on.is_empty() {
        let nodes: Vec<String> = nodes.iter().map(|index| lab.name.node(*index)).collect();
        let nodes = nodes.join(", ");
        return Err(hinted(
            format!("{nodes}: off, so it is not known whether the host can do this to packets"),
            "`virtlab start NODE` starts one",
        ));
    }
    for index in on {
        let taps = hypervisor.node_taps(lab, index)?;
        if taps.is_empty() {
            return Err(hinted(
                format!(
                    "the network cards of node `{}` have no device on this host, where packets could be changed",
                    lab.name.node(index)
                ),
                "`virtlab fault cut` takes the link of any card away",
            ));
        }
        Cards::new(&lab.filter_name(index), taps)?.probe(flaws)?;
    }
    Ok(())
}
