//! Where the files of an image come from.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

/// Where an image's files come from.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Source {
    /// One URL per file.
    Urls(Urls),
    /// A JSON document that says where each file is, as Fedora `CoreOS` publishes it.
    Stream(Stream),
    /// A folder on this computer.
    Local(Local),
    /// A recipe that builds the files here.
    Recipe(RecipeName),
}

/// Files under one base URL.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Urls {
    /// The base URL, a template over `channel` and `version`.
    pub base: String,
    /// The channels there are, the first one is the default; empty if the image has none.
    #[serde(default)]
    pub channels: Vec<String>,
    /// How the newest version of a channel is found; without it the URLs do not change.
    pub latest: Option<Latest>,
    /// Who signs the files.
    pub signed_by: Option<SigningKey>,
}

/// A small document that names the newest version.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Latest {
    /// Where it is, a template over `channel`.
    pub url: String,
    /// The variable that holds the version, if the document is made of `NAME=VALUE` lines.
    pub variable: Option<String>,
    /// The JSON pointer (RFC 6901) to the version, if the document is JSON.
    pub pointer: Option<String>,
}

/// A pinned `OpenPGP` key.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct SigningKey {
    /// The ASCII-armoured public key: a URL, or a path relative to the entry's own file. Wherever it
    /// comes from, it is used only if it has the fingerprint.
    pub key: String,
    /// The fingerprint of its primary key, 40 hexadecimal digits; sub-keys may change. Blanks and a
    /// leading `0x`, with which it is often printed, are left out.
    #[serde(deserialize_with = "fingerprint")]
    pub fingerprint: String,
}

/// Stream metadata, <https://docs.fedoraproject.org/en-US/fedora-coreos/stream-metadata/>.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Stream {
    /// Where the document is, a template over `channel`.
    pub url: String,
    /// The channels there are, the first one is the default.
    #[serde(default)]
    pub channels: Vec<String>,
    /// The JSON pointer (RFC 6901) to the version.
    pub version: String,
}

/// A folder that the user keeps.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Local {
    /// The folder, relative to the entry's own file; without it the user names one: `NAME:FOLDER`.
    pub folder: Option<PathBuf>,
}

/// A recipe of `images/`.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct RecipeName {
    /// The folder's name; its `build.sh OUTPUT_DIR` makes the files.
    pub name: String,
    /// The environment variables that it looks at: with another value of one of them it makes
    /// another image.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub environment: Vec<String>,
}

fn fingerprint<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<String, D::Error> {
    let text = String::deserialize(deserializer)?;
    let digits: String = text.chars().filter(|c| !c.is_whitespace()).collect();
    let bare = digits.strip_prefix("0x").or_else(|| digits.strip_prefix("0X"));
    Ok(bare.unwrap_or(&digits).to_owned())
}
