//! The boot programs that distributions package: what is sent to firmware before a kernel. They are
//! used from where the packages put them, so that the distribution's updates reach the labs.

use std::path::{Path, PathBuf};

use anyhow::{Result, bail};

use crate::packages::Packages;

/// A boot program of the distribution's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Program {
    /// `pxelinux.0`, which BIOS starts.
    Pxelinux,
    /// `ldlinux.c32`, the part of pxelinux that is fetched by it.
    Ldlinux,
    /// `snponly.efi`, the iPXE that UEFI starts and that uses the firmware's own network driver.
    IpxeEfi,
    /// `undionly.kpxe`, the iPXE that other BIOS network cards start.
    IpxeBios,
    /// `efi-virtio.rom`, the iPXE that QEMU puts on the nodes' network cards, for BIOS and UEFI.
    CardRom,
}

impl Program {
    /// The name that firmware and loaders ask for.
    pub fn name(self) -> &'static str {
        match self {
            Self::Pxelinux => "pxelinux.0",
            Self::Ldlinux => "ldlinux.c32",
            Self::IpxeEfi => "snponly.efi",
            Self::IpxeBios => "undionly.kpxe",
            Self::CardRom => "efi-virtio.rom",
        }
    }

    /// Where it is on this computer.
    ///
    /// # Errors
    /// If it is nowhere; the message names the packages.
    pub fn find(self) -> Result<PathBuf> {
        self.find_below(Path::new("/"))
    }

    fn find_below(self, root: &Path) -> Result<PathBuf> {
        let Some(path) = self.find_in(root) else {
            let packages = self.packages();
            bail!("`{}` is not on this computer; it is in {packages}", self.name());
        };
        Ok(path)
    }

    /// Where it is below `root`, if it is there.
    pub fn find_in(self, root: &Path) -> Option<PathBuf> {
        let mut places = self.places().0.iter().map(|place| root.join(place));
        places.find(|path| path.is_file())
    }

    /// The packages that have it.
    pub fn packages(self) -> Packages {
        self.places().1
    }

    /// Where Debian and Ubuntu, Fedora, Arch and openSUSE have it.
    fn places(self) -> (&'static [&'static str], Packages) {
        match self {
            Self::Pxelinux => (
                &[
                    "usr/lib/PXELINUX/pxelinux.0",
                    "usr/share/syslinux/pxelinux.0",
                    "usr/lib/syslinux/bios/pxelinux.0",
                ],
                Packages {
                    debian: "pxelinux",
                    fedora: "syslinux-nonlinux",
                    arch: "syslinux",
                    suse: "syslinux",
                },
            ),
            Self::Ldlinux => (
                &[
                    "usr/lib/syslinux/modules/bios/ldlinux.c32",
                    "usr/share/syslinux/ldlinux.c32",
                    "usr/lib/syslinux/bios/ldlinux.c32",
                ],
                Packages {
                    debian: "syslinux-common",
                    fedora: "syslinux-nonlinux",
                    arch: "syslinux",
                    suse: "syslinux",
                },
            ),
            Self::IpxeEfi => (
                &[
                    "usr/lib/ipxe/snponly.efi",
                    "usr/share/ipxe/ipxe-snponly-x86_64.efi",
                    "usr/share/ipxe/x86_64/snponly.efi",
                    "usr/share/ipxe/snponly.efi",
                ],
                IPXE,
            ),
            Self::IpxeBios => (
                &[
                    "usr/lib/ipxe/undionly.kpxe",
                    "usr/share/ipxe/undionly.kpxe",
                    "usr/share/ipxe/x86_64/undionly.kpxe",
                ],
                IPXE,
            ),
            Self::CardRom => (
                &[
                    "usr/lib/ipxe/qemu/efi-virtio.rom",
                    "usr/share/qemu/efi-virtio.rom",
                    "usr/share/ipxe/qemu/efi-virtio.rom",
                    "usr/share/qemu-kvm/efi-virtio.rom",
                ],
                Packages {
                    debian: "ipxe-qemu",
                    fedora: "ipxe-roms-qemu",
                    arch: "qemu-system-x86-firmware",
                    suse: "qemu-ipxe",
                },
            ),
        }
    }
}

const IPXE: Packages =
    Packages { debian: "ipxe", fedora: "ipxe-bootimgs-x86", arch: "ipxe", suse: "ipxe-bootimgs" };

#[cfg(test)]
mod tests {
    use fs_err as fs;

    use super::*;

    #[test]
    fn a_program_is_found_where_any_distribution_has_it() {
        for program in [Program::Pxelinux, Program::Ldlinux, Program::IpxeEfi, Program::CardRom] {
            for place in program.places().0 {
                let root = tempfile::tempdir().unwrap();
                let path = root.path().join(place);
                fs::create_dir_all(path.parent().unwrap()).unwrap();
                fs::write(&path, "").unwrap();
                assert_eq!(program.find_below(root.path()).unwrap(), path);
            }
        }
    }

    #[test]
    fn a_program_that_is_missing_is_named_with_its_package() {
        let root = tempfile::tempdir().unwrap();
        assert_eq!(
            Program::IpxeEfi.find_below(root.path()).unwrap_err().to_string(),
            "`snponly.efi` is not on this computer; it is in package ipxe (Debian, Ubuntu, Arch), ipxe-bootimgs-x86 (Fedora) or ipxe-bootimgs (openSUSE)"
        );
    }
}
