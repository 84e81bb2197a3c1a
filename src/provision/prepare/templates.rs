//! The templates that a lab is made with: ours, the image's, or the user's own.

use std::path::Path;

use anyhow::{Context, Result, bail};
use fs_err as fs;

use crate::images::{ConfigFormat, ImageSpec, Sha256};
use crate::lab::Lab;
use crate::lab::spec::ConfigRef;
use crate::render::xml;
use crate::state::StateDir;
use crate::template::Templates;

/// Reads the config template: the user's file, or the image's own one.
pub(crate) fn config_template(
    templates: &Templates,
    file: Option<&Path>,
    spec: &ImageSpec,
) -> Result<(ConfigRef, String)> {
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
        (None, None) if spec.config == ConfigFormat::None => ("none".to_owned(), String::new()),
        (None, None) => {
            bail!("image `{}` has no config template of its own; name one by --config", spec.name)
        }
    };
    let digest = digest_of(&text);
    Ok((ConfigRef { source, digest }, text))
}

/// A template of libvirt's XML that a flag named in the place of ours.
pub(crate) struct OwnTemplate {
    pub(crate) reference: ConfigRef,
    pub(crate) text: String,
}

impl OwnTemplate {
    /// Reads the file that the flag `--{flag}` names.
    pub(crate) fn read(flag: &str, path: &Path) -> Result<Self> {
        let path = std::path::absolute(path)?;
        let text = fs::read_to_string(&path).with_context(|| format!("reading --{flag}"))?;
        let reference = ConfigRef { source: path.display().to_string(), digest: digest_of(&text) };
        Ok(Self { reference, text })
    }

    /// The one that a lab was made with: as it was kept, or the user's file if that is the same.
    fn of_lab(flag: &str, reference: &ConfigRef, state: &StateDir) -> Result<Self> {
        let kept =
            state.template(&kept_name(flag)).filter(|text| digest_of(text) == reference.digest);
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

/// Puts the lab's own templates in the place of ours.
pub(crate) fn own_templates(
    mut templates: Templates,
    lab: &Lab,
    state: &StateDir,
) -> Result<(Templates, Vec<(String, String)>)> {
    let mut kept = Vec::new();
    let network = lab.spec.network.managed().map(xml::network_template_name).unwrap_or_default();
    for (flag, name, reference) in [
        (DOMAIN_TEMPLATE, xml::DOMAIN_TEMPLATE_NAME, &lab.spec.domain_template),
        (NETWORK_TEMPLATE, network.as_str(), &lab.spec.network_template),
    ] {
        let Some(reference) = reference else { continue };
        let own = OwnTemplate::of_lab(flag, reference, state)?;
        templates = templates.instead(name, flag, &reference.source, own.text.clone())?;
        kept.push((kept_name(flag), own.text));
    }
    Ok((templates, kept))
}

fn kept_name(flag: &str) -> String {
    format!("{flag}.xml.j2")
}

fn digest_of(text: &str) -> String {
    format!("sha256:{}", Sha256::of(text.as_bytes()))
}

/// The flags that name a template, without their dashes.
pub(crate) const DOMAIN_TEMPLATE: &str = "domain-template";
pub(crate) const NETWORK_TEMPLATE: &str = "network-template";
