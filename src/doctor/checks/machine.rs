//! What guests run on: processor, memory, disks, and who confines them.

use super::super::host_facts::Disk;
use super::super::{Facts, Finding};
use crate::lab::spec::VirtType;
use crate::units::human_bytes;

/// Whether KVM runs guests, or why not.
pub(super) fn kvm(facts: &Facts) -> Finding {
    let Some(probe) = facts.libvirt.as_ref().ok().and_then(|libvirt| libvirt.virt.as_ref()) else {
        return Finding::skipped(KVM, "cannot be tried without libvirt");
    };
    match (probe.virt_type, &probe.reason) {
        (VirtType::Kvm, _) => Finding::ok(KVM, "KVM starts a guest"),
        (VirtType::Test, _) => Finding::skipped(KVM, "libvirt's test driver runs no guests"),
        (VirtType::Qemu, reason) => {
            let reason = reason.as_deref().unwrap_or("it starts no guest");
            let module = facts.host.kvm_module.filter(|_| !facts.host.has_kvm_device);
            Finding::warning(KVM, format!("KVM starts no guest: {reason}"))
                .why("nodes are emulated: all works, five to ten times slower")
                .mend(module.map(|module| format!("sudo modprobe {module}")))
        }
    }
}

/// Who confines guests.
pub(super) fn confinement(facts: &Facts) -> Finding {
    let by = match (facts.host.has_apparmor, facts.host.selinux_enforces) {
        (_, Some(true)) => "SELinux enforces its rules",
        (_, Some(false)) => "SELinux is permissive",
        (true, None) => "AppArmor is on",
        (false, None) => "neither AppArmor nor SELinux is on",
    };
    Finding::ok("confinement", by)
}

/// Whether the smallest lab fits.
pub(super) fn memory(facts: &Facts) -> Finding {
    let available = facts.host.available_memory;
    let summary = format!("{} of memory are left", human_bytes(available));
    if available < LEAST_MEMORY {
        return Finding::failure(MEMORY, summary)
            .why(format!("the smallest node needs {}", human_bytes(LEAST_MEMORY)));
    }
    if available < DEFAULT_NODES * LEAST_MEMORY {
        return Finding::warning(MEMORY, summary).why(format!(
            "{DEFAULT_NODES} of the smallest nodes need {}",
            human_bytes(DEFAULT_NODES * LEAST_MEMORY)
        ));
    }
    Finding::ok(MEMORY, summary)
}

/// Whether there is room for what labs keep.
pub(super) fn disk(facts: &Facts) -> Finding {
    let describe = |disk: &Disk| {
        format!(
            "{} are left for {} in `{}`",
            human_bytes(disk.free),
            disk.what,
            disk.path.display()
        )
    };
    let Some(tightest) = facts.host.disks.iter().min_by_key(|disk| disk.free) else {
        return Finding::skipped(DISK, "no file system tells its room");
    };
    if tightest.free >= ENOUGH_DISK {
        return Finding::ok(DISK, format!("at least {}", describe(tightest)));
    }
    let finding = if tightest.free < LEAST_DISK {
        Finding::failure(DISK, describe(tightest))
    } else {
        Finding::warning(DISK, describe(tightest))
    };
    let finding = finding.why("images are 60 MB to 1.5 GB, and consoles and disks grow");
    let prune = "virtlab image prune".to_owned();
    finding.mend(tightest.has_images.then_some(prune))
}

const KVM: &str = "kvm";
const MEMORY: &str = "memory";
const DISK: &str = "disk";
/// Of image `micro`.
const LEAST_MEMORY: u64 = 512 << 20;
const DEFAULT_NODES: u64 = 3;
const LEAST_DISK: u64 = 256 << 20;
const ENOUGH_DISK: u64 = 2 << 30;
