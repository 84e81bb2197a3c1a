//! The states of nodes, as the power verbs and `wait` print them.

use anyhow::Result;
use serde::Serialize;

use crate::hypervisor::Found;
use crate::lab::fault::FaultName;
use crate::lab::metadata::Power;
use crate::lab::plan::DomainState;
use crate::output::{Printer, Table};
use crate::status::{power_word, serialize_domain};

/// The state of a node.
#[derive(Serialize)]
pub(super) struct NodeState {
    name: String,
    lab: String,
    #[serde(serialize_with = "serialize_domain")]
    domain: Option<DomainState>,
    wanted: Power,
    #[serde(skip)]
    is_killed: bool,
    /// Whether it is ready, if that was waited for.
    #[serde(skip_serializing_if = "Option::is_none")]
    ready: Option<bool>,
}

/// What `-o json` prints, see docs/power.md.
#[derive(Serialize)]
struct Document {
    schema_version: u32,
    nodes: Vec<NodeState>,
}

impl NodeState {
    pub(super) fn of(found: &Found, index: u32, ready: Option<bool>) -> Self {
        let lab = &found.lab;
        Self {
            name: lab.name.node(index),
            lab: lab.name.to_string(),
            domain: found.domains.get(&index).copied(),
            wanted: found.wanted(index),
            is_killed: found.desired(index).is_killed(),
            ready,
        }
    }

    fn word(&self) -> &'static str {
        match self.ready {
            Some(true) => "ready",
            _ if self.is_killed && self.domain == Some(DomainState::Off) => FaultName::Kill.state(),
            _ => power_word(self.domain, self.wanted),
        }
    }
}

/// Prints them in the format that was asked for.
pub(super) fn print(printer: &Printer, nodes: Vec<NodeState>) -> Result<()> {
    let mut table = Table::new(&["node", "state"]);
    for node in &nodes {
        table.row([node.name.clone(), node.word().to_owned()]);
    }
    let names: Vec<String> = nodes.iter().map(|node| node.name.clone()).collect();
    let document = Document { schema_version: SCHEMA_VERSION, nodes };
    printer.listing(&document, &names, &table)
}

const SCHEMA_VERSION: u32 = 1;
