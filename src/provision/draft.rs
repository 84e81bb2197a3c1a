//! Decides and checks everything about a lab, and makes nothing of it but the image.

use anyhow::{Context, Result, bail};
use fs_err as fs;

use super::facts::decide;
use super::prepare::{self, Prepared};
use super::{merging, preflight, wire};
use crate::error::hinted;
use crate::hypervisor::{Found, Hypervisor};
use crate::images::Library;
use crate::images::lock::Pin;
use crate::images::{Image, ImageSpec, PinChoice};
use crate::lab::options::LabOptions;
use crate::lab::{Lab, LabName};
use crate::render::config::ConfigInput;
use crate::session::Session;
use crate::state::{self, StateDir};
use crate::template::Templates;
use crate::{config, host};

/// How a lab is to be made, beside what it is to be like.
#[derive(Debug, Default)]
pub(crate) struct Wishes {
    /// Which version of the image.
    pub(crate) pin: PinChoice,
    /// Whatever memory the host has left.
    pub(crate) overcommit: bool,
    /// Just to see: an image that is not here is not fetched.
    pub(crate) dry_run: bool,
    /// As if the lab of this name, which it replaces, were gone already.
    pub(crate) replaces: bool,
}

/// A lab that is decided and checked, and everything that making it needs.
pub(crate) struct Draft {
    pub(crate) prepared: Prepared,
    /// What there is of it already.
    pub(crate) found: Option<Found>,
    /// Other virtlabs choose no subnet as long as it is held.
    pub(crate) lock: std::fs::File,
    /// The image is to be fetched or built yet, and so nothing of it is prepared: a dry run.
    pub(crate) lacks_image: bool,
}

/// Decides and checks everything about a lab, and makes nothing of it but the image.
pub(crate) fn draft(
    session: &Session,
    hypervisor: &Hypervisor,
    options: &LabOptions,
    wishes: &Wishes,
) -> Result<Draft> {
    let mut inventory = session.observe(hypervisor)?;
    let existing = inventory.take(&options.lab_name()).filter(|_| !wishes.replaces);
    let existing = existing.map(|found| found.lab);
    let image_name =
        existing.as_ref().map_or(options.image_name(), |lab| lab.spec.image.name.as_str());
    let spec = session.catalogue()?.find(image_name)?;
    let store = Library::open_default()?;
    let pin = wishes.pin.pin(&spec.name)?;
    let image = if let Some(image) = image_here(&store, existing.as_ref(), &spec, &pin)? {
        image
    } else {
        // Getting an image can take minutes: whatever else is wrong is told before, and no other
        // virtlab has to wait.
        let draft = draft_with(session, hypervisor, options, wishes, &spec, None)?;
        if wishes.dry_run {
            return Ok(draft);
        }
        drop(draft);
        store.ensure(&spec, &pin, session.printer)?
    };
    if !wishes.dry_run {
        wishes.pin.enter(&image)?;
    }
    draft_with(session, hypervisor, options, wishes, &spec, Some(&image))
}

/// The draft with an image, or as far as it goes without one.
fn draft_with(
    session: &Session,
    hypervisor: &Hypervisor,
    options: &LabOptions,
    wishes: &Wishes,
    spec: &ImageSpec,
    image: Option<&Image>,
) -> Result<Draft> {
    let waiting = || session.printer.note("waiting for another virtlab to choose its network");
    let lock = state::lock(waiting)?;
    let mut inventory = session.observe(hypervisor)?;
    if !wishes.dry_run {
        merging::repair(session.printer, hypervisor, &inventory);
    }
    let name = options.lab_name();
    let replaced = if wishes.replaces { inventory.take(&name) } else { None };
    let found = inventory.lab(&name).cloned();
    let lab = if let Some(found) = &found {
        same_lab(options, &found.lab, image)?
    } else {
        let mut occupied = inventory.subnets();
        occupied.extend(host::routes()?);
        let freed = replaced.as_ref().and_then(|found| found.lab.spec.network.managed());
        occupied.retain(|(subnet, _)| freed.is_none_or(|network| network.subnet != *subnet));
        decide(session, hypervisor, &inventory, occupied, options, spec, image)?
    };
    let wire = wire::find(&lab.spec.network, &inventory, hypervisor.is_session()?)?;
    let replaced_uuid = replaced.as_ref().map(|found| found.lab.uuid);
    wire::refuse_taken_macs(&lab, replaced_uuid, &wire, &inventory.cards)?;
    if let Some(lacks) = &wire.lacks {
        session.printer.warn(lacks);
    }
    let prepared = prepare_lab(session, options, lab, spec, image)?;
    preflight::conflicts(&prepared.lab, &inventory)?;
    if !wishes.overcommit {
        let there = replaced.as_ref().or(found.as_ref());
        let warning = preflight::memory(&prepared.lab, there, wishes.replaces, spec)?;
        // A rehearsal is followed by the draft that counts.
        if let Some(warning) = warning.filter(|_| image.is_some() && !wishes.replaces) {
            session.printer.warn(warning);
        }
    }
    Ok(Draft { prepared, found, lock, lacks_image: image.is_none() })
}

/// The flags laid over the lab file, with every path a whole one.
pub(crate) fn read_options(
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
pub(crate) fn refuse_remote(hypervisor: &Hypervisor, name: &LabName) -> Result<()> {
    if !hypervisor.is_local()? {
        bail!(
            "lab `{name}` cannot be made at {}: its boot server has to run on libvirt's own host",
            hypervisor.uri()?
        );
    }
    Ok(())
}

/// What an existing lab was made with, or else what the pin wants, if it is here.
fn image_here(
    store: &Library,
    existing: Option<&Lab>,
    spec: &ImageSpec,
    pin: &Pin,
) -> Result<Option<Image>> {
    if let Some(lab) = existing
        && *pin == Pin::default()
        && let Some(image) = store.with_digest(spec, &lab.spec.image.digest)?
    {
        return Ok(Some(image));
    }
    store.find(spec, pin)
}

/// An existing lab, if it is what was asked for.
fn same_lab(options: &LabOptions, lab: &Lab, image: Option<&Image>) -> Result<Lab> {
    let mut differences = options.differences(lab);
    if image.is_some_and(|image| image.digest.to_string() != lab.spec.image.digest) {
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

fn prepare_lab(
    session: &Session,
    options: &LabOptions,
    lab: Lab,
    spec: &ImageSpec,
    image: Option<&Image>,
) -> Result<Prepared> {
    let state = StateDir::of(&lab.name)?;
    let (templates, own_templates) = prepare::own_templates(session.templates()?, &lab, &state)?;
    // Whatever can change from one run to the next stays what it was when the lab was made.
    let kept = state.content().ok().filter(|content| content.uuid == lab.uuid);
    let ssh_keys = kept.as_ref().map_or_else(|| ssh_keys(options), |it| Ok(it.ssh_keys.clone()))?;
    if ssh_keys.is_empty() && spec.ssh_user.is_some() {
        session.printer.warn(NO_KEYS);
    }
    let input = config_input(&templates, &lab, spec, ssh_keys)?;
    let mut prepared = Prepared::new(&templates, lab, spec, image, &input)?;
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
    let file = (!lab.spec.config.is_ours()).then(|| lab.spec.config.source.clone());
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
pub(crate) fn ssh_keys(options: &LabOptions) -> Result<Vec<String>> {
    let home = etcetera::home_dir().context("looking for the home directory")?;
    config::public_keys(&options.ssh_key, &home.join(".ssh"))
}

const NO_KEYS: &str =
    "there is no public key in ~/.ssh, so nobody can log in to the nodes; name one by --ssh-key";
