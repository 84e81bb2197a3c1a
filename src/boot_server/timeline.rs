//! What is known of each node's boot. Pure: events in, stages out.

use std::collections::BTreeMap;
use std::net::IpAddr;

use serde::{Deserialize, Serialize};

use super::content::ServedNode;
use crate::lab::MacAddr;

/// The stages of a boot in the order in which they come.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Stage {
    /// The domain was let run.
    PowerOn,
    /// Its iPXE asked for its script.
    Script,
    /// The kernel was fetched.
    Kernel,
    /// The initial RAM disks were fetched.
    Initrd,
    /// What the initrd fetches beyond that: a root file system.
    Rootfs,
    /// The config was fetched.
    Config,
    /// The image's own criterion of being ready was met.
    Ready,
}

impl Stage {
    /// All stages in order.
    pub const ALL: [Self; 7] = [
        Self::PowerOn,
        Self::Script,
        Self::Kernel,
        Self::Initrd,
        Self::Rootfs,
        Self::Config,
        Self::Ready,
    ];

    /// The word for tables and URLs.
    pub fn name(self) -> &'static str {
        match self {
            Self::PowerOn => "power-on",
            Self::Script => "script",
            Self::Kernel => "kernel",
            Self::Initrd => "initrd",
            Self::Rootfs => "rootfs",
            Self::Config => "config",
            Self::Ready => "ready",
        }
    }
}

/// Something that a node did, or that was done with it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Event {
    /// The node's index.
    pub node: u32,
    /// What it reached.
    pub stage: Stage,
    /// The file of the image that it now has, if it is by one that it reached the stage.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub file: Option<String>,
    /// When, in milliseconds since the epoch.
    pub at_ms: u64,
    /// Who asked.
    pub from: IpAddr,
    /// How long what it got is: the whole file, even if it was sent in parts.
    pub bytes: u64,
}

/// The timelines of all nodes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Timeline {
    /// One for each node, in the order of their index.
    pub nodes: Vec<NodeTimeline>,
}

/// How far the current boot of a node is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct NodeTimeline {
    /// 1 for the first node.
    pub index: u32,
    /// Its name.
    pub name: String,
    /// Its MAC address.
    pub mac: MacAddr,
    /// The address it was seen with, or has reserved.
    pub ip: Option<IpAddr>,
    /// The stages that it reached.
    pub stages: BTreeMap<Stage, Reached>,
    /// How much it has of each file that belongs to a stage.
    #[serde(skip)]
    files: BTreeMap<Stage, BTreeMap<String, u64>>,
}

/// When and how a stage was reached.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Reached {
    /// Milliseconds since the epoch.
    pub at_ms: u64,
    /// How long what was got for it is, in bytes: the files of a stage together, each of them once.
    pub bytes: u64,
}

impl Timeline {
    /// A timeline in which nothing happened yet.
    pub fn new(nodes: &[ServedNode]) -> Self {
        let start = |node: &ServedNode| NodeTimeline {
            index: node.index,
            name: node.name.clone(),
            mac: node.mac,
            ip: node.ip,
            stages: BTreeMap::new(),
            files: BTreeMap::new(),
        };
        Self { nodes: nodes.iter().map(start).collect() }
    }

    /// Takes an event in. A power-on or a script begins a new boot: what came later in the last
    /// one is forgotten.
    pub fn apply(&mut self, event: &Event) {
        let Some(node) = self.nodes.iter_mut().find(|node| node.index == event.node) else {
            return;
        };
        if matches!(event.stage, Stage::PowerOn | Stage::Script) {
            node.stages.retain(|stage, _| *stage < event.stage);
            node.files.clear();
        }
        if !matches!(event.stage, Stage::PowerOn | Stage::Ready) {
            node.ip = Some(event.from);
        }
        let mut bytes = event.bytes;
        if let Some(file) = &event.file {
            let files = node.files.entry(event.stage).or_default();
            let most = files.entry(file.clone()).or_default();
            *most = bytes.max(*most);
            bytes = files.values().sum();
        }
        node.stages.insert(event.stage, Reached { at_ms: event.at_ms, bytes });
    }
}

impl NodeTimeline {
    /// The furthest stage that was reached.
    pub fn stage(&self) -> Option<Stage> {
        self.stages.keys().next_back().copied()
    }

    /// Seconds from power-on (or, if that was not seen, from the script) to `stage`.
    pub fn seconds_to(&self, stage: Stage) -> Option<f64> {
        let start = self.stages.get(&Stage::PowerOn).or_else(|| self.stages.get(&Stage::Script))?;
        let reached = self.stages.get(&stage)?;
        #[expect(clippy::cast_precision_loss, reason = "a boot takes less than 2^52 ms")]
        Some(reached.at_ms.saturating_sub(start.at_ms) as f64 / 1000.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn timeline() -> Timeline {
        let node = |index| ServedNode {
            index,
            name: format!("demo-{index}"),
            mac: "52:54:00:12:34:01".parse().unwrap(),
            ip: None,
            script: String::new(),
            config: String::new(),
        };
        Timeline::new(&[node(1), node(2)])
    }

    fn event(stage: Stage, at_ms: u64, bytes: u64) -> Event {
        Event { node: 1, stage, file: None, at_ms, from: "10.0.0.2".parse().unwrap(), bytes }
    }

    fn got(file: &str, at_ms: u64, bytes: u64) -> Event {
        Event { file: Some(file.to_owned()), ..event(Stage::Initrd, at_ms, bytes) }
    }

    #[test]
    fn stages_are_reached_one_after_the_other() {
        let mut timeline = timeline();
        timeline.apply(&event(Stage::PowerOn, 1000, 0));
        assert_eq!(timeline.nodes[0].ip, None);
        timeline.apply(&event(Stage::Script, 3500, 10));
        timeline.apply(&event(Stage::Initrd, 5000, 12));
        let node = &timeline.nodes[0];
        assert_eq!(node.stage(), Some(Stage::Initrd));
        assert_eq!(node.ip, Some("10.0.0.2".parse().unwrap()));
        assert_eq!(node.stages[&Stage::Initrd], Reached { at_ms: 5000, bytes: 12 });
        assert_eq!(node.seconds_to(Stage::Script), Some(2.5));
        assert_eq!(node.seconds_to(Stage::Config), None);
        assert_eq!(timeline.nodes[1].stage(), None);
    }

    #[test]
    fn the_files_of_a_stage_count_together_and_each_of_them_once() {
        let mut timeline = timeline();
        timeline.apply(&got("initrd", 4000, 5));
        timeline.apply(&got("modules", 5000, 7));
        timeline.apply(&got("initrd", 6000, 5));
        let expected = Reached { at_ms: 6000, bytes: 12 };
        assert_eq!(timeline.nodes[0].stages[&Stage::Initrd], expected);
        timeline.apply(&event(Stage::Script, 7000, 1));
        timeline.apply(&got("initrd", 8000, 6));
        let expected = Reached { at_ms: 8000, bytes: 6 };
        assert_eq!(timeline.nodes[0].stages[&Stage::Initrd], expected);
    }

    #[test]
    fn a_journal_of_before_there_were_file_names_is_read() {
        let line = r#"{"node":1,"stage":"initrd","at_ms":4000,"from":"10.0.0.2","bytes":5}"#;
        let read: Event = serde_json::from_str(line).unwrap();
        assert_eq!(read, event(Stage::Initrd, 4000, 5));
        assert_eq!(serde_json::to_string(&read).unwrap(), line);
    }

    #[test]
    fn a_new_boot_forgets_the_last_one() {
        let mut timeline = timeline();
        for stage in Stage::ALL {
            timeline.apply(&event(stage, 1000, 1));
        }
        timeline.apply(&event(Stage::Script, 9000, 1));
        let stages: Vec<Stage> = timeline.nodes[0].stages.keys().copied().collect();
        assert_eq!(stages, [Stage::PowerOn, Stage::Script]);
    }
}
