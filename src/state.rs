//! The lab's folder on this computer: what its boot server gives out, the server's journal and log.
//!
//! Configs may hold secrets, so folder and files are for their owner only. Losing the folder loses
//! no lab: libvirt's metadata says what there is, and `create` makes the folder again.

use std::io::ErrorKind;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use etcetera::BaseStrategy;
use fs_err as fs;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::boot_server::{CONTENT_FILE, Content, Folder};
use crate::files::{self, Hold, Readers};
use crate::hypervisor::Hypervisor;
use crate::lab::{Lab, LabName};

/// The folder of one lab, `$XDG_STATE_HOME/virtlab/LAB.UUID/`. Labs of one name at two connections, or of
/// two times, have two folders. Virtlab 0.1 called it `LAB`; such a folder is the lab's whose UUID is in it.
#[derive(Clone, Debug)]
pub struct StateDir {
    path: PathBuf,
}

/// Which libvirt a lab is in.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Origin {
    /// libvirt's URI.
    pub uri: String,
    /// The name of libvirt's host.
    pub host: String,
}

impl Origin {
    /// The libvirt that we are connected to.
    pub fn of(hypervisor: &Hypervisor) -> Result<Self> {
        Ok(Self { uri: hypervisor.uri()?, host: hypervisor.hostname()? })
    }
}

/// Whose folder it is, and how far it is written.
#[derive(Clone, Debug, Serialize, Deserialize)]
struct Owner {
    uuid: Uuid,
    origin: Origin,
    /// The generation of the specification that all texts in the folder are made from; `None` until they
    /// are written.
    generation: Option<u32>,
}

impl StateDir {
    /// The folder of a lab, which need not exist.
    ///
    /// # Errors
    /// If the user has no home directory.
    pub fn of(lab: &Lab) -> Result<Self> {
        let root = root()?;
        let old = Self { path: root.join(lab.name.as_str()) };
        if old.content().is_ok_and(|content| content.uuid == lab.uuid) {
            return Ok(old);
        }
        Ok(Self { path: root.join(format!("{}.{}", lab.name, lab.uuid)) })
    }

    /// The folders there are of labs of this name.
    ///
    /// # Errors
    /// If the user has no home directory.
    pub fn all_of(name: &LabName) -> Result<Vec<Self>> {
        let all = Self::all()?.into_iter();
        Ok(all.filter(|(lab, _)| lab == name).map(|(_, folder)| folder).collect())
    }

    /// The UUID of the lab that the folder belongs to, if it says so.
    pub fn uuid(&self) -> Option<Uuid> {
        let owner = self.owner().map(|owner| owner.uuid);
        owner.or_else(|| self.content().ok().map(|content| content.uuid))
    }

    /// Which libvirt the folder's lab is in; `None` if virtlab 0.1 made it.
    pub fn origin(&self) -> Option<Origin> {
        self.owner().map(|owner| owner.origin)
    }

    /// Whether the folder's lab was in the libvirt of `here` and is there no more. Where the folder does not
    /// say which libvirt that was, nobody knows.
    pub fn is_left_over(&self, here: &Origin, is_there: impl FnOnce(&Uuid) -> bool) -> bool {
        self.origin().as_ref() == Some(here) && self.uuid().is_some_and(|uuid| !is_there(&uuid))
    }

    /// Whether everything that the lab's boot server is to give out is here, as the lab's specification
    /// wants it.
    pub fn keeps(&self, lab: &Lab) -> bool {
        self.content().is_ok_and(|content| content.uuid == lab.uuid) && self.is_up_to_date(lab)
    }

    /// Whether all texts in the folder are made from the lab's specification as it is now.
    pub fn is_up_to_date(&self, lab: &Lab) -> bool {
        // In a folder of virtlab 0.1 it is that of the only specification that there was.
        let generation = self.owner().map_or(Some(0), |owner| owner.generation);
        generation == Some(lab.generation)
    }

    fn owner(&self) -> Option<Owner> {
        let text = fs::read_to_string(self.path.join(OWNER_FILE)).ok()?;
        serde_json::from_str(&text).ok()
    }

    /// The folders of all labs that this user has or had.
    ///
    /// # Errors
    /// If the user has no home directory.
    pub fn all() -> Result<Vec<(LabName, Self)>> {
        let Ok(entries) = fs::read_dir(root()?) else { return Ok(Vec::new()) };
        let folders = entries.filter_map(Result::ok).filter(|entry| entry.path().is_dir());
        let lab = |entry: fs::DirEntry| {
            let name = lab_of_folder(entry.file_name().to_str()?)?.parse().ok()?;
            Some((name, Self { path: entry.path() }))
        };
        let mut labs: Vec<(LabName, Self)> = folders.filter_map(lab).collect();
        labs.sort_by(|(_, a), (_, b)| a.path.cmp(&b.path));
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

    /// Makes the folder if it is not there, and says in it whose it is.
    ///
    /// # Errors
    /// If it cannot be made.
    pub fn claim(&self, lab: &Lab, origin: &Origin) -> Result<()> {
        let mut builder = std::fs::DirBuilder::new();
        builder.recursive(true).mode(0o700);
        builder
            .create(&self.path)
            .with_context(|| format!("making the folder `{}`", self.path.display()))?;
        let generation = self.owner().and_then(|owner| owner.generation);
        self.write_owner(&Owner { uuid: lab.uuid, origin: origin.clone(), generation })
    }

    /// Keeps what the lab's boot server is to give out, in the lab's own folder.
    ///
    /// # Errors
    /// If the folder cannot be written.
    pub fn save(&self, lab: &Lab, origin: &Origin, content: &Content) -> Result<()> {
        self.claim(lab, origin)?;
        let text = serde_json::to_vec(content).context("writing what the boot server gives out")?;
        self.write(CONTENT_FILE, &text)?;
        let generation = Some(lab.generation);
        self.write_owner(&Owner { uuid: lab.uuid, origin: origin.clone(), generation })
    }

    /// Notes that what is kept is still that of the lab's specification, of which something else has changed.
    ///
    /// # Errors
    /// If the folder cannot be read or written.
    pub fn mark(&self, lab: &Lab) -> Result<()> {
        let owner = self.owner().context("reading whose folder it is")?;
        self.write_owner(&Owner { generation: Some(lab.generation), ..owner })
    }

    fn write_owner(&self, owner: &Owner) -> Result<()> {
        let text = serde_json::to_vec(owner).context("writing whose folder it is")?;
        self.write(OWNER_FILE, &text)
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
        files::replace(&self.path.join(name), bytes, Readers::Owner)
    }

    /// Deletes the folder.
    ///
    /// # Errors
    /// If it cannot be deleted.
    pub fn remove(&self) -> Result<()> {
        match fs::remove_dir_all(&self.path) {
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(()),
            other => Ok(other?),
        }
    }
}

/// Holds the one lock of this user's virtlabs; two runs that look for a free subnet at the same
/// time would find the same one.
///
/// # Errors
/// If the lock's file cannot be made.
pub fn lock_subnets(waiting: impl FnOnce()) -> Result<std::fs::File> {
    files::lock(&root()?.join(LOCK_FILE), Hold::Exclusive, waiting)
}

/// The file that is locked as long as somebody changes the lab of this name at the libvirt of this URI.
pub(crate) fn lab_lock(uri: &str, name: &LabName) -> Result<PathBuf> {
    let uri = Uuid::new_v5(&Uuid::NAMESPACE_URL, uri.as_bytes()).simple().to_string();
    Ok(root()?.join(LOCK_FOLDER).join(format!("{name}.{}", &uri[..8])))
}

/// The name of the lab that a folder of this name belongs to; a lab's name has no dot in it.
fn lab_of_folder(folder: &str) -> Option<&str> {
    match folder.split_once('.') {
        None => Some(folder),
        Some((lab, uuid)) => Uuid::parse_str(uuid).is_ok().then_some(lab),
    }
}

fn root() -> Result<PathBuf> {
    let strategy = etcetera::choose_base_strategy().context("looking for the home directory")?;
    let state = strategy.state_dir().context("looking for the state directory")?;
    Ok(state.join("virtlab"))
}

const OWNER_FILE: &str = "lab.json";
const LOCK_FILE: &str = "lock";
/// No lab's name begins with a dot.
const LOCK_FOLDER: &str = ".locks";

#[cfg(test)]
mod tests {
    use super::*;
    use crate::lab::tests::lab;

    #[test]
    fn only_what_says_that_it_was_in_this_libvirt_is_left_over_here() {
        let folder = tempfile::tempdir().unwrap();
        let state = StateDir { path: folder.path().join("demo") };
        let (here, elsewhere) = (origin("qemu:///system"), origin("qemu:///session"));
        assert!(!state.is_left_over(&here, |_| false), "it does not say where it was");

        let lab = lab(1);
        state.claim(&lab, &here).unwrap();
        assert!(state.is_left_over(&here, |_| false));
        assert!(!state.is_left_over(&elsewhere, |_| false));

        assert!(!state.is_left_over(&here, |uuid| *uuid == lab.uuid));
    }

    fn origin(uri: &str) -> Origin {
        Origin { uri: uri.to_owned(), host: "host".to_owned() }
    }
}
