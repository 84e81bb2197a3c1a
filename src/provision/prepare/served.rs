//! What the boot server gives out.

use std::collections::BTreeMap;

use anyhow::{Context, Result, ensure};

use crate::boot_server::stage::Stage;
use crate::boot_server::{Content, ServedFile, ServedNode};
use crate::config::{is_butane, to_ignition, validate};
use crate::error::hinted;
use crate::images::{
    BootVariables, ConfigFormat, Image, ImageFile, ImageSpec, LabVariables, NodeVariables, Role,
};
use crate::lab::address::bridge_name;
use crate::lab::hardware::Graphics;
use crate::lab::readiness::ReadyWhen;
use crate::lab::{Lab, Node};
use crate::render::boot::{self, BootFiles, Entry, Urls};
use crate::render::config::{self, ConfigInput, InitialState};
use crate::template::Templates;

/// All of it, with configs that the nodes can read.
pub(super) fn content(
    templates: &Templates,
    lab: &Lab,
    spec: &ImageSpec,
    image: Option<&Image>,
    input: &ConfigInput,
    kept: Option<&Content>,
) -> Result<Content> {
    let serve = |node: &Node| {
        let config = match kept.and_then(|kept| kept.config_of(node.index)) {
            Some(kept) => kept.to_owned(),
            None => node_config(templates, lab, node, spec, input)?,
        };
        served_node(templates, lab, node, spec, config)
    };
    let content = Content {
        lab: lab.name.clone(),
        uuid: lab.uuid,
        address: lab.spec.boot_address,
        port: lab.spec.boot_port,
        nodes: lab.nodes().iter().map(serve).collect::<Result<_>>()?,
        files: image.map(served_files).unwrap_or_default(),
        config_type: media_type(spec.config).to_owned(),
        ssh_keys: input.ssh_keys.clone(),
        discovery_url: None,
        ready_when: Some(ReadyWhen::of(lab)),
        interface: lab.spec.network.managed().map(|_| bridge_name(lab.uuid)),
        trust_claimed_mac: lab.spec.trust_claimed_mac,
        knock: lab.spec.knocks(),
    };
    check_configs(&content, spec.config, lab.spec.config.name())?;
    Ok(content)
}

/// The names of what an image boots.
pub(crate) fn boot_files(spec: &ImageSpec) -> Result<BootFiles> {
    let names = |role: Role| {
        spec.files.iter().filter(move |file| file.role == role).map(|file| file.name.clone())
    };
    let kernel = names(Role::Kernel).next();
    Ok(BootFiles {
        kernel: kernel.with_context(|| format!("image `{}` has no kernel", spec.name))?,
        initrds: names(Role::Initrd).collect(),
    })
}

/// The kernel arguments of a node.
pub(crate) fn kernel_args(lab: &Lab, node: &Node, spec: &ImageSpec, urls: &Urls) -> Result<String> {
    let variables = BootVariables {
        console: consoles(lab.spec.hardware.graphics).to_owned(),
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

/// Where the kernel shows its messages. The last one is `/dev/console`: always the serial console,
/// whose log virtlab reads.
/// <https://docs.kernel.org/admin-guide/serial-console.html>
fn consoles(graphics: Graphics) -> &'static str {
    match graphics {
        Graphics::None => "console=ttyS0",
        Graphics::Vnc | Graphics::Spice => "console=tty0 console=ttyS0",
    }
}

fn served_node(
    templates: &Templates,
    lab: &Lab,
    node: &Node,
    spec: &ImageSpec,
    config: String,
) -> Result<ServedNode> {
    let (files, kernel_args) =
        (boot_files(spec)?, kernel_args(lab, node, spec, &Urls::of_boot_server(lab))?);
    let base = format!("{}/", boot::files_url(lab));
    let entry =
        Entry { lab, node: Some(node), files: &files, base: &base, kernel_args: &kernel_args };
    Ok(ServedNode {
        index: node.index,
        name: node.name.clone(),
        mac: node.mac,
        ip: node.ip.map(Into::into),
        voter: lab.is_voter(node.index),
        arguments: Some(kernel_args.clone()),
        script: boot::ipxe_script(templates, &entry)?,
        config,
    })
}

fn node_config(
    templates: &Templates,
    lab: &Lab,
    node: &Node,
    spec: &ImageSpec,
    input: &ConfigInput,
) -> Result<String> {
    let text = config::config(templates, lab, node, input)?;
    let source = lab.spec.config.name();
    if !is_butane(source) {
        return Ok(text);
    }
    ensure!(
        spec.config == ConfigFormat::Ignition,
        "image `{}` reads no Ignition config, which is what `{source}` becomes",
        spec.name
    );
    let ignition =
        to_ignition(&text).with_context(|| format!("translating `{source}` for {}", node.name))?;
    match config::lost_placeholder(&text, &ignition) {
        None => Ok(ignition),
        Some(lost) => Err(hinted(
            format!("`butane` encodes the contents of files, and with them `{lost}` in `{source}`"),
            "write `{{ node.ip }}` and the other variables of docs/configs.md, or an Ignition config",
        )),
    }
}

/// Refuses configs that the nodes could not read. They are looked at as the nodes will get them, with
/// an address in the place of each placeholder.
fn check_configs(content: &Content, format: ConfigFormat, source: &str) -> Result<()> {
    let last = content.nodes.len().saturating_sub(1);
    for (position, node) in content.nodes.iter().enumerate() {
        refuse_too_many_members(content, node, source)?;
        let address = node.ip.unwrap_or(content.address);
        let text = config::substitute_addresses(&node.config, address);
        let text = config::put_discovery_url(&text, &content.discovery_base());
        let text = config::put_cluster(&text, &content.founders(), InitialState::New);
        // Templates that treat nodes differently do so with the first or the last, or with those that are no members.
        let thorough = position == 0 || position == last;
        validate(format, &text, thorough).with_context(|| {
            format!("checking the config that `{source}` makes for {}", node.name)
        })?;
    }
    Ok(())
}

/// A node that would have to be a member and has no place among them would never start its etcd.
fn refuse_too_many_members(content: &Content, node: &ServedNode, source: &str) -> Result<()> {
    if node.voter || !config::wants_cluster(&node.config) {
        return Ok(());
    }
    let members = content.nodes.iter().filter(|node| node.voter).count();
    Err(hinted(
        format!(
            "`{source}` makes an etcd member of {}, but only the first {members} nodes are to be members",
            node.name
        ),
        format!(
            "`--voters {}` makes members of all; or let it ask `node.index <= lab.voters`, see docs/configs.md",
            content.nodes.len()
        ),
    ))
}

pub(super) fn served_files(image: &Image) -> BTreeMap<String, ServedFile> {
    let stage = |role| match role {
        Role::Kernel => Stage::Kernel,
        Role::Initrd => Stage::Initrd,
        Role::Extra => Stage::Rootfs,
    };
    let serve = |file: &ImageFile| {
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
