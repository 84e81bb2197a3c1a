//! Decides and checks everything about a lab, and makes nothing of it but the image.

use anyhow::{Context, Result, bail};
use fs_err as fs;

use super::prepare::{ConfigTemplate, Ingredients, OwnTemplates, Prepared};
use super::survey::{CreateMode, Survey};
use super::{facts, merging, preflight, wire};
use crate::hypervisor::{Found, Hypervisor};
use crate::images::Library;
use crate::lab::options::LabOptions;
use crate::lab::{Lab, LabName};
use crate::render::config::ConfigInput;
use crate::session::Session;
use crate::state::{self, StateDir};
use crate::status::no_lab;

/// A lab that is decided and checked, and everything that making it needs.
pub(crate) struct Draft {
    pub(crate) prepared: Prepared,
    /// What there is of it already.
    pub(crate) found: Option<Found>,
    /// Other virtlabs choose no subnet as long as it is held; a dry run holds none.
    pub(crate) lock: Option<std::fs::File>,
    /// The folders of earlier labs of this name, which are to go.
    pub(crate) left_over: Vec<StateDir>,
    /// Whether the image is to be fetched or built yet, so that nothing of it is prepared.
    pub(crate) lacks_image: bool,
}

/// Decides and checks everything about a lab, and makes nothing of it but the image.
pub(crate) fn draft(
    session: &Session,
    hypervisor: &Hypervisor,
    options: &LabOptions,
    mode: &CreateMode,
) -> Result<Draft> {
    // Getting an image can take minutes: everything else that is wrong is told before, and meanwhile no
    // other virtlab has to wait.
    let mut survey = locked_survey(session, hypervisor, options, mode)?;
    if survey.1.image.is_none() && !mode.dry_run {
        let spec = survey.1.spec.clone();
        drop(Draft::new(session, options, mode, survey)?);
        let pin = mode.pin.pin(&spec.name)?;
        Library::open_default()?.ensure(&spec, &pin, session.printer)?;
        survey = locked_survey(session, hypervisor, options, mode)?;
    }
    if let Some(image) = survey.1.image.as_ref().filter(|_| !mode.dry_run) {
        mode.pin.enter(image)?;
        merging::repair(session.printer, hypervisor, &survey.1.inventory);
    }
    Draft::new(session, options, mode, survey)
}

/// What a lab that is there would be made of again.
pub(crate) struct Again {
    pub(crate) prepared: Prepared,
    pub(crate) found: Found,
    /// Where the image's entry is.
    pub(crate) entry: String,
    /// Whether the configs are those that were kept with the lab.
    pub(crate) is_kept: bool,
    /// Whether the image is not here, so that nothing of it is prepared.
    pub(crate) lacks_image: bool,
}

/// Renders a lab that is there, to be compared or shown. Nothing is checked, fetched or changed.
pub(crate) fn again(session: &Session, hypervisor: &Hypervisor, name: &LabName) -> Result<Again> {
    let inventory = session.observe(hypervisor)?;
    if inventory.lab(name).is_none() {
        return Err(no_lab(&inventory, name));
    }
    let options = LabOptions { name: Some(name.clone()), ..LabOptions::default() };
    let mode = CreateMode { dry_run: true, ..CreateMode::default() };
    let look = || Survey::look(session, hypervisor, &options, &mode);
    let survey = session.persistently(hypervisor, look)?;
    let found = survey.found.clone().ok_or_else(|| no_lab(&survey.inventory, name))?;
    let prepared = prepare(found.lab.clone(), &survey, false)?;
    let entry = match &survey.spec.folder {
        Some(folder) => format!("`{}`", folder.display()),
        None => "virtlab's own catalogue".to_owned(),
    };
    let is_kept = survey.kept.is_some() && StateDir::of(&found.lab)?.keeps(&found.lab);
    Ok(Again { prepared, found, entry, is_kept, lacks_image: survey.image.is_none() })
}

/// A survey, and the lock that keeps other virtlabs from taking what it found free.
fn locked_survey(
    session: &Session,
    hypervisor: &Hypervisor,
    options: &LabOptions,
    mode: &CreateMode,
) -> Result<(Option<std::fs::File>, Survey)> {
    let waiting = || session.printer.note("waiting for another virtlab to choose its network");
    let lock = if mode.dry_run { None } else { Some(state::lock_subnets(waiting)?) };
    let lost = |error: &anyhow::Error| session.warn_of_lost_connection(error);
    let look = || Survey::look(session, hypervisor, options, mode);
    Ok((lock, hypervisor.persistently(lost, look)?))
}

impl Draft {
    /// Decides, prepares and checks; nothing is looked at but what the survey has not seen: the files of
    /// the lab, and the firewall, for the port that was decided.
    fn new(
        session: &Session,
        options: &LabOptions,
        mode: &CreateMode,
        (lock, survey): (Option<std::fs::File>, Survey),
    ) -> Result<Self> {
        let lab = match (survey.existing_lab(options, mode.nodes)?, &survey.new) {
            (None, Some(new)) if mode.nodes.is_none() => facts::decide(options, &survey, new)?,
            (Some(lab), _) => lab,
            (None, _) => bail!("lab `{}` is neither new nor there", options.lab_name()),
        };
        let replaced = survey.replaced.as_ref().map(|found| found.lab.uuid);
        wire::refuse_missing_nics(&lab, &survey.inventory, survey.is_session)?;
        wire::refuse_taken_macs(&lab, replaced, &survey.wire, &survey.inventory.cards)?;
        let prepared = prepare(lab, &survey, options.config.is_some())?;
        survey.refuse_other_arguments(&prepared.content)?;
        preflight::conflicts(&prepared.lab, &survey.inventory)?;
        preflight::firewall(&prepared.lab, &survey)?;
        let memory = preflight::memory(&prepared.lab, &survey, mode)?;
        if survey.image.is_some() || mode.dry_run {
            warn(session, &survey, memory.as_deref());
        }
        let lacks_image = survey.image.is_none();
        let Survey { found, left_over, .. } = survey;
        Ok(Self { prepared, found, lock, left_over, lacks_image })
    }
}

/// Renders everything, with templates that were read once. The configs of a lab that is there already
/// stay as they were kept, whatever has become of their template, unless this run names one.
fn prepare(lab: Lab, survey: &Survey, names_config: bool) -> Result<Prepared> {
    let state = StateDir::of(&lab)?;
    let is_kept = survey.new.is_none() && !names_config && state.is_up_to_date(&lab);
    let kept = survey.kept.as_ref().filter(|_| is_kept);
    let (config, own) = match (&survey.new, kept) {
        (Some(new), _) => (new.config.text.clone(), new.own_templates.clone()),
        (None, Some(_)) => (String::new(), OwnTemplates::of_lab(&lab, &state)?),
        (None, None) => (
            ConfigTemplate::of_lab(&survey.templates, &lab, &survey.spec)?.text,
            OwnTemplates::of_lab(&lab, &state)?,
        ),
    };
    let templates = own.put_into(survey.templates.clone(), &lab)?;
    let input = ConfigInput { template: config, ssh_keys: survey.ssh_keys.clone() };
    let ingredients = Ingredients {
        templates: &templates,
        spec: &survey.spec,
        image: survey.image.as_ref(),
        config: &input,
        kept,
        libvirt: survey.libvirt,
    };
    let mut prepared = Prepared::new(lab, &ingredients)?;
    if prepared.content.interface.is_none() {
        prepared.content.interface = survey.wire.interface_of(&prepared.lab);
    }
    if let Some(url) = survey.kept.as_ref().and_then(|content| content.discovery_url.clone()) {
        prepared.content.put_discovery_url(url);
    }
    Ok(Prepared { own_templates: own.texts(), ..prepared })
}

/// What is no reason to stop.
fn warn(session: &Session, survey: &Survey, memory: Option<&str>) {
    let virt = survey.new.as_ref().and_then(|new| new.virt.as_ref());
    if let Some(reason) = virt.and_then(|virt| virt.reason.as_ref()) {
        session
            .printer
            .warn("no KVM here, so nodes are emulated and slow; `virtlab doctor` says why");
        tracing::info!("no KVM: {reason}");
    }
    if survey.ssh_keys.is_empty() && survey.spec.ssh_user.is_some() {
        session.printer.warn(NO_KEYS);
    }
    for warning in survey.wire.lacks.as_deref().into_iter().chain(memory) {
        session.printer.warn(warning);
    }
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

const NO_KEYS: &str =
    "there is no public key in ~/.ssh, so nobody can log in to the nodes; name one by --ssh-key";
