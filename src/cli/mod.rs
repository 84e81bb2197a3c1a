//! The command line: types only. What they do is in [`crate::commands`].

mod deferred;
pub mod drill;
pub mod fault;
pub mod image;
pub mod ksm;
pub mod login;
pub mod looking;
pub mod memory;
pub mod power;
pub mod pxe;
pub mod snapshot;

use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

use clap::builder::PossibleValuesParser;
use clap::{Args, Parser, Subcommand};
use clap_complete::env::Shells;

pub use self::deferred::Deferred;
use self::drill::DrillArgs;
use self::fault::{FaultCommand, HealArgs};
use self::image::ImageCommand;
use self::ksm::KsmCommand;
use self::login::{CpArgs, ExecArgs, InventoryArgs, SshArgs, SshConfigArgs};
use self::looking::{ConsoleArgs, EventsArgs, ExplainArgs, LogsArgs, OpenArgs, TimelineArgs};
use self::memory::MemoryArgs;
use self::power::{PowerArgs, RestartArgs, StartArgs, StopArgs, WaitArgs};
use self::pxe::PxeCommand;
use self::snapshot::SnapshotCommand;
use uuid::Uuid;

use crate::images::PinChoice;
use crate::lab::LabName;
use crate::lab::options::{LabOptions, Span, node_count};
use crate::output::Format;

/// Local clusters of network-booted virtual machines, through libvirt.
#[derive(Debug, Parser)]
#[command(name = "virtlab", version, max_term_width = 80, after_help = EXAMPLES)]
pub struct Cli {
    /// Flags that every command takes.
    #[command(flatten)]
    pub global: Global,

    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// Flags that every command takes.
#[derive(Args, Clone, Debug)]
#[command(next_help_heading = "Global")]
pub struct Global {
    /// The libvirt connection.
    #[arg(
        short,
        long,
        global = true,
        value_name = "URI",
        env = "LIBVIRT_DEFAULT_URI",
        help = "libvirt connection [default: qemu:///system]"
    )]
    pub connect: Option<String>,

    /// How listings are printed
    #[arg(
        short,
        long,
        global = true,
        value_enum,
        default_value_t,
        hide_possible_values = true,
        value_name = "table|json|yaml|name",
        env = "VIRTLAB_OUTPUT"
    )]
    pub output: Format,

    /// Folder of templates and images that take the place of virtlab's own
    #[arg(long, global = true, value_name = "DIR", env = "VIRTLAB_TEMPLATE_DIR")]
    pub template_dir: Option<PathBuf>,

    /// Say more; twice: everything
    #[arg(short, long, global = true, action = clap::ArgAction::Count)]
    pub verbose: u8,

    /// Say nothing but results, warnings and errors
    #[arg(short, long, global = true, env = "VIRTLAB_QUIET", value_parser = clap::builder::FalseyValueParser::new())]
    pub quiet: bool,
}

/// What to do.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Make a lab, or complete one that is half made
    Create(Deferred<CreateArgs>),

    /// Give a lab another number of nodes while it runs
    Scale(Deferred<ScaleArgs>),

    /// List the labs
    #[command(visible_alias = "ls")]
    List,

    /// Show how far the nodes of a lab are
    Status(Deferred<StatusArgs>),

    /// Wait until nodes are ready, or off
    Wait(Deferred<WaitArgs>),

    /// Start nodes that are off, and whatever they need
    Start(Deferred<StartArgs>),

    /// Shut nodes down; they stay off until they are started
    Stop(Deferred<StopArgs>),

    /// Shut nodes down and start them again
    Restart(Deferred<RestartArgs>),

    /// Stop the processors of nodes that run; they stay so until they are resumed
    Pause(Deferred<PowerArgs>),

    /// Let nodes that are paused run
    Resume(Deferred<PowerArgs>),

    /// Break nodes on purpose, to see what their cluster makes of it
    #[command(subcommand)]
    Fault(Deferred<FaultCommand>),

    /// Take the faults of nodes away
    Heal(Deferred<HealArgs>),

    /// Break nodes one after the other as a file says, and tell what their cluster made of it
    Drill(Deferred<DrillArgs>),

    /// Save all nodes of a lab at one moment, and bring them back to it
    #[command(subcommand)]
    Snapshot(Deferred<SnapshotCommand>),

    /// Compare what a lab should be with what libvirt has of it
    Diff(Deferred<DiffArgs>),

    /// Show everything that a node is given, and where it comes from
    Explain(Deferred<ExplainArgs>),

    /// Check a lab's etcd cluster: registrations, members, leader, data
    Verify(Deferred<ClusterArgs>),

    /// Log in to a node, or run a command on it
    Ssh(Deferred<SshArgs>),

    /// Run a command on many nodes at the same time
    Exec(Deferred<ExecArgs>),

    /// Copy files to and from nodes
    Cp(Deferred<CpArgs>),

    /// Print ssh's configuration for nodes, for `ssh -F`
    SshConfig(Deferred<SshConfigArgs>),

    /// Print the labs as a dynamic inventory of Ansible
    Inventory(Deferred<InventoryArgs>),

    /// Open the page that shows a lab live, in a browser
    Open(OpenArgs),

    /// Print what is known of a lab, and each change as it happens
    Events(Deferred<EventsArgs>),

    /// Draw the last boot of each node, stage by stage
    Timeline(Deferred<TimelineArgs>),

    /// Show what nodes write to their serial consoles
    Logs(Deferred<LogsArgs>),

    /// Talk with a node by its serial console
    Console(Deferred<ConsoleArgs>),

    /// Say whether a lab comes back when the host was switched off and on
    Autostart(Deferred<AutostartArgs>),

    /// Remove a lab and everything that belongs to it
    #[command(visible_aliases = ["delete", "rm"])]
    Destroy(Deferred<DestroyArgs>),

    /// Check whether this host is fit for labs, and name what mends it
    Doctor,

    /// Print what create would give to libvirt and to the nodes
    Render(Deferred<RenderArgs>),

    /// Run a lab's boot server in the foreground
    Serve(Deferred<ServeArgs>),

    /// Boot labs by DHCP and TFTP servers that are not virtlab's
    #[command(subcommand)]
    Pxe(Deferred<PxeCommand>),

    /// Get, verify and remove images
    #[command(subcommand)]
    Image(Deferred<ImageCommand>),

    /// Read and switch kernel samepage merging of this host
    #[command(subcommand)]
    Ksm(Deferred<KsmCommand>),

    /// Show how much memory a lab takes, and what merging saves
    Memory(Deferred<MemoryArgs>),

    /// Print a script that completes virtlab's commands in a shell
    Completions(Deferred<CompletionsArgs>),

    /// Print the versions of virtlab and libvirt
    Version,
}

impl Command {
    /// The exit status if it fails. That of `diff` is as that of diff(1), where 1 says that there are differences.
    pub fn failed(&self) -> u8 {
        match self {
            Self::Diff(_) => 2,
            _ => 1,
        }
    }
}

/// `diff`.
#[derive(Args, Debug)]
#[command(
    after_help = "Exit status: 0 if they are the same, 1 if they differ, 2 if that could not be told."
)]
pub struct DiffArgs {
    /// Name of the lab
    #[arg(value_name = "LAB", default_value = "lab", env = "VIRTLAB_LAB")]
    pub lab: LabName,
}

/// `serve`.
#[derive(Args, Debug)]
pub struct ServeArgs {
    /// Name of the lab, or LAB.UUID as its folder of configs is called
    #[arg(value_name = "LAB", default_value = "lab", env = "VIRTLAB_LAB")]
    pub lab: ServedLab,

    /// Which one, where labs at several connections are called so
    #[arg(long, value_name = "UUID")]
    pub uuid: Option<Uuid>,
}

/// A lab by its name, or by the name of its folder.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServedLab {
    /// The lab's name.
    pub name: LabName,
    /// The lab's UUID, behind the dot of its folder's name.
    pub uuid: Option<Uuid>,
}

impl FromStr for ServedLab {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let Some((name, uuid)) = text.split_once('.') else {
            return Ok(Self { name: text.parse()?, uuid: None });
        };
        let uuid = uuid.parse().map_err(|error| format!("`{uuid}` is no UUID: {error}"))?;
        Ok(Self { name: name.parse()?, uuid: Some(uuid) })
    }
}

/// `autostart`.
#[derive(Args, Debug)]
pub struct AutostartArgs {
    /// Name of the lab
    #[arg(value_name = "LAB")]
    pub lab: LabName,

    /// Whether it comes back: on or off
    #[arg(value_enum, value_name = "on|off", hide_possible_values = true)]
    pub autostart: Switch,

    /// Print the steps and do nothing
    #[arg(long)]
    pub dry_run: bool,

    /// How long others may be waited for.
    #[command(flatten)]
    pub lock: LockArgs,
}

/// Yes or no.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Switch {
    /// Yes
    On,
    /// No
    Off,
}

impl Switch {
    /// Whether it is `on`.
    pub fn is_on(self) -> bool {
        self == Self::On
    }
}

/// `status` and `verify`.
#[derive(Args, Debug)]
pub struct ClusterArgs {
    /// Name of the lab
    #[arg(value_name = "LAB", default_value = "lab", env = "VIRTLAB_LAB")]
    pub lab: LabName,

    /// Port on which etcd listens for clients
    #[arg(long, value_name = "PORT", default_value_t = 2379, env = "VIRTLAB_CLIENT_PORT")]
    pub client_port: u16,
}

/// `status`.
#[derive(Args, Debug)]
pub struct StatusArgs {
    /// Which lab, and its etcd
    #[command(flatten)]
    pub cluster: ClusterArgs,

    /// Show the table live, as the boot server knows it; q leaves
    #[arg(short, long)]
    pub watch: bool,
}

/// `create`.
#[derive(Args, Debug)]
#[command(next_help_heading = "Run")]
pub struct CreateArgs {
    /// Lab file; flags win over what it says
    #[arg(short, long, value_name = "FILE", env = "VIRTLAB_FILE", help_heading = None, display_order = 900)]
    pub file: Option<PathBuf>,

    /// Print the steps and do nothing
    #[arg(long)]
    pub dry_run: bool,

    /// Destroy a lab of this name first
    #[arg(long)]
    pub recreate: bool,

    /// Leave what was made when something goes wrong
    #[arg(long)]
    pub keep_on_failure: bool,

    /// Make the lab even if the host has too little memory for it
    #[arg(long, env = "VIRTLAB_OVERCOMMIT", value_parser = clap::builder::FalseyValueParser::new())]
    pub overcommit: bool,

    /// Do not wait until the lab is ready
    #[arg(long, env = "VIRTLAB_NO_WAIT", value_parser = clap::builder::FalseyValueParser::new())]
    pub no_wait: bool,

    /// How long to wait until the lab is ready
    #[arg(long, value_name = "TIME", default_value = "5m", env = "VIRTLAB_TIMEOUT")]
    pub timeout: Span,

    /// How long others may be waited for.
    #[command(flatten)]
    pub lock: LockArgs,

    /// Which version of the image.
    #[command(flatten)]
    pub pin: PinChoice,

    /// What the lab should be like.
    #[command(flatten)]
    pub lab: LabOptions,
}

/// `scale`.
#[derive(Args, Debug)]
pub struct ScaleArgs {
    /// Name of the lab
    #[arg(value_name = "LAB")]
    pub lab: LabName,

    /// Number of nodes
    #[arg(value_name = "N", value_parser = node_count)]
    pub nodes: u32,

    /// Print the steps and do nothing
    #[arg(long)]
    pub dry_run: bool,

    /// Add nodes even if the host has too little memory for them
    #[arg(long, env = "VIRTLAB_OVERCOMMIT", value_parser = clap::builder::FalseyValueParser::new())]
    pub overcommit: bool,

    /// How long a node that goes may take to shut down before it loses its power
    #[arg(long, value_name = "TIME", default_value = "60s")]
    pub stop_timeout: Span,

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

/// `destroy`.
#[derive(Args, Debug)]
pub struct DestroyArgs {
    /// Names of the labs
    #[arg(value_name = "LAB", default_value = "lab", env = "VIRTLAB_LAB")]
    pub labs: Vec<LabName>,

    /// All labs
    #[arg(long, conflicts_with = "labs")]
    pub all: bool,

    /// Print the steps and do nothing
    #[arg(long)]
    pub dry_run: bool,

    /// How long others may be waited for.
    #[command(flatten)]
    pub lock: LockArgs,
}

/// What changes a lab.
#[derive(Args, Clone, Debug)]
pub struct LockArgs {
    /// How long to wait for another virtlab that works on the lab [default: until it is done]
    #[arg(long, value_name = "TIME", env = "VIRTLAB_WAIT_LOCK")]
    pub wait_lock: Option<Span>,
}

impl LockArgs {
    /// `None`: as long as it takes.
    pub fn patience(&self) -> Option<Duration> {
        self.wait_lock.map(Into::into)
    }
}

/// `render`.
#[derive(Args, Debug)]
pub struct RenderArgs {
    /// Lab file; flags win over what it says
    #[arg(short, long, value_name = "FILE", env = "VIRTLAB_FILE")]
    pub file: Option<PathBuf>,

    /// Which of the texts
    #[arg(long, value_enum, value_name = "PART")]
    pub part: Option<RenderPart>,

    /// Which node, by its index
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..))]
    pub node: u32,

    /// What the lab should be like.
    #[command(flatten)]
    pub lab: LabOptions,
}

/// The texts that `render` prints.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum RenderPart {
    /// The node's domain XML
    Domain,
    /// The network XML
    Network,
    /// The scripts of the network boot
    Boot,
    /// The node's config
    Config,
}

/// `completions`.
#[derive(Args, Debug)]
pub struct CompletionsArgs {
    /// The shell
    #[arg(value_name = "SHELL", value_parser = shells())]
    pub shell: String,
}

/// The shells that there are completion scripts for.
fn shells() -> PossibleValuesParser {
    Shells::builtins().names().collect::<Vec<_>>().into()
}

const EXAMPLES: &str = "\
Examples:
  virtlab create                   three small nodes that form an etcd cluster
  virtlab create demo --nodes 5    five of them, in a lab called demo
  virtlab create -f lab.toml       what a file says
  virtlab status demo              how far each node is
  virtlab destroy demo             as if it had never been";

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn the_command_line_is_well_formed_and_every_argument_has_help() {
        let mut command = Cli::command();
        command.build();
        command.clone().debug_assert();
        let mut commands = vec![command];
        while let Some(command) = commands.pop() {
            for argument in command.get_arguments() {
                assert!(
                    argument.get_help().is_some(),
                    "{} {}",
                    command.get_name(),
                    argument.get_id()
                );
            }
            commands.extend(command.get_subcommands().cloned());
        }
    }

    #[test]
    fn help_fits_into_80_columns() {
        let mut commands = vec![Cli::command()];
        while let Some(mut command) = commands.pop() {
            for line in command.render_long_help().to_string().lines() {
                assert!(line.chars().count() <= 80, "{}: {line}", command.get_name());
            }
            commands.extend(command.get_subcommands().cloned());
        }
    }
}
