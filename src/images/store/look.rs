//! What of an image is here. Nothing is fetched or built, and a file that was damaged is not here.

use anyhow::{Result, ensure};
use fs_err as fs;

use super::{Store, mtime};
use crate::images::digest::Sha256;
use crate::images::image::{Image, entry_digest};
use crate::images::index::Record;
use crate::images::lock::Pin;
use crate::images::recipe::Recipe;
use crate::images::resolve::channel;
use crate::images::spec::ImageSpec;

impl Store {
    /// The image with this digest, whichever version it is: what a lab was made with.
    pub(crate) fn with_digest(&self, spec: &ImageSpec, digest: &str) -> Result<Option<Image>> {
        let records = self.index.records()?;
        let mut records = records.into_iter().filter(|record| record.name == spec.name);
        let record = records.find(|record| record.digest().to_string() == digest);
        Ok(record.and_then(|record| self.intact(spec, record)))
    }

    /// The newest image that was fetched and that the pin allows.
    pub(crate) fn fetched(&self, spec: &ImageSpec, pin: &Pin) -> Result<Option<Image>> {
        let channel = channel(spec, pin)?;
        let mut records = self.index.records()?;
        records.retain(|record| {
            record.name == spec.name
                && record.entry == entry_digest(spec)
                && record.channel == channel
                && (pin.version.is_none() || record.version == pin.version)
                && record.files.iter().all(|f| pin.require_digest(&f.name, f.sha256).is_ok())
        });
        records.sort_by_key(|record| std::cmp::Reverse(record.pulled));
        Ok(records.into_iter().find_map(|record| self.intact(spec, record)))
    }

    /// The image that this recipe has built.
    pub(crate) fn built(
        &self,
        spec: &ImageSpec,
        recipe: &Recipe,
        pin: &Pin,
    ) -> Result<Option<Image>> {
        let version = recipe.digest().short();
        Pin { version: None, ..pin.clone() }.refuse_version()?;
        if let Some(wanted) = &pin.version {
            ensure!(
                *wanted == version,
                "it is built by the recipe {version} here, not by {wanted}"
            );
        }
        let reference = format!("{}@{version}", spec.name);
        let mut records = self.index.records()?;
        // The same recipe may be asked for other files.
        let entry = entry_digest(spec);
        records.retain(|record| record.reference == reference && record.entry == entry);
        Ok(records.into_iter().find_map(|record| self.intact(spec, record)))
    }

    /// The image of a record, if its files are as they were when they were verified. A file with
    /// another time is read again; one that is bad counts as missing.
    fn intact(&self, spec: &ImageSpec, mut record: Record) -> Option<Image> {
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
}
