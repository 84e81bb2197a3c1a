//! `virtlab pxe export`: a folder with everything that PXE servers of others need for a lab. It
//! asks libvirt only whether the lab is there already.

use std::path::Path;

use anyhow::{Result, bail};
use fs_err as fs;
use reqwest::Url;

use crate::boot_server::Content;
use crate::cli::pxe::ExportArgs;
use crate::cluster::discovery;
use crate::config;
use crate::error::hinted;
use crate::images::lock::Pin;
use crate::images::{ImageSpec, Library};
use crate::lab::options::{LabOptions, NetworkChoice};
use crate::lab::{Lab, LibvirtVersion};
use crate::provision::prepare::{ConfigTemplate, Ingredients, OwnTemplates, Prepared};
use crate::provision::pxe_tree::{Export, write};
use crate::provision::{draft, facts};
use crate::render::config::ConfigInput;
use crate::render::pxe::{self, DhcpSite, HttpSite, Site};
use crate::session::Session;
use crate::state::StateDir;
use crate::template::Templates;

pub(super) fn run(session: &Session, args: &ExportArgs) -> Result<()> {
    let mut options = draft::read_options(&args.lab, args.file.as_deref())?;
    options.network.get_or_insert(NetworkChoice::Bridge);
    let http_url = args.http_url.as_ref();
    let existing = existing_lab(session, &options)?;
    let exists = existing.is_some();
    let image_name = existing
        .as_ref()
        .map_or(options.image_name(), |lab| lab.spec.image.name.as_str())
        .to_owned();
    let spec = session.catalogue()?.find(&image_name)?;
    let templates = session.templates()?;
    let lab = if let Some(lab) = existing {
        lab
    } else {
        let config = ConfigTemplate::read(&templates, options.config.as_deref(), &spec)?;
        let own = OwnTemplates::read(&options)?;
        facts::decide_without_libvirt(&options, &spec, &config, &own, http_url.is_some())?
    };
    if lab.spec.network.managed().is_some() {
        bail!(
            "lab `{}` has a network of its own, where virtlab serves everything; export is for --network bridge or an existing network",
            lab.name
        );
    }
    let dir = std::path::absolute(&args.dir)?;
    let root = args.root.clone().unwrap_or_else(|| dir.clone());
    let site = Site {
        tftp_server: args.tftp_server.unwrap_or(lab.spec.boot_address),
        tftp_root: root.join("tftp").display().to_string(),
        http: http_url.map(|url| http_site(url, &root)).transpose()?,
        dhcp: dhcp_site(args, &lab)?,
    };
    require_empty(&dir)?;
    let image = Library::open_default()?.ensure(&spec, &Pin::default(), session.printer)?;
    let export = Export { templates, lab: &lab, spec: &spec, site: &site };
    export.write_tftp(&dir.join("tftp"), &image)?;
    if site.http.is_some() {
        let content = content(&export.templates, &options, &lab, &spec, exists)?;
        export.write_http(&dir.join("http"), &image, &content)?;
        if content.wants_discovery() {
            session.printer.warn(format!(
                "the configs keep <DISCOVERY_URL>: export lab `{0}` after `virtlab create {0} --no-wait`, \
                 or name a discovery service by --discovery",
                lab.name
            ));
        }
    }
    for (name, text) in pxe::snippets(&export.templates, &lab, &site)? {
        write(&dir.join(name), &text)?;
    }
    session.printer.note(format!(
        "what PXE servers need for lab `{}` is in {}; virtlab's docs/external-pxe.md goes on from here",
        lab.name,
        dir.display()
    ));
    if !exists {
        session.printer.note(format!(
            "create the lab with the same options and with --boot-port {}",
            lab.spec.boot_port
        ));
    }
    Ok(())
}

/// The nodes' configs: those that the boot server of the lab gives out, if it is there already.
fn content(
    templates: &Templates,
    options: &LabOptions,
    lab: &Lab,
    spec: &ImageSpec,
    exists: bool,
) -> Result<Content> {
    if exists {
        let kept = StateDir::of(lab)?.content().ok();
        return kept.filter(|content| content.uuid == lab.uuid).ok_or_else(|| {
            hinted(
                format!("what lab `{}` gives out is not kept on this computer", lab.name),
                format!("`virtlab create {} --no-wait` makes it again", lab.name),
            )
        });
    }
    let config = ConfigTemplate::read(templates, options.config.as_deref(), spec)?;
    let input =
        ConfigInput { template: config.text, ssh_keys: config::keys_of_user(&options.ssh_key)? };
    // Only the configs are wanted of it.
    let libvirt = LibvirtVersion::OLDEST;
    let ingredients =
        Ingredients { templates, spec, image: None, config: &input, kept: None, libvirt };
    let mut content = Prepared::new(lab.clone(), &ingredients)?.content;
    if let Some(service) = options.discovery.as_ref().filter(|_| content.wants_discovery()) {
        let size = lab.voters() as usize;
        content.put_discovery_url(discovery::request_token(service, size, discovery::TIMEOUT)?);
    }
    Ok(content)
}

/// The lab of this name, if libvirt answers and has it.
fn existing_lab(session: &Session, options: &LabOptions) -> Result<Option<Lab>> {
    let name = options.lab_name();
    let Ok(inventory) = session.hypervisor().and_then(|hypervisor| hypervisor.observe()) else {
        return Ok(None);
    };
    let Some(found) = inventory.lab(&name) else { return Ok(None) };
    // Without --network the lab's own is meant.
    let asked = LabOptions {
        network: options.network.clone().filter(|network| *network != NetworkChoice::Bridge),
        ..options.clone()
    };
    let differences = asked.differences(&found.lab);
    if differences.is_empty() {
        return Ok(Some(found.lab.clone()));
    }
    Err(hinted(
        format!("lab `{name}` exists and is different: {}", differences.join("; ")),
        format!("`virtlab pxe export {name} --dir DIR` exports it as it is"),
    ))
}

fn http_site(url: &Url, root: &Path) -> Result<HttpSite> {
    if url.scheme() != "http" || url.query().is_some() || url.fragment().is_some() {
        bail!("--http-url {url}: firmware needs a plain http:// URL without a query");
    }
    Ok(HttpSite {
        url: url.as_str().trim_end_matches('/').to_owned(),
        path: url.path().trim_end_matches('/').to_owned(),
        port: url.port().unwrap_or(80),
        root: root.join("http").display().to_string(),
    })
}

fn dhcp_site(args: &ExportArgs, lab: &Lab) -> Result<Option<DhcpSite>> {
    let Some(range) = args.dhcp_range else { return Ok(None) };
    if range.size() < lab.spec.nodes {
        bail!("--dhcp-range {range} has fewer addresses than lab `{}` has nodes", lab.name);
    }
    Ok(Some(DhcpSite { range, router: args.dhcp_router, dns: args.dhcp_dns }))
}

/// What is there is somebody's: nothing is written over.
fn require_empty(dir: &Path) -> Result<()> {
    let entries = match fs::read_dir(dir) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            return Ok(fs::create_dir_all(dir)?);
        }
        other => other?,
    };
    if entries.count() > 0 {
        return Err(hinted(
            format!("folder `{}` is not empty", dir.display()),
            "name a new one by --dir; servers that read the old one go on with a whole tree",
        ));
    }
    Ok(())
}
