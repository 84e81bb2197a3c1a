//! `virtlab memory`.

use std::path::PathBuf;

use clap::{Args, Subcommand};

use crate::lab::LabName;
use crate::lab::options::{Span, VirtTypeChoice};
use crate::lab::size::MemoryMib;

/// `memory`: of a lab, or a curve that makes its own lab.
#[derive(Args, Debug)]
#[command(args_conflicts_with_subcommands = true, after_help = LAB_CALLED_CURVE)]
pub struct MemoryArgs {
    /// What to do instead of showing a lab.
    #[command(subcommand)]
    pub command: Option<MemoryCommand>,
    /// Which lab to show and how.
    #[command(flatten)]
    pub show: ShowArgs,
}

/// What `memory` does beside showing a lab.
#[derive(Debug, Subcommand)]
pub enum MemoryCommand {
    /// Grow a lab node by node, measure it, draw it, and destroy it
    Curve(CurveArgs),
}

/// `memory LAB`.
#[derive(Args, Debug)]
pub struct ShowArgs {
    /// Name of the lab
    #[arg(value_name = "LAB", default_value = "lab", env = "VIRTLAB_LAB")]
    pub lab: LabName,
    /// Show it again and again until Ctrl-C
    #[arg(short, long)]
    pub watch: bool,
    /// Draw memory against the number of nodes, as far as it was seen
    #[arg(long, value_name = "FILE")]
    pub svg: Option<PathBuf>,
    /// Add a line for the nodes that run now; lines for other numbers of nodes stay
    #[arg(long, value_name = "FILE")]
    pub csv: Option<PathBuf>,
}

/// `memory curve`.
#[derive(Args, Debug)]
pub struct CurveArgs {
    /// Number of nodes to end with
    #[arg(short = 'n', long, value_name = "N", default_value_t = 8, value_parser = clap::value_parser!(u32).range(1..=1000))]
    pub max_nodes: u32,
    /// Name of the lab that is made for it
    #[arg(long, value_name = "LAB", default_value = "memory-curve")]
    pub name: LabName,
    /// Memory of each node [default: 1024MiB]
    #[arg(short, long, value_name = "SIZE")]
    pub memory: Option<MemoryMib>,
    /// Processor cores of each node [default: 1]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=255))]
    pub vcpus: Option<u32>,
    /// What to boot: a name of the catalogue or a TOML file [default: micro]
    #[arg(long, value_name = "IMAGE")]
    pub image: Option<String>,
    /// Template of the nodes' config [default: the image's own]
    #[arg(long, value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// Hardware virtualisation or emulation [default: auto]
    #[arg(long, value_name = "TYPE")]
    pub virt_type: Option<VirtTypeChoice>,
    /// How long to wait for each node to come up
    #[arg(long, value_name = "TIME", default_value = "5m")]
    pub timeout: Span,
    /// Draw memory against the number of nodes
    #[arg(long, value_name = "FILE")]
    pub svg: Option<PathBuf>,
    /// Keep the numbers
    #[arg(long, value_name = "FILE")]
    pub csv: Option<PathBuf>,
}

const LAB_CALLED_CURVE: &str = "A lab that is called curve: virtlab memory -- curve";
