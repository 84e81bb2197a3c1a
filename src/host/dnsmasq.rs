//! Whether the server that libvirt starts for each of its networks (dnsmasq: DHCP, TFTP, DNS) still runs. libvirt does
//! not notice when it ends.

use std::net::Ipv4Addr;
use std::path::Path;

use fs_err as fs;

use crate::lab::{Lab, address};

/// Whether the network of a lab has its server; `None` where that cannot be told, because it has no bridge on this
/// computer.
pub(crate) fn serves(lab: &Lab) -> Option<bool> {
    let gateway = address::gateway(lab.spec.network.managed()?.subnet);
    if !Path::new(INTERFACES).join(address::bridge_name(lab.uuid)).exists() {
        return None;
    }
    let sockets = fs::read_to_string("/proc/net/udp").ok()?;
    Some(has_server(&sockets, gateway))
}

/// Reads `/proc/net/udp`; proc(5). Addresses are hexadecimal in the byte order of the machine. DHCP's own socket has no
/// address, as those of all bridges, but the same process answers DNS and TFTP.
fn has_server(sockets: &str, gateway: Ipv4Addr) -> bool {
    let own = format!("{:08X}", u32::from_ne_bytes(gateway.octets()));
    sockets.lines().filter_map(|line| line.split_whitespace().nth(1)).any(|local| {
        let Some((address, port)) = local.split_once(':') else { return false };
        address == own && u16::from_str_radix(port, 16).is_ok_and(|port| PORTS.contains(&port))
    })
}

const INTERFACES: &str = "/sys/class/net";
/// DNS, DHCP, TFTP.
const PORTS: [u16; 3] = [53, 67, 69];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_server_is_known_by_the_bridges_address_and_its_port() {
        let line = |gateway: [u8; 4], port: u16| {
            let address = u32::from_ne_bytes(gateway);
            format!(
                "  sl  local_address rem_address   st\n  854: {address:08X}:{port:04X} 00000000:0000 07 0 0\n"
            )
        };
        let gateway = Ipv4Addr::new(192, 168, 77, 1);
        assert!(has_server(&line([192, 168, 77, 1], 69), gateway));
        assert!(has_server(&line([192, 168, 77, 1], 53), gateway));
        assert!(!has_server(&line([192, 168, 77, 1], 5353), gateway));
        assert!(!has_server(&line([192, 168, 78, 1], 69), gateway));
        assert!(!has_server(&line([0, 0, 0, 0], 67), gateway));
        assert!(!has_server("", gateway));
    }
}
