//! What the store knows about each image that it has, one small JSON file each.

use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use anyhow::Result;
use fs_err as fs;
use serde::{Deserialize, Serialize};

use crate::files::{Readers, replace};
use crate::images::digest::{Sha256, digest_of_all};
use crate::images::spec::Role;

/// An image of the store.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
pub struct Record {
    /// `NAME@VERSION`.
    pub reference: String,
    /// The image's name.
    pub name: String,
    /// The channel it came by.
    pub channel: Option<String>,
    /// The version, if the image has versions.
    pub version: Option<String>,
    /// The digest of the part of the entry that says which files these are.
    pub entry: Sha256,
    /// When it was last found to be the newest, in nanoseconds since 1970; 0 if it never was, since
    /// it was asked for by its version.
    pub pulled: u64,
    /// The files.
    pub files: Vec<RecordFile>,
}

/// A file of it.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
pub struct RecordFile {
    /// What it is to the boot.
    pub role: Role,
    /// Its name.
    pub name: String,
    /// Its length in bytes.
    pub size: u64,
    /// When it was last changed, in nanoseconds since 1970.
    pub mtime: i64,
    /// Its digest.
    pub sha256: Sha256,
    /// Where it came from.
    pub url: Option<String>,
    /// Where it is, if it is a file that the user keeps.
    pub path: Option<PathBuf>,
    /// What vouched for it.
    pub verified_by: String,
}

impl Record {
    /// The digest of all its files, names and contents: that of the image it stands for.
    pub fn digest(&self) -> Sha256 {
        digest_of_all(self.files.iter().map(|file| (file.name.as_str(), file.sha256)))
    }
}

/// The folder of the records.
#[derive(Clone, Debug)]
pub(crate) struct Index {
    folder: PathBuf,
    /// Whether nothing is to be written: what would be remembered is found out again the next time.
    read_only: bool,
}

impl Index {
    pub(crate) fn new(folder: PathBuf) -> Self {
        Self { folder, read_only: false }
    }

    /// The same, but nothing is written from now on.
    pub(crate) fn read_only(self) -> Self {
        Self { read_only: true, ..self }
    }

    /// All records in the order of their references, of one reference the newest first. One that
    /// cannot be parsed is of another virtlab and counts as not there: the worst that follows is a
    /// download.
    pub(crate) fn records(&self) -> Result<Vec<Record>> {
        let mut records: Vec<Record> =
            self.read()?.into_iter().filter_map(|(_, item)| item.ok()).collect();
        records.sort_by(|a, b| (&a.reference, b.pulled).cmp(&(&b.reference, a.pulled)));
        Ok(records)
    }

    /// The texts of the records that cannot be parsed.
    pub(crate) fn unreadable(&self) -> Result<Vec<String>> {
        Ok(self.read()?.into_iter().filter_map(|(_, item)| item.err()).collect())
    }

    pub(crate) fn load(&self, reference: &str, digest: Sha256) -> Result<Option<Record>> {
        let mut records = self.records()?.into_iter();
        Ok(records.find(|record| record.reference == reference && record.digest() == digest))
    }

    /// Writes a record. Another one of the same reference but with other files stays: a lab may
    /// boot from these.
    pub(crate) fn save(&self, record: &Record) -> Result<()> {
        if self.read_only {
            return Ok(());
        }
        fs::create_dir_all(&self.folder)?;
        let path = self.path(record);
        let text = serde_json::to_vec_pretty(record)?;
        replace(&path, &text, Readers::Everybody)?;
        self.remove_all(record, Some(&path))
    }

    pub(crate) fn remove(&self, record: &Record) -> Result<()> {
        self.remove_all(record, None)
    }

    /// Removes what says the same as a record, under whichever name, except `but`.
    fn remove_all(&self, record: &Record, but: Option<&Path>) -> Result<()> {
        if self.read_only {
            return Ok(());
        }
        for (path, item) in self.read()? {
            let is_same = item.is_ok_and(|other| {
                other.reference == record.reference && other.digest() == record.digest()
            });
            if !is_same || but == Some(&path) {
                continue;
            }
            match fs::remove_file(&path) {
                Err(error) if error.kind() == ErrorKind::NotFound => {} // by another run
                done => done?,
            }
        }
        Ok(())
    }

    /// Every record with its file: parsed, or else its text.
    fn read(&self) -> Result<Vec<(PathBuf, Result<Record, String>)>> {
        let mut items = Vec::new();
        let folder = match fs::read_dir(&self.folder) {
            Err(error)
                if matches!(error.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory) =>
            {
                return Ok(items);
            }
            folder => folder?,
        };
        for item in folder {
            let path = item?.path();
            if path.extension().is_none_or(|extension| extension != "json") {
                continue;
            }
            let bytes = match fs::read(&path) {
                // Another run has removed it since.
                Err(error) if error.kind() == ErrorKind::NotFound => continue,
                bytes => bytes?,
            };
            let record = serde_json::from_slice::<Record>(&bytes).map_err(|error| {
                tracing::warn!("leaving out {}: {error}", path.display());
                String::from_utf8_lossy(&bytes).into_owned()
            });
            items.push((path, record));
        }
        Ok(items)
    }

    /// Older virtlabs wrote no digest into the name; these files are still read.
    fn path(&self, record: &Record) -> PathBuf {
        self.folder.join(format!("{}.{}.json", record.reference, record.digest().short()))
    }
}

/// Nanoseconds since 1970.
pub(crate) fn now() -> u64 {
    let elapsed = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    u64::try_from(elapsed.as_nanos()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(kernel: &[u8], pulled: u64) -> Record {
        let file = RecordFile {
            role: Role::Kernel,
            name: "vmlinuz".to_owned(),
            size: 1,
            mtime: 1,
            sha256: Sha256::of(kernel),
            url: None,
            path: None,
            verified_by: "built here".to_owned(),
        };
        Record {
            reference: "mine@1".to_owned(),
            name: "mine".to_owned(),
            channel: None,
            version: Some("1".to_owned()),
            entry: Sha256::of(b"entry"),
            pulled,
            files: vec![file],
        }
    }

    #[test]
    fn records_of_one_reference_stand_side_by_side_if_their_files_differ() {
        let folder = tempfile::tempdir().unwrap();
        let index = Index::new(folder.path().to_owned());
        let (old, new) = (record(b"one", 1), record(b"two", 2));
        index.save(&old).unwrap();
        index.save(&new).unwrap();
        assert_eq!(index.records().unwrap(), [new.clone(), old.clone()]);
        let later = record(b"one", 3);
        index.save(&later).unwrap();
        assert_eq!(index.records().unwrap(), [later, new.clone()]);
        index.remove(&old).unwrap();
        assert_eq!(index.records().unwrap(), [new]);
    }

    #[test]
    fn a_record_under_its_old_name_is_read_and_replaced() {
        let folder = tempfile::tempdir().unwrap();
        let index = Index::new(folder.path().to_owned());
        let text = serde_json::to_vec(&record(b"one", 1)).unwrap();
        fs::write(folder.path().join("mine@1.json"), text).unwrap();
        assert_eq!(index.records().unwrap(), [record(b"one", 1)]);
        index.save(&record(b"one", 2)).unwrap();
        assert_eq!(index.records().unwrap(), [record(b"one", 2)]);
        index.remove(&record(b"one", 2)).unwrap();
        assert_eq!(index.records().unwrap(), []);
    }
}
