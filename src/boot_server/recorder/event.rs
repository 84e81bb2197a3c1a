//! What can happen to a lab, as the journal keeps it and `/events` tells it.

use std::net::IpAddr;

use serde::{Deserialize, Serialize};

use crate::boot_server::stage::Stage;
use crate::cluster::etcd::{AwayNode, away};
use crate::lab::metadata::Power;
use crate::lab::plan::DomainState;
use crate::lab::{MacAddr, Node};

/// Something that happened, with its place among all that did.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Event {
    /// Larger than that of every earlier event of the lab, also after a restart of the server.
    /// 0 in journals of virtlab 0.1, which numbered nothing.
    #[serde(default)]
    pub id: u64,
    /// When, in milliseconds since the epoch.
    pub at_ms: u64,
    /// What.
    #[serde(flatten)]
    pub what: Happening,
}

/// What happened. Each has fields of its own, by which it is known in JSON.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum Happening {
    /// A node got further.
    Stage(StageReached),
    /// A node's domain was started, paused, resumed or stopped.
    Power(PowerChanged),
    /// Another power is wanted of a node: somebody starts, stops or pauses it.
    Wanted(WantedChanged),
    /// A node does not get its config for now.
    Held(NodeHeld),
    /// Somebody else's DHCP server gave a node an address.
    Address(AddressFound),
    /// The etcd cluster became healthy, ceased to be, or has another leader.
    Etcd(EtcdChanged),
    /// The lab has other nodes now.
    Nodes(NodesChanged),
}

/// A node got further.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct StageReached {
    /// The node's index.
    pub node: u32,
    /// What it reached.
    pub stage: Stage,
    /// The file of the image that it now has, if it is by one that it reached the stage.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub file: Option<String>,
    /// Who asked, if somebody asked for something.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub from: Option<IpAddr>,
    /// How long what it got is: the whole file, even if it was sent in parts.
    #[serde(default)]
    pub bytes: u64,
}

/// The state of a node's domain changed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PowerChanged {
    /// The node's index.
    pub node: u32,
    /// What its domain is now.
    pub power: DomainState,
    /// It begins to boot with this, and has lost what it had reached.
    #[serde(default)]
    pub new_boot: bool,
    /// It does not boot, but goes on where it was when its memory was saved. What it had reached then is not known.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub restored: bool,
}

/// Another power is wanted of a node.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct WantedChanged {
    /// The node's index.
    pub node: u32,
    /// The power that is wanted of it.
    pub wanted: Power,
}

/// A node asked for its config and is to ask again.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct NodeHeld {
    /// The node's index.
    pub node: u32,
    /// Why it does not get it.
    pub held: String,
}

/// Where a node is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct AddressFound {
    /// The node's index.
    pub node: u32,
    /// Its address.
    pub ip: IpAddr,
}

/// The etcd cluster changed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct EtcdChanged {
    /// How it is now.
    pub etcd: ClusterHealth,
}

/// How an etcd cluster is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ClusterHealth {
    /// Every node is a member, all agree on a leader, and what is written on one is read on the others.
    pub healthy: bool,
    /// How many members it has.
    pub members: usize,
    /// The node that leads, if all agree on one.
    pub leader: Option<String>,
    /// The nodes that are not to answer, since somebody stopped or paused them.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub away: Vec<AwayNode>,
    /// What is missing.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub problems: Vec<String>,
}

/// The lab has these nodes now.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct NodesChanged {
    /// All of them, in the order of their index.
    pub nodes: Vec<NodeIdentity>,
}

/// Which node it is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct NodeIdentity {
    /// 1 for the first node.
    pub index: u32,
    /// Its name.
    pub name: String,
    /// Its MAC address.
    pub mac: MacAddr,
    /// The address that is reserved for it.
    pub ip: Option<IpAddr>,
}

impl From<Node> for NodeIdentity {
    fn from(node: Node) -> Self {
        Self { index: node.index, name: node.name, mac: node.mac, ip: node.ip.map(Into::into) }
    }
}

impl ClusterHealth {
    /// It in one line.
    pub(crate) fn summary(&self) -> String {
        match (&self.leader, self.healthy) {
            (Some(leader), true) => {
                format!("etcd: healthy, {}", away::summary(self.members, leader, &self.away))
            }
            _ => format!("etcd: not healthy: {}", self.problems.join("; ")),
        }
    }
}

#[cfg(test)]
impl PowerChanged {
    /// That the domain of a node is like this now, with no new boot.
    pub(crate) fn to(node: u32, power: DomainState) -> Self {
        Self { node, power, new_boot: false, restored: false }
    }
}

impl StageReached {
    /// A stage that is reached by no request to the boot server.
    pub fn unasked(node: u32, stage: Stage) -> Self {
        Self { node, stage, file: None, from: None, bytes: 0 }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_event_is_read_as_it_was_written() {
        let whats = [
            Happening::Stage(StageReached {
                file: Some("initrd".to_owned()),
                from: Some("10.0.0.2".parse().unwrap()),
                bytes: 5,
                ..StageReached::unasked(1, Stage::Initrd)
            }),
            Happening::Stage(StageReached::unasked(2, Stage::PowerOn)),
            Happening::Power(PowerChanged {
                new_boot: true,
                ..PowerChanged::to(1, DomainState::Paused)
            }),
            Happening::Power(PowerChanged {
                restored: true,
                ..PowerChanged::to(2, DomainState::Paused)
            }),
            Happening::Wanted(WantedChanged { node: 1, wanted: Power::Off }),
            Happening::Held(NodeHeld { node: 1, held: "no majority".to_owned() }),
            Happening::Address(AddressFound { node: 3, ip: "10.0.0.9".parse().unwrap() }),
            Happening::Etcd(EtcdChanged {
                etcd: ClusterHealth {
                    healthy: false,
                    members: 2,
                    leader: None,
                    away: Vec::new(),
                    problems: vec!["x".to_owned()],
                },
            }),
            Happening::Nodes(NodesChanged {
                nodes: vec![NodeIdentity {
                    index: 1,
                    name: "demo-1".to_owned(),
                    mac: "52:54:00:12:34:01".parse().unwrap(),
                    ip: None,
                }],
            }),
        ];
        let lines = [
            r#"{"id":7,"at_ms":9,"node":1,"stage":"initrd","file":"initrd","from":"10.0.0.2","bytes":5}"#,
            r#"{"id":7,"at_ms":9,"node":2,"stage":"power-on","bytes":0}"#,
            r#"{"id":7,"at_ms":9,"node":1,"power":"paused","new_boot":true}"#,
            r#"{"id":7,"at_ms":9,"node":2,"power":"paused","new_boot":false,"restored":true}"#,
            r#"{"id":7,"at_ms":9,"node":1,"wanted":"off"}"#,
            r#"{"id":7,"at_ms":9,"node":1,"held":"no majority"}"#,
            r#"{"id":7,"at_ms":9,"node":3,"ip":"10.0.0.9"}"#,
            r#"{"id":7,"at_ms":9,"etcd":{"healthy":false,"members":2,"leader":null,"problems":["x"]}}"#,
            r#"{"id":7,"at_ms":9,"nodes":[{"index":1,"name":"demo-1","mac":"52:54:00:12:34:01","ip":null}]}"#,
        ];
        for (what, line) in whats.into_iter().zip(lines) {
            let event = Event { id: 7, at_ms: 9, what };
            assert_eq!(serde_json::to_string(&event).unwrap(), line);
            assert_eq!(serde_json::from_str::<Event>(line).unwrap(), event);
        }
    }

    #[test]
    fn an_event_of_virtlab_0_1_is_read() {
        let line = r#"{"node":1,"stage":"initrd","at_ms":4000,"from":"10.0.0.2","bytes":5}"#;
        let read: Event = serde_json::from_str(line).unwrap();
        let what = StageReached {
            from: Some("10.0.0.2".parse().unwrap()),
            bytes: 5,
            ..StageReached::unasked(1, Stage::Initrd)
        };
        assert_eq!(read, Event { id: 0, at_ms: 4000, what: Happening::Stage(what) });
    }
}
