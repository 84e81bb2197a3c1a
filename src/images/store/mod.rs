//! The cache of images, by digest.
//!
//! ```text
//! images/SHA256/NAME           a file, verified, read-only
//! images/index/NAME@VERSION.…  which files an image is made of, and what vouched for them
//! images/partial/NAME/         downloads that are under way or were interrupted
//! images/locks/                one lock per image, and one of the store against `prune`
//! ```
//!
//! A file gets its final name only when it is verified, in one rename, so that whatever is there is
//! good: a run that is killed, a full disk or a second virtlab cannot leave a bad one behind.

mod look;
mod upkeep;

use std::fs::File;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};

use anyhow::Result;
use fs_err as fs;

pub use self::upkeep::{Check, Removed};
use crate::files::{Hold, lock};
use crate::images::digest::{Sha256, digest_of_all};
use crate::images::image::{Image, ImageFile};
use crate::images::index::{Index, Record, RecordFile};
use crate::images::spec::ImageSpec;
use crate::output::Printer;

/// A cache of images.
#[derive(Clone, Debug)]
pub(crate) struct Store {
    pub(crate) root: PathBuf,
    pub(crate) index: Index,
}

impl Store {
    /// A store in the folder `root`, which is made when something is put there: to see that
    /// nothing is here needs no folder.
    pub(crate) fn open(root: &Path) -> Result<Self> {
        let root = std::path::absolute(root)?;
        let index = Index::new(root.join("index"));
        Ok(Self { root, index })
    }

    /// Where a file of this digest is kept.
    pub(crate) fn blob(&self, sha256: Sha256, name: &str) -> PathBuf {
        self.root.join(sha256.to_string()).join(name)
    }

    /// Whether the store has a file, and it is whole.
    pub(crate) fn has(&self, sha256: Sha256, name: &str) -> Result<bool> {
        let path = self.blob(sha256, name);
        Ok(path.exists() && Sha256::of_file(&path)? == sha256)
    }

    /// Takes in a verified file by renaming it.
    pub(crate) fn take_in(&self, from: &Path, sha256: Sha256, name: &str) -> Result<()> {
        let to = self.blob(sha256, name);
        fs::create_dir_all(to.parent().unwrap_or(&self.root))?;
        fs::set_permissions(from, PermissionsExt::from_mode(0o444))?;
        fs::rename(from, to)?;
        Ok(())
    }

    /// Enters an image into the index.
    pub(crate) fn enter(&self, spec: &ImageSpec, record: Record) -> Result<Image> {
        self.index.save(&record)?;
        Ok(self.image(spec, record))
    }

    /// The image that a record stands for.
    pub(crate) fn image(&self, spec: &ImageSpec, record: Record) -> Image {
        let files = record.files.into_iter().map(|file| ImageFile {
            path: self.path_of(&file),
            role: file.role,
            name: file.name,
            size: file.size,
            sha256: file.sha256,
            url: file.url,
            verified_by: file.verified_by,
        });
        let files: Vec<ImageFile> = files.collect();
        Image {
            reference: record.reference,
            digest: digest_of_all(files.iter().map(|file| (file.name.as_str(), file.sha256))),
            channel: record.channel,
            version: record.version,
            files,
            spec: spec.clone(),
        }
    }

    fn path_of(&self, file: &RecordFile) -> PathBuf {
        file.path.clone().unwrap_or_else(|| self.blob(file.sha256, &file.name))
    }

    /// Shared by those who fetch, exclusive for those who remove.
    pub(crate) fn lock_store(&self, hold: Hold, printer: &Printer) -> Result<File> {
        let note = match hold {
            Hold::Shared => "waiting for another virtlab that removes images",
            Hold::Exclusive => "waiting for another virtlab that gets or removes images",
        };
        lock(&self.root.join("locks/store"), hold, || printer.note(note))
    }

    pub(crate) fn lock_image(&self, name: &str, printer: &Printer) -> Result<File> {
        let path = self.root.join("locks").join(format!("image-{name}"));
        let note = || printer.note(format!("waiting for another virtlab that gets image `{name}`"));
        lock(&path, Hold::Exclusive, note)
    }
}

/// The time of a file's last change in nanoseconds.
pub(crate) fn mtime(metadata: &std::fs::Metadata) -> i64 {
    metadata.mtime().saturating_mul(1_000_000_000).saturating_add(metadata.mtime_nsec())
}
