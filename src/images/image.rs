//! An image that is here, and how it is remembered.

use std::path::PathBuf;

use crate::images::digest::{Sha256, digest_of_all};
use crate::images::index::{Record, RecordFile};
use crate::images::lock::{Pin, PinnedFile};
use crate::images::spec::{ImageSpec, Role, Source};

/// An image whose files are here and verified.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Image {
    /// `NAME@VERSION`; the version of an image without one is the start of its digest.
    pub reference: String,
    /// The digest of all its files, names and contents.
    pub digest: Sha256,
    /// The channel it came by.
    pub channel: Option<String>,
    /// The version, if the image has versions; of a built one, the start of its recipe's digest.
    pub version: Option<String>,
    /// The files in the order of the entry.
    pub files: Vec<ImageFile>,
    /// The entry.
    pub spec: ImageSpec,
}

/// A file of an image.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ImageFile {
    /// What it is to the boot.
    pub role: Role,
    /// The name to serve it under.
    pub name: String,
    /// Where it is.
    pub path: PathBuf,
    /// Its length in bytes.
    pub size: u64,
    /// Its digest.
    pub sha256: Sha256,
    /// Where it came from, if over the network.
    pub url: Option<String>,
    /// What vouched for it.
    pub verified_by: String,
}

impl Image {
    /// The files with a role, in the order of the entry.
    pub fn files_of(&self, role: Role) -> impl Iterator<Item = &ImageFile> {
        self.files.iter().filter(move |file| file.role == role)
    }

    /// All that is needed to get this image again: the same files, or, where they are built, files
    /// built by the same recipe (which differ in time stamps).
    pub fn pin(&self) -> Pin {
        if let Source::Recipe(_) = self.spec.source {
            return Pin { version: self.version.clone(), ..Pin::default() };
        }
        let files = self.files.iter().map(|file| {
            (file.name.clone(), PinnedFile { sha256: file.sha256, url: file.url.clone() })
        });
        Pin { channel: self.channel.clone(), version: self.version.clone(), files: files.collect() }
    }
}

/// A record of files that are in place. `pulled` as in [`Record::pulled`].
pub(crate) fn record(
    spec: &ImageSpec,
    channel: Option<String>,
    version: Option<String>,
    files: Vec<RecordFile>,
    pulled: u64,
) -> Record {
    let digest = digest_of_all(files.iter().map(|file| (file.name.as_str(), file.sha256)));
    let tag = version.clone().unwrap_or_else(|| digest.short());
    Record {
        reference: format!("{}@{tag}", spec.name),
        name: spec.name.clone(),
        channel,
        version,
        entry: entry_digest(spec),
        pulled,
        files,
    }
}

/// What of an entry decides which files it stands for.
pub(crate) fn entry_digest(spec: &ImageSpec) -> Sha256 {
    let text = serde_json::to_vec(&(&spec.source, &spec.files)).unwrap_or_default();
    Sha256::of(&text)
}
