//! What a node's virtual computer has beside processor, memory and its first network card.
//!
//! The common wishes are flags; everything else that libvirt can do is the domain template's.

use std::fmt;
use std::str::FromStr;

use clap::ValueEnum;
use serde::{Deserialize, Serialize};

use super::size::MemoryMib;

/// The hardware of a node.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Hardware {
    /// The architecture of its processors: that of what it boots.
    #[serde(skip_serializing_if = "Arch::is_default")]
    pub arch: Arch,
    /// How the screen is shown.
    pub graphics: Graphics,
    /// The size of its disk, if it has one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub disk: Option<DiskSize>,
    /// Its further network cards, in order.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub nics: Vec<Nic>,
    /// The machine type; QEMU's `q35` if not given.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub machine: Option<ModelName>,
    /// The processor model; the host's own under KVM and QEMU's default otherwise if not given.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cpu: Option<ModelName>,
    /// Whether memory comes from the host's huge pages.
    pub hugepages: bool,
    /// Whether the host's kernel may not merge equal pages.
    pub no_share_pages: bool,
}

impl Hardware {
    /// Whether it is what nodes have unless somebody asks for something else.
    pub fn is_default(&self) -> bool {
        *self == Self::default()
    }
}

/// The architecture of processors, as libvirt and QEMU name it: `x86_64`, `aarch64`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Arch(ModelName);

impl Arch {
    /// The name as text.
    pub fn as_str(&self) -> &str {
        self.0.as_str()
    }

    fn is_default(&self) -> bool {
        *self == Self::default()
    }
}

impl Default for Arch {
    /// What all images of the catalogue are for.
    fn default() -> Self {
        Self("x86_64".parse().expect("a good name"))
    }
}

impl FromStr for Arch {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        text.parse().map(Self)
    }
}

/// How a node's screen is shown.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ValueEnum)]
#[serde(rename_all = "kebab-case")]
pub enum Graphics {
    /// No screen: the serial console only
    #[default]
    None,
    /// VNC on the host's loopback
    Vnc,
    /// SPICE on the host's loopback
    Spice,
}

impl fmt::Display for Graphics {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::None => "none",
            Self::Vnc => "vnc",
            Self::Spice => "spice",
        })
    }
}

/// A disk's size: written as memory is, but a disk without a unit would be a mistake.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct DiskSize(MemoryMib);

impl DiskSize {
    /// The number of bytes.
    pub fn bytes(self) -> u64 {
        self.0.bytes()
    }
}

impl FromStr for DiskSize {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if text.trim().ends_with(|c: char| c.is_ascii_digit()) {
            return Err(format!("`{text}` has no unit; write it like `{text}GiB`"));
        }
        let size = text.parse().map_err(|_| {
            format!("`{text}` is no size of a disk; write it like `10GiB`, up to 4 TiB")
        })?;
        Ok(Self(size))
    }
}

impl TryFrom<String> for DiskSize {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        text.parse()
    }
}

impl From<DiskSize> for String {
    fn from(size: DiskSize) -> Self {
        size.to_string()
    }
}

impl fmt::Display for DiskSize {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// The name of a machine type of QEMU's or of a processor model of libvirt's, such as `pc-q35-7.2` or
/// `Skylake-Client-IBRS`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct ModelName(String);

impl ModelName {
    /// The name as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for ModelName {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let is_good = |c: char| c.is_ascii_alphanumeric() || "._+-".contains(c);
        if text.is_empty() || !text.chars().all(is_good) {
            return Err("a name of letters, digits, `.`, `_`, `+` and `-` is wanted".to_owned());
        }
        Ok(Self(text.to_owned()))
    }
}

impl TryFrom<String> for ModelName {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        text.parse()
    }
}

impl From<ModelName> for String {
    fn from(name: ModelName) -> Self {
        name.0
    }
}

impl fmt::Display for ModelName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// What a further network card is attached to.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum Nic {
    /// A bridge of the host.
    Bridge(String),
    /// A libvirt network.
    Network(String),
}

impl FromStr for Nic {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (make, name): (fn(String) -> Self, &str) = match text.strip_prefix("bridge:") {
            Some(name) => (Self::Bridge, name),
            None => (Self::Network, text),
        };
        let is_good = |c: char| !c.is_control() && !"<>&\"'/".contains(c);
        if name.is_empty() || !name.chars().all(is_good) {
            return Err("name a libvirt network, or a bridge of the host as bridge:NAME".to_owned());
        }
        Ok(make(name.to_owned()))
    }
}

impl TryFrom<String> for Nic {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        text.parse()
    }
}

impl From<Nic> for String {
    fn from(nic: Nic) -> Self {
        nic.to_string()
    }
}

impl fmt::Display for Nic {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Bridge(name) => write!(f, "bridge:{name}"),
            Self::Network(name) => f.write_str(name),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_disk_needs_a_unit() {
        assert_eq!("10GiB".parse::<DiskSize>().map(DiskSize::bytes), Ok(10 << 30));
        for (text, reason) in [
            ("10", "`10` has no unit; write it like `10GiB`"),
            ("ten", "`ten` is no size of a disk; write it like `10GiB`, up to 4 TiB"),
        ] {
            assert_eq!(text.parse::<DiskSize>().unwrap_err(), reason);
        }
    }

    #[test]
    fn a_card_is_on_a_network_or_a_bridge() {
        assert_eq!("default".parse(), Ok(Nic::Network("default".to_owned())));
        assert_eq!("bridge:br0".parse(), Ok(Nic::Bridge("br0".to_owned())));
        for text in ["", "bridge:", "<x>", "a/b", "bridge:br0'"] {
            assert!(text.parse::<Nic>().is_err(), "{text}");
        }
    }

    #[test]
    fn models_are_names_and_nothing_else() {
        for text in ["q35", "pc-q35-7.2", "Skylake-Client-IBRS", "host-passthrough"] {
            assert_eq!(text.parse::<ModelName>().unwrap().as_str(), text);
        }
        for text in ["", "a b", "<x>", "a,b"] {
            assert!(text.parse::<ModelName>().is_err(), "{text}");
        }
    }
}
