//! The boot loaders, as distributions ship them.

use std::path::Path;

use anyhow::Context as _;
use anyhow::Result;
use fs_err as fs;

use crate::hint::hinted;

/// Copies every boot loader into the TFTP folder `target`.
pub(super) fn copy_all(target: &Path) -> Result<()> {
    for loader in &LOADERS {
        let source = loader.paths.iter().map(Path::new).find(|path| path.exists());
        let Some(source) = source else {
            return Err(hinted(
                format!("boot loader `{}` is not installed", loader.name),
                format!("`sudo apt install {}` does that on Debian and Ubuntu", loader.package),
            ));
        };
        fs::copy(source, target.join(loader.name)).context("copying the boot loaders")?;
    }
    Ok(())
}

struct Loader {
    name: &'static str,
    package: &'static str,
    /// On Debian, Fedora and Arch.
    paths: [&'static str; 3],
}

const LOADERS: [Loader; 4] = [
    Loader {
        name: "pxelinux.0",
        package: "pxelinux",
        paths: [
            "/usr/lib/PXELINUX/pxelinux.0",
            "/usr/share/syslinux/pxelinux.0",
            "/usr/lib/syslinux/bios/pxelinux.0",
        ],
    },
    Loader {
        name: "ldlinux.c32",
        package: "syslinux-common",
        paths: [
            "/usr/lib/syslinux/modules/bios/ldlinux.c32",
            "/usr/share/syslinux/ldlinux.c32",
            "/usr/lib/syslinux/bios/ldlinux.c32",
        ],
    },
    Loader {
        name: "snponly.efi",
        package: "ipxe",
        paths: [
            "/usr/lib/ipxe/snponly.efi",
            "/usr/share/ipxe/ipxe-snponly-x86_64.efi",
            "/usr/share/ipxe/x86_64/snponly.efi",
        ],
    },
    Loader {
        name: "undionly.kpxe",
        package: "ipxe",
        paths: [
            "/usr/lib/ipxe/undionly.kpxe",
            "/usr/share/ipxe/undionly.kpxe",
            "/usr/share/ipxe/x86_64/undionly.kpxe",
        ],
    },
];
