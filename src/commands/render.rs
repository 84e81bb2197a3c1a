//! `virtlab render`: the texts that `create` would give to libvirt and to the nodes. Asks no
//! libvirt and fetches no image; what only they know has a stand-in that the output shows.

use anyhow::{Result, bail};

use crate::cli::{RenderArgs, RenderPart};
use crate::config;
use crate::lab::LibvirtVersion;
use crate::lab::boot::Transport;
use crate::provision::prepare::{BootFile, ConfigTemplate, Ingredients, OwnTemplates, Prepared};
use crate::provision::{draft, facts};
use crate::render::boot;
use crate::render::config::ConfigInput;
use crate::session::Session;

pub(super) fn run(session: &Session, args: &RenderArgs) -> Result<()> {
    let options = draft::read_options(&args.lab, args.file.as_deref())?;
    let spec = session.catalogue()?.find(options.image_name())?;
    let templates = session.templates()?;
    let config = ConfigTemplate::read(&templates, options.config.as_deref(), &spec)?;
    let own = OwnTemplates::read(&options)?;
    let lab = facts::decide_without_libvirt(&options, &spec, &config, &own, true)?;
    if args.node > lab.spec.nodes {
        bail!("--node {} is not one of the lab's {} nodes", args.node, lab.spec.nodes);
    }
    let templates = own.put_into(templates, &lab)?;
    let input =
        ConfigInput { template: config.text, ssh_keys: config::keys_of_user(&options.ssh_key)? };
    // Which libvirt will read it is not known here; every one reads what the oldest does.
    let libvirt = LibvirtVersion::OLDEST;
    let ingredients = Ingredients {
        templates: &templates,
        spec: &spec,
        image: None,
        config: &input,
        kept: None,
        libvirt,
    };
    let prepared = Prepared::new(lab, &ingredients)?;
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
            Some(text) => session.printer.data(text.trim_end()),
            None => {
                bail!("the lab has no network of its own (--network {})", prepared.lab.spec.network)
            }
        }
        return Ok(());
    }
    let texts: Vec<String> = parts.into_iter().filter_map(|(_, text)| text).collect();
    session.printer.data(texts.join("\n").trim_end());
    Ok(())
}
