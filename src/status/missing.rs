//! What a lab lacks to be ready, as values: what a node did last, and what it has not done yet.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::net::IpAddr;

use crate::boot_server::recorder::timeline::{NodeTimeline, Timeline};
use crate::boot_server::stage::Stage;
use crate::images::Readiness;
use crate::lab::boot::Transport;
use crate::lab::readiness::{LastSeen, ReadyWhen};
use crate::lab::{Lab, Node};
use crate::output::sanitize;

/// Why a lab is not ready.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Problem {
    /// The boot server does not answer.
    Silence {
        /// Where it should be.
        url: String,
    },
    /// A node is not ready.
    Node {
        /// Its index.
        node: u32,
        /// Its name.
        name: String,
        /// What it lacks.
        missing: Missing,
    },
    /// All nodes are ready by themselves, but their etcd is no healthy cluster.
    Cluster(String),
}

/// What a node lacks to be ready.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Missing {
    PowerOn,
    /// Nothing of a boot by TFTP is seen before the config.
    ConfigAfterTftp,
    Script,
    Kernel,
    Initrd,
    /// The rest of the image's files.
    Files,
    Config,
    /// The node has what it needs, but does not answer as it should.
    Answer(Done, Readiness),
}

/// What a node did last before it is its own turn.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Done {
    PoweredOn,
    Restored,
    GotAddress(IpAddr),
    FetchedFiles,
    FetchedConfig,
}

/// The nodes that are waited for.
#[derive(Clone, Debug)]
pub(crate) struct Awaited {
    /// Which.
    pub(crate) nodes: Vec<Node>,
    /// Those of them whose boot began at this time, in milliseconds since the epoch, or later: what is known of
    /// an earlier boot tells nothing.
    pub(crate) booted: BTreeSet<u32>,
    /// When.
    pub(crate) since_ms: u64,
}

impl Awaited {
    /// Nodes that may have booted at any time.
    pub(crate) fn whenever_booted(nodes: Vec<Node>) -> Self {
        Self { nodes, booted: BTreeSet::new(), since_ms: 0 }
    }

    /// Whether the node with this index is waited for.
    pub(crate) fn has(&self, index: u32) -> bool {
        self.nodes.iter().any(|node| node.index == index)
    }

    fn is_before_its_boot(&self, node: &NodeTimeline) -> bool {
        let begun = node.stages.get(&Stage::PowerOn);
        self.booted.contains(&node.index) && begun.is_none_or(|begun| begun.at_ms < self.since_ms)
    }
}

/// What the nodes that are waited for lack; nothing if they are ready.
pub(crate) fn of_nodes(lab: &Lab, awaited: &Awaited, known: &Timeline) -> Vec<Problem> {
    let of_node = |node: &NodeTimeline| {
        let missing = if awaited.is_before_its_boot(node) {
            Some(Missing::PowerOn)
        } else {
            of_node(lab, node)
        };
        Some(Problem::Node { node: node.index, name: node.name.clone(), missing: missing? })
    };
    let nodes = known.nodes.iter().filter(|node| awaited.has(node.index));
    nodes.filter_map(of_node).collect()
}

/// Why nodes that are waited for do not get their configs: for each reason a line with the nodes.
pub(crate) fn held(awaited: &Awaited, known: &Timeline) -> BTreeMap<String, String> {
    let mut reasons: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
    for node in known.nodes.iter().filter(|node| awaited.has(node.index)) {
        if let Some(reason) = &node.held {
            reasons.entry(reason).or_default().push(&node.name);
        }
    }
    let line = |(reason, names): (&str, Vec<&str>)| {
        let get = if names.len() == 1 { "gets" } else { "get" };
        let line = sanitize(&format!("{} {get} no config: {reason}", names.join(", ")));
        (reason.to_owned(), line)
    };
    reasons.into_iter().map(line).collect()
}

/// What the lab's cluster lacks as a whole, as far as the boot server knows.
pub(crate) fn of_cluster(lab: &Lab, known: &Timeline) -> Vec<Problem> {
    if lab.spec.ready != Readiness::Etcd {
        return Vec::new();
    }
    match &known.etcd {
        Some(etcd) if etcd.healthy => Vec::new(),
        Some(etcd) => etcd.problems.iter().cloned().map(Problem::Cluster).collect(),
        None => vec![Problem::Cluster("etcd was not asked yet".to_owned())],
    }
}

/// What a node lacks to be ready.
pub(crate) fn of_node(lab: &Lab, node: &NodeTimeline) -> Option<Missing> {
    let when = ReadyWhen::of(lab);
    let stage = node.stage();
    let answer = |done| Some(Missing::Answer(done, when.criterion.clone()));
    match (when.after, stage) {
        (_, Some(Stage::Ready)) => return None,
        (_, Some(Stage::PowerOn)) if node.restored => return answer(Done::Restored),
        (LastSeen::PowerOn, Some(Stage::PowerOn)) => return answer(Done::PoweredOn),
        (_, Some(Stage::Config)) => return answer(Done::FetchedConfig),
        _ => {}
    }
    let elsewhere = when.maybe_elsewhere && matches!(stage, None | Some(Stage::PowerOn));
    if let Some(ip) = node.ip.filter(|_| elsewhere) {
        return answer(Done::GotAddress(ip));
    }
    match stage {
        None => Some(Missing::PowerOn),
        Some(Stage::PowerOn) if lab.spec.boot.transport == Transport::Tftp => {
            Some(Missing::ConfigAfterTftp)
        }
        Some(Stage::PowerOn) => Some(Missing::Script),
        Some(Stage::Script) => Some(Missing::Kernel),
        Some(Stage::Kernel) => Some(Missing::Initrd),
        Some(_) if when.after == LastSeen::Config => Some(Missing::Config),
        Some(_) if when.criterion == Readiness::Config => Some(Missing::Files),
        Some(_) => answer(Done::FetchedFiles),
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Silence { url } => write!(f, "the boot server at {url} does not answer"),
            Self::Node { name, missing, .. } => write!(f, "{name}: {missing}"),
            Self::Cluster(problem) => f.write_str(problem),
        }
    }
}

impl fmt::Display for Missing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::PowerOn => "not powered on",
            Self::ConfigAfterTftp => {
                "no config was asked for yet; what goes by TFTP before it is not seen"
            }
            Self::Script => "no boot script was asked for yet",
            Self::Kernel => "boot script fetched, kernel not",
            Self::Initrd => "kernel fetched, initrd not",
            Self::Files => "kernel and initrd fetched, other files of the image not",
            Self::Config => "kernel and initrd fetched, config not",
            Self::Answer(done, Readiness::Config) => return done.fmt(f),
            Self::Answer(done, criterion) => {
                return write!(f, "{done}, {}", criterion.not_yet());
            }
        })
    }
}

impl fmt::Display for Done {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::PoweredOn => f.write_str("powered on"),
            Self::Restored => f.write_str("restored"),
            Self::GotAddress(ip) => write!(f, "has address {ip}"),
            Self::FetchedFiles => f.write_str("kernel and initrd fetched"),
            Self::FetchedConfig => f.write_str("config fetched"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::boot_server::recorder::event::{
        ClusterHealth, Event, Happening, NodeHeld, NodeIdentity, StageReached,
    };
    use crate::lab::Network;
    use crate::lab::spec::ConfigSource;
    use crate::lab::tests::lab;

    fn known(lab: &Lab, stages: &[Stage]) -> Timeline {
        let nodes: Vec<NodeIdentity> = lab.nodes().into_iter().map(NodeIdentity::from).collect();
        let mut known = Timeline::new(&nodes);
        for stage in stages {
            let what = Happening::Stage(StageReached::unasked(1, *stage));
            known.apply(&Event { id: 1, at_ms: 1, what });
        }
        known
    }

    fn said(lab: &Lab, known: &Timeline) -> Vec<String> {
        let awaited = Awaited::whenever_booted(lab.nodes());
        let mut problems = of_nodes(lab, &awaited, known);
        if problems.is_empty() {
            problems = of_cluster(lab, known);
        }
        problems.iter().map(ToString::to_string).collect()
    }

    #[test]
    fn nobody_waits_for_a_node_that_is_wanted_off_or_for_a_boot_that_is_over() {
        let lab = lab(2);
        let known = known(&lab, &Stage::ALL);
        let said = |awaited: &Awaited| -> Vec<String> {
            of_nodes(&lab, awaited, &known).iter().map(ToString::to_string).collect()
        };
        assert_eq!(said(&Awaited::whenever_booted(lab.nodes())), ["demo-2: not powered on"]);
        let mut first = Awaited::whenever_booted(vec![lab.node(1)]);
        assert_eq!(said(&first), Vec::<String>::new());
        // It was powered on at 1.
        (first.booted, first.since_ms) = (BTreeSet::from([1]), 1);
        assert_eq!(said(&first), Vec::<String>::new());
        first.since_ms = 2;
        assert_eq!(said(&first), ["demo-1: not powered on"]);
    }

    #[test]
    fn nodes_that_get_no_config_are_told_with_the_reason_until_they_get_it() {
        let lab = lab(2);
        let mut known = known(&lab, &[Stage::PowerOn, Stage::Script]);
        let awaited = Awaited::whenever_booted(lab.nodes());
        let mut hold = |node, what: Option<&str>| {
            let what = match what {
                Some(why) => Happening::Held(NodeHeld { node, held: why.to_owned() }),
                None => Happening::Stage(StageReached::unasked(node, Stage::Config)),
            };
            known.apply(&Event { id: 1, at_ms: 1, what });
            held(&awaited, &known).into_values().collect::<Vec<_>>()
        };
        assert_eq!(hold(2, Some("no majority")), ["demo-2 gets no config: no majority"]);
        assert_eq!(hold(1, Some("no majority")), ["demo-1, demo-2 get no config: no majority"]);
        assert_eq!(hold(2, None), ["demo-1 gets no config: no majority"]);
        assert_eq!(hold(1, None), Vec::<String>::new());
    }

    #[test]
    fn what_a_node_lacks_is_told_by_what_it_did_last() {
        let lab = lab(1);
        let mut reached = Vec::new();
        let mut told = said(&lab, &known(&lab, &reached));
        for stage in Stage::ALL {
            reached.push(stage);
            told.extend(said(&lab, &known(&lab, &reached)));
        }
        let name = &lab.node(1).name;
        let expected = [
            "not powered on",
            "no boot script was asked for yet",
            "boot script fetched, kernel not",
            "kernel fetched, initrd not",
            "kernel and initrd fetched, config not",
            "kernel and initrd fetched, config not",
            "config fetched, etcd is not healthy yet",
        ];
        let mut expected: Vec<String> =
            expected.iter().map(|text| format!("{name}: {text}")).collect();
        expected.push("etcd was not asked yet".to_owned());
        assert_eq!(told, expected);
    }

    #[test]
    fn a_lab_is_ready_when_its_etcd_is_one_healthy_cluster() {
        let lab = lab(1);
        let mut known = known(&lab, &Stage::ALL);
        let mut etcd = ClusterHealth {
            healthy: false,
            members: 1,
            leader: None,
            away: Vec::new(),
            problems: vec!["etcd has no leader that all nodes agree on".to_owned()],
        };
        known.etcd = Some(etcd.clone());
        assert_eq!(said(&lab, &known), ["etcd has no leader that all nodes agree on"]);
        etcd.healthy = true;
        known.etcd = Some(etcd);
        assert_eq!(said(&lab, &known), Vec::<String>::new());
    }

    #[test]
    fn an_image_without_a_config_needs_all_of_its_files() {
        let mut lab = lab(1);
        lab.spec.ready = Readiness::Config;
        lab.spec.config = ConfigSource::None;
        let boot = [Stage::PowerOn, Stage::Script, Stage::Kernel, Stage::Initrd];
        let missing = |stages: &[Stage]| of_node(&lab, &known(&lab, stages).nodes[0]);
        assert_eq!(missing(&boot[..3]), Some(Missing::Initrd));
        assert_eq!(missing(&boot), Some(Missing::Files));
        assert_eq!(missing(&Stage::ALL), None);
    }

    #[test]
    fn a_node_that_another_server_boots_is_asked_as_soon_as_it_has_an_address() {
        let mut lab = lab(1);
        lab.spec.network = Network::Bridge("br0".to_owned());
        let mut known = known(&lab, &[Stage::PowerOn]);
        assert_eq!(of_node(&lab, &known.nodes[0]), Some(Missing::Script));
        let ip = "10.0.0.9".parse().unwrap();
        known.nodes[0].ip = Some(ip);
        let expected = Missing::Answer(Done::GotAddress(ip), Readiness::Etcd);
        assert_eq!(of_node(&lab, &known.nodes[0]), Some(expected));
    }
}
