//! What a discovery URL is made of, and how many members may meet there: both can only be right.

use std::borrow::Borrow;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// What makes a discovery URL unguessable: 32 lower-case hexadecimal digits.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String")]
pub struct Token(String);

impl Token {
    /// The token these bytes spell.
    pub fn new(bytes: [u8; 16]) -> Self {
        Self(format!("{:032x}", u128::from_be_bytes(bytes)))
    }

    /// The 32 digits.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl Borrow<str> for Token {
    fn borrow(&self) -> &str {
        &self.0
    }
}

impl TryFrom<String> for Token {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        let is_digit = |byte: u8| matches!(byte, b'0'..=b'9' | b'a'..=b'f');
        if text.len() != 32 || !text.bytes().all(is_digit) {
            return Err(format!("a token has 32 hexadecimal digits, unlike `{text}`"));
        }
        Ok(Self(text))
    }
}

/// How many members a cluster has: 1 to 1000.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "usize")]
pub struct Size(usize);

impl Size {
    /// The number.
    pub fn members(self) -> usize {
        self.0
    }
}

impl TryFrom<usize> for Size {
    type Error = String;

    fn try_from(size: usize) -> Result<Self, String> {
        if !(1..=MOST_MEMBERS).contains(&size) {
            return Err(format!("the size must be 1 to {MOST_MEMBERS}, not `{size}`"));
        }
        Ok(Self(size))
    }
}

impl FromStr for Size {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let size: Option<usize> = text.parse().ok();
        let size = size.and_then(|size| Self::try_from(size).ok());
        let quoted: String = text.chars().take(LONGEST_QUOTE).collect();
        size.ok_or_else(|| format!("the size must be 1 to {MOST_MEMBERS}, not `{quoted}`"))
    }
}

const MOST_MEMBERS: usize = 1000;
const LONGEST_QUOTE: usize = 32;

#[cfg(test)]
mod tests {
    use super::*;

    const T: &str = "000102030405060708090a0b0c0d0e0f";

    #[test]
    fn a_token_has_32_lower_case_digits() {
        let token = Token::new(std::array::from_fn(|n| u8::try_from(n).unwrap()));
        assert_eq!(token.as_str(), T);
        for wrong in ["", "0", &T.to_uppercase(), &format!("{T}0"), &T.replace('a', "g")] {
            assert!(Token::try_from(wrong.to_owned()).is_err(), "{wrong}");
        }
    }

    #[test]
    fn a_size_is_1_to_1000() {
        for (text, right) in
            [("1", true), ("1000", true), ("0", false), ("1001", false), ("-1", false), ("", false)]
        {
            assert_eq!(text.parse::<Size>().is_ok(), right, "{text}");
        }
        assert_eq!(
            "x".repeat(99).parse::<Size>().unwrap_err(),
            format!("the size must be 1 to 1000, not `{}`", "x".repeat(32))
        );
    }
}
