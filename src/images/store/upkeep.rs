//! Reading again what is here, and removing what is not needed: never what a lab boots from, and
//! never what may belong to a record that this virtlab cannot read.

use std::path::Path;

use anyhow::Result;
use fs_err as fs;

use super::Store;
use crate::error::hinted;
use crate::files::Hold;
use crate::images::digest::Sha256;
use crate::images::in_use::InUse;
use crate::images::index::Record;
use crate::output::Printer;

/// What `Store::verify` found out about a file.
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

/// What `Store::remove` and `Store::prune` did.
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
    /// Reads every file of an image again. A bad one of the store's own is removed, so that the next
    /// run fetches it again; a file that the user keeps is left alone.
    ///
    /// # Errors
    /// If a file cannot be read or removed.
    pub(crate) fn verify(&self, record: &Record, printer: &Printer) -> Result<Vec<Check>> {
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
    pub(crate) fn remove(
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
    pub(crate) fn prune(&self, in_use: &InUse, printer: &Printer) -> Result<Removed> {
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
}

/// `lab `a``, `labs `a`, `b``.
fn named(what: &str, names: &[String]) -> String {
    let plural = if names.len() == 1 { "" } else { "s" };
    format!("{what}{plural} `{}`", names.join("`, `"))
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
