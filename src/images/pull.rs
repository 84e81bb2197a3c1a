//! Getting an image that is not here: fetching it, several files side by side, or building it.

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

use anyhow::{Context, Result, bail, ensure};
use fs_err as fs;
use indicatif::HumanBytes;

use crate::images::digest::Sha256;
use crate::images::fetch::{Fetched, Fetcher};
use crate::images::image::{Image, record};
use crate::images::index::{RecordFile, now};
use crate::images::lock::Pin;
use crate::images::recipe::Recipe;
use crate::images::resolve::{RemoteFile, resolve};
use crate::images::spec::{ImageSpec, SigningKey};
use crate::images::store::{Store, mtime};
use crate::images::verify;
use crate::output::{Printer, seconds};

/// Fetches the version that the pin wants, unless it is here.
pub(crate) fn fetch(
    store: &Store,
    fetcher: &Fetcher,
    spec: &ImageSpec,
    pin: &Pin,
    printer: &Printer,
) -> Result<Image> {
    let fetcher = &fetcher.with_printer(printer);
    let resolved = resolve(spec, pin, fetcher)?;
    // Somebody who names a version says nothing about which one is the newest.
    let is_newest = pin.version.is_none();
    let exact = Pin { version: resolved.version.clone(), ..pin.clone() };
    if let Some(image) = resolved.version.as_ref().and(store.fetched(spec, &exact)?) {
        if let (true, Some(mut known)) =
            (is_newest, store.index.load(&image.reference, image.digest)?)
        {
            known.pulled = now();
            store.index.save(&known)?;
        }
        return Ok(image);
    }
    let key = match &resolved.signed_by {
        Some(key) if resolved.files.iter().any(|file| file.signature.is_some()) => {
            Some((public_key(fetcher, spec, key)?, key.fingerprint.as_str()))
        }
        _ => None,
    };
    let partial = store.root.join("partial").join(&spec.name);
    fs::create_dir_all(&partial)?;

    let failed = AtomicBool::new(false);
    let job = Job { store, fetcher, partial: &partial, key, failed: &failed, printer };
    let results: Vec<Result<RecordFile>> = std::thread::scope(|scope| {
        let job = &job;
        let start = |file| scope.spawn(move || job.run(file).inspect_err(|_| job.stop()));
        let running: Vec<_> = resolved.files.iter().map(start).collect();
        let join = |thread: std::thread::ScopedJoinHandle<'_, Result<RecordFile>>| {
            thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
        };
        running.into_iter().map(join).collect()
    });
    let files = all_or_why_not(results)?;
    // Gone if it is empty; what was interrupted stays.
    let _ = fs::remove_dir(&partial);
    let mut record = record(spec, resolved.channel, resolved.version, files, 0);
    record.pulled = if is_newest {
        now()
    } else {
        store.index.load(&record.reference, record.digest())?.map_or(0, |known| known.pulled)
    };
    store.enter(spec, record)
}

/// Builds an image by its recipe.
pub(crate) fn build(
    store: &Store,
    spec: &ImageSpec,
    recipe: &Recipe,
    printer: &Printer,
) -> Result<Image> {
    let partial = store.root.join("partial").join(&spec.name);
    if partial.exists() {
        fs::remove_dir_all(&partial)?; // of a build that was killed
    }
    fs::create_dir_all(&partial)?;
    let output = tempfile::Builder::new().prefix("build-").tempdir_in(&partial)?;
    let log = partial.join("build.log");
    let start = Instant::now();
    recipe.build(output.path(), &log, printer)?;
    let mut files = Vec::new();
    for file in &spec.files {
        let path = output.path().join(file.path());
        ensure!(
            path.is_file(),
            "the recipe ended well, but made no `{}`; its output is in {}",
            file.path(),
            log.display()
        );
        let sha256 = Sha256::of_file(&path)?;
        if let Some(expected) = file.sha256 {
            ensure!(
                sha256 == expected,
                "`{}` was built otherwise: expected sha256 {expected}, found {sha256}",
                file.name
            );
        }
        let size = fs::metadata(&path)?.len();
        store.take_in(&path, sha256, &file.name)?;
        let mtime = mtime(&fs::metadata(store.blob(sha256, &file.name))?);
        files.push(RecordFile {
            role: file.role,
            name: file.name.clone(),
            size,
            mtime,
            sha256,
            url: None,
            path: None,
            verified_by: "built here".to_owned(),
        });
    }
    drop(output);
    let _ = fs::remove_dir_all(&partial);
    printer.note(format!("built image `{}` in {}", spec.name, seconds(start.elapsed())));
    store.enter(spec, record(spec, None, Some(recipe.digest().short()), files, now()))
}

/// What the threads share.
struct Job<'a> {
    store: &'a Store,
    fetcher: &'a Fetcher,
    partial: &'a Path,
    key: Option<(Vec<u8>, &'a str)>,
    failed: &'a AtomicBool,
    printer: &'a Printer,
}

impl Job<'_> {
    fn stop(&self) {
        self.failed.store(true, Ordering::Relaxed);
    }

    /// Fetches one file, verifies it and takes it in.
    fn run(&self, file: &RemoteFile) -> Result<RecordFile> {
        let store = self.store;
        // The file with this digest may be here already, from another version or another image.
        if let (Some((sha256, by)), None) = (file.digests.first(), &file.signature)
            && file.digests.iter().all(|(other, _)| other == sha256)
            && store.has(*sha256, &file.name)?
        {
            return self.entry(file, *sha256, format!("sha256 of {by}"));
        }
        // Before the file, which is large.
        let signature = match &file.signature {
            Some(url) => Some(self.fetcher.document(url)?),
            None => None,
        };
        let part = self.part(file);
        let start = Instant::now();
        if !self.printer.is_live() {
            self.printer.note(format!("fetching {}", file.url));
        }
        let (fetched, verified_by) = match self.download(file, signature.as_deref(), &part)? {
            (fetched, Err(error)) if fetched.resumed => {
                let why = "it was put together from several tries; fetching all of it again";
                self.printer.note(format!("verifying {}: {error:#}; {why}", file.url));
                self.download(file, signature.as_deref(), &part)?
            }
            judged => judged,
        };
        let verified_by = verified_by.with_context(|| format!("verifying {}", file.url))?;
        store.take_in(&part, fetched.sha256, &file.name)?;
        Fetcher::discard(&part)?;
        let (size, time) = (HumanBytes(fetched.size), seconds(start.elapsed()));
        self.printer.note(format!("fetched `{}`, {size} in {time}, {verified_by}", file.name));
        self.entry(file, fetched.sha256, verified_by)
    }

    /// Fetches a file into `part`, and what became of verifying it. A bad file is thrown away.
    fn download(
        &self,
        file: &RemoteFile,
        signature: Option<&[u8]>,
        part: &Path,
    ) -> Result<(Fetched, Result<String>)> {
        let bar = self.printer.byte_bar(&file.name);
        let fetched = self.fetcher.download(&file.url, part, &bar, self.failed);
        bar.finish_and_clear();
        let fetched = fetched?;
        let verified_by = self.judge(file, fetched, signature, part);
        if verified_by.is_err() {
            Fetcher::discard(part)?;
        }
        Ok((fetched, verified_by))
    }

    /// Every digest and the signature have to agree; says which did.
    fn judge(
        &self,
        file: &RemoteFile,
        fetched: Fetched,
        signature: Option<&[u8]>,
        part: &Path,
    ) -> Result<String> {
        let mut vouchers = Vec::new();
        for (expected, by) in &file.digests {
            ensure!(
                *expected == fetched.sha256,
                "`{}` is not what {by} says: expected sha256 {expected}, found {} ({} bytes)",
                file.name,
                fetched.sha256,
                fetched.size
            );
            vouchers.push(format!("sha256 of {by}"));
        }
        if let (Some(signature), Some((key, fingerprint))) = (signature, &self.key) {
            let signature = verify::check_signature(part, signature, key, fingerprint)
                .with_context(|| format!("`{}`", file.name))?;
            if signature.key_expired {
                self.printer
                    .warn(format!("`{}` is signed by a key that has expired since", file.name));
            }
            vouchers.push(format!("signature of {}", signature.fingerprint));
        }
        ensure!(!vouchers.is_empty(), "nothing vouches for `{}`", file.name);
        Ok(vouchers.join(", "))
    }

    fn entry(&self, file: &RemoteFile, sha256: Sha256, verified_by: String) -> Result<RecordFile> {
        let metadata = fs::metadata(self.store.blob(sha256, &file.name))?;
        Ok(RecordFile {
            role: file.role,
            name: file.name.clone(),
            size: metadata.len(),
            mtime: mtime(&metadata),
            sha256,
            url: Some(file.url.clone()),
            path: None,
            verified_by,
        })
    }

    /// The same URL goes on in the same file.
    fn part(&self, file: &RemoteFile) -> PathBuf {
        let key = Sha256::of(file.url.as_bytes()).short();
        self.partial.join(format!("{key}-{}.part", file.name))
    }
}

/// All files, or what went wrong with each; a file that was only stopped is not worth a word.
fn all_or_why_not(results: Vec<Result<RecordFile>>) -> Result<Vec<RecordFile>> {
    let (good, bad): (Vec<_>, Vec<_>) = results.into_iter().partition(Result::is_ok);
    let mut errors: Vec<_> = bad.into_iter().filter_map(Result::err).collect();
    if errors.is_empty() {
        return good.into_iter().collect();
    }
    if errors.iter().any(|error| !Fetcher::was_stopped(error)) {
        errors.retain(|error| !Fetcher::was_stopped(error));
    }
    if errors.len() == 1 {
        return Err(errors.remove(0));
    }
    let texts: Vec<String> = errors.iter().map(|error| format!("{error:#}")).collect();
    bail!("{} files: {}", texts.len(), texts.join("; "))
}

/// The public key, which is looked at before anything large is fetched.
fn public_key(fetcher: &Fetcher, spec: &ImageSpec, key: &SigningKey) -> Result<Vec<u8>> {
    let bytes = if key.key.contains("://") {
        fetcher.document(&key.key)?
    } else {
        let folder = spec.folder.as_deref().unwrap_or(Path::new("."));
        fs::read(folder.join(&key.key))?
    };
    verify::check_key(&bytes, &key.fingerprint).with_context(|| format!("reading {}", key.key))?;
    Ok(bytes)
}
