//! What a snapshot of a lab is: a file for the memory of each node that was on, and a manifest, which is written last. Files
//! without a manifest are what a run left that was killed.

use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;

use anyhow::{Context, Result, bail, ensure};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::metadata::Power;
use super::{Lab, LabName, LabSpec};

/// The name of a snapshot: what a lab's name may be.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub struct SnapshotName(LabName);

impl SnapshotName {
    /// The one that a snapshot gets if nobody names it, beside these: the number after the highest.
    pub(crate) fn next<'a>(there: impl Iterator<Item = &'a Self>) -> Self {
        let highest = there.filter_map(|name| name.0.as_str().parse::<u32>().ok()).max();
        let next = highest.unwrap_or_default().saturating_add(1);
        Self(next.to_string().parse().expect("digits are a good name"))
    }

    /// The name as text.
    pub fn as_str(&self) -> &str {
        self.0.as_str()
    }

    /// The manifest's name in the lab's storage pool.
    pub(crate) fn manifest_file(&self) -> String {
        format!("{PREFIX}{self}{MANIFEST}")
    }

    /// The name in the lab's storage pool of the memory of the node with this index.
    pub(crate) fn memory_file(&self, index: u32) -> String {
        format!("{PREFIX}{self}.{index}{MEMORY}")
    }
}

impl FromStr for SnapshotName {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        text.parse().map(Self).map_err(|_: String| {
            "a snapshot's name has 1 to 40 lower-case letters, digits and hyphens (not at its ends), such as `base`"
                .to_owned()
        })
    }
}

impl fmt::Display for SnapshotName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// A file of a snapshot in the lab's storage pool.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum SnapshotFile {
    Manifest(SnapshotName),
    /// The memory of the node with this index.
    Memory(SnapshotName, u32),
}

impl SnapshotFile {
    /// What a file of this name is, if it is one of a snapshot's.
    pub(crate) fn of(file: &str) -> Option<Self> {
        let rest = file.strip_prefix(PREFIX)?;
        if let Some(name) = rest.strip_suffix(MANIFEST) {
            return Some(Self::Manifest(name.parse().ok()?));
        }
        let (name, index) = rest.strip_suffix(MEMORY)?.split_once('.')?;
        Some(Self::Memory(name.parse().ok()?, index.parse().ok()?))
    }

    /// The snapshot's name.
    pub(crate) fn snapshot(&self) -> &SnapshotName {
        match self {
            Self::Manifest(name) | Self::Memory(name, _) => name,
        }
    }
}

/// What is written beside the memory of the nodes when all of it is there.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Manifest {
    /// [`FORMAT`].
    pub(crate) format: u32,
    pub(crate) name: SnapshotName,
    /// The lab's.
    pub(crate) uuid: Uuid,
    /// When the nodes stood still, in milliseconds since the epoch.
    pub(crate) made_at_ms: u64,
    /// The virtlab that made it.
    pub(crate) version: String,
    /// What the lab was.
    pub(crate) spec: LabSpec,
    /// The model of the host's processors, where libvirt tells.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) host_cpu: Option<String>,
    /// In the order of their index.
    pub(crate) nodes: Vec<SavedNode>,
}

/// A node as it was.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct SavedNode {
    pub(crate) index: u32,
    /// What was wanted of it.
    pub(crate) power: Power,
    /// The length of the file with its memory; 0 for one that was off.
    pub(crate) bytes: u64,
}

impl Manifest {
    /// Reads one. `None`: it is not whole, so the run that wrote it was killed.
    ///
    /// # Errors
    /// If a later virtlab wrote it.
    pub(crate) fn read(text: &[u8]) -> Result<Option<Self>> {
        #[derive(Deserialize)]
        struct Head {
            #[serde(default)]
            format: u32,
            #[serde(default)]
            version: String,
        }
        let Ok(head) = serde_json::from_slice::<Head>(text) else { return Ok(None) };
        ensure!(
            head.format <= FORMAT,
            "it has format {}, written by virtlab {}; this one reads formats up to {FORMAT}",
            head.format,
            head.version
        );
        serde_json::from_slice(text)
            .with_context(|| format!("reading what virtlab {} wrote", head.version))
            .map(Some)
    }

    /// As it is written.
    pub(crate) fn to_json(&self) -> Result<Vec<u8>> {
        serde_json::to_vec_pretty(self).context("writing the snapshot's manifest")
    }

    /// How much its files take together, in bytes.
    pub(crate) fn bytes(&self) -> u64 {
        self.nodes.iter().map(|node| node.bytes).sum()
    }

    /// The nodes whose memory it has.
    pub(crate) fn saved(&self) -> impl Iterator<Item = &SavedNode> {
        self.nodes.iter().filter(|node| node.power != Power::Off)
    }

    /// The power that each node gets.
    pub(crate) fn powers(&self) -> BTreeMap<u32, Power> {
        self.nodes.iter().map(|node| (node.index, node.power)).collect()
    }

    /// Refuses what the lab is no more.
    ///
    /// # Errors
    /// If its specification is another one than when the snapshot was made, with what differs. Whether it comes back with
    /// the host is not the nodes' affair.
    pub(crate) fn require_same(&self, lab: &Lab) -> Result<()> {
        let (then, now) = (self.spec.nodes, lab.spec.nodes);
        let name = &self.name;
        if self.uuid != lab.uuid {
            bail!("snapshot `{name}` is of another lab that was called `{}`", lab.name);
        }
        if then != now {
            bail!("snapshot `{name}` is of {}, and lab `{}` has {now}", nodes(then), lab.name);
        }
        let differing = differing(&self.spec, &lab.spec)?;
        if !differing.is_empty() {
            bail!(
                "lab `{}` is not what it was when snapshot `{name}` was made: {} changed",
                lab.name,
                differing.join(", ")
            );
        }
        Ok(())
    }
}

fn nodes(count: u32) -> String {
    if count == 1 { "1 node".to_owned() } else { format!("{count} nodes") }
}

/// The fields in which two specifications differ.
fn differing(then: &LabSpec, now: &LabSpec) -> Result<Vec<String>> {
    let fields = |spec: &LabSpec| {
        let value = serde_json::to_value(LabSpec { autostart: false, ..spec.clone() });
        let value = value.context("comparing specifications")?;
        let fields = value.as_object().context("a specification has fields")?;
        Ok::<_, anyhow::Error>(fields.clone())
    };
    let (then, now) = (fields(then)?, fields(now)?);
    let names = then.keys().chain(now.keys().filter(|key| !then.contains_key(*key)));
    Ok(names.filter(|key| then.get(*key) != now.get(*key)).cloned().collect())
}

/// Grows when the virtlab before could misunderstand it.
pub(crate) const FORMAT: u32 = 1;
/// No node's files begin like this: names of labs and nodes have no dot in them.
const PREFIX: &str = "snapshot.";
const MANIFEST: &str = ".json";
const MEMORY: &str = ".memory";

#[cfg(test)]
mod tests {
    use super::*;
    use crate::lab::tests::lab;

    fn name(text: &str) -> SnapshotName {
        text.parse().unwrap()
    }

    fn manifest(lab: &Lab) -> Manifest {
        Manifest {
            format: FORMAT,
            name: name("base"),
            uuid: lab.uuid,
            made_at_ms: 7,
            version: "1.2.3".to_owned(),
            spec: lab.spec.clone(),
            host_cpu: None,
            nodes: vec![
                SavedNode { index: 1, power: Power::On, bytes: 5 },
                SavedNode { index: 2, power: Power::Off, bytes: 0 },
                SavedNode { index: 3, power: Power::Paused, bytes: 4 },
            ],
        }
    }

    #[test]
    fn files_of_snapshots_are_known_by_their_names_and_nothing_else_is() {
        let base = name("base-1");
        assert_eq!(base.manifest_file(), "snapshot.base-1.json");
        assert_eq!(base.memory_file(12), "snapshot.base-1.12.memory");
        for file in [SnapshotFile::Manifest(base.clone()), SnapshotFile::Memory(base.clone(), 12)] {
            let text = match &file {
                SnapshotFile::Manifest(name) => name.manifest_file(),
                SnapshotFile::Memory(name, index) => name.memory_file(*index),
            };
            assert_eq!(SnapshotFile::of(&text), Some(file.clone()));
            assert_eq!(file.snapshot(), &base);
        }
        for other in [
            "boot.ipxe",
            "demo-1.console.log",
            "snapshot-1.qcow2",
            "snapshot.json",
            "snapshot..json",
            "snapshot.A.json",
            "snapshot.a.b.json",
            "snapshot.a.memory",
            "snapshot.a.x.memory",
            "snapshot.a.1.memory.old",
        ] {
            assert_eq!(SnapshotFile::of(other), None, "{other}");
        }
    }

    #[test]
    fn a_snapshot_without_a_name_gets_the_next_number() {
        let there = ["base", "2", "10", "x9"].map(name);
        assert_eq!(SnapshotName::next(there.iter()), name("11"));
        assert_eq!(SnapshotName::next([].iter()), name("1"));
    }

    #[test]
    fn a_manifest_is_read_whole_or_is_none() {
        let manifest = manifest(&lab(3));
        let text = manifest.to_json().unwrap();
        assert_eq!(Manifest::read(&text).unwrap(), Some(manifest.clone()));
        assert_eq!(manifest.bytes(), 9);
        assert_eq!(manifest.saved().map(|node| node.index).collect::<Vec<_>>(), [1, 3]);
        for part in [&text[..text.len() - 1], &[0; 20], b""] {
            assert_eq!(Manifest::read(part).unwrap(), None);
        }
        let later = Manifest { format: 9, version: "9.0.0".to_owned(), ..manifest };
        assert_eq!(
            Manifest::read(&later.to_json().unwrap()).unwrap_err().to_string(),
            "it has format 9, written by virtlab 9.0.0; this one reads formats up to 1"
        );
    }

    #[test]
    fn a_lab_that_has_become_another_one_is_refused_with_what_changed() {
        let before = lab(3);
        let manifest = manifest(&before);
        manifest.require_same(&before.with_autostart(true)).unwrap();
        let refused = |lab: &Lab| manifest.require_same(lab).unwrap_err().to_string();
        assert_eq!(
            refused(&before.with_nodes(4).unwrap()),
            "snapshot `base` is of 3 nodes, and lab `demo` has 4"
        );
        let mut larger = before.clone();
        larger.spec.memory = 2048.try_into().unwrap();
        larger.spec.description = Some("x".to_owned());
        assert_eq!(
            refused(&larger),
            "lab `demo` is not what it was when snapshot `base` was made: memory, description changed"
        );
        assert_eq!(
            refused(&Lab { uuid: Uuid::nil(), ..before }),
            "snapshot `base` is of another lab that was called `demo`"
        );
    }
}
