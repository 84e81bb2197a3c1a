//! What a fault holds a node to: less than its domain has, or another time.

use std::fmt;
use std::num::NonZeroU32;
use std::str::FromStr;

use super::clock::ClockOffset;
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

/// So many bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bytes(u64);

impl FromStr for Bytes {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let wrong = || format!("`{text}` is no amount of bytes; write it like `512KiB` or `1MiB`");
        let end = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
        let (number, unit) = text.split_at(end);
        let unit = match unit {
            "K" | "KiB" => 1 << 10,
            "M" | "MiB" => 1 << 20,
            "G" | "GiB" => 1 << 30,
            _ => return Err(wrong()),
        };
        let number: u32 = number.parse().map_err(|_| wrong())?;
        let bytes = u64::from(number) * unit;
        // QEMU takes no more than some hundred times that.
        if (1..=1 << 40).contains(&bytes) { Ok(Self(bytes)) } else { Err(wrong()) }
    }
}

/// In the largest unit of which it is a whole number.
impl fmt::Display for Bytes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            bytes if bytes % (1 << 30) == 0 => write!(f, "{}GiB", bytes >> 30),
            bytes if bytes % (1 << 20) == 0 => write!(f, "{}MiB", bytes >> 20),
            bytes => write!(f, "{}KiB", bytes >> 10),
        }
    }
}

/// What a disk does in a second at the most, of one of the two or of both.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct DiskPace {
    iops: Option<NonZeroU32>,
    bytes: Option<Bytes>,
}

impl DiskPace {
    /// So many reads and writes, and so many bytes; `None` if there is neither.
    pub fn new(iops: Option<NonZeroU32>, bytes: Option<Bytes>) -> Option<Self> {
        let pace = Self { iops, bytes };
        (pace != Self::default()).then_some(pace)
    }

    /// The one that libvirt has with these numbers, if there is one.
    pub fn of(iops: u64, bytes: u64) -> Option<Self> {
        let is_whole = bytes.is_multiple_of(1 << 10);
        let bytes = (bytes > 0).then_some(Bytes(bytes));
        let iops = u32::try_from(iops).ok()?;
        Self::new(NonZeroU32::new(iops), bytes).filter(|_| is_whole)
    }

    /// Reads and writes in a second; 0 for as many as there are, as libvirt has it.
    pub fn iops(self) -> u64 {
        self.iops.map_or(0, |iops| iops.get().into())
    }

    /// Bytes in a second; 0 for as many as there are.
    pub fn bytes(self) -> u64 {
        self.bytes.map_or(0, |bytes| bytes.0)
    }

    /// As it is typed.
    pub(super) fn options(self) -> String {
        let iops = self.iops.map(|iops| format!("--iops {iops}"));
        let rate = self.bytes.map(|bytes| format!("--rate {bytes}"));
        iops.into_iter().chain(rate).collect::<Vec<_>>().join(" ")
    }
}

/// "50iops,1MiB/s".
impl fmt::Display for DiskPace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let iops = self.iops.map(|iops| format!("{iops}iops"));
        let rate = self.bytes.map(|bytes| format!("{bytes}/s"));
        f.write_str(&iops.into_iter().chain(rate).collect::<Vec<_>>().join(","))
    }
}

impl FromStr for DiskPace {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let mut pace = Self::default();
        for part in text.split(',') {
            let wrong = || format!("`{part}` is nothing that a disk does in a second");
            if let Some(iops) = part.strip_suffix("iops") {
                pace.iops = Some(iops.parse().map_err(|_| wrong())?);
            } else {
                pace.bytes = Some(part.strip_suffix("/s").ok_or_else(wrong)?.parse()?);
            }
        }
        Ok(pace)
    }
}

/// What a domain has no more of than this.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Limit {
    /// The time of each of its processors.
    Cpu(CpuShare),
    /// Its memory.
    Memory(MemoryMib),
    /// What its disk does in a second.
    Disk(DiskPace),
    /// How far its clock is from the right time: no more and no less.
    Clock(ClockOffset),
}

/// A limit by its name. A domain has one of each name at the most.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LimitName {
    /// The time of its processors.
    Cpu,
    /// Its memory.
    Memory,
    /// What its disk does in a second.
    Disk,
    /// How far its clock is from the right time.
    Clock,
}

impl Limit {
    /// Which it is.
    pub fn name(self) -> LimitName {
        match self {
            Self::Cpu(_) => LimitName::Cpu,
            Self::Memory(_) => LimitName::Memory,
            Self::Disk(_) => LimitName::Disk,
            Self::Clock(_) => LimitName::Clock,
        }
    }
}

impl LimitName {
    /// All, in the order in which they are declared.
    pub const ALL: [Self; 4] = [Self::Cpu, Self::Memory, Self::Disk, Self::Clock];

    /// What it is a limit of, of a domain.
    pub fn what(self) -> &'static str {
        match self {
            Self::Cpu => "processors",
            Self::Memory => "memory",
            Self::Disk => "disk",
            Self::Clock => "clock",
        }
    }
}

/// "10% of its processors".
impl fmt::Display for Limit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Cpu(share) => write!(f, "{share} of its processors"),
            Self::Memory(memory) => write!(f, "{memory} of its memory"),
            Self::Disk(pace) => write!(f, "{pace} of its disk"),
            Self::Clock(offset) => write!(f, "a clock of {offset} from its next power-on"),
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
    fn a_pace_is_read_as_it_is_written() {
        for (text, iops, bytes) in [
            ("50iops", 50, 0),
            ("1MiB/s", 0, 1 << 20),
            ("50iops,1536KiB/s", 50, 3 << 19),
            ("2GiB/s", 0, 2 << 30),
        ] {
            let pace: DiskPace = text.parse().unwrap();
            assert_eq!(pace.to_string(), text);
            assert_eq!((pace.iops(), pace.bytes()), (iops, bytes), "{text}");
        }
        for text in
            ["", "50", "0iops", "0MiB/s", "9000GiB/s", "1MiB", "1.5MiB/s", "50iops,", "10B/s"]
        {
            assert!(text.parse::<DiskPace>().is_err(), "{text}");
        }
        assert_eq!(DiskPace::new(None, None), None);
    }

    #[test]
    fn each_limit_has_a_place_of_its_own() {
        for (place, name) in LimitName::ALL.into_iter().enumerate() {
            assert_eq!(name as usize, place);
        }
    }
}
