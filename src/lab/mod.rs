//! What a lab is, as plain values: no I/O, no clock, no randomness.
//!
//! [`options::LabOptions`] is what somebody asked for (flags and lab file, everything optional);
//! [`Lab`] is what it means (everything decided). A lab travels through libvirt's metadata
//! ([`metadata`]), so it can always be had back from the objects that it consists of.

pub mod address;
pub mod boot;
pub mod fault;
pub mod hardware;
mod libvirt;
pub mod metadata;
pub mod name;
pub mod node_set;
pub mod node_word;
pub mod options;
pub mod plan;
pub mod readiness;
pub mod size;
pub mod snapshot;
pub mod spec;

use std::net::Ipv4Addr;

use anyhow::{Context, Result, ensure};
use uuid::Uuid;

pub use self::address::MacAddr;
pub use self::libvirt::LibvirtVersion;
pub use self::name::LabName;
pub use self::spec::{LabSpec, Network};

/// A lab with everything decided: what is stored, rendered, planned and served.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Lab {
    /// The name that the user gave, also that of its network.
    pub name: LabName,
    /// Fresh for every lab that is created; its etcd token and the mark of what belongs to it.
    pub uuid: Uuid,
    /// Grows with each change of the specification: where objects of the lab disagree, the highest one
    /// wins. 1 for a new lab, 0 for one that virtlab 0.1 made.
    pub generation: u32,
    /// How many nodes of what kind on which network.
    pub spec: LabSpec,
}

/// One member of a lab. Its name, MAC and address are arithmetic on (lab, index).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Node {
    /// 1 for the first node.
    pub index: u32,
    /// Domain name and host name.
    pub name: String,
    /// Its domain's UUID, unless an earlier virtlab made the domain and libvirt chose one.
    pub uuid: Uuid,
    /// The address of its first network card.
    pub mac: MacAddr,
    /// Its reserved address; `None` where an external DHCP server decides.
    pub ip: Option<Ipv4Addr>,
}

impl Lab {
    /// All nodes in the order of their index.
    pub fn nodes(&self) -> Vec<Node> {
        (1..=self.spec.nodes).map(|index| self.node(index)).collect()
    }

    /// The node with this index, whether or not the lab is that large.
    pub fn node(&self, index: u32) -> Node {
        Node {
            index,
            name: self.name.node(index),
            uuid: Uuid::new_v5(&self.uuid, format!("node {index}").as_bytes()),
            mac: self.spec.mac_prefix.mac(index),
            ip: self.spec.network.node_ip(index),
        }
    }

    /// The addresses of all network cards of the node with this index.
    pub fn macs(&self, index: u32) -> Vec<MacAddr> {
        let further = 0..self.spec.hardware.nics.len();
        let further = further.map(|position| address::further_mac(self.uuid, index, position));
        std::iter::once(self.node(index).mac).chain(further).collect()
    }

    /// The name of the filter that keeps the node with this index apart from others.
    pub fn filter_name(&self, index: u32) -> String {
        format!("virtlab-{}", self.name.node(index))
    }

    /// The UUID of that filter. libvirt keeps nothing with a filter that could say whose it is.
    pub fn filter_uuid(&self, index: u32) -> Uuid {
        Uuid::new_v5(&self.uuid, format!("filter {index}").as_bytes())
    }

    /// How many nodes are members of the lab's etcd cluster, with a vote each.
    pub fn voters(&self) -> u32 {
        self.spec.voters.map_or(self.spec.nodes, |voters| voters.min(self.spec.nodes))
    }

    /// Whether the node with this index is one of them, whether or not the lab is that large. The others are
    /// clients, which pass on what they are asked.
    pub fn is_voter(&self, index: u32) -> bool {
        self.spec.voters.is_none_or(|voters| index <= voters)
    }

    /// The lab with another number of nodes, and the next generation.
    ///
    /// # Errors
    /// If its subnet or its MAC prefix has no room for them.
    pub fn with_nodes(&self, nodes: u32) -> Result<Self> {
        self.check_room(nodes)?;
        let generation = self.generation.checked_add(1).with_context(|| {
            let Self { name, generation, .. } = self;
            format!("lab `{name}` has changed {generation} times, which is as often as it can")
        })?;
        let spec = LabSpec { nodes, ..self.spec.clone() };
        Ok(Self { generation, spec, ..self.clone() })
    }

    /// Whether there is room for so many nodes in its subnet and behind its MAC prefix.
    fn check_room(&self, nodes: u32) -> Result<()> {
        let Self { name, spec, .. } = self;
        ensure!((1..=MAX_NODES).contains(&nodes), "a lab has 1 to {MAX_NODES} nodes");
        if let Some(network) = spec.network.managed() {
            let capacity = address::capacity(network.subnet);
            ensure!(
                nodes <= capacity,
                "subnet {} of lab `{name}` has room for {capacity} nodes, not for {nodes}",
                network.subnet
            );
        }
        let capacity = spec.mac_prefix.capacity();
        ensure!(
            nodes <= capacity,
            "MAC prefix {} of lab `{name}` has room for {capacity} nodes, not for {nodes}",
            spec.mac_prefix
        );
        Ok(())
    }

    /// The lab as one that comes back with the host, or does not; of the next generation, unless it is so.
    #[must_use]
    pub fn with_autostart(&self, autostart: bool) -> Self {
        if self.spec.autostart == autostart {
            return self.clone();
        }
        let spec = LabSpec { autostart, ..self.spec.clone() };
        Self { spec, generation: self.generation + 1, ..self.clone() }
    }

    /// The UUID of the lab's storage pool. Pools have no metadata element, so being ours is told
    /// by a UUID that only this lab's own UUID leads to.
    pub fn pool_uuid(&self) -> Uuid {
        Uuid::new_v5(&self.uuid, b"storage pool")
    }

    /// The name of the lab's storage pool.
    pub fn pool_name(&self) -> String {
        format!("virtlab-{}", self.name)
    }

    /// The folder of the lab's storage pool on libvirt's host: TFTP root and console logs. It is
    /// libvirt's own ground, where dnsmasq and QEMU may read and write whatever the labels; a user's own libvirt
    /// may write to the user's files only.
    pub fn pool_path(&self) -> String {
        match &self.spec.data_dir {
            Some(folder) => format!("{folder}/{}", self.name),
            None => format!("/var/lib/libvirt/virtlab-{}", self.name),
        }
    }

    /// The serial console's log of a node on libvirt's host.
    pub fn console_log(&self, node: &Node) -> String {
        format!("{}/{}", self.pool_path(), self.console_log_name(node))
    }

    /// The same by its name in the lab's storage pool.
    pub fn console_log_name(&self, node: &Node) -> String {
        format!("{}.console.log", node.name)
    }

    /// The disk of a node on libvirt's host, by its name in the lab's storage pool.
    pub fn disk_name(&self, node: &Node) -> String {
        format!("{}.qcow2", node.name)
    }

    /// Where the boot server answers, without a slash at the end.
    pub fn boot_url(&self) -> String {
        format!("http://{}:{}", self.spec.boot_address, self.spec.boot_port)
    }
}

/// How many nodes the largest lab has.
pub(crate) const MAX_NODES: u32 = 1000;

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    /// A lab of `nodes` micro nodes, as tests all over the crate need one.
    pub(crate) fn lab(nodes: u32) -> Lab {
        let name: LabName = "demo".parse().expect("a good name");
        let uuid = Uuid::new_v5(&Uuid::NAMESPACE_DNS, b"demo.virtlab");
        let spec = LabSpec::example(&name, nodes);
        Lab { name, uuid, generation: 1, spec }
    }

    #[test]
    fn a_lab_gets_as_many_nodes_as_it_has_addresses_for() {
        let lab = lab(3);
        let grown = lab.with_nodes(253).unwrap();
        assert_eq!((grown.spec.nodes, grown.generation, lab.generation), (253, 2, 1));
        assert_eq!(grown.node(3), lab.node(3));
        assert_eq!(
            lab.with_nodes(254).unwrap_err().to_string(),
            "subnet 192.168.150.0/24 of lab `demo` has room for 253 nodes, not for 254"
        );
        let last = Lab { generation: u32::MAX, ..lab };
        assert_eq!(
            last.with_nodes(4).unwrap_err().to_string(),
            "lab `demo` has changed 4294967295 times, which is as often as it can"
        );
    }

    #[test]
    fn a_users_own_libvirt_keeps_a_lab_among_the_users_files() {
        let mut lab = lab(1);
        assert_eq!(lab.pool_path(), "/var/lib/libvirt/virtlab-demo");
        lab.spec.data_dir = Some("/home/me/.local/share/virtlab".to_owned());
        assert_eq!(lab.pool_path(), "/home/me/.local/share/virtlab/demo");
        let log = lab.console_log(&lab.node(1));
        assert_eq!(log, "/home/me/.local/share/virtlab/demo/demo-1.console.log");
    }

    #[test]
    fn nodes_are_arithmetic_on_lab_and_index() {
        let nodes = lab(2).nodes();
        assert_eq!(nodes[1].name, "demo-2");
        assert_eq!(nodes[1].ip, Some(Ipv4Addr::new(192, 168, 150, 3)));
        assert_eq!(nodes[1].mac.to_string(), "52:54:00:12:34:02");
        assert_eq!(nodes[1].uuid.to_string(), "459b0cf0-d752-5dd5-a56e-e63a139e4953");
        assert_eq!(nodes, [lab(5).node(1), lab(9).node(2)]);
    }
}
