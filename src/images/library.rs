//! Images as the rest of virtlab has them: looked for, fetched or built where they are not here, read again
//! and removed.

use std::path::Path;

use anyhow::{Context, Result};
use etcetera::BaseStrategy;

use crate::files::Hold;
use crate::images::fetch::{Fetcher, Patience};
use crate::images::image::{Image, entry_digest};
use crate::images::in_use::InUse;
use crate::images::index::Record;
use crate::images::lock::Pin;
use crate::images::recipe::Recipe;
use crate::images::spec::{ImageSpec, Source};
use crate::images::store::{Check, Removed, Store};
use crate::images::{kept, pull};
use crate::output::Printer;

/// The images that are here, and the way to those that are not.
#[derive(Clone, Debug)]
pub struct Library {
    store: Store,
    fetcher: Fetcher,
}

impl Library {
    /// The user's library, `$XDG_CACHE_HOME/virtlab/images/`.
    ///
    /// # Errors
    /// If the user has no home directory.
    pub fn open_default() -> Result<Self> {
        let cache = etcetera::choose_base_strategy()?.cache_dir();
        Self::open(&cache.join("virtlab/images"), Fetcher::new(Patience::default())?)
    }

    /// A library in the folder `root`, which is made when something is put there: to see that nothing is
    /// here needs no folder.
    ///
    /// # Errors
    /// If the current folder is gone.
    pub fn open(root: &Path, fetcher: Fetcher) -> Result<Self> {
        Ok(Self { store: Store::open(root)?, fetcher })
    }

    /// The same library, of which nothing is written: to see what there is.
    #[must_use]
    pub fn read_only(self) -> Self {
        let Store { root, index } = self.store;
        Self { store: Store { root, index: index.read_only() }, ..self }
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
    /// If the index cannot be read.
    pub fn with_digest(&self, spec: &ImageSpec, digest: &str) -> Result<Option<Image>> {
        self.store.with_digest(spec, digest)
    }

    /// The image, fetched or built if it is not here yet. An image that is here is taken as it is:
    /// [`Library::pull`] looks for a newer version.
    ///
    /// # Errors
    /// As [`Library::find`] and [`Library::pull`].
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

    /// [`Library::pull`], for those who say themselves which image it is about.
    fn obtain(&self, spec: &ImageSpec, pin: &Pin, printer: &Printer) -> Result<Image> {
        let _store = self.store.lock_store(Hold::Shared, printer)?;
        let _image = self.store.lock_image(&spec.name, printer)?;
        let image = match &spec.source {
            Source::Local(local) => kept::look(&self.store, spec, local, pin)?,
            Source::Recipe(recipe) => {
                let recipe = Recipe::find(spec, recipe)?;
                match self.store.built(spec, &recipe, pin)? {
                    Some(image) => image,
                    None => pull::build(&self.store, spec, &recipe, printer)?,
                }
            }
            Source::Urls(_) | Source::Stream(_) => {
                pull::fetch(&self.store, &self.fetcher, spec, pin, printer)?
            }
        };
        image.files.iter().try_for_each(|file| pin.require_digest(&file.name, file.sha256))?;
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
        let _store = self.store.lock_store(Hold::Shared, printer)?;
        let _image = self.store.lock_image(&spec.name, printer)?;
        Recipe::find(spec, recipe)
            .and_then(|recipe| pull::build(&self.store, spec, &recipe, printer))
            .with_context(|| format!("image `{}`", spec.name))
    }

    /// All images that are here, as the index knows them.
    ///
    /// # Errors
    /// If the index cannot be read.
    pub fn records(&self) -> Result<Vec<Record>> {
        self.store.index.records()
    }

    /// What is here of the image that an entry describes, of all its versions.
    ///
    /// # Errors
    /// If the index cannot be read, or the entry needs a folder and names none.
    pub fn records_of(&self, spec: &ImageSpec) -> Result<Vec<Record>> {
        let mut records = self.store.index.records()?;
        records.retain(|record| record.name == spec.name && record.entry == entry_digest(spec));
        if let Source::Local(local) = &spec.source {
            let folder = kept::folder(spec, local)?;
            let paths: Vec<_> =
                spec.files.iter().map(|file| Some(folder.join(file.path()))).collect();
            records.retain(|record| record.files.iter().map(|file| &file.path).eq(&paths));
        }
        Ok(records)
    }

    /// Reads every file of an image again. A bad one that was fetched or built is removed, so that the
    /// next run gets it again; a file that the user keeps is left alone.
    ///
    /// # Errors
    /// If a file cannot be read or removed.
    pub fn verify(&self, record: &Record, printer: &Printer) -> Result<Vec<Check>> {
        self.store.verify(record, printer)
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
        self.store.remove(records, in_use, printer)
    }

    /// Removes interrupted downloads, files of no image, and versions that a newer one of the same
    /// channel has replaced, except those that labs use.
    ///
    /// # Errors
    /// If something cannot be removed.
    pub fn prune(&self, in_use: &InUse, printer: &Printer) -> Result<Removed> {
        self.store.prune(in_use, printer)
    }

    /// [`Library::find`], for those who say themselves which image it is about.
    fn look(&self, spec: &ImageSpec, pin: &Pin) -> Result<Option<Image>> {
        match &spec.source {
            Source::Local(local) => kept::look(&self.store, spec, local, pin).map(Some),
            Source::Recipe(recipe) => self.store.built(spec, &Recipe::find(spec, recipe)?, pin),
            Source::Urls(_) | Source::Stream(_) => self.store.fetched(spec, pin),
        }
    }
}
