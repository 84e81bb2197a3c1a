//! One entry of the catalogue: `images/NAME.toml`.
//!
//! The file is written by people, so it is parsed strictly: an unknown key, a role that is missing
//! or an argument that names a variable which does not exist is an error with a file, a line and a
//! column, long before anything is downloaded.

use std::path::Path;
use std::path::PathBuf;

use anyhow::Context;
use anyhow::Result;
use anyhow::ensure;
use clap::ValueEnum;
use fs_err as fs;
use minijinja::value::Serde;
use serde::Deserialize;
use serde::Serialize;

use crate::images::arguments::BootVariables;
use crate::images::arguments::expand;
use crate::images::arguments::render;
use crate::images::digest::Sha256;

/// A bootable image: its files, how they are verified, and what a node of it needs.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct ImageSpec {
    /// The version of this file format, [`FORMAT_VERSION`].
    pub version: u32,
    /// The name that `--image` takes: lower-case letters, digits, `-` and `_`.
    pub name: String,
    /// One line for `virtlab image list`.
    pub description: String,
    /// Where the files come from.
    pub source: Source,
    /// The files, in the order in which initrds are loaded.
    #[serde(rename = "file")]
    pub files: Vec<FileSpec>,
    /// The kernel arguments, a template over [`BootVariables`].
    pub arguments: String,
    /// The least memory of a node in MiB.
    pub memory_mib: u32,
    /// What the booted system reads about itself.
    pub config: ConfigFormat,
    /// The config template that is used unless the user names one, a file of `config-templates/`.
    pub config_template: Option<String>,
    /// When a node of this image counts as ready.
    pub ready: Readiness,
    /// Who `virtlab ssh` logs in as.
    pub ssh_user: Option<String>,
    /// The folder of the file this was read from; none for an entry that is part of virtlab.
    #[serde(skip)]
    pub folder: Option<PathBuf>,
}

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
    /// The fingerprint of its primary key, 40 hexadecimal digits; sub-keys may change.
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
}

/// One file of an image.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct FileSpec {
    /// What the file is to the boot.
    pub role: Role,
    /// The name under which virtlab keeps and serves it.
    pub name: String,
    /// Where it is, below the base URL or the folder; [`name`](Self::name) if not given.
    pub path: Option<String>,
    /// The JSON pointer to its `location` and `sha256` in the stream metadata.
    pub pointer: Option<String>,
    /// Its SHA-256, for a file that never changes.
    pub sha256: Option<Sha256>,
    /// A file of digests that lists it, below the base URL.
    pub digests: Option<String>,
    /// Its detached signature, below the base URL.
    pub signature: Option<String>,
}

/// What a file is to the boot.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Deserialize, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Role {
    /// The Linux kernel, exactly one
    Kernel,
    /// An initial RAM disk, loaded in the order of the entry
    Initrd,
    /// Anything the initrd fetches over HTTP, such as a root file system
    Extra,
}

/// What the booted system reads about itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum ConfigFormat {
    /// Ignition's JSON
    Ignition,
    /// The `#cloud-config` of `CoreOS`, by `cloud-config-url=`
    CloudConfig,
    /// `NoCloud`: `user-data`, `meta-data`, `vendor-data`, `network-config`
    UserData,
    /// A machine config of Talos
    Talos,
    /// Nothing
    None,
}

/// When a node counts as ready.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize, ValueEnum)]
#[serde(rename_all = "kebab-case")]
pub enum Readiness {
    /// It has fetched its config
    Config,
    /// It answers ssh
    Ssh,
    /// Its etcd is healthy
    Etcd,
}

impl std::fmt::Display for Readiness {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Config => "config",
            Self::Ssh => "ssh",
            Self::Etcd => "etcd",
        })
    }
}

impl ImageSpec {
    /// Reads an entry from a file. Relative paths in it are relative to its folder.
    ///
    /// # Errors
    /// If the file cannot be read, or as [`ImageSpec::parse`].
    pub fn read(path: &Path) -> Result<Self> {
        let text = fs::read_to_string(path).context("reading the image's entry")?;
        let mut spec = Self::parse(&text, &path.display().to_string())?;
        let folder = path.parent().unwrap_or(Path::new(""));
        spec.folder = Some(if folder.as_os_str().is_empty() { ".".into() } else { folder.into() });
        Ok(spec)
    }

    /// Parses an entry; `file` is what errors call it.
    ///
    /// # Errors
    /// With file, line and column if the text is not TOML, has an unknown key or lacks one; with
    /// the file and the key if what it says cannot work.
    pub fn parse(text: &str, file: &str) -> Result<Self> {
        let spec: Self = toml::from_str(text).map_err(|error| located(&error, text, file))?;
        spec.check().with_context(|| file.to_owned())?;
        Ok(spec)
    }

    /// The kernel arguments of one node, on one line.
    ///
    /// # Errors
    /// If the template is wrong; [`ImageSpec::parse`] has found that already for entries it made.
    pub fn kernel_arguments(&self, variables: &BootVariables) -> Result<String> {
        let text = render(&self.arguments, Serde(variables))
            .with_context(|| format!("rendering the kernel arguments of image `{}`", self.name))?;
        Ok(text.split_whitespace().collect::<Vec<_>>().join(" "))
    }

    /// The channels of the image, the default one first.
    pub fn channels(&self) -> &[String] {
        match &self.source {
            Source::Urls(urls) => &urls.channels,
            Source::Stream(stream) => &stream.channels,
            Source::Local(_) | Source::Recipe(_) => &[],
        }
    }

    fn check(&self) -> Result<()> {
        ensure!(
            self.version == FORMAT_VERSION,
            "`version` is {}, this virtlab reads version {FORMAT_VERSION}",
            self.version
        );
        ensure!(
            is_file_name(&self.name) && !self.name.chars().any(|c| c.is_ascii_uppercase()),
            "`name` is `{}`: use lower-case letters, digits, `-`, `_` and `.`",
            self.name
        );
        let kernels = self.files.iter().filter(|file| file.role == Role::Kernel).count();
        ensure!(kernels == 1, "{kernels} files have the role `kernel`, an image has exactly one");
        for (index, file) in self.files.iter().enumerate() {
            ensure!(
                is_file_name(&file.name),
                "file name `{}`: use letters, digits, `-`, `_` and `.`, and no folder",
                file.name
            );
            ensure!(
                !self.files[..index].iter().any(|other| other.name == file.name),
                "two files are named `{}`",
                file.name
            );
            self.check_file(file).with_context(|| format!("file `{}`", file.name))?;
        }
        if let Source::Urls(urls) = &self.source {
            Self::check_urls(urls)?;
        }
        self.kernel_arguments(&BootVariables::sample()).map(drop)
    }

    /// A key that its source does not look at would be a check that is never made.
    fn check_file(&self, file: &FileSpec) -> Result<()> {
        let unused = |key: &str, is_set: bool| {
            ensure!(!is_set, "`{key}` has no meaning with this kind of source");
            Ok(())
        };
        match &self.source {
            Source::Urls(urls) => {
                unused("pointer", file.pointer.is_some())?;
                ensure!(
                    file.sha256.is_some() || file.digests.is_some() || file.signature.is_some(),
                    "it comes over the network and nothing verifies it: \
                     add `sha256`, `digests` or `signature`"
                );
                ensure!(
                    file.signature.is_none() || urls.signed_by.is_some(),
                    "it has a `signature`, but the source does not say who it is `signed_by`"
                );
            }
            Source::Stream(_) => {
                unused("path", file.path.is_some())?;
                unused("digests", file.digests.is_some())?;
                unused("signature", file.signature.is_some())?;
                ensure!(file.pointer.is_some(), "the stream needs a `pointer` to it");
            }
            Source::Local(_) | Source::Recipe(_) => {
                unused("pointer", file.pointer.is_some())?;
                unused("digests", file.digests.is_some())?;
                unused("signature", file.signature.is_some())?;
            }
        }
        Ok(())
    }

    fn check_urls(urls: &Urls) -> Result<()> {
        if let Some(latest) = &urls.latest {
            ensure!(
                latest.variable.is_some() != latest.pointer.is_some(),
                "`source.urls.latest` needs either `variable` or `pointer`"
            );
        }
        if let Some(key) = &urls.signed_by {
            let fingerprint = &key.fingerprint;
            ensure!(
                fingerprint.len() == 40 && fingerprint.chars().all(|c| c.is_ascii_hexdigit()),
                "`fingerprint` is `{fingerprint}`: give the 40 hexadecimal digits of the primary key"
            );
        }
        let channel = urls.channels.first().map_or("", String::as_str);
        expand(&urls.base, channel, "1").context("`source.urls.base`")?;
        Ok(())
    }
}

impl FileSpec {
    /// Where the file is below the base URL or the folder.
    pub fn path(&self) -> &str {
        self.path.as_deref().unwrap_or(&self.name)
    }
}

impl ConfigFormat {
    /// The name an entry uses for it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Ignition => "ignition",
            Self::CloudConfig => "cloud-config",
            Self::UserData => "user-data",
            Self::Talos => "talos",
            Self::None => "none",
        }
    }
}

/// A name that is one path segment, needs no quoting in a URL, and is not hidden.
pub(crate) fn is_file_name(name: &str) -> bool {
    let allowed = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
    !name.is_empty() && !name.starts_with('.') && name.chars().all(allowed)
}

/// `FILE:LINE:COLUMN: what is wrong`.
pub(crate) fn located(error: &toml::de::Error, text: &str, file: &str) -> anyhow::Error {
    let offset = error.span().map_or(0, |span| span.start).min(text.len());
    let before = &text[..offset];
    let line = before.matches('\n').count() + 1;
    let column = before.rsplit('\n').next().map_or(0, |rest| rest.chars().count()) + 1;
    let message = error.message().replace('\n', ", ");
    anyhow::anyhow!("{file}:{line}:{column}: {message}")
}

/// The version of the file format.
pub const FORMAT_VERSION: u32 = 1;

#[cfg(test)]
mod tests {
    use super::*;

    const GOOD: &str = r#"version = 1
name = "mine"
description = "Mine"
arguments = "console=ttyS0\n  cfg={{ config_url }} name={{ node.name }}"
memory_mib = 512
config = "ignition"
ready = "config"
source.local.folder = "."
[[file]]
role = "kernel"
name = "vmlinuz"
"#;

    #[test]
    fn arguments_end_up_on_one_line() {
        let spec = ImageSpec::parse(GOOD, "mine.toml").unwrap();
        assert_eq!(
            spec.kernel_arguments(&BootVariables::sample()).unwrap(),
            "console=ttyS0 cfg=http://192.0.2.1/config name=lab-1"
        );
    }

    #[test]
    fn a_mistake_is_named_with_its_place() {
        let network = "[source.urls]\nbase = \"https://example.org/{{ version }}\"\n";
        for (from, to, expected) in [
            ("memory_mib", "memory", "mine.toml:5:1: unknown field `memory`, expected one of "),
            ("512", "\"512\"", "mine.toml:5:14: invalid type: string \"512\", expected u32"),
            ("\"ignition\"", "\"ignitoin\"", "mine.toml:6:10: unknown variant `ignitoin`, "),
            ("role = \"kernel\"", "rôle = 1", "mine.toml:10:2: "),
            (
                "version = 1",
                "version = 2",
                "mine.toml: `version` is 2, this virtlab reads version 1",
            ),
            ("\"mine\"", "\"../up\"", "mine.toml: `name` is `../up`: use lower-case letters, "),
            ("\"vmlinuz\"", "\"a/b\"", "mine.toml: file name `a/b`: use letters, digits, "),
            ("\"kernel\"", "\"initrd\"", "mine.toml: 0 files have the role `kernel`, an image "),
            (
                "config_url",
                "confg_url",
                "mine.toml: rendering the kernel arguments of image `mine`",
            ),
            (
                "source.local.folder = \".\"\n",
                network,
                "mine.toml: file `vmlinuz`: it comes over the network and nothing verifies it: \
              add `sha256`, `digests` or `signature`",
            ),
            (
                "\"vmlinuz\"\n",
                "\"vmlinuz\"\nsignature = \"x.sig\"\n",
                "mine.toml: file `vmlinuz`: `signature` has no meaning with this kind of source",
            ),
            (
                "\"vmlinuz\"\n",
                "\"vmlinuz\"\nsha256 = \"abc\"\n",
                "mine.toml:12:10: `abc` is not a SHA-256 ",
            ),
        ] {
            assert!(GOOD.contains(from), "{from}");
            let error = format!(
                "{:#}",
                ImageSpec::parse(&GOOD.replace(from, to), "mine.toml").unwrap_err()
            );
            assert!(error.starts_with(expected), "{from} → {to}: {error}");
        }
    }
}
