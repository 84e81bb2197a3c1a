//! What is done to nodes on purpose, to see what their cluster makes of it. A fault is wanted of a node as its power is: its
//! mark says so, and all that virtlab does keeps it until it is healed.

mod clock;
mod flap;
mod flaw;
mod kind;
mod limit;

use std::fmt;
use std::str::FromStr;

use anyhow::{Context, Error, Result};

pub use self::clock::ClockOffset;
pub use self::flap::Turn;
pub use self::flaw::{BitRate, Delay, Flaw, Flaws, Lateness, Percent, Wire};
pub use self::kind::{FaultKind, FaultName};
pub use self::limit::{Bytes, CpuShare, DiskPace, Level, Limit, LimitName, Limits};
use super::LabName;
use super::node_set::NodeSet;

/// The faults of a node, each in the place of its name; by default none.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Faults([Option<Fault>; FaultName::ALL.len()]);

/// From when to when a fault is wanted, in milliseconds since the epoch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Term {
    /// From this time on.
    pub since_ms: u64,
    /// Until this time; `None` until somebody heals it.
    pub until_ms: Option<u64>,
}

impl Term {
    /// From this time on, until somebody heals it.
    pub fn since(since_ms: u64) -> Self {
        Self { since_ms, until_ms: None }
    }

    /// That of a fault which is there already and is wanted again: it is as old as it is, and the later wish says when it ends.
    fn renewed(self, there: Option<Self>) -> Self {
        Self { since_ms: there.map_or(self.since_ms, |there| there.since_ms), ..self }
    }

    fn is_over(self, now_ms: u64) -> bool {
        self.until_ms.is_some_and(|until_ms| until_ms <= now_ms)
    }
}

/// As marks have it: `1764541234567`, or `1764541234567-1764541264567`.
impl fmt::Display for Term {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.since_ms)?;
        self.until_ms.map_or(Ok(()), |until_ms| write!(f, "-{until_ms}"))
    }
}

impl FromStr for Term {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let (since, until) = match text.split_once('-') {
            Some((since, until)) => (since, Some(until)),
            None => (text, None),
        };
        let until_ms = until.map(str::parse).transpose()?;
        Ok(Self { since_ms: since.parse()?, until_ms })
    }
}

/// One fault of a node.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Fault {
    /// Which.
    pub kind: FaultKind,
    /// From when to when it is wanted.
    pub term: Term,
}

impl Faults {
    /// Whether there are none.
    pub fn is_empty(self) -> bool {
        self == Self::default()
    }

    /// Each of them.
    pub fn iter(self) -> impl Iterator<Item = Fault> {
        self.0.into_iter().flatten()
    }

    /// The one of this name.
    pub fn get(self, name: FaultName) -> Option<Fault> {
        self.0[name as usize]
    }

    /// Whether there is one of this name.
    pub fn has(self, name: FaultName) -> bool {
        self.get(name).is_some()
    }

    /// From whom the node is kept apart.
    pub fn apart_from(self) -> Option<NodeSet> {
        self.iter().find_map(|fault| match fault.kind {
            FaultKind::Partition(from) => Some(from),
            _ => None,
        })
    }

    /// What is wrong with its packets.
    pub fn flaws(self) -> Flaws {
        let flaw = |fault: Fault| match fault.kind {
            FaultKind::Wire(flaw) => Some(flaw),
            _ => None,
        };
        self.iter().filter_map(flaw).collect()
    }

    /// These and one more; one that is there already is as old as it is, and ends when it is said now.
    #[must_use]
    pub fn with(self, kind: FaultKind, term: Term) -> Self {
        let there = self.get(kind.name());
        let term = term.renewed(there.map(|fault| fault.term));
        let kind = match kind {
            FaultKind::Partition(from) => {
                FaultKind::Partition(self.apart_from().map_or(from, |there| there.union(from)))
            }
            other => other,
        };
        let is_any = kind != FaultKind::Partition(NodeSet::default());
        self.set(kind.name(), is_any.then_some(Fault { kind, term }))
    }

    /// The faults that are left at this time, in milliseconds since the epoch.
    #[must_use]
    pub fn left_at(self, now_ms: u64) -> Self {
        Self(self.0.map(|fault| fault.filter(|fault| !fault.term.is_over(now_ms))))
    }

    /// When the first of them ends that ends by itself, in milliseconds since the epoch.
    pub fn first_end_ms(self) -> Option<u64> {
        self.iter().filter_map(|fault| fault.term.until_ms).min()
    }

    /// Whether one of them is about its power.
    pub fn are_of_power(self) -> bool {
        self.has(FaultName::Pause) || self.has(FaultName::Kill)
    }

    /// The faults that are left when these nodes are healed.
    #[must_use]
    pub fn without(self, healed: NodeSet) -> Self {
        let Some(Fault { kind: FaultKind::Partition(from), term }) = self.get(FaultName::Partition)
        else {
            return self;
        };
        let kind = FaultKind::Partition(from.without(healed));
        self.set(FaultName::Partition, None).with(kind, term)
    }

    fn set(mut self, name: FaultName, fault: Option<Fault>) -> Self {
        self.0[name as usize] = fault;
        self
    }
}

impl Fault {
    /// "cut off by a fault since 12 s, healed in 18 s", of a node of this lab.
    pub fn describe(self, lab: &LabName, now_ms: u64) -> String {
        let Term { since_ms, until_ms } = self.term;
        let seconds = now_ms.saturating_sub(since_ms) / 1000;
        let state = self.kind.describe(lab);
        let end = until_ms.map(|until_ms| {
            format!(", healed in {} s", until_ms.saturating_sub(now_ms).div_ceil(1000))
        });
        format!("{state} by a fault since {seconds} s{}", end.unwrap_or_default())
    }
}

/// As marks have it: `cut=1764541234567-1764541264567 partition=1764541234890:2,4-5`.
impl fmt::Display for Faults {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (place, Fault { kind, term }) in self.iter().enumerate() {
            let gap = if place == 0 { "" } else { " " };
            write!(f, "{gap}{}={term}", kind.name().word())?;
            if let Some(detail) = kind.detail() {
                write!(f, ":{detail}")?;
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
            let (name, term) = word.split_once('=').with_context(no_fault)?;
            let (term, detail) = term.split_once(':').unwrap_or((term, ""));
            let term: Term = term.parse().with_context(no_fault)?;
            let name = FaultName::of_word(name).with_context(no_fault)?;
            let kind = name.kind(detail).with_context(no_fault)?;
            faults = faults.with(kind, term);
        }
        Ok(faults)
    }
}

/// What of the faults of a node is in force, as it was found; by default nothing.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct InForce {
    /// The links of its network cards.
    pub link: Link,
    /// What keeps it apart from others.
    pub filter: Filter,
    /// What it has no more of than its faults leave to it.
    pub limits: Limits,
    /// What is wrong with its packets.
    pub wire: Wire,
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
#[expect(clippy::large_stack_arrays, reason = "tables of what nodes are to have")]
mod tests {
    use super::*;

    #[test]
    fn faults_are_read_as_they_are_written() {
        let cut = Faults::default().with(FaultKind::Cut, Term::since(12));
        assert_eq!(cut.to_string(), "cut=12");
        let from = "2,4-5".parse().unwrap();
        let both = cut.with(FaultKind::Partition(from), Term::since(34));
        assert_eq!(both.to_string(), "cut=12 partition=34:2,4-5");
        let power = Faults::default()
            .with(FaultKind::Kill, Term::since(56))
            .with(FaultKind::Pause, Term::since(78));
        assert_eq!(power.to_string(), "pause=78 kill=56");
        let short = cut.with(FaultKind::Cut, Term { since_ms: 20, until_ms: Some(50) });
        assert_eq!(short.to_string(), "cut=12-50");
        let starved = cut.with(FaultKind::Starve("10%".parse().unwrap()), Term::since(9));
        let starved = starved.with(FaultKind::Squeeze("1GiB".parse().unwrap()), Term::since(9));
        assert_eq!(starved.to_string(), "cut=12 starve=9:10% squeeze=9:1024MiB");
        let flapping =
            Faults::default().with(FaultKind::Flap("2s".parse().unwrap()), Term::since(3));
        assert_eq!(flapping.to_string(), "cut=3:2s");
        let wire = "cut=12 delay=4-9:100ms~20ms loss=5:20% rate=6:1mbit".parse::<Faults>().unwrap();
        assert_eq!(wire.flaws().to_string(), "delay 100ms~20ms, loss 20%, rate 1mbit");
        for faults in [wire, cut, both, power, short, starved, flapping, Faults::default()] {
            assert_eq!(faults.to_string().parse::<Faults>().unwrap(), faults);
        }
        for text in [
            "cut",
            "cut=",
            "cut=x",
            "cut=1:2ms",
            "cut=1-",
            "cut=-1",
            "cut=1-2-3",
            "burnt=1",
            "cut=1 burnt=1",
            "partition=1",
            "kill=1:2",
            "partition=1:0",
            "starve=1",
            "starve=1:0%",
            "loss=1",
            "delay=1:1mbit",
        ] {
            assert!(text.parse::<Faults>().is_err(), "{text}");
        }
    }

    #[test]
    fn a_fault_that_is_there_is_no_younger_for_being_wanted_again() {
        let cut = Faults::default().with(FaultKind::Cut, Term::since(1000));
        assert_eq!(cut.with(FaultKind::Cut, Term::since(5000)), cut);
        let set = |text: &str| text.parse::<NodeSet>().unwrap();
        let apart = cut.with(FaultKind::Partition(set("2")), Term::since(2000));
        let more = apart.with(FaultKind::Partition(set("3")), Term::since(5000));
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
    #[test]
    fn a_fault_ends_at_its_time_and_the_last_wish_says_when() {
        let until = |until_ms| Term { since_ms: 1000, until_ms };
        let name: LabName = "demo".parse().unwrap();
        let cut = Faults::default().with(FaultKind::Cut, until(Some(5000)));
        let said = cut.iter().map(|it| it.describe(&name, 2500)).collect::<Vec<_>>();
        assert_eq!(said, ["cut off by a fault since 1 s, healed in 3 s"]);
        let both = cut.with(FaultKind::Kill, until(Some(4000)));
        assert_eq!((cut.first_end_ms(), both.first_end_ms()), (Some(5000), Some(4000)));
        assert_eq!((both.left_at(3999), both.left_at(4000)), (both, cut));
        assert!(both.left_at(5000).is_empty());
        let stays = cut.with(FaultKind::Cut, until(None));
        assert_eq!((stays.first_end_ms(), stays.left_at(u64::MAX)), (None, stays));
        assert_eq!(stays.with(FaultKind::Cut, Term { since_ms: 3000, ..until(Some(5000)) }), cut);
        let apart =
            Faults::default().with(FaultKind::Partition("2".parse().unwrap()), until(Some(7)));
        assert_eq!(apart.first_end_ms(), Some(7));
        assert!(apart.left_at(7).is_empty());
    }
}
