//! SHA-256 digests, and computing them while bytes pass by.

use std::fmt::Display;
use std::io::Read;
use std::path::Path;
use std::str::FromStr;

use anyhow::Result;
use fs_err as fs;
use serde::{Deserialize, Serialize};
use sha2::Digest as _;

/// A SHA-256 digest, written as 64 lower-case hexadecimal digits.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Deserialize, Serialize)]
#[serde(try_from = "String", into = "String")]
pub struct Sha256([u8; 32]);

/// Why a text is not a SHA-256 digest.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error("`{0}` is not a SHA-256 digest of 64 hexadecimal digits")]
pub struct NotADigest(String);

impl Sha256 {
    /// The digest of some bytes.
    pub fn of(bytes: &[u8]) -> Self {
        Self(sha2::Sha256::digest(bytes).into())
    }

    /// The digest of a file.
    ///
    /// # Errors
    /// If the file cannot be read.
    pub fn of_file(path: &Path) -> Result<Self> {
        let mut hasher = Hasher::default();
        hasher.read_all(&mut fs::File::open(path)?)?;
        Ok(hasher.finish())
    }

    /// The first 12 digits, enough to tell images apart where people read.
    pub fn short(&self) -> String {
        self.to_string()[..SHORT].to_owned()
    }
}

/// Computes a digest piece by piece.
#[derive(Clone, Debug, Default)]
pub struct Hasher {
    state: sha2::Sha256,
    length: u64,
}

impl Hasher {
    /// Adds bytes.
    pub fn update(&mut self, bytes: &[u8]) {
        self.state.update(bytes);
        self.length += bytes.len() as u64;
    }

    /// Adds everything that a reader gives.
    ///
    /// # Errors
    /// If reading fails.
    pub fn read_all(&mut self, reader: &mut impl Read) -> std::io::Result<()> {
        let mut buffer = vec![0; BUFFER];
        loop {
            match reader.read(&mut buffer)? {
                0 => return Ok(()),
                count => self.update(&buffer[..count]),
            }
        }
    }

    /// How many bytes were added.
    pub fn length(&self) -> u64 {
        self.length
    }

    /// The digest of all that was added.
    pub fn finish(self) -> Sha256 {
        Sha256(self.state.finalize().into())
    }
}

impl FromStr for Sha256 {
    type Err = NotADigest;

    fn from_str(text: &str) -> Result<Self, NotADigest> {
        let error = || NotADigest(text.to_owned());
        if text.len() != 64 || !text.is_ascii() {
            return Err(error());
        }
        let mut bytes = [0; 32];
        for (index, byte) in bytes.iter_mut().enumerate() {
            let digits = &text[2 * index..2 * index + 2];
            let is_hex = digits.chars().all(|c| c.is_ascii_hexdigit());
            let value = is_hex.then(|| u8::from_str_radix(digits, 16).ok()).flatten();
            *byte = value.ok_or_else(error)?;
        }
        Ok(Self(bytes))
    }
}

impl TryFrom<String> for Sha256 {
    type Error = NotADigest;

    fn try_from(text: String) -> Result<Self, NotADigest> {
        text.parse()
    }
}

impl From<Sha256> for String {
    fn from(digest: Sha256) -> Self {
        digest.to_string()
    }
}

impl Display for Sha256 {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl std::fmt::Debug for Sha256 {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{self}")
    }
}

const SHORT: usize = 12;
/// Large enough that reading costs nothing beside hashing.
const BUFFER: usize = 128 * 1024;

/// The digest of the list of files.
pub(crate) fn digest_of_all<'a>(files: impl Iterator<Item = (&'a str, Sha256)>) -> Sha256 {
    let mut hasher = Hasher::default();
    files.for_each(|(name, digest)| hasher.update(format!("{digest}  {name}\n").as_bytes()));
    hasher.finish()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_digest_is_read_and_written_as_hexadecimal() {
        let text = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";
        assert_eq!(Sha256::of(b"").to_string(), text);
        assert_eq!(text.to_uppercase().parse(), Ok(Sha256::of(b"")));
        assert_eq!(Sha256::of(b"").short(), "e3b0c44298fc");
        for wrong in ["", "e3b0", &text.replace('e', "g"), &text.replacen("e3", "+3", 1)] {
            assert!(wrong.parse::<Sha256>().is_err(), "{wrong}");
        }
    }
}
