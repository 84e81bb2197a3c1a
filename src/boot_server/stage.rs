//! The stages of a boot.

use serde::{Deserialize, Serialize};

/// The stages of a boot in the order in which they come.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Stage {
    /// The domain was let run.
    PowerOn,
    /// Its iPXE asked for its script.
    Script,
    /// The kernel was fetched.
    Kernel,
    /// The initial RAM disks were fetched.
    Initrd,
    /// What the initrd fetches beyond that: a root file system.
    Rootfs,
    /// The config was fetched.
    Config,
    /// The image's own criterion of being ready was met.
    Ready,
}

impl Stage {
    /// All stages in order.
    pub const ALL: [Self; 7] = [
        Self::PowerOn,
        Self::Script,
        Self::Kernel,
        Self::Initrd,
        Self::Rootfs,
        Self::Config,
        Self::Ready,
    ];

    /// The word for tables and events.
    pub fn name(self) -> &'static str {
        match self {
            Self::PowerOn => "power-on",
            Self::Script => "script",
            Self::Kernel => "kernel",
            Self::Initrd => "initrd",
            Self::Rootfs => "rootfs",
            Self::Config => "config",
            Self::Ready => "ready",
        }
    }
}
