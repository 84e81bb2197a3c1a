//! A folder with everything that PXE servers of others need for a lab: loaders, scripts, files, configs.

use std::path::Path;

use anyhow::{Context, Result};
use fs_err as fs;

use super::prepare;
use crate::boot_server::Content;
use crate::images::{ConfigFormat, Image, ImageSpec, Role};
use crate::lab::{Lab, Node};
use crate::loaders::Program;
use crate::render::boot::{self, Entry, Urls};
use crate::render::config::{self, InitialState};
use crate::render::pxe::{self, HttpSite, Site};
use crate::template::Templates;

/// Everything that a tree is made of.
pub(crate) struct Export<'a> {
    pub(crate) templates: Templates,
    pub(crate) lab: &'a Lab,
    pub(crate) spec: &'a ImageSpec,
    pub(crate) site: &'a Site,
}

impl Export<'_> {
    /// Writes the TFTP root: loaders, their configs, and the files for loaders that know no HTTP.
    pub(crate) fn write_tftp(&self, tftp: &Path, image: &Image) -> Result<()> {
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
    pub(crate) fn write_http(&self, http: &Path, image: &Image, content: &Content) -> Result<()> {
        fs::create_dir_all(http.join("configs"))?;
        fs::create_dir_all(http.join("files"))?;
        for file in &image.files {
            copy(&file.path, &http.join("files").join(&file.name))?;
        }
        for node in &content.nodes {
            // A server that only has files starts all as a new cluster.
            let text = &config::put_cluster(&node.config, &content.founders(), InitialState::New);
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

pub(crate) fn write(path: &Path, text: &str) -> Result<()> {
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
