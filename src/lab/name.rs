//! Names that are valid everywhere they go: libvirt objects, host names, file names.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// The name of a lab: an RFC 1123 label, short enough that `NAME-1000` is one as well.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct LabName(String);

impl LabName {
    /// The name of the node with this index, its domain's and its host name.
    pub fn node(&self, index: u32) -> String {
        format!("{}-{index}", self.0)
    }

    /// The name as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for LabName {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let allowed = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
        let good = (1..=MAX_LENGTH).contains(&text.len())
            && text.chars().all(allowed)
            && !text.starts_with('-')
            && !text.ends_with('-');
        if good {
            Ok(Self(text.to_owned()))
        } else {
            Err(format!(
                "a lab's name has 1 to {MAX_LENGTH} lower-case letters, digits and hyphens (not at its ends), such as `demo`"
            ))
        }
    }
}

impl TryFrom<String> for LabName {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        text.parse()
    }
}

impl From<LabName> for String {
    fn from(name: LabName) -> Self {
        name.0
    }
}

impl fmt::Display for LabName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

const MAX_LENGTH: usize = 40;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn accepts_host_name_labels_only() {
        for good in ["a", "demo", "lab-2", "0", &"x".repeat(40)] {
            assert!(good.parse::<LabName>().is_ok(), "{good}");
        }
        for bad in ["", "Demo", "-a", "a-", "a_b", "a.b", "<&'\"", "../x", "a b", &"x".repeat(41)] {
            assert!(bad.parse::<LabName>().is_err(), "{bad}");
        }
    }
}
