//! The command line of what logs in to nodes: ssh, exec, cp, and what tells others how to.

use std::ffi::OsString;
use std::path::PathBuf;

use clap::Args;

use crate::lab::LabName;

/// Whom to log in as, and with what.
#[derive(Args, Clone, Debug)]
pub struct LoginArgs {
    /// User to log in as [default: the image's]
    #[arg(short = 'l', long, value_name = "USER")]
    pub user: Option<String>,

    /// Private key to log in with [default: ssh's own choice]
    #[arg(short, long, value_name = "FILE")]
    pub identity: Option<PathBuf>,
}

/// `ssh`.
#[derive(Args, Debug)]
pub struct SshArgs {
    /// As whom.
    #[command(flatten)]
    pub login: LoginArgs,

    /// Name of the node, or of a lab for its first node
    #[arg(value_name = "NODE|LAB")]
    pub node: String,

    /// Command to run there instead of a shell
    #[arg(value_name = "COMMAND", trailing_var_arg = true, allow_hyphen_values = true)]
    pub command: Vec<OsString>,
}

/// `exec`.
#[derive(Args, Debug)]
pub struct ExecArgs {
    /// As whom.
    #[command(flatten)]
    pub login: LoginArgs,

    /// Names of nodes, or of labs for all of their nodes
    #[arg(value_name = "NODE|LAB", required = true)]
    pub names: Vec<String>,

    /// Command to run on each of them, after `--`
    #[arg(value_name = "COMMAND", last = true, required = true)]
    pub command: Vec<OsString>,
}

/// `cp`.
#[derive(Args, Debug)]
pub struct CpArgs {
    /// As whom.
    #[command(flatten)]
    pub login: LoginArgs,

    /// Copy folders with all that is in them
    #[arg(short, long)]
    pub recursive: bool,

    /// What to copy, and where to: PATH here, NODE:PATH there; LAB:PATH as the
    /// last one is on all nodes of the lab
    #[arg(value_name = "[NODE:]PATH", required = true, num_args = 2..)]
    pub paths: Vec<String>,
}

/// `ssh-config`.
#[derive(Args, Debug)]
pub struct SshConfigArgs {
    /// As whom.
    #[command(flatten)]
    pub login: LoginArgs,

    /// Names of nodes, or of labs for all of their nodes
    #[arg(value_name = "NODE|LAB", default_value = "lab", env = "VIRTLAB_LAB")]
    pub names: Vec<String>,
}

/// `inventory`.
#[derive(Args, Debug)]
pub struct InventoryArgs {
    /// As whom.
    #[command(flatten)]
    pub login: LoginArgs,

    /// All groups, hosts and their variables; this is what happens anyway
    #[arg(long, conflicts_with = "host")]
    pub list: bool,

    /// The variables of one node only
    #[arg(long, value_name = "NODE")]
    pub host: Option<String>,

    /// Names of the labs [default: all]
    #[arg(value_name = "LAB", conflicts_with = "host")]
    pub labs: Vec<LabName>,
}
