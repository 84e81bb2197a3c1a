//! Whether KVM really works. A device that opens proves little: inside some virtual machines guests
//! do not start, or start and hang.

use std::thread;
use std::time::{Duration, Instant};

use anyhow::Result;
use virt::domain::Domain;
use virt::error::ErrorNumber;
use virt::sys;

use super::Hypervisor;
use super::error::{Doing, is_any, is_connection_lost};
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
    /// Starts a tiny KVM guest, stopped, and removes it again; it is gone with our connection
    /// whatever happens.
    ///
    /// # Errors
    /// If the connection is gone.
    pub fn probe_virt_type(&self) -> Result<VirtProbe> {
        let driver = self.connection()?.driver_type();
        let driver = driver.doing(|| "asking libvirt for its driver".to_owned())?;
        if driver.eq_ignore_ascii_case("test") {
            return Ok(VirtProbe { virt_type: VirtType::Test, reason: None });
        }
        match self.start_probe() {
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

    /// The probe has one name, so that libvirt keeps one log of it and not one for each run. That of another
    /// run is gone in a moment.
    fn start_probe(&self) -> Result<Domain> {
        let flags = sys::VIR_DOMAIN_START_PAUSED | sys::VIR_DOMAIN_START_AUTODESTROY;
        let deadline = Instant::now() + OTHERS;
        loop {
            match self.connection()?.create_domain_xml(PROBE, flags) {
                Err(error)
                    if is_any(&error, &[ErrorNumber::OperationFailed])
                        && Instant::now() < deadline =>
                {
                    thread::sleep(POLL);
                }
                other => return other.doing(|| "starting the KVM probe".to_owned()),
            }
        }
    }
}

/// How long the probes of other runs may take.
const OTHERS: Duration = Duration::from_secs(30);
const POLL: Duration = Duration::from_millis(100);
const PROBE: &str = "<domain type='kvm'><name>virtlab-probe</name><memory unit='MiB'>32</memory>\
    <vcpu>1</vcpu><os><type arch='x86_64' machine='q35'>hvm</type></os>\
    <cpu mode='host-passthrough'/><devices><memballoon model='none'/></devices></domain>";
