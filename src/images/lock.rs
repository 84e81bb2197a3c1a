//! The lock file: which version of an image, and which digests, a lab was made with.
//!
//! `--lock FILE` writes it on the first run and obeys it on every later one, so that a lab can be
//! repeated next year and on another computer.

use std::collections::BTreeMap;
use std::path::Path;

use anyhow::{Context, Result, bail, ensure};
use fs_err as fs;
use serde::{Deserialize, Serialize};

use crate::files::{Readers, folder_of, replace};
use crate::images::digest::Sha256;
use crate::images::spec::located;

/// What of an image is wanted. The default wants the newest of the default channel.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Pin {
    /// The channel, such as `stable`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub channel: Option<String>,
    /// The version.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub version: Option<String>,
    /// The files by their names; empty if any will do.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub files: BTreeMap<String, PinnedFile>,
}

/// A file that was locked.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct PinnedFile {
    /// Its digest.
    pub sha256: Sha256,
    /// Where it came from, so that it is found when the metadata has moved on.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub url: Option<String>,
}

/// A lock file, with one pin per image.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct LockFile {
    version: u32,
    #[serde(default, rename = "image")]
    images: BTreeMap<String, Pin>,
}

impl Pin {
    /// Refuses a wish that kept and built images cannot meet: they have neither channels nor versions.
    ///
    /// # Errors
    /// If the pin names a channel or a version.
    pub fn refuse_version(&self) -> Result<()> {
        for (what, wanted) in [("channels", &self.channel), ("versions", &self.version)] {
            if let Some(wanted) = wanted {
                bail!("it has no {what}, so none is `{wanted}`");
            }
        }
        Ok(())
    }

    /// Refuses a file that is not the one that was locked.
    ///
    /// # Errors
    /// If the digests differ, or if the pin has digests and none for this file.
    pub fn require_digest(&self, file: &str, found: Sha256) -> Result<()> {
        if self.files.is_empty() {
            return Ok(());
        }
        let expected = self.files.get(file).with_context(|| {
            format!("`{file}` is not in the lock file, which was made for other files")
        })?;
        let expected = expected.sha256;
        ensure!(
            expected == found,
            "`{file}` is not the file that was locked: expected sha256 {expected}, found {found}"
        );
        Ok(())
    }

    /// This pin, with what flags ask for instead.
    ///
    /// # Errors
    /// If a flag contradicts the pin, naming both.
    pub fn with_flags(mut self, channel: Option<&str>, version: Option<&str>) -> Result<Self> {
        for (flag, wanted, pinned) in
            [("--channel", channel, &mut self.channel), ("--version", version, &mut self.version)]
        {
            let Some(wanted) = wanted else { continue };
            if let Some(pinned) = pinned.as_deref() {
                ensure!(
                    pinned == wanted,
                    "`{flag} {wanted}` contradicts the lock file, which says `{pinned}`"
                );
            }
            *pinned = Some(wanted.to_owned());
        }
        Ok(self)
    }
}

impl LockFile {
    /// Reads a lock file; one that does not exist is empty, if its folder does: it will be written
    /// there.
    ///
    /// # Errors
    /// If it cannot be read, or with file, line and column if it is not a lock file.
    pub fn load(path: &Path) -> Result<Self> {
        match fs::read_to_string(path) {
            Ok(text) => Self::parse(&text, &path.display().to_string()),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
                let folder = folder_of(path).display();
                ensure!(folder_of(path).is_dir(), "there is no folder {folder} for the lock file");
                Ok(Self::default())
            }
            Err(error) => Err(error.into()),
        }
    }

    /// Parses a lock file; `file` is what errors call it.
    ///
    /// # Errors
    /// As [`LockFile::load`].
    pub fn parse(text: &str, file: &str) -> Result<Self> {
        let lock: Self = toml::from_str(text).map_err(|error| located(&error, text, file))?;
        ensure!(
            lock.version == FORMAT_VERSION,
            "{file}: `version` is {}, this virtlab reads version {FORMAT_VERSION}",
            lock.version
        );
        Ok(lock)
    }

    /// What is wanted of the image `name`.
    pub fn pin(&self, name: &str) -> Pin {
        self.images.get(name).cloned().unwrap_or_default()
    }

    /// Sets what is wanted of the image `name`.
    pub fn set(&mut self, name: &str, pin: Pin) {
        self.images.insert(name.to_owned(), pin);
    }

    /// Enters an image into the lock file at `path`, unless it is in there. Of several runs that
    /// share the file each one's image gets in.
    ///
    /// # Errors
    /// If the file cannot be read or written.
    pub fn enter(path: &Path, name: &str, pin: Pin) -> Result<()> {
        // The folder, since the file is replaced when it is written.
        let folder = fs::File::open(folder_of(path))?;
        folder.lock().with_context(|| format!("locking {}", folder.path().display()))?;
        let mut lock = Self::load(path)?;
        if lock.pin(name) == Pin::default() {
            lock.set(name, pin);
            lock.save(path)?;
        }
        Ok(())
    }

    /// Writes the file in one step: a reader sees the old lock or the new one.
    ///
    /// # Errors
    /// If the folder cannot be written.
    pub fn save(&self, path: &Path) -> Result<()> {
        let text = format!("{HEADER}{}", toml::to_string_pretty(self)?);
        replace(path, text.as_bytes(), Readers::Everybody)
    }
}

impl Default for LockFile {
    fn default() -> Self {
        Self { version: FORMAT_VERSION, images: BTreeMap::new() }
    }
}

const FORMAT_VERSION: u32 = 1;
const HEADER: &str = "# Made by virtlab: the images of a lab, so that it can be repeated.\n";

#[cfg(test)]
mod tests {
    use super::*;

    fn pin() -> Pin {
        Pin {
            channel: Some("stable".to_owned()),
            version: Some("4230.2.1".to_owned()),
            files: BTreeMap::from([(
                "vmlinuz".to_owned(),
                PinnedFile { sha256: Sha256::of(b"kernel"), url: None },
            )]),
        }
    }

    #[test]
    fn a_lock_file_reads_back_as_it_was_written() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("virtlab.lock");
        let mut lock = LockFile::load(&path).unwrap();
        assert_eq!(lock.pin("flatcar"), Pin::default());
        lock.set("flatcar", pin());
        lock.save(&path).unwrap();
        assert_eq!(LockFile::load(&path).unwrap(), lock);
        assert_eq!(
            fs::read_to_string(&path).unwrap(),
            format!(
                "{HEADER}version = 1\n\n[image.flatcar]\nchannel = \"stable\"\n\
                 version = \"4230.2.1\"\n\n[image.flatcar.files.vmlinuz]\nsha256 = \"{}\"\n",
                Sha256::of(b"kernel")
            )
        );
    }

    #[test]
    fn a_file_that_was_not_locked_is_refused() {
        assert!(pin().require_digest("vmlinuz", Sha256::of(b"kernel")).is_ok());
        let error = pin().require_digest("vmlinuz", Sha256::of(b"other")).unwrap_err().to_string();
        assert_eq!(
            error,
            format!(
                "`vmlinuz` is not the file that was locked: expected sha256 {}, found {}",
                Sha256::of(b"kernel"),
                Sha256::of(b"other")
            )
        );
        assert!(pin().require_digest("initrd", Sha256::of(b"kernel")).is_err());
        assert!(Pin::default().require_digest("initrd", Sha256::of(b"kernel")).is_ok());
    }

    #[test]
    fn a_flag_may_not_contradict_the_lock_file() {
        assert_eq!(pin().with_flags(Some("stable"), None).unwrap(), pin());
        assert_eq!(
            pin().with_flags(None, Some("1.2.3")).unwrap_err().to_string(),
            "`--version 1.2.3` contradicts the lock file, which says `4230.2.1`"
        );
    }

    #[test]
    fn runs_that_share_a_lock_file_lose_nothing() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("virtlab.lock");
        let names: Vec<String> = (0..16).map(|number| format!("image-{number}")).collect();
        std::thread::scope(|scope| {
            for name in &names {
                scope.spawn(|| LockFile::enter(&path, name, pin()).unwrap());
            }
        });
        let lock = LockFile::load(&path).unwrap();
        let lost: Vec<_> = names.iter().filter(|name| lock.pin(name) != pin()).collect();
        assert_eq!(lost, [""; 0]);
    }

    #[test]
    fn a_lock_file_in_a_folder_that_is_not_there_is_refused_when_it_is_read() {
        let folder = tempfile::tempdir().unwrap();
        let missing = folder.path().join("missing");
        assert_eq!(
            LockFile::load(&missing.join("virtlab.lock")).unwrap_err().to_string(),
            format!("there is no folder {} for the lock file", missing.display())
        );
    }

    #[test]
    fn a_mistake_in_a_lock_file_is_named_with_its_place() {
        for (text, expected) in [
            ("version = 1\nimages = 1\n", "v.lock:2:1: unknown field `images`"),
            ("version = 7\n", "v.lock: `version` is 7, this virtlab reads version 1"),
        ] {
            let error = LockFile::parse(text, "v.lock").unwrap_err().to_string();
            assert!(error.starts_with(expected), "{error}");
        }
    }
}
