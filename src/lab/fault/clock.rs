//! How far a fault sets a node's clock from the right time.

use std::fmt;
use std::str::FromStr;

/// So many seconds before or after the right time, but not none.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ClockOffset(i64);

impl ClockOffset {
    /// The one of this many seconds; `None` if that is none, or more than ten years.
    pub fn of_seconds(seconds: i64) -> Option<Self> {
        let is_one = seconds != 0 && (-LARGEST_S..=LARGEST_S).contains(&seconds);
        is_one.then_some(Self(seconds))
    }

    /// Seconds; less than zero for a clock that is slow.
    pub fn seconds(self) -> i64 {
        self.0
    }
}

/// A sign, a number and a unit: `-1h`.
impl FromStr for ClockOffset {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let wrong = || {
            format!(
                "`{text}` is no offset of a clock; write it like `-90s`, `+5m`, `-1h` or `+30d`, up to ten years"
            )
        };
        let (sign, span) = match text.split_at_checked(1).ok_or_else(wrong)? {
            ("-", span) => (-1, span),
            ("+", span) => (1, span),
            _ => (1, text),
        };
        let end = span.find(|c: char| !c.is_ascii_digit()).unwrap_or(span.len());
        let (number, unit) = span.split_at(end);
        let (_, unit_s) = *UNITS.iter().find(|(name, _)| *name == unit).ok_or_else(wrong)?;
        let number: i64 = number.parse().map_err(|_| wrong())?;
        number.checked_mul(sign * unit_s).and_then(Self::of_seconds).ok_or_else(wrong)
    }
}

/// In the largest unit of which it is a whole number, with its sign.
impl fmt::Display for ClockOffset {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let is_whole = |(_, unit_s): &&(&str, i64)| self.0 % unit_s == 0;
        let (unit, unit_s) = UNITS.iter().find(is_whole).unwrap_or(&SECOND);
        write!(f, "{:+}{unit}", self.0 / unit_s)
    }
}

const SECOND: (&str, i64) = ("s", 1);

/// With their seconds, the largest one first.
const UNITS: [(&str, i64); 4] = [("d", 86_400), ("h", 3600), ("m", 60), SECOND];

const LARGEST_S: i64 = 3652 * 86_400;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_offset_is_read_as_it_is_written_and_is_not_none() {
        for (text, seconds) in [
            ("-1h", -3600),
            ("+90s", 90),
            ("-90m", -5400),
            ("+30d", 2_592_000),
            ("+3652d", LARGEST_S),
        ] {
            let offset: ClockOffset = text.parse().unwrap();
            assert_eq!((offset.seconds(), offset.to_string().as_str()), (seconds, text));
        }
        assert_eq!("120s".parse::<ClockOffset>().unwrap().to_string(), "+2m");
        for text in [
            "",
            "-",
            "+",
            "0s",
            "-0h",
            "1",
            "h",
            "1.5h",
            "--1h",
            "1w",
            "4000d",
            "9999999999999999999s",
            "é",
        ] {
            assert!(text.parse::<ClockOffset>().is_err(), "{text}");
        }
    }
}
