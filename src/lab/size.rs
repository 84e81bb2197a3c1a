//! Memory sizes that can only be built right.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// Memory in MiB. `1024`, `1024MiB`, `1GiB`, `512M` and `2G` are understood; M and G are binary,
/// as everywhere in libvirt's and QEMU's memory settings.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "SizeText", into = "String")]
pub struct MemoryMib(u64);

impl MemoryMib {
    /// The number of MiB.
    pub fn mib(self) -> u64 {
        self.0
    }

    /// The number of bytes.
    pub fn bytes(self) -> u64 {
        self.0 << 20
    }
}

impl TryFrom<u64> for MemoryMib {
    type Error = String;

    fn try_from(mib: u64) -> Result<Self, String> {
        if (MIN_MIB..=MAX_MIB).contains(&mib) {
            Ok(Self(mib))
        } else {
            Err(format!(
                "{mib} MiB of memory is not usable: a node has {MIN_MIB} MiB to {} TiB",
                MAX_MIB >> 20
            ))
        }
    }
}

impl FromStr for MemoryMib {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let text = text.trim();
        let end = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
        let (digits, unit) = text.split_at(end);
        let factor = match unit.trim() {
            "" | "M" | "MiB" => 1,
            "G" | "GiB" => 1024,
            "T" | "TiB" => 1024 * 1024,
            _ => {
                return Err(format!(
                    "`{text}` is no amount of memory; write it like `1024MiB` or `2GiB`"
                ));
            }
        };
        let number: u64 = digits.parse().map_err(|_| {
            format!("`{text}` is no amount of memory; write it like `1024MiB` or `2GiB`")
        })?;
        number.checked_mul(factor).ok_or_else(|| format!("`{text}` is too large"))?.try_into()
    }
}

impl fmt::Display for MemoryMib {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}MiB", self.0)
    }
}

impl From<MemoryMib> for String {
    fn from(memory: MemoryMib) -> Self {
        memory.to_string()
    }
}

/// In files, a bare number means MiB.
#[derive(Deserialize)]
#[serde(untagged)]
enum SizeText {
    Number(u64),
    Text(String),
}

impl TryFrom<SizeText> for MemoryMib {
    type Error = String;

    fn try_from(size: SizeText) -> Result<Self, String> {
        match size {
            SizeText::Number(mib) => mib.try_into(),
            SizeText::Text(text) => text.parse(),
        }
    }
}

/// Less than this boots nothing that this tool is for.
const MIN_MIB: u64 = 64;
const MAX_MIB: u64 = 4 << 20;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn understands_the_ways_people_write_memory() {
        for (text, mib) in [
            ("1024", 1024),
            ("512MiB", 512),
            ("512 MiB", 512),
            ("2G", 2048),
            ("1GiB", 1024),
            ("1TiB", 1 << 20),
        ] {
            assert_eq!(text.parse::<MemoryMib>().map(MemoryMib::mib), Ok(mib), "{text}");
        }
    }

    #[test]
    fn refuses_what_is_no_size_or_no_sensible_one() {
        for text in ["", "MiB", "1MiB", "-5", "1.5GiB", "10KiB", "99999999999999999999", "99TiB"] {
            assert!(text.parse::<MemoryMib>().is_err(), "{text}");
        }
        assert_eq!(
            "1MiB".parse::<MemoryMib>().unwrap_err(),
            "1 MiB of memory is not usable: a node has 64 MiB to 4 TiB"
        );
    }
}
