//! A set of a lab's nodes by their index, small enough to be copied.

use std::fmt;
use std::str::FromStr;

use anyhow::{Context, Error, Result, ensure};

use super::MAX_NODES;

/// A bit for each node that a lab can have, and for 0, which is none.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct NodeSet([u64; WORDS]);

const WORDS: usize = MAX_NODES as usize / 64 + 1;

impl NodeSet {
    /// Whether it has none.
    pub fn is_empty(self) -> bool {
        self == Self::default()
    }

    /// Whether it has this one.
    pub fn contains(self, index: u32) -> bool {
        let word = self.0.get(index as usize / 64);
        word.is_some_and(|word| word & (1 << (index % 64)) != 0)
    }

    /// Those that it has, in their order.
    pub fn iter(self) -> impl Iterator<Item = u32> {
        (1..=MAX_NODES).filter(move |index| self.contains(*index))
    }

    /// All of both.
    #[must_use]
    pub fn union(self, other: Self) -> Self {
        self.iter().chain(other.iter()).collect()
    }

    /// Those that the other one has not.
    #[must_use]
    pub fn without(self, other: Self) -> Self {
        self.iter().filter(|index| !other.contains(*index)).collect()
    }
}

/// Nodes that no lab can have are left out.
impl FromIterator<u32> for NodeSet {
    fn from_iter<T: IntoIterator<Item = u32>>(nodes: T) -> Self {
        let mut set = Self::default();
        for index in nodes.into_iter().filter(|index| (1..=MAX_NODES).contains(index)) {
            set.0[index as usize / 64] |= 1 << (index % 64);
        }
        set
    }
}

/// `2,5-7`.
impl fmt::Display for NodeSet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut gap = "";
        for first in self.iter().filter(|index| !self.contains(index - 1)) {
            let last = (first..=MAX_NODES).find(|index| !self.contains(index + 1)).unwrap_or(first);
            write!(f, "{gap}{first}")?;
            if last > first {
                write!(f, "-{last}")?;
            }
            gap = ",";
        }
        Ok(())
    }
}

impl FromStr for NodeSet {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let number = |text: &str| {
            let index: u32 = text.parse().with_context(|| format!("`{text}` is no node"))?;
            ensure!((1..=MAX_NODES).contains(&index), "a lab has no node {index}");
            Ok(index)
        };
        let range = |part: &str| {
            let (first, last) = part.split_once('-').unwrap_or((part, part));
            Ok(number(first)?..=number(last)?)
        };
        let ranges: Vec<_> = text.split(',').map(range).collect::<Result<_>>()?;
        Ok(ranges.into_iter().flatten().collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_set_is_read_as_it_is_written() {
        for text in ["1", "2,5-7", "1-1000", "63-65,128,1000"] {
            assert_eq!(text.parse::<NodeSet>().unwrap().to_string(), text);
        }
        let set: NodeSet = [7, 5, 6, 2, 2, 0, 1001].into_iter().collect();
        assert_eq!(set.to_string(), "2,5-7");
        for text in ["", "x", "0", "1001", "1-", "2,,3"] {
            assert!(text.parse::<NodeSet>().is_err(), "{text}");
        }
    }

    #[test]
    fn sets_are_put_together_and_taken_apart() {
        let set = |text: &str| text.parse::<NodeSet>().unwrap();
        assert_eq!(set("1-3").union(set("3-5,9")), set("1-5,9"));
        assert_eq!(set("1-5").without(set("2,4,8")), set("1,3,5"));
        assert!(set("3").without(set("3")).is_empty());
        assert!(set("64").contains(64) && !set("64").contains(128) && !set("64").contains(5000));
    }
}
