//! What somebody asked for: one struct that is the flags of `create` and the lab file both.
//!
//! Everything is optional here. Precedence is flag, environment, lab file, default; `or` lays one
//! source over the next and `resolve` turns the sum, with what was found out about the host, into
//! a [`Lab`](super::Lab).

mod differences;
mod resolve;
mod values;

use std::net::IpAddr;
use std::path::{Path, PathBuf};

use anyhow::{Result, anyhow, bail};
use clap::Args;
use ipnet::Ipv4Net;
use serde::Deserialize;

pub use self::resolve::HostFacts;
pub(crate) use self::values::node_count;
pub use self::values::{NetworkChoice, Span, VirtTypeChoice};
use super::address::MacPrefix;
use super::boot::{Firmware, Loader, Transport};
use super::hardware::{DiskSize, Graphics, ModelName, Nic};
use super::size::MemoryMib;
use super::{LabName, Network};
use crate::images::{Readiness, catalogue};

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
    #[arg(short, long, value_name = "N", env = "VIRTLAB_NODES", help_heading = None, value_parser = values::node_count)]
    #[serde(default, deserialize_with = "values::node_count_field")]
    pub nodes: Option<u32>,

    /// Memory of each node [default: 1024MiB, or what the image needs at least]
    #[arg(short, long, value_name = "SIZE", env = "VIRTLAB_MEMORY", help_heading = None)]
    pub memory: Option<MemoryMib>,

    /// Processor cores of each node [default: 1]
    #[arg(long, value_name = "N", env = "VIRTLAB_VCPUS", help_heading = None, value_parser = values::vcpu_count)]
    #[serde(default, deserialize_with = "values::vcpu_count_field")]
    pub vcpus: Option<u32>,

    /// What to boot: a name of the catalogue or a TOML file [default: micro]
    #[arg(long, value_name = "IMAGE", env = "VIRTLAB_IMAGE", help_heading = None)]
    pub image: Option<String>,

    /// Template of the nodes' config [default: the image's own]
    #[arg(long, value_name = "FILE", env = "VIRTLAB_CONFIG", help_heading = None)]
    pub config: Option<PathBuf>,

    /// When a node is ready: `config` is fetched, `ssh` answers, `etcd` is healthy, `tcp:PORT` accepts connections,
    /// `http://:PORT/PATH` answers with success, `command:COMMAND` succeeds over ssh [default: by image]
    #[arg(long, value_name = "config|ssh|etcd|…", env = "VIRTLAB_READY")]
    pub ready: Option<Readiness>,

    /// Members of the etcd cluster in a large lab, the first nodes; the others are its clients [default: 7]
    #[arg(long, value_name = "N", env = "VIRTLAB_VOTERS", value_parser = values::voter_count)]
    #[serde(default, deserialize_with = "values::voter_count_field")]
    pub voters: Option<u32>,

    /// Public SSH key that may log in, repeatable [default: ~/.ssh/*.pub]
    #[arg(long, value_name = "FILE", env = "VIRTLAB_SSH_KEY", value_delimiter = ':')]
    #[serde(default)]
    pub ssh_key: Vec<PathBuf>,

    /// etcd discovery service, for templates that want one [default: the lab's own]
    #[arg(long, value_name = "URL", env = "VIRTLAB_DISCOVERY", value_parser = values::discovery)]
    #[serde(default, deserialize_with = "values::discovery_field")]
    pub discovery: Option<String>,

    /// nat, isolated, routed, bridge, or an existing libvirt network [default: nat]
    #[arg(long, value_name = "NETWORK", env = "VIRTLAB_NETWORK")]
    pub network: Option<NetworkChoice>,

    /// The host's bridge, with --network bridge [default: br0]
    #[arg(long, value_name = "NAME", env = "VIRTLAB_BRIDGE")]
    pub bridge: Option<String>,

    /// IPv4 subnet of the lab's own network [default: a free one]
    #[arg(long, value_name = "CIDR", env = "VIRTLAB_SUBNET", value_parser = values::subnet)]
    #[serde(default, deserialize_with = "values::subnet_field")]
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
    #[arg(long, value_name = "IP", env = "VIRTLAB_BOOT_ADDRESS", value_parser = values::boot_address)]
    #[serde(default, deserialize_with = "values::boot_address_field")]
    pub boot_address: Option<IpAddr>,

    /// Behind a router, take a machine for the node whose MAC address it claims to have
    #[arg(
        long,
        value_name = "true|false",
        env = "VIRTLAB_TRUST_CLAIMED_MAC",
        num_args = 0..=1,
        require_equals = true,
        default_missing_value = "true",
        hide_possible_values = true
    )]
    pub trust_claimed_mac: Option<bool>,

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

    /// Let the lab come back when the host was switched off and on
    #[arg(
        long,
        value_name = "true|false",
        env = "VIRTLAB_AUTOSTART",
        num_args = 0..=1,
        require_equals = true,
        default_missing_value = "true",
        hide_possible_values = true
    )]
    pub autostart: Option<bool>,

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

    /// Let iPXE wait two seconds for Ctrl-B at each boot, instead of pressing a key that ends the wait
    #[arg(
        long,
        value_name = "true|false",
        env = "VIRTLAB_NO_KNOCK",
        num_args = 0..=1,
        require_equals = true,
        default_missing_value = "true",
        hide_possible_values = true
    )]
    pub no_knock: Option<bool>,

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
    pub machine: Option<ModelName>,

    /// Processor model of libvirt's, or host-passthrough, host-model, maximum
    #[arg(long, value_name = "MODEL", env = "VIRTLAB_CPU")]
    pub cpu: Option<ModelName>,

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
        let seen = |path: PathBuf| seen_from(folder, &path);
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
            ready: self.ready.or(lower.ready),
            voters: self.voters.or(lower.voters),
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
            trust_claimed_mac: self.trust_claimed_mac.or(lower.trust_claimed_mac),
            ksm: self.ksm.or(lower.ksm),
            autostart: self.autostart.or(lower.autostart),
            loader: self.loader.or(lower.loader),
            firmware: self.firmware.or(lower.firmware),
            transport: self.transport.or(lower.transport),
            secure_boot: self.secure_boot.or(lower.secure_boot),
            no_knock: self.no_knock.or(lower.no_knock),
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
}

/// An image's name as it is, the path of an entry (`x.toml`) or of files (`NAME:FOLDER`) as seen from
/// `folder`.
fn image_in(folder: &Path, image: String) -> String {
    if catalogue::is_path(&image) {
        return seen_from(folder, Path::new(&image)).display().to_string();
    }
    match image.split_once(':') {
        Some((name, files)) if !files.is_empty() => {
            format!("{name}:{}", seen_from(folder, Path::new(files)).display())
        }
        _ => image,
    }
}

/// `path` as seen from `folder`, and the same however it was spelt: without any `.` in it.
fn seen_from(folder: &Path, path: &Path) -> PathBuf {
    folder.join(path).components().collect()
}

const DEFAULT_NAME: &str = "lab";
const DEFAULT_IMAGE: &str = "micro";
const DEFAULT_BRIDGE: &str = "br0";

#[cfg(test)]
mod tests {
    use super::*;

    fn file(text: &str) -> Result<LabOptions> {
        LabOptions::from_toml(text, Path::new("dir/lab.toml"))
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
            ("./x/.././my.toml", "dir/x/../my.toml"),
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
}
