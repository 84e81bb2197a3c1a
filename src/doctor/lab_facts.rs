//! How the labs are: what they lack, whether their boot servers answer, and folders that belong to none.

use std::collections::BTreeSet;

use super::libvirt_facts::LibvirtFacts;
use crate::boot_server::client::Client;
use crate::host::systemd::{BootUnit, Lack};
use crate::hypervisor::Found;
use crate::lab::plan::{Activity, DomainState};
use crate::lab::{Lab, LabName};
use crate::state::StateDir;

/// How the labs are.
#[derive(Debug, Default)]
pub(super) struct LabFacts {
    pub(super) labs: Vec<LabHealth>,
    /// Labs of which only the folder is left.
    pub(super) orphans: Vec<LabName>,
    /// What carries our mark and cannot be understood.
    pub(super) unreadable: Vec<String>,
}

/// How a lab is.
#[derive(Debug)]
pub(super) struct LabHealth {
    pub(super) name: LabName,
    /// What is not there of it.
    pub(super) lacks: Vec<String>,
    pub(super) has_running_nodes: bool,
    pub(super) boot_url: String,
    pub(super) is_served: bool,
    pub(super) comes_back: ComesBack,
}

/// Whether a lab's boot server comes back with the host.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum ComesBack {
    /// The lab is not to.
    Unwanted,
    Yes,
    /// systemd was not told to start it.
    Disabled,
    /// systemd cannot start it.
    Lacks(Lack),
}

impl ComesBack {
    fn of(lab: &Lab) -> Self {
        if !lab.spec.autostart {
            return Self::Unwanted;
        }
        let unit = BootUnit::of(lab);
        match unit.lack() {
            Some(lack) => Self::Lacks(lack),
            None if unit.is_enabled() => Self::Yes,
            None => Self::Disabled,
        }
    }
}

impl LabFacts {
    /// Without libvirt nothing can be told of labs.
    pub(super) fn gather(libvirt: Option<&LibvirtFacts>) -> Self {
        let Some(LibvirtFacts { inventory, origin, .. }) = libvirt else { return Self::default() };
        let unreadable = inventory.foreign.unreadable.clone();
        let labs = inventory.labs.values().map(|found| LabHealth {
            comes_back: ComesBack::of(&found.lab),
            is_served: Client::new(&found.lab).is_ok_and(|client| client.status().is_some()),
            ..LabHealth::of(found)
        });
        // What cannot be read may be the lab of a folder.
        let folders = if unreadable.is_empty() { StateDir::all() } else { Ok(Vec::new()) };
        // What `destroy` takes away. By the name of a lab that is there it would take that lab.
        let is_orphan = |(name, folder): &(LabName, StateDir)| {
            inventory.lab(name).is_none()
                && folder.is_left_over(origin, |uuid| inventory.labs.contains_key(uuid))
        };
        let orphans: BTreeSet<LabName> = folders
            .unwrap_or_default()
            .into_iter()
            .filter(is_orphan)
            .map(|(name, _)| name)
            .collect();
        Self { labs: labs.collect(), orphans: orphans.into_iter().collect(), unreadable }
    }
}

impl LabHealth {
    fn of(found: &Found) -> Self {
        let running = |state: &DomainState| *state == DomainState::Running;
        Self {
            name: found.lab.name.clone(),
            lacks: lacks(found),
            has_running_nodes: found.domains.values().any(running),
            boot_url: found.lab.boot_url(),
            is_served: false,
            comes_back: ComesBack::Unwanted,
        }
    }
}

/// A lab that is off lacks nothing.
fn lacks(found: &Found) -> Vec<String> {
    let lab: &Lab = &found.lab;
    let is_on = found.domains.values().any(|state| *state != DomainState::Off);
    let mut lacks = Vec::new();
    let mut look = |what: &str, activity: Option<Activity>| match activity {
        None => lacks.push(format!("its {what} is missing")),
        Some(Activity::Inactive) if is_on => lacks.push(format!("its {what} is not active")),
        Some(_) => {}
    };
    if lab.spec.network.managed().is_some() {
        look("network", found.network);
    }
    look("storage pool", found.pool);
    let missing = lab.nodes().into_iter().filter(|node| !found.domains.contains_key(&node.index));
    lacks.extend(missing.map(|node| format!("{} is missing", node.name)));
    lacks
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::lab::plan::{Autostart, Marks};
    use crate::lab::tests::lab;

    #[test]
    fn a_half_made_lab_lacks_something_and_one_that_is_off_does_not() {
        let found =
            |pool: Option<Activity>, network: Option<Activity>, states: &[DomainState]| Found {
                lab: lab(2),
                network,
                pool,
                domains: (1..).zip(states.iter().copied()).collect(),
                renamed: BTreeMap::new(),
                marks: Marks::default(),
                reserved: None,
                in_force: BTreeMap::new(),
                autostart: Autostart::default(),
            };
        let (active, inactive) = (Some(Activity::Active), Some(Activity::Inactive));
        let (running, off) = (DomainState::Running, DomainState::Off);
        for (found, expected) in [
            (found(active, active, &[running, running]), vec![]),
            (found(inactive, inactive, &[off, off]), vec![]),
            (found(active, inactive, &[running, off]), vec!["its network is not active"]),
            (found(None, active, &[off]), vec!["its storage pool is missing", "demo-2 is missing"]),
        ] {
            assert_eq!(lacks(&found), expected, "{found:?}");
        }
    }
}
