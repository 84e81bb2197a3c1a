//! Decides everything about a new lab: what was asked for, and what there is on this host.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::Path;

use anyhow::{Context, Result};
use ipnet::Ipv4Net;
use uuid::Uuid;

use super::{prepare, wire};
use crate::boot_server::process;
use crate::host;
use crate::hypervisor::{Hypervisor, Inventory};
use crate::images::{Image, ImageSpec};
use crate::lab::Lab;
use crate::lab::options::{LabOptions, Surroundings, VirtTypeChoice};
use crate::lab::spec::{ConfigRef, ImageRef, VirtType};
use crate::session::Session;

/// Decides everything about a new lab. `occupied` are subnets that others have.
pub(crate) fn decide(
    session: &Session,
    hypervisor: &Hypervisor,
    inventory: &Inventory,
    occupied: Vec<(Ipv4Net, String)>,
    options: &LabOptions,
    spec: &ImageSpec,
    image: Option<&Image>,
) -> Result<Lab> {
    let boot_address = match options.foreign_network()? {
        Some(network) => wire::find(&network, inventory, hypervisor.is_session()?)?.address,
        None => None,
    };
    let known = known_without_libvirt(session, options, spec)?;
    let digest = image.map_or(known.image.digest, |image| image.digest.to_string());
    options.resolve(Surroundings {
        uuid: Uuid::new_v4(),
        hostname: hypervisor.hostname()?,
        occupied,
        image: ImageRef { digest, ..known.image },
        virt_type: virt_type(session, hypervisor, options)?,
        boot_address,
        boot_port: free_port(inventory, options.boot_address.or(boot_address))?,
        ..known
    })
}

/// The surroundings of a lab as far as files tell them, and for the rest something that will do where
/// nothing is made.
pub(crate) fn known_without_libvirt(
    session: &Session,
    options: &LabOptions,
    spec: &ImageSpec,
) -> Result<Surroundings> {
    let templates = session.templates()?;
    let (config, _) = prepare::config_template(&templates, options.config.as_deref(), spec)?;
    let (domain, network) = (&options.domain_template, &options.network_template);
    Ok(Surroundings {
        uuid: Uuid::new_v5(&Uuid::NAMESPACE_DNS, options.lab_name().as_str().as_bytes()),
        hostname: host::hostname(),
        occupied: Vec::new(),
        image: ImageRef { name: options.image_name().to_owned(), digest: "unresolved".to_owned() },
        least_memory: u64::from(spec.memory_mib).try_into().map_err(anyhow::Error::msg)?,
        config,
        domain_template: own_template(prepare::DOMAIN_TEMPLATE, domain.as_deref())?,
        network_template: own_template(prepare::NETWORK_TEMPLATE, network.as_deref())?,
        ready: spec.ready,
        virt_type: VirtType::Kvm,
        boot_address: None,
        boot_port: FIRST_PORT,
    })
}

/// The template that a flag names, as the lab knows it.
fn own_template(flag: &str, path: Option<&Path>) -> Result<Option<ConfigRef>> {
    path.map(|path| Ok(prepare::OwnTemplate::read(flag, path)?.reference)).transpose()
}

fn virt_type(session: &Session, hypervisor: &Hypervisor, options: &LabOptions) -> Result<VirtType> {
    if options.virt_type.unwrap_or_default() != VirtTypeChoice::Auto {
        // `resolve` takes what was asked for.
        return Ok(VirtType::Qemu);
    }
    let probe = hypervisor.probe_virt_type()?;
    if let Some(reason) = probe.reason {
        session.printer.warn(format!("no KVM here, so nodes are emulated and slow: {reason}"));
    }
    Ok(probe.virt_type)
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
    let port = (FIRST_PORT..=LAST_PORT).find(|port| !taken(*port));
    port.with_context(|| {
        format!("no port from {FIRST_PORT} to {LAST_PORT} is free for the boot server; name one by --boot-port")
    })
}

/// The lab that the options mean, as far as that can be told without libvirt. `stand_in` allows an
/// address for the boot server that is none, where this host has no such bridge.
pub(crate) fn decide_without_libvirt(
    session: &Session,
    options: &LabOptions,
    spec: &ImageSpec,
    stand_in: bool,
) -> Result<Lab> {
    let boot_address = match options.bridge_name()? {
        Some(bridge) => host::interface_address(bridge)?,
        None => None,
    };
    let address: IpAddr = STAND_IN_ADDRESS.parse().expect("a good address");
    options.resolve(Surroundings {
        boot_address: boot_address.or(stand_in.then_some(address)),
        ..known_without_libvirt(session, options, spec)?
    })
}

/// Registered for nothing that is likely to run beside libvirt.
const FIRST_PORT: u16 = 8470;
const LAST_PORT: u16 = 8869;
/// A documentation address (RFC 5737), where the bridge's is not known.
const STAND_IN_ADDRESS: &str = "192.0.2.1";
