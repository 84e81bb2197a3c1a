//! A link that comes and goes.

use std::fmt;
use std::str::FromStr;

use crate::lab::options::Span;

/// For how long a link is away, and is there, by turns: half a second at least, since a change takes a part of that.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Turn(u64);

impl Turn {
    /// The number of milliseconds.
    pub fn ms(self) -> u64 {
        self.0
    }

    /// Whether the link is there at this time, if it went at `since_ms` for the first time.
    pub fn is_up(self, since_ms: u64, now_ms: u64) -> bool {
        now_ms.saturating_sub(since_ms) / self.0 % 2 == 1
    }

    /// When that changes next.
    pub fn next_ms(self, since_ms: u64, now_ms: u64) -> u64 {
        since_ms + (now_ms.saturating_sub(since_ms) / self.0 + 1) * self.0
    }
}

impl FromStr for Turn {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let Span(ms) = text.parse()?;
        if ms >= LEAST_MS { Ok(Self(ms)) } else { Err(format!("`{text}` is less than 500ms")) }
    }
}

impl fmt::Display for Turn {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        Span(self.0).fmt(f)
    }
}

const LEAST_MS: u64 = 500;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_link_goes_first_and_is_there_by_turns() {
        let turn: Turn = "2s".parse().unwrap();
        for (now, is_up, next) in [
            (0, false, 3002),
            (1002, false, 3002),
            (3001, false, 3002),
            (3002, true, 5002),
            (5001, true, 5002),
            (5002, false, 7002),
        ] {
            assert_eq!((turn.is_up(1002, now), turn.next_ms(1002, now)), (is_up, next), "{now}");
        }
    }

    #[test]
    fn a_turn_is_half_a_second_or_more() {
        for text in ["500ms", "2s", "90s"] {
            assert_eq!(text.parse::<Turn>().unwrap().to_string(), text);
        }
        for text in ["", "0", "499ms", "1y"] {
            assert!(text.parse::<Turn>().is_err(), "{text}");
        }
    }
}
