//! What distributions call the packages that virtlab needs, and how one installs them.

use std::fmt;
use std::path::Path;

use fs_err as fs;

/// A family of distributions: what packages are called there, and who installs them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Distribution {
    /// Debian, Ubuntu and what comes from them.
    Debian,
    /// Fedora, RHEL and what comes from them.
    Fedora,
    /// Arch Linux.
    Arch,
    /// openSUSE and SLES.
    Suse,
}

impl Distribution {
    /// The one that runs here; `None` if it is another one.
    pub fn here() -> Option<Self> {
        let text = ["etc/os-release", "usr/lib/os-release"]
            .iter()
            .find_map(|path| fs::read_to_string(Path::new("/").join(path)).ok());
        Self::parse(&text?)
    }

    /// Reads os-release(5): `ID`, and `ID_LIKE` for what comes from another one.
    fn parse(text: &str) -> Option<Self> {
        let value = |key: &str| {
            let value = text.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix('='));
            value.unwrap_or_default().trim_matches(['"', '\''])
        };
        let mut names = value("ID").split(' ').chain(value("ID_LIKE").split(' '));
        names.find_map(|name| match name {
            "debian" | "ubuntu" => Some(Self::Debian),
            "fedora" | "rhel" | "centos" => Some(Self::Fedora),
            "arch" => Some(Self::Arch),
            "suse" | "opensuse" | "opensuse-tumbleweed" | "opensuse-leap" => Some(Self::Suse),
            _ => None,
        })
    }

    fn installer(self) -> &'static str {
        match self {
            Self::Debian => "apt-get install",
            Self::Fedora => "dnf install",
            Self::Arch => "pacman -S",
            Self::Suse => "zypper install",
        }
    }
}

/// What a package is called; several names where several packages are needed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Packages {
    /// Debian and Ubuntu.
    pub debian: &'static str,
    /// Fedora.
    pub fedora: &'static str,
    /// Arch.
    pub arch: &'static str,
    /// openSUSE.
    pub suse: &'static str,
}

impl Packages {
    /// The command that installs them; `None` on a distribution that we do not know.
    pub fn install_command(self, on: Option<Distribution>) -> Option<String> {
        let on = on?;
        Some(format!("sudo {} {}", on.installer(), self.on(on)))
    }

    fn on(self, distribution: Distribution) -> &'static str {
        match distribution {
            Distribution::Debian => self.debian,
            Distribution::Fedora => self.fedora,
            Distribution::Arch => self.arch,
            Distribution::Suse => self.suse,
        }
    }
}

/// `package ipxe (Debian, Ubuntu, Arch) or ipxe-bootimgs-x86 (Fedora)`
impl fmt::Display for Packages {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut groups: Vec<(&str, Vec<&str>)> = Vec::new();
        for (package, distribution) in [
            (self.debian, "Debian, Ubuntu"),
            (self.fedora, "Fedora"),
            (self.arch, "Arch"),
            (self.suse, "openSUSE"),
        ] {
            match groups.iter_mut().find(|(name, _)| *name == package) {
                Some((_, distributions)) => distributions.push(distribution),
                None => groups.push((package, vec![distribution])),
            }
        }
        f.write_str("package ")?;
        for (index, (package, distributions)) in groups.iter().enumerate() {
            let separator = match index {
                0 => "",
                last if last + 1 == groups.len() => " or ",
                _ => ", ",
            };
            write!(f, "{separator}{package} ({})", distributions.join(", "))?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_distribution_is_known_by_what_it_comes_from() {
        for (text, expected) in [
            ("ID=debian\nVERSION_ID=\"12\"\n", Some(Distribution::Debian)),
            ("ID=linuxmint\nID_LIKE=\"ubuntu debian\"\n", Some(Distribution::Debian)),
            ("ID=\"rocky\"\nID_LIKE=\"rhel centos fedora\"\n", Some(Distribution::Fedora)),
            ("ID=arch\n", Some(Distribution::Arch)),
            ("ID=\"opensuse-leap\"\nID_LIKE=\"suse opensuse\"\n", Some(Distribution::Suse)),
            ("ID=gentoo\n", None),
        ] {
            assert_eq!(Distribution::parse(text), expected, "{text}");
        }
    }

    #[test]
    fn packages_are_named_once_each_and_installed_by_the_distributions_own_means() {
        let packages = Packages {
            debian: "ovmf",
            fedora: "edk2-ovmf",
            arch: "edk2-ovmf",
            suse: "qemu-ovmf-x86_64",
        };
        assert_eq!(
            packages.to_string(),
            "package ovmf (Debian, Ubuntu), edk2-ovmf (Fedora, Arch) or qemu-ovmf-x86_64 (openSUSE)"
        );
        assert_eq!(
            packages.install_command(Some(Distribution::Arch)).unwrap(),
            "sudo pacman -S edk2-ovmf"
        );
        assert_eq!(packages.install_command(None), None);
    }
}
