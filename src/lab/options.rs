//! What somebody asked for: one struct that is the flags of `create` and the lab file both.
//!
//! Everything is optional here. Precedence is flag, environment, lab file, default; `or` lays one
//! source over the next and `resolve` turns the sum, with what was found out about the host, into
//! a [`Lab`].

use std::net::IpAddr;
use std::path::Path;
use std::path::PathBuf;
use std::str::FromStr;

use anyhow::Result;
use anyhow::anyhow;
use anyhow::bail;
use clap::Args;
use clap::ValueEnum;
use ipnet::Ipv4Net;
use serde::Deserialize;
use uuid::Uuid;

use super::Lab;
use super::LabName;
use super::LabSpec;
use super::address;
use super::address::MacPrefix;
use super::boot::BootChoice;
use super::boot::Firmware;
use super::boot::Loader;
use super::boot::Transport;
use super::hardware::DiskSize;
use super::hardware::Graphics;
use super::hardware::Hardware;
use super::hardware::Nic;
use super::size::MemoryMib;
use super::spec::ConfigRef;
use super::spec::ImageRef;
use super::spec::ManagedNetwork;
use super::spec::Network;
use super::spec::NetworkMode;
use super::spec::VirtType;
use crate::images::Readiness;

/// What a lab should be like, as far as somebody said.
#[derive(Args, Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
#[command(next_help_heading = "Lab")]
pub struct LabOptions {
    /// The version of the lab file's form; always 1.
    #[arg(skip)]
    pub version: Option<u32>,

    /// Name of the lab [default: lab]
    #[arg(value_name = "LAB", env = "VIRTLAB_LAB", help_heading = None)]
    pub name: Option<LabName>,

    /// Number of nodes [default: 3]
    #[arg(short, long, value_name = "N", env = "VIRTLAB_NODES", value_parser = node_count)]
    #[serde(default, deserialize_with = "node_count_field")]
    pub nodes: Option<u32>,

    /// Memory of each node [default: 1024MiB]
    #[arg(short, long, value_name = "SIZE", env = "VIRTLAB_MEMORY")]
    pub memory: Option<MemoryMib>,

    /// Processor cores of each node [default: 1]
    #[arg(long, value_name = "N", env = "VIRTLAB_VCPUS", value_parser = vcpu_count)]
    #[serde(default, deserialize_with = "vcpu_count_field")]
    pub vcpus: Option<u32>,

    /// What to boot: a name of the catalogue or a TOML file [default: micro]
    #[arg(long, value_name = "IMAGE", env = "VIRTLAB_IMAGE")]
    pub image: Option<String>,

    /// Template of the nodes' config [default: the image's own]
    #[arg(long, value_name = "FILE", env = "VIRTLAB_CONFIG")]
    pub config: Option<PathBuf>,

    /// Public SSH key that may log in, repeatable [default: ~/.ssh/*.pub]
    #[arg(long, value_name = "FILE", env = "VIRTLAB_SSH_KEY", value_delimiter = ':')]
    #[serde(default)]
    pub ssh_key: Vec<PathBuf>,

    /// etcd discovery service, for templates that want one [default: the lab's own]
    #[arg(long, value_name = "URL", env = "VIRTLAB_DISCOVERY")]
    pub discovery: Option<String>,

    /// nat, isolated, routed, bridge, or an existing libvirt network [default: nat]
    #[arg(long, value_name = "NETWORK", env = "VIRTLAB_NETWORK")]
    pub network: Option<NetworkChoice>,

    /// The host's bridge, with --network bridge [default: br0]
    #[arg(long, value_name = "NAME", env = "VIRTLAB_BRIDGE")]
    pub bridge: Option<String>,

    /// IPv4 subnet of the lab's own network [default: a free one]
    #[arg(long, value_name = "CIDR", env = "VIRTLAB_SUBNET", value_parser = subnet)]
    #[serde(default, deserialize_with = "subnet_field")]
    pub subnet: Option<Ipv4Net>,

    /// First octets of the MAC addresses, such as 52:54:00:12:34 [default: by the lab's name]
    #[arg(long, value_name = "MAC", env = "VIRTLAB_MAC_PREFIX")]
    pub mac_prefix: Option<MacPrefix>,

    /// Hardware virtualisation or emulation [default: auto]
    #[arg(long, value_name = "TYPE", env = "VIRTLAB_VIRT_TYPE")]
    pub virt_type: Option<VirtTypeChoice>,

    /// Pause between the starts of two nodes, such as 1s [default: 0s]
    #[arg(long, value_name = "TIME", env = "VIRTLAB_STAGGER")]
    pub stagger: Option<Span>,

    /// Port of the boot server [default: a free one from 8470 on]
    #[arg(long, value_name = "PORT", env = "VIRTLAB_BOOT_PORT")]
    pub boot_port: Option<u16>,

    /// Address that the boot server listens on, with --network bridge [default: the bridge's]
    #[arg(long, value_name = "IP", env = "VIRTLAB_BOOT_ADDRESS")]
    pub boot_address: Option<IpAddr>,

    /// Let the host keep identical pages of the nodes once (KSM) as long as the lab is there
    #[arg(
        long,
        value_name = "BOOL",
        env = "VIRTLAB_KSM",
        num_args = 0..=1,
        require_equals = true,
        default_missing_value = "true",
        value_parser = clap::builder::BoolishValueParser::new()
    )]
    pub ksm: Option<bool>,

    /// Program that loads the kernel: ipxe or pxelinux [default: ipxe]
    #[arg(long, value_name = "LOADER", env = "VIRTLAB_LOADER", hide_possible_values = true)]
    pub loader: Option<Loader>,

    /// Firmware of the nodes: bios or uefi [default: bios]
    #[arg(long, value_name = "FIRMWARE", env = "VIRTLAB_FIRMWARE", hide_possible_values = true)]
    pub firmware: Option<Firmware>,

    /// How kernel and initrd travel: http or tftp [default: http; pxelinux: tftp]
    #[arg(long, value_name = "TRANSPORT", env = "VIRTLAB_TRANSPORT", hide_possible_values = true)]
    pub transport: Option<Transport>,

    /// Firmware with Secure Boot, without keys, so that it still boots anything
    #[arg(
        long,
        value_name = "true|false",
        env = "VIRTLAB_SECURE_BOOT",
        num_args = 0..=1,
        require_equals = true,
        default_missing_value = "true",
        hide_possible_values = true
    )]
    pub secure_boot: Option<bool>,

    /// How the screen is shown: none, vnc or spice [default: none]
    #[arg(long, value_name = "TYPE", env = "VIRTLAB_GRAPHICS", hide_possible_values = true)]
    pub graphics: Option<Graphics>,

    /// Disk of each node, such as 10GiB; booted from once there is a system on it
    #[arg(long, value_name = "SIZE", env = "VIRTLAB_DISK")]
    pub disk: Option<DiskSize>,

    /// Further network card on a libvirt network or on bridge:NAME; repeatable
    #[arg(long = "nic", value_name = "NETWORK")]
    #[serde(default, rename = "nics")]
    pub nics: Vec<Nic>,

    /// QEMU's machine type [default: q35]
    #[arg(long, value_name = "TYPE", env = "VIRTLAB_MACHINE")]
    pub machine: Option<String>,

    /// Processor model of libvirt's, or host-passthrough, host-model, maximum
    #[arg(long, value_name = "MODEL", env = "VIRTLAB_CPU")]
    pub cpu: Option<String>,

    /// Take the nodes' memory from the host's huge pages
    #[arg(
        long,
        value_name = "true|false",
        env = "VIRTLAB_HUGEPAGES",
        num_args = 0..=1,
        require_equals = true,
        default_missing_value = "true",
        hide_possible_values = true
    )]
    pub hugepages: Option<bool>,

    /// Keep the host's kernel from merging the nodes' equal pages (KSM)
    #[arg(
        long,
        value_name = "true|false",
        env = "VIRTLAB_NO_SHARE_PAGES",
        num_args = 0..=1,
        require_equals = true,
        default_missing_value = "true",
        hide_possible_values = true
    )]
    pub no_share_pages: Option<bool>,

    /// Your own domain template, see docs/templates.md
    #[arg(long, value_name = "FILE", env = "VIRTLAB_DOMAIN_TEMPLATE")]
    pub domain_template: Option<PathBuf>,

    /// Your own network template, see docs/templates.md
    #[arg(long, value_name = "FILE", env = "VIRTLAB_NETWORK_TEMPLATE")]
    pub network_template: Option<PathBuf>,

    /// Free text that virsh and virt-manager show
    #[arg(long, value_name = "TEXT", env = "VIRTLAB_DESCRIPTION")]
    pub description: Option<String>,
}

/// What was found out about the host and the image before a lab is decided.
#[derive(Clone, Debug)]
pub struct Surroundings {
    /// A fresh UUID.
    pub uuid: Uuid,
    /// The host's name, so that labs of two hosts on one wire get different MAC addresses.
    pub hostname: String,
    /// What is taken: subnets with the name of who has them.
    pub occupied: Vec<(Ipv4Net, String)>,
    /// The image that was resolved.
    pub image: ImageRef,
    /// What the image needs at least.
    pub least_memory: MemoryMib,
    /// The config template that was read.
    pub config: ConfigRef,
    /// The domain template that was read, if one was named.
    pub domain_template: Option<ConfigRef>,
    /// The network template that was read, if one was named.
    pub network_template: Option<ConfigRef>,
    /// When a node of the image counts as ready.
    pub ready: Readiness,
    /// What `auto` means on this host.
    pub virt_type: VirtType,
    /// Where the boot server can listen when the network is not ours.
    pub boot_address: Option<IpAddr>,
    /// A port that is free.
    pub boot_port: u16,
}

impl LabOptions {
    /// Reads a lab file's text. `path` is for messages, and what its relative paths start from.
    ///
    /// # Errors
    /// If it is not TOML, has an unknown key or a value that cannot be, with line and column.
    pub fn from_toml(text: &str, path: &Path) -> Result<Self> {
        let options: Self = toml::from_str(text).map_err(|error| {
            let error = error.to_string();
            anyhow!("reading lab file `{}`: {}", path.display(), error.trim_end())
        })?;
        match options.version {
            Some(1) => {}
            Some(other) => bail!(
                "reading lab file `{}`: version {other} is not known to this virtlab, which reads version 1",
                path.display()
            ),
            None => bail!(
                "reading lab file `{}`: it does not say which version it is; begin it with `version = 1`",
                path.display()
            ),
        }
        Ok(options.seen_from(path.parent().unwrap_or(Path::new(""))))
    }

    /// These options with every path seen from `folder`: a lab is looked at from other folders, too.
    #[must_use]
    pub fn seen_from(self, folder: &Path) -> Self {
        let seen = |path: PathBuf| folder.join(path);
        Self {
            config: self.config.map(seen),
            domain_template: self.domain_template.map(seen),
            network_template: self.network_template.map(seen),
            ssh_key: self.ssh_key.into_iter().map(seen).collect(),
            image: self.image.map(|image| image_in(folder, image)),
            ..self
        }
    }

    /// These options, and where they say nothing, those of `lower`.
    #[must_use]
    pub fn or(self, lower: Self) -> Self {
        Self {
            version: self.version.or(lower.version),
            name: self.name.or(lower.name),
            nodes: self.nodes.or(lower.nodes),
            memory: self.memory.or(lower.memory),
            vcpus: self.vcpus.or(lower.vcpus),
            image: self.image.or(lower.image),
            config: self.config.or(lower.config),
            ssh_key: if self.ssh_key.is_empty() { lower.ssh_key } else { self.ssh_key },
            discovery: self.discovery.or(lower.discovery),
            network: self.network.or(lower.network),
            bridge: self.bridge.or(lower.bridge),
            subnet: self.subnet.or(lower.subnet),
            mac_prefix: self.mac_prefix.or(lower.mac_prefix),
            virt_type: self.virt_type.or(lower.virt_type),
            stagger: self.stagger.or(lower.stagger),
            boot_port: self.boot_port.or(lower.boot_port),
            boot_address: self.boot_address.or(lower.boot_address),
            ksm: self.ksm.or(lower.ksm),
            loader: self.loader.or(lower.loader),
            firmware: self.firmware.or(lower.firmware),
            transport: self.transport.or(lower.transport),
            secure_boot: self.secure_boot.or(lower.secure_boot),
            graphics: self.graphics.or(lower.graphics),
            disk: self.disk.or(lower.disk),
            nics: if self.nics.is_empty() { lower.nics } else { self.nics },
            machine: self.machine.or(lower.machine),
            cpu: self.cpu.or(lower.cpu),
            hugepages: self.hugepages.or(lower.hugepages),
            no_share_pages: self.no_share_pages.or(lower.no_share_pages),
            domain_template: self.domain_template.or(lower.domain_template),
            network_template: self.network_template.or(lower.network_template),
            description: self.description.or(lower.description),
        }
    }

    /// The lab's name, or the default one.
    pub fn lab_name(&self) -> LabName {
        self.name
            .clone()
            .unwrap_or_else(|| DEFAULT_NAME.parse().expect("the default is a good name"))
    }

    /// The image, or the default one.
    pub fn image_name(&self) -> &str {
        self.image.as_deref().unwrap_or(DEFAULT_IMAGE)
    }

    /// The bridge that the lab's nodes attach to, if it is to sit on one of the host's.
    ///
    /// # Errors
    /// If flags contradict each other.
    pub fn bridge_name(&self) -> Result<Option<&str>> {
        let on_bridge = self.network == Some(NetworkChoice::Bridge);
        if !on_bridge && self.bridge.is_some() {
            bail!("--bridge goes with --network bridge");
        }
        Ok(on_bridge.then(|| self.bridge.as_deref().unwrap_or(DEFAULT_BRIDGE)))
    }

    /// The network that the lab is to attach to, if it is not to have one of its own.
    ///
    /// # Errors
    /// If flags contradict each other.
    pub fn foreign_network(&self) -> Result<Option<Network>> {
        if let Some(bridge) = self.bridge_name()? {
            return Ok(Some(Network::Bridge(bridge.to_owned())));
        }
        Ok(match &self.network {
            Some(NetworkChoice::Existing(name)) => Some(Network::Existing(name.clone())),
            _ => None,
        })
    }

    /// Decides everything that was left open.
    ///
    /// # Errors
    /// If what was asked for cannot be: each message names the flag and the way out.
    pub fn resolve(&self, found: Surroundings) -> Result<Lab> {
        let name = self.lab_name();
        let nodes = self.nodes.unwrap_or(DEFAULT_NODES);
        let memory = self.memory.unwrap_or(DEFAULT_MEMORY_MIB.try_into().expect("a good size"));
        if memory < found.least_memory {
            bail!(
                "image `{}` needs at least {} of memory in each node, --memory is {memory}",
                found.image.name,
                found.least_memory
            );
        }
        // XML 1.0 has no way to write these, escaped or not.
        let is_writable = |c: char| !c.is_control() || matches!(c, '\n' | '\t');
        if !self.description.iter().flat_map(|text| text.chars()).all(is_writable) {
            bail!("--description has a control character in it, which libvirt's XML cannot hold");
        }
        let network = self.resolve_network(nodes, &found)?;
        let mac_prefix = self.mac_prefix.clone().unwrap_or_else(|| match network {
            Network::Managed(_) => MacPrefix::derived(name.as_str()),
            Network::Bridge(_) | Network::Existing(_) => {
                MacPrefix::derived(&format!("{}/{name}", found.hostname))
            }
        });
        if nodes > mac_prefix.capacity() {
            bail!(
                "--mac-prefix {mac_prefix} leaves room for {} nodes, --nodes is {nodes}",
                mac_prefix.capacity()
            );
        }
        let boot_address = match (&network, self.boot_address, found.boot_address) {
            (Network::Managed(network), None, _) => address::gateway(network.subnet).into(),
            (Network::Managed(_), Some(_), _) => {
                bail!("--boot-address goes with --network bridge or an existing network")
            }
            (_, Some(address), _) | (_, None, Some(address)) => address,
            (_, None, None) => {
                bail!(
                    "{network} has no IPv4 address for the boot server; name one by --boot-address"
                )
            }
        };
        let spec = LabSpec {
            nodes,
            memory,
            vcpus: self.vcpus.unwrap_or(1),
            image: found.image,
            config: found.config,
            ready: found.ready,
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
            boot: self.boot_choice().decide()?,
            hardware: self.hardware(),
            domain_template: found.domain_template,
            network_template: found.network_template,
            description: self.description.clone(),
        };
        Ok(Lab { name, uuid: found.uuid, spec })
    }

    /// Where these options ask for something else than `lab` is, one line for each difference.
    pub fn differences(&self, lab: &Lab) -> Vec<String> {
        let spec = &lab.spec;
        let mut differences = Vec::new();
        let mut compare = |flag: &str, wanted: Option<String>, there: String| {
            if let Some(wanted) = wanted.filter(|wanted| *wanted != there) {
                differences.push(format!("{flag} {wanted} (it has {there})"));
            }
        };
        compare("--nodes", self.nodes.map(|n| n.to_string()), spec.nodes.to_string());
        compare("--memory", self.memory.map(|m| m.to_string()), spec.memory.to_string());
        compare("--vcpus", self.vcpus.map(|n| n.to_string()), spec.vcpus.to_string());
        compare("--image", self.image.clone(), spec.image.name.clone());
        let config = self.config.as_ref().map(|path| path.display().to_string());
        compare("--config", config, spec.config.source.clone());
        let kind = match &spec.network {
            Network::Managed(network) => network.mode.to_string(),
            Network::Bridge(_) => NetworkChoice::Bridge.to_string(),
            Network::Existing(name) => name.clone(),
        };
        compare("--network", self.network.as_ref().map(ToString::to_string), kind);
        if let Network::Bridge(bridge) = &spec.network {
            compare("--bridge", self.bridge.clone(), bridge.clone());
        }
        if let Some(network) = spec.network.managed() {
            compare(
                "--subnet",
                self.subnet.map(|s| s.trunc().to_string()),
                network.subnet.to_string(),
            );
        }
        let prefix = self.mac_prefix.as_ref().map(ToString::to_string);
        compare("--mac-prefix", prefix, spec.mac_prefix.to_string());
        let virt_type = self.virt_type.filter(|choice| *choice != VirtTypeChoice::Auto);
        compare(
            "--virt-type",
            virt_type.map(|choice| choice.to_string()),
            spec.virt_type.to_string(),
        );
        compare("--boot-port", self.boot_port.map(|n| n.to_string()), spec.boot_port.to_string());
        let address = self.boot_address.map(|ip| ip.to_string());
        compare("--boot-address", address, spec.boot_address.to_string());
        let switch = |on: bool| if on { "on" } else { "off" }.to_owned();
        compare("--ksm", self.ksm.map(switch), switch(spec.ksm));
        let (boot, wanted) = (spec.boot, self.boot_choice());
        let text = |value: Option<bool>| value.map(|value| value.to_string());
        compare("--loader", wanted.loader.map(|l| l.to_string()), boot.loader.to_string());
        compare("--firmware", wanted.firmware.map(|f| f.to_string()), boot.firmware.to_string());
        compare("--transport", wanted.transport.map(|t| t.to_string()), boot.transport.to_string());
        compare("--secure-boot", text(wanted.secure_boot), boot.secure_boot.to_string());
        let there = &spec.hardware;
        let or_none = |text: Option<String>| text.unwrap_or_else(|| "none".to_owned());
        compare("--graphics", self.graphics.map(|g| g.to_string()), there.graphics.to_string());
        let disk = |size: Option<DiskSize>| size.map(|size| size.to_string());
        compare("--disk", disk(self.disk), or_none(disk(there.disk)));
        let nics = |nics: &[Nic]| {
            let names: Vec<String> = nics.iter().map(ToString::to_string).collect();
            (!names.is_empty()).then(|| names.join(" "))
        };
        compare("--nic", nics(&self.nics), or_none(nics(&there.nics)));
        compare("--machine", self.machine.clone(), or_none(there.machine.clone()));
        compare("--cpu", self.cpu.clone(), or_none(there.cpu.clone()));
        compare("--hugepages", text(self.hugepages), there.hugepages.to_string());
        compare("--no-share-pages", text(self.no_share_pages), there.no_share_pages.to_string());
        for (flag, wanted, there) in [
            ("--domain-template", &self.domain_template, &spec.domain_template),
            ("--network-template", &self.network_template, &spec.network_template),
        ] {
            let wanted = wanted.as_ref().map(|path| absolute(path));
            compare(flag, wanted, or_none(there.as_ref().map(|there| there.source.clone())));
        }
        let description = spec.description.clone().unwrap_or_default();
        compare("--description", self.description.clone(), description);
        differences
    }

    fn boot_choice(&self) -> BootChoice {
        let Self { loader, firmware, transport, secure_boot, .. } = *self;
        BootChoice { loader, firmware, transport, secure_boot }
    }

    fn hardware(&self) -> Hardware {
        Hardware {
            graphics: self.graphics.unwrap_or_default(),
            disk: self.disk,
            nics: self.nics.clone(),
            machine: self.machine.clone(),
            cpu: self.cpu.clone(),
            hugepages: self.hugepages.unwrap_or_default(),
            no_share_pages: self.no_share_pages.unwrap_or_default(),
        }
    }

    fn resolve_network(&self, nodes: u32, found: &Surroundings) -> Result<Network> {
        if let Some(network) = self.foreign_network()? {
            self.refuse_subnet()?;
            return Ok(network);
        }
        let mode = match self.network {
            Some(NetworkChoice::Managed(mode)) => mode,
            _ => NetworkMode::Nat,
        };
        let taken_by = |subnet: Ipv4Net| {
            found
                .occupied
                .iter()
                .find(|(other, _)| other.contains(&subnet) || subnet.contains(other))
        };
        let subnet = if let Some(subnet) = self.subnet {
            let subnet = subnet.trunc();
            if let Some((other, owner)) = taken_by(subnet) {
                bail!(
                    "--subnet {subnet} overlaps {other}, which belongs to {owner}; without --subnet a free one is taken"
                );
            }
            if address::capacity(subnet) < nodes {
                bail!(
                    "--subnet {subnet} has room for {} beside the gateway, --nodes is {nodes}",
                    address::capacity(subnet)
                );
            }
            subnet
        } else {
            let mut candidates = address::candidate_subnets(found.uuid, nodes);
            candidates.find(|subnet| taken_by(*subnet).is_none()).ok_or_else(|| {
                anyhow!("no subnet is free for {nodes} nodes; name one by --subnet")
            })?
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

/// An image's name as it is, the path of an entry (`x.toml`) or of files (`NAME:FOLDER`) as seen from
/// `folder`.
fn image_in(folder: &Path, image: String) -> String {
    if Path::new(&image).extension().is_some_and(|extension| extension == "toml") {
        return folder.join(image).display().to_string();
    }
    match image.split_once(':') {
        Some((name, files)) if !files.is_empty() => {
            format!("{name}:{}", folder.join(files).display())
        }
        _ => image,
    }
}

/// What `--network` takes.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
pub enum NetworkChoice {
    /// A network of the lab's own.
    Managed(NetworkMode),
    /// A bridge of the host's.
    Bridge,
    /// A libvirt network by this name.
    Existing(String),
}

impl FromStr for NetworkChoice {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if text == "bridge" {
            Ok(Self::Bridge)
        } else if let Ok(mode) = NetworkMode::from_str(text, false) {
            Ok(Self::Managed(mode))
        } else if text.is_empty() {
            Err("a network's name cannot be empty".to_owned())
        } else {
            Ok(Self::Existing(text.to_owned()))
        }
    }
}

impl TryFrom<String> for NetworkChoice {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        text.parse()
    }
}

impl std::fmt::Display for NetworkChoice {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Managed(mode) => mode.fmt(f),
            Self::Bridge => f.write_str("bridge"),
            Self::Existing(name) => f.write_str(name),
        }
    }
}

/// What `--virt-type` takes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, ValueEnum)]
#[serde(rename_all = "kebab-case")]
pub enum VirtTypeChoice {
    /// KVM where a KVM guest really starts, else emulation
    #[default]
    Auto,
    /// Hardware virtualisation
    Kvm,
    /// Emulation
    Qemu,
}

impl std::fmt::Display for VirtTypeChoice {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Auto => "auto",
            Self::Kvm => "kvm",
            Self::Qemu => "qemu",
        })
    }
}

/// A span of time in milliseconds: `500ms`, `1s`, `1.5s`, `5m`; a bare number means seconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
pub struct Span(pub u64);

impl FromStr for Span {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let wrong = || format!("`{text}` is no span of time; write it like `500ms`, `10s` or `5m`");
        let end = text.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(text.len());
        let (number, unit) = text.split_at(end);
        let factor = match unit {
            "ms" => 1.0,
            "s" | "" => 1000.0,
            "m" => 60_000.0,
            "h" => 3_600_000.0,
            _ => return Err(wrong()),
        };
        let milliseconds = number.parse::<f64>().map_err(|_| wrong())? * factor;
        if milliseconds > MAX_SPAN_MS {
            return Err(format!("`{text}` is longer than a week"));
        }
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "checked above"
        )]
        Ok(Self(milliseconds.round() as u64))
    }
}

impl TryFrom<String> for Span {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        text.parse()
    }
}

impl From<Span> for std::time::Duration {
    fn from(span: Span) -> Self {
        Self::from_millis(span.0)
    }
}

/// As the lab keeps the path of a template.
fn absolute(path: &Path) -> String {
    std::path::absolute(path).unwrap_or_else(|_| path.to_owned()).display().to_string()
}

fn within(text: &str, most: u32, whole: &str, parts: &str) -> Result<u32, String> {
    let number: u32 = text.parse().map_err(|_| format!("a whole number of {parts} is wanted"))?;
    if (1..=most).contains(&number) {
        Ok(number)
    } else {
        Err(format!("a {whole} has 1 to {most} {parts}"))
    }
}

fn node_count(text: &str) -> Result<u32, String> {
    within(text, MAX_NODES, "lab", "nodes")
}

fn vcpu_count(text: &str) -> Result<u32, String> {
    within(text, MAX_VCPUS, "node", "cores")
}

/// A subnet that a network interface can have.
fn subnet(text: &str) -> Result<Ipv4Net, String> {
    let net: Ipv4Net = text.parse().map_err(|_| {
        "an IPv4 subnet is wanted, with the length of its prefix: 192.168.150.0/24".to_owned()
    })?;
    let (first, last) = (net.network(), net.broadcast());
    let unusable = net.prefix_len() < SHORTEST_PREFIX
        || [first, last].iter().any(|ip| {
            // 0.0.0.0/8 is "this network" (RFC 1122), 240.0.0.0/4 is reserved (RFC 1112).
            ip.is_loopback()
                || ip.is_multicast()
                || ip.is_link_local()
                || ip.octets()[0] == 0
                || ip.octets()[0] >= 240
        });
    if unusable {
        return Err(
            "no network can have it; take one out of 10.0.0.0/8, 172.16.0.0/12 or 192.168.0.0/16"
                .to_owned(),
        );
    }
    Ok(net)
}

fn subnet_field<'de, D: serde::Deserializer<'de>>(field: D) -> Result<Option<Ipv4Net>, D::Error> {
    let text = String::deserialize(field)?;
    subnet(&text).map(Some).map_err(serde::de::Error::custom)
}

fn node_count_field<'de, D: serde::Deserializer<'de>>(field: D) -> Result<Option<u32>, D::Error> {
    let number = u64::deserialize(field)?;
    node_count(&number.to_string()).map(Some).map_err(serde::de::Error::custom)
}

fn vcpu_count_field<'de, D: serde::Deserializer<'de>>(field: D) -> Result<Option<u32>, D::Error> {
    let number = u64::deserialize(field)?;
    vcpu_count(&number.to_string()).map(Some).map_err(serde::de::Error::custom)
}

const DEFAULT_NAME: &str = "lab";
const DEFAULT_IMAGE: &str = "micro";
const DEFAULT_BRIDGE: &str = "br0";
const DEFAULT_NODES: u32 = 3;
/// The article's `VM_MEMORY_MB`.
const DEFAULT_MEMORY_MIB: u64 = 1024;
/// Larger labs than this have not been tried on one host.
const MAX_NODES: u32 = 1000;
const MAX_VCPUS: u32 = 255;
/// Larger than 10.0.0.0/8 there is no private subnet.
const SHORTEST_PREFIX: u8 = 8;
const MAX_SPAN_MS: f64 = 7.0 * 24.0 * 3_600_000.0;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::lab::tests::lab;

    fn surroundings() -> Surroundings {
        Surroundings {
            uuid: Uuid::nil(),
            hostname: "host".to_owned(),
            occupied: vec![("192.168.100.0/24".parse().unwrap(), "network `default`".to_owned())],
            image: ImageRef { name: "micro".to_owned(), digest: "sha256:abc".to_owned() },
            least_memory: 512.try_into().unwrap(),
            config: ConfigRef { source: "x".to_owned(), digest: "sha256:def".to_owned() },
            domain_template: None,
            network_template: None,
            ready: Readiness::Etcd,
            virt_type: VirtType::Qemu,
            boot_address: None,
            boot_port: 8470,
        }
    }

    fn file(text: &str) -> Result<LabOptions> {
        LabOptions::from_toml(text, Path::new("dir/lab.toml"))
    }

    #[test]
    fn the_defaults_are_the_articles() {
        let lab = LabOptions::default().resolve(surroundings()).unwrap();
        assert_eq!(lab.name.as_str(), "lab");
        assert_eq!((lab.spec.nodes, lab.spec.memory.mib(), lab.spec.vcpus), (3, 1024, 1));
        assert_eq!(lab.spec.network.to_string(), "nat 192.168.101.0/24");
        assert_eq!(lab.boot_url(), "http://192.168.101.1:8470");
    }

    #[test]
    fn a_flag_wins_over_the_file() {
        let flags = LabOptions { nodes: Some(5), ..LabOptions::default() };
        let options =
            flags.or(file("version = 1\nnodes = 2\nmemory = 2048\nstagger = '1s'").unwrap());
        let lab = options.resolve(surroundings()).unwrap();
        assert_eq!((lab.spec.nodes, lab.spec.memory.mib(), lab.spec.stagger_ms), (5, 2048, 1000));
    }

    #[test]
    fn paths_in_a_file_start_from_its_folder() {
        let options = file("version = 1\nconfig = 'my.ign'\nssh-key = ['a.pub', '/b']").unwrap();
        assert_eq!(options.ssh_key, [Path::new("dir/a.pub"), Path::new("/b")]);
        assert_eq!(options.config, Some(PathBuf::from("dir/my.ign")));
        for (image, seen) in [
            ("micro", "micro"),
            ("my.toml", "dir/my.toml"),
            ("/abs/my.toml", "/abs/my.toml"),
            ("talos:files", "talos:dir/files"),
            ("talos:", "talos:"),
        ] {
            let options = file(&format!("version = 1\nimage = '{image}'")).unwrap();
            assert_eq!(options.image.as_deref(), Some(seen));
        }
    }

    #[test]
    fn a_wrong_file_is_refused_with_line_and_column() {
        for (text, message) in [
            ("version = 1\nnods = 3", "line 2, column 1"),
            ("version = 1\nnodes = 0", "a lab has 1 to 1000 nodes"),
            ("version = 1\nmemory = 1", "1 MiB of memory is not usable"),
            ("version = 1\nsubnet = '10.0.0.0'", "line 2, column 10"),
            ("version = 2", "version 2 is not known"),
            ("nodes = 3", "begin it with `version = 1`"),
            ("version = ", "line 1"),
        ] {
            let error = format!("{:#}", file(text).unwrap_err());
            assert!(error.contains(message) && error.contains("dir/lab.toml"), "{text}: {error}");
        }
    }

    #[test]
    fn what_cannot_be_is_refused_with_the_flag() {
        let options = |change: fn(&mut LabOptions)| {
            let mut options = LabOptions::default();
            change(&mut options);
            options
        };
        let cases: [(LabOptions, &str); 8] = [
            (
                options(|o| o.description = Some("a\u{1}".to_owned())),
                "--description has a control character in it, which libvirt's XML cannot hold",
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
                    o.nodes = Some(300);
                    o.mac_prefix = Some("52:54:00:12:34".parse().unwrap());
                }),
                "--mac-prefix 52:54:00:12:34 leaves room for 255 nodes, --nodes is 300",
            ),
        ];
        for (options, message) in cases {
            assert_eq!(options.resolve(surroundings()).unwrap_err().to_string(), message);
        }
    }

    #[test]
    fn a_subnet_is_one_that_an_interface_can_have() {
        for text in ["10.0.0.0/8", "192.168.150.0/24", "172.16.5.9/30", "203.0.113.0/24"] {
            assert!(subnet(text).is_ok(), "{text}");
        }
        for text in [
            "",
            "10.0.0.0",
            "10.0.0.0/33",
            "fd00::/64",
            "0.0.0.0/0",
            "0.0.0.0/8",
            "10.0.0.0/7",
            "127.1.0.0/16",
            "169.254.7.0/24",
            "224.0.0.0/8",
            "255.255.255.0/24",
        ] {
            assert!(subnet(text).is_err(), "{text}");
        }
    }

    #[test]
    fn differences_from_an_existing_lab_are_told_by_flag() {
        let options = LabOptions {
            nodes: Some(5),
            memory: Some(1024.try_into().unwrap()),
            network: Some(NetworkChoice::Managed(NetworkMode::Isolated)),
            ksm: Some(true),
            ..LabOptions::default()
        };
        assert_eq!(
            options.differences(&lab(3)),
            ["--nodes 5 (it has 3)", "--network isolated (it has nat)", "--ksm on (it has off)"]
        );
        assert_eq!(LabOptions::default().differences(&lab(3)), Vec::<String>::new());
    }

    #[test]
    fn spans_of_time_are_read_as_people_write_them() {
        for (text, ms) in
            [("500ms", 500), ("1s", 1000), ("1.5s", 1500), ("5m", 300_000), ("2", 2000)]
        {
            assert_eq!(text.parse(), Ok(Span(ms)), "{text}");
        }
        for text in ["", "s", "-1s", "1x", "1e99s", "999h"] {
            assert!(text.parse::<Span>().is_err(), "{text}");
        }
    }
}
