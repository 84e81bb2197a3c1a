//! From a survey to what [`LabOptions::resolve`] decides a new lab from.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use anyhow::{Context, Result};
use uuid::Uuid;

use super::prepare::{ConfigTemplate, OwnTemplates};
use super::survey::{NewLabFacts, Survey};
use crate::boot_server::process;
use crate::host;
use crate::hypervisor::Inventory;
use crate::images::ImageSpec;
use crate::lab::Lab;
use crate::lab::boot::BOOT_PORTS;
use crate::lab::options::{HostFacts, LabOptions};
use crate::lab::spec::{ImageRef, VirtType};

/// Decides everything about a new lab.
pub(crate) fn decide(options: &LabOptions, survey: &Survey, new: &NewLabFacts) -> Result<Lab> {
    let found = without_libvirt(options, &survey.spec, &new.config, &new.own_templates)?;
    let digest = survey.image.as_ref().map(|image| image.digest);
    let freed = survey.replaced.as_ref().and_then(|found| found.lab.spec.network.managed());
    let mut occupied = new.occupied.clone();
    occupied.retain(|(subnet, _)| freed.is_none_or(|network| network.subnet != *subnet));
    let address = options.boot_address.or(survey.wire.address);
    options.resolve(HostFacts {
        uuid: Uuid::new_v4(),
        hostname: new.hostname.clone(),
        occupied,
        image: ImageRef { digest, ..found.image },
        // Where somebody named it, `resolve` takes what was named.
        virt_type: new.virt.as_ref().map_or(VirtType::Qemu, |probe| probe.virt_type),
        data_dir: new.data_dir.clone(),
        boot_address: survey.wire.address,
        boot_port: free_port(&survey.inventory, address)?,
        ..found
    })
}

/// What files tell of a lab, and for the rest something that will do where nothing is made.
fn without_libvirt(
    options: &LabOptions,
    spec: &ImageSpec,
    config: &ConfigTemplate,
    own: &OwnTemplates,
) -> Result<HostFacts> {
    Ok(HostFacts {
        uuid: Uuid::new_v5(&Uuid::NAMESPACE_DNS, options.lab_name().as_str().as_bytes()),
        hostname: host::hostname(),
        occupied: Vec::new(),
        image: ImageRef { name: options.image_name().to_owned(), digest: None },
        arch: spec.arch.parse().map_err(anyhow::Error::msg)?,
        least_memory: u64::from(spec.memory_mib).try_into().map_err(anyhow::Error::msg)?,
        config: config.reference.clone(),
        data_dir: None,
        domain_template: own.domain.as_ref().map(|own| own.reference.clone()),
        network_template: own.network.as_ref().map(|own| own.reference.clone()),
        ready: spec.readiness(),
        ssh_user: spec.ssh_user.clone(),
        virt_type: VirtType::Kvm,
        boot_address: None,
        boot_port: *BOOT_PORTS.start(),
    })
}

/// The lab that the options mean, as far as that can be told without libvirt. `stand_in` allows an address
/// for the boot server that is none, where this host has no such bridge.
pub(crate) fn decide_without_libvirt(
    options: &LabOptions,
    spec: &ImageSpec,
    config: &ConfigTemplate,
    own: &OwnTemplates,
    stand_in: bool,
) -> Result<Lab> {
    let boot_address = match options.bridge_name()? {
        Some(bridge) => host::interface_address(bridge)?,
        None => None,
    };
    let address: IpAddr = STAND_IN_ADDRESS.parse().expect("a good address");
    options.resolve(HostFacts {
        boot_address: boot_address.or(stand_in.then_some(address)),
        ..without_libvirt(options, spec, config, own)?
    })
}

/// A port that nobody listens on and no other lab wants.
fn free_port(inventory: &Inventory, address: Option<IpAddr>) -> Result<u16> {
    let wildcard = IpAddr::V4(Ipv4Addr::UNSPECIFIED);
    let taken = |port: u16| {
        let lab_has =
            |lab: &Lab| Some(lab.spec.boot_address) == address && lab.spec.boot_port == port;
        inventory.labs.values().any(|found| lab_has(&found.lab))
            || !process::is_free(SocketAddr::new(address.unwrap_or(wildcard), port))
    };
    let port = BOOT_PORTS.into_iter().find(|port| !taken(*port));
    port.with_context(|| {
        let (first, last) = (BOOT_PORTS.start(), BOOT_PORTS.end());
        format!(
            "no port from {first} to {last} is free for the boot server; name one by --boot-port"
        )
    })
}

/// A documentation address (RFC 5737), where the bridge's is not known.
const STAND_IN_ADDRESS: &str = "192.0.2.1";
