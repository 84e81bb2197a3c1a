//! Whether nodes reach this host, each other, and the world.

use uuid::Uuid;

use super::super::{Facts, Finding};
use crate::host::bridge::{Helper, allow_command};
use crate::host::firewall::{self, Access};
use crate::lab::LibvirtVersion;
use crate::lab::address;
use crate::packages::Packages;

/// Whether a firewall keeps nodes from their boot server.
pub(super) fn firewall(facts: &Facts) -> Finding {
    let verdict = &facts.firewall;
    let (firewall, ports) = (&verdict.firewall, &verdict.ports);
    match verdict.access {
        Access::NoFirewall => Finding::ok(FIREWALL, "neither firewalld nor ufw is on"),
        Access::Open => Finding::ok(FIREWALL, format!("{firewall} lets nodes reach {ports}")),
        Access::Closed => {
            Finding::failure(FIREWALL, format!("{firewall} keeps nodes from {ports}"))
                .why("the boot server listens there, and nodes wait for it for ever")
                .mend(verdict.command.clone())
        }
        Access::Unknown => Finding::warning(
            FIREWALL,
            format!("{firewall} may keep nodes from {ports}"),
        )
        .why("only root may see its rules: `sudo virtlab doctor` tells; opening twice does no harm")
        .mend(verdict.command.clone()),
    }
}

/// Whether a filter for routed packets drops what nodes send each other.
pub(super) fn bridged_frames(facts: &Facts) -> Finding {
    let frames = &facts.host.bridged;
    if !frames.are_filtered {
        return Finding::ok(FRAMES, "iptables does not see what nodes send each other");
    }
    let drops = match frames.policy.as_deref() {
        _ if frames.are_accepted => {
            return Finding::ok(FRAMES, "iptables lets bridged frames pass");
        }
        Some("ACCEPT") => return Finding::ok(FRAMES, "iptables lets what is forwarded pass"),
        Some(policy) => {
            format!("br_netfilter sends bridged frames through iptables, whose policy is {policy}")
        }
        None if frames.has_docker => {
            "br_netfilter sends bridged frames through iptables, where Docker's policy is DROP"
                .to_owned()
        }
        None => {
            return Finding::ok(
                FRAMES,
                "br_netfilter is on; only root may see what iptables forwards",
            );
        }
    };
    let version = facts.libvirt.as_ref().map_or(LibvirtVersion::from(0), |libvirt| libvirt.version);
    let command = if frames.has_docker { DOCKER_ACCEPTS } else { NO_FILTER };
    let finding = if firewall::libvirt_uses_nftables(version) {
        Finding::failure(FRAMES, drops).why("nodes cannot reach each other")
    } else {
        Finding::warning(FRAMES, drops)
            .why("nodes on a bridge of the host's (--network bridge) cannot reach each other")
    };
    finding.mend(command.to_owned())
}

/// Whether networks with IPv6 can start.
pub(super) fn router_advertisements(facts: &Facts) -> Finding {
    let interfaces = &facts.host.ra_interfaces;
    let Some(first) = interfaces.first() else {
        return Finding::ok("accept-ra", "no route of this host goes when IPv6 is forwarded");
    };
    let keys =
        interfaces.iter().map(|interface| format!("net.ipv6.conf.{interface}.accept_ra = 2"));
    let lines = keys.collect::<Vec<_>>().join("\\n");
    let summary = format!("`{first}` has routes by router advertisements, and accept_ra is not 2");
    Finding::warning("accept-ra", summary)
        .why("libvirt starts no network with IPv6 then, and without it each boot takes 16 s longer")
        .mend(sysctl_command("90-virtlab-ra", &lines))
}

/// Whether nodes reach the world.
pub(super) fn forwarding(facts: &Facts) -> Finding {
    let has_lab = facts.labs.labs.iter().any(|lab| lab.has_running_nodes);
    if facts.host.forwards {
        return Finding::ok("forwarding", "this host forwards IPv4");
    }
    if !has_lab {
        return Finding::ok("forwarding", "off; libvirt switches it on with the first network");
    }
    Finding::warning("forwarding", "somebody switched IPv4 forwarding off")
        .why("nodes of labs in modes nat and routed do not reach the world")
        .mend(sysctl_command("90-virtlab-forward", "net.ipv4.ip_forward = 1"))
}

/// Whether there is a subnet for one more lab.
pub(super) fn subnet(facts: &Facts) -> Finding {
    let mut occupied = facts.host.routes.clone();
    occupied.extend(facts.libvirt.iter().flat_map(|libvirt| libvirt.inventory.subnets()));
    match address::free_subnet(Uuid::nil(), DEFAULT_NODES, &occupied) {
        Some(subnet) => Finding::ok("subnet", format!("{subnet}, for one, is free")),
        None => Finding::failure("subnet", "no subnet below 192.168.0.0/16 is free")
            .why("name one by --subnet; `ip route` and `virsh net-list` show who has them"),
    }
}

/// Whether a session may use a bridge.
pub(super) fn bridge_helper(facts: &Facts) -> Finding {
    if !facts.libvirt.as_ref().is_ok_and(|libvirt| libvirt.is_session) {
        return Finding::skipped(HELPER, "only qemu:///session needs QEMU's bridge helper");
    }
    let host = &facts.host;
    match &host.helper {
        Helper::Missing => {
            let command = HELPER_PACKAGES.install_command(host.distribution);
            return Finding::failure(HELPER, "QEMU's bridge helper is not installed").mend(command);
        }
        Helper::NotSetuid(path) => {
            return Finding::failure(HELPER, format!("`{}` is not setuid root", path.display()))
                .why("a user's own QEMU reaches a bridge by it alone")
                .mend(format!("sudo chmod u+s {}", path.display()));
        }
        Helper::Ready => {}
    }
    if let Some((allowed, _)) = host.bridges.iter().find(|(_, is_allowed)| *is_allowed) {
        return Finding::ok(HELPER, format!("a session may attach nodes to bridge `{allowed}`"));
    }
    let Some((bridge, _)) = host.bridges.first() else {
        return Finding::warning(HELPER, "this host has no bridge that a session could use")
            .why("qemu:///session has no networks of its own");
    };
    Finding::failure(HELPER, format!("a session may not attach nodes to bridge `{bridge}`"))
        .why("/etc/qemu/bridge.conf names the bridges that everybody may use")
        .mend(allow_command(bridge))
}

/// Now and at each boot.
fn sysctl_command(name: &str, lines: &str) -> String {
    let file = format!("/etc/sysctl.d/{name}.conf");
    format!("printf '{lines}\\n' | sudo tee {file} && sudo sysctl -p {file}")
}

const FIREWALL: &str = "firewall";
const FRAMES: &str = "bridged-frames";
const HELPER: &str = "bridge-helper";
const DEFAULT_NODES: u32 = 3;
/// Docker puts its own rules before it again; what is in this chain it leaves alone.
const DOCKER_ACCEPTS: &str =
    "sudo iptables -I DOCKER-USER -m physdev --physdev-is-bridged -j ACCEPT";
const NO_FILTER: &str = "printf 'net.bridge.bridge-nf-call-iptables = 0\\n' | \
    sudo tee /etc/sysctl.d/90-virtlab-bridge.conf && sudo sysctl -p /etc/sysctl.d/90-virtlab-bridge.conf";
const HELPER_PACKAGES: Packages = Packages {
    debian: "qemu-system-common",
    fedora: "qemu-common",
    arch: "qemu-common",
    suse: "qemu-tools",
};
