//! The command line of what looks into labs and nodes: page, events, timeline, logs, console.

use std::path::PathBuf;

use clap::Args;

use crate::lab::LabName;

/// `open`.
#[derive(Args, Debug)]
pub struct OpenArgs {
    /// Name of the lab [default: all labs]
    #[arg(value_name = "LAB", env = "VIRTLAB_LAB")]
    pub lab: Option<LabName>,

    /// Only print the URL
    #[arg(long, visible_alias = "no-browser")]
    pub print: bool,
}

/// `events`.
#[derive(Args, Debug)]
pub struct EventsArgs {
    /// Name of the lab
    #[arg(value_name = "LAB", default_value = "lab", env = "VIRTLAB_LAB")]
    pub lab: LabName,

    /// Go on with each change, until Ctrl-C or the end of the lab
    #[arg(short, long)]
    pub follow: bool,
}

/// `timeline`.
#[derive(Args, Debug)]
pub struct TimelineArgs {
    /// Name of the lab
    #[arg(value_name = "LAB", default_value = "lab", env = "VIRTLAB_LAB")]
    pub lab: LabName,

    /// Show the boots of this lab below, in the same seconds; may be given more than once
    #[arg(long, value_name = "LAB")]
    pub beside: Vec<LabName>,

    /// Draw it into this file as well, as SVG
    #[arg(long, value_name = "FILE")]
    pub svg: Option<PathBuf>,
}

/// `logs`.
#[derive(Args, Debug)]
pub struct LogsArgs {
    /// Names of nodes, or of labs for all of their nodes
    #[arg(value_name = "NODE|LAB", required = true)]
    pub names: Vec<String>,

    /// Go on with what they write, until Ctrl-C
    #[arg(short, long)]
    pub follow: bool,

    /// Where to begin: `boot` is the last start of the firmware [default: the
    /// last power-on]
    #[arg(long, value_enum, hide_possible_values = true, value_name = "boot")]
    pub since: Option<Since>,
}

/// Where a log begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Since {
    /// The last start of the firmware, by a power-on, a reset or a reboot
    Boot,
}

/// `console`.
#[derive(Args, Debug)]
pub struct ConsoleArgs {
    /// Name of the node, or of a lab for its first node
    #[arg(value_name = "NODE|LAB")]
    pub node: String,

    /// Take the console from somebody who has it
    #[arg(long)]
    pub force: bool,
}

/// `explain`.
#[derive(Args, Debug)]
pub struct ExplainArgs {
    /// Name of the node, or of a lab for its first node
    #[arg(value_name = "NODE|LAB")]
    pub node: String,

    /// Show passwords, tokens and private keys too
    #[arg(long)]
    pub show_secrets: bool,
}
