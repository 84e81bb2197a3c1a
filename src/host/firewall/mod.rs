//! Whether this host's firewall lets nodes reach what they boot from.
//!
//! It is asked by its own tools, and never changed. Not every user may ask: what cannot be told is
//! [`Access::Unknown`], never a guess.

mod firewalld;
mod ports;
mod ufw;

use std::path::Path;
use std::process::Command;

use fs_err as fs;
use ipnet::Ipv4Net;

use self::ports::Ports;
use crate::lab::LibvirtVersion;
use crate::lab::boot::BOOT_PORTS;
use crate::lab::spec::NetworkMode;
use crate::lab::{Lab, Network, address};

/// What the nodes on a bridge have to reach on this host.
#[derive(Clone, Debug)]
pub(crate) struct Needs {
    /// The bridge that the nodes are attached to.
    pub(crate) bridge: String,
    /// Who makes the bridge, which decides how a firewall treats it.
    pub(crate) maker: Maker,
    /// The addresses of the nodes, where they are known.
    pub(crate) subnet: Option<Ipv4Net>,
    /// The boot server's port.
    pub(crate) boot_port: u16,
    /// libvirt opens nothing for its own dnsmasq: DHCP, DNS and TFTP need a rule as well.
    pub(crate) dnsmasq: bool,
}

impl Needs {
    /// What the nodes of a lab have to reach. `bridge` is the one of a network that is not the lab's own.
    pub(crate) fn of(lab: &Lab, bridge: Option<&str>, dnsmasq: bool) -> Option<Self> {
        let managed = lab.spec.network.managed();
        let maker = match (&lab.spec.network, managed.map(|network| network.mode)) {
            (_, Some(NetworkMode::Routed)) => Maker::LibvirtRouted,
            (Network::Bridge(_), _) => Maker::Host,
            _ => Maker::Libvirt,
        };
        Some(Self {
            bridge: match managed {
                Some(_) => address::bridge_name(lab.uuid),
                None => bridge?.to_owned(),
            },
            maker,
            subnet: managed.map(|network| network.subnet),
            boot_port: lab.spec.boot_port,
            dnsmasq: dnsmasq && maker != Maker::Host,
        })
    }
}

/// Who makes a bridge.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Maker {
    /// libvirt, for a network in mode `route`.
    LibvirtRouted,
    /// libvirt, for any other network.
    Libvirt,
    /// Somebody else.
    Host,
}

/// Whether nodes get through.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Access {
    /// No firewall that we know of runs.
    NoFirewall,
    /// It lets them in.
    Open,
    /// It does not.
    Closed,
    /// A firewall runs, and this user may not read its rules.
    Unknown,
}

/// What is known of the firewall.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Verdict {
    /// Whether nodes get through.
    pub(crate) access: Access,
    /// Which firewall it is, and the part of it that decides: ``firewalld, zone `libvirt` ``.
    pub(crate) firewall: String,
    /// What has to be open, such as `8470/tcp`.
    pub(crate) ports: String,
    /// The command that opens it for good, for this lab and later ones.
    pub(crate) command: String,
}

/// Asks the firewall that runs. The first one that is in the way is named.
pub(crate) fn look(needs: &Needs) -> Verdict {
    judge(needs, &run)
}

/// Whether libvirt of this version uses nftables for its networks. Then it has no rules that let nodes reach its dnsmasq, and none that another table's
/// could not overrule. <https://libvirt.org/firewall.html>
pub(crate) fn libvirt_uses_nftables(version: LibvirtVersion) -> bool {
    let settings = fs::read_to_string(NETWORK_CONF).unwrap_or_default();
    let has_nft = NFT.iter().any(|path| Path::new(path).exists());
    version >= FIRST_WITH_NFTABLES && has_nft && !asks_for_iptables(&settings)
}

fn asks_for_iptables(settings: &str) -> bool {
    let value = settings.lines().find_map(|line| line.trim().strip_prefix("firewall_backend"));
    value.is_some_and(|value| value.contains("\"iptables\""))
}

const NETWORK_CONF: &str = "/etc/libvirt/network.conf";
const NFT: [&str; 2] = ["/usr/sbin/nft", "/usr/bin/nft"];
const FIRST_WITH_NFTABLES: LibvirtVersion = LibvirtVersion::new(10, 4, 0);

/// What a program said, and its exit status.
#[derive(Debug)]
struct Answer {
    status: i32,
    stdout: String,
}

type Run<'a> = &'a dyn Fn(&str, &[&str]) -> Option<Answer>;

fn judge(needs: &Needs, run: Run) -> Verdict {
    let verdicts = [firewalld::judge(needs, run), ufw::judge(needs, run)];
    let worst = verdicts.into_iter().flatten().max_by_key(|verdict| match verdict.access {
        Access::NoFirewall => 0,
        Access::Open => 1,
        Access::Unknown => 2,
        Access::Closed => 3,
    });
    worst.unwrap_or_else(|| Verdict {
        access: Access::NoFirewall,
        firewall: String::new(),
        ports: String::new(),
        command: String::new(),
    })
}

/// `None` if there is no such program.
fn run(program: &str, args: &[&str]) -> Option<Answer> {
    // An ordinary user's PATH may lack the folders of the administrator's programs.
    let path = std::env::var("PATH").unwrap_or_default();
    let output = Command::new(program)
        .args(args)
        .env("PATH", format!("{path}:/usr/sbin:/sbin"))
        .env("LC_ALL", "C")
        .output()
        .ok()?;
    let stdout = String::from_utf8_lossy(&output.stdout).into_owned();
    Some(Answer { status: output.status.code().unwrap_or(-1), stdout })
}

/// The ports to open for a boot server: all that labs choose from, so that later ones need no rule
/// of their own, or just the one that somebody named.
fn boot_ports(port: u16) -> Ports {
    if BOOT_PORTS.contains(&port) {
        Ports { first: *BOOT_PORTS.start(), last: *BOOT_PORTS.end() }
    } else {
        Ports { first: port, last: port }
    }
}

#[cfg(test)]
mod tests;
