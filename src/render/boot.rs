//! What the nodes' firmware reads: iPXE scripts and pxelinux configs.
//! <https://ipxe.org/scripting>, <https://wiki.syslinux.org/wiki/index.php?title=PXELINUX>
//!
//! Nothing here knows who answers DHCP: where the files are is a parameter, so that the same texts
//! serve our own networks and other people's PXE servers.

use anyhow::Result;
use serde::Serialize;

use super::{LabContext, NodeContext};
use crate::lab::{Lab, MacAddr, Node};
use crate::template::Templates;

/// The names of what an image boots, as the boot server gives them out.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct BootFiles {
    /// The kernel.
    pub kernel: String,
    /// The initial RAM disks, in the order in which the kernel gets them.
    pub initrds: Vec<String>,
}

/// What is booted, and from where.
#[derive(Clone, Copy, Debug)]
pub struct Entry<'a> {
    /// The lab.
    pub lab: &'a Lab,
    /// The node; `None` for what boots a node that has no entry of its own.
    pub node: Option<&'a Node>,
    /// What is booted.
    pub files: &'a BootFiles,
    /// What the files' names are appended to: a URL that ends with a slash, or nothing where they
    /// lie beside the entry.
    pub base: &'a str,
    /// The kernel's arguments.
    pub kernel_args: &'a str,
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

/// The script that all nodes of a lab read first. `next` is the URL of the node's own script, or its
/// name where that lies beside this one; iPXE's variables may stand in it, see [`IPXE_OWN_SCRIPT`].
///
/// # Errors
/// If the template is wrong.
pub fn ipxe_start(templates: &Templates, lab: &Lab, next: &str) -> Result<String> {
    let context = Start { lab: LabContext::new(lab), boot_url: lab.boot_url(), next };
    templates.render("boot-templates/boot.ipxe.j2", context)
}

/// The name of the template that [`ipxe_script`] renders.
pub(crate) const IPXE_TEMPLATE: &str = "boot-templates/node.ipxe.j2";
/// The name of the template that [`pxelinux_cfg`] renders.
pub(crate) const PXELINUX_TEMPLATE: &str = "boot-templates/pxelinux.cfg.j2";

/// The iPXE script that boots `entry`, under BIOS and UEFI both.
///
/// # Errors
/// If the template is wrong.
pub fn ipxe_script(templates: &Templates, entry: &Entry) -> Result<String> {
    templates.render(IPXE_TEMPLATE, EntryContext::new(entry))
}

/// The pxelinux config that boots `entry`.
///
/// # Errors
/// If the template is wrong.
pub fn pxelinux_cfg(templates: &Templates, entry: &Entry) -> Result<String> {
    templates.render(PXELINUX_TEMPLATE, EntryContext::new(entry))
}

/// The name of a node's own iPXE script in a folder: what [`IPXE_OWN_SCRIPT`] is for that node.
pub fn ipxe_script_name(mac: MacAddr) -> String {
    format!("{}.ipxe", mac.hyphenated())
}

/// The name under which pxelinux looks for a node's config in its folder `pxelinux.cfg`: `01` is
/// the ARP number of Ethernet.
pub fn pxelinux_cfg_name(mac: MacAddr) -> String {
    format!("01-{}", mac.hyphenated())
}

/// Where the boot server gives out a node's own iPXE script.
pub fn ipxe_script_url(lab: &Lab) -> String {
    format!("{}/ipxe?mac=${{mac:hexhyp}}", lab.boot_url())
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

/// The file name of a node's own script as iPXE itself makes it: its MAC address with hyphens.
pub const IPXE_OWN_SCRIPT: &str = "${mac:hexhyp}.ipxe";

#[derive(Serialize)]
struct Start<'a> {
    lab: LabContext<'a>,
    boot_url: String,
    next: &'a str,
}

#[derive(Serialize)]
struct EntryContext<'a> {
    lab: LabContext<'a>,
    node: Option<NodeContext>,
    boot_url: String,
    base: &'a str,
    kernel: &'a str,
    initrds: &'a [String],
    kernel_args: &'a str,
}

impl<'a> EntryContext<'a> {
    fn new(entry: &Entry<'a>) -> Self {
        Self {
            lab: LabContext::new(entry.lab),
            node: entry.node.map(|node| node.clone().into()),
            boot_url: entry.lab.boot_url(),
            base: entry.base,
            kernel: &entry.files.kernel,
            initrds: &entry.files.initrds,
            kernel_args: entry.kernel_args,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::lab::tests::lab;

    fn files() -> BootFiles {
        BootFiles {
            kernel: "vmlinuz".to_owned(),
            initrds: vec!["a.img".to_owned(), "b.img".to_owned()],
        }
    }

    #[test]
    fn a_nodes_ipxe_script_names_its_initrds_for_uefi_too() {
        let (lab, files) = (lab(1), files());
        let node = lab.node(1);
        let base = "http://192.0.2.1/files/";
        let entry =
            Entry { lab: &lab, node: Some(&node), files: &files, base, kernel_args: "quiet" };
        assert_eq!(
            ipxe_script(&Templates::new(vec![]), &entry).unwrap(),
            "#!ipxe\n\
            # What demo-1 boots.\n\
            :again\n\
            imgfree\n\
            kernel http://192.0.2.1/files/vmlinuz initrd=a.img initrd=b.img quiet || goto wait\n\
            initrd http://192.0.2.1/files/a.img || goto wait\n\
            initrd http://192.0.2.1/files/b.img || goto wait\n\
            boot || goto wait\n\
            :wait\n\
            echo virtlab: booting demo-1 did not work, once more\n\
            sleep 2\n\
            goto again\n"
        );
    }

    #[test]
    fn a_pxelinux_config_has_one_entry() {
        let lab = lab(1);
        let render = |files: &BootFiles| {
            let entry = Entry { lab: &lab, node: None, files, base: "", kernel_args: "a b" };
            pxelinux_cfg(&Templates::new(vec![]), &entry).unwrap()
        };
        assert_eq!(
            render(&files()),
            "# What a node of lab demo boots.\n\
            DEFAULT virtlab\n\
            PROMPT 0\n\
            LABEL virtlab\n  \
              KERNEL vmlinuz\n  \
              INITRD a.img,b.img\n  \
              APPEND a b\n"
        );
        let text = render(&BootFiles { initrds: Vec::new(), ..files() });
        assert!(!text.contains("INITRD"), "{text}");
    }

    #[test]
    fn the_names_of_a_nodes_own_files_are_those_that_loaders_look_for() {
        let mac = "52:54:00:AB:cd:01".parse().unwrap();
        assert_eq!(ipxe_script_name(mac), "52-54-00-ab-cd-01.ipxe");
        assert_eq!(pxelinux_cfg_name(mac), "01-52-54-00-ab-cd-01");
    }
}
