//! What is known of a lab: how far the current boot of each node is, and how its etcd is. Pure: events in, state out.

use std::collections::BTreeMap;
use std::net::IpAddr;

use serde::{Deserialize, Serialize};

use super::event::{ClusterHealth, Event, Happening, NodeIdentity, PowerChanged, StageReached};
use crate::boot_server::stage::Stage;
use crate::lab::MacAddr;
use crate::lab::metadata::Power;
use crate::lab::plan::{DomainChange, DomainState};

/// What is known of a lab.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Timeline {
    /// One for each node, in the order of their index.
    pub nodes: Vec<NodeTimeline>,
    /// How the etcd cluster is, if the lab has one that was looked at.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub etcd: Option<ClusterHealth>,
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
    /// What its domain is; `None` if libvirt did not say.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub power: Option<DomainState>,
    /// The power that is wanted of it.
    #[serde(default)]
    pub wanted: Power,
    /// It goes on where it was when its memory was saved; the stages of its boot before that are not known.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub restored: bool,
    /// Why it does not get its config, for which it asks again and again.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub held: Option<String>,
    /// The stages that it reached.
    pub stages: BTreeMap<Stage, Reached>,
    /// How much it has of each file that belongs to a stage, in bytes.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub files: BTreeMap<Stage, BTreeMap<String, u64>>,
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
    pub fn new(nodes: &[NodeIdentity]) -> Self {
        let mut timeline = Self::default();
        timeline.set_nodes(nodes);
        timeline
    }

    /// Goes on with these nodes: what is known of those that it had is kept.
    pub fn set_nodes(&mut self, nodes: &[NodeIdentity]) {
        let old = std::mem::take(&mut self.nodes);
        self.nodes = nodes
            .iter()
            .map(|node| match old.iter().find(|old| old.index == node.index) {
                Some(old) => old.renamed(node),
                None => NodeTimeline::new(node),
            })
            .collect();
    }

    /// Takes an event in.
    pub fn apply(&mut self, event: &Event) {
        match &event.what {
            Happening::Stage(reached) => {
                if let Some(node) = self.node_mut(reached.node) {
                    node.reach(reached, event.at_ms);
                }
            }
            Happening::Power(change) => {
                if let Some(node) = self.node_mut(change.node) {
                    node.change_power(change);
                }
            }
            Happening::Wanted(change) => {
                if let Some(node) = self.node_mut(change.node) {
                    node.wanted = change.wanted;
                }
            }
            Happening::Held(held) => {
                if let Some(node) = self.node_mut(held.node) {
                    node.held = Some(held.held.clone());
                }
            }
            Happening::Address(found) => {
                if let Some(node) = self.node_mut(found.node) {
                    node.ip = Some(found.ip);
                }
            }
            Happening::Etcd(change) => self.etcd = Some(change.etcd.clone()),
            Happening::Nodes(change) => self.set_nodes(&change.nodes),
        }
    }

    /// The node with this index.
    pub fn node(&self, index: u32) -> Option<&NodeTimeline> {
        self.nodes.iter().find(|node| node.index == index)
    }

    fn node_mut(&mut self, index: u32) -> Option<&mut NodeTimeline> {
        self.nodes.iter_mut().find(|node| node.index == index)
    }
}

impl NodeTimeline {
    fn new(node: &NodeIdentity) -> Self {
        Self {
            index: node.index,
            name: node.name.clone(),
            mac: node.mac,
            ip: node.ip,
            power: None,
            wanted: Power::On,
            restored: false,
            held: None,
            stages: BTreeMap::new(),
            files: BTreeMap::new(),
        }
    }

    fn renamed(&self, node: &NodeIdentity) -> Self {
        let ip = node.ip.or(self.ip);
        Self { name: node.name.clone(), mac: node.mac, ip, ..self.clone() }
    }

    /// A power-on or a script begins a new boot: what came later in the last one is forgotten.
    fn reach(&mut self, reached: &StageReached, at_ms: u64) {
        let StageReached { stage, file, from, bytes, .. } = reached;
        if matches!(stage, Stage::PowerOn | Stage::Script) {
            self.stages.retain(|kept, _| kept < stage);
            self.files.clear();
        }
        if *stage == Stage::Script {
            self.restored = false;
        }
        if matches!(stage, Stage::PowerOn | Stage::Script | Stage::Config | Stage::Ready) {
            self.held = None;
        }
        // virtlab 0.1 noted its own address where nobody had asked.
        if !matches!(stage, Stage::PowerOn | Stage::Ready) {
            self.ip = from.or(self.ip);
        }
        let mut bytes = *bytes;
        if let Some(file) = file {
            let files = self.files.entry(*stage).or_default();
            let most = files.entry(file.clone()).or_default();
            *most = bytes.max(*most);
            bytes = files.values().fold(0, |sum: u64, length| sum.saturating_add(*length));
        }
        self.stages.insert(*stage, Reached { at_ms, bytes });
    }

    fn change_power(&mut self, change: &PowerChanged) {
        self.power = Some(change.power);
        if change.new_boot || change.restored {
            self.stages.clear();
            self.files.clear();
            self.restored = change.restored;
            self.held = None;
        }
    }

    /// The furthest stage that was reached.
    pub fn stage(&self) -> Option<Stage> {
        self.stages.keys().next_back().copied()
    }

    /// Whether it reached this stage.
    pub fn has(&self, stage: Stage) -> bool {
        self.stages.contains_key(&stage)
    }

    /// Whether its firmware began to boot and has asked for nothing yet; one that was restored need not be in its firmware.
    pub(crate) fn is_in_firmware(&self) -> bool {
        self.stage() == Some(Stage::PowerOn) && !self.restored
    }

    /// Whether it was powered on a short while ago and has asked for nothing yet: its firmware or iPXE may wait for a key.
    pub(in crate::boot_server) fn may_wait_for_a_key(&self, now_ms: u64) -> bool {
        let powered_on = self.stages.get(&Stage::PowerOn).filter(|_| self.is_in_firmware());
        self.power == Some(DomainState::Running)
            && powered_on.is_some_and(|it| now_ms.saturating_sub(it.at_ms) < LONGEST_FIRMWARE_MS)
    }

    /// Seconds from power-on (or, if that was not seen, from the script) to `stage`.
    pub fn seconds_to(&self, stage: Stage) -> Option<f64> {
        let start = self.stages.get(&Stage::PowerOn).or_else(|| self.stages.get(&Stage::Script))?;
        let reached = self.stages.get(&stage)?;
        #[expect(clippy::cast_precision_loss, reason = "a boot takes less than 2^52 ms")]
        Some(reached.at_ms.saturating_sub(start.at_ms) as f64 / 1000.0)
    }

    /// `SeaBIOS` answers a reset by one more reset of its own.
    fn was_just_powered_on(&self, at_ms: u64) -> bool {
        let powered_on = self.stages.get(&Stage::PowerOn).filter(|_| self.is_in_firmware());
        powered_on.is_some_and(|reached| at_ms.saturating_sub(reached.at_ms) < ONE_RESET_MS)
    }

    /// What follows for this node from what libvirt says of its domain at this time. Nothing if that is known.
    pub(super) fn follow(&self, change: DomainChange, at_ms: u64) -> Vec<Happening> {
        let node = self.index;
        if change == DomainChange::Reset && self.was_just_powered_on(at_ms) {
            return Vec::new();
        }
        let was_off = self.power == Some(DomainState::Off);
        let restored = matches!(change, DomainChange::Restored(power) if power != DomainState::Off);
        let (power, new_boot) = match (change, self.power) {
            (DomainChange::Reset, _) => (DomainState::Running, true),
            (DomainChange::Is(power) | DomainChange::Started(power), _)
                if power == DomainState::Off =>
            {
                (power, false)
            }
            (DomainChange::Restored(power), _) => (power, false),
            (DomainChange::Started(power), None) => (power, true),
            // virtlab 0.1 noted stages and no power: the boot that it saw goes on.
            (DomainChange::Is(power), None) => (power, self.stages.is_empty()),
            // A look at the domains, right after connecting, may have been faster than the event.
            (DomainChange::Is(power) | DomainChange::Started(power), Some(_)) => (power, was_off),
        };
        let mut follows = Vec::new();
        if self.power != Some(power) || new_boot || restored {
            follows.push(Happening::Power(PowerChanged { node, power, new_boot, restored }));
        }
        // A node that was started paused begins to boot when it is let run.
        let has_begun = !new_boot && !restored && !self.stages.is_empty();
        if power == DomainState::Running && !has_begun {
            follows.push(Happening::Stage(StageReached::unasked(node, Stage::PowerOn)));
        }
        follows
    }
}

/// Firmware gets to iPXE's prompt in less than this, also where a busy host emulates it.
const LONGEST_FIRMWARE_MS: u64 = 30_000;
/// Resets within this time are one, unless the node has done something meanwhile.
const ONE_RESET_MS: u64 = 5000;

#[cfg(test)]
mod tests {
    use super::*;

    fn timeline() -> Timeline {
        let node = |index| NodeIdentity {
            index,
            name: format!("demo-{index}"),
            mac: "52:54:00:12:34:01".parse().unwrap(),
            ip: None,
        };
        Timeline::new(&[node(1), node(2)])
    }

    fn event(stage: Stage, at_ms: u64, bytes: u64) -> Event {
        let from = Some("10.0.0.2".parse().unwrap());
        let what = StageReached { node: 1, stage, file: None, from, bytes };
        Event { id: 0, at_ms, what: Happening::Stage(what) }
    }

    fn got(name: &str, at_ms: u64, bytes: u64) -> Event {
        let mut event = event(Stage::Initrd, at_ms, bytes);
        if let Happening::Stage(reached) = &mut event.what {
            reached.file = Some(name.to_owned());
        }
        event
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
    fn a_new_boot_forgets_the_last_one() {
        let mut timeline = timeline();
        for stage in Stage::ALL {
            timeline.apply(&event(stage, 1000, 1));
        }
        timeline.apply(&event(Stage::Script, 9000, 1));
        let stages: Vec<Stage> = timeline.nodes[0].stages.keys().copied().collect();
        assert_eq!(stages, [Stage::PowerOn, Stage::Script]);
    }

    #[test]
    fn a_key_is_waited_for_from_power_on_until_something_is_asked_for_or_it_takes_too_long() {
        let mut timeline = timeline();
        let power = |power| {
            let what = Happening::Power(PowerChanged::to(1, power));
            Event { id: 0, at_ms: 1000, what }
        };
        let waits = |timeline: &Timeline, now_ms| timeline.nodes[0].may_wait_for_a_key(now_ms);
        timeline.apply(&power(DomainState::Paused));
        assert!(!waits(&timeline, 1000));
        timeline.apply(&power(DomainState::Running));
        timeline.apply(&event(Stage::PowerOn, 1000, 0));
        assert!(waits(&timeline, 1000) && waits(&timeline, 30_999));
        assert!(!waits(&timeline, 31_000));
        timeline.apply(&power(DomainState::Paused));
        assert!(!waits(&timeline, 2000));
        timeline.apply(&power(DomainState::Running));
        timeline.apply(&event(Stage::Script, 3000, 10));
        assert!(!waits(&timeline, 3000));
        assert!(!timeline.nodes[1].may_wait_for_a_key(1000));
    }

    #[test]
    fn a_node_that_was_restored_gets_no_key_until_it_boots_anew() {
        let mut timeline = timeline();
        let mut waits = |what| {
            for what in timeline.nodes[0].follow(what, 1000) {
                timeline.apply(&Event { id: 0, at_ms: 1000, what });
            }
            let node = &timeline.nodes[0];
            (node.restored, node.may_wait_for_a_key(1000))
        };
        assert_eq!(waits(DomainChange::Is(DomainState::Off)), (false, false));
        assert_eq!(waits(DomainChange::Restored(DomainState::Paused)), (true, false));
        assert_eq!(waits(DomainChange::Is(DomainState::Running)), (true, false));
        assert_eq!(waits(DomainChange::Is(DomainState::Paused)), (true, false));
        assert_eq!(waits(DomainChange::Is(DomainState::Running)), (true, false));
        assert_eq!(waits(DomainChange::Reset), (false, true));
        waits(DomainChange::Restored(DomainState::Running));
        timeline.apply(&event(Stage::Script, 3000, 10));
        assert!(!timeline.nodes[0].restored, "it was saved before it had its script");
    }

    #[test]
    fn nodes_that_stay_keep_what_they_reached_and_new_ones_begin_with_nothing() {
        let mut timeline = timeline();
        timeline.apply(&event(Stage::Config, 1000, 1));
        let node = |index: u32| NodeIdentity {
            index,
            name: format!("demo-{index}"),
            mac: "52:54:00:12:34:01".parse().unwrap(),
            ip: None,
        };
        timeline.set_nodes(&[node(1), node(3)]);
        let stages: Vec<_> = timeline.nodes.iter().map(|node| (node.index, node.stage())).collect();
        assert_eq!(stages, [(1, Some(Stage::Config)), (3, None)]);
    }

    /// What is told of node 1 after each of these: `+` for one that says "started", `~` for "restored".
    fn follows(words: &str) -> Vec<String> {
        let mut timeline = timeline();
        let mut told = Vec::new();
        for word in words.split_whitespace() {
            let is = match word.trim_start_matches(['+', '~']) {
                "off" => DomainState::Off,
                "paused" => DomainState::Paused,
                "running" | "reset" => DomainState::Running,
                stage => {
                    let stage = Stage::ALL.into_iter().find(|it| it.name() == stage).unwrap();
                    timeline.apply(&event(stage, 1, 1));
                    continue;
                }
            };
            let change = match word {
                "reset" => DomainChange::Reset,
                _ if word.starts_with('+') => DomainChange::Started(is),
                _ if word.starts_with('~') => DomainChange::Restored(is),
                _ => DomainChange::Is(is),
            };
            for what in timeline.nodes[0].follow(change, 1) {
                told.push(match &what {
                    Happening::Stage(reached) => reached.stage.name().to_owned(),
                    Happening::Power(change) => {
                        let mark = match (change.new_boot, change.restored) {
                            (true, _) => "!",
                            (false, true) => "~",
                            (false, false) => "",
                        };
                        format!("{:?}{mark}", change.power)
                    }
                    other => panic!("{other:?}"),
                });
                timeline.apply(&Event { id: 0, at_ms: 1, what });
            }
        }
        told
    }

    #[test]
    fn what_libvirt_says_of_a_domain_becomes_power_and_power_on_each_once() {
        for (said, told) in [
            // Made by `create`: started paused, let run later.
            ("off +paused paused running", "Off Paused! Running power-on"),
            ("+running", "Running! power-on"),
            // Seen by a look at the domains before the event came.
            ("running +running", "Running! power-on"),
            // Paused and resumed while it runs: the same boot.
            ("+running script paused running", "Running! power-on Paused Running"),
            // Stopped and started, and reset.
            ("+running script off off +running", "Running! power-on Off Running! power-on"),
            ("+running script off running", "Running! power-on Off Running! power-on"),
            ("+running script reset", "Running! power-on Running! power-on"),
            // SeaBIOS resets once more.
            ("+running script reset reset", "Running! power-on Running! power-on"),
            // Its memory was restored, while it ran or was off; seen by a look before the event; and reset after that.
            (
                "+running script off ~paused paused running",
                "Running! power-on Off Paused~ Running power-on",
            ),
            ("off paused ~paused running running", "Off Paused! Paused~ Running power-on"),
            ("off ~running running reset", "Off Running~ power-on Running! power-on"),
            // A journal of virtlab 0.1 goes on; the boot that it knows of is not begun anew.
            ("power-on config running", "Running"),
            ("power-on config off +paused running", "Off Paused! Running power-on"),
        ] {
            assert_eq!(follows(said).join(" "), told, "{said}");
        }
    }
}
