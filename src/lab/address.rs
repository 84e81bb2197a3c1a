//! MAC and IP addresses of a lab. Nothing is allocated: everything follows from (lab, index).

use std::fmt;
use std::net::{Ipv4Addr, Ipv6Addr};
use std::str::FromStr;

use ipnet::{Ipv4Net, Ipv6Net};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use uuid::Uuid;

/// An Ethernet address.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct MacAddr([u8; 6]);

impl MacAddr {
    /// The form with hyphens, as iPXE's `${mac:hexhyp}` and pxelinux's file names have it.
    pub fn hyphenated(self) -> String {
        self.to_string().replace(':', "-")
    }

    /// The lowest 48 bits.
    fn from_number(number: u64) -> Self {
        let [_, _, octets @ ..] = number.to_be_bytes();
        Self(octets)
    }
}

impl FromStr for MacAddr {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let bytes = parse_octets(text);
        let bytes = bytes.and_then(|bytes| <[u8; 6]>::try_from(bytes).ok());
        bytes
            .map(Self)
            .ok_or_else(|| format!("`{text}` is no MAC address; one looks like 52:54:00:12:34:01"))
    }
}

impl fmt::Display for MacAddr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&join_octets(&self.0))
    }
}

impl Serialize for MacAddr {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for MacAddr {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
    }
}

/// How all MAC addresses of a lab begin; the rest holds the node's index.
///
/// It is three to five octets, such as the article's `52:54:00:12:34`, which leaves room for 255
/// nodes, or written like a subnet where it does not end with an octet: `52:54:00:a1:b4:00/38`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct MacPrefix {
    /// The address with the index 0, its first octet the highest of 48 bits.
    base: u64,
    /// How many bits of it are the prefix.
    length: u8,
}

impl MacPrefix {
    /// QEMU's own prefix 52:54:00, 14 bits that depend on `seed`, and 10 for the index: of a hundred
    /// labs that share a wire, two meet in one of four cases; with 8 bits they always would. The same
    /// seed always gives the same addresses: an external DHCP server may have reservations for them.
    pub fn derived(seed: &str) -> Self {
        let digest = Sha256::digest(seed);
        let hash = u64::from(u16::from_be_bytes([digest[0], digest[1]]) >> 2);
        Self { base: QEMU << 24 | hash << INDEX_BITS, length: 48 - INDEX_BITS }
    }

    /// The MAC address of the node with this index, which must be within [`Self::capacity`].
    pub fn mac(self, index: u32) -> MacAddr {
        MacAddr::from_number(self.base | u64::from(index))
    }

    /// The largest index that fits behind the prefix.
    pub fn capacity(self) -> u32 {
        (1 << (48 - self.length)) - 1
    }

    fn from_octets(text: &str, lengths: std::ops::RangeInclusive<usize>) -> Option<Self> {
        let octets = parse_octets(text).filter(|octets| lengths.contains(&octets.len()))?;
        let mut number = [0; 8];
        number[2..2 + octets.len()].copy_from_slice(&octets);
        let length = u8::try_from(8 * octets.len()).ok()?;
        Some(Self { base: u64::from_be_bytes(number), length })
    }

    /// A whole address and how many bits of it count, all others zero.
    fn from_bits(text: &str) -> Option<Self> {
        let (address, length) = text.split_once('/')?;
        let base = Self::from_octets(address, 6..=6)?.base;
        let length = length.parse().ok().filter(|length| (24..=40).contains(length))?;
        let prefix = Self { base, length };
        (base & u64::from(prefix.capacity()) == 0).then_some(prefix)
    }
}

impl FromStr for MacPrefix {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let prefix = Self::from_octets(text, 3..=5).or_else(|| Self::from_bits(text));
        let prefix = prefix.ok_or_else(|| {
            format!("`{text}` is no MAC prefix; write three to five octets, such as 52:54:00:12:34")
        })?;
        // IEEE 802: bit 0 of the first octet marks a group address, which no card can have.
        if prefix.base & GROUP != 0 {
            return Err(format!(
                "`{text}` begins a multicast address; the first octet must be even"
            ));
        }
        Ok(prefix)
    }
}

impl TryFrom<String> for MacPrefix {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        text.parse()
    }
}

impl From<MacPrefix> for String {
    fn from(prefix: MacPrefix) -> Self {
        prefix.to_string()
    }
}

impl fmt::Display for MacPrefix {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let address = self.mac(0);
        if self.length.is_multiple_of(8) {
            f.write_str(&join_octets(&address.0[..usize::from(self.length / 8)]))
        } else {
            write!(f, "{address}/{}", self.length)
        }
    }
}

/// QEMU's own prefix, 52:54:00.
const QEMU: u64 = 0x52_54_00;
/// Room for the largest lab, 1000 nodes.
const INDEX_BITS: u8 = 10;
const GROUP: u64 = 1 << 40;

/// The MAC address of a further network card of a node, `position` 0 for the first one. QEMU's
/// prefix and three octets that only this lab's UUID leads to: its prefix may have no room.
pub fn further_mac(lab: Uuid, node: u32, position: usize) -> MacAddr {
    let digest = Sha256::digest(format!("{lab}/{node}/{position}"));
    MacAddr([0x52, 0x54, 0x00, digest[0], digest[1], digest[2]])
}

/// How many nodes a subnet has room for beside its gateway.
pub fn capacity(subnet: Ipv4Net) -> u32 {
    let addresses = 1_u32.checked_shl(u32::from(32 - subnet.prefix_len())).unwrap_or(u32::MAX);
    addresses.saturating_sub(3)
}

/// What is taken already of a subnet, and by whom.
pub fn occupant(subnet: Ipv4Net, occupied: &[(Ipv4Net, String)]) -> Option<&(Ipv4Net, String)> {
    let overlaps = |other: &Ipv4Net| other.contains(&subnet) || subnet.contains(other);
    occupied.iter().find(|(other, _)| overlaps(other))
}

/// A subnet for a lab of so many nodes of which nothing is taken.
pub fn free_subnet(lab: Uuid, nodes: u32, occupied: &[(Ipv4Net, String)]) -> Option<Ipv4Net> {
    candidate_subnets(lab, nodes).find(|subnet| occupant(*subnet, occupied).is_none())
}

/// The gateway: the first address of the subnet.
pub fn gateway(subnet: Ipv4Net) -> Ipv4Addr {
    offset(subnet, 1)
}

/// The address of the node with this index: the gateway's successors.
pub fn node_ip(subnet: Ipv4Net, index: u32) -> Ipv4Addr {
    offset(subnet, 1 + index)
}

/// The index of the node that has this address, if it is one of a lab of `nodes` nodes.
pub fn node_index(subnet: Ipv4Net, ip: Ipv4Addr, nodes: u32) -> Option<u32> {
    let index = u32::from(ip).checked_sub(u32::from(gateway(subnet)))?;
    (1..=nodes).contains(&index).then_some(index)
}

/// The subnets that a lab of `nodes` nodes may get, each disjoint from the others, starting at a
/// place that depends on the lab, so that two labs made at the same time seldom want the same one.
pub fn candidate_subnets(lab: Uuid, nodes: u32) -> impl Iterator<Item = Ipv4Net> {
    // Up to /24 out of 192.168.0.0/16 without its crowded lower part; larger ones out of 10/8.
    let prefix = (8..=24)
        .rev()
        .find(|prefix| capacity(Ipv4Net::new_assert(Ipv4Addr::UNSPECIFIED, *prefix)) >= nodes);
    let prefix = prefix.unwrap_or(8);
    let (base, first, last) = if prefix == 24 {
        (Ipv4Addr::new(192, 168, 0, 0), 100, 255)
    } else {
        (Ipv4Addr::new(10, 0, 0, 0), 64 << (prefix - 16), 255 << (prefix - 16))
    };
    let count = last - first;
    let start = u32::from(lab.as_bytes()[0]) * count / 256;
    (0..count).map(move |step| {
        let number = first + (start + step) % count;
        Ipv4Net::new_assert(Ipv4Addr::from(u32::from(base) + (number << (32 - prefix))), prefix)
    })
}

/// The lab's own IPv6 prefix: a unique local address of RFC 4193 with the lab's UUID as its
/// random part.
pub fn ula(lab: Uuid) -> Ipv6Net {
    let id = lab.as_bytes();
    let address =
        Ipv6Addr::from([0xfd, id[0], id[1], id[2], id[3], id[4], 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]);
    Ipv6Net::new_assert(address, 64)
}

/// The name of the lab's bridge: at most 15 characters (`IFNAMSIZ`), by hash, so that no two runs
/// want the same.
pub fn bridge_name(lab: Uuid) -> String {
    let id = lab.as_bytes();
    format!("virbr-{:02x}{:02x}{:02x}{:02x}", id[0], id[1], id[2], id[3])
}

fn offset(subnet: Ipv4Net, by: u32) -> Ipv4Addr {
    Ipv4Addr::from(u32::from(subnet.network()).saturating_add(by))
}

fn parse_octets(text: &str) -> Option<Vec<u8>> {
    text.split([':', '-'])
        .map(|octet| {
            let is_hex = octet.len() == 2 && octet.bytes().all(|byte| byte.is_ascii_hexdigit());
            is_hex.then(|| u8::from_str_radix(octet, 16).ok())?
        })
        .collect()
}

fn join_octets(octets: &[u8]) -> String {
    let octets: Vec<String> = octets.iter().map(|octet| format!("{octet:02x}")).collect();
    octets.join(":")
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn the_articles_macs_come_out() {
        let prefix: MacPrefix = "52:54:00:12:34".parse().unwrap();
        assert_eq!(prefix.mac(1).to_string(), "52:54:00:12:34:01");
        assert_eq!(prefix.mac(17).to_string(), "52:54:00:12:34:11");
        assert_eq!(prefix.capacity(), 255);
    }

    #[test]
    fn every_mac_is_unicast_and_distinct() {
        let prefix = MacPrefix::derived("demo");
        let macs: HashSet<MacAddr> = (1..=1000).map(|index| prefix.mac(index)).collect();
        assert_eq!(macs.len(), 1000);
        assert!(macs.iter().all(|mac| mac.0[0] & 1 == 0));
    }

    #[test]
    fn a_derived_prefix_is_14_bits_of_the_name_and_read_back() {
        let prefix = MacPrefix::derived("demo");
        assert_eq!(prefix.to_string(), "52:54:00:2a:94:00/38");
        assert_eq!(prefix.capacity(), 1023);
        assert_eq!(prefix.to_string().parse(), Ok(prefix));
        let prefixes: HashSet<String> =
            (0..1000).map(|lab| MacPrefix::derived(&format!("lab-{lab}")).to_string()).collect();
        // 30 of 1000 are expected to meet another one; with 8 bits 744 would.
        assert!(prefixes.len() > 950, "{}", prefixes.len());
        // What labs of virtlab 0.1 have.
        let old: MacPrefix = "52:54:00:cb".parse().unwrap();
        assert_eq!(old.to_string(), "52:54:00:cb");
        assert_eq!(old.mac(2).to_string(), "52:54:00:cb:00:02");
    }

    #[test]
    fn macs_are_read_with_colons_and_hyphens_only() {
        for text in ["52:54:00:12:34:0a", "52-54-00-12-34-0A"] {
            assert_eq!(text.parse::<MacAddr>().unwrap().hyphenated(), "52-54-00-12-34-0a");
        }
        for text in ["", "52:54:00:12:34", "52:54:00:12:34:0g", "525400123401", "+2:54:00:12:34:01"]
        {
            assert!(text.parse::<MacAddr>().is_err(), "{text}");
        }
        for text in [
            "52:54",
            "52:54:00:12:34:56",
            "01:54:00",
            "zz:54:00",
            "01:54:00:00:00:00/38",
            "52:54:00:12:34:00/41",
            "52:54:00:12:35:00/38",
            "52:54:00:12:34/38",
        ] {
            assert!(text.parse::<MacPrefix>().is_err(), "{text}");
        }
    }

    #[test]
    fn no_address_lies_outside_its_subnet() {
        for nodes in [1, 253, 254, 1000] {
            for subnet in candidate_subnets(Uuid::from_u128(u128::MAX / 3), nodes) {
                assert!(capacity(subnet) >= nodes);
                let last = node_ip(subnet, nodes);
                assert!(subnet.contains(&last) && last != subnet.broadcast(), "{subnet} {last}");
                assert_eq!(node_index(subnet, last, nodes), Some(nodes));
                assert_eq!(node_index(subnet, gateway(subnet), nodes), None);
            }
        }
    }

    #[test]
    fn candidate_subnets_are_private_and_disjoint() {
        let subnets: Vec<Ipv4Net> = candidate_subnets(Uuid::from_u128(0), 300).collect();
        assert_eq!(subnets[0].to_string(), "10.64.0.0/23");
        assert_eq!(subnets.iter().collect::<HashSet<_>>().len(), subnets.len());
        assert!(subnets.iter().all(|subnet| subnet.addr().is_private()));
        assert_eq!(candidate_subnets(Uuid::from_u128(u128::MAX), 3).count(), 155);
    }

    #[test]
    fn bridge_names_fit() {
        assert_eq!(bridge_name(Uuid::from_u128(u128::MAX)).len(), 14);
    }
}
