//! From what was asked for to what is made: every default, and every contradiction.

use std::net::IpAddr;
use std::path::PathBuf;

use anyhow::{Result, anyhow, bail};
use ipnet::Ipv4Net;
use uuid::Uuid;

use super::{LabOptions, NetworkChoice, VirtTypeChoice};
use crate::images::Readiness;
use crate::lab::address::{self, MacPrefix};
use crate::lab::boot::BootChoice;
use crate::lab::hardware::{Arch, Hardware};
use crate::lab::size::MemoryMib;
use crate::lab::spec::{
    ConfigSource, ImageRef, ManagedNetwork, NetworkMode, TemplateRef, VirtType,
};
use crate::lab::{Lab, LabName, LabSpec, Network};

/// What was found out about the host and the image before a lab is decided.
#[derive(Clone, Debug)]
pub struct HostFacts {
    /// A fresh UUID.
    pub uuid: Uuid,
    /// The host's name, so that labs of two hosts on one wire get different MAC addresses.
    pub hostname: String,
    /// What is taken: subnets with the name of who has them.
    pub occupied: Vec<(Ipv4Net, String)>,
    /// The image that was resolved.
    pub image: ImageRef,
    /// The architecture that the image is for.
    pub arch: Arch,
    /// What the image needs at least.
    pub least_memory: MemoryMib,
    /// The config template that was read.
    pub config: ConfigSource,
    /// The folder for the lab's storage pool, where libvirt is the user's own.
    pub data_dir: Option<String>,
    /// The domain template that was read, if one was named.
    pub domain_template: Option<TemplateRef>,
    /// The network template that was read, if one was named.
    pub network_template: Option<TemplateRef>,
    /// When a node of the image counts as ready.
    pub ready: Readiness,
    /// Whom the image names to log in as.
    pub ssh_user: Option<String>,
    /// What `auto` means on this host.
    pub virt_type: VirtType,
    /// Where the boot server can listen when the network is not ours.
    pub boot_address: Option<IpAddr>,
    /// A port that is free.
    pub boot_port: u16,
}

impl HostFacts {
    /// What is taken already of this subnet, and by whom.
    fn occupant(&self, subnet: Ipv4Net) -> Option<&(Ipv4Net, String)> {
        address::occupant(subnet, &self.occupied)
    }
}

impl LabOptions {
    /// Decides everything that was left open.
    ///
    /// # Errors
    /// If what was asked for cannot be: each message names the flag and the way out.
    pub fn resolve(&self, found: HostFacts) -> Result<Lab> {
        let name = self.lab_name();
        let nodes = self.nodes.unwrap_or(DEFAULT_NODES);
        self.refuse_unwritable()?;
        let memory = self.resolve_memory(&found)?;
        let network = self.resolve_network(nodes, &found)?;
        let mac_prefix = self.resolve_mac_prefix(&name, nodes, &network, &found.hostname)?;
        let boot_address = self.resolve_boot_address(&network, found.boot_address)?;
        let voters = self.resolve_voters(&network, &found.config)?;
        let ready = self.ready.clone().unwrap_or(found.ready);
        let ready_user = ready_user(&ready, found.ssh_user, &found.image)?;
        let spec = LabSpec {
            nodes,
            memory,
            vcpus: self.vcpus.unwrap_or(1),
            image: found.image,
            config: found.config,
            ready,
            ready_user,
            voters,
            network,
            mac_prefix,
            virt_type: match self.virt_type.unwrap_or_default() {
                VirtTypeChoice::Auto => found.virt_type,
                VirtTypeChoice::Kvm => VirtType::Kvm,
                VirtTypeChoice::Qemu => VirtType::Qemu,
            },
            boot_address,
            boot_port: self.boot_port.unwrap_or(found.boot_port),
            stagger_ms: self.stagger.map_or(0, |span| span.0),
            ksm: self.ksm.unwrap_or(false),
            autostart: self.autostart.unwrap_or(false),
            boot: self.boot_choice().resolve()?,
            hardware: self.hardware(found.arch),
            data_dir: found.data_dir,
            domain_template: found.domain_template,
            network_template: found.network_template,
            trust_claimed_mac: self.trust_claimed_mac.unwrap_or(false),
            description: self.description.clone(),
        };
        Ok(Lab { name, uuid: found.uuid, generation: 1, spec })
    }

    pub(super) fn boot_choice(&self) -> BootChoice {
        let Self { loader, firmware, transport, secure_boot, no_knock, .. } = *self;
        BootChoice { loader, firmware, transport, secure_boot, no_knock }
    }

    fn hardware(&self, arch: Arch) -> Hardware {
        Hardware {
            arch,
            graphics: self.graphics.unwrap_or_default(),
            disk: self.disk,
            nics: self.nics.clone(),
            machine: self.machine.clone(),
            cpu: self.cpu.clone(),
            hugepages: self.hugepages.unwrap_or_default(),
            no_share_pages: self.no_share_pages.unwrap_or_default(),
        }
    }

    fn resolve_memory(&self, found: &HostFacts) -> Result<MemoryMib> {
        let Some(memory) = self.memory else {
            let usual = DEFAULT_MEMORY_MIB.try_into().expect("a good size");
            return Ok(found.least_memory.max(usual));
        };
        if memory < found.least_memory {
            bail!(
                "image `{}` needs at least {} of memory in each node, --memory is {memory}",
                found.image.name,
                found.least_memory
            );
        }
        Ok(memory)
    }

    /// Refuses texts that XML 1.0 has no way to write, escaped or not.
    /// <https://www.w3.org/TR/xml/#charsets>
    fn refuse_unwritable(&self) -> Result<()> {
        let path = |path: &Option<PathBuf>| Some(path.as_ref()?.display().to_string());
        for (flag, text, may_have_lines) in [
            ("--description", self.description.clone(), true),
            ("--image", self.image.clone(), false),
            ("--network", self.network.as_ref().map(ToString::to_string), false),
            ("--bridge", self.bridge.clone(), false),
            ("--nic", self.nics.iter().map(ToString::to_string).reduce(|a, b| a + &b), false),
            ("--config", path(&self.config), false),
            ("--domain-template", path(&self.domain_template), false),
            ("--network-template", path(&self.network_template), false),
        ] {
            let is_wrong = |c: &char| match c {
                '\n' | '\t' => !may_have_lines,
                c => c.is_control() || matches!(c, '\u{fffe}' | '\u{ffff}'),
            };
            if let Some(wrong) = text.iter().flat_map(|text| text.chars()).find(is_wrong) {
                let number = u32::from(wrong);
                bail!(
                    "{flag} has the character U+{number:04X} in it, which libvirt's XML cannot hold"
                );
            }
        }
        Ok(())
    }

    /// Our own templates make clients of the other nodes; what a user's own makes of them only the user knows. Where
    /// others give the addresses, a client would not know where the members are.
    fn resolve_voters(&self, network: &Network, config: &ConfigSource) -> Result<Option<u32>> {
        match (self.voters, network.managed()) {
            (Some(_), None) => bail!(
                "--voters goes with a network of the lab's own (nat, isolated, routed); elsewhere all nodes are members"
            ),
            (Some(voters), Some(_)) => Ok(Some(voters)),
            (None, Some(_)) if matches!(config, ConfigSource::Ours(_)) => Ok(Some(DEFAULT_VOTERS)),
            (None, _) => Ok(None),
        }
    }

    fn resolve_mac_prefix(
        &self,
        name: &LabName,
        nodes: u32,
        network: &Network,
        hostname: &str,
    ) -> Result<MacPrefix> {
        let prefix = self.mac_prefix.unwrap_or_else(|| match network {
            Network::Managed(_) => MacPrefix::derived(name.as_str()),
            Network::Bridge(_) | Network::Existing(_) => {
                MacPrefix::derived(&format!("{hostname}/{name}"))
            }
        });
        if nodes > prefix.capacity() {
            bail!(
                "--mac-prefix {prefix} leaves room for {} nodes, --nodes is {nodes}",
                prefix.capacity()
            );
        }
        Ok(prefix)
    }

    fn resolve_boot_address(&self, network: &Network, found: Option<IpAddr>) -> Result<IpAddr> {
        match (network, self.boot_address.or(found)) {
            (Network::Managed(_), _) if self.boot_address.is_some() => {
                bail!("--boot-address goes with --network bridge or an existing network")
            }
            (Network::Managed(network), _) => Ok(address::gateway(network.subnet).into()),
            (_, Some(address)) => Ok(address),
            (_, None) => bail!(
                "{network} has no IPv4 address for the boot server; name one by --boot-address"
            ),
        }
    }

    fn resolve_network(&self, nodes: u32, found: &HostFacts) -> Result<Network> {
        if let Some(network) = self.foreign_network()? {
            self.refuse_subnet()?;
            return Ok(network);
        }
        let mode = match self.network {
            Some(NetworkChoice::Managed(mode)) => mode,
            _ => NetworkMode::Nat,
        };
        let subnet = match self.subnet {
            Some(subnet) => checked_subnet(subnet.trunc(), nodes, found)?,
            None => address::free_subnet(found.uuid, nodes, &found.occupied).ok_or_else(|| {
                anyhow!("no subnet is free for {nodes} nodes; name one by --subnet")
            })?,
        };
        Ok(Network::Managed(ManagedNetwork { mode, subnet }))
    }

    fn refuse_subnet(&self) -> Result<()> {
        if self.network_template.is_some() {
            bail!(
                "--network-template goes with a network of the lab's own (nat, isolated, routed)"
            );
        }
        if self.subnet.is_some() {
            bail!("--subnet goes with a network of the lab's own (nat, isolated, routed)");
        }
        Ok(())
    }
}

/// The subnet that somebody named, if a lab of so many nodes can have it.
fn checked_subnet(subnet: Ipv4Net, nodes: u32, found: &HostFacts) -> Result<Ipv4Net> {
    if let Some((other, owner)) = found.occupant(subnet) {
        bail!(
            "--subnet {subnet} overlaps {other}, which belongs to {owner}; without --subnet a free one is taken"
        );
    }
    let capacity = address::capacity(subnet);
    if capacity < nodes {
        bail!("--subnet {subnet} has room for {capacity} beside the gateway, --nodes is {nodes}");
    }
    Ok(subnet)
}

/// Whom the command is run as that tells whether a node is ready, if a command does.
fn ready_user(ready: &Readiness, user: Option<String>, image: &ImageRef) -> Result<Option<String>> {
    match (ready, user) {
        (Readiness::Command(_), None) => bail!(
            "--ready {ready}: image `{}` names nobody to log in as; `ssh_user` in its entry does",
            image.name
        ),
        (Readiness::Command(_), user) => Ok(user),
        _ => Ok(None),
    }
}

const DEFAULT_NODES: u32 = 3;
/// As many as etcd's own documentation has at most: each write waits for a majority of them.
const DEFAULT_VOTERS: u32 = 7;
/// The article's `VM_MEMORY_MB`.
const DEFAULT_MEMORY_MIB: u64 = 1024;

#[cfg(test)]
mod tests {
    use super::*;
    use std::path::Path;

    fn host_facts() -> HostFacts {
        HostFacts {
            uuid: Uuid::nil(),
            hostname: "host".to_owned(),
            occupied: vec![("192.168.100.0/24".parse().unwrap(), "network `default`".to_owned())],
            image: ImageRef { name: "micro".to_owned(), digest: None },
            arch: Arch::default(),
            least_memory: 512.try_into().unwrap(),
            config: ConfigSource::None,
            data_dir: None,
            domain_template: None,
            network_template: None,
            ready: Readiness::Etcd,
            ssh_user: None,
            virt_type: VirtType::Qemu,
            boot_address: None,
            boot_port: 8470,
        }
    }

    #[test]
    fn the_defaults_are_the_articles() {
        let lab = LabOptions::default().resolve(host_facts()).unwrap();
        assert_eq!(lab.name.as_str(), "lab");
        assert_eq!((lab.spec.nodes, lab.spec.memory.mib(), lab.spec.vcpus), (3, 1024, 1));
        assert_eq!(lab.spec.network.to_string(), "nat 192.168.101.0/24");
        assert_eq!(lab.boot_url(), "http://192.168.101.1:8470");
    }

    #[test]
    fn a_large_image_gets_what_it_needs() {
        let found = HostFacts { least_memory: 3072.try_into().unwrap(), ..host_facts() };
        let lab = LabOptions::default().resolve(found).unwrap();
        assert_eq!(lab.spec.memory.mib(), 3072);
    }

    #[test]
    fn a_flag_wins_over_the_file() {
        let from_file = |text| LabOptions::from_toml(text, Path::new("lab.toml"));
        let flags = LabOptions { nodes: Some(5), ..LabOptions::default() };
        let options =
            flags.or(from_file("version = 1\nnodes = 2\nmemory = 2048\nstagger = '1s'").unwrap());
        let lab = options.resolve(host_facts()).unwrap();
        assert_eq!((lab.spec.nodes, lab.spec.memory.mib(), lab.spec.stagger_ms), (5, 2048, 1000));
    }

    #[test]
    fn what_cannot_be_is_refused_with_the_flag() {
        let options = |change: fn(&mut LabOptions)| {
            let mut options = LabOptions::default();
            change(&mut options);
            options
        };
        let cases: [(LabOptions, &str); 12] = [
            (
                options(|o| o.description = Some("a\u{1}".to_owned())),
                "--description has the character U+0001 in it, which libvirt's XML cannot hold",
            ),
            (
                options(|o| o.network = Some(NetworkChoice::Existing("\u{1b}x".to_owned()))),
                "--network has the character U+001B in it, which libvirt's XML cannot hold",
            ),
            (
                options(|o| o.image = Some("a\nb".to_owned())),
                "--image has the character U+000A in it, which libvirt's XML cannot hold",
            ),
            (
                options(|o| o.domain_template = Some("/\u{ffff}".into())),
                "--domain-template has the character U+FFFF in it, which libvirt's XML cannot hold",
            ),
            (
                options(|o| o.subnet = Some("192.168.0.0/16".parse().unwrap())),
                "--subnet 192.168.0.0/16 overlaps 192.168.100.0/24, which belongs to network `default`; without --subnet a free one is taken",
            ),
            (
                options(|o| o.subnet = Some("10.1.2.0/30".parse().unwrap())),
                "--subnet 10.1.2.0/30 has room for 1 beside the gateway, --nodes is 3",
            ),
            (
                options(|o| o.memory = Some(256.try_into().unwrap())),
                "image `micro` needs at least 512MiB of memory in each node, --memory is 256MiB",
            ),
            (options(|o| o.bridge = Some("br0".to_owned())), "--bridge goes with --network bridge"),
            (
                options(|o| {
                    o.network = Some(NetworkChoice::Bridge);
                    o.subnet = Some("10.0.0.0/24".parse().unwrap());
                }),
                "--subnet goes with a network of the lab's own (nat, isolated, routed)",
            ),
            (
                options(|o| o.network = Some(NetworkChoice::Bridge)),
                "bridge br0 has no IPv4 address for the boot server; name one by --boot-address",
            ),
            (
                options(|o| {
                    o.network = Some(NetworkChoice::Existing("wire".to_owned()));
                    o.voters = Some(3);
                    o.boot_address = Some([10, 0, 0, 1].into());
                }),
                "--voters goes with a network of the lab's own (nat, isolated, routed); elsewhere all nodes are members",
            ),
            (
                options(|o| {
                    o.nodes = Some(300);
                    o.mac_prefix = Some("52:54:00:12:34".parse().unwrap());
                }),
                "--mac-prefix 52:54:00:12:34 leaves room for 255 nodes, --nodes is 300",
            ),
        ];
        for (options, message) in cases {
            assert_eq!(options.resolve(host_facts()).unwrap_err().to_string(), message);
        }
    }
}
