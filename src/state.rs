//! The lab's folder on this computer: what its boot server gives out, the server's journal and log.
//!
//! Configs may hold secrets, so folder and files are for their owner only. Losing the folder loses
//! no lab: libvirt's metadata says what there is, and `create` makes the folder again.

use std::io::Write;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use etcetera::BaseStrategy;
use fs_err as fs;
use uuid::Uuid;

use crate::boot_server::{Content, Folder};
use crate::files::{self, Hold};
use crate::lab::{Lab, LabName};

/// The folder of one lab, `$XDG_STATE_HOME/virtlab/LAB/`.
#[derive(Clone, Debug)]
pub struct StateDir {
    path: PathBuf,
}

impl StateDir {
    /// The folder of the lab of this name, which need not exist.
    ///
    /// # Errors
    /// If the user has no home directory.
    pub fn of(name: &LabName) -> Result<Self> {
        Ok(Self { path: root()?.join(name.as_str()) })
    }

    /// The folders of all labs that this user has or had.
    ///
    /// # Errors
    /// If the user has no home directory.
    pub fn all() -> Result<Vec<(LabName, Self)>> {
        let Ok(entries) = fs::read_dir(root()?) else { return Ok(Vec::new()) };
        let folders = entries.filter_map(Result::ok).filter(|entry| entry.path().is_dir());
        let lab = |entry: fs::DirEntry| {
            let name = entry.file_name().to_str()?.parse().ok()?;
            Some((name, Self { path: entry.path() }))
        };
        let mut labs: Vec<(LabName, Self)> = folders.filter_map(lab).collect();
        labs.sort_by(|(a, _), (b, _)| a.as_str().cmp(b.as_str()));
        Ok(labs)
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Whether it is there.
    pub fn exists(&self) -> bool {
        self.path.is_dir()
    }

    /// The journal of the boot server.
    pub fn journal(&self) -> PathBuf {
        self.path.join("timeline.jsonl")
    }

    /// The registry of the boot server's etcd discovery.
    pub fn discovery(&self) -> PathBuf {
        self.path.join("discovery.json")
    }

    /// Makes the folder if it is not there. That of an earlier lab of the same name is replaced.
    ///
    /// # Errors
    /// If it cannot be made.
    pub fn claim(&self, lab: &Lab) -> Result<()> {
        if self.content().is_ok_and(|old| old.uuid != lab.uuid) {
            self.remove()?;
        }
        let mut builder = std::fs::DirBuilder::new();
        builder.recursive(true).mode(0o700);
        builder
            .create(&self.path)
            .with_context(|| format!("making the folder `{}`", self.path.display()))
    }

    /// Keeps what the lab's boot server is to give out, in the lab's own folder.
    ///
    /// # Errors
    /// If the folder cannot be written.
    pub fn save(&self, lab: &Lab, content: &Content) -> Result<()> {
        self.claim(lab)?;
        let text = serde_json::to_vec(content).context("writing what the boot server gives out")?;
        self.write(CONTENT_FILE, &text)
    }

    /// What the lab's boot server is to give out.
    ///
    /// # Errors
    /// If it is not there, or was written by another virtlab.
    pub fn content(&self) -> Result<Content> {
        Content::read(&self.path.join(CONTENT_FILE))
    }

    /// Where the boot server finds what it needs.
    pub fn folder(&self) -> Folder {
        Folder { path: self.path.clone(), content: self.path.join(CONTENT_FILE) }
    }

    /// Keeps the text of a template that the user named: their file may change or go.
    ///
    /// # Errors
    /// If the folder cannot be written.
    pub fn keep_template(&self, name: &str, text: &str) -> Result<()> {
        self.write(name, text.as_bytes())
    }

    /// The text of a template that was kept.
    pub fn template(&self, name: &str) -> Option<String> {
        fs::read_to_string(self.path.join(name)).ok()
    }

    /// For its owner alone, and whole or not at all.
    fn write(&self, name: &str, bytes: &[u8]) -> Result<()> {
        let mut file = tempfile::NamedTempFile::new_in(&self.path)?;
        file.write_all(bytes)?;
        file.persist(self.path.join(name))?;
        Ok(())
    }

    /// Deletes the folder.
    ///
    /// # Errors
    /// If it cannot be deleted.
    pub fn remove(&self) -> Result<()> {
        match fs::remove_dir_all(&self.path) {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(()),
            other => Ok(other?),
        }
    }
}

/// Holds the one lock of this user's virtlabs; two runs that look for a free subnet at the same
/// time would find the same one.
///
/// # Errors
/// If the lock's file cannot be made.
pub fn lock(waiting: impl FnOnce()) -> Result<std::fs::File> {
    files::lock(&root()?.join(LOCK_FILE), Hold::Exclusive, waiting)
}

/// The file that is locked as long as somebody changes the lab of this name at the libvirt of this URI.
pub(crate) fn lab_lock(uri: &str, name: &LabName) -> Result<PathBuf> {
    let uri = Uuid::new_v5(&Uuid::NAMESPACE_URL, uri.as_bytes()).simple().to_string();
    Ok(root()?.join(LOCK_FOLDER).join(format!("{name}.{}", &uri[..8])))
}

fn root() -> Result<PathBuf> {
    let strategy = etcetera::choose_base_strategy().context("looking for the home directory")?;
    let state = strategy.state_dir().context("looking for the state directory")?;
    Ok(state.join("virtlab"))
}

const CONTENT_FILE: &str = "content.json";
const LOCK_FILE: &str = "lock";
/// No lab's name begins with a dot.
const LOCK_FOLDER: &str = ".locks";
