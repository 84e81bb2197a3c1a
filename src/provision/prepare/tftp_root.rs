//! What the nodes get by TFTP.

use std::collections::BTreeMap;
use std::path::PathBuf;

use anyhow::{Result, bail};
use fs_err as fs;

use super::served::{boot_files, kernel_args};
use crate::images::{Image, ImageSpec, Role, Sha256};
use crate::lab::Lab;
use crate::lab::boot::{Boot, Firmware, Loader, Transport};
use crate::loaders::Program;
use crate::render::boot::{self, Entry, Urls};
use crate::template::Templates;

/// What a file of the TFTP root holds.
#[derive(Debug)]
pub(crate) enum BootFile {
    /// A text of ours.
    Text(String),
    /// A file of this computer's: too large for memory, or a program of the distribution's.
    File { path: PathBuf, size: u64, sha256: Sha256 },
}

/// Everything that the nodes of a lab get by TFTP. Without an image, just the texts.
pub(super) fn files(
    templates: &Templates,
    lab: &Lab,
    spec: &ImageSpec,
    image: Option<&Image>,
) -> Result<BTreeMap<String, BootFile>> {
    let Boot { loader, firmware, transport, .. } = lab.spec.boot;
    let over_tftp = transport == Transport::Tftp;
    let mut root = BTreeMap::new();
    let mut add = |name: String, file: BootFile| match root.insert(name.clone(), file) {
        Some(_) => bail!("two files would be `{name}` for the nodes; rename the image's"),
        None => Ok(()),
    };
    let boot_files = boot_files(spec)?;
    for node in lab.nodes().iter().filter(|_| over_tftp) {
        let kernel_args = kernel_args(lab, node, spec, &Urls::of_boot_server(lab))?;
        let entry = Entry {
            lab,
            node: Some(node),
            files: &boot_files,
            base: "",
            kernel_args: &kernel_args,
        };
        let (name, text) = match loader {
            Loader::Ipxe => {
                (boot::ipxe_script_name(node.mac), boot::ipxe_script(templates, &entry)?)
            }
            Loader::Pxelinux => {
                (boot::pxelinux_cfg_name(node.mac), boot::pxelinux_cfg(templates, &entry)?)
            }
        };
        add(name, BootFile::Text(text))?;
    }
    if loader == Loader::Ipxe {
        let url = boot::ipxe_script_url(lab);
        let next = if over_tftp { boot::IPXE_OWN_SCRIPT } else { &url };
        add("boot.ipxe".to_owned(), BootFile::Text(boot::ipxe_start(templates, lab, next)?))?;
    }
    let Some(image) = image else { return Ok(root) };
    let programs: &[Program] = match (loader, firmware) {
        (Loader::Pxelinux, _) => &[Program::Pxelinux, Program::Ldlinux],
        (Loader::Ipxe, Firmware::Uefi) => &[Program::IpxeEfi],
        (Loader::Ipxe, Firmware::Bios) => &[],
    };
    for program in programs {
        add(program.name().to_owned(), BootFile::program(*program)?)?;
    }
    for file in image.files.iter().filter(|file| over_tftp && file.role != Role::Extra) {
        let (path, sha256) = (file.path.clone(), file.sha256);
        add(file.name.clone(), BootFile::File { path, size: file.size, sha256 })?;
    }
    Ok(root)
}

impl BootFile {
    fn program(program: Program) -> Result<Self> {
        let path = program.find()?;
        let content = fs::read(&path)?;
        Ok(Self::File { path, size: content.len() as u64, sha256: Sha256::of(&content) })
    }

    pub(super) fn sha256(&self) -> Sha256 {
        match self {
            Self::Text(text) => Sha256::of(text.as_bytes()),
            Self::File { sha256, .. } => *sha256,
        }
    }
}
