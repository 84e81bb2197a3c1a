//! The snapshots that there are of a lab.

use anyhow::Result;

use crate::error::{did_you_mean, hinted};
use crate::hypervisor::Found;
use crate::hypervisor::{Hypervisor, StoredFile};
use crate::lab::Lab;
use crate::lab::plan::Activity;
use crate::lab::snapshot::{Manifest, SnapshotFile, SnapshotName};
use crate::session::Session;

/// What lies in a lab's pool.
#[derive(Debug, Default)]
pub(crate) struct Shelf {
    /// The oldest first.
    pub(crate) snapshots: Vec<Kept>,
    /// Those whose manifest cannot be understood: it may be a later virtlab's.
    unreadable: Vec<(SnapshotName, String)>,
    /// Files of runs that were killed.
    leftovers: Vec<String>,
}

/// A snapshot that was finished.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Kept {
    pub(crate) manifest: Manifest,
    /// Why it cannot be restored any more, if somebody has touched its files.
    pub(crate) damage: Option<String>,
}

impl Shelf {
    /// Looks through the lab's pool.
    ///
    /// # Errors
    /// If the pool cannot be read, or is inactive: then libvirt does not know its files.
    pub(crate) fn look(session: &Session, hypervisor: &Hypervisor, found: &Found) -> Result<Self> {
        let lab = &found.lab;
        if found.pool != Some(Activity::Active) {
            let state = if found.pool.is_some() { "inactive" } else { "missing" };
            return Err(hinted(
                format!(
                    "storage pool `{}` is {state}, where the snapshots of lab `{}` are",
                    lab.pool_name(),
                    lab.name
                ),
                format!("`virtlab create {} --no-wait` brings it back", lab.name),
            ));
        }
        let look = || {
            let files = hypervisor.stored_files(lab, |file| SnapshotFile::of(file).is_some())?;
            Self::of(files, |file| hypervisor.read_file(lab, file))
        };
        let shelf = session.persistently(hypervisor, look)?;
        for (name, reason) in &shelf.unreadable {
            session.printer.warn(format!("leaving alone snapshot `{name}`: {reason}"));
        }
        Ok(shelf)
    }

    fn of(files: Vec<StoredFile>, read: impl Fn(&StoredFile) -> Result<Vec<u8>>) -> Result<Self> {
        let mut shelf = Self::default();
        let (manifests, memories): (Vec<_>, Vec<_>) = files
            .into_iter()
            .filter_map(|file| Some((SnapshotFile::of(&file.name)?, file)))
            .partition(|(it, _)| matches!(it, SnapshotFile::Manifest(_)));
        let memories: Vec<StoredFile> = memories.into_iter().map(|(_, file)| file).collect();
        for (what, file) in manifests {
            let name = what.snapshot().clone();
            match Manifest::read(&read(&file)?) {
                Ok(Some(manifest)) if manifest.name == name => {
                    let damage = damage(&manifest, &memories);
                    shelf.snapshots.push(Kept { manifest, damage });
                }
                Ok(Some(other)) => {
                    let reason = format!("its manifest is that of `{}`", other.name);
                    shelf.unreadable.push((name, reason));
                }
                Ok(None) => shelf.leftovers.push(file.name),
                Err(error) => shelf.unreadable.push((name, format!("{error:#}"))),
            }
        }
        let is_left = |file: &StoredFile| {
            let of = |name: &SnapshotName| {
                SnapshotFile::of(&file.name).is_some_and(|it| it.snapshot() == name)
            };
            !shelf.names().any(of)
        };
        let left = memories.iter().filter(|file| is_left(file)).map(|file| file.name.clone());
        let left: Vec<String> = left.collect();
        shelf.leftovers.extend(left);
        shelf.snapshots.sort_by(|a, b| {
            let key = |kept: &Kept| (kept.manifest.made_at_ms, kept.manifest.name.clone());
            key(a).cmp(&key(b))
        });
        Ok(shelf)
    }

    /// The names that are taken.
    pub(crate) fn names(&self) -> impl Iterator<Item = &SnapshotName> {
        let unreadable = self.unreadable.iter().map(|(name, _)| name);
        self.snapshots.iter().map(|kept| &kept.manifest.name).chain(unreadable)
    }

    /// The snapshot of this name, or the newest one.
    ///
    /// # Errors
    /// If there is none, or it cannot be understood.
    pub(crate) fn find(&self, lab: &Lab, name: Option<&SnapshotName>) -> Result<&Kept> {
        let list = format!("`virtlab snapshot list {}` shows those that there are", lab.name);
        let Some(name) = name else {
            return self.snapshots.last().ok_or_else(|| {
                hinted(
                    format!("there is no snapshot of lab `{}`", lab.name),
                    format!("`virtlab snapshot save {}` makes one", lab.name),
                )
            });
        };
        if let Some((_, reason)) = self.unreadable.iter().find(|(other, _)| other == name) {
            return Err(hinted(format!("reading snapshot `{name}`: {reason}"), list));
        }
        let found = self.snapshots.iter().find(|kept| kept.manifest.name == *name);
        found.ok_or_else(|| {
            let near = did_you_mean(name.as_str(), self.names().map(SnapshotName::as_str));
            let guess = near.map(|near| format!(" (did you mean `{near}`?)")).unwrap_or_default();
            hinted(format!("lab `{}` has no snapshot `{name}`{guess}", lab.name), list)
        })
    }

    /// Removes what runs left that were killed, and tells it.
    ///
    /// # Errors
    /// If libvirt cannot.
    pub(crate) fn sweep(
        &self,
        session: &Session,
        hypervisor: &Hypervisor,
        lab: &Lab,
    ) -> Result<()> {
        for file in &self.leftovers {
            session.persistently(hypervisor, || hypervisor.delete_file(lab, file))?;
        }
        if !self.leftovers.is_empty() {
            session.printer.note(format!(
                "removed what an unfinished snapshot of lab `{}` left: {}",
                lab.name,
                self.leftovers.join(", ")
            ));
        }
        Ok(())
    }
}

impl Kept {
    /// The files that it consists of. Without the first one it is no snapshot.
    pub(crate) fn files(&self) -> Vec<String> {
        let name = &self.manifest.name;
        let memories = self.manifest.saved().map(|node| name.memory_file(node.index));
        std::iter::once(name.manifest_file()).chain(memories).collect()
    }

    /// Removes it.
    ///
    /// # Errors
    /// If libvirt cannot.
    pub(crate) fn remove(
        &self,
        session: &Session,
        hypervisor: &Hypervisor,
        lab: &Lab,
    ) -> Result<()> {
        let mut files = self.files().into_iter();
        files.try_for_each(|file| {
            session.persistently(hypervisor, || hypervisor.delete_file(lab, &file))
        })
    }
}

/// What is not as it was when the snapshot was made.
fn damage(manifest: &Manifest, memories: &[StoredFile]) -> Option<String> {
    manifest.saved().find_map(|node| {
        let name = manifest.name.memory_file(node.index);
        match memories.iter().find(|file| file.name == name) {
            None => Some(format!("`{name}` is missing")),
            Some(file) if file.bytes != node.bytes => {
                Some(format!("`{name}` has {} bytes and not {}", file.bytes, node.bytes))
            }
            Some(_) => None,
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::lab::metadata::Power;
    use crate::lab::snapshot::{FORMAT, SavedNode};
    use crate::lab::tests::lab;

    fn file(name: &str, bytes: u64) -> StoredFile {
        StoredFile { name: name.to_owned(), bytes }
    }

    fn manifest(name: &str, made_at_ms: u64) -> Manifest {
        let lab = lab(2);
        Manifest {
            format: FORMAT,
            name: name.parse().unwrap(),
            uuid: lab.uuid,
            made_at_ms,
            version: "1".to_owned(),
            spec: lab.spec,
            host_cpu: None,
            nodes: vec![
                SavedNode { index: 1, power: Power::On, bytes: 5 },
                SavedNode { index: 2, power: Power::Off, bytes: 0 },
            ],
        }
    }

    fn shelf(files: &[(&str, u64)]) -> Shelf {
        let files = files.iter().map(|(name, bytes)| file(name, *bytes)).collect();
        let read = |file: &StoredFile| {
            Ok(match file.name.as_str() {
                "snapshot.old.json" | "snapshot.moved.json" => {
                    manifest("old", 1).to_json().unwrap()
                }
                "snapshot.new.json" => manifest("new", 2).to_json().unwrap(),
                "snapshot.later.json" => b"{\"format\": 9, \"version\": \"9\"}".to_vec(),
                _ => vec![0; 10],
            })
        };
        Shelf::of(files, read).unwrap()
    }

    #[test]
    fn what_has_a_whole_manifest_is_a_snapshot_and_what_has_none_was_left_by_a_killed_run() {
        let shelf = shelf(&[
            ("snapshot.new.1.memory", 5),
            ("snapshot.new.json", 9),
            ("snapshot.old.json", 9),
            ("snapshot.old.1.memory", 5),
            ("snapshot.torn.1.memory", 5),
            ("snapshot.torn.json", 9),
            ("snapshot.alone.2.memory", 5),
            ("snapshot.later.json", 9),
            ("snapshot.later.1.memory", 9),
            ("snapshot.moved.json", 9),
        ]);
        let names: Vec<&str> = shelf.names().map(SnapshotName::as_str).collect();
        assert_eq!(names, ["old", "new", "later", "moved"]);
        assert_eq!(
            shelf.leftovers,
            ["snapshot.torn.json", "snapshot.torn.1.memory", "snapshot.alone.2.memory"]
        );
        assert!(shelf.snapshots.iter().all(|kept| kept.damage.is_none()));
        assert_eq!(shelf.snapshots[1].files(), ["snapshot.new.json", "snapshot.new.1.memory"]);
        let found = |name: Option<&str>| {
            let name = name.map(|name| name.parse().unwrap());
            match shelf.find(&lab(2), name.as_ref()) {
                Ok(kept) => kept.manifest.name.to_string(),
                Err(error) => error.to_string(),
            }
        };
        assert_eq!(found(None), "new");
        assert_eq!(found(Some("old")), "old");
        assert_eq!(found(Some("torn")), "lab `demo` has no snapshot `torn`");
        assert_eq!(found(Some("odl")), "lab `demo` has no snapshot `odl`");
        assert_eq!(found(Some("olds")), "lab `demo` has no snapshot `olds` (did you mean `old`?)");
        assert_eq!(
            found(Some("later")),
            "reading snapshot `later`: it has format 9, written by virtlab 9; this one reads formats up to 1"
        );
        assert_eq!(found(Some("moved")), "reading snapshot `moved`: its manifest is that of `old`");
    }

    #[test]
    fn files_that_somebody_touched_are_told() {
        let damage = |files: &[(&str, u64)]| {
            let shelf = shelf(&[&[("snapshot.old.json", 9)], files].concat());
            shelf.snapshots[0].damage.clone()
        };
        assert_eq!(damage(&[]).unwrap(), "`snapshot.old.1.memory` is missing");
        assert_eq!(
            damage(&[("snapshot.old.1.memory", 4)]).unwrap(),
            "`snapshot.old.1.memory` has 4 bytes and not 5"
        );
    }
}
