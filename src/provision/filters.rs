//! Whether nodes can be kept apart: found out before anything is changed.

use std::path::Path;

use anyhow::{Result, bail};

use crate::error::hinted;
use crate::hypervisor::{Found, Hypervisor};
use crate::packages::{Distribution, Packages};

/// # Errors
/// If libvirt has no network filters, if the host lacks what they are made of, or if a card of these nodes has another filter.
pub(super) fn refuse_impossible(
    hypervisor: &Hypervisor,
    found: &Found,
    nodes: &[u32],
) -> Result<()> {
    if !hypervisor.has_filters()? {
        return Err(hinted(
            format!(
                "libvirt at `{}` has no network filters to keep nodes apart",
                hypervisor.uri()?
            ),
            "`-c qemu:///system` has; `virtlab fault cut` needs none",
        ));
    }
    if hypervisor.is_local()? && !has_ebtables(Path::new("/")) {
        let command = PACKAGES.install_command(Distribution::here());
        let from = command.map_or_else(|| PACKAGES.to_string(), |command| format!("`{command}`"));
        return Err(hinted(
            "libvirt keeps nodes apart by `ebtables`, which this host lacks",
            format!("{from} brings it; `virtlab fault cut` needs none"),
        ));
    }
    let others = hypervisor.filtered_otherwise(&found.lab, nodes)?;
    if let Some(index) = others.first() {
        bail!(
            "a network card of node `{}` has a filter of its own, and can have no other",
            found.lab.name.node(*index)
        );
    }
    Ok(())
}

fn has_ebtables(root: &Path) -> bool {
    EBTABLES.iter().any(|path| root.join(path).exists())
}

const EBTABLES: [&str; 3] = ["usr/sbin/ebtables", "sbin/ebtables", "usr/bin/ebtables"];
const PACKAGES: Packages =
    Packages { debian: "iptables", fedora: "iptables-nft", arch: "iptables-nft", suse: "ebtables" };

#[cfg(test)]
mod tests {
    use fs_err as fs;

    use super::*;

    #[test]
    fn ebtables_is_found_where_distributions_have_it() {
        for path in EBTABLES {
            let root = tempfile::tempdir().unwrap();
            assert!(!has_ebtables(root.path()));
            let file = root.path().join(path);
            fs::create_dir_all(file.parent().unwrap()).unwrap();
            fs::write(file, "").unwrap();
            assert!(has_ebtables(root.path()), "{path}");
        }
    }
}
