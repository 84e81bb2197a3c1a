//! Files that the user keeps: they are used where they are, and never changed or removed.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};

use crate::images::digest::Sha256;
use crate::images::image::{Image, record};
use crate::images::index::{Record, RecordFile, now};
use crate::images::lock::Pin;
use crate::images::spec::{FileSpec, ImageSpec, Local};
use crate::images::store::{Store, mtime};

/// The user's own files stay where they are; only their digests are remembered, by size and
/// time, since reading them takes seconds.
pub(crate) fn look(store: &Store, spec: &ImageSpec, local: &Local, pin: &Pin) -> Result<Image> {
    pin.refuse_version()?;
    let folder = folder(spec, local)?;
    let mut records = store.index.records()?;
    records.retain(|record| record.name == spec.name);
    let files = spec.files.iter().map(|file| look_at(file, &folder, &records, pin));
    let files: Vec<RecordFile> = files.collect::<Result<_>>()?;
    if let Some(known) = records.iter().find(|record| record.files == files) {
        return Ok(store.image(spec, known.clone()));
    }
    let record = record(spec, None, None, files, now());
    // What these files were before they were changed is nowhere any more.
    let is_before = |old: &&Record| paths(old) == paths(&record) && old.digest() != record.digest();
    for old in records.iter().filter(is_before) {
        store.index.remove(old)?;
    }
    store.enter(spec, record)
}

/// The folder that the files are kept in.
pub(crate) fn folder(spec: &ImageSpec, local: &Local) -> Result<PathBuf> {
    // Also of a user's copy of an entry: the files are hardly beside it.
    let folder = local.folder.as_ref().with_context(|| {
        format!(
            "it needs the folder that holds its files: use `{}:FOLDER`, or `source.local.folder` in \
             its entry",
            spec.name
        )
    })?;
    let folder = spec.folder.as_ref().map_or(folder.clone(), |base| base.join(folder));
    Ok(std::path::absolute(folder)?)
}

fn paths(record: &Record) -> Vec<Option<&Path>> {
    record.files.iter().map(|file| file.path.as_deref()).collect()
}

fn look_at(file: &FileSpec, folder: &Path, records: &[Record], pin: &Pin) -> Result<RecordFile> {
    let path = folder.join(file.path());
    let metadata =
        std::fs::metadata(&path).with_context(|| format!("looking for {}", path.display()))?;
    let (size, mtime) = (metadata.len(), mtime(&metadata));
    let is_known = |other: &&RecordFile| {
        other.path.as_ref() == Some(&path) && other.size == size && other.mtime == mtime
    };
    let sha256 = match records.iter().flat_map(|record| &record.files).find(is_known) {
        Some(other) => other.sha256,
        None => Sha256::of_file(&path)?,
    };
    if let Some(expected) = file.sha256 {
        ensure!(
            sha256 == expected,
            "{} is not the file of the image's entry: expected sha256 {expected}, found {sha256}",
            path.display()
        );
    }
    pin.require_digest(&file.name, sha256)?;
    let verified_by = match file.sha256 {
        Some(_) => "sha256 of the image's entry",
        None => "nothing, it is a file of yours",
    };
    Ok(RecordFile {
        role: file.role,
        name: file.name.clone(),
        size,
        mtime,
        sha256,
        url: None,
        path: Some(path),
        verified_by: verified_by.to_owned(),
    })
}
