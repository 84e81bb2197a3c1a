//! Whether libvirt answers, and whether this user may use it.

use super::super::host_facts::Socket;
use super::super::libvirt_facts::{LibvirtFacts, Refusal, RefusalKind};
use super::super::{Facts, Finding};
use crate::lab::LibvirtVersion;
use crate::packages::Packages;

/// Whether libvirt answers, which one it is, and how to get it to.
pub(super) fn connection(facts: &Facts) -> Finding {
    match &facts.libvirt {
        Ok(libvirt) => answers(facts, libvirt),
        Err(refusal) => does_not_answer(facts, refusal),
    }
}

fn answers(facts: &Facts, libvirt: &LibvirtFacts) -> Finding {
    let version = libvirt.version;
    let driver_version = libvirt.driver_version.map(|it| format!(" {}", dotted(it)));
    let daemons = if facts.host.daemon.is_modular { ", modular daemons" } else { ", one daemon" };
    let daemons = if libvirt.is_local && !libvirt.is_session { daemons } else { "" };
    let summary = format!(
        "{} answers: libvirt {version}, {}{}{daemons}",
        libvirt.origin.uri,
        libvirt.driver,
        driver_version.unwrap_or_default()
    );
    if libvirt.version < LibvirtVersion::OLDEST {
        return Finding::warning(CONNECTION, summary)
            .why(format!("virtlab is tested with libvirt {} and later", LibvirtVersion::OLDEST));
    }
    if !libvirt.is_local {
        return Finding::failure(CONNECTION, summary)
            .why("a lab's boot server has to run on libvirt's own host");
    }
    Finding::ok(CONNECTION, summary)
}

fn does_not_answer(facts: &Facts, refusal: &Refusal) -> Finding {
    let daemon = &facts.host.daemon;
    let failure =
        Finding::failure(CONNECTION, format!("libvirt does not answer: {}", one_line(refusal)));
    match (refusal.kind, daemon.service, daemon.socket) {
        (RefusalKind::Permission, ..) => failure
            .why("libvirt asks polkit who may use it, and that says no")
            .mend(join_group(facts)),
        (RefusalKind::Transport, None, _) => failure
            .why("libvirt is not installed")
            .mend(LIBVIRT.install_command(facts.host.distribution)),
        (RefusalKind::Transport, Some(service), Socket::Missing) => {
            failure.why("its daemon does not run").mend(Some(start_command(service)))
        }
        (RefusalKind::Transport, _, Socket::Closed) => {
            failure.why("its socket is for members of a group").mend(join_group(facts))
        }
        _ => failure,
    }
}

/// Whether this user may use libvirt.
pub(super) fn group(facts: &Facts) -> Finding {
    let user = &facts.host.user;
    let session = facts.libvirt.as_ref().is_ok_and(|libvirt| libvirt.is_session);
    let Some(group) = &user.group else {
        return Finding::skipped(GROUP, "there is no group `libvirt` here");
    };
    if user.is_root {
        return Finding::ok(GROUP, "root may use libvirt");
    }
    if session {
        return Finding::skipped(GROUP, "qemu:///session is the user's own");
    }
    match (user.is_member, &facts.libvirt) {
        (true, Err(_)) if facts.host.daemon.socket == Socket::Closed => Finding::failure(
            GROUP,
            format!("`{}` is in group `{group}`, but was not when this session began", user.name),
        )
        .why("groups are given at login: log in again, or open a shell that has it")
        .mend(format!("newgrp {group}")),
        (true, _) => Finding::ok(GROUP, format!("`{}` is in group `{group}`", user.name)),
        (false, Ok(_)) => {
            Finding::ok(GROUP, format!("`{}` may use libvirt without the group", user.name))
        }
        (false, Err(_)) => Finding::failure(
            GROUP,
            format!("`{}` is not in group `{group}`", user.name),
        )
        .why("libvirt may be used by root and by members of that group; log in again afterwards")
        .mend(join_group(facts)),
    }
}

fn join_group(facts: &Facts) -> Option<String> {
    let user = &facts.host.user;
    let group = user.group.as_ref().filter(|_| !user.is_member)?;
    Some(format!("sudo usermod -aG {group} {}", user.name))
}

fn start_command(service: &str) -> String {
    if service == "virtqemud" {
        let sockets =
            ["virtqemud", "virtnetworkd", "virtstoraged"].map(|it| format!("{it}.socket"));
        return format!("sudo systemctl enable --now {}", sockets.join(" "));
    }
    format!("sudo systemctl enable --now {service}")
}

fn one_line(refusal: &Refusal) -> String {
    refusal.message.split_whitespace().collect::<Vec<_>>().join(" ")
}

/// `11003000` is 11.3.0.
fn dotted(version: u32) -> String {
    format!("{}.{}.{}", version / 1_000_000, version / 1000 % 1000, version % 1000)
}

const CONNECTION: &str = "libvirt";
const GROUP: &str = "group";
const LIBVIRT: Packages = Packages {
    debian: "libvirt-daemon-system libvirt-clients qemu-system-x86 ipxe-qemu dnsmasq-base",
    fedora: "libvirt-daemon-kvm libvirt-client dnsmasq",
    arch: "libvirt qemu-base dnsmasq",
    suse: "libvirt-daemon-qemu libvirt-client dnsmasq",
};
