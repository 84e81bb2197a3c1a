//! What the store knows about each image that it has, one small JSON file each.

use std::path::PathBuf;
use std::time::SystemTime;

use anyhow::Result;
use fs_err as fs;
use serde::Deserialize;
use serde::Serialize;

use crate::images::digest::Sha256;
use crate::images::image::digest_of_all;
use crate::images::lock::write_atomically;
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
}

impl Index {
    pub(crate) fn new(folder: PathBuf) -> Self {
        Self { folder }
    }

    /// All records in the order of their references. One that cannot be parsed is of another
    /// virtlab and counts as not there: the worst that follows is a download.
    pub(crate) fn records(&self) -> Result<Vec<Record>> {
        let mut records = Vec::new();
        for item in fs::read_dir(&self.folder)? {
            let path = item?.path();
            if path.extension().is_none_or(|extension| extension != "json") {
                continue;
            }
            let bytes = match fs::read(&path) {
                // Another run has removed it since.
                Err(error) if error.kind() == std::io::ErrorKind::NotFound => continue,
                bytes => bytes?,
            };
            match serde_json::from_slice::<Record>(&bytes) {
                Ok(record) => records.push(record),
                Err(error) => tracing::warn!("leaving out {}: {error}", path.display()),
            }
        }
        records.sort_by(|a, b| a.reference.cmp(&b.reference));
        Ok(records)
    }

    pub(crate) fn load(&self, reference: &str) -> Result<Option<Record>> {
        Ok(self.records()?.into_iter().find(|record| record.reference == reference))
    }

    pub(crate) fn save(&self, record: &Record) -> Result<()> {
        let text = serde_json::to_vec_pretty(record)?;
        write_atomically(&self.folder, &self.path(record), &text)
    }

    pub(crate) fn remove(&self, record: &Record) -> Result<()> {
        Ok(fs::remove_file(self.path(record))?)
    }

    fn path(&self, record: &Record) -> PathBuf {
        self.folder.join(format!("{}.json", record.reference))
    }
}

/// Nanoseconds since 1970.
pub(crate) fn now() -> u64 {
    let elapsed = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    u64::try_from(elapsed.as_nanos()).unwrap_or(u64::MAX)
}
