//! What follows from the facts, one function a check.

mod boot;
mod daemon;
mod labs;

mod machine;
mod network;

use super::{Facts, Finding};

/// All findings, those that explain others first.
pub(super) fn all(facts: &Facts) -> Vec<Finding> {
    vec![
        daemon::connection(facts),
        daemon::group(facts),
        boot::qemu(facts),
        machine::kvm(facts),
        boot::dnsmasq(facts),
        boot::card_rom(facts),
        boot::uefi(facts),
        boot::pxelinux(facts),
        boot::tftp_root(facts),
        machine::confinement(facts),
        network::firewall(facts),
        network::bridged_frames(facts),
        network::router_advertisements(facts),
        network::forwarding(facts),
        network::subnet(facts),
        network::bridge_helper(facts),
        machine::memory(facts),
        machine::disk(facts),
        labs::complete(facts),
        labs::boot_servers(facts),
        labs::autostart(facts),
        labs::folders(facts),
    ]
}
