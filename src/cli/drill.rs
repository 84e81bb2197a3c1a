//! `virtlab drill`.

use std::path::PathBuf;

use clap::Args;

use super::LockArgs;
use crate::images::Readiness;
use crate::lab::LabName;
use crate::lab::options::Span;

/// Arguments of `drill`.
#[derive(Args, Debug)]
pub struct DrillArgs {
    /// The faults and their times, as TOML
    #[arg(value_name = "FILE")]
    pub file: PathBuf,

    /// Name of the lab, in the place of the one that the file names
    #[arg(value_name = "LAB")]
    pub lab: Option<LabName>,

    /// Draw nodes for `one`, `follower`, `minority` and `majority` by this number: the
    /// same one draws the same nodes [default: the file's, or another one each time]
    #[arg(long, value_name = "N")]
    pub seed: Option<u64>,

    /// Ask each node for this instead of its etcd: tcp:PORT or http://:PORT/PATH [default:
    /// the file's]
    #[arg(long, value_name = "PROBE", value_parser = super::fault::probe)]
    pub probe: Option<Readiness>,

    /// How soon after the last heal etcd has to be healthy again [default: the file's, or 2m]
    #[arg(long, value_name = "TIME")]
    pub within: Option<Span>,

    /// Draw it into this file as well, as SVG: writes, elections, while what was broken
    #[arg(long, value_name = "FILE")]
    pub svg: Option<PathBuf>,

    /// Print the faults and their times, and do nothing
    #[arg(long)]
    pub dry_run: bool,

    /// How long others may be waited for.
    #[command(flatten)]
    pub lock: LockArgs,
}
