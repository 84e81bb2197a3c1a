//! What the nodes' firmware reads: iPXE scripts. <https://ipxe.org/scripting>

use anyhow::Result;
use serde::Serialize;

use super::LabContext;
use super::NodeContext;
use super::Templates;
use crate::lab::Lab;
use crate::lab::Node;

/// The names of what an image boots, as the boot server gives them out.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct BootFiles {
    /// The kernel.
    pub kernel: String,
    /// The initial RAM disks, in the order in which the kernel gets them.
    pub initrds: Vec<String>,
}

/// Where a node finds what it boots.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Urls {
    /// The folder of the image's files, without a slash at the end.
    pub files: String,
    /// The node's own config.
    pub config: String,
    /// The folder of cloud-init's `NoCloud` files, with a slash at the end.
    pub nocloud: String,
}

impl Urls {
    /// Those of the lab's boot server, which knows who asks.
    pub fn of_boot_server(lab: &Lab) -> Self {
        Self { files: files_url(lab), config: config_url(lab), nocloud: nocloud_url(lab) }
    }
}

/// The script that all nodes of a lab read by TFTP.
///
/// # Errors
/// If the template is wrong.
pub fn stage1(templates: &Templates, lab: &Lab) -> Result<String> {
    templates.render(
        "boot-templates/boot.ipxe.j2",
        Stage1 { lab: LabContext::new(lab), boot_url: lab.boot_url() },
    )
}

/// The script of one node, which boots `files` with `kernel_args`.
///
/// # Errors
/// If the template is wrong.
pub fn stage2(
    templates: &Templates,
    lab: &Lab,
    node: &Node,
    files: &BootFiles,
    kernel_args: &str,
    urls: &Urls,
) -> Result<String> {
    let context = Stage2 {
        lab: LabContext::new(lab),
        node: node.clone().into(),
        boot_url: lab.boot_url(),
        files_url: &urls.files,
        kernel: &files.kernel,
        initrds: &files.initrds,
        kernel_args,
    };
    templates.render("boot-templates/node.ipxe.j2", context)
}

/// Where the boot server gives out the files of the image.
pub fn files_url(lab: &Lab) -> String {
    format!("{}/files", lab.boot_url())
}

/// Where the boot server gives out a node's own config.
pub fn config_url(lab: &Lab) -> String {
    format!("{}/config", lab.boot_url())
}

/// Where the boot server gives out cloud-init's `NoCloud` files.
pub fn nocloud_url(lab: &Lab) -> String {
    format!("{}/nocloud/", lab.boot_url())
}

#[derive(Serialize)]
struct Stage1<'a> {
    lab: LabContext<'a>,
    boot_url: String,
}

#[derive(Serialize)]
struct Stage2<'a> {
    lab: LabContext<'a>,
    node: NodeContext,
    boot_url: String,
    files_url: &'a str,
    kernel: &'a str,
    initrds: &'a [String],
    kernel_args: &'a str,
}
