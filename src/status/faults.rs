//! What of a lab is broken on purpose, and what undoes that.

use serde::Serialize;

use crate::boot_server::recorder::now_ms;
use crate::hypervisor::Found;
use crate::lab::LabName;
use crate::lab::fault::{Fault, FaultKind, Flaw, Lateness, Term};

/// A fault, as `-o json` has it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub(crate) struct FaultNow {
    /// Its word on the command line.
    pub(crate) fault: &'static str,
    /// Since when, in milliseconds since the epoch.
    pub(crate) since_ms: u64,
    /// When it is healed by itself, in milliseconds since the epoch.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) until_ms: Option<u64>,
    /// The nodes that it is kept apart from.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(crate) from: Vec<String>,
    /// By turns of how many milliseconds its link comes and goes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) flap_ms: Option<u64>,
    /// How much of each of its processors it has, in percent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) cpu_percent: Option<u8>,
    /// How much memory it has, in MiB.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) memory_mib: Option<u64>,
    /// How many reads and writes its disk does in a second.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) iops: Option<u64>,
    /// How many bytes it reads and writes in a second.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) bytes_per_second: Option<u64>,
    /// How many seconds its clock is before the right time, or behind it if it is less than zero.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) clock_offset_s: Option<i64>,
    /// How many milliseconds packets are late.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) delay_ms: Option<u32>,
    /// By how many milliseconds that differs.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) jitter_ms: Option<u32>,
    /// Which share of the packets is meant, in percent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) percent: Option<u8>,
    /// How many bits reach it in a second.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) bits_per_second: Option<u64>,
    /// What was typed beside the word and the nodes.
    #[serde(skip)]
    pub(crate) options: Option<String>,
}

impl FaultNow {
    fn of(lab: &LabName, Fault { kind, term }: Fault) -> Self {
        let Term { since_ms, until_ms } = term;
        let (fault, options) = (kind.name().word(), kind.options());
        let now = Self { fault, since_ms, until_ms, options, ..Self::default() };
        let given = |most: u64| (most > 0).then_some(most);
        match kind {
            FaultKind::Cut | FaultKind::Pause | FaultKind::Kill => now,
            FaultKind::Partition(from) => {
                Self { from: from.iter().map(|index| lab.node(index)).collect(), ..now }
            }
            FaultKind::Flap(turn) => Self { flap_ms: Some(turn.ms()), ..now },
            FaultKind::Starve(share) => Self { cpu_percent: Some(share.percent()), ..now },
            FaultKind::Squeeze(memory) => Self { memory_mib: Some(memory.mib()), ..now },
            FaultKind::Clock(offset) => Self { clock_offset_s: Some(offset.seconds()), ..now },
            FaultKind::Wire(Flaw::Delay(delay)) => Self {
                delay_ms: Some(delay.by.ms()),
                jitter_ms: delay.jitter.map(Lateness::ms),
                ..now
            },
            FaultKind::Wire(Flaw::Rate(rate)) => Self { bits_per_second: Some(rate.bits()), ..now },
            FaultKind::Wire(
                Flaw::Loss(share)
                | Flaw::Corrupt(share)
                | Flaw::Duplicate(share)
                | Flaw::Reorder(share),
            ) => Self { percent: Some(share.get()), ..now },
            FaultKind::SlowDisk(pace) => {
                Self { iops: given(pace.iops()), bytes_per_second: given(pace.bytes()), ..now }
            }
        }
    }
}

/// The faults of a node.
pub(crate) fn of(found: &Found, index: u32) -> Vec<FaultNow> {
    let lab = &found.lab.name;
    found.faults(index).iter().map(|fault| FaultNow::of(lab, fault)).collect()
}

/// What is wrong with a node by its faults: "cut off by a fault since 12 s".
pub(crate) fn describe(found: &Found, index: u32) -> Option<String> {
    let now_ms = now_ms();
    let all: Vec<String> =
        found.faults(index).iter().map(|fault| fault.describe(&found.lab.name, now_ms)).collect();
    (!all.is_empty()).then(|| all.join(", "))
}

/// A line for each node of a lab that has faults.
pub(crate) fn lines(found: &Found) -> Vec<String> {
    let lab = &found.lab;
    let line = |index: u32| {
        let faults = describe(found, index)?;
        Some(format!("{} is {faults}; `{}` undoes it", lab.name.node(index), heal(found)))
    };
    (1..=lab.spec.nodes).filter_map(line).collect()
}

/// The command that takes all faults of a lab away.
pub(crate) fn heal(found: &Found) -> String {
    format!("virtlab heal {}", found.lab.name)
}
