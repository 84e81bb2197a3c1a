//! How the nodes of a lab boot over the network, and which ways there are.
//!
//! Every combination that can work is allowed; one that cannot is refused here, with the reason,
//! because the firmware's own message would be a blank screen.

use std::fmt;
use std::ops::RangeInclusive;

use anyhow::{Result, bail};
use clap::ValueEnum;
use serde::{Deserialize, Serialize};

/// The ports that boot servers choose from. They are registered for nothing that is likely to run
/// beside libvirt, and few enough to open all of them in a firewall.
pub const BOOT_PORTS: RangeInclusive<u16> = 8470..=8869;

/// How the nodes boot over the network, with everything decided.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Boot {
    /// The program that loads the kernel.
    pub loader: Loader,
    /// What starts the loader.
    pub firmware: Firmware,
    /// How kernel, initrds and the nodes' boot scripts travel.
    pub transport: Transport,
    /// Whether the firmware can verify what it starts; UEFI only.
    pub secure_boot: bool,
    /// Whether iPXE's prompt is left to run out by itself.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub no_knock: bool,
}

/// The program that loads the kernel.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ValueEnum)]
#[serde(rename_all = "kebab-case")]
pub enum Loader {
    /// iPXE, which is QEMU's own network ROM
    #[default]
    Ipxe,
    /// The classic pxelinux.0
    Pxelinux,
}

/// What starts the loader.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ValueEnum)]
#[serde(rename_all = "kebab-case")]
pub enum Firmware {
    /// `SeaBIOS`
    #[default]
    Bios,
    /// OVMF
    Uefi,
}

/// How kernel, initrds and the nodes' boot scripts travel.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ValueEnum)]
#[serde(rename_all = "kebab-case")]
pub enum Transport {
    /// From the boot server, which then sees each stage
    #[default]
    Http,
    /// From the network's own TFTP server
    Tftp,
}

/// What was asked for.
#[derive(Clone, Copy, Debug, Default)]
pub struct BootChoice {
    /// `--loader`.
    pub loader: Option<Loader>,
    /// `--firmware`.
    pub firmware: Option<Firmware>,
    /// `--transport`.
    pub transport: Option<Transport>,
    /// `--secure-boot`.
    pub secure_boot: Option<bool>,
    /// `--no-knock`.
    pub no_knock: Option<bool>,
}

impl BootChoice {
    /// Decides what was left open: what is fast and works with what was named.
    ///
    /// # Errors
    /// If a combination cannot work; the message says why, and which flag to change.
    pub fn resolve(self) -> Result<Boot> {
        let loader = self.loader.unwrap_or_default();
        let firmware = self.firmware.unwrap_or_default();
        let secure_boot = self.secure_boot.unwrap_or_default();
        let transport = self.transport.unwrap_or(match loader {
            Loader::Ipxe => Transport::Http,
            Loader::Pxelinux => Transport::Tftp,
        });
        match (loader, firmware, transport) {
            (Loader::Pxelinux, Firmware::Uefi, _) => bail!(
                "--loader pxelinux does not go with --firmware uefi: pxelinux.0 is a program for BIOS; use --loader ipxe"
            ),
            (Loader::Pxelinux, _, Transport::Http) => bail!(
                "--loader pxelinux does not go with --transport http: pxelinux.0 speaks TFTP only; use --loader ipxe or --transport tftp"
            ),
            _ => {}
        }
        if secure_boot && firmware == Firmware::Bios {
            bail!("--secure-boot goes with --firmware uefi: a BIOS verifies nothing");
        }
        let no_knock = self.no_knock.unwrap_or_default();
        Ok(Boot { loader, firmware, transport, secure_boot, no_knock })
    }
}

impl Boot {
    /// Whether this is how labs boot unless somebody asks for something else.
    pub fn is_default(&self) -> bool {
        *self == Self::default()
    }
}

impl fmt::Display for Loader {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Ipxe => "ipxe",
            Self::Pxelinux => "pxelinux",
        })
    }
}

impl fmt::Display for Firmware {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Bios => "bios",
            Self::Uefi => "uefi",
        })
    }
}

impl fmt::Display for Transport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Http => "http",
            Self::Tftp => "tftp",
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn decide(words: &str) -> Result<Boot, String> {
        let mut choice = BootChoice::default();
        for word in words.split_whitespace() {
            match word {
                "secure" => choice.secure_boot = Some(true),
                "ipxe" | "pxelinux" => choice.loader = Loader::from_str(word, false).ok(),
                "bios" | "uefi" => choice.firmware = Firmware::from_str(word, false).ok(),
                _ => choice.transport = Some(Transport::from_str(word, false).unwrap()),
            }
        }
        choice.resolve().map_err(|error| error.to_string())
    }

    #[test]
    fn what_is_left_open_is_what_works() {
        assert_eq!(decide("").unwrap(), Boot::default());
        assert!(Boot::default().is_default());
        assert_eq!(decide("pxelinux").unwrap().transport, Transport::Tftp);
        assert_eq!(decide("uefi").unwrap().transport, Transport::Http);
        for words in ["bios tftp", "uefi tftp", "uefi http secure", "pxelinux tftp bios"] {
            assert!(decide(words).is_ok_and(|boot| !boot.is_default()), "{words}");
        }
    }

    #[test]
    fn what_cannot_work_is_refused_with_the_reason() {
        for (words, reason) in [
            ("pxelinux uefi", "pxelinux.0 is a program for BIOS; use --loader ipxe"),
            ("pxelinux http", "pxelinux.0 speaks TFTP only; use --loader ipxe or --transport tftp"),
            ("secure", "--secure-boot goes with --firmware uefi: a BIOS verifies nothing"),
        ] {
            let error = decide(words).unwrap_err();
            assert!(error.ends_with(reason), "{words}: {error}");
        }
    }
}
