//! Whether there is everything that nodes boot with.

use super::super::{Facts, Finding};
use crate::loaders::Program;
use crate::packages::Packages;

/// Whether QEMU is here.
pub(super) fn qemu(facts: &Facts) -> Finding {
    if facts.host.has_qemu {
        return Finding::ok("qemu", "QEMU for x86_64 is installed");
    }
    missing(facts, Finding::failure("qemu", "there is no QEMU for x86_64"), QEMU)
}

/// Whether libvirt can give addresses and boot files.
pub(super) fn dnsmasq(facts: &Facts) -> Finding {
    if facts.host.has_dnsmasq {
        return Finding::ok("dnsmasq", "dnsmasq is installed");
    }
    let failure = Finding::failure("dnsmasq", "there is no dnsmasq")
        .why("libvirt's networks give addresses and boot files by it");
    missing(facts, failure, DNSMASQ)
}

/// Whether the nodes' network cards can boot.
pub(super) fn card_rom(facts: &Facts) -> Finding {
    if !facts.host.missing_programs.contains(&Program::CardRom) {
        return Finding::ok("network-rom", "the network cards' iPXE is installed");
    }
    let name = Program::CardRom.name();
    let failure = Finding::failure("network-rom", format!("there is no `{name}`"))
        .why("it is the iPXE on the nodes' network cards, and QEMU starts no card without it");
    missing(facts, failure, Program::CardRom.packages())
}

/// Whether `--firmware uefi` works.
pub(super) fn uefi(facts: &Facts) -> Finding {
    let why = "`--firmware uefi` does not work; all else does";
    if !facts.host.has_uefi {
        let warning = Finding::warning("uefi", "there is no UEFI for guests").why(why);
        return missing(facts, warning, UEFI);
    }
    if facts.host.missing_programs.contains(&Program::IpxeEfi) {
        let name = Program::IpxeEfi.name();
        let warning = Finding::warning("uefi", format!("there is no `{name}`")).why(why);
        return missing(facts, warning, Program::IpxeEfi.packages());
    }
    Finding::ok("uefi", "UEFI for guests and its iPXE are installed")
}

/// Whether `--loader pxelinux` works.
pub(super) fn pxelinux(facts: &Facts) -> Finding {
    let lacks = [Program::Pxelinux, Program::Ldlinux]
        .into_iter()
        .find(|program| facts.host.missing_programs.contains(program));
    let Some(program) = lacks else {
        return Finding::ok("pxelinux", "pxelinux is installed");
    };
    let warning = Finding::warning("pxelinux", format!("there is no `{}`", program.name()))
        .why("`--loader pxelinux` does not work; all else does");
    missing(facts, warning, PXELINUX)
}

/// Whether dnsmasq can read what it is to give out.
pub(super) fn tftp_root(facts: &Facts) -> Finding {
    let closed = &facts.host.closed_folders;
    if closed.is_empty() {
        return Finding::ok("tftp-root", "dnsmasq may read what nodes boot");
    }
    let folders: Vec<String> = closed.iter().map(|path| path.display().to_string()).collect();
    Finding::failure("tftp-root", format!("dnsmasq may not pass `{}`", folders.join("`, `")))
        .why("it gives up root before it reads the nodes' boot files below")
        .mend(format!("sudo chmod o+x {}", folders.join(" ")))
}

/// What is missing is in a package.
fn missing(facts: &Facts, finding: Finding, packages: Packages) -> Finding {
    let Some(command) = packages.install_command(facts.host.distribution) else {
        let where_it_is = format!("it is in {packages}");
        let why = finding
            .why
            .clone()
            .map_or_else(|| where_it_is.clone(), |why| format!("{why}; {where_it_is}"));
        return finding.why(why);
    };
    finding.mend(command)
}

const QEMU: Packages = Packages {
    debian: "qemu-system-x86",
    fedora: "qemu-system-x86-core",
    arch: "qemu-system-x86",
    suse: "qemu-x86",
};
const DNSMASQ: Packages =
    Packages { debian: "dnsmasq-base", fedora: "dnsmasq", arch: "dnsmasq", suse: "dnsmasq" };
const UEFI: Packages = Packages {
    debian: "ovmf ipxe",
    fedora: "edk2-ovmf ipxe-bootimgs-x86",
    arch: "edk2-ovmf ipxe",
    suse: "qemu-ovmf-x86_64 ipxe-bootimgs",
};
const PXELINUX: Packages = Packages {
    debian: "pxelinux syslinux-common",
    fedora: "syslinux-nonlinux",
    arch: "syslinux",
    suse: "syslinux",
};
