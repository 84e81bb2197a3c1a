//! Who has which address on the wire, as the kernel found out by ARP: this tells a node from a
//! machine that only claims to be one, and finds nodes that have not asked for anything yet.

use std::net::{IpAddr, Ipv4Addr, UdpSocket};

use fs_err as fs;
use ipnet::Ipv4Net;

use crate::lab::MacAddr;

/// What the kernel knows of the machine behind an address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Neighbour {
    /// It is on one wire with us and has this MAC address.
    OnWire(MacAddr),
    /// It is on one wire with us, but on another than was asked for.
    Elsewhere,
    /// It should be on one wire with us, but is not known there: one of this host's own addresses.
    Unknown,
    /// It is behind a router, where nobody sees its MAC address.
    Routed,
}

/// Looks up who has `ip`, on `interface` if one is named. IPv6 addresses are unknown: firmware boots by IPv4.
pub fn look_up(ip: IpAddr, interface: Option<&str>) -> Neighbour {
    let read = |path: &str| fs::read_to_string(path).unwrap_or_default();
    let IpAddr::V4(ip) = ip else { return Neighbour::Unknown };
    classify(ip, interface, &read(ARP_TABLE), &read(ROUTES))
}

/// All machines that the kernel has spoken with over `interface`.
pub fn on_interface(interface: &str) -> Vec<(Ipv4Addr, MacAddr)> {
    let table = fs::read_to_string(ARP_TABLE).unwrap_or_default();
    let entries = entries(&table).filter(|entry| entry.interface == interface);
    entries.map(|entry| (entry.ip, entry.mac)).collect()
}

/// Makes the kernel ask for everybody in `subnet`, so that [`on_interface`] knows them a moment
/// later. Larger subnets than a kernel's table holds are left alone.
pub fn arp_sweep(subnet: Ipv4Net) {
    if subnet.prefix_len() < LARGEST_SWEEP {
        return;
    }
    let Ok(socket) = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0)) else { return };
    // What matters is that the kernel has to find the MAC address; the packet itself is thrown
    // away (RFC 863).
    let _ = socket.set_nonblocking(true);
    subnet.hosts().for_each(|ip| {
        let _ = socket.send_to(&[], (ip, DISCARD_PORT));
    });
}

fn classify(ip: Ipv4Addr, interface: Option<&str>, arp: &str, routes: &str) -> Neighbour {
    let of_ip = || entries(arp).filter(|entry| entry.ip == ip);
    if let Some(entry) = of_ip().find(|entry| interface.is_none_or(|it| it == entry.interface)) {
        return Neighbour::OnWire(entry.mac);
    }
    if of_ip().next().is_some() {
        return Neighbour::Elsewhere;
    }
    let on_link = super::parse_routes(routes, true).iter().any(|(net, _)| net.contains(&ip));
    if ip.is_loopback() || on_link { Neighbour::Unknown } else { Neighbour::Routed }
}

struct Entry<'a> {
    ip: Ipv4Addr,
    mac: MacAddr,
    interface: &'a str,
}

/// Reads `/proc/net/arp`; proc(5). An entry without the flag of being complete has no answer yet.
fn entries(table: &str) -> impl Iterator<Item = Entry<'_>> {
    table.lines().skip(1).filter_map(|line| {
        let fields: Vec<&str> = line.split_whitespace().collect();
        let [ip, _type, flags, mac, _mask, interface] = fields.try_into().ok()?;
        let flags = u32::from_str_radix(flags.trim_start_matches("0x"), 16).ok()?;
        let is_complete = flags & ATF_COM != 0;
        is_complete
            .then(|| Some(Entry { ip: ip.parse().ok()?, mac: mac.parse().ok()?, interface }))?
    })
}

const ARP_TABLE: &str = "/proc/net/arp";
const ROUTES: &str = "/proc/net/route";
/// arp(7)
const ATF_COM: u32 = 2;
const DISCARD_PORT: u16 = 9;
/// The kernel keeps 1024 neighbours (`gc_thresh3`); a /23 takes half of that.
const LARGEST_SWEEP: u8 = 23;

#[cfg(test)]
mod tests {
    use super::*;

    const ARP: &str = "IP address       HW type     Flags       HW address            Mask     Device\n\
        192.168.5.7      0x1         0x2         52:54:00:12:34:01     *        br0\n\
        192.168.5.8      0x1         0x0         00:00:00:00:00:00     *        br0\n\
        10.9.0.1         0x1         0x6         52:54:00:12:34:02     *        eth1\n";
    const ROUTES: &str = "Iface\tDestination\tGateway\tFlags\tRefCnt\tUse\tMetric\tMask\tMTU\tWindow\tIRTT\n\
        br0\t00000000\t0105A8C0\t0003\t0\t0\t0\t00000000\t0\t0\t0\n\
        br0\t0005A8C0\t00000000\t0001\t0\t0\t0\t00FFFFFF\t0\t0\t0\n\
        br0\t0000010A\t0105A8C0\t0003\t0\t0\t0\t0000FFFF\t0\t0\t0\n";

    #[test]
    fn a_machine_on_the_wire_is_told_from_one_behind_a_router() {
        let mac = "52:54:00:12:34:01".parse().unwrap();
        for (ip, interface, expected) in [
            ("192.168.5.7", None, Neighbour::OnWire(mac)),
            ("192.168.5.7", Some("br0"), Neighbour::OnWire(mac)),
            ("192.168.5.7", Some("br1"), Neighbour::Elsewhere),
            ("192.168.5.8", None, Neighbour::Unknown),
            ("192.168.5.99", Some("br0"), Neighbour::Unknown),
            ("127.0.0.1", None, Neighbour::Unknown),
            ("10.1.0.3", Some("br0"), Neighbour::Routed),
            ("172.16.0.1", None, Neighbour::Routed),
        ] {
            let found = classify(ip.parse().unwrap(), interface, ARP, ROUTES);
            assert_eq!(found, expected, "{ip} {interface:?}");
        }
        assert_eq!(look_up("fe80::1".parse().unwrap(), None), Neighbour::Unknown);
    }

    #[test]
    fn only_complete_entries_count() {
        let found: Vec<String> =
            entries(ARP).map(|entry| format!("{} {}", entry.ip, entry.interface)).collect();
        assert_eq!(found, ["192.168.5.7 br0", "10.9.0.1 eth1"]);
        assert_eq!(entries("").count(), 0);
    }
}
