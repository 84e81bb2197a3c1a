//! What this computer's network already has, so that a lab does not take it.

pub mod bridge;
pub(crate) mod dnsmasq;
pub(crate) mod firewall;
pub(crate) mod kvm;
pub mod libvirt_socket;
pub mod neighbour;
pub(crate) mod privileged;
pub mod process;
pub mod systemd;
pub(crate) mod tcp_owner;
pub(crate) mod wire;

use std::net::{IpAddr, Ipv4Addr};
use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result};
use fs_err as fs;
use ipnet::Ipv4Net;

/// The subnets that this computer has routes to, with the name of what has them.
pub fn routes() -> Result<Vec<(Ipv4Net, String)>> {
    Ok(parse_routes(&fs::read_to_string("/proc/net/route")?, false))
}

/// The name of this computer.
pub fn hostname() -> String {
    rustix::system::uname().nodename().to_string_lossy().into_owned()
}

/// The first IPv4 address of a network interface of this computer, if it has one.
///
/// # Errors
/// If `ip` (iproute2) cannot be run.
pub fn interface_address(interface: &str) -> Result<Option<IpAddr>> {
    Ok(interface_subnet(interface)?.map(|net| net.addr().into()))
}

/// The first IPv4 address of a network interface of this computer, with the length of its prefix.
///
/// # Errors
/// If `ip` (iproute2) cannot be run.
pub fn interface_subnet(interface: &str) -> Result<Option<Ipv4Net>> {
    let output = Command::new("ip")
        .args(["-4", "-brief", "address", "show", "dev", interface])
        .output()
        .context("running `ip` (package iproute2)")?;
    Ok(parse_brief_address(&String::from_utf8_lossy(&output.stdout)))
}

/// Whether this computer's kernel has IPv6: it may be compiled or started without it.
pub fn has_ipv6() -> bool {
    Path::new("/proc/net/if_inet6").exists()
}

/// Whether a network interface of this computer is on a bridge; one that is not there has not been taken off.
pub(crate) fn is_on_a_bridge(interface: &str) -> bool {
    let folder = Path::new("/sys/class/net").join(interface);
    !folder.exists() || folder.join("master").exists()
}

/// The bytes of memory that programs may take before the host swaps.
pub fn available_memory() -> Result<u64> {
    let text = fs::read_to_string("/proc/meminfo")?;
    parse_available_memory(&text).context("`/proc/meminfo` has no `MemAvailable`")
}

/// `MemAvailable:   12345 kB`; proc(5), where kB are 1024 bytes.
fn parse_available_memory(text: &str) -> Option<u64> {
    let line = text.lines().find_map(|line| line.strip_prefix("MemAvailable:"))?;
    let kib: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    kib.checked_mul(1024)
}

/// Reads `/proc/net/route`; proc(5). Numbers are hexadecimal in the byte order of the machine.
/// `direct` leaves out what is behind a router.
fn parse_routes(text: &str, direct: bool) -> Vec<(Ipv4Net, String)> {
    let parse = |line: &str| {
        let fields: Vec<&str> = line.split_whitespace().collect();
        let address = |index: usize| {
            let number = u32::from_str_radix(fields.get(index)?, 16).ok()?;
            Some(Ipv4Addr::from(number.to_ne_bytes()))
        };
        let net = Ipv4Net::with_netmask(address(1)?, address(7)?).ok()?;
        let is_wanted = !direct || address(2)?.is_unspecified();
        // The default route is everywhere.
        (is_wanted && net.prefix_len() > 0)
            .then(|| (net.trunc(), format!("interface `{}`", fields[0])))
    };
    text.lines().skip(1).filter_map(parse).collect()
}

/// `br0  UP  192.168.5.2/24 …`
fn parse_brief_address(text: &str) -> Option<Ipv4Net> {
    text.split_whitespace().find(|word| word.contains('/'))?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn routes_are_read_without_the_default_one() {
        let text = "Iface\tDestination\tGateway\tFlags\tRefCnt\tUse\tMetric\tMask\tMTU\tWindow\tIRTT\n\
            eth0\t00000000\t0105A8C0\t0003\t0\t0\t0\t00000000\t0\t0\t0\n\
            eth0\t0005A8C0\t00000000\t0001\t0\t0\t0\t00FFFFFF\t0\t0\t0\n";
        assert_eq!(
            parse_routes(text, false),
            [("192.168.5.0/24".parse().unwrap(), "interface `eth0`".to_owned())]
        );
    }

    #[test]
    fn available_memory_is_read_in_bytes() {
        let text = "MemTotal:       24683744 kB\nMemFree: 1 kB\nMemAvailable:   23962624 kB\n";
        assert_eq!(parse_available_memory(text), Some(23_962_624 << 10));
        assert_eq!(parse_available_memory("MemTotal: 1 kB\n"), None);
    }

    #[test]
    fn the_address_of_an_interface_is_read() {
        let text = "br0              UP             192.168.5.2/24 192.168.5.3/24 \n";
        assert_eq!(parse_brief_address(text), Some("192.168.5.2/24".parse().unwrap()));
        assert_eq!(parse_brief_address("br0 UP \n"), None);
        assert_eq!(parse_brief_address(""), None);
    }
}
