//! What a fault holds a node to: less than its domain has.

use std::fmt;
use std::str::FromStr;

use crate::lab::size::MemoryMib;

/// A share of a processor's time in percent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CpuShare(u8);

impl CpuShare {
    /// The share of this many percent: 1 to 99.
    pub fn of_percent(percent: u64) -> Option<Self> {
        u8::try_from(percent).ok().filter(|percent| (1..100).contains(percent)).map(Self)
    }

    /// The number of percent.
    pub fn percent(self) -> u8 {
        self.0
    }
}

impl FromStr for CpuShare {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let number = text.strip_suffix('%').unwrap_or(text).parse().ok();
        number.and_then(Self::of_percent).ok_or_else(|| {
            format!("`{text}` is no share of a processor; write it like `10%`, from 1% to 99%")
        })
    }
}

impl fmt::Display for CpuShare {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}%", self.0)
    }
}

/// What a domain has no more of than this.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Limit {
    /// The time of each of its processors.
    Cpu(CpuShare),
    /// Its memory.
    Memory(MemoryMib),
}

/// A limit by its name. A domain has one of each name at the most.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LimitName {
    /// The time of its processors.
    Cpu,
    /// Its memory.
    Memory,
}

impl Limit {
    /// Which it is.
    pub fn name(self) -> LimitName {
        match self {
            Self::Cpu(_) => LimitName::Cpu,
            Self::Memory(_) => LimitName::Memory,
        }
    }
}

impl LimitName {
    /// All, in the order in which they are declared.
    pub const ALL: [Self; 2] = [Self::Cpu, Self::Memory];

    /// What it is a limit of, of a domain.
    pub fn what(self) -> &'static str {
        match self {
            Self::Cpu => "processors",
            Self::Memory => "memory",
        }
    }
}

/// "10% of its processors".
impl fmt::Display for Limit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Cpu(share) => write!(f, "{share} of its processors"),
            Self::Memory(memory) => write!(f, "{memory} of its memory"),
        }
    }
}

/// A limit of a domain, as it was found.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Level {
    /// There is none.
    #[default]
    Absent,
    /// This one is in force, in what runs and in what libvirt keeps.
    InForce(Limit),
    /// Something of it: a run may have been killed in between.
    Between,
}

/// The limits of a domain, each in the place of its name.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Limits([Level; LimitName::ALL.len()]);

impl Limits {
    /// The one of this name.
    pub fn get(self, name: LimitName) -> Level {
        self.0[name as usize]
    }

    /// The same with this one.
    #[must_use]
    pub fn with(mut self, name: LimitName, level: Level) -> Self {
        self.0[name as usize] = level;
        self
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_share_is_read_as_it_is_written_and_is_less_than_all() {
        for text in ["1%", "10%", "99%"] {
            assert_eq!(text.parse::<CpuShare>().unwrap().to_string(), text);
        }
        assert_eq!("5".parse::<CpuShare>().unwrap().to_string(), "5%");
        for text in ["", "%", "0%", "100%", "-1%", "10%%", "0.5", "300"] {
            assert!(text.parse::<CpuShare>().is_err(), "{text}");
        }
    }

    #[test]
    fn each_limit_has_a_place_of_its_own() {
        for (place, name) in LimitName::ALL.into_iter().enumerate() {
            assert_eq!(name as usize, place);
        }
    }
}
