//! What is done to nodes on purpose, to see what their cluster makes of it. A fault is wanted of a node as its power is: its
//! mark says so, and all that virtlab does keeps it until it is healed.

use std::fmt;
use std::str::FromStr;

use anyhow::{Context, Error, Result, bail};

use super::LabName;
use super::node_set::NodeSet;

/// The faults of a node; by default none.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Faults {
    /// Its network cards have no link since this time, in milliseconds since the epoch.
    pub cut: Option<u64>,
    /// It hears nothing of some other nodes.
    pub partition: Option<Partition>,
    /// Its processors stand still since this time.
    pub pause: Option<u64>,
    /// It has no power since this time.
    pub kill: Option<u64>,
}

/// That a node is kept apart from others.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Partition {
    /// From whom, who are kept apart from it as well.
    pub from: NodeSet,
    /// Since when, in milliseconds since the epoch.
    pub since_ms: u64,
}

/// One fault of a node.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Fault {
    /// Which.
    pub kind: FaultKind,
    /// Since when it is wanted, in milliseconds since the epoch.
    pub since_ms: u64,
}

/// What is wrong with a node.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FaultKind {
    /// Its network cards have no link.
    Cut,
    /// It and these nodes do not hear each other.
    Partition(NodeSet),
    /// Its processors stand still.
    Pause,
    /// It has no power.
    Kill,
}

impl Faults {
    /// Whether there are none.
    pub fn is_empty(self) -> bool {
        self == Self::default()
    }

    /// Each of them.
    pub fn iter(self) -> impl Iterator<Item = Fault> {
        let since = |kind: FaultKind| {
            move |since: Option<u64>| since.map(|since_ms| Fault { kind, since_ms })
        };
        let cut = since(FaultKind::Cut)(self.cut);
        let power = [since(FaultKind::Pause)(self.pause), since(FaultKind::Kill)(self.kill)];
        let partition = self.partition.map(|Partition { from, since_ms }| Fault {
            kind: FaultKind::Partition(from),
            since_ms,
        });
        cut.into_iter().chain(partition).chain(power.into_iter().flatten())
    }

    /// These and one more from this time on; one that is there already is as old as it is.
    #[must_use]
    pub fn with(self, kind: FaultKind, since_ms: u64) -> Self {
        match kind {
            FaultKind::Cut => Self { cut: self.cut.or(Some(since_ms)), ..self },
            FaultKind::Pause => Self { pause: self.pause.or(Some(since_ms)), ..self },
            FaultKind::Kill => Self { kill: self.kill.or(Some(since_ms)), ..self },
            FaultKind::Partition(from) => {
                let there = self.partition.unwrap_or(Partition { from, since_ms });
                let partition = Partition { from: there.from.union(from), ..there };
                Self { partition: Some(partition).filter(|it| !it.from.is_empty()), ..self }
            }
        }
    }

    /// Whether one of them is about its power.
    pub fn are_of_power(self) -> bool {
        self.pause.is_some() || self.kill.is_some()
    }

    /// The faults that are left when these nodes are healed.
    #[must_use]
    pub fn without(self, healed: NodeSet) -> Self {
        let rest = |it: Partition| Partition { from: it.from.without(healed), ..it };
        let partition = self.partition.map(rest).filter(|it| !it.from.is_empty());
        Self { partition, ..self }
    }
}

impl FaultKind {
    /// The word for it on the command line, in marks and in JSON.
    pub fn name(self) -> &'static str {
        match self {
            Self::Cut => "cut",
            Self::Partition(_) => "partition",
            Self::Pause => "pause",
            Self::Kill => "kill",
        }
    }

    /// What the node is by it.
    pub fn state(self) -> &'static str {
        match self {
            Self::Cut => "cut off",
            Self::Partition(_) => "kept apart from others",
            Self::Pause => "paused",
            Self::Kill => "killed",
        }
    }
}

impl Fault {
    /// "cut off by a fault since 12 s", of a node of this lab.
    pub fn describe(self, lab: &LabName, now_ms: u64) -> String {
        let seconds = now_ms.saturating_sub(self.since_ms) / 1000;
        let state = match self.kind {
            FaultKind::Partition(from) => {
                let from: Vec<String> = from.iter().map(|index| lab.node(index)).collect();
                format!("kept apart from {}", from.join(", "))
            }
            kind => kind.state().to_owned(),
        };
        format!("{state} by a fault since {seconds} s")
    }
}

/// As marks have it: `cut=1764541234567 partition=1764541234890:2,4-5`.
impl fmt::Display for Faults {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (place, Fault { kind, since_ms }) in self.iter().enumerate() {
            let gap = if place == 0 { "" } else { " " };
            write!(f, "{gap}{}={since_ms}", kind.name())?;
            if let FaultKind::Partition(from) = kind {
                write!(f, ":{from}")?;
            }
        }
        Ok(())
    }
}

impl FromStr for Faults {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let mut faults = Self::default();
        for word in text.split_whitespace() {
            let no_fault = || format!("`{word}` is no fault that a node can have");
            let (name, since) = word.split_once('=').with_context(no_fault)?;
            let (since, from) = since.split_once(':').unwrap_or((since, ""));
            let since_ms = since.parse().with_context(no_fault)?;
            let kind = match name {
                "cut" if from.is_empty() => FaultKind::Cut,
                "pause" if from.is_empty() => FaultKind::Pause,
                "kill" if from.is_empty() => FaultKind::Kill,
                "partition" => FaultKind::Partition(from.parse().with_context(no_fault)?),
                _ => bail!(no_fault()),
            };
            faults = faults.with(kind, since_ms);
        }
        Ok(faults)
    }
}

/// Whether the network cards of a domain have a link.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Link {
    /// All of them.
    #[default]
    Up,
    /// None of them, neither in what runs nor in what libvirt keeps.
    Down,
    /// Some of them, or not in both: a run may have been killed in between.
    Between,
}

/// What keeps a node apart from others, as it was found.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Filter {
    /// Nothing.
    #[default]
    Absent,
    /// A filter that all of its cards have, in what runs and in what libvirt keeps, and that drops what is between these nodes
    /// and it.
    InForce(NodeSet),
    /// Something of it: a run may have been killed in between.
    Between,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn faults_are_read_as_they_are_written() {
        let cut = Faults::default().with(FaultKind::Cut, 12);
        assert_eq!(cut.to_string(), "cut=12");
        let from = "2,4-5".parse().unwrap();
        let both = cut.with(FaultKind::Partition(from), 34);
        assert_eq!(both.to_string(), "cut=12 partition=34:2,4-5");
        let power = Faults::default().with(FaultKind::Kill, 56).with(FaultKind::Pause, 78);
        assert_eq!(power.to_string(), "pause=78 kill=56");
        for faults in [cut, both, power, Faults::default()] {
            assert_eq!(faults.to_string().parse::<Faults>().unwrap(), faults);
        }
        for text in [
            "cut",
            "cut=",
            "cut=x",
            "cut=1:2",
            "burnt=1",
            "cut=1 burnt=1",
            "partition=1",
            "kill=1:2",
            "partition=1:0",
        ] {
            assert!(text.parse::<Faults>().is_err(), "{text}");
        }
    }

    #[test]
    fn a_fault_that_is_there_is_no_younger_for_being_wanted_again() {
        let cut = Faults::default().with(FaultKind::Cut, 1000);
        assert_eq!(cut.with(FaultKind::Cut, 5000), cut);
        let set = |text: &str| text.parse::<NodeSet>().unwrap();
        let apart = cut.with(FaultKind::Partition(set("2")), 2000);
        let more = apart.with(FaultKind::Partition(set("3")), 5000);
        let name: LabName = "demo".parse().unwrap();
        let said: Vec<String> = more.iter().map(|it| it.describe(&name, 13_999)).collect();
        assert_eq!(
            said,
            [
                "cut off by a fault since 12 s",
                "kept apart from demo-2, demo-3 by a fault since 11 s"
            ]
        );
        assert_eq!(more.without(set("3,7")), apart);
        assert_eq!(more.without(set("2-3")), cut);
        assert!(Faults::default().is_empty() && !cut.is_empty());
    }
}
