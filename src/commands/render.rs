//! `virtlab render`: the texts that `create` would give to libvirt and to the nodes. Asks no
//! libvirt and fetches no image; what only they know has a stand-in that the output shows.

use std::net::IpAddr;

use anyhow::{Result, bail};

use super::prepare::{self, BootFile, Prepared};
use super::{Context, decide, draft};
use crate::cli::{RenderArgs, RenderPart};
use crate::host;
use crate::images::ImageSpec;
use crate::lab::Lab;
use crate::lab::boot::Transport;
use crate::lab::options::{LabOptions, Surroundings};
use crate::render::boot;
use crate::render::config::ConfigInput;
use crate::state::StateDir;

pub(super) fn run(context: &Context, args: &RenderArgs) -> Result<()> {
    let options = draft::read_options(&args.lab, args.file.as_deref())?;
    let spec = context.catalogue()?.find(options.image_name())?;
    let templates = context.templates()?;
    let (_, template) = prepare::config_template(&templates, options.config.as_deref(), &spec)?;
    let lab = decide(context, &options, &spec, true)?;
    if args.node > lab.spec.nodes {
        bail!("--node {} is not one of the lab's {} nodes", args.node, lab.spec.nodes);
    }
    let (templates, _) = prepare::own_templates(templates, &lab, &StateDir::of(&lab.name)?)?;
    let input = ConfigInput { template, ssh_keys: draft::ssh_keys(&options)? };
    let prepared = Prepared::new(&templates, lab, &spec, None, &input)?;
    let index = args.node as usize - 1;
    let node = &prepared.content.nodes[index];
    // With TFTP the node's own text lies beside those of the others.
    let other = |name: &str| {
        prepared.lab.nodes().iter().any(|node| {
            node.index != args.node
                && [boot::ipxe_script_name(node.mac), boot::pxelinux_cfg_name(node.mac)]
                    .contains(&name.to_owned())
        })
    };
    let texts = prepared.boot_files.iter().filter(|(name, _)| !other(name));
    let mut boot: Vec<&str> = texts
        .filter_map(|(_, file)| match file {
            BootFile::Text(text) => Some(text.as_str()),
            BootFile::File { .. } => None,
        })
        .collect();
    if prepared.lab.spec.boot.transport == Transport::Http {
        boot.push(&node.script);
    }
    let boot = boot.join("\n");
    let parts = [
        (RenderPart::Network, prepared.network.map(|xml| xml.with_ipv6)),
        (RenderPart::Domain, Some(prepared.domains[index].clone())),
        (RenderPart::Boot, Some(boot)),
        (RenderPart::Config, Some(node.config.clone())),
    ];
    if let Some(wanted) = args.part {
        let text = parts.into_iter().find(|(part, _)| *part == wanted).and_then(|(_, text)| text);
        match text {
            Some(text) => context.printer.data(text.trim_end()),
            None => {
                bail!("the lab has no network of its own (--network {})", prepared.lab.spec.network)
            }
        }
        return Ok(());
    }
    let texts: Vec<String> = parts.into_iter().filter_map(|(_, text)| text).collect();
    context.printer.data(texts.join("\n").trim_end());
    Ok(())
}

/// The lab that the options mean, as far as that can be told without libvirt. `stand_in` allows an
/// address for the boot server that is none, where this host has no such bridge.
pub(super) fn decide(
    context: &Context,
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
        ..decide::known_without_libvirt(context, options, spec)?
    })
}

/// A documentation address (RFC 5737), where the bridge's is not known.
const STAND_IN_ADDRESS: &str = "192.0.2.1";
