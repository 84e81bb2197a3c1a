//! Whether this host is fit for labs: facts are gathered once, and findings follow from them alone.
//!
//! A finding names the one command that mends it. Nothing here prints or changes anything.

mod checks;
mod finding;
mod host_facts;
mod lab_facts;
mod libvirt_facts;

pub(crate) use self::finding::{Finding, Level};
use self::host_facts::HostFacts;
use self::lab_facts::LabFacts;
use self::libvirt_facts::{LibvirtFacts, Refusal};
use crate::host::firewall::{self, Maker, Needs, Verdict};
use crate::lab::LibvirtVersion;
use crate::lab::boot::BOOT_PORTS;
use crate::session::Session;

/// Everything that the checks look at.
struct Facts {
    host: HostFacts,
    libvirt: Result<LibvirtFacts, Refusal>,
    labs: LabFacts,
    /// As for a new lab with a network of its own.
    firewall: Verdict,
}

/// Looks at everything and judges it. Where libvirt does not answer, the rest is judged all the same.
pub(crate) fn examine(session: &Session) -> Vec<Finding> {
    checks::all(&gather(session))
}

fn gather(session: &Session) -> Facts {
    let host = HostFacts::gather();
    let libvirt = LibvirtFacts::gather(session);
    let labs = LabFacts::gather(libvirt.as_ref().ok());
    let version = libvirt.as_ref().map_or(LibvirtVersion::from(0), |facts| facts.version);
    let firewall = firewall::look(&Needs {
        bridge: "virbr-00000000".to_owned(),
        maker: Maker::Libvirt,
        subnet: None,
        boot_port: *BOOT_PORTS.start(),
        dnsmasq: firewall::libvirt_uses_nftables(version),
    });
    Facts { host, libvirt, labs, firewall }
}

#[cfg(test)]
mod tests;
