//! The templates that a lab is made with: ours, the image's, or the user's own.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use fs_err as fs;

use crate::error::hinted;
use crate::images::{ConfigFormat, ImageSpec};
use crate::lab::Lab;
use crate::lab::options::LabOptions;
use crate::lab::spec::{ConfigSource, TemplateRef};
use crate::render::xml;
use crate::state::StateDir;
use crate::template::Templates;

/// The template of the nodes' configs, as the lab knows it and as text.
#[derive(Clone, Debug)]
pub(crate) struct ConfigTemplate {
    pub(crate) reference: ConfigSource,
    pub(crate) text: String,
}

impl ConfigTemplate {
    /// Reads the user's file, or the image's own template.
    pub(crate) fn read(
        templates: &Templates,
        file: Option<&Path>,
        spec: &ImageSpec,
    ) -> Result<Self> {
        let (source, text) = match (file, &spec.config_template) {
            (Some(path), _) => {
                let path = std::path::absolute(path)?;
                let text =
                    fs::read_to_string(&path).context("reading the config template (--config)")?;
                (path.display().to_string(), text)
            }
            (None, Some(name)) => {
                let name = format!("config-templates/{name}");
                let text = templates.source(&name)?;
                (name, text)
            }
            (None, None) if spec.config == ConfigFormat::None => {
                return Ok(Self { reference: ConfigSource::None, text: String::new() });
            }
            (None, None) => {
                bail!(
                    "image `{}` has no config template of its own; name one by --config",
                    spec.name
                )
            }
        };
        Ok(Self { reference: ConfigSource::of(TemplateRef::new(source, &text)), text })
    }

    /// Reads the one that a lab was made with, if it is still the same.
    pub(crate) fn of_lab(templates: &Templates, lab: &Lab, spec: &ImageSpec) -> Result<Self> {
        let made_with = &lab.spec.config;
        let file = match made_with {
            ConfigSource::File(template) => Some(Path::new(&template.source)),
            ConfigSource::None | ConfigSource::Ours(_) => None,
        };
        let template = Self::read(templates, file, spec)?;
        if template.reference != *made_with {
            return Err(hinted(
                format!(
                    "config template `{}` is not what lab `{}` was made with",
                    template.reference, lab.name
                ),
                format!("`virtlab create {} --recreate …` makes the lab anew", lab.name),
            ));
        }
        Ok(template)
    }
}

/// A template of libvirt's XML that a flag named in the place of ours.
#[derive(Clone, Debug)]
pub(crate) struct OwnTemplate {
    pub(crate) reference: TemplateRef,
    pub(crate) text: String,
}

impl OwnTemplate {
    /// Reads the file that the flag `--{flag}` names.
    fn read(flag: &str, path: &Path) -> Result<Self> {
        let path = std::path::absolute(path)?;
        let text = fs::read_to_string(&path).with_context(|| format!("reading --{flag}"))?;
        let reference = TemplateRef::new(path.display().to_string(), &text);
        Ok(Self { reference, text })
    }

    /// The one that a lab was made with: as it was kept, or the user's file if that is the same.
    fn of_lab(flag: &str, reference: &TemplateRef, state: &StateDir) -> Result<Self> {
        let kept = state.template(&kept_name(flag)).filter(|text| reference.is_of(text));
        if let Some(text) = kept {
            return Ok(Self { reference: reference.clone(), text });
        }
        let own = Self::read(flag, Path::new(&reference.source))?;
        if own.reference.digest != reference.digest {
            bail!("`{}` is not the --{flag} any more that the lab was made with", reference.source);
        }
        Ok(own)
    }
}

/// The user's own templates of libvirt's XML.
#[derive(Clone, Debug, Default)]
pub(crate) struct OwnTemplates {
    pub(crate) domain: Option<OwnTemplate>,
    pub(crate) network: Option<OwnTemplate>,
}

impl OwnTemplates {
    /// Reads those that flags name.
    pub(crate) fn read(options: &LabOptions) -> Result<Self> {
        let read = |flag, path: &Option<PathBuf>| {
            path.as_deref().map(|path| OwnTemplate::read(flag, path)).transpose()
        };
        Ok(Self {
            domain: read(DOMAIN_TEMPLATE, &options.domain_template)?,
            network: read(NETWORK_TEMPLATE, &options.network_template)?,
        })
    }

    /// Reads those that a lab was made with.
    pub(crate) fn of_lab(lab: &Lab, state: &StateDir) -> Result<Self> {
        let read = |flag, reference: &Option<TemplateRef>| {
            let read = |reference| OwnTemplate::of_lab(flag, reference, state);
            reference.as_ref().map(read).transpose()
        };
        Ok(Self {
            domain: read(DOMAIN_TEMPLATE, &lab.spec.domain_template)?,
            network: read(NETWORK_TEMPLATE, &lab.spec.network_template)?,
        })
    }

    /// Puts them in the place of ours.
    pub(crate) fn put_into(&self, mut templates: Templates, lab: &Lab) -> Result<Templates> {
        let network = lab.spec.network.managed().map(xml::network_template_name);
        for (flag, name, own) in [
            (DOMAIN_TEMPLATE, Some(xml::DOMAIN_TEMPLATE_NAME.to_owned()), &self.domain),
            (NETWORK_TEMPLATE, network, &self.network),
        ] {
            let (Some(name), Some(own)) = (name, own) else { continue };
            templates = templates.instead(&name, flag, &own.reference.source, own.text.clone())?;
        }
        Ok(templates)
    }

    /// Their texts, by the names that they are kept under with the lab.
    pub(crate) fn texts(self) -> Vec<(String, String)> {
        let named = [(DOMAIN_TEMPLATE, self.domain), (NETWORK_TEMPLATE, self.network)];
        let kept = |(flag, own): (&str, Option<OwnTemplate>)| Some((kept_name(flag), own?.text));
        named.into_iter().filter_map(kept).collect()
    }
}

fn kept_name(flag: &str) -> String {
    format!("{flag}.xml.j2")
}

/// The flags that name a template, without their dashes.
const DOMAIN_TEMPLATE: &str = "domain-template";
const NETWORK_TEMPLATE: &str = "network-template";
