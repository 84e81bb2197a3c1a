//! Snapshots of a whole lab: the memory of all of its nodes at the same moment, in the lab's storage pool.

pub(crate) mod restore;
pub(crate) mod save;
pub(crate) mod shelf;
pub(crate) mod shot;

use anyhow::Result;

use crate::error::hinted;
use crate::hypervisor::Found;

/// A node's memory knows nothing of the fault that it is saved or brought back under, and no snapshot keeps it.
///
/// # Errors
/// If a node has a fault.
fn refuse_faults(found: &Found) -> Result<()> {
    let Some(index) = found.faulty().next() else { return Ok(()) };
    let name = &found.lab.name;
    Err(hinted(
        format!("node `{}` has a fault, which no snapshot keeps", name.node(index)),
        format!("`virtlab heal {name}` takes it away"),
    ))
}
