//! Which labs and nodes a command line means. The name of a lab stands for all of its nodes.

use std::collections::BTreeMap;

use anyhow::Result;

use crate::error::{did_you_mean, hinted};
use crate::hypervisor::{Found, Inventory};
use crate::lab::{Lab, Node};

/// A lab, or some of its nodes.
#[derive(Debug)]
pub(crate) struct Target<'a> {
    /// What libvirt has of the lab.
    pub(crate) found: &'a Found,
    /// The nodes that are meant, in the order of their index, each once.
    pub(crate) nodes: Vec<Node>,
    /// Whether the lab was named, and not only nodes of it.
    pub(crate) is_whole: bool,
}

impl<'a> Target<'a> {
    /// The lab.
    pub(crate) fn lab(&self) -> &'a Lab {
        &self.found.lab
    }
}

/// What these names mean: one target for each lab, in the order in which the labs are named first.
///
/// # Errors
/// If a name is that of no lab and of no node; all such names are told.
pub(crate) fn targets<'a>(
    inventory: &'a Inventory,
    names: &[impl AsRef<str>],
) -> Result<Vec<Target<'a>>> {
    let mut targets: Vec<Target> = Vec::new();
    let mut unknown = Vec::new();
    for name in names.iter().map(AsRef::as_ref) {
        let Some(Meant { found, node }) = meant(inventory, name) else {
            unknown.push(name);
            continue;
        };
        let is_whole = node.is_none();
        let nodes = node.map_or_else(|| found.lab.nodes(), |node| vec![node]);
        match targets.iter_mut().find(|target| target.lab().uuid == found.lab.uuid) {
            Some(target) => target.add(nodes, is_whole),
            None => targets.push(Target { found, nodes, is_whole }),
        }
    }
    if unknown.is_empty() { Ok(targets) } else { Err(no_such(inventory, &unknown)) }
}

/// One node: the one of this name, or the first one of the lab of this name.
///
/// # Errors
/// If it is the name of no lab and of no node.
pub(crate) fn one_node<'a>(inventory: &'a Inventory, name: &str) -> Result<(&'a Found, Node)> {
    let Meant { found, node } =
        meant(inventory, name).ok_or_else(|| no_such(inventory, &[name]))?;
    Ok((found, node.unwrap_or_else(|| found.lab.node(1))))
}

/// The same as a target.
pub(crate) fn one_node_of<'a>(inventory: &'a Inventory, name: &str) -> Result<Target<'a>> {
    let (found, node) = one_node(inventory, name)?;
    Ok(Target { found, nodes: vec![node], is_whole: false })
}

/// The names of all labs and of all nodes.
pub(crate) fn names(inventory: &Inventory) -> Vec<String> {
    [lab_names(inventory), node_names(inventory)].concat()
}

/// The names of all labs.
pub(crate) fn lab_names(inventory: &Inventory) -> Vec<String> {
    inventory.labs.values().map(|found| found.lab.name.to_string()).collect()
}

/// The names of all nodes.
pub(crate) fn node_names(inventory: &Inventory) -> Vec<String> {
    let nodes = inventory.labs.values().flat_map(|found| found.lab.nodes());
    nodes.map(|node| node.name).collect()
}

impl Target<'_> {
    fn add(&mut self, nodes: Vec<Node>, is_whole: bool) {
        let mut all: BTreeMap<u32, Node> =
            self.nodes.drain(..).map(|node| (node.index, node)).collect();
        all.extend(nodes.into_iter().map(|node| (node.index, node)));
        self.nodes = all.into_values().collect();
        self.is_whole |= is_whole;
    }
}

/// A lab, or one node of it.
struct Meant<'a> {
    found: &'a Found,
    node: Option<Node>,
}

/// No lab is made whose name is that of a node; where one is there all the same, the node is meant.
fn meant<'a>(inventory: &'a Inventory, name: &str) -> Option<Meant<'a>> {
    let node = |found: &'a Found| {
        let node = found.lab.nodes().into_iter().find(|node| node.name == name)?;
        Some(Meant { found, node: Some(node) })
    };
    let lab = |found: &&Found| found.lab.name.as_str() == name;
    let mut labs = inventory.labs.values();
    labs.clone().find_map(node).or_else(|| labs.find(lab).map(|found| Meant { found, node: None }))
}

/// The lab of this name, unless a node has it.
pub(super) fn lab_of<'a>(inventory: &'a Inventory, name: &str) -> Option<&'a Found> {
    meant(inventory, name).filter(|meant| meant.node.is_none()).map(|meant| meant.found)
}

fn no_such(inventory: &Inventory, unknown: &[&str]) -> anyhow::Error {
    let known = names(inventory);
    let all: Vec<String> = unknown.iter().map(|name| format!("`{name}`")).collect();
    let message = format!("there is no node {}, and no lab", all.join(", no node "));
    let near = unknown.iter().find_map(|name| did_you_mean(name, known.iter().map(String::as_str)));
    let guess = near.map(|near| format!("did you mean `{near}`? ")).unwrap_or_default();
    let look = "`virtlab list` shows the labs, `virtlab status LAB` the nodes of one";
    hinted(message, format!("{guess}{look}"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::hint::hints;
    use crate::lab::LabName;
    use crate::lab::tests::lab;

    fn inventory() -> Inventory {
        let mut inventory = Inventory::default();
        for (name, nodes) in [("demo", 3), ("web", 2)] {
            let mut lab = lab(nodes);
            lab.name = name.parse::<LabName>().unwrap();
            lab.uuid = uuid::Uuid::new_v5(&lab.uuid, name.as_bytes());
            inventory.insert(lab);
        }
        inventory
    }

    fn meaning(names: &[&str]) -> String {
        let inventory = inventory();
        let line = |target: &Target| {
            let nodes: Vec<&str> = target.nodes.iter().map(|node| node.name.as_str()).collect();
            let whole = if target.is_whole { "lab " } else { "" };
            format!("{whole}{}: {}", target.lab().name, nodes.join(" "))
        };
        match targets(&inventory, names) {
            Ok(targets) => targets.iter().map(line).collect::<Vec<_>>().join("; "),
            Err(error) => format!("{error}\n{}", hints(&error).join("\n")),
        }
    }

    #[test]
    fn labs_and_nodes_are_named_together_and_each_node_is_meant_once() {
        for (names, expected) in [
            (&["demo"][..], "lab demo: demo-1 demo-2 demo-3"),
            (&["demo-2"], "demo: demo-2"),
            (
                &["web-2", "demo-3", "demo-1", "demo-3", "web-1"],
                "web: web-1 web-2; demo: demo-1 demo-3",
            ),
            (&["demo-2", "demo"], "lab demo: demo-1 demo-2 demo-3"),
            (&[], ""),
        ] {
            assert_eq!(meaning(names), expected, "{names:?}");
        }
    }

    #[test]
    fn every_name_that_nothing_has_is_told_and_the_nearest_that_something_has() {
        let look = "`virtlab list` shows the labs, `virtlab status LAB` the nodes of one";
        assert_eq!(
            meaning(&["demo-4", "web-1", "x"]),
            format!(
                "there is no node `demo-4`, no node `x`, and no lab\ndid you mean `demo-1`? {look}"
            )
        );
        assert_eq!(
            meaning(&["something"]),
            format!("there is no node `something`, and no lab\n{look}")
        );
    }

    #[test]
    fn one_node_is_that_of_the_name_or_the_first_of_the_lab() {
        let inventory = inventory();
        for (name, expected) in [("web-2", "web-2"), ("web", "web-1")] {
            assert_eq!(one_node(&inventory, name).unwrap().1.name, expected);
        }
        assert!(one_node(&inventory, "nothing").is_err());
    }
}
