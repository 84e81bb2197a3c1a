//! What clients did and saw, in milliseconds since they began.

use std::collections::{BTreeMap, BTreeSet};

use serde::Serialize;

use crate::cluster::etcd::ledger::{Leader, Outcome};

/// All that was recorded.
#[derive(Clone, Debug, Default, Serialize)]
pub struct History {
    /// When it began, in milliseconds since the epoch. All other times are since then.
    pub began_ms: u64,
    /// When the last client ended.
    pub end_ms: u64,
    /// What was asked of the nodes, where that was not their etcd.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub probe: Option<String>,
    /// The nodes that were asked.
    pub nodes: Vec<String>,
    /// Writes and reads, in the order in which they ended.
    pub operations: Vec<Operation>,
    /// What the nodes took for their leader, each time when that changed.
    pub sightings: Vec<Sighting>,
    /// The node of each member that ever was there, by the member's id.
    pub members: BTreeMap<String, String>,
    /// What was there in the end.
    #[serde(skip)]
    pub rereads: Vec<Reread>,
}

/// Whether a client writes or reads.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    /// It writes a number that nobody has written before.
    Write,
    /// It reads the register, linearizably.
    Read,
    /// It asks whether the node answers, as a probe is.
    Probe,
}

/// One request of a client.
#[derive(Clone, Debug, Serialize)]
pub struct Operation {
    /// What was asked.
    pub kind: Kind,
    /// Who was asked.
    pub node: String,
    /// When it was sent.
    pub start_ms: u64,
    /// When it was answered, or given up.
    pub end_ms: u64,
    /// The number that was written.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub number: Option<u64>,
    /// What came of it.
    #[serde(flatten)]
    pub outcome: Outcome,
}

impl Operation {
    /// The register's revision by it, if it was acknowledged.
    pub(super) fn revision(&self) -> Option<u64> {
        match self.outcome {
            Outcome::Acknowledged { revision } => Some(revision),
            Outcome::Failed | Outcome::Unknown => None,
        }
    }
}

/// What a node took for its leader from a moment on.
#[derive(Clone, Debug, Serialize)]
pub struct Sighting {
    /// When it was asked.
    pub at_ms: u64,
    /// The node.
    pub node: String,
    /// Nothing if it did not answer or had none.
    pub leader: Option<Leader>,
}

/// The numbers that a node had in the end, when all was over.
#[derive(Clone, Debug)]
pub struct Reread {
    /// The node.
    pub node: String,
    /// Why it could not be read.
    pub numbers: Result<BTreeSet<u64>, String>,
}

/// From when to when.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Span {
    /// Its begin.
    pub from_ms: u64,
    /// Its end.
    pub to_ms: u64,
}

impl Span {
    /// How long it is.
    pub fn length_ms(self) -> u64 {
        self.to_ms.saturating_sub(self.from_ms)
    }
}
