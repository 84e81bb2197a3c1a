//! What a lab consists of, with every default filled in. This is what libvirt's metadata keeps.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr};
use std::time::Duration;

use clap::ValueEnum;
use ipnet::Ipv4Net;
use serde::{Deserialize, Serialize};

use super::address::{self, MacPrefix};
use super::boot::{Boot, Loader, Transport};
use super::hardware::Hardware;
use super::size::MemoryMib;
use crate::images::{Readiness, Sha256};

/// The specification of a lab: enough to make it again, to serve it, and to take it down.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LabSpec {
    /// How many nodes.
    pub nodes: u32,
    /// Memory of each node.
    pub memory: MemoryMib,
    /// Processor cores of each node.
    pub vcpus: u32,
    /// What the nodes boot.
    pub image: ImageRef,
    /// What the booted system reads about itself.
    pub config: ConfigSource,
    /// When a node counts as ready.
    pub ready: Readiness,
    /// Whom the command that tells it is run as, if it is a command.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ready_user: Option<String>,
    /// How many nodes are members of the etcd cluster, the first ones; the others are its clients. `None`: all of them
    /// are members, as in labs of earlier virtlabs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub voters: Option<u32>,
    /// The network that the nodes are on.
    pub network: Network,
    /// How the nodes' MAC addresses begin.
    pub mac_prefix: MacPrefix,
    /// Hardware virtualisation or emulation; decided, never "auto".
    pub virt_type: VirtType,
    /// The address that the boot server listens on.
    pub boot_address: IpAddr,
    /// The TCP port that the boot server listens on.
    pub boot_port: u16,
    /// The pause between the starts of two nodes in milliseconds (the article's 1 s; default 0).
    #[serde(default)]
    pub stagger_ms: u64,
    /// Whether identical pages of the nodes are merged as long as the lab is there.
    #[serde(default)]
    pub ksm: bool,
    /// Whether it comes back with the host.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub autostart: bool,
    /// How the nodes boot over the network.
    #[serde(default, skip_serializing_if = "Boot::is_default")]
    pub boot: Boot,
    /// What the nodes' virtual computers have.
    #[serde(default, skip_serializing_if = "Hardware::is_default")]
    pub hardware: Hardware,
    /// The folder of the user's own files in which the lab's storage pool is, where libvirt is the user's
    /// own; `None` for libvirt's folder on the host.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub data_dir: Option<String>,
    /// The user's own domain template.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub domain_template: Option<TemplateRef>,
    /// The user's own network template.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub network_template: Option<TemplateRef>,
    /// Whether a machine behind a router is the node that it says it is.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub trust_claimed_mac: bool,
    /// Free text for the people who look at the domains.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub description: Option<String>,
}

/// An image, by the name that the user gave and by what it was when the lab was made.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ImageRef {
    /// A name of the catalogue or the path of a TOML file.
    pub name: String,
    /// What was resolved: the digest over all files of the image. `None` as long as it is not here,
    /// as for a rehearsal.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub digest: Option<Sha256>,
}

impl fmt::Display for ImageRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.digest {
            Some(digest) => write!(f, "{}@{digest}", self.name),
            None => f.write_str(&self.name),
        }
    }
}

/// A template of the user's, by name and digest only: its text may hold secrets, and anybody may read a
/// domain's XML over libvirt's read-only socket.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TemplateRef {
    /// The name of a template of ours, or the path of the user's file.
    pub source: String,
    /// Of the template's text.
    #[serde(with = "digest_text")]
    pub digest: Sha256,
}

impl TemplateRef {
    /// The template of this name or path with this text.
    pub fn new(source: impl Into<String>, text: &str) -> Self {
        Self { source: source.into(), digest: Sha256::of(text.as_bytes()) }
    }

    /// Whether this is still the template's text.
    pub fn is_of(&self, text: &str) -> bool {
        self.digest == Sha256::of(text.as_bytes())
    }
}

/// What the booted system reads about itself.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(from = "TemplateText", into = "TemplateText")]
pub enum ConfigSource {
    /// The image reads no config.
    None,
    /// Rendered from a template of ours.
    Ours(TemplateRef),
    /// Rendered from a file of the user's.
    File(TemplateRef),
}

impl ConfigSource {
    /// A config made from this template; those of ours are known by their name.
    pub fn of(template: TemplateRef) -> Self {
        if template.source.starts_with(OUR_CONFIGS) {
            Self::Ours(template)
        } else {
            Self::File(template)
        }
    }

    /// The template, if there is a config.
    pub fn template(&self) -> Option<&TemplateRef> {
        match self {
            Self::None => None,
            Self::Ours(template) | Self::File(template) => Some(template),
        }
    }

    /// The template's name or path; `none` if there is no config.
    pub fn name(&self) -> &str {
        self.template().map_or(NO_CONFIG, |template| &template.source)
    }
}

impl fmt::Display for ConfigSource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// A config as marks have it, since virtlab 0.1.
#[derive(Serialize, Deserialize)]
struct TemplateText {
    source: String,
    #[serde(with = "digest_text")]
    digest: Sha256,
}

impl From<TemplateText> for ConfigSource {
    fn from(TemplateText { source, digest }: TemplateText) -> Self {
        match source.as_str() {
            NO_CONFIG => Self::None,
            _ => Self::of(TemplateRef { source, digest }),
        }
    }
}

impl From<ConfigSource> for TemplateText {
    fn from(config: ConfigSource) -> Self {
        let source = config.name().to_owned();
        let digest = config.template().map_or_else(|| Sha256::of(b""), |template| template.digest);
        Self { source, digest }
    }
}

/// A digest that says which kind it is.
mod digest_text {
    use serde::{Deserialize, Deserializer, Serializer, de};

    use crate::images::Sha256;

    pub(super) fn serialize<S: Serializer>(digest: &Sha256, to: S) -> Result<S::Ok, S::Error> {
        to.serialize_str(&format!("{PREFIX}{digest}"))
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Sha256, D::Error> {
        let text = String::deserialize(from)?;
        let digits = text.strip_prefix(PREFIX).unwrap_or(&text);
        digits.parse().map_err(de::Error::custom)
    }

    const PREFIX: &str = "sha256:";
}

/// How the names of our config templates begin.
const OUR_CONFIGS: &str = "config-templates/";
const NO_CONFIG: &str = "none";

/// The network that the nodes of a lab are on.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Network {
    /// A libvirt network made for the lab and removed with it.
    Managed(ManagedNetwork),
    /// A bridge of the host: attached to, never made, changed or removed.
    Bridge(String),
    /// A libvirt network that exists already: attached to only.
    Existing(String),
}

/// A libvirt network of the lab's own.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ManagedNetwork {
    /// How it reaches the world.
    pub mode: NetworkMode,
    /// Its IPv4 subnet; the gateway is the first address.
    pub subnet: Ipv4Net,
}

/// How a network of ours reaches the world, in libvirt's words.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ValueEnum)]
#[serde(rename_all = "kebab-case")]
pub enum NetworkMode {
    /// Behind the host's address.
    Nat,
    /// Not at all.
    Isolated,
    /// By the host's routes.
    Routed,
}

impl fmt::Display for NetworkMode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Nat => "nat",
            Self::Isolated => "isolated",
            Self::Routed => "routed",
        })
    }
}

impl Network {
    /// The network of our own, if it is one.
    pub fn managed(&self) -> Option<&ManagedNetwork> {
        match self {
            Self::Managed(network) => Some(network),
            Self::Bridge(_) | Self::Existing(_) => None,
        }
    }

    /// The address reserved for the node with this index; `None` where we do not give addresses.
    pub fn node_ip(&self, index: u32) -> Option<Ipv4Addr> {
        self.managed().map(|network| address::node_ip(network.subnet, index))
    }
}

impl fmt::Display for Network {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Managed(network) => write!(f, "{} {}", network.mode, network.subnet),
            Self::Bridge(bridge) => write!(f, "bridge {bridge}"),
            Self::Existing(name) => write!(f, "network {name}"),
        }
    }
}

/// Whether guests run on the processor or are emulated; libvirt's domain type.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum VirtType {
    /// Hardware virtualisation.
    Kvm,
    /// Emulation (TCG): works everywhere, slowly.
    Qemu,
    /// libvirt's test driver, which runs nothing.
    Test,
}

impl fmt::Display for VirtType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Kvm => "kvm",
            Self::Qemu => "qemu",
            Self::Test => "test",
        })
    }
}

impl LabSpec {
    /// Whether the nodes' iPXE is kept from waiting for Ctrl-B, by pressing another key. Only where nothing but our own
    /// boot script can come after that prompt, and where the boot server sees it asked for: a key would stop the menu of
    /// a system on a disk, of another boot server, or of what a domain template of the user's own boots.
    pub fn knocks(&self) -> bool {
        let Boot { loader, firmware: _, transport, secure_boot: _, no_knock } = self.boot;
        !no_knock
            && (loader, transport) == (Loader::Ipxe, Transport::Http)
            && self.network.managed().is_some()
            && self.hardware.disk.is_none()
            && self.domain_template.is_none()
    }

    /// The pause between the starts of two nodes.
    pub fn stagger(&self) -> Duration {
        Duration::from_millis(self.stagger_ms)
    }

    #[cfg(test)]
    pub(crate) fn example(name: &super::LabName, nodes: u32) -> Self {
        Self {
            nodes,
            memory: 1024.try_into().expect("a good size"),
            vcpus: 1,
            image: ImageRef { name: "micro".to_owned(), digest: Some(Sha256::of(b"micro")) },
            config: ConfigSource::of(TemplateRef::new(format!("{name}.ign.j2"), "")),
            ready: Readiness::Etcd,
            ready_user: None,
            voters: None,
            network: Network::Managed(ManagedNetwork {
                mode: NetworkMode::Nat,
                subnet: "192.168.150.0/24".parse().expect("a good subnet"),
            }),
            mac_prefix: "52:54:00:12:34".parse().expect("a good prefix"),
            virt_type: VirtType::Qemu,
            boot_address: Ipv4Addr::new(192, 168, 150, 1).into(),
            boot_port: 8470,
            stagger_ms: 0,
            ksm: false,
            autostart: false,
            boot: Boot::default(),
            hardware: Hardware::default(),
            data_dir: None,
            domain_template: None,
            network_template: None,
            trust_claimed_mac: false,
            description: None,
        }
    }
}
