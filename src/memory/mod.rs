//! How much memory a lab takes, what KSM saves of it, and how that grows with the nodes.
//!
//! A page that KSM merged still counts as resident in every process that uses it. So the sum of the
//! nodes' resident memory is what they would take *without* KSM, and what they do take is that sum
//! less what KSM saves.

mod bars;
mod chart;
mod csv;
mod curve;
mod curve_files;
mod growth;

use anyhow::bail;
use serde::Serialize;

use crate::ksm::process::ProcessMemory;
use crate::ksm::{KsmStatus, Run};
use crate::output::Table;
use crate::units::human_bytes;

pub use bars::bars;
pub use chart::Chart;
pub use csv::CsvError;
pub use curve::{Analysis, Curve, Sample};
pub(crate) use curve_files::CurveFiles;
pub use growth::{End, Event, Growable, Growth, Measured};

/// The memory of one node. What cannot be known is `None`, and `missing` says why.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct NodeMemory {
    /// The node's name.
    pub node: String,
    /// All its pages in memory, merged or not.
    pub resident_bytes: Option<u64>,
    /// The same with each shared page counted in parts.
    pub proportional_bytes: Option<u64>,
    /// What KSM spares the node: of a page that `n` processes use all but `1/n`.
    pub saved_bytes: Option<u64>,
    /// Those of its pages that KSM made one with others.
    pub merged_bytes: Option<u64>,
    /// Why numbers are missing.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub missing: Vec<String>,
    /// It does not run, so it takes none.
    #[serde(skip)]
    pub takes_none: bool,
}

impl NodeMemory {
    /// What the node's process takes.
    pub fn of(node: &str, memory: ProcessMemory) -> Self {
        let ProcessMemory {
            resident_bytes,
            proportional_bytes,
            shared_away_bytes: saved_bytes,
            merged_bytes,
            missing,
        } = memory;
        let node = node.to_owned();
        let takes_none = false;
        Self {
            node,
            resident_bytes,
            proportional_bytes,
            saved_bytes,
            merged_bytes,
            missing,
            takes_none,
        }
    }

    /// A node that takes no memory, and why: it is off, or not there.
    pub fn none(node: &str, reason: &str) -> Self {
        Self { takes_none: true, ..Self::unknown(node, reason) }
    }

    /// A node that runs without a process on this host that could be asked, and why.
    pub fn unknown(node: &str, reason: &str) -> Self {
        Self { node: node.to_owned(), missing: vec![reason.to_owned()], ..Self::default() }
    }

    /// The pages that are the node's alone, in bytes.
    pub fn unique_bytes(&self) -> Option<u64> {
        Some(self.resident_bytes?.saturating_sub(self.merged_bytes?))
    }
}

/// The memory of a lab: what `virtlab memory LAB` shows.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct LabMemory {
    /// The sum of the nodes' resident memory: what they would take without KSM.
    pub resident_bytes: Option<u64>,
    /// The sum of what KSM merged.
    pub merged_bytes: Option<u64>,
    /// The sum of what is not merged.
    pub unique_bytes: Option<u64>,
    /// The host's KSM, if the host has it and can be asked.
    pub ksm: Option<KsmStatus>,
    /// Node by node.
    pub nodes: Vec<NodeMemory>,
}

impl LabMemory {
    /// Sums up the nodes that take memory; a sum over one whose memory is not known is not known.
    pub fn new(nodes: Vec<NodeMemory>, ksm: Option<KsmStatus>) -> Self {
        let sum = |of: fn(&NodeMemory) -> Option<u64>| {
            nodes.iter().filter(|node| !node.takes_none).map(of).sum::<Option<u64>>()
        };
        Self {
            resident_bytes: sum(|node| node.resident_bytes),
            merged_bytes: sum(|node| node.merged_bytes),
            unique_bytes: sum(NodeMemory::unique_bytes),
            ksm,
            nodes,
        }
    }

    /// A row for each node and one for all of them.
    pub fn table(&self) -> Table {
        let mut table = Table::new(&["node", "resident", "merged", "unique"]);
        for node in &self.nodes {
            let numbers = [node.resident_bytes, node.merged_bytes, node.unique_bytes()];
            table.row(std::iter::once(node.node.clone()).chain(numbers.map(cell)));
        }
        let totals = [self.resident_bytes, self.merged_bytes, self.unique_bytes];
        table.row(std::iter::once("total".to_owned()).chain(totals.map(cell)));
        table
    }

    /// What stands below the table and in `status`: KSM's saving on this host, in one line.
    pub fn summary(&self) -> String {
        match &self.ksm {
            None => "KSM: not available".to_owned(),
            Some(ksm) => {
                let state = match ksm.run {
                    Some(run) => format!("{}, ", run.name()),
                    None => String::new(),
                };
                format!(
                    "KSM: {state}{} saved on this host, {} in use, {} full scans",
                    human_bytes(ksm.saved_bytes()),
                    human_bytes(ksm.in_use_bytes()),
                    ksm.full_scans
                )
            }
        }
    }

    /// What `status` has of it: a line, and one more while KSM is on.
    pub fn lines(&self) -> Vec<String> {
        let resident = cell(self.resident_bytes);
        let merged = match self.merged_bytes {
            Some(merged) if merged > 0 => format!(", {} of it merged", human_bytes(merged)),
            _ => String::new(),
        };
        let mut lines = vec![format!("memory: {resident} resident{merged}")];
        if self.ksm.as_ref().is_some_and(|ksm| ksm.run == Some(Run::Running)) {
            lines.push(self.summary());
        }
        lines
    }

    /// A point of the lab's curve: the nodes that run now.
    ///
    /// # Errors
    /// If none runs, or one's memory cannot be known.
    pub fn sample(&self) -> anyhow::Result<Sample> {
        if self.nodes.is_empty() {
            bail!("there is no running node to measure");
        }
        let saved = self.ksm.as_ref().map_or(0, KsmStatus::saved_bytes);
        growth::sample(&self.nodes, saved, self.ksm.as_ref().map(|ksm| ksm.full_scans))
    }

    /// Each reason for a missing number once, in the order of the nodes.
    pub fn missing(&self) -> Vec<&str> {
        let mut reasons: Vec<&str> = Vec::new();
        for reason in self.nodes.iter().flat_map(|node| &node.missing) {
            if !reasons.contains(&reason.as_str()) {
                reasons.push(reason);
            }
        }
        reasons
    }
}

/// An amount, or a dash where it is not known.
fn cell(bytes: Option<u64>) -> String {
    bytes.map_or_else(|| "-".to_owned(), human_bytes)
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    pub(crate) fn node(name: &str, resident_mib: u64, merged_mib: Option<u64>) -> NodeMemory {
        NodeMemory {
            node: name.to_owned(),
            resident_bytes: Some(resident_mib << 20),
            merged_bytes: merged_mib.map(|mib| mib << 20),
            ..NodeMemory::default()
        }
    }

    fn plain(table: &Table) -> String {
        anstream::adapter::strip_str(&table.to_string()).to_string()
    }

    #[test]
    fn the_table_has_a_row_a_node_and_the_totals() {
        let nodes = vec![node("lab-1", 384, Some(300)), node("lab-2", 1024, Some(512))];
        insta::assert_snapshot!(plain(&LabMemory::new(nodes, None).table()), @"
        NODE   RESIDENT  MERGED   UNIQUE
        lab-1  384 MiB   300 MiB  84.0 MiB
        lab-2  1.00 GiB  512 MiB  512 MiB
        total  1.38 GiB  812 MiB  596 MiB
        ");
    }

    #[test]
    fn what_is_not_known_is_a_dash_and_its_reason_is_given_once() {
        let reason = "`ksm_merging_pages` is readable to root only";
        let hidden =
            |name| NodeMemory { missing: vec![reason.to_owned()], ..node(name, 384, None) };
        let away = NodeMemory::unknown("lab-3", "elsewhere");
        let lab = LabMemory::new(vec![hidden("lab-1"), hidden("lab-2"), away], None);
        insta::assert_snapshot!(plain(&lab.table()), @"
        NODE   RESIDENT  MERGED  UNIQUE
        lab-1  384 MiB   -       -
        lab-2  384 MiB   -       -
        lab-3  -         -       -
        total  -         -       -
        ");
        assert_eq!(lab.missing(), [reason, "elsewhere"]);
        assert_eq!(lab.summary(), "KSM: not available");
    }

    #[test]
    fn a_node_that_is_off_does_not_hide_the_memory_of_the_others() {
        let off = NodeMemory::none("lab-2", "a node is off");
        let lab = LabMemory::new(vec![node("lab-1", 384, Some(300)), off], None);
        insta::assert_snapshot!(plain(&lab.table()), @"
        NODE   RESIDENT  MERGED   UNIQUE
        lab-1  384 MiB   300 MiB  84.0 MiB
        lab-2  -         -        -
        total  384 MiB   300 MiB  84.0 MiB
        ");
        assert_eq!(lab.lines(), ["memory: 384 MiB resident, 300 MiB of it merged"]);
    }

    #[test]
    fn the_summary_and_the_json_have_the_hosts_saving() {
        let tree = crate::ksm::tests::recorded_tree(&[]);
        let mut status = crate::ksm::Ksm::at(tree.path()).status().unwrap();
        status.run = Some(Run::Running);
        status.page_size_bytes = 4096;
        let mut stopped = status.clone();
        stopped.run = Some(Run::Stopped);
        let nodes = vec![node("lab-1", 384, Some(300))];
        assert_eq!(LabMemory::new(nodes.clone(), Some(stopped)).lines().len(), 1);
        let lab = LabMemory::new(nodes, Some(status));
        let expected = "KSM: running, 4.06 GiB saved on this host, 219 MiB in use, 37 full scans";
        assert_eq!(lab.summary(), expected);
        assert_eq!(lab.lines()[1], expected);
        let json = serde_json::to_value(&lab).unwrap();
        assert_eq!(json["nodes"][0]["merged_bytes"], 300 << 20);
        assert_eq!(json["unique_bytes"], 84 << 20);
        assert_eq!(json["ksm"]["saved_bytes"], 1_065_216 * 4096_u64);
    }
}
