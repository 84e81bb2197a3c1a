//! From a lab to every text and file that making it needs: all that can be wrong with templates,
//! configs and images is found here, before anything is made.

mod served;
mod templates;
#[cfg(test)]
mod tests;
mod tftp_root;

use std::collections::BTreeMap;

use anyhow::Result;

pub(crate) use self::served::{boot_files, kernel_args};
pub(crate) use self::templates::{ConfigTemplate, OwnTemplates};
pub(crate) use self::tftp_root::BootFile;
use crate::boot_server::Content;
use crate::hypervisor::Definition;
use crate::images::digest::Hasher;
use crate::images::{Image, ImageSpec};
use crate::lab::spec::ManagedNetwork;
use crate::lab::{Lab, LibvirtVersion};
use crate::render::config::ConfigInput;
use crate::render::xml;
use crate::template::Templates;

/// Everything that making a lab needs.
#[derive(Debug)]
pub(crate) struct Prepared {
    /// The lab.
    pub(crate) lab: Lab,
    /// The XML of its own network, and the same without IPv6 where libvirt refuses that.
    pub(crate) network: Option<NetworkXml>,
    /// The XML of each domain in the order of the nodes.
    pub(crate) domains: Vec<String>,
    /// What goes into the TFTP root, by name.
    pub(crate) boot_files: BTreeMap<String, BootFile>,
    /// What the boot server gives out.
    pub(crate) content: Content,
    /// The user's own templates, to be kept with the lab.
    pub(crate) own_templates: Vec<(String, String)>,
}

/// What libvirt is to have of a lab.
pub(crate) struct Wanted<'a> {
    pub(crate) network: Option<&'a NetworkXml>,
    /// In the order of the nodes.
    pub(crate) domains: &'a [String],
}

/// The network's XML in both forms.
#[derive(Debug)]
pub(crate) struct NetworkXml {
    pub(crate) with_ipv6: String,
    pub(crate) without_ipv6: String,
}

impl NetworkXml {
    /// Renders both.
    pub(crate) fn new(
        templates: &Templates,
        lab: &Lab,
        network: &ManagedNetwork,
        libvirt: LibvirtVersion,
    ) -> Result<Self> {
        Ok(Self {
            with_ipv6: xml::network(templates, lab, network, true, libvirt)?,
            without_ipv6: xml::network(templates, lab, network, false, libvirt)?,
        })
    }

    /// The one that libvirt was given: that without IPv6 if nothing is left of it, since it was refused.
    pub(crate) fn like(&self, there: &Definition) -> &str {
        let traces = ["family='ipv6'", "ra-param="];
        let texts = [Some(&there.kept), there.running.as_ref()];
        let has_ipv6 =
            texts.iter().flatten().any(|xml| traces.iter().any(|trace| xml.contains(trace)));
        if has_ipv6 { &self.with_ipv6 } else { &self.without_ipv6 }
    }
}

/// What a lab is rendered from.
pub(crate) struct Ingredients<'a> {
    pub(crate) templates: &'a Templates,
    pub(crate) spec: &'a ImageSpec,
    /// The image; without it the texts are rendered all the same.
    pub(crate) image: Option<&'a Image>,
    pub(crate) config: &'a ConfigInput,
    /// What was kept of the lab, whose configs stay as they are.
    pub(crate) kept: Option<&'a Content>,
    /// The libvirt that is to read the XML.
    pub(crate) libvirt: LibvirtVersion,
}

impl Prepared {
    /// Renders everything.
    pub(crate) fn new(lab: Lab, from: &Ingredients) -> Result<Self> {
        let Ingredients { templates, spec, image, config, kept, libvirt } = *from;
        let network = lab.spec.network.managed();
        let network = network.map(|network| NetworkXml::new(templates, &lab, network, libvirt));
        let nodes = lab.nodes();
        let domains =
            nodes.iter().map(|node| xml::domain(templates, &lab, node)).collect::<Result<_>>()?;
        let boot_files = tftp_root::files(templates, &lab, spec, image)?;
        let content = served::content(templates, &lab, spec, image, config, kept)?;
        Ok(Self {
            network: network.transpose()?,
            domains,
            boot_files,
            content,
            own_templates: Vec::new(),
            lab,
        })
    }

    /// What libvirt is to have.
    pub(crate) fn wanted(&self) -> Wanted<'_> {
        Wanted { network: self.network.as_ref(), domains: &self.domains }
    }

    /// The name of an empty file that is put into the TFTP root last: if it is there, so is
    /// everything else, whole and the same.
    pub(crate) fn upload_mark(&self) -> String {
        let mut digests = Hasher::default();
        for (name, content) in &self.boot_files {
            digests.update(format!("{name} {}\n", content.sha256()).as_bytes());
        }
        format!("complete-{}", digests.finish().short())
    }
}
