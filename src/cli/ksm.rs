//! `virtlab ksm`.

use clap::{Args, Subcommand};

/// What to do with KSM.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Subcommand)]
pub enum KsmCommand {
    /// Show whether pages are merged, and what it saves
    Status,
    /// Merge identical pages, until `off` or a reboot
    On(OnArgs),
    /// Stop merging; pages that are merged stay so until they change
    Off(OffArgs),
}

/// How fast to merge: faster finds more sooner and takes more CPU.
#[derive(Args, Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct OnArgs {
    /// Pages to look at before each pause [kernel's default: 100]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    pub pages_to_scan: Option<u32>,
    /// Length of the pause in milliseconds [kernel's default: 20]
    #[arg(long, value_name = "N")]
    pub sleep_millisecs: Option<u32>,
}

/// How to stop.
#[derive(Args, Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct OffArgs {
    /// Give every process its own pages back, which takes the memory that was saved
    #[arg(long)]
    pub unmerge: bool,
}
