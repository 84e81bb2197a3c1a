//! Whether KVM really works. A device that opens proves little: inside some virtual machines guests
//! do not start, or start and hang.

use std::time::Duration;

use anyhow::Result;
use virt::domain::Domain;
use virt::error::{Error, ErrorNumber};
use virt::sys;

use super::error::{Doing, is_any, is_connection_lost};
use super::{Capabilities, Hypervisor};
use crate::deadline::Deadline;
use crate::error::hinted;
use crate::host::kvm;
use crate::lab::spec::VirtType;

/// What guests can run on, and why it is not KVM if it is not.
#[derive(Debug)]
pub struct VirtProbe {
    /// The best that works.
    pub virt_type: VirtType,
    /// Why there is no KVM.
    pub reason: Option<String>,
}

impl Hypervisor {
    /// Starts a tiny KVM guest of this architecture, stopped, and removes it again; it is gone with our
    /// connection whatever happens.
    ///
    /// # Errors
    /// If guests of this architecture cannot run here at all.
    pub fn probe_virt_type(&self, arch: &str) -> Result<VirtProbe> {
        if self.is_test_driver()? {
            return Ok(VirtProbe { virt_type: VirtType::Test, reason: None });
        }
        let host = self.capabilities()?.unwrap_or_default();
        if arch != host.host_arch {
            let reason = format!("the image is for {arch}, and this host is {}", host.host_arch);
            return Ok(VirtProbe { virt_type: VirtType::Qemu, reason: Some(reason) });
        }
        // The probe would start there.
        if let Some(reason) = kvm::lack() {
            return Ok(VirtProbe { virt_type: VirtType::Qemu, reason: Some(reason.to_owned()) });
        }
        match self.start_probe(arch) {
            Ok(domain) => {
                let destroyed = domain.destroy();
                destroyed.doing(|| "removing the KVM probe".to_owned())?;
                Ok(VirtProbe { virt_type: VirtType::Kvm, reason: None })
            }
            // This says nothing of KVM.
            Err(error) if is_connection_lost(&error) => Err(error),
            Err(error) => {
                let message = error.root_cause().to_string();
                let reason = message.lines().last().unwrap_or_default().trim().to_owned();
                Ok(VirtProbe { virt_type: VirtType::Qemu, reason: Some(reason) })
            }
        }
    }

    /// Refuses an image for an architecture of which this host runs no guests.
    ///
    /// # Errors
    /// If it is one, with the package that lacks.
    pub fn require_guests_of(&self, arch: &str) -> Result<()> {
        let Some(host) = self.capabilities()? else { return Ok(()) };
        if self.is_test_driver()? { Ok(()) } else { require_guests(&host, arch) }
    }

    fn is_test_driver(&self) -> Result<bool> {
        let driver = self.connection()?.driver_type();
        let driver = driver.doing(|| "asking libvirt for its driver".to_owned())?;
        Ok(driver.eq_ignore_ascii_case("test"))
    }

    /// The probe has one name, so that libvirt keeps one log of it and not one for each run. That of another
    /// run is gone in a moment.
    fn start_probe(&self, arch: &str) -> Result<Domain> {
        let xml = PROBE.replace("ARCH", arch);
        let flags = sys::VIR_DOMAIN_START_PAUSED | sys::VIR_DOMAIN_START_AUTODESTROY;
        let connection = self.connection()?;
        let is_taken = |error: &Error| is_any(error, &[ErrorNumber::OperationFailed]);
        let start = || connection.create_domain_xml(&xml, flags);
        let started = Deadline::after(OTHERS).retry(POLL, is_taken, start);
        started.doing(|| "starting the KVM probe".to_owned())
    }
}

fn require_guests(host: &Capabilities, arch: &str) -> Result<()> {
    if host.guests.contains_key(arch) {
        return Ok(());
    }
    let Capabilities { host_arch, .. } = host;
    Err(hinted(
        format!("the image is for {arch}, and QEMU on this {host_arch} host runs no such guests"),
        format!(
            "install `qemu-system-{}` to emulate them, or name an image for {host_arch} by --image",
            package_of(arch)
        ),
    ))
}

/// Debian's package of the emulator is called after the family.
fn package_of(arch: &str) -> &str {
    match arch {
        "x86_64" | "i686" => "x86",
        "aarch64" | "armv7l" => "arm",
        "ppc64" | "ppc64le" => "ppc",
        other => other,
    }
}

/// How long the probes of other runs may take.
const OTHERS: Duration = Duration::from_secs(30);
const POLL: Duration = Duration::from_millis(100);
const PROBE: &str = "<domain type='kvm'><name>virtlab-probe</name><memory unit='MiB'>32</memory>\
    <vcpu>1</vcpu><os><type arch='ARCH'>hvm</type></os>\
    <cpu mode='host-passthrough'/><devices><memballoon model='none'/></devices></domain>";

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::hint::hints;

    #[test]
    fn an_image_for_processors_that_nobody_has_is_refused_with_the_package() {
        let guests = BTreeMap::from([("aarch64".to_owned(), vec!["kvm".to_owned()])]);
        let host =
            Capabilities { host_arch: "aarch64".to_owned(), guests, ..Capabilities::default() };
        require_guests(&host, "aarch64").unwrap();
        let error = require_guests(&host, "x86_64").unwrap_err();
        assert_eq!(
            error.to_string(),
            "the image is for x86_64, and QEMU on this aarch64 host runs no such guests"
        );
        assert_eq!(
            hints(&error),
            ["install `qemu-system-x86` to emulate them, or name an image for aarch64 by --image"]
        );
    }
}
