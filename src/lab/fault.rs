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
    /// Its network cards have no link.
    pub cut: Option<Term>,
    /// It hears nothing of some other nodes.
    pub partition: Option<Partition>,
    /// Its processors stand still.
    pub pause: Option<Term>,
    /// It has no power.
    pub kill: Option<Term>,
}

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

/// That a node is kept apart from others.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Partition {
    /// From whom, who are kept apart from it as well.
    pub from: NodeSet,
    /// From when to when.
    pub term: Term,
}

/// One fault of a node.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Fault {
    /// Which.
    pub kind: FaultKind,
    /// From when to when it is wanted.
    pub term: Term,
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
        let Self { cut, partition, pause, kill } = self;
        let all = [
            cut.map(|term| (FaultKind::Cut, term)),
            partition.map(|Partition { from, term }| (FaultKind::Partition(from), term)),
            pause.map(|term| (FaultKind::Pause, term)),
            kill.map(|term| (FaultKind::Kill, term)),
        ];
        all.into_iter().flatten().map(|(kind, term)| Fault { kind, term })
    }

    /// These and one more; one that is there already is as old as it is, and ends when it is said now.
    #[must_use]
    pub fn with(self, kind: FaultKind, term: Term) -> Self {
        match kind {
            FaultKind::Cut => Self { cut: Some(term.renewed(self.cut)), ..self },
            FaultKind::Pause => Self { pause: Some(term.renewed(self.pause)), ..self },
            FaultKind::Kill => Self { kill: Some(term.renewed(self.kill)), ..self },
            FaultKind::Partition(from) => {
                let there = self.partition;
                let from = there.map_or(from, |there| there.from.union(from));
                let partition = Partition { from, term: term.renewed(there.map(|it| it.term)) };
                Self { partition: Some(partition).filter(|it| !it.from.is_empty()), ..self }
            }
        }
    }

    /// The faults that are left at this time, in milliseconds since the epoch.
    #[must_use]
    pub fn left_at(self, now_ms: u64) -> Self {
        let lasts = |term: &Term| !term.is_over(now_ms);
        Self {
            cut: self.cut.filter(lasts),
            partition: self.partition.filter(|it| lasts(&it.term)),
            pause: self.pause.filter(lasts),
            kill: self.kill.filter(lasts),
        }
    }

    /// When the first of them ends that ends by itself, in milliseconds since the epoch.
    pub fn first_end_ms(self) -> Option<u64> {
        self.iter().filter_map(|fault| fault.term.until_ms).min()
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
    /// "cut off by a fault since 12 s, healed in 18 s", of a node of this lab.
    pub fn describe(self, lab: &LabName, now_ms: u64) -> String {
        let Term { since_ms, until_ms } = self.term;
        let seconds = now_ms.saturating_sub(since_ms) / 1000;
        let state = match self.kind {
            FaultKind::Partition(from) => {
                let from: Vec<String> = from.iter().map(|index| lab.node(index)).collect();
                format!("kept apart from {}", from.join(", "))
            }
            kind => kind.state().to_owned(),
        };
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
            write!(f, "{gap}{}={term}", kind.name())?;
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
            let (name, term) = word.split_once('=').with_context(no_fault)?;
            let (term, from) = term.split_once(':').unwrap_or((term, ""));
            let term: Term = term.parse().with_context(no_fault)?;
            let kind = match name {
                "cut" if from.is_empty() => FaultKind::Cut,
                "pause" if from.is_empty() => FaultKind::Pause,
                "kill" if from.is_empty() => FaultKind::Kill,
                "partition" => FaultKind::Partition(from.parse().with_context(no_fault)?),
                _ => bail!(no_fault()),
            };
            faults = faults.with(kind, term);
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
        for faults in [cut, both, power, short, Faults::default()] {
            assert_eq!(faults.to_string().parse::<Faults>().unwrap(), faults);
        }
        for text in [
            "cut",
            "cut=",
            "cut=x",
            "cut=1:2",
            "cut=1-",
            "cut=-1",
            "cut=1-2-3",
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
