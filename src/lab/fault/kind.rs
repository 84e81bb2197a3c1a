//! Which faults there are. A new one is a name, a kind with what belongs to it, and the words for both.

use anyhow::{Error, Result, bail};

use super::clock::ClockOffset;
use super::flap::Turn;
use super::flaw::Flaw;
use super::limit::{CpuShare, DiskPace, Limit, LimitName};
use crate::lab::LabName;
use crate::lab::node_set::NodeSet;
use crate::lab::size::MemoryMib;

/// A fault by its name. A node has one of each name at the most.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FaultName {
    /// Its network cards have no link.
    Cut,
    /// It and some other nodes do not hear each other.
    Partition,
    /// Its processors stand still.
    Pause,
    /// It has no power.
    Kill,
    /// It has less of its processors' time.
    Starve,
    /// It has less memory.
    Squeeze,
    /// Its disk does less.
    SlowDisk,
    /// Its clock is wrong.
    Clock,
    /// Its packets come late.
    Delay,
    /// Some of its packets get lost.
    Loss,
    /// Some of its packets are broken.
    Corrupt,
    /// Some packets reach it twice.
    Duplicate,
    /// Some packets reach it before earlier ones.
    Reorder,
    /// Few packets reach it in a second.
    Rate,
}

impl FaultName {
    /// All, as marks have them and as they are told: in the order in which they are declared.
    pub const ALL: [Self; 14] = [
        Self::Cut,
        Self::Partition,
        Self::Pause,
        Self::Kill,
        Self::Starve,
        Self::Squeeze,
        Self::SlowDisk,
        Self::Clock,
        Self::Delay,
        Self::Loss,
        Self::Corrupt,
        Self::Duplicate,
        Self::Reorder,
        Self::Rate,
    ];

    /// The word for it on the command line, in marks and in JSON.
    pub fn word(self) -> &'static str {
        match self {
            Self::Cut => "cut",
            Self::Partition => "partition",
            Self::Pause => "pause",
            Self::Kill => "kill",
            Self::Starve => "starve",
            Self::Squeeze => "squeeze",
            Self::SlowDisk => "slow-disk",
            Self::Clock => "clock",
            Self::Delay => "delay",
            Self::Loss => "loss",
            Self::Corrupt => "corrupt",
            Self::Duplicate => "duplicate",
            Self::Reorder => "reorder",
            Self::Rate => "rate",
        }
    }

    /// What the node is by it.
    pub fn state(self) -> &'static str {
        match self {
            Self::Cut => "cut off",
            Self::Partition => "kept apart from others",
            Self::Pause => "paused",
            Self::Kill => "killed",
            Self::Starve => "starved",
            Self::Squeeze => "squeezed",
            Self::SlowDisk => "slow of disk",
            Self::Clock => "set to another time",
            Self::Delay => "late to hear",
            Self::Loss => "losing packets",
            Self::Corrupt => "getting broken packets",
            Self::Duplicate => "getting packets twice",
            Self::Reorder => "getting packets out of order",
            Self::Rate => "slow to hear",
        }
    }

    /// Which limit it sets, if it sets one.
    pub fn limit(self) -> Option<LimitName> {
        match self {
            Self::Starve => Some(LimitName::Cpu),
            Self::Squeeze => Some(LimitName::Memory),
            Self::SlowDisk => Some(LimitName::Disk),
            Self::Clock => Some(LimitName::Clock),
            _ => None,
        }
    }

    /// The name of this word.
    pub(super) fn of_word(word: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|name| name.word() == word)
    }

    /// The fault of this name with what [`FaultKind::detail`] gives.
    ///
    /// # Errors
    /// If that is nothing that belongs to it.
    pub(super) fn kind(self, detail: &str) -> Result<FaultKind> {
        if let Some(flaw) = Flaw::parse(self.word(), detail) {
            return flaw.map(FaultKind::Wire).map_err(Error::msg);
        }
        let plain = match self {
            Self::Partition => return Ok(FaultKind::Partition(detail.parse()?)),
            Self::Starve => return Ok(FaultKind::Starve(detail.parse().map_err(Error::msg)?)),
            Self::Squeeze => return Ok(FaultKind::Squeeze(detail.parse().map_err(Error::msg)?)),
            Self::SlowDisk => return Ok(FaultKind::SlowDisk(detail.parse().map_err(Error::msg)?)),
            Self::Clock => return Ok(FaultKind::Clock(detail.parse().map_err(Error::msg)?)),
            Self::Cut if !detail.is_empty() => {
                return Ok(FaultKind::Flap(detail.parse().map_err(Error::msg)?));
            }
            Self::Cut => FaultKind::Cut,
            Self::Pause => FaultKind::Pause,
            Self::Kill => FaultKind::Kill,
            _ => bail!("`{detail}` belongs to no fault"),
        };
        if detail.is_empty() { Ok(plain) } else { bail!("`{detail}` is too much") }
    }
}

/// What is wrong with a node.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FaultKind {
    /// Its network cards have no link.
    Cut,
    /// Its network cards have no link for this time, then have it for as long, and so on. It is a cut by name.
    Flap(Turn),
    /// It and these nodes do not hear each other.
    Partition(NodeSet),
    /// Its processors stand still.
    Pause,
    /// It has no power.
    Kill,
    /// It has no more than this of the time of each of its processors.
    Starve(CpuShare),
    /// It has no more memory than this.
    Squeeze(MemoryMib),
    /// Its disk does no more than this.
    SlowDisk(DiskPace),
    /// From its next power-on its clock is so far from the right time.
    Clock(ClockOffset),
    /// This is wrong with its packets.
    Wire(Flaw),
}

impl FaultKind {
    /// Which it is.
    pub fn name(self) -> FaultName {
        match self {
            Self::Cut | Self::Flap(_) => FaultName::Cut,
            Self::Partition(_) => FaultName::Partition,
            Self::Pause => FaultName::Pause,
            Self::Kill => FaultName::Kill,
            Self::Starve(_) => FaultName::Starve,
            Self::Squeeze(_) => FaultName::Squeeze,
            Self::SlowDisk(_) => FaultName::SlowDisk,
            Self::Clock(_) => FaultName::Clock,
            Self::Wire(Flaw::Delay(_)) => FaultName::Delay,
            Self::Wire(Flaw::Loss(_)) => FaultName::Loss,
            Self::Wire(Flaw::Corrupt(_)) => FaultName::Corrupt,
            Self::Wire(Flaw::Duplicate(_)) => FaultName::Duplicate,
            Self::Wire(Flaw::Reorder(_)) => FaultName::Reorder,
            Self::Wire(Flaw::Rate(_)) => FaultName::Rate,
        }
    }

    /// The limit that it sets, if it sets one.
    pub fn limit(self) -> Option<Limit> {
        match self {
            Self::Starve(share) => Some(Limit::Cpu(share)),
            Self::Squeeze(memory) => Some(Limit::Memory(memory)),
            Self::SlowDisk(pace) => Some(Limit::Disk(pace)),
            Self::Clock(offset) => Some(Limit::Clock(offset)),
            _ => None,
        }
    }

    /// What belongs to it on the command line beside the nodes: `--cpu 10%`.
    pub fn options(self) -> Option<String> {
        match self {
            Self::Flap(turn) => Some(format!("--flap {turn}")),
            Self::Starve(share) => Some(format!("--cpu {share}")),
            Self::Squeeze(memory) => Some(format!("--memory {memory}")),
            Self::SlowDisk(pace) => Some(pace.options()),
            Self::Clock(offset) => Some(format!("--offset {offset}")),
            Self::Wire(flaw) => Some(flaw.options()),
            Self::Cut | Self::Partition(_) | Self::Pause | Self::Kill => None,
        }
    }

    /// What belongs to it beside its name, as marks have it.
    pub(super) fn detail(self) -> Option<String> {
        match self {
            Self::Partition(from) => Some(from.to_string()),
            Self::Flap(turn) => Some(turn.to_string()),
            Self::Starve(share) => Some(share.to_string()),
            Self::Squeeze(memory) => Some(memory.to_string()),
            Self::SlowDisk(pace) => Some(pace.to_string()),
            Self::Clock(offset) => Some(offset.to_string()),
            Self::Wire(flaw) => Some(flaw.to_string()),
            Self::Cut | Self::Pause | Self::Kill => None,
        }
    }

    /// What a node of this lab is by it: "kept apart from demo-2, demo-3".
    pub(super) fn describe(self, lab: &LabName) -> String {
        match self {
            Self::Partition(from) => {
                let from: Vec<String> = from.iter().map(|index| lab.node(index)).collect();
                format!("kept apart from {}", from.join(", "))
            }
            Self::Flap(turn) => format!("cut off and back by turns of {turn}"),
            Self::Starve(share) => format!("starved (CPU {share})"),
            Self::Squeeze(memory) => format!("squeezed (memory {memory})"),
            Self::SlowDisk(pace) => format!("slow of disk ({pace})"),
            Self::Clock(offset) => format!("set to another time (clock {offset})"),
            Self::Wire(flaw) => format!("{} ({} {flaw})", self.name().state(), self.name().word()),
            Self::Cut | Self::Pause | Self::Kill => self.name().state().to_owned(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_fault_has_a_place_of_its_own() {
        for (place, name) in FaultName::ALL.into_iter().enumerate() {
            assert_eq!(name as usize, place);
            assert_eq!(FaultName::of_word(name.word()), Some(name));
            let details = ["1ms", "1%", "1mbit"];
            let flaws = details.into_iter().filter_map(|it| Flaw::parse(name.word(), it)?.ok());
            flaws.for_each(|flaw| assert_eq!(FaultKind::Wire(flaw).name(), name));
        }
    }
}
