//! Decides and checks everything about a lab, and makes nothing of it.

use std::net::IpAddr;
use std::net::Ipv4Addr;
use std::net::SocketAddr;
use std::path::Path;

use anyhow::Context as _;
use anyhow::Result;
use anyhow::bail;
use fs_err as fs;
use uuid::Uuid;

use super::Context;
use super::attach;
use super::check;
use super::image::PinArgs;
use super::prepare;
use super::prepare::Prepared;
use crate::boot_server::process;
use crate::config;
use crate::hint::hinted;
use crate::host;
use crate::hypervisor::Found;
use crate::hypervisor::Hypervisor;
use crate::hypervisor::Inventory;
use crate::images::Image;
use crate::images::ImageSpec;
use crate::images::lock::Pin;
use crate::images::store::Store;
use crate::lab::Lab;
use crate::lab::LabName;
use crate::lab::options::LabOptions;
use crate::lab::options::Surroundings;
use crate::lab::options::VirtTypeChoice;
use crate::lab::spec::ConfigRef;
use crate::lab::spec::ImageRef;
use crate::lab::spec::VirtType;
use crate::render::Templates;
use crate::render::config::ConfigInput;
use crate::state;
use crate::state::StateDir;

/// How a lab is to be made, beside what it is to be like.
#[derive(Debug, Default)]
pub(super) struct Wishes {
    /// Which version of the image.
    pub(super) pin: PinArgs,
    /// Whatever memory the host has left.
    pub(super) overcommit: bool,
}

/// A lab that is decided and checked, and everything that making it needs.
pub(super) struct Draft {
    pub(super) prepared: Prepared,
    /// What there is of it already.
    pub(super) found: Option<Found>,
    /// Other virtlabs choose no subnet as long as it is held.
    pub(super) lock: std::fs::File,
}

/// Decides and checks everything about a lab, and makes nothing of it.
pub(super) fn draft(
    context: &Context,
    hypervisor: &Hypervisor,
    options: &LabOptions,
    wishes: &Wishes,
) -> Result<Draft> {
    let name = options.lab_name();
    // Getting an image can take minutes: before the lock.
    let existing = context.observe(hypervisor)?.lab(&name).map(|found| found.lab.clone());
    let image_name =
        existing.as_ref().map_or(options.image_name(), |lab| lab.spec.image.name.as_str());
    let spec = context.catalogue()?.find(image_name)?;
    let image = image_for(context, existing.as_ref(), &spec, &wishes.pin)?;

    let waiting = || context.printer.note("waiting for another virtlab to choose its network");
    let lock = state::lock(waiting)?;
    let inventory = context.observe(hypervisor)?;
    let found = inventory.lab(&name).cloned();
    let lab = match &found {
        Some(found) => same_lab(options, &found.lab, &image)?,
        None => decide(context, hypervisor, &inventory, options, &spec, &image)?,
    };
    let wire = attach::check(hypervisor, &lab.spec.network)?;
    attach::check_macs(&lab, &wire, hypervisor)?;
    if let Some(lacks) = &wire.lacks {
        context.printer.note(lacks);
    }
    let prepared = prepare_lab(context, options, lab, &spec, &image)?;
    check::conflicts(&prepared.lab, &inventory)?;
    if !wishes.overcommit {
        check::memory(context.printer, &prepared.lab, found.as_ref(), &spec)?;
    }
    Ok(Draft { prepared, found, lock })
}

/// The flags laid over the lab file, with every path a whole one.
pub(super) fn read_options(
    flags: &LabOptions,
    file: Option<&std::path::Path>,
) -> Result<LabOptions> {
    let mut options = flags.clone();
    if let Some(path) = file {
        let text = fs::read_to_string(path).context("reading the lab file (--file)")?;
        options = options.or(LabOptions::from_toml(&text, path)?);
    }
    let here = std::env::current_dir().context("looking for the current folder")?;
    Ok(options.seen_from(&here))
}

/// The boot server has to run where the nodes are.
pub(super) fn refuse_remote(hypervisor: &Hypervisor, name: &LabName) -> Result<()> {
    if !hypervisor.is_local()? {
        bail!(
            "lab `{name}` cannot be made at {}: its boot server has to run on libvirt's own host",
            hypervisor.uri()?
        );
    }
    Ok(())
}

/// What an existing lab was made with, if that is still here; else the newest there is.
fn image_for(
    context: &Context,
    existing: Option<&Lab>,
    spec: &ImageSpec,
    pin: &PinArgs,
) -> Result<Image> {
    let store = Store::open_default()?;
    let wanted = pin.pin(&spec.name)?;
    if let Some(lab) = existing
        && wanted == Pin::default()
        && let Some(image) = store.with_digest(spec, &lab.spec.image.digest)?
    {
        return Ok(image);
    }
    let image = store.ensure(spec, &wanted, context.printer)?;
    pin.record(&image)?;
    Ok(image)
}

/// An existing lab, if it is what was asked for.
fn same_lab(options: &LabOptions, lab: &Lab, image: &Image) -> Result<Lab> {
    let mut differences = options.differences(lab);
    if image.digest.to_string() != lab.spec.image.digest {
        differences.push(format!("image `{}` is another one by now", lab.spec.image.name));
    }
    if differences.is_empty() {
        return Ok(lab.clone());
    }
    Err(hinted(
        format!("lab `{}` exists and is different: {}", lab.name, differences.join("; ")),
        format!("`virtlab create {} --recreate …` destroys it first", lab.name),
    ))
}

/// Decides everything about a new lab.
fn decide(
    context: &Context,
    hypervisor: &Hypervisor,
    inventory: &Inventory,
    options: &LabOptions,
    spec: &ImageSpec,
    image: &Image,
) -> Result<Lab> {
    let templates = context.templates()?;
    let (config, _) = prepare::config_template(&templates, options.config.as_deref(), spec)?;
    let boot_address = match options.foreign_network()? {
        Some(network) => attach::check(hypervisor, &network)?.address,
        None => None,
    };
    let mut occupied = hypervisor.network_subnets()?;
    occupied.extend(host::routes()?);
    options.resolve(Surroundings {
        uuid: Uuid::new_v4(),
        hostname: hypervisor.hostname()?,
        occupied,
        image: ImageRef { name: options.image_name().to_owned(), digest: image.digest.to_string() },
        least_memory: u64::from(spec.memory_mib).try_into().map_err(anyhow::Error::msg)?,
        config,
        domain_template: own_template(
            prepare::DOMAIN_TEMPLATE,
            options.domain_template.as_deref(),
        )?,
        network_template: own_template(
            prepare::NETWORK_TEMPLATE,
            options.network_template.as_deref(),
        )?,
        ready: spec.ready,
        virt_type: virt_type(context, hypervisor, options)?,
        boot_address,
        boot_port: free_port(inventory, options.boot_address.or(boot_address))?,
    })
}

/// The template that a flag names, as the lab knows it.
pub(super) fn own_template(flag: &str, path: Option<&Path>) -> Result<Option<ConfigRef>> {
    path.map(|path| Ok(prepare::OwnTemplate::read(flag, path)?.reference)).transpose()
}

fn virt_type(context: &Context, hypervisor: &Hypervisor, options: &LabOptions) -> Result<VirtType> {
    if options.virt_type.unwrap_or_default() != VirtTypeChoice::Auto {
        // `resolve` takes what was asked for.
        return Ok(VirtType::Qemu);
    }
    let probe = hypervisor.probe_virt_type()?;
    if let Some(reason) = probe.reason {
        context.printer.warn(format!("no KVM here, so nodes are emulated and slow: {reason}"));
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

fn prepare_lab(
    context: &Context,
    options: &LabOptions,
    lab: Lab,
    spec: &ImageSpec,
    image: &Image,
) -> Result<Prepared> {
    let state = StateDir::of(&lab.name)?;
    let (templates, own_templates) = prepare::own_templates(context.templates()?, &lab, &state)?;
    // Whatever can change from one run to the next stays what it was when the lab was made.
    let kept = state.content().ok().filter(|content| content.uuid == lab.uuid);
    let ssh_keys = match &kept {
        Some(kept) => kept.ssh_keys.clone(),
        None => ssh_keys(options)?,
    };
    let input = config_input(&templates, &lab, spec, ssh_keys)?;
    let mut prepared = Prepared::new(&templates, lab, spec, Some(image), &input)?;
    if let Some(url) = kept.and_then(|content| content.discovery_url) {
        prepared.content.put_discovery_url(url);
    }
    Ok(Prepared { own_templates, ..prepared })
}

/// What the configs of a lab are made of, if its template is still what it was made with.
fn config_input(
    templates: &Templates,
    lab: &Lab,
    spec: &ImageSpec,
    ssh_keys: Vec<String>,
) -> Result<ConfigInput> {
    let own =
        lab.spec.config.source.starts_with("config-templates/") || lab.spec.config.source == "none";
    let file = (!own).then(|| lab.spec.config.source.clone());
    let (config, template) =
        prepare::config_template(templates, file.as_deref().map(AsRef::as_ref), spec)?;
    if config != lab.spec.config {
        return Err(hinted(
            format!(
                "config template `{}` is not what lab `{}` was made with",
                config.source, lab.name
            ),
            format!("`virtlab create {} --recreate …` makes the lab anew", lab.name),
        ));
    }
    Ok(ConfigInput { template, ssh_keys })
}

/// The public keys that may log in to the nodes.
pub(super) fn ssh_keys(options: &LabOptions) -> Result<Vec<String>> {
    let home = etcetera::home_dir().context("looking for the home directory")?;
    config::public_keys(&options.ssh_key, &home.join(".ssh"))
}

/// Registered for nothing that is likely to run beside libvirt.
pub(super) const FIRST_PORT: u16 = 8470;
const LAST_PORT: u16 = 8869;
