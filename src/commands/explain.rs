//! `virtlab explain`: everything that a node is given, and where it comes from.

use anyhow::{Context, Result};
use serde::Serialize;

use crate::cli::looking::ExplainArgs;
use crate::lab::boot::{Loader, Transport};
use crate::lab::spec::ConfigSource;
use crate::lab::{Lab, Node};
use crate::provision::draft::{self, Again};
use crate::provision::prepare::BootFile;
use crate::render::config::{self, InitialState};
use crate::render::{boot, secrets, xml};
use crate::session::Session;
use crate::status::targets;
use crate::template::Templates;

/// What `-o json` prints.
#[derive(Serialize)]
struct Document {
    schema_version: u32,
    name: String,
    lab: String,
    secrets: &'static str,
    parts: Vec<Part>,
}

/// One thing that a node is given.
#[derive(Serialize)]
struct Part {
    #[serde(rename = "part")]
    what: &'static str,
    /// Where it comes from.
    from: String,
    text: String,
}

pub(super) fn run(session: &Session, args: &ExplainArgs) -> Result<()> {
    let hypervisor = session.hypervisor()?;
    let inventory = session.observe(&hypervisor)?;
    let (found, node) = targets::one_node(&inventory, &args.node)?;
    let again = draft::again(session, &hypervisor, &found.lab.name)?;
    let mut parts = parts(&again, &session.templates()?, &node)?;
    if !args.show_secrets {
        let known = again.prepared.content.discovery_url.as_deref().map(token);
        let known: Vec<String> = known.into_iter().collect();
        for part in &mut parts {
            part.text = secrets::hide(&part.text, &known);
        }
    }
    let document = Document {
        schema_version: SCHEMA_VERSION,
        name: node.name,
        lab: found.lab.name.to_string(),
        secrets: if args.show_secrets { "shown" } else { "hidden" },
        parts,
    };
    let names: Vec<&str> = document.parts.iter().map(|part| part.what).collect();
    session.printer.document(&document, &names, || {
        let texts = document
            .parts
            .iter()
            .map(|Part { what, from, text }| format!("# {what}: from {from}\n{}", text.trim_end()));
        texts.collect::<Vec<_>>().join("\n\n")
    })
}

fn parts(again: &Again, templates: &Templates, node: &Node) -> Result<Vec<Part>> {
    let Again { prepared, .. } = again;
    let lab = &prepared.lab;
    let index = node.index as usize - 1;
    let served = prepared.content.nodes.get(index).context("the lab has no such node")?;
    let part = |what, from, text| Part { what, from, text };
    let domain_template = match &lab.spec.domain_template {
        Some(own) => format!("`{}` (--domain-template)", own.source),
        None => templates.place(xml::DOMAIN_TEMPLATE_NAME),
    };
    let mut parts = vec![
        part(
            "specification",
            "flags and lab file, as the marks in libvirt keep it".to_owned(),
            serde_json::to_string_pretty(&lab.spec)?,
        ),
        part("domain", domain_template, prepared.domains[index].clone()),
        part("boot-script", script_template(lab, templates), script(again, node, &served.script)),
        part(
            "kernel-arguments",
            format!("the entry of image `{}` in {}", lab.spec.image.name, again.entry),
            served.arguments.clone().unwrap_or_default(),
        ),
    ];
    if lab.spec.config != ConfigSource::None {
        let text =
            config::put_cluster(&served.config, &prepared.content.founders(), InitialState::New);
        let text = match served.ip {
            Some(ip) => config::substitute_addresses(&text, ip),
            None => text,
        };
        parts.push(part("config", config_template(again, templates), text));
    }
    Ok(parts)
}

/// What the node's loader reads last: over HTTP from the boot server, or by TFTP from the pool.
fn script(again: &Again, node: &Node, over_http: &str) -> String {
    let lab = &again.prepared.lab;
    if lab.spec.boot.transport == Transport::Http {
        return over_http.to_owned();
    }
    let name = match lab.spec.boot.loader {
        Loader::Ipxe => boot::ipxe_script_name(node.mac),
        Loader::Pxelinux => boot::pxelinux_cfg_name(node.mac),
    };
    match again.prepared.boot_files.get(&name) {
        Some(BootFile::Text(text)) => text.clone(),
        _ => String::new(),
    }
}

fn script_template(lab: &Lab, templates: &Templates) -> String {
    let by_tftp = lab.spec.boot.transport == Transport::Tftp;
    templates.place(match lab.spec.boot.loader {
        Loader::Pxelinux if by_tftp => boot::PXELINUX_TEMPLATE,
        _ => boot::IPXE_TEMPLATE,
    })
}

fn config_template(again: &Again, templates: &Templates) -> String {
    let place = match &again.prepared.lab.spec.config {
        ConfigSource::None => return String::new(),
        ConfigSource::Ours(template) => {
            format!("{}, which the image names", templates.place(&template.source))
        }
        ConfigSource::File(template) => format!("`{}` (--config)", template.source),
    };
    if again.is_kept { format!("{place}; as it was when the lab was made") } else { place }
}

/// The last part of a discovery URL: who knows it may join.
fn token(url: &str) -> String {
    url.trim_end_matches('/').rsplit('/').next().unwrap_or_default().to_owned()
}

const SCHEMA_VERSION: u32 = 1;
