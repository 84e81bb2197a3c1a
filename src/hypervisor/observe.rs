//! What is there: our labs by their mark, and of everything else just what could be in the way.

use std::collections::BTreeMap;

use anyhow::Result;
use ipnet::Ipv4Net;
use uuid::Uuid;
use virt::connect::Connect;
use virt::domain::{Domain, DomainState as VirtState};
use virt::enumutil::Enum;
use virt::error::{Error, ErrorNumber};
use virt::network::Network;

use super::Hypervisor;
use super::attachments::{Attachment, SeenNetwork, parse_cards, parse_network};
use super::error::{Already, Doing};
use super::in_force::SeenDomain;
use crate::lab::fault::{Faults, InForce};
use crate::lab::metadata::{Desired, Mark, Power};
use crate::lab::plan::{Activity, Autostart, DomainMark, DomainState, Marks};
use crate::lab::{Lab, LabName, Node};

/// Everything that libvirt has.
#[derive(Debug, Default)]
pub struct Inventory {
    /// Our labs.
    pub labs: BTreeMap<Uuid, Found>,
    /// What is not ours.
    pub foreign: Foreign,
    /// All networks by name, ours and others'.
    pub networks: BTreeMap<String, SeenNetwork>,
    /// The network cards of all domains that are attached to a bridge of the host, directly or by a
    /// network.
    pub cards: Vec<Attachment>,
}

/// What libvirt has of a lab of ours.
#[derive(Clone, Debug)]
pub struct Found {
    /// The lab, as its objects say.
    pub lab: Lab,
    /// Its own network.
    pub network: Option<Activity>,
    /// Its storage pool.
    pub pool: Option<Activity>,
    /// Its domains by node index.
    pub domains: BTreeMap<u32, DomainState>,
    /// The names of its domains that have not that of their node any more, by node index.
    pub renamed: BTreeMap<u32, String>,
    /// What the marks of its objects say where they differ.
    pub marks: Marks,
    /// What of the faults of its nodes is in force, by node index; of one that is missing, nothing is.
    pub in_force: BTreeMap<u32, InForce>,
    /// For how many nodes, from the first on, its network has an address reserved; `None` if for none.
    pub reserved: Option<u32>,
    /// What of it libvirt starts with the host.
    pub autostart: Autostart,
}

impl Found {
    /// The power that is wanted of a node; a new one is to run.
    pub fn wanted(&self, index: u32) -> Power {
        self.desired(index).power
    }

    /// All that is wanted of a node.
    pub fn desired(&self, index: u32) -> Desired {
        self.marks.nodes.get(&index).map(|mark| mark.desired).unwrap_or_default()
    }

    /// The nodes that are to have a fault.
    pub fn faulty(&self) -> impl Iterator<Item = u32> {
        let nodes = self.marks.nodes.iter();
        nodes.filter(|(_, mark)| !mark.desired.faults.is_empty()).map(|(index, _)| *index)
    }

    /// When the first fault of a node ends that ends by itself, in milliseconds since the epoch.
    pub fn first_end_ms(&self) -> Option<u64> {
        self.marks.nodes.values().filter_map(|mark| mark.desired.faults.first_end_ms()).min()
    }

    /// The faults that are wanted of a node.
    pub fn faults(&self, index: u32) -> Faults {
        self.desired(index).faults
    }

    /// The nodes that are wanted to run.
    pub fn nodes_to_run(&self) -> Vec<Node> {
        let nodes = self.lab.nodes().into_iter();
        nodes.filter(|node| self.wanted(node.index) == Power::On).collect()
    }
}

/// Names and addresses that are taken by what is not ours.
#[derive(Debug, Default)]
pub struct Foreign {
    /// Names of domains.
    pub domains: Vec<String>,
    /// Names of networks.
    pub networks: Vec<String>,
    /// Names of storage pools.
    pub pools: Vec<String>,
    /// Objects that carry our element but could not be understood, with the reason.
    pub unreadable: Vec<String>,
    /// Domains that carry the mark of a lab and are none of its nodes, as what virt-clone makes.
    pub copies: Vec<Copied>,
}

/// A domain that has the mark of a node, but neither its name nor its UUID.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Copied {
    /// The domain.
    pub domain: String,
    /// The lab that its mark names.
    pub lab: LabName,
    /// The node that its mark names.
    pub node: String,
}

impl Inventory {
    /// The lab of this name.
    pub fn lab(&self, name: &LabName) -> Option<&Found> {
        self.labs.values().find(|found| found.lab.name == *name)
    }

    /// The same, and from now on as if it were not there.
    pub fn take(&mut self, name: &LabName) -> Option<Found> {
        let uuid = self.lab(name)?.lab.uuid;
        self.labs.remove(&uuid)
    }

    /// The subnets of all networks, with the name of who has them.
    pub fn subnets(&self) -> Vec<(Ipv4Net, String)> {
        let of = |network: &SeenNetwork| {
            let owner = format!("libvirt network `{}`", network.name);
            network.subnets.iter().map(|subnet| (*subnet, owner.clone())).collect::<Vec<_>>()
        };
        self.networks.values().flat_map(of).collect()
    }

    /// Adds a lab of which nothing else is known.
    #[cfg(test)]
    pub(crate) fn insert(&mut self, lab: Lab) {
        self.found(lab);
    }

    /// What was found until now of the lab that a mark names. Where marks disagree, the lab is what the
    /// one with the highest generation says.
    fn found(&mut self, lab: Lab) -> &mut Found {
        let found = self.labs.entry(lab.uuid).or_insert_with(|| Found {
            lab: lab.clone(),
            network: None,
            pool: None,
            domains: BTreeMap::new(),
            renamed: BTreeMap::new(),
            marks: Marks::default(),
            in_force: BTreeMap::new(),
            reserved: None,
            autostart: Autostart::default(),
        });
        if lab.generation > found.lab.generation {
            found.lab = lab;
        }
        found
    }
}

impl Hypervisor {
    /// Looks at everything that libvirt has. Objects that vanish meanwhile are left out.
    pub fn observe(&self) -> Result<Inventory> {
        let mut inventory = Inventory::default();
        let connection = self.connection()?;
        let networks = connection.list_all_networks(0).doing(|| "listing networks".to_owned())?;
        for network in networks {
            observe_network(&mut inventory, &network)?;
        }
        let domains = connection.list_all_domains(0).doing(|| "listing domains".to_owned())?;
        for domain in domains {
            observe_domain(&mut inventory, &connection, &domain)?;
        }
        self.observe_pools(&mut inventory)?;
        for found in inventory.labs.values_mut() {
            if let Some(network) = inventory.networks.get(found.lab.name.as_str()) {
                found.reserved = reserved(&found.lab, network);
            }
        }
        Ok(inventory)
    }

    fn observe_pools(&self, inventory: &mut Inventory) -> Result<()> {
        let pools = self.connection()?.list_all_storage_pools(0);
        // A driver may know no storage at all.
        let pools =
            pools.already(&[ErrorNumber::NoSupport]).doing(|| "listing pools".to_owned())?;
        for pool in pools.unwrap_or_default() {
            let doing = || "reading a storage pool".to_owned();
            let gone = [ErrorNumber::NoStoragePool];
            let Some(uuid) = pool.uuid().already(&gone).doing(doing)? else { continue };
            let Some(active) = pool.is_active().already(&gone).doing(doing)? else { continue };
            let Some(name) = pool.name().already(&gone).doing(doing)? else { continue };
            match inventory.labs.values_mut().find(|found| found.lab.pool_uuid() == uuid) {
                Some(found) => {
                    found.pool = Some(activity(active));
                    found.autostart.pool = starts_with_host(pool.autostart()).doing(doing)?;
                }
                None => inventory.foreign.pools.push(name),
            }
        }
        Ok(())
    }
}

fn observe_network(inventory: &mut Inventory, network: &Network) -> Result<()> {
    let doing = || "reading a network".to_owned();
    let gone = [ErrorNumber::NoNetwork];
    let Some(xml) = network.xml_desc(0).already(&gone).doing(doing)? else { return Ok(()) };
    let Some(name) = network.name().already(&gone).doing(doing)? else { return Ok(()) };
    let Some(active) = network.is_active().already(&gone).doing(doing)? else { return Ok(()) };
    match parse_network(&xml, active) {
        Ok(seen) => drop(inventory.networks.insert(name.clone(), seen)),
        Err(error) => inventory.foreign.unreadable.push(format!("network `{name}`: {error:#}")),
    }
    match Mark::from_object_xml(&xml) {
        // A copy that somebody made under another name carries the mark, too, and is theirs.
        Ok(Some(mark)) if name == mark.lab.name.as_str() => {
            let lab = if active { kept_mark(network)?.unwrap_or(mark.lab) } else { mark.lab };
            let generation = lab.generation;
            let found = inventory.found(lab);
            found.network = Some(activity(active));
            found.autostart.network = starts_with_host(network.autostart()).doing(doing)?;
            found.marks.network = Some(generation);
        }
        Ok(_) => inventory.foreign.networks.push(name),
        Err(error) => {
            inventory.foreign.unreadable.push(format!("network `{name}`: {error:#}"));
            inventory.foreign.networks.push(name);
        }
    }
    Ok(())
}

fn observe_domain(inventory: &mut Inventory, connection: &Connect, domain: &Domain) -> Result<()> {
    let doing = || "reading a domain".to_owned();
    let gone = [ErrorNumber::NoDomain];
    let Some(xml) = domain.xml_desc(0).already(&gone).doing(doing)? else { return Ok(()) };
    let Some(name) = domain.name().already(&gone).doing(doing)? else { return Ok(()) };
    let Some(uuid) = domain.uuid().already(&gone).doing(doing)? else { return Ok(()) };
    let Some((state, _)) = domain.state().already(&gone).doing(doing)? else { return Ok(()) };
    match parse_cards(&xml, &inventory.networks) {
        Ok(cards) => inventory.cards.extend(cards),
        Err(error) => inventory.foreign.unreadable.push(format!("domain `{name}`: {error:#}")),
    }
    let state = state_of(state);
    match Mark::from_object_xml(&xml) {
        Ok(Some(Mark { lab, node: Some(node) })) => {
            let expected = lab.node(node.index);
            // A copy that somebody made under another name (virt-clone) has another UUID, and is theirs.
            if name != expected.name && uuid != expected.uuid {
                let copied =
                    Copied { domain: name.clone(), lab: lab.name.clone(), node: expected.name };
                inventory.foreign.copies.push(copied);
                inventory.foreign.domains.push(name);
                return Ok(());
            }
            let mark = DomainMark { generation: lab.generation, desired: node.desired };
            let seen = SeenDomain { lab: &lab, index: node.index, domain, xml: &xml };
            let in_force = seen.in_force(connection, node.desired.faults)?;
            let found = inventory.found(lab);
            found.domains.insert(node.index, state);
            if in_force != InForce::default() {
                found.in_force.insert(node.index, in_force);
            }
            if starts_with_host(domain.autostart()).doing(doing)? {
                found.autostart.nodes.insert(node.index);
            }
            found.marks.nodes.insert(node.index, mark);
            if name != expected.name {
                found.renamed.insert(node.index, name);
            }
        }
        Ok(_) => inventory.foreign.domains.push(name),
        Err(error) => {
            inventory.foreign.unreadable.push(format!("domain `{name}`: {error:#}"));
            inventory.foreign.domains.push(name);
        }
    }
    Ok(())
}

pub(super) fn state_of(state: Enum<VirtState, virt::sys::virDomainState>) -> DomainState {
    match state.known() {
        Some(VirtState::Shutoff | VirtState::Crashed) => DomainState::Off,
        Some(VirtState::Paused | VirtState::PMSuspended) => DomainState::Paused,
        _ => DomainState::Running,
    }
}

/// What the mark of an active network says in what libvirt keeps of it: before 9.7 only that can change.
fn kept_mark(network: &Network) -> Result<Option<Lab>> {
    let doing = || "reading a network".to_owned();
    let xml = Hypervisor::kept_xml(network);
    let Some(xml) = xml.already(&[ErrorNumber::NoNetwork]).doing(doing)? else { return Ok(None) };
    Ok(Mark::from_object_xml(&xml)?.map(|mark| mark.lab))
}

/// For how many of the lab's nodes, from the first on, its network has an address; `None` if for none.
fn reserved(lab: &Lab, network: &SeenNetwork) -> Option<u32> {
    let has = |index: &u32| network.reserved.contains(&lab.node(*index).mac);
    let count = (1..=lab.spec.mac_prefix.capacity()).take_while(has).count();
    u32::try_from(count).ok().filter(|count| *count > 0)
}

/// What is gone meanwhile, and what a driver cannot start with the host, is not started with it.
fn starts_with_host(flag: Result<bool, Error>) -> Result<bool, Error> {
    let gone = [
        ErrorNumber::NoNetwork,
        ErrorNumber::NoDomain,
        ErrorNumber::NoStoragePool,
        ErrorNumber::NoSupport,
    ];
    Ok(flag.already(&gone)?.unwrap_or(false))
}

fn activity(active: bool) -> Activity {
    if active { Activity::Active } else { Activity::Inactive }
}
