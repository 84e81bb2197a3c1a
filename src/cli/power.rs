//! The command line of the power of labs and nodes, and of waiting for them.

use clap::Args;

use super::LockArgs;
use crate::lab::options::Span;

/// What all power verbs take.
#[derive(Args, Debug)]
pub struct PowerArgs {
    /// Names of nodes, or of labs for all of their nodes
    #[arg(value_name = "NODE|LAB", default_value = "lab", env = "VIRTLAB_LAB")]
    pub names: Vec<String>,

    /// Print the steps and do nothing
    #[arg(long)]
    pub dry_run: bool,

    /// How long others may be waited for.
    #[command(flatten)]
    pub lock: LockArgs,
}

/// How nodes that are started are waited for.
#[derive(Args, Debug)]
pub struct ReadyArgs {
    /// Do not wait until the nodes are ready
    #[arg(long, env = "VIRTLAB_NO_WAIT", value_parser = clap::builder::FalseyValueParser::new())]
    pub no_wait: bool,

    /// How long to wait until the nodes are ready
    #[arg(long, value_name = "TIME", default_value = "5m", env = "VIRTLAB_TIMEOUT")]
    pub timeout: Span,

    /// Start the nodes even if the host has too little memory for them
    #[arg(long, env = "VIRTLAB_OVERCOMMIT", value_parser = clap::builder::FalseyValueParser::new())]
    pub overcommit: bool,
}

/// `start`.
#[derive(Args, Debug)]
pub struct StartArgs {
    /// Which nodes.
    #[command(flatten)]
    pub power: PowerArgs,

    /// How they are waited for.
    #[command(flatten)]
    pub ready: ReadyArgs,
}

/// `stop`.
#[derive(Args, Debug)]
pub struct StopArgs {
    /// Which nodes.
    #[command(flatten)]
    pub power: PowerArgs,

    /// Take the nodes' power at once, without a shutdown
    #[arg(long, conflicts_with_all = ["timeout", "no_wait"])]
    pub force: bool,

    /// How long a node may take to shut down before it loses its power
    #[arg(long, value_name = "TIME", default_value = "60s")]
    pub timeout: Span,

    /// Ask the nodes to shut down, and leave those alone that do not
    #[arg(long, conflicts_with = "timeout")]
    pub no_wait: bool,
}

/// `restart`.
#[derive(Args, Debug)]
pub struct RestartArgs {
    /// Which nodes.
    #[command(flatten)]
    pub power: PowerArgs,

    /// Take the nodes' power at once, without a shutdown
    #[arg(long, conflicts_with = "stop_timeout")]
    pub force: bool,

    /// How long a node may take to shut down before it loses its power
    #[arg(long, value_name = "TIME", default_value = "60s")]
    pub stop_timeout: Span,

    /// How they are waited for.
    #[command(flatten)]
    pub ready: ReadyArgs,
}

/// `wait`.
#[derive(Args, Debug)]
pub struct WaitArgs {
    /// Names of nodes, or of labs for all of their nodes
    #[arg(value_name = "NODE|LAB", default_value = "lab", env = "VIRTLAB_LAB")]
    pub names: Vec<String>,

    /// For what: ready as the image means it, a config that was fetched, an
    /// sshd that answers, a healthy etcd, or no power
    #[arg(
        long = "for",
        value_enum,
        default_value_t,
        hide_possible_values = true,
        value_name = "ready|config|ssh|etcd|off"
    )]
    pub condition: Condition,

    /// How long to wait
    #[arg(long, value_name = "TIME", default_value = "5m", env = "VIRTLAB_TIMEOUT")]
    pub timeout: Span,
}

/// What nodes are waited for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub enum Condition {
    /// They are ready as their image means it
    #[default]
    Ready,
    /// They have fetched their config
    Config,
    /// Their sshd answers
    Ssh,
    /// Their etcd is healthy
    Etcd,
    /// They are off
    Off,
}
