//! What the page shows beside what the boot server knows by itself. Who looks for it is above the boot server.

use std::net::IpAddr;

use anyhow::Result;
use serde::{Deserialize, Serialize};

use crate::boot_server::recorder::timeline::Timeline;

/// Looks at a lab for its page. Each call may take seconds.
pub trait Insight: Send + Sync {
    /// How the lab is now, where the boot server knows so much.
    fn look(&self, known: &Timeline) -> Look;

    /// What a node wrote to its console after line `after`, and if `after` is `None` the last lines.
    ///
    /// # Errors
    /// If it cannot be read.
    fn console(&self, node: u32, after: Option<u64>) -> Result<ConsolePart>;

    /// The labs of this user whose boot servers run.
    fn labs(&self) -> Vec<OtherLab>;
}

/// How a lab is at some time.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Look {
    /// When, in milliseconds since the epoch.
    pub at_ms: u64,
    /// Each node.
    pub nodes: Vec<NodeNow>,
    /// Its etcd, if it has one and somebody answers.
    pub etcd: Option<EtcdNow>,
    /// What its nodes take.
    pub memory: Option<MemoryNow>,
    /// What is wrong.
    pub wrong: Vec<Wrong>,
    /// When the newest picture of a verdict was drawn, in milliseconds since the epoch. The page itself finds it.
    pub verdict_ms: Option<u64>,
}

/// How a node is now.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct NodeNow {
    /// Its index.
    pub index: u32,
    /// As `virtlab status` has it, or `cut off`.
    pub state: String,
    /// Whether it is ready at this moment.
    pub ready: bool,
    /// Its address, however it was found.
    pub ip: Option<IpAddr>,
    /// What its process has in memory, in bytes.
    pub resident_bytes: Option<u64>,
}

/// How an etcd cluster is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct EtcdNow {
    /// Whether everything is as it should be.
    pub healthy: bool,
    /// The members, and the nodes that are none.
    pub members: Vec<EtcdMember>,
}

/// A member of an etcd cluster, or a node that is none.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct EtcdMember {
    /// The node, or what the member calls itself.
    pub name: String,
    /// It is to be no member, but to pass on to the members what it is asked.
    pub client: bool,
    /// The member's id.
    pub id: Option<String>,
    /// Whether all call it their leader.
    pub leader: bool,
    /// Whether it says that it is healthy.
    pub healthy: bool,
    /// Why not.
    pub problem: Option<String>,
}

/// What a lab takes of its host's memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct MemoryNow {
    /// When, in milliseconds since the epoch.
    pub at_ms: u64,
    /// What all nodes have in memory, merged or not.
    pub resident_bytes: Option<u64>,
    /// How much of it is merged.
    pub merged_bytes: Option<u64>,
    /// What KSM saves on this host.
    pub saved_bytes: Option<u64>,
    /// Whether KSM merges now.
    pub ksm_runs: Option<bool>,
}

/// Something that is not as it should be.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Wrong {
    /// What.
    pub text: String,
    /// What to type.
    pub command: Option<String>,
}

/// Lines of a console.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct ConsolePart {
    /// The number of the line before the first one of these; more than was asked for if some are not kept any more.
    pub after: u64,
    /// The lines, as plain text.
    pub lines: Vec<String>,
    /// What has not come to its end yet.
    pub rest: String,
}

/// A lab that can be looked at.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct OtherLab {
    /// Its name.
    pub name: String,
    /// The URL that opens its page.
    pub url: Option<String>,
    /// How many of its nodes are ready.
    pub ready: usize,
    /// How many it has.
    pub nodes: usize,
    /// Whether it is the one that was asked.
    pub own: bool,
}
