//! From a lab to every text and file that making it needs: all that can be wrong with templates,
//! configs and images is found here, before anything is made.

use std::collections::BTreeMap;
use std::path::Path;

use anyhow::Context as _;
use anyhow::Result;
use anyhow::bail;
use fs_err as fs;
use sha2::Digest;
use sha2::Sha256;

use crate::boot_server::Content;
use crate::boot_server::ServedFile;
use crate::boot_server::ServedNode;
use crate::boot_server::timeline::Stage;
use crate::images::BootVariables;
use crate::images::ConfigFormat;
use crate::images::Image;
use crate::images::ImageSpec;
use crate::images::LabVariables;
use crate::images::NodeVariables;
use crate::images::Role;
use crate::lab::Lab;
use crate::lab::Node;
use crate::lab::spec::ConfigRef;
use crate::render::Templates;
use crate::render::boot;
use crate::render::boot::BootFiles;
use crate::render::boot::Urls;
use crate::render::config;
use crate::render::config::ConfigInput;
use crate::render::xml;

/// Everything that making a lab needs.
#[derive(Debug)]
pub(super) struct Prepared {
    /// The lab.
    pub(super) lab: Lab,
    /// The XML of its own network, and the same without IPv6 where libvirt refuses that.
    pub(super) network: Option<NetworkXml>,
    /// The XML of each domain in the order of the nodes.
    pub(super) domains: Vec<String>,
    /// What goes into the TFTP root.
    pub(super) boot_files: Vec<(String, Vec<u8>)>,
    /// What the boot server gives out.
    pub(super) content: Content,
}

/// The network's XML in both forms.
#[derive(Debug)]
pub(super) struct NetworkXml {
    pub(super) with_ipv6: String,
    pub(super) without_ipv6: String,
}

impl Prepared {
    /// Renders everything.
    pub(super) fn new(
        templates: &Templates,
        lab: Lab,
        spec: &ImageSpec,
        image: Option<&Image>,
        input: &ConfigInput,
    ) -> Result<Self> {
        let network = lab.spec.network.managed().map(|network| {
            Ok::<_, anyhow::Error>(NetworkXml {
                with_ipv6: xml::network(templates, &lab, network, true)?,
                without_ipv6: xml::network(templates, &lab, network, false)?,
            })
        });
        let nodes = lab.nodes();
        let domains =
            nodes.iter().map(|node| xml::domain(templates, &lab, node)).collect::<Result<_>>()?;
        let stage1 = boot::stage1(templates, &lab)?;
        let content = Content {
            lab: lab.name.clone(),
            uuid: lab.uuid,
            address: lab.spec.boot_address,
            port: lab.spec.boot_port,
            nodes: nodes
                .iter()
                .map(|node| served_node(templates, &lab, node, spec, input))
                .collect::<Result<_>>()?,
            files: image.map(served_files).unwrap_or_default(),
            config_type: media_type(spec.config).to_owned(),
        };
        Ok(Self {
            network: network.transpose()?,
            domains,
            boot_files: vec![("boot.ipxe".to_owned(), stage1.into_bytes())],
            content,
            lab,
        })
    }

    /// The name of an empty file that is put into the TFTP root last: if it is there, so is
    /// everything else, whole and the same.
    pub(super) fn upload_mark(&self) -> String {
        let mut digest = Sha256::new();
        for (name, content) in &self.boot_files {
            digest.update(name);
            digest.update([0]);
            digest.update(Sha256::digest(content));
        }
        let digest = digest.finalize();
        let hex: String = digest.iter().take(8).map(|byte| format!("{byte:02x}")).collect();
        format!("complete-{hex}")
    }
}

/// The names of what an image boots.
pub(super) fn boot_files(spec: &ImageSpec) -> Result<BootFiles> {
    let names = |role: Role| {
        spec.files.iter().filter(move |file| file.role == role).map(|file| file.name.clone())
    };
    let kernel = names(Role::Kernel).next();
    Ok(BootFiles {
        kernel: kernel.with_context(|| format!("image `{}` has no kernel", spec.name))?,
        initrds: names(Role::Initrd).collect(),
    })
}

/// The iPXE script of a node.
pub(super) fn node_script(
    templates: &Templates,
    lab: &Lab,
    node: &Node,
    spec: &ImageSpec,
    urls: &Urls,
) -> Result<String> {
    let kernel_args = kernel_arguments(lab, node, spec, urls)?;
    boot::stage2(templates, lab, node, &boot_files(spec)?, &kernel_args, urls)
}

/// The kernel arguments of a node.
pub(super) fn kernel_arguments(
    lab: &Lab,
    node: &Node,
    spec: &ImageSpec,
    urls: &Urls,
) -> Result<String> {
    let variables = BootVariables {
        config_url: urls.config.clone(),
        nocloud_url: urls.nocloud.clone(),
        files_url: urls.files.clone(),
        node: NodeVariables {
            name: node.name.clone(),
            ip: node.ip.map(|ip| ip.to_string()).unwrap_or_default(),
            mac: node.mac.to_string(),
        },
        lab: LabVariables { name: lab.name.to_string() },
    };
    spec.kernel_arguments(&variables)
}

/// Reads the config template: the user's file, or the image's own one.
pub(super) fn config_template(
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
    let digest: String = Sha256::digest(&text).iter().map(|byte| format!("{byte:02x}")).collect();
    Ok((ConfigRef { source, digest: format!("sha256:{digest}") }, text))
}

fn served_node(
    templates: &Templates,
    lab: &Lab,
    node: &Node,
    spec: &ImageSpec,
    input: &ConfigInput,
) -> Result<ServedNode> {
    Ok(ServedNode {
        index: node.index,
        name: node.name.clone(),
        mac: node.mac,
        ip: node.ip.map(Into::into),
        script: node_script(templates, lab, node, spec, &Urls::of_boot_server(lab))?,
        config: config::config(templates, lab, node, input)?,
    })
}

fn served_files(image: &Image) -> BTreeMap<String, ServedFile> {
    let stage = |role| match role {
        Role::Kernel => Stage::Kernel,
        Role::Initrd => Stage::Initrd,
        Role::Extra => Stage::Rootfs,
    };
    let serve = |file: &crate::images::ImageFile| {
        (file.name.clone(), ServedFile { path: file.path.clone(), stage: stage(file.role) })
    };
    image.files.iter().map(serve).collect()
}

/// <https://github.com/coreos/ignition/blob/main/docs/rationale.md> names no other type than
/// Ignition's own; the rest is text.
fn media_type(format: ConfigFormat) -> &'static str {
    match format {
        ConfigFormat::Ignition => "application/vnd.coreos.ignition+json",
        ConfigFormat::CloudConfig | ConfigFormat::UserData => "text/cloud-config; charset=utf-8",
        ConfigFormat::Talos => "application/yaml",
        ConfigFormat::None => "text/plain; charset=utf-8",
    }
}
