//! What a fault does to the packets of a node: they come late, not at all, broken, twice, in another order, or few in a second.

use std::fmt;
use std::num::NonZeroU32;
use std::str::FromStr;

use crate::lab::options::Span;

/// How late a packet comes: a millisecond to a minute.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Lateness {
    ms: NonZeroU32,
}

impl Lateness {
    /// Milliseconds.
    pub fn ms(self) -> u32 {
        self.ms.get()
    }
}

impl FromStr for Lateness {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let Span(ms) = text.parse()?;
        let ms = u32::try_from(ms).ok().filter(|ms| *ms <= LONGEST_MS).and_then(NonZeroU32::new);
        ms.map(|ms| Self { ms }).ok_or_else(|| format!("`{text}` is not from `1ms` to `1m`"))
    }
}

impl fmt::Display for Lateness {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}ms", self.ms)
    }
}

/// How late packets come, and by how much that differs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Delay {
    /// All of them by as much.
    pub by: Lateness,
    /// A packet may be later or earlier by this.
    pub jitter: Option<Lateness>,
}

/// "100ms", "100ms~20ms".
impl fmt::Display for Delay {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.by)?;
        self.jitter.map_or(Ok(()), |jitter| write!(f, "~{jitter}"))
    }
}

impl FromStr for Delay {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (by, jitter) = match text.split_once('~') {
            Some((by, jitter)) => (by, Some(jitter.parse()?)),
            None => (text, None),
        };
        Ok(Self { by: by.parse()?, jitter })
    }
}

const LONGEST_MS: u32 = 60_000;

/// Which share of the packets is meant, in percent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Percent(u8);

impl Percent {
    /// 1 to 100.
    pub fn get(self) -> u8 {
        self.0
    }
}

impl FromStr for Percent {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let number: Option<u8> = text.strip_suffix('%').unwrap_or(text).parse().ok();
        let percent = number.filter(|percent| (1..=100).contains(percent)).map(Self);
        percent.ok_or_else(|| {
            format!("`{text}` is no share of packets; write it like `10%`, from 1% to 100%")
        })
    }
}

impl fmt::Display for Percent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}%", self.0)
    }
}

/// How many bits pass in a second, in the units of tc(8).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BitRate {
    kbit: NonZeroU32,
}

impl BitRate {
    /// Bits in a second.
    pub fn bits(self) -> u64 {
        u64::from(self.kbit.get()) * 1000
    }
}

impl FromStr for BitRate {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let wrong = || format!("`{text}` is no rate; write it like `512kbit`, `1mbit` or `1gbit`");
        let end = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
        let (number, unit) = text.split_at(end);
        let unit_kbit = match unit {
            "kbit" => 1,
            "mbit" => 1000,
            "gbit" => 1_000_000,
            _ => return Err(wrong()),
        };
        let number: u32 = number.parse().map_err(|_| wrong())?;
        let kbit = number.checked_mul(unit_kbit).and_then(NonZeroU32::new);
        kbit.map(|kbit| Self { kbit }).ok_or_else(wrong)
    }
}

impl fmt::Display for BitRate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.kbit.get() {
            kbit if kbit % 1_000_000 == 0 => write!(f, "{}gbit", kbit / 1_000_000),
            kbit if kbit % 1000 == 0 => write!(f, "{}mbit", kbit / 1000),
            kbit => write!(f, "{kbit}kbit"),
        }
    }
}

/// What is wrong with the packets of a node.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Flaw {
    /// They come late.
    Delay(Delay),
    /// Some of them never come.
    Loss(Percent),
    /// Some have a bit turned round.
    Corrupt(Percent),
    /// Some come twice.
    Duplicate(Percent),
    /// Some come before those that were sent earlier.
    Reorder(Percent),
    /// No more than so many come in a second.
    Rate(BitRate),
}

impl Flaw {
    /// The one of this word, with what [`fmt::Display`] gives. `None` where there is no such flaw.
    pub(super) fn parse(word: &str, detail: &str) -> Option<Result<Self, String>> {
        Some(match word {
            "delay" => detail.parse().map(Self::Delay),
            "loss" => detail.parse().map(Self::Loss),
            "corrupt" => detail.parse().map(Self::Corrupt),
            "duplicate" => detail.parse().map(Self::Duplicate),
            "reorder" => detail.parse().map(Self::Reorder),
            "rate" => detail.parse().map(Self::Rate),
            _ => return None,
        })
    }

    /// Its word on the command line and in marks.
    pub(super) fn word(self) -> &'static str {
        match self {
            Self::Delay(_) => "delay",
            Self::Loss(_) => "loss",
            Self::Corrupt(_) => "corrupt",
            Self::Duplicate(_) => "duplicate",
            Self::Reorder(_) => "reorder",
            Self::Rate(_) => "rate",
        }
    }

    /// What belongs to it on the command line beside the nodes.
    pub(super) fn options(self) -> String {
        match self {
            Self::Delay(Delay { by, jitter: Some(jitter) }) => {
                format!("--by {by} --jitter {jitter}")
            }
            Self::Delay(Delay { by, jitter: None }) => format!("--by {by}"),
            Self::Rate(rate) => format!("--to {rate}"),
            Self::Loss(share)
            | Self::Corrupt(share)
            | Self::Duplicate(share)
            | Self::Reorder(share) => format!("--percent {share}"),
        }
    }
}

impl fmt::Display for Flaw {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Delay(delay) => delay.fmt(f),
            Self::Rate(rate) => rate.fmt(f),
            Self::Loss(share)
            | Self::Corrupt(share)
            | Self::Duplicate(share)
            | Self::Reorder(share) => share.fmt(f),
        }
    }
}

/// All that is wrong with the packets of a node; by default nothing.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Flaws {
    /// How late they come.
    pub delay: Option<Delay>,
    /// How many never come.
    pub loss: Option<Percent>,
    /// How many have a bit turned round.
    pub corrupt: Option<Percent>,
    /// How many come twice.
    pub duplicate: Option<Percent>,
    /// How many come before earlier ones.
    pub reorder: Option<Percent>,
    /// How many bits come in a second.
    pub rate: Option<BitRate>,
}

impl Flaws {
    /// Whether there are none.
    pub fn is_empty(self) -> bool {
        self == Self::default()
    }

    /// These, and of the kinds that are not among them those.
    #[must_use]
    pub fn also(self, others: Self) -> Self {
        Self {
            delay: self.delay.or(others.delay),
            loss: self.loss.or(others.loss),
            corrupt: self.corrupt.or(others.corrupt),
            duplicate: self.duplicate.or(others.duplicate),
            reorder: self.reorder.or(others.reorder),
            rate: self.rate.or(others.rate),
        }
    }

    /// The same without loss: what the kernel's netem does.
    #[must_use]
    pub fn of_netem(self) -> Self {
        Self { loss: None, ..self }
    }
}

impl FromIterator<Flaw> for Flaws {
    fn from_iter<T: IntoIterator<Item = Flaw>>(flaws: T) -> Self {
        flaws.into_iter().fold(Self::default(), |all, flaw| match flaw {
            Flaw::Delay(delay) => Self { delay: Some(delay), ..all },
            Flaw::Loss(share) => Self { loss: Some(share), ..all },
            Flaw::Corrupt(share) => Self { corrupt: Some(share), ..all },
            Flaw::Duplicate(share) => Self { duplicate: Some(share), ..all },
            Flaw::Reorder(share) => Self { reorder: Some(share), ..all },
            Flaw::Rate(rate) => Self { rate: Some(rate), ..all },
        })
    }
}

/// "delay 100ms, loss 20%".
impl fmt::Display for Flaws {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { delay, loss, corrupt, duplicate, reorder, rate } = *self;
        let all = [
            delay.map(Flaw::Delay),
            loss.map(Flaw::Loss),
            corrupt.map(Flaw::Corrupt),
            duplicate.map(Flaw::Duplicate),
            reorder.map(Flaw::Reorder),
            rate.map(Flaw::Rate),
        ];
        let all = all.into_iter().flatten();
        let words: Vec<String> = all.map(|flaw| format!("{} {flaw}", flaw.word())).collect();
        f.write_str(&words.join(", "))
    }
}

/// What of the flaws of a node is in force, as it was found.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Wire {
    /// Nobody has looked.
    #[default]
    Unseen,
    /// There is none.
    Whole,
    /// All of these, and no others.
    InForce(Flaws),
    /// Something of them: a run may have been killed in between, or the node was started by somebody else.
    Between,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_flaw_is_read_as_it_is_written() {
        for (name, text, options) in [
            ("delay", "100ms", "--by 100ms"),
            ("delay", "1500ms~20ms", "--by 1500ms --jitter 20ms"),
            ("loss", "20%", "--percent 20%"),
            ("corrupt", "1%", "--percent 1%"),
            ("duplicate", "100%", "--percent 100%"),
            ("reorder", "25%", "--percent 25%"),
            ("rate", "1mbit", "--to 1mbit"),
            ("rate", "1500kbit", "--to 1500kbit"),
            ("rate", "2gbit", "--to 2gbit"),
        ] {
            let flaw = Flaw::parse(name, text).unwrap().unwrap();
            assert_eq!((flaw.word(), flaw.to_string().as_str()), (name, text));
            assert_eq!(flaw.options(), options);
        }
        for (name, text) in [
            ("delay", "0s"),
            ("delay", "61s"),
            ("delay", "10ms~0ms"),
            ("delay", ""),
            ("loss", "0%"),
            ("loss", "101%"),
            ("rate", "0mbit"),
            ("rate", "1mb"),
            ("rate", "5000gbit"),
        ] {
            assert!(Flaw::parse(name, text).unwrap().is_err(), "{text}");
        }
        assert!(Flaw::parse("cut", "").is_none());
    }

    #[test]
    fn flaws_are_told_in_one_order() {
        let flaw = |name, text| Flaw::parse(name, text).unwrap().unwrap();
        let all = [flaw("rate", "1mbit"), flaw("loss", "5%")];
        let flaws: Flaws = all.into_iter().collect();
        assert_eq!(flaws.to_string(), "loss 5%, rate 1mbit");
        assert_eq!(flaws.of_netem().to_string(), "rate 1mbit");
        assert!(Flaws::default().is_empty() && !flaws.is_empty());
    }
}
