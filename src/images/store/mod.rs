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

use anyhow::{Context, Result};
use etcetera::BaseStrategy;
use fs_err as fs;

pub(crate) use self::look::refuse_version;
pub use self::upkeep::{Check, Removed};
use crate::files::{Hold, lock};
use crate::images::digest::Sha256;
use crate::images::fetch::{Fetcher, Patience};
use crate::images::image::{Image, ImageFile, digest_of_all, entry_digest};
use crate::images::index::{Index, Record, RecordFile};
use crate::images::lock::Pin;
use crate::images::recipe::Recipe;
use crate::images::spec::{ImageSpec, Source};
use crate::images::{kept, pull};
use crate::output::Printer;

/// A cache of images.
#[derive(Clone, Debug)]
pub struct Store {
    pub(crate) root: PathBuf,
    pub(crate) index: Index,
    pub(crate) fetcher: Fetcher,
}

impl Store {
    /// The user's store, `$XDG_CACHE_HOME/virtlab/images/`.
    ///
    /// # Errors
    /// If the user has no home directory.
    pub fn open_default() -> Result<Self> {
        let cache = etcetera::choose_base_strategy()?.cache_dir();
        Self::open(&cache.join("virtlab/images"), Fetcher::new(Patience::default())?)
    }

    /// A store in the folder `root`, which is made when something is put there: to see that
    /// nothing is here needs no folder.
    ///
    /// # Errors
    /// If the current folder is gone.
    pub fn open(root: &Path, fetcher: Fetcher) -> Result<Self> {
        let root = std::path::absolute(root)?;
        let index = Index::new(root.join("index"));
        Ok(Self { root, index, fetcher })
    }

    /// The image, fetched or built if it is not here yet. An image that is here is taken as it is:
    /// [`Store::pull`] looks for a newer version.
    ///
    /// # Errors
    /// As [`Store::find`] and [`Store::pull`].
    pub fn ensure(&self, spec: &ImageSpec, pin: &Pin, printer: &Printer) -> Result<Image> {
        match self.find(spec, pin)? {
            Some(image) => Ok(image),
            None => self.pull(spec, pin, printer),
        }
    }

    /// The newest version of the image that the pin allows. Of two runs that want the same image,
    /// one waits for the other.
    ///
    /// # Errors
    /// If a file cannot be had, or is not what the entry, its signature or the pin says: then it is
    /// thrown away, and no image that is here is touched.
    pub fn pull(&self, spec: &ImageSpec, pin: &Pin, printer: &Printer) -> Result<Image> {
        self.obtain(spec, pin, printer).with_context(|| format!("image `{}`", spec.name))
    }

    /// [`Store::pull`], for those who say themselves which image it is about.
    fn obtain(&self, spec: &ImageSpec, pin: &Pin, printer: &Printer) -> Result<Image> {
        let _store = self.lock_store(Hold::Shared, printer)?;
        let _image = self.lock_image(&spec.name, printer)?;
        let image = match &spec.source {
            Source::Local(local) => kept::look(self, spec, local, pin)?,
            Source::Recipe(recipe) => {
                let recipe = Recipe::find(spec, recipe)?;
                match self.built(spec, &recipe, pin)? {
                    Some(image) => image,
                    None => pull::build(self, spec, &recipe, printer)?,
                }
            }
            Source::Urls(_) | Source::Stream(_) => pull::fetch(self, spec, pin, printer)?,
        };
        image.files.iter().try_for_each(|file| pin.check(&file.name, file.sha256))?;
        Ok(image)
    }

    /// Builds an image anew although it is here.
    ///
    /// # Errors
    /// If the image is not one that is built, or the recipe fails.
    pub fn rebuild(&self, spec: &ImageSpec, printer: &Printer) -> Result<Image> {
        let Source::Recipe(recipe) = &spec.source else {
            anyhow::bail!("image `{}` is not built from a recipe", spec.name);
        };
        let _store = self.lock_store(Hold::Shared, printer)?;
        let _image = self.lock_image(&spec.name, printer)?;
        Recipe::find(spec, recipe)
            .and_then(|recipe| pull::build(self, spec, &recipe, printer))
            .with_context(|| format!("image `{}`", spec.name))
    }

    /// All images that are here, as the index knows them.
    ///
    /// # Errors
    /// If the index cannot be read.
    pub fn records(&self) -> Result<Vec<Record>> {
        self.index.records()
    }

    /// What is here of the image that an entry describes, of all its versions.
    ///
    /// # Errors
    /// If the index cannot be read, or the entry needs a folder and names none.
    pub fn records_of(&self, spec: &ImageSpec) -> Result<Vec<Record>> {
        let mut records = self.index.records()?;
        records.retain(|record| record.name == spec.name && record.entry == entry_digest(spec));
        if let Source::Local(local) = &spec.source {
            let folder = kept::folder(spec, local)?;
            let paths: Vec<_> =
                spec.files.iter().map(|file| Some(folder.join(file.path()))).collect();
            records.retain(|record| record.files.iter().map(|file| &file.path).eq(&paths));
        }
        Ok(records)
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
    fn lock_store(&self, hold: Hold, printer: &Printer) -> Result<File> {
        let note = match hold {
            Hold::Shared => "waiting for another virtlab that removes images",
            Hold::Exclusive => "waiting for another virtlab that gets or removes images",
        };
        lock(&self.root.join("locks/store"), hold, || printer.note(note))
    }

    fn lock_image(&self, name: &str, printer: &Printer) -> Result<File> {
        let path = self.root.join("locks").join(format!("image-{name}"));
        let note = || printer.note(format!("waiting for another virtlab that gets image `{name}`"));
        lock(&path, Hold::Exclusive, note)
    }
}

/// The time of a file's last change in nanoseconds.
pub(crate) fn mtime(metadata: &std::fs::Metadata) -> i64 {
    metadata.mtime().saturating_mul(1_000_000_000).saturating_add(metadata.mtime_nsec())
}
