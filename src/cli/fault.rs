//! `virtlab fault` and `virtlab heal`.

use std::num::NonZeroU32;
use std::path::PathBuf;

use clap::{Args, Command, FromArgMatches, Subcommand};

use super::LockArgs;
use crate::images::Readiness;
use crate::lab::LabName;
use crate::lab::fault::{BitRate, Bytes, ClockOffset, CpuShare, DiskPace, Lateness, Percent, Turn};
use crate::lab::options::Span;
use crate::lab::size::MemoryMib;

/// What to do to nodes
#[derive(Clone, Debug, Subcommand)]
pub enum FaultCommand {
    /// Take the link of nodes' network cards away, as if somebody pulled the cable
    Cut(CutArgs),
    /// Keep groups of nodes apart: those of different groups do not hear each other
    Partition(PartitionArgs),
    /// Keep nodes apart from all other nodes of their lab
    Isolate(LastingArgs),
    /// Stop nodes' processors until they are healed
    Pause(LastingArgs),
    /// Take nodes' power away at once, until they are healed
    Kill(LastingArgs),
    /// Leave nodes a share of their processors' time
    Starve(StarveArgs),
    /// Take memory away from nodes, by their balloons
    Squeeze(SqueezeArgs),
    /// Slow nodes' disks down
    SlowDisk(SlowDiskArgs),
    /// Set nodes' clocks to another time, from their next power-on
    Clock(ClockArgs),
    /// Let packets reach nodes late
    Delay(DelayArgs),
    /// Lose some of the packets to nodes and from them
    Loss(ShareArgs),
    /// Turn a bit round in some of the packets to nodes
    Corrupt(ShareArgs),
    /// Let some packets reach nodes twice
    Duplicate(ShareArgs),
    /// Let some packets reach nodes before others that were sent earlier
    Reorder(ShareArgs),
    /// Let no more than so many bits reach nodes in a second
    Rate(RateArgs),
    /// Press nodes' reset button: they boot anew, and nothing has to be healed
    Reset(FaultArgs),
    /// List the faults of nodes
    #[command(visible_alias = "ls")]
    List(FaultListArgs),
}

impl FaultCommand {
    /// The one that these words are, as they stand after `virtlab fault`.
    ///
    /// # Errors
    /// As clap tells it.
    pub fn of_words(words: &str) -> Result<Self, clap::Error> {
        let command = Self::augment_subcommands(Command::new("fault").no_binary_name(true));
        let matches =
            command.subcommand_required(true).try_get_matches_from(words.split_whitespace())?;
        Self::from_arg_matches(&matches)
    }
}

/// How the faults of nodes are changed.
#[derive(Clone, Debug, Args)]
pub struct ChangeArgs {
    /// Print the steps and do nothing
    #[arg(long)]
    pub dry_run: bool,

    /// How long others may be waited for.
    #[command(flatten)]
    pub lock: LockArgs,
}

/// How long a fault lasts.
#[derive(Clone, Debug, Args)]
pub struct TermArgs {
    /// Heal it after this time, by the lab's boot server [default: it stays until
    /// `virtlab heal`]
    #[arg(long = "for", value_name = "TIME")]
    pub time: Option<Span>,
}

/// What faults take that stay.
#[derive(Clone, Debug, Args)]
pub struct LastingArgs {
    /// How long.
    #[command(flatten)]
    pub term: TermArgs,

    /// Which nodes.
    #[command(flatten)]
    pub nodes: FaultArgs,
}

/// What nodes can be asked for again and again.
pub(super) fn probe(text: &str) -> Result<Readiness, String> {
    match text.parse()? {
        probe @ (Readiness::Tcp(_) | Readiness::Http { .. }) => Ok(probe),
        _ => Err("it has to be tcp:PORT or http://:PORT/PATH".to_owned()),
    }
}

/// Arguments of `fault cut`.
#[derive(Clone, Debug, Args)]
pub struct CutArgs {
    /// Take the link away and give it back by turns of this time, by the lab's boot
    /// server, until it is healed
    #[arg(long, value_name = "TIME")]
    pub flap: Option<Turn>,

    /// How long, and which nodes.
    #[command(flatten)]
    pub lasting: LastingArgs,
}

/// Arguments of `fault starve`.
#[derive(Clone, Debug, Args)]
pub struct StarveArgs {
    /// How much of each of its processors a node has, in percent
    #[arg(long, value_name = "PERCENT", default_value = "10%")]
    pub cpu: CpuShare,

    /// How long, and which nodes.
    #[command(flatten)]
    pub lasting: LastingArgs,
}

/// Arguments of `fault squeeze`.
#[derive(Clone, Debug, Args)]
pub struct SqueezeArgs {
    /// How much a node has left: 128MiB, 1GiB
    #[arg(long, value_name = "SIZE")]
    pub memory: MemoryMib,

    /// How long, and which nodes.
    #[command(flatten)]
    pub lasting: LastingArgs,
}

/// Arguments of `fault slow-disk`.
#[derive(Clone, Debug, Args)]
pub struct SlowDiskArgs {
    /// To what.
    #[command(flatten)]
    pub pace: PaceArgs,

    /// How long, and which nodes.
    #[command(flatten)]
    pub lasting: LastingArgs,
}

/// Arguments of `fault clock`.
#[derive(Clone, Debug, Args)]
pub struct ClockArgs {
    /// How far from the right time: -1h, +90s, +30d
    #[arg(long, value_name = "[+|-]TIME", allow_hyphen_values = true)]
    pub offset: ClockOffset,

    /// How long, and which nodes.
    #[command(flatten)]
    pub lasting: LastingArgs,
}

/// Arguments of `fault delay`.
#[derive(Clone, Debug, Args)]
pub struct DelayArgs {
    /// How late: 100ms, 1s, up to a minute
    #[arg(long, value_name = "TIME")]
    pub by: Lateness,

    /// By how much a packet may be later or earlier than that
    #[arg(long, value_name = "TIME")]
    pub jitter: Option<Lateness>,

    /// How long, and which nodes.
    #[command(flatten)]
    pub lasting: LastingArgs,
}

/// Arguments of `fault loss`, `corrupt`, `duplicate`, `reorder`.
#[derive(Clone, Debug, Args)]
pub struct ShareArgs {
    /// How many of the packets
    #[arg(long, value_name = "PERCENT", default_value = "10%")]
    pub percent: Percent,

    /// How long, and which nodes.
    #[command(flatten)]
    pub lasting: LastingArgs,
}

/// Arguments of `fault rate`.
#[derive(Clone, Debug, Args)]
pub struct RateArgs {
    /// How many: 512kbit, 1mbit, 1gbit
    #[arg(long, value_name = "RATE")]
    pub to: BitRate,

    /// How long, and which nodes.
    #[command(flatten)]
    pub lasting: LastingArgs,
}

/// What a disk does in a second at the most.
#[derive(Clone, Debug, Args)]
pub struct PaceArgs {
    /// How many reads and writes a disk does in a second; needed without --rate
    #[arg(long, value_name = "N", required_unless_present = "rate")]
    pub iops: Option<NonZeroU32>,

    /// How much it reads and writes in a second: 512KiB, 1MiB
    #[arg(long, value_name = "SIZE")]
    pub rate: Option<Bytes>,
}

impl PaceArgs {
    /// One of the two is there.
    pub fn pace(&self) -> DiskPace {
        DiskPace::new(self.iops, self.rate).unwrap_or_default()
    }
}

/// What is wanted to be known of a fault.
#[derive(Clone, Debug, Args)]
pub struct VerdictArgs {
    /// Write into etcd and read from it meanwhile, heal the nodes after --for or 10s,
    /// and tell for how long that failed, who led, and whether anything was lost
    #[arg(long, conflicts_with = "dry_run")]
    pub verdict: bool,

    /// Ask each node for this instead of its etcd: tcp:PORT or http://:PORT/PATH
    #[arg(long, value_name = "PROBE", requires = "verdict", value_parser = probe)]
    pub probe: Option<Readiness>,

    /// How soon after the heal etcd has to be healthy again, or all nodes have to answer
    #[arg(long, value_name = "TIME", default_value = "2m", requires = "verdict")]
    pub within: Span,

    /// Draw it into this file as well, as SVG: writes, elections, while it was broken
    #[arg(long, value_name = "FILE", requires = "verdict")]
    pub svg: Option<PathBuf>,
}

/// What most faults take.
#[derive(Clone, Debug, Args)]
pub struct FaultArgs {
    /// Names of nodes, or of labs for all of their nodes; words after a lab choose
    /// nodes of it: leader, follower, one, minority, majority, all
    #[arg(value_name = "NODE|LAB|WORD", required = true)]
    pub names: Vec<String>,

    /// How it is done.
    #[command(flatten)]
    pub change: ChangeArgs,

    /// How it is judged.
    #[command(flatten)]
    pub verdict: VerdictArgs,
}

/// Arguments of `fault partition`.
#[derive(Clone, Debug, Args)]
pub struct PartitionArgs {
    /// Name of the lab
    #[arg(value_name = "LAB")]
    pub lab: LabName,

    /// Names of nodes with commas between them, or words for nodes: leader,
    /// follower, one, minority, majority, others. Nodes that are in no group
    /// hear all others
    #[arg(value_name = "GROUP", num_args = 2.., required = true)]
    pub groups: Vec<String>,

    /// How long.
    #[command(flatten)]
    pub term: TermArgs,

    /// How it is done.
    #[command(flatten)]
    pub change: ChangeArgs,

    /// How it is judged.
    #[command(flatten)]
    pub verdict: VerdictArgs,
}

/// Arguments of `fault list`.
#[derive(Clone, Debug, Args)]
pub struct FaultListArgs {
    /// Names of nodes, or of labs for all of their nodes [default: all labs]
    #[arg(value_name = "NODE|LAB")]
    pub names: Vec<String>,
}

/// Arguments of `heal`.
#[derive(Clone, Debug, Args)]
pub struct HealArgs {
    /// Names of labs, or of nodes [default: all labs]
    #[arg(value_name = "NODE|LAB")]
    pub names: Vec<String>,

    /// How it is done.
    #[command(flatten)]
    pub change: ChangeArgs,
}
