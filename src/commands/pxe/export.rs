//! `virtlab pxe export`: a folder with everything that PXE servers of others need for a lab. It
//! asks libvirt only whether the lab is there already.

use std::net::IpAddr;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, bail};
use clap::Args;
use fs_err as fs;
use reqwest::Url;

use crate::boot_server::Content;
use crate::cluster::discovery;
use crate::commands::prepare::{self, Prepared};
use crate::commands::{Context, draft, render};
use crate::hint::hinted;
use crate::images::lock::Pin;
use crate::images::store::Store;
use crate::images::{ConfigFormat, Image, ImageSpec, Role};
use crate::lab::options::{LabOptions, NetworkChoice};
use crate::lab::{Lab, Node};
use crate::loaders::Program;
use crate::render::Templates;
use crate::render::boot::{self, Entry, Urls};
use crate::render::config::ConfigInput;
use crate::render::pxe::{self, HttpSite, Site};
use crate::state::StateDir;

/// `pxe export`.
#[derive(Args, Debug)]
pub struct ExportArgs {
    /// What the lab should be like; a lab that is there already is as it is.
    #[command(flatten)]
    pub lab: LabOptions,

    /// Lab file; flags win over what it says
    #[arg(short, long, value_name = "FILE", env = "VIRTLAB_FILE")]
    pub file: Option<PathBuf>,

    /// Folder to write, empty or new
    #[arg(long, value_name = "DIR")]
    pub dir: PathBuf,

    /// URL at which http/ will be served [default: the lab's boot server gives out everything]
    #[arg(long, value_name = "URL")]
    pub http_url: Option<Url>,

    /// Address of the TFTP server [default: this host's on the bridge]
    #[arg(long, value_name = "IP")]
    pub tftp_server: Option<IpAddr>,

    /// Path that the folder will have on its server [default: where it is written]
    #[arg(long, value_name = "PATH")]
    pub root: Option<PathBuf>,
}

pub(super) fn run(context: &Context, args: &ExportArgs) -> Result<()> {
    let mut options = draft::read_options(&args.lab, args.file.as_deref())?;
    options.network.get_or_insert(NetworkChoice::Bridge);
    let http_url = args.http_url.as_ref();
    let existing = existing_lab(context, &options)?;
    let exists = existing.is_some();
    let image_name = existing
        .as_ref()
        .map_or(options.image_name(), |lab| lab.spec.image.name.as_str())
        .to_owned();
    let spec = context.catalogue()?.find(&image_name)?;
    let lab = match existing {
        Some(lab) => lab,
        None => render::decide(context, &options, &spec, http_url.is_some())?,
    };
    if lab.spec.network.managed().is_some() {
        bail!(
            "lab `{}` has a network of its own, where virtlab serves everything; export is for --network bridge or an existing network",
            lab.name
        );
    }
    let dir = std::path::absolute(&args.dir)?;
    require_empty(&dir)?;
    let root = args.root.clone().unwrap_or_else(|| dir.clone());
    let site = Site {
        tftp_server: args.tftp_server.unwrap_or(lab.spec.boot_address),
        tftp_root: root.join("tftp").display().to_string(),
        http: http_url.map(|url| http_site(url, &root)).transpose()?,
    };
    let image = Store::open_default()?.ensure(&spec, &Pin::default(), context.printer)?;
    let export = Export { templates: context.templates()?, lab: &lab, spec: &spec, site: &site };
    export.write_tftp(&dir.join("tftp"), &image)?;
    if site.http.is_some() {
        let content = content(&export.templates, &options, &lab, &spec, exists)?;
        export.write_http(&dir.join("http"), &image, &content)?;
        if content.wants_discovery() {
            context.printer.warn(format!(
                "the configs keep <DISCOVERY_URL>: export lab `{0}` after `virtlab create {0} --no-wait`, \
                 or name a discovery service by --discovery",
                lab.name
            ));
        }
    }
    for (name, text) in pxe::snippets(&export.templates, &lab, &site)? {
        write(&dir.join(name), &text)?;
    }
    context.printer.note(format!(
        "what PXE servers need for lab `{}` is in {}; virtlab's docs/external-pxe.md goes on from here",
        lab.name,
        dir.display()
    ));
    if !exists {
        context.printer.note(format!(
            "create the lab with the same options and with --boot-port {}",
            lab.spec.boot_port
        ));
    }
    Ok(())
}

/// Everything that a tree is made of.
pub(super) struct Export<'a> {
    pub(super) templates: Templates,
    pub(super) lab: &'a Lab,
    pub(super) spec: &'a ImageSpec,
    pub(super) site: &'a Site,
}

impl Export<'_> {
    /// Writes the TFTP root: loaders, their configs, and the files for loaders that know no HTTP.
    pub(super) fn write_tftp(&self, tftp: &Path, image: &Image) -> Result<()> {
        let Self { templates, lab, spec, site } = self;
        fs::create_dir_all(tftp.join("pxelinux.cfg"))?;
        for program in PROGRAMS {
            copy(&program.find()?, &tftp.join(program.name()))?;
        }
        let url = boot::ipxe_script_url(lab);
        let next = if site.http.is_some() { boot::IPXE_OWN_SCRIPT } else { &url };
        write(&tftp.join("boot.ipxe"), &boot::ipxe_start(templates, lab, next)?)?;
        write(&tftp.join("pxelinux.cfg/default"), &pxe::pxelinux_default(templates, lab)?)?;
        let files = prepare::boot_files(spec)?;
        for node in lab.nodes() {
            let urls = self.urls(&node);
            let kernel_args = prepare::kernel_args(lab, &node, spec, &urls)?;
            let base = format!("{}/", urls.files);
            // iPXE loads by HTTP; pxelinux.0 knows TFTP only.
            let by_http = Entry {
                lab,
                node: Some(&node),
                files: &files,
                base: &base,
                kernel_args: &kernel_args,
            };
            let by_tftp = Entry { base: "", ..by_http };
            let script = boot::ipxe_script(templates, &by_http)?;
            write(&tftp.join(boot::ipxe_script_name(node.mac)), &script)?;
            let menu = boot::pxelinux_cfg(templates, &by_tftp)?;
            write(&tftp.join("pxelinux.cfg").join(boot::pxelinux_cfg_name(node.mac)), &menu)?;
        }
        let mut loaded = image.files.iter().filter(|file| file.role != Role::Extra);
        loaded.try_for_each(|file| copy(&file.path, &tftp.join(&file.name)))
    }

    /// Writes the HTTP root.
    fn write_http(&self, http: &Path, image: &Image, content: &Content) -> Result<()> {
        fs::create_dir_all(http.join("configs"))?;
        fs::create_dir_all(http.join("files"))?;
        for file in &image.files {
            copy(&file.path, &http.join("files").join(&file.name))?;
        }
        for node in &content.nodes {
            let text = &node.config;
            let mac = node.mac.hyphenated();
            if self.spec.config != ConfigFormat::UserData {
                write(&http.join("configs").join(mac), text)?;
                continue;
            }
            let folder = http.join("nocloud").join(mac);
            fs::create_dir_all(&folder)?;
            let meta = format!(
                "instance-id: {}-{}\nlocal-hostname: {}\n",
                self.lab.uuid, node.name, node.name
            );
            for (name, text) in [
                ("user-data", text.as_str()),
                ("meta-data", &meta),
                ("vendor-data", ""),
                ("network-config", ""),
            ] {
                write(&folder.join(name), text)?;
            }
        }
        Ok(())
    }

    fn urls(&self, node: &Node) -> Urls {
        let Some(HttpSite { url, .. }) = &self.site.http else {
            return Urls::of_boot_server(self.lab);
        };
        let mac = node.mac.hyphenated();
        Urls {
            files: format!("{url}/files"),
            config: format!("{url}/configs/{mac}"),
            nocloud: format!("{url}/nocloud/{mac}/"),
        }
    }
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
        let kept = StateDir::of(&lab.name)?.content().ok();
        return kept.filter(|content| content.uuid == lab.uuid).ok_or_else(|| {
            hinted(
                format!("what lab `{}` gives out is not kept on this computer", lab.name),
                format!("`virtlab create {} --no-wait` makes it again", lab.name),
            )
        });
    }
    let (_, template) = prepare::config_template(templates, options.config.as_deref(), spec)?;
    let input = ConfigInput { template, ssh_keys: draft::ssh_keys(options)? };
    let mut content = Prepared::new(templates, lab.clone(), spec, None, &input)?.content;
    if let Some(service) = options.discovery.as_ref().filter(|_| content.wants_discovery()) {
        let size = lab.spec.nodes as usize;
        content.put_discovery_url(discovery::request_token(service, size, discovery::TIMEOUT)?);
    }
    Ok(content)
}

/// The lab of this name, if libvirt answers and has it.
fn existing_lab(context: &Context, options: &LabOptions) -> Result<Option<Lab>> {
    let name = options.lab_name();
    let Ok(inventory) = context.hypervisor().and_then(|hypervisor| hypervisor.observe()) else {
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

fn write(path: &Path, text: &str) -> Result<()> {
    fs::write(path, text).context("writing what PXE servers need")
}

/// A copy that servers under other users can read, whatever the original's mode is.
fn copy(from: &Path, to: &Path) -> Result<()> {
    let mut source = fs::File::open(from)?;
    std::io::copy(&mut source, &mut fs::File::create(to)?).context("copying the image's files")?;
    Ok(())
}

const PROGRAMS: [Program; 4] =
    [Program::Pxelinux, Program::Ldlinux, Program::IpxeEfi, Program::IpxeBios];
