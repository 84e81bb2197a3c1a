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

use std::fs::File;
use std::os::unix::fs::MetadataExt;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::path::PathBuf;

use anyhow::Context;
use anyhow::Result;
use anyhow::ensure;
use etcetera::BaseStrategy;
use fs_err as fs;

use crate::hint::hinted;
use crate::images::digest::Sha256;
use crate::images::fetch::Fetcher;
use crate::images::fetch::Patience;
use crate::images::image::Image;
use crate::images::image::ImageFile;
use crate::images::image::digest_of_all;
use crate::images::image::entry_digest;
use crate::images::in_use::InUse;
use crate::images::index::Index;
use crate::images::index::Record;
use crate::images::index::RecordFile;
use crate::images::kept;
use crate::images::lock::Hold;
use crate::images::lock::Pin;
use crate::images::lock::lock;
use crate::images::pull;
use crate::images::recipe::Recipe;
use crate::images::resolve::channel;
use crate::images::spec::ImageSpec;
use crate::images::spec::Source;
use crate::output::Printer;

/// A cache of images.
#[derive(Clone, Debug)]
pub struct Store {
    pub(crate) root: PathBuf,
    pub(crate) index: Index,
    pub(crate) fetcher: Fetcher,
}

/// What [`Store::verify`] found out about a file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Check {
    /// The file's name.
    pub name: String,
    /// The digest it must have.
    pub expected: Sha256,
    /// The digest it has, or none if it is gone.
    pub found: Option<Sha256>,
    /// Whether it is a file that the user keeps.
    pub is_kept: bool,
}

/// What [`Store::remove`] and [`Store::prune`] did.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Removed {
    /// The images that are no longer there.
    pub references: Vec<String>,
    /// The bytes that were freed.
    pub bytes: u64,
}

impl Check {
    /// Whether the file is as it should be.
    pub fn is_good(&self) -> bool {
        self.found == Some(self.expected)
    }
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

    /// The image if all of its files are here; nothing is fetched or built.
    ///
    /// # Errors
    /// If the pin cannot be met by this image at all, if its kept files (a `local` source) are
    /// missing or wrong, or if the store cannot be read.
    pub fn find(&self, spec: &ImageSpec, pin: &Pin) -> Result<Option<Image>> {
        self.look(spec, pin).with_context(|| format!("image `{}`", spec.name))
    }

    /// The image with this digest, whichever version it is: what a lab was made with.
    ///
    /// # Errors
    /// If the store cannot be read.
    pub fn with_digest(&self, spec: &ImageSpec, digest: &str) -> Result<Option<Image>> {
        let records = self.index.records()?;
        let mut records = records.into_iter().filter(|record| record.name == spec.name);
        let record = records.find(|record| record.digest().to_string() == digest);
        Ok(record.and_then(|record| self.intact(spec, record)))
    }

    /// [`Store::find`], for those who say themselves which image it is about.
    pub(crate) fn look(&self, spec: &ImageSpec, pin: &Pin) -> Result<Option<Image>> {
        match &spec.source {
            Source::Local(local) => kept::look(self, spec, local, pin).map(Some),
            Source::Recipe(recipe) => self.built(spec, &Recipe::find(spec, recipe)?, pin),
            Source::Urls(_) | Source::Stream(_) => {
                let channel = channel(spec, pin)?;
                let mut records = self.index.records()?;
                records.retain(|record| {
                    record.name == spec.name
                        && record.entry == entry_digest(spec)
                        && record.channel == channel
                        && (pin.version.is_none() || record.version == pin.version)
                        && record.files.iter().all(|f| pin.check(&f.name, f.sha256).is_ok())
                });
                records.sort_by_key(|record| std::cmp::Reverse(record.pulled));
                Ok(records.into_iter().find_map(|record| self.intact(spec, record)))
            }
        }
    }

    /// The image that this recipe has built.
    fn built(&self, spec: &ImageSpec, recipe: &Recipe, pin: &Pin) -> Result<Option<Image>> {
        let version = recipe.digest().short();
        refuse_version(&Pin { version: None, ..pin.clone() })?;
        if let Some(wanted) = &pin.version {
            ensure!(
                *wanted == version,
                "it is built by the recipe {version} here, not by {wanted}"
            );
        }
        let reference = format!("{}@{version}", spec.name);
        let mut records = self.index.records()?;
        records.retain(|record| record.reference == reference);
        Ok(records.into_iter().find_map(|record| self.intact(spec, record)))
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

    /// Reads every file of an image again. A bad one of the store's own is removed, so that the next
    /// run fetches it again; a file that the user keeps is left alone.
    ///
    /// # Errors
    /// If a file cannot be read or removed.
    pub fn verify(&self, record: &Record, printer: &Printer) -> Result<Vec<Check>> {
        let mut checks = Vec::new();
        for file in &record.files {
            let path = self.path_of(file);
            let found = if path.exists() { Some(Sha256::of_file(&path)?) } else { None };
            let (name, expected) = (file.name.clone(), file.sha256);
            let check = Check { name, expected, found, is_kept: file.path.is_some() };
            if found.is_some() && !check.is_good() && file.path.is_none() {
                let _store = self.lock_store(Hold::Exclusive, printer)?;
                // Another run may have put a good one there since.
                if !self.has(file.sha256, &file.name)? && path.exists() {
                    fs::remove_file(&path)?;
                }
            }
            checks.push(check);
        }
        Ok(checks)
    }

    /// Removes images, and the files that no other image has.
    ///
    /// # Errors
    /// If a lab uses one of them: then none is removed; or if they cannot be removed.
    pub fn remove(
        &self,
        records: Vec<Record>,
        in_use: &InUse,
        printer: &Printer,
    ) -> Result<Removed> {
        let _store = self.lock_store(Hold::Exclusive, printer)?;
        for record in &records {
            let labs = in_use.labs(record.digest());
            if !labs.is_empty() {
                let message =
                    format!("image `{}` is used by {}", record.reference, named("lab", labs));
                let hint = format!("`virtlab destroy {}`, or `--force`", labs.join(" "));
                return Err(hinted(message, hint));
            }
        }
        self.drop_records(records)
    }

    /// Removes interrupted downloads, files of no image, and versions that a newer one of the same
    /// channel has replaced, except those that labs use.
    ///
    /// # Errors
    /// If something cannot be removed.
    pub fn prune(&self, in_use: &InUse, printer: &Printer) -> Result<Removed> {
        let _store = self.lock_store(Hold::Exclusive, printer)?;
        let records = self.index.records()?;
        let replaced = records.iter().filter(|record| {
            let is_newer = |other: &&Record| {
                other.name == record.name
                    && other.channel == record.channel
                    && other.pulled > record.pulled
            };
            in_use.labs(record.digest()).is_empty() && records.iter().any(|other| is_newer(&other))
        });
        let replaced = replaced.cloned().collect();
        let partial = self.root.join("partial");
        let mut bytes = 0;
        if partial.exists() {
            bytes = size_of(&partial)?;
            fs::remove_dir_all(&partial)?;
        }
        let mut removed = self.drop_records(replaced)?;
        removed.bytes += bytes;
        Ok(removed)
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

    /// The image of a record, if its files are as they were when they were verified. A file with
    /// another time is read again; one that is bad counts as missing.
    pub(crate) fn intact(&self, spec: &ImageSpec, mut record: Record) -> Option<Image> {
        let mut was_touched = false;
        for file in &mut record.files {
            let path = self.path_of(file);
            let metadata = fs::metadata(&path).ok()?;
            let time = mtime(&metadata);
            let is_same = metadata.len() == file.size
                && (time == file.mtime
                    || Sha256::of_file(&path).is_ok_and(|found| found == file.sha256));
            if !is_same {
                // What the user does with their own files is their business.
                if file.path.is_none() {
                    tracing::warn!("{} is damaged and will be replaced", path.display());
                }
                return None;
            }
            was_touched |= time != file.mtime;
            file.mtime = time;
        }
        // So that it need not be read every time; where nothing can be written, it is.
        if was_touched && let Err(error) = self.index.save(&record) {
            tracing::debug!("{error:#}");
        }
        Some(self.image(spec, record))
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

    fn drop_records(&self, records: Vec<Record>) -> Result<Removed> {
        let digests = |records: &[Record]| -> Vec<Sha256> {
            records.iter().flat_map(|record| &record.files).map(|file| file.sha256).collect()
        };
        let dropped = digests(&records);
        let mut removed = Removed::default();
        for record in records {
            self.index.remove(&record)?;
            removed.references.push(record.reference);
        }
        let used = digests(&self.index.records()?);
        // A record that cannot be parsed still has files: whatever may be one of them stays.
        let unreadable = self.index.unreadable()?;
        let may_be_used = |digest: &Sha256| {
            let mentions = |text: &String| text.contains(&digest.to_string());
            used.contains(digest)
                || unreadable.iter().any(mentions)
                || (!unreadable.is_empty() && !dropped.contains(digest))
        };
        for item in fs::read_dir(&self.root)? {
            let path = item?.path();
            let digest = path.file_name().and_then(|name| name.to_str()).map(str::parse::<Sha256>);
            if let Some(Ok(digest)) = digest
                && !may_be_used(&digest)
            {
                removed.bytes += size_of(&path)?;
                fs::remove_dir_all(&path)?;
            }
        }
        Ok(removed)
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

/// `lab `a``, `labs `a`, `b``.
fn named(what: &str, names: &[String]) -> String {
    let plural = if names.len() == 1 { "" } else { "s" };
    format!("{what}{plural} `{}`", names.join("`, `"))
}

/// The time of a file's last change in nanoseconds.
pub(crate) fn mtime(metadata: &std::fs::Metadata) -> i64 {
    metadata.mtime().saturating_mul(1_000_000_000).saturating_add(metadata.mtime_nsec())
}

/// Kept and built images have neither channels nor versions to choose from.
pub(crate) fn refuse_version(pin: &Pin) -> Result<()> {
    for (what, wanted) in [("channels", &pin.channel), ("versions", &pin.version)] {
        if let Some(wanted) = wanted {
            anyhow::bail!("it has no {what}, so none is `{wanted}`");
        }
    }
    Ok(())
}

fn size_of(folder: &Path) -> Result<u64> {
    let mut size = 0;
    for item in fs::read_dir(folder)? {
        let item = item?;
        let metadata = item.metadata()?;
        size += if metadata.is_dir() { size_of(&item.path())? } else { metadata.len() };
    }
    Ok(size)
}
