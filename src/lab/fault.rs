//! What is done to nodes on purpose, to see what their cluster makes of it. A fault is wanted of a node as its power is: its
//! mark says so, and all that virtlab does keeps it until it is healed.

use std::fmt;
use std::str::FromStr;

use anyhow::{Context, Error, Result, bail};

/// The faults of a node; by default none.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Faults {
    /// Its network cards have no link since this time, in milliseconds since the epoch.
    pub cut: Option<u64>,
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
}

impl Faults {
    /// Whether there are none.
    pub fn is_empty(self) -> bool {
        self == Self::default()
    }

    /// Each of them.
    pub fn iter(self) -> impl Iterator<Item = Fault> {
        self.cut.map(|since_ms| Fault { kind: FaultKind::Cut, since_ms }).into_iter()
    }

    /// These and one more from this time on; one that is there already is as old as it is.
    #[must_use]
    pub fn with(self, kind: FaultKind, since_ms: u64) -> Self {
        match kind {
            FaultKind::Cut => Self { cut: self.cut.or(Some(since_ms)) },
        }
    }
}

impl FaultKind {
    /// The word for it on the command line, in marks and in JSON.
    pub fn name(self) -> &'static str {
        match self {
            Self::Cut => "cut",
        }
    }

    /// What the node is by it.
    pub fn describe(self) -> &'static str {
        match self {
            Self::Cut => "cut off",
        }
    }
}

impl Fault {
    /// "cut off by a fault since 12 s".
    pub fn describe(self, now_ms: u64) -> String {
        let seconds = now_ms.saturating_sub(self.since_ms) / 1000;
        format!("{} by a fault since {seconds} s", self.kind.describe())
    }
}

/// As marks have it: `cut=1764541234567`, the next one after a space.
impl fmt::Display for Faults {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (place, Fault { kind, since_ms }) in self.iter().enumerate() {
            let gap = if place == 0 { "" } else { " " };
            write!(f, "{gap}{}={since_ms}", kind.name())?;
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
            let since_ms = since.parse().with_context(no_fault)?;
            match name {
                "cut" => faults = faults.with(FaultKind::Cut, since_ms),
                _ => bail!(no_fault()),
            }
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn faults_are_read_as_they_are_written() {
        let cut = Faults::default().with(FaultKind::Cut, 12);
        assert_eq!(cut.to_string(), "cut=12");
        for faults in [cut, Faults::default()] {
            assert_eq!(faults.to_string().parse::<Faults>().unwrap(), faults);
        }
        for text in ["cut", "cut=", "cut=x", "burnt=1", "cut=1 burnt=1"] {
            assert!(text.parse::<Faults>().is_err(), "{text}");
        }
    }

    #[test]
    fn a_fault_that_is_there_is_no_younger_for_being_wanted_again() {
        let cut = Faults::default().with(FaultKind::Cut, 1000);
        assert_eq!(cut.with(FaultKind::Cut, 5000), cut);
        let said: Vec<String> = cut.iter().map(|fault| fault.describe(13_999)).collect();
        assert_eq!(said, ["cut off by a fault since 12 s"]);
        assert!(Faults::default().is_empty() && !cut.is_empty());
    }
}
