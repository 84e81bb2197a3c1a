//! Everything that is looked at before a lab is decided: libvirt, the host, the image, the templates. Once;
//! from here on the data goes down.

use std::collections::BTreeSet;

use anyhow::{Context, Result};
use etcetera::BaseStrategy;
use ipnet::Ipv4Net;

use super::prepare::{ConfigTemplate, OwnTemplates};
use super::teardown;
use super::wire::{self, Wire};
use crate::boot_server::Content;
use crate::error::hinted;
use crate::hypervisor::{Found, Hypervisor, Inventory, VirtProbe};
use crate::images::{Image, ImageSpec, Library, Pin, PinChoice};
use crate::lab::options::{LabOptions, VirtTypeChoice};
use crate::lab::{Lab, LibvirtVersion};
use crate::session::Session;
use crate::state::StateDir;
use crate::status::no_lab;
use crate::template::Templates;
use crate::{config, host};

/// How a lab is to be made, beside what it is to be like.
#[derive(Debug, Default)]
pub(crate) struct CreateMode {
    /// Which version of the image.
    pub(crate) pin: PinChoice,
    /// Whether the lab is made even if the host has too little memory for it.
    pub(crate) overcommit: bool,
    /// The nodes that are to be started; those that are wanted to run if nobody named any.
    pub(crate) starts: Option<BTreeSet<u32>>,
    /// How many nodes a lab that is there is to have.
    pub(crate) nodes: Option<u32>,
    /// Whether nothing is to be made: an image that is not here is not fetched.
    pub(crate) dry_run: bool,
    /// Whether the lab of this name is to be replaced: it is looked at as if it were gone already.
    pub(crate) replaces: bool,
}

/// What was found.
pub(crate) struct Survey {
    /// Everything that libvirt has, without a lab that is replaced.
    pub(crate) inventory: Inventory,
    /// What there is of the lab already.
    pub(crate) found: Option<Found>,
    /// The lab of this name that is to be replaced.
    pub(crate) replaced: Option<Found>,
    /// The version of the libvirt that we are connected to.
    pub(crate) libvirt: LibvirtVersion,
    /// Whether that libvirt is the user's own.
    pub(crate) is_session: bool,
    /// The image's entry.
    pub(crate) spec: ImageSpec,
    /// The image, if it is here.
    pub(crate) image: Option<Image>,
    /// The templates, with the user's own in the place of ours.
    pub(crate) templates: Templates,
    /// What is only looked at for a lab that is not there yet.
    pub(crate) new: Option<NewLabFacts>,
    /// The wire of a network that is not the lab's own.
    pub(crate) wire: Wire,
    /// What the lab's boot server gives out, if this computer keeps it.
    pub(crate) kept: Option<Content>,
    /// The folders of labs of this name that libvirt does not have any more.
    pub(crate) left_over: Vec<StateDir>,
    /// The public SSH keys that may log in.
    pub(crate) ssh_keys: Vec<String>,
    /// The host's memory that programs may take, in bytes.
    pub(crate) available_memory: u64,
}

/// What a new lab is decided from.
pub(crate) struct NewLabFacts {
    /// The host's name as libvirt says it.
    pub(crate) hostname: String,
    /// The subnets that are taken, with the name of who has them.
    pub(crate) occupied: Vec<(Ipv4Net, String)>,
    /// What guests can run on; not looked at where somebody named it.
    pub(crate) virt: Option<VirtProbe>,
    /// The template of the configs.
    pub(crate) config: ConfigTemplate,
    /// The templates of libvirt's XML that flags named.
    pub(crate) own_templates: OwnTemplates,
    /// The folder for the lab's storage pool, where libvirt is the user's own.
    pub(crate) data_dir: Option<String>,
}

impl Survey {
    /// Looks at everything. Nothing is changed.
    pub(crate) fn look(
        session: &Session,
        hypervisor: &Hypervisor,
        options: &LabOptions,
        mode: &CreateMode,
    ) -> Result<Self> {
        let mut inventory = session.observe(hypervisor)?;
        let name = options.lab_name();
        let replaced = if mode.replaces { inventory.take(&name) } else { None };
        let found = inventory.lab(&name).cloned();
        if mode.nodes.is_some() && found.is_none() {
            return Err(no_lab(&inventory, &name));
        }
        let lab = found.as_ref().map(|found| &found.lab);
        let image_name = lab.map_or(options.image_name(), |lab| lab.spec.image.name.as_str());
        let spec = session.catalogue()?.find(image_name)?;
        let library = Library::open_default()?;
        let library = if mode.dry_run { library.read_only() } else { library };
        let image = image_here(&library, lab, &spec, &mode.pin.pin(&spec.name)?)?;
        let templates = session.templates()?;
        let new = match lab {
            Some(_) => None,
            None => Some(NewLabFacts::look(hypervisor, options, &inventory, &spec, &templates)?),
        };
        let network = match lab {
            Some(lab) => Some(lab.spec.network.clone()),
            None => options.foreign_network()?,
        };
        let wire = match network {
            Some(network) => wire::find(&network, &inventory, hypervisor.is_session()?)?,
            None => Wire::default(),
        };
        let left_over = teardown::left_over(hypervisor, &inventory, replaced.as_ref(), &name)?;
        let kept = lab.and_then(|lab| {
            let content = StateDir::of(lab).and_then(|state| state.content());
            content.ok().filter(|content| content.uuid == lab.uuid)
        });
        // Whatever can change from one run to the next stays what it was when the lab was made.
        let ssh_keys = match &kept {
            Some(kept) => kept.ssh_keys.clone(),
            None => config::keys_of_user(&options.ssh_key)?,
        };
        let available_memory = host::available_memory()?;
        Ok(Self {
            inventory,
            found,
            replaced,
            libvirt: hypervisor.version()?,
            is_session: hypervisor.is_session()?,
            spec,
            image,
            templates,
            new,
            wire,
            kept,
            left_over,
            ssh_keys,
            available_memory,
        })
    }

    /// The lab that is there already, if it is what was asked for; with `nodes`, where it is to have another number of
    /// them.
    pub(crate) fn existing_lab(
        &self,
        options: &LabOptions,
        nodes: Option<u32>,
    ) -> Result<Option<Lab>> {
        let Some(Found { lab, .. }) = &self.found else { return Ok(None) };
        let mut differences = options.differences(lab);
        if self.image.as_ref().is_some_and(|image| Some(image.digest) != lab.spec.image.digest) {
            differences.push(format!("image `{}` is another one by now", lab.spec.image.name));
        }
        if differences.is_empty() {
            return match nodes.filter(|nodes| *nodes != lab.spec.nodes) {
                Some(nodes) => lab.with_nodes(nodes).map(Some),
                None => Ok(Some(lab.clone())),
            };
        }
        let others = LabOptions { nodes: None, ..options.clone() }.differences(lab);
        if let (Some(nodes), [difference], []) = (options.nodes, &differences[..], &others[..]) {
            return Err(hinted(
                format!("lab `{}` exists and is different: {difference}", lab.name),
                format!("`virtlab scale {} {nodes}` gives it as many nodes", lab.name),
            ));
        }
        Err(different(lab, &differences))
    }

    /// Refuses a lab that is there already with other kernel arguments than its nodes would get now. Of a lab of
    /// virtlab 0.1, and of nodes that it has not yet, nothing is known.
    pub(crate) fn refuse_other_arguments(&self, content: &Content) -> Result<()> {
        let (Some(Found { lab, .. }), Some(kept)) = (&self.found, &self.kept) else {
            return Ok(());
        };
        let both = kept.nodes.iter().zip(&content.nodes);
        let differ = both.into_iter().any(|(kept, new)| {
            kept.arguments.is_some() && new.arguments.is_some() && kept.arguments != new.arguments
        });
        if !differ {
            return Ok(());
        }
        let image = &lab.spec.image.name;
        Err(different(lab, &[format!("the kernel arguments of image `{image}` are others by now")]))
    }
}

fn different(lab: &Lab, differences: &[String]) -> anyhow::Error {
    hinted(
        format!("lab `{}` exists and is different: {}", lab.name, differences.join("; ")),
        format!("`virtlab create {} --recreate …` destroys it first", lab.name),
    )
}

impl NewLabFacts {
    fn look(
        hypervisor: &Hypervisor,
        options: &LabOptions,
        inventory: &Inventory,
        spec: &ImageSpec,
        templates: &Templates,
    ) -> Result<Self> {
        wire::refuse_own_network_in_session(hypervisor, options)?;
        let mut occupied = inventory.subnets();
        occupied.extend(host::routes()?);
        hypervisor.require_guests_of(&spec.arch)?;
        let virt = match options.virt_type.unwrap_or_default() {
            VirtTypeChoice::Auto => Some(hypervisor.probe_virt_type(&spec.arch)?),
            VirtTypeChoice::Kvm | VirtTypeChoice::Qemu => None,
        };
        Ok(Self {
            hostname: hypervisor.hostname()?,
            occupied,
            virt,
            config: ConfigTemplate::read(templates, options.config.as_deref(), spec)?,
            own_templates: OwnTemplates::read(options)?,
            data_dir: if hypervisor.is_session()? { Some(users_data_dir()?) } else { None },
        })
    }
}

/// Where a user's own libvirt keeps labs' files. libvirt's XML holds nothing but text.
fn users_data_dir() -> Result<String> {
    let strategy = etcetera::choose_base_strategy().context("looking for the home directory")?;
    let folder = strategy.data_dir().join("virtlab");
    let folder = folder.to_str().with_context(|| format!("{} is not UTF-8", folder.display()))?;
    Ok(folder.to_owned())
}

/// What an existing lab was made with, or else what the pin wants, if it is here.
fn image_here(
    library: &Library,
    existing: Option<&Lab>,
    spec: &ImageSpec,
    pin: &Pin,
) -> Result<Option<Image>> {
    if let Some(lab) = existing
        && *pin == Pin::default()
        && let Some(digest) = lab.spec.image.digest
        && let Some(image) = library.with_digest(spec, &digest.to_string())?
    {
        return Ok(Some(image));
    }
    library.find(spec, pin)
}
