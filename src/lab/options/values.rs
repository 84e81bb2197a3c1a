//! Values of flags and of the lab file: what text each takes, and what it says of one that it does not.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr};
use std::str::FromStr;

use clap::ValueEnum;
use ipnet::Ipv4Net;
use reqwest::Url;
use serde::Deserialize;

use crate::lab::MAX_NODES;
use crate::lab::spec::NetworkMode;

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

impl fmt::Display for Span {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            whole if whole % 1000 == 0 => write!(f, "{}s", whole / 1000),
            milliseconds => write!(f, "{milliseconds}ms"),
        }
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

fn within(text: &str, most: u32, whole: &str, parts: &str) -> Result<u32, String> {
    let number: u32 = text.parse().map_err(|_| format!("a whole number of {parts} is wanted"))?;
    if (1..=most).contains(&number) {
        Ok(number)
    } else {
        Err(format!("a {whole} has 1 to {most} {parts}"))
    }
}

pub(crate) fn node_count(text: &str) -> Result<u32, String> {
    within(text, MAX_NODES, "lab", "nodes")
}

pub(super) fn voter_count(text: &str) -> Result<u32, String> {
    within(text, MAX_NODES, "etcd cluster", "members")
}

pub(super) fn vcpu_count(text: &str) -> Result<u32, String> {
    within(text, MAX_VCPUS, "node", "cores")
}

/// A subnet that a network interface can have.
pub(super) fn subnet(text: &str) -> Result<Ipv4Net, String> {
    let net: Ipv4Net = text.parse().map_err(|_| {
        "an IPv4 subnet is wanted, with the length of its prefix: 192.168.150.0/24".to_owned()
    })?;
    let (first, last) = (net.network(), net.broadcast());
    let unusable = net.prefix_len() < SHORTEST_PREFIX
        || [first, last].iter().any(|ip| {
            ip.is_loopback() || ip.is_multicast() || ip.is_link_local() || is_reserved(*ip)
        });
    if unusable {
        return Err(
            "no network can have it; take one out of 10.0.0.0/8, 172.16.0.0/12 or 192.168.0.0/16"
                .to_owned(),
        );
    }
    Ok(net)
}

/// An address at which nodes can reach the boot server. Network boot is IPv4 here.
pub(super) fn boot_address(text: &str) -> Result<IpAddr, String> {
    let ip: Ipv4Addr = text.parse().map_err(|_| "an IPv4 address of this host is wanted")?;
    let unreachable = ip.is_loopback() || ip.is_multicast() || is_reserved(ip);
    if unreachable {
        return Err("no node can reach it; name an address of this host on their network".into());
    }
    Ok(ip.into())
}

/// 0.0.0.0/8 is "this network" (RFC 1122), 240.0.0.0/4 is reserved (RFC 1112).
fn is_reserved(ip: Ipv4Addr) -> bool {
    ip.octets()[0] == 0 || ip.octets()[0] >= 240
}

pub(super) fn boot_address_field<'de, D: serde::Deserializer<'de>>(
    field: D,
) -> Result<Option<IpAddr>, D::Error> {
    let text = String::deserialize(field)?;
    boot_address(&text).map(Some).map_err(serde::de::Error::custom)
}

/// The URL of a discovery service, below which `/new` is.
pub(super) fn discovery(text: &str) -> Result<String, String> {
    let is_service = Url::parse(text).is_ok_and(|url| {
        ["http", "https"].contains(&url.scheme())
            && url.has_host()
            && url.query().is_none()
            && url.fragment().is_none()
    });
    if is_service {
        return Ok(text.to_owned());
    }
    Err("a discovery service has a URL of http or https, such as `https://discovery.example.org`"
        .to_owned())
}

pub(super) fn discovery_field<'de, D: serde::Deserializer<'de>>(
    field: D,
) -> Result<Option<String>, D::Error> {
    let text = String::deserialize(field)?;
    discovery(&text).map(Some).map_err(serde::de::Error::custom)
}

pub(super) fn subnet_field<'de, D: serde::Deserializer<'de>>(
    field: D,
) -> Result<Option<Ipv4Net>, D::Error> {
    let text = String::deserialize(field)?;
    subnet(&text).map(Some).map_err(serde::de::Error::custom)
}

pub(super) fn node_count_field<'de, D: serde::Deserializer<'de>>(
    field: D,
) -> Result<Option<u32>, D::Error> {
    let number = u64::deserialize(field)?;
    node_count(&number.to_string()).map(Some).map_err(serde::de::Error::custom)
}

pub(super) fn voter_count_field<'de, D: serde::Deserializer<'de>>(
    field: D,
) -> Result<Option<u32>, D::Error> {
    let number = u64::deserialize(field)?;
    voter_count(&number.to_string()).map(Some).map_err(serde::de::Error::custom)
}

pub(super) fn vcpu_count_field<'de, D: serde::Deserializer<'de>>(
    field: D,
) -> Result<Option<u32>, D::Error> {
    let number = u64::deserialize(field)?;
    vcpu_count(&number.to_string()).map(Some).map_err(serde::de::Error::custom)
}

/// Larger labs than this have not been tried on one host.
const MAX_VCPUS: u32 = 255;
/// Larger than 10.0.0.0/8 there is no private subnet.
const SHORTEST_PREFIX: u8 = 8;
const MAX_SPAN_MS: f64 = 7.0 * 24.0 * 3_600_000.0;

#[cfg(test)]
mod tests {
    use super::*;

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
    fn a_boot_address_is_one_that_nodes_can_reach() {
        assert_eq!(boot_address("192.168.5.1"), Ok("192.168.5.1".parse().unwrap()));
        for text in ["", "host", "fd00::1", "0.0.0.0", "127.0.0.1", "224.0.0.1", "255.255.255.255"]
        {
            assert!(boot_address(text).is_err(), "{text}");
        }
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
