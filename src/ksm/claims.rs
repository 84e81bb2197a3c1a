//! Remembers what KSM's settings were before the first lab asked for it, and puts them back when
//! the last such lab is gone.
//!
//! KSM belongs to the host, so this is kept for the host and not for a user or a connection: one
//! small file in `/run`, which a reboot empties, as it resets KSM. It is written *before* KSM is
//! touched and removed *after* KSM is as it was, and restoring looks at every setting by itself:
//! what is as found needs nothing, what is as virtlab set it is put back, anything else is
//! somebody else's wish and stays. So a kill at any moment leaves a state from which
//! [`Claims::repair`], called by the next command, comes to the same end.

use std::collections::BTreeMap;
use std::fmt;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use anyhow::Context;
use fs_err as fs;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::host::process::ProcessIdentity;
use crate::ksm::process::Processes;
use crate::ksm::{Knob, Ksm, KsmError, Settings, kill_point};

/// The labs of this host that asked for KSM.
#[derive(Clone, Debug)]
pub struct Claims {
    dir: PathBuf,
    ksm: Ksm,
    processes: Processes,
}

impl Claims {
    /// The claims of the host this runs on.
    pub fn host() -> Self {
        Self::at(Path::new(CLAIMS_DIR), Ksm::host(), Processes::host())
    }

    /// The claims kept in `dir` on the settings of `ksm`, by the processes of `processes`.
    pub fn at(dir: &Path, ksm: Ksm, processes: Processes) -> Self {
        Self { dir: dir.to_owned(), ksm, processes }
    }

    /// The KSM that is claimed.
    pub fn ksm(&self) -> &Ksm {
        &self.ksm
    }

    /// Makes KSM as `wanted` for a lab, and remembers what it was.
    ///
    /// May be called before the lab exists: [`repair`](Self::repair) keeps the claim as long as the
    /// process that made it lives. `connection` is the URI as libvirt spells it.
    ///
    /// # Errors
    /// A [`KsmError`] if KSM cannot be set; then nothing is claimed.
    pub fn claim(&self, lab: Uuid, connection: &str, wanted: Settings) -> anyhow::Result<Claimed> {
        let lock = self.lock_book()?;
        let was_so = self.ksm.is_set(wanted)?;
        if lock.is_none() {
            if was_so {
                return Ok(Claimed::AlreadyOnUnrecorded);
            }
            return Err(self.no_permission(wanted).into());
        }
        let mut book = self.read()?.unwrap_or_default();
        let before = (book.clone(), self.ksm.current(wanted)?);
        for (knob, value) in wanted.knobs() {
            let current = self.ksm.knob(knob)?;
            let found = match book.changes.get(&knob) {
                // What virtlab set, or has not yet set: the first finding holds.
                Some(change) if current == change.set || current == change.found => change.found,
                _ => current,
            };
            book.changes.insert(knob, Change { found, set: value });
        }
        let me = self.processes.identity(std::process::id());
        book.labs.insert(lab, Claim { connection: connection.to_owned(), claimant: me });
        self.write(&book)?;
        if let Err(error) = self.ksm.set(wanted) {
            // Nothing is claimed then, and a part that was set is put back.
            let (book, settings) = before;
            self.ksm.set(settings)?;
            self.write(&book)?;
            return Err(error.into());
        }
        Ok(if was_so { Claimed::AlreadyOn } else { Claimed::SwitchedOn })
    }

    /// Gives up the claim of a lab that is gone, and restores the settings if it was the last.
    ///
    /// # Errors
    /// [`KsmError::NoPermission`] if they cannot be put back; the claim then stays, for a command
    /// with permission.
    pub fn release(&self, lab: Uuid) -> anyhow::Result<Released> {
        self.drop_claims(|uuid, _| uuid == lab)
    }

    /// Drops the claims of labs that no longer exist, as after a kill, and restores the settings if
    /// none is left. Only labs claimed through `connection` are judged: of others the caller knows
    /// nothing. Cheap, and silent without permission as long as there is nothing to do.
    ///
    /// # Errors
    /// As [`release`](Self::release).
    pub fn repair(
        &self,
        connection: &str,
        exists: impl Fn(Uuid) -> bool,
    ) -> anyhow::Result<Released> {
        self.drop_claims(|uuid, claim| {
            claim.connection == connection && !exists(uuid) && !self.is_alive(&claim.claimant)
        })
    }

    /// Sets KSM because the user said so, for good: labs that claim it keep their claims, but their
    /// end leaves these settings.
    ///
    /// # Errors
    /// A [`KsmError`] if KSM cannot be set.
    pub fn set_for_good(&self, settings: Settings) -> anyhow::Result<()> {
        let lock = self.lock_book()?;
        if let Some(mut book) = self.read()? {
            if lock.is_none() {
                return Err(self.no_permission(settings).into());
            }
            for (knob, value) in settings.knobs() {
                if let Some(change) = book.changes.get_mut(&knob) {
                    change.found = value;
                }
            }
            self.write(&book)?;
        }
        Ok(self.ksm.set(settings)?)
    }

    /// The labs that claim KSM now.
    ///
    /// # Errors
    /// If the file cannot be read.
    pub fn labs(&self) -> anyhow::Result<Vec<Uuid>> {
        Ok(self.read()?.unwrap_or_default().labs.into_keys().collect())
    }

    fn drop_claims(&self, gone: impl Fn(Uuid, &Claim) -> bool) -> anyhow::Result<Released> {
        let is_due = |book: &Book| {
            book.labs.is_empty() || book.labs.iter().any(|(uuid, claim)| gone(*uuid, claim))
        };
        // Without the lock first, so that a user without permission is bothered only if need be.
        if !self.read()?.is_some_and(|book| is_due(&book)) {
            return Ok(Released::Nothing);
        }
        let Some(_lock) = self.lock_book()? else {
            let found = self.read()?.unwrap_or_default().found();
            return Err(self.no_permission(found).into());
        };
        let Some(mut book) = self.read()?.filter(is_due) else {
            return Ok(Released::Nothing);
        };
        book.labs.retain(|uuid, claim| !gone(*uuid, claim));
        if !book.labs.is_empty() {
            self.write(&book)?;
            return Ok(Released::StillClaimed { labs: book.labs.len() });
        }
        let foreign = put_back(&self.ksm, &book).context("restoring the settings of KSM")?;
        self.remove()?;
        Ok(Released::Restored { foreign })
    }

    fn is_alive(&self, claimant: &ProcessIdentity) -> bool {
        self.processes.identity(claimant.pid) == *claimant && claimant.started.is_some()
    }

    fn no_permission(&self, wanted: Settings) -> KsmError {
        let differs = |&(knob, value): &(Knob, u64)| !matches!(self.ksm.knob(knob), Ok(current) if current == value);
        let (path, value) = match wanted.knobs().find(differs) {
            Some((knob, value)) => (self.ksm.root().join(knob.file_name()), value),
            None => (self.ksm.root().join(Knob::Run.file_name()), 1),
        };
        KsmError::NoPermission { path, value }
    }

    /// The lock on the file, freed when it is dropped or its process ends; `None` without
    /// permission.
    fn lock_book(&self) -> anyhow::Result<Option<fs::File>> {
        let open = || {
            fs::create_dir_all(&self.dir)?;
            fs::OpenOptions::new()
                .create(true)
                .truncate(false)
                .write(true)
                .open(self.dir.join(LOCK_FILE))
        };
        let file = match open() {
            Ok(file) => file,
            Err(error) if error.kind() == ErrorKind::PermissionDenied => return Ok(None),
            Err(error) => return Err(error.into()),
        };
        // Held for a few milliseconds by whoever has it, so there is no deadline.
        file.file().lock().context("locking the claims on KSM")?;
        Ok(Some(file))
    }

    fn read(&self) -> anyhow::Result<Option<Book>> {
        let path = self.file();
        let text = match fs::read_to_string(&path) {
            Ok(text) => text,
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(error.into()),
        };
        let book: Book =
            serde_json::from_str(&text).with_context(|| format!("reading `{}`", path.display()))?;
        Ok(Some(book))
    }

    /// Written aside and renamed, so that a reader or a kill sees the old or the new. The name is
    /// fixed, as only the holder of the lock writes, so nothing piles up.
    fn write(&self, book: &Book) -> anyhow::Result<()> {
        if book.labs.is_empty() {
            return self.remove();
        }
        let aside = self.dir.join(format!("{CLAIMS_FILE}.new"));
        kill_point();
        fs::write(&aside, serde_json::to_string_pretty(book)? + "\n")?;
        kill_point();
        fs::rename(&aside, self.file())?;
        Ok(())
    }

    fn remove(&self) -> anyhow::Result<()> {
        kill_point();
        match fs::remove_file(self.file()) {
            Err(error) if error.kind() != ErrorKind::NotFound => Err(error.into()),
            _ => Ok(()),
        }
    }

    fn file(&self) -> PathBuf {
        self.dir.join(CLAIMS_FILE)
    }
}

/// What a claim did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Claimed {
    /// KSM was changed, and will be changed back.
    SwitchedOn,
    /// KSM was as wanted.
    AlreadyOn,
    /// KSM was as wanted, and without permission the claim could not be recorded: another lab's end
    /// may switch KSM off.
    AlreadyOnUnrecorded,
}

/// What the end of a claim did.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Released {
    /// There was no such claim.
    Nothing,
    /// Other labs still claim KSM, so it stays.
    StillClaimed {
        /// How many.
        labs: usize,
    },
    /// The last claim went and the settings are as they were found, but for `foreign`.
    Restored {
        /// What somebody else has set in the meantime, and which was left so.
        foreign: Vec<Foreign>,
    },
}

/// A setting that somebody else changed while a lab claimed KSM.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Foreign {
    /// The setting.
    pub knob: Knob,
    /// What it was before the first lab.
    pub found: u64,
    /// What virtlab had set.
    pub set: u64,
    /// What it is now.
    pub current: u64,
}

impl fmt::Display for Foreign {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { knob, found, set, current } = self;
        let name = knob.file_name();
        write!(
            f,
            "leaving KSM's `{name}` at {current}: virtlab had set {set}, so somebody else changed \
             it (before the first lab it was {found})"
        )
    }
}

/// What the file holds.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
struct Book {
    changes: BTreeMap<Knob, Change>,
    labs: BTreeMap<Uuid, Claim>,
}

impl Book {
    fn found(&self) -> Settings {
        let found = |knob| self.changes.get(&knob).map(|change: &Change| change.found);
        Settings {
            run: found(Knob::Run).and_then(|run| run.try_into().ok()),
            pages_to_scan: found(Knob::PagesToScan),
            sleep_millisecs: found(Knob::SleepMillisecs),
            smart_scan: found(Knob::SmartScan).map(|value| value != 0),
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Change {
    found: u64,
    set: u64,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Claim {
    connection: String,
    claimant: ProcessIdentity,
}

fn put_back(ksm: &Ksm, book: &Book) -> Result<Vec<Foreign>, KsmError> {
    let mut foreign = Vec::new();
    for (&knob, &Change { found, set }) in &book.changes {
        let current = ksm.knob(knob)?;
        if current == set {
            ksm.set_knob(knob, found)?;
        } else if current != found {
            foreign.push(Foreign { knob, found, set, current });
        }
    }
    Ok(foreign)
}

/// One for the host, emptied by a reboot.
pub const CLAIMS_DIR: &str = "/run/virtlab";

const CLAIMS_FILE: &str = "ksm.json";
const LOCK_FILE: &str = "ksm.lock";

#[cfg(test)]
pub(super) mod tests;
