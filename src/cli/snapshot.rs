//! `virtlab snapshot`.

use clap::{Args, Subcommand};

use super::LockArgs;
use crate::lab::LabName;
use crate::lab::options::Span;
use crate::lab::snapshot::SnapshotName;

/// What to do with snapshots
#[derive(Clone, Debug, Subcommand)]
pub enum SnapshotCommand {
    /// Save the memory of all nodes of a lab at the same moment
    Save(SaveArgs),
    /// Throw away what the nodes do, and let them go on where they were
    Restore(RestoreArgs),
    /// List the snapshots of a lab
    #[command(visible_alias = "ls")]
    List(ListArgs),
    /// Remove snapshots of a lab
    Rm(RmArgs),
}

/// Arguments of `snapshot save`.
#[derive(Clone, Debug, Args)]
pub struct SaveArgs {
    /// Name of the lab
    #[arg(value_name = "LAB")]
    pub lab: LabName,

    /// Name of the snapshot [default: the next number]
    #[arg(value_name = "NAME")]
    pub name: Option<SnapshotName>,

    /// Print the steps and do nothing
    #[arg(long)]
    pub dry_run: bool,

    /// How long others may be waited for.
    #[command(flatten)]
    pub lock: LockArgs,
}

/// Arguments of `snapshot restore`.
#[derive(Clone, Debug, Args)]
pub struct RestoreArgs {
    /// Name of the lab
    #[arg(value_name = "LAB")]
    pub lab: LabName,

    /// Name of the snapshot [default: the newest one]
    #[arg(value_name = "SNAPSHOT")]
    pub name: Option<SnapshotName>,

    /// Print the steps and do nothing
    #[arg(long)]
    pub dry_run: bool,

    /// Do not wait until the lab is ready
    #[arg(long, env = "VIRTLAB_NO_WAIT", value_parser = clap::builder::FalseyValueParser::new())]
    pub no_wait: bool,

    /// How long to wait until the lab is ready
    #[arg(long, value_name = "TIME", default_value = "5m", env = "VIRTLAB_TIMEOUT")]
    pub timeout: Span,

    /// How long others may be waited for.
    #[command(flatten)]
    pub lock: LockArgs,
}

/// Arguments of `snapshot list`.
#[derive(Clone, Debug, Args)]
pub struct ListArgs {
    /// Name of the lab
    #[arg(value_name = "LAB", default_value = "lab", env = "VIRTLAB_LAB")]
    pub lab: LabName,
}

/// Arguments of `snapshot rm`.
#[derive(Clone, Debug, Args)]
pub struct RmArgs {
    /// Name of the lab
    #[arg(value_name = "LAB")]
    pub lab: LabName,

    /// Names of the snapshots
    #[arg(value_name = "SNAPSHOT", required_unless_present = "all")]
    pub names: Vec<SnapshotName>,

    /// All snapshots of the lab
    #[arg(long, conflicts_with = "names")]
    pub all: bool,

    /// Print the steps and do nothing
    #[arg(long)]
    pub dry_run: bool,

    /// How long others may be waited for.
    #[command(flatten)]
    pub lock: LockArgs,
}
