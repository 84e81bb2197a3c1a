//! One entry of the catalogue: `images/NAME.toml`.
//!
//! The file is written by people, so it is parsed strictly: an unknown key, a role that is missing
//! or an argument that names a variable which does not exist is an error with a file, a line and a
//! column, long before anything is downloaded.

mod check;
mod readiness;
mod source;

use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use fs_err as fs;
use serde::{Deserialize, Serialize};

pub use self::readiness::Readiness;
pub use self::source::{Latest, Local, RecipeName, SigningKey, Source, Stream, Urls};
use crate::images::arguments::{BootVariables, kernel_arguments};
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
    /// The architecture of the processors that it is for, as QEMU names it.
    #[serde(default = "default_arch")]
    pub arch: String,
    /// The least memory of a node in MiB.
    pub memory_mib: u32,
    /// What the booted system reads about itself.
    pub config: ConfigFormat,
    /// The config template that is used unless the user names one, a file of `config-templates/`.
    pub config_template: Option<String>,
    /// When a node of this image counts as ready; see [`ImageSpec::readiness`].
    pub ready: Option<Readiness>,
    /// Who `virtlab ssh` logs in as.
    pub ssh_user: Option<String>,
    /// The folder of the file this was read from; none for an entry that is part of virtlab.
    #[serde(skip)]
    pub folder: Option<PathBuf>,
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

impl ImageSpec {
    /// When a node of this image counts as ready. Without a config there is nothing else that an entry could say.
    pub fn readiness(&self) -> Readiness {
        self.ready.clone().unwrap_or(Readiness::Config)
    }

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
        spec.validate().with_context(|| file.to_owned())?;
        Ok(spec)
    }

    /// The kernel arguments of one node, on one line.
    ///
    /// # Errors
    /// If the template is wrong; [`ImageSpec::parse`] has found that already for entries it made.
    pub fn kernel_arguments(&self, variables: &BootVariables) -> Result<String> {
        kernel_arguments(&self.arguments, variables)
            .with_context(|| format!("rendering the kernel arguments of image `{}`", self.name))
    }

    /// The channels of the image, the default one first.
    pub fn channels(&self) -> &[String] {
        match &self.source {
            Source::Urls(urls) => &urls.channels,
            Source::Stream(stream) => &stream.channels,
            Source::Local(_) | Source::Recipe(_) => &[],
        }
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

fn default_arch() -> String {
    "x86_64".to_owned()
}

/// The version of the file format.
pub const FORMAT_VERSION: u32 = 1;

#[cfg(test)]
mod tests {
    use super::*;

    pub(super) const GOOD: &str = r#"version = 1
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
    fn without_a_config_an_entry_need_not_say_when_a_node_is_ready() {
        let unsaid = GOOD.replace("ready = \"config\"\n", "");
        let error = format!("{:#}", ImageSpec::parse(&unsaid, "mine.toml").unwrap_err());
        assert!(error.starts_with("mine.toml: `ready` is missing: "), "{error}");
        let plain = unsaid.replace("\"ignition\"", "\"none\"");
        assert_eq!(ImageSpec::parse(&plain, "mine.toml").unwrap().readiness(), Readiness::Config);
    }

    #[test]
    fn arguments_end_up_on_one_line() {
        let spec = ImageSpec::parse(GOOD, "mine.toml").unwrap();
        assert_eq!(
            spec.kernel_arguments(&BootVariables::sample()).unwrap(),
            "console=ttyS0 cfg=http://192.0.2.1/config name=lab-1"
        );
    }
}
