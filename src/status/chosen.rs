//! Which nodes are meant where words may stand for them: `demo leader`, `demo-1,others`.

use anyhow::{Error, Result, anyhow, bail, ensure};

use super::leader::leader;
use super::targets::lab_of;
use crate::error::{did_you_mean, hinted};
use crate::hypervisor::{Found, Hypervisor, Inventory};
use crate::lab::Lab;
use crate::lab::node_set::NodeSet;
use crate::lab::node_word::{Electorate, Lot, NodeWord};

/// Nodes, and for each word the sentence that says which ones it meant.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Expanded<T> {
    pub(crate) nodes: T,
    pub(crate) meant: Vec<String>,
}

/// Names in which the words that follow a lab are replaced by the names of the nodes that they mean. Where one of several is
/// meant, `lot` draws it, or it is the first one.
///
/// # Errors
/// If a word means no node.
pub(crate) fn names(
    hypervisor: &Hypervisor,
    inventory: &Inventory,
    names: &[String],
    lot: Option<Lot>,
) -> Result<Expanded<Vec<String>>> {
    let mut expanded: Expanded<Vec<String>> = Expanded::default();
    for Phrase { name, words } in phrases(inventory, names)? {
        let Some(found) = lab_of(inventory, name).filter(|_| !words.is_empty()) else {
            expanded.nodes.push(name.to_owned());
            continue;
        };
        let among = electorate(&words, &found.lab, lot, || leader(hypervisor, found))?;
        let (set, meant) = together(&found.lab, &words, &among)?;
        expanded.nodes.extend(set.iter().map(|index| found.lab.name.node(index)));
        expanded.meant.extend(meant);
    }
    Ok(expanded)
}

/// A name, and the words that follow it if it is that of a lab.
#[derive(Debug, PartialEq, Eq)]
struct Phrase<'a> {
    name: &'a str,
    words: Vec<NodeWord>,
}

/// A word right after a lab means nodes of that. Everywhere else it is a name: a lab may be called like a word.
fn phrases<'a>(inventory: &Inventory, names: &'a [String]) -> Result<Vec<Phrase<'a>>> {
    let mut phrases: Vec<Phrase> = Vec::new();
    for name in names {
        let word = NodeWord::named(name).filter(|word| *word != NodeWord::Others);
        let last = phrases.last_mut().filter(|last| lab_of(inventory, last.name).is_some());
        match (word, last) {
            (Some(word), Some(last)) => last.words.push(word),
            (Some(_), None) if lab_of(inventory, name).is_none() => {
                return Err(hinted(
                    format!("`{name}` needs a lab whose nodes are meant"),
                    format!("`LAB {name}`, with the name of a lab; `virtlab list` shows the labs"),
                ));
            }
            _ => phrases.push(Phrase { name, words: Vec::new() }),
        }
    }
    Ok(phrases)
}

/// The nodes of each group. A node is in one at the most, so a word means nodes that are in no other.
///
/// # Errors
/// If a name is that of no node, if a node is named twice, or if a word means no node.
pub(crate) fn groups(
    hypervisor: &Hypervisor,
    found: &Found,
    groups: &[String],
    lot: Option<Lot>,
) -> Result<Expanded<Vec<NodeSet>>> {
    let lab = &found.lab;
    let Named { mut sets, words } = named(lab, groups)?;
    let only_words: Vec<NodeWord> = words.iter().map(|(_, word)| *word).collect();
    let among = electorate(&only_words, lab, lot, || leader(hypervisor, found))?;
    let meant = apart(lab, &mut sets, words, &among)?;
    Ok(Expanded { nodes: sets, meant })
}

/// What groups name by name, and their words, each with the place of its group.
#[derive(Debug)]
struct Named {
    sets: Vec<NodeSet>,
    words: Vec<(usize, NodeWord)>,
}

fn named(lab: &Lab, groups: &[String]) -> Result<Named> {
    let nodes = lab.nodes();
    let mut named = Named { sets: vec![NodeSet::default(); groups.len()], words: Vec::new() };
    for (place, group) in groups.iter().enumerate() {
        for name in group.split(',') {
            ensure!(!name.is_empty(), "group `{group}` has an empty name; write `NODE,NODE`");
            if let Some(node) = nodes.iter().find(|node| node.name == name) {
                take(lab, &mut named.sets, place, NodeSet::from_iter([node.index]))?;
                continue;
            }
            match NodeWord::named(name) {
                Some(NodeWord::All) => {
                    bail!("`all` nodes are no group; `others` are those that are in no other group")
                }
                Some(word) => named.words.push((place, word)),
                None => return Err(no_node(lab, name)),
            }
        }
    }
    Ok(named)
}

/// Adds to each group what its words mean.
fn apart(
    lab: &Lab,
    sets: &mut [NodeSet],
    mut words: Vec<(usize, NodeWord)>,
    among: &Electorate,
) -> Result<Vec<String>> {
    words.sort_by_key(|(_, word)| word.rank());
    let mut meant = Vec::new();
    for (place, word) in words {
        let chosen = chosen(lab, word, among, all_of(sets))?;
        take(lab, sets, place, chosen)?;
        meant.push(sentence(lab, word, chosen));
    }
    Ok(meant)
}

/// What words mean that all stand for one set of nodes.
fn together(lab: &Lab, words: &[NodeWord], among: &Electorate) -> Result<(NodeSet, Vec<String>)> {
    let mut words = words.to_vec();
    words.sort_by_key(|word| word.rank());
    let (mut set, mut meant) = (NodeSet::default(), Vec::new());
    for word in words {
        let chosen = chosen(lab, word, among, set)?;
        meant.push(sentence(lab, word, chosen));
        set = set.union(chosen);
    }
    Ok((set, meant))
}

/// etcd is asked for its leader only where a word needs it.
fn electorate(
    words: &[NodeWord],
    lab: &Lab,
    lot: Option<Lot>,
    leader: impl FnOnce() -> Result<u32>,
) -> Result<Electorate> {
    let is_needed = words.iter().any(|word| word.needs_leader());
    let leader = is_needed.then(leader).transpose()?;
    Ok(Electorate { lot, ..Electorate::of(lab, leader) })
}

fn chosen(lab: &Lab, word: NodeWord, among: &Electorate, taken: NodeSet) -> Result<NodeSet> {
    word.choose(among, taken).ok_or_else(|| {
        let left = if taken.is_empty() { "" } else { " beside those that are named before" };
        anyhow!("lab `{}` has too few nodes for `{}`{left}", lab.name, word.name())
    })
}

fn take(lab: &Lab, sets: &mut [NodeSet], place: usize, nodes: NodeSet) -> Result<()> {
    let taken = all_of(sets);
    if let Some(index) = nodes.iter().find(|index| taken.contains(*index)) {
        bail!("node `{}` is named twice; a node is in one group", lab.name.node(index));
    }
    sets[place] = sets[place].union(nodes);
    Ok(())
}

fn all_of(sets: &[NodeSet]) -> NodeSet {
    sets.iter().fold(NodeSet::default(), |all, set| all.union(*set))
}

fn sentence(lab: &Lab, word: NodeWord, chosen: NodeSet) -> String {
    let nodes: Vec<String> = chosen.iter().map(|index| lab.name.node(index)).collect();
    format!("`{}` of lab `{}`: {}", word.name(), lab.name, nodes.join(", "))
}

fn no_node(lab: &Lab, name: &str) -> Error {
    let nodes = lab.nodes();
    let near = did_you_mean(name, nodes.iter().map(|node| node.name.as_str()));
    let hint = near.map(|near| format!("did you mean `{near}`?"));
    let hint = hint.unwrap_or_else(|| format!("`virtlab status {}` shows its nodes", lab.name));
    hinted(format!("lab `{}` has no node `{name}`", lab.name), hint)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::lab::tests::lab;

    fn inventory() -> Inventory {
        let mut inventory = Inventory::default();
        for name in ["demo", "leader"] {
            let mut lab = lab(3);
            lab.name = name.parse().unwrap();
            lab.uuid = uuid::Uuid::new_v5(&lab.uuid, name.as_bytes());
            inventory.insert(lab);
        }
        inventory
    }

    fn words(text: &str) -> Vec<String> {
        text.split(' ').map(str::to_owned).collect()
    }

    #[test]
    fn a_word_after_a_lab_means_its_nodes_and_anywhere_else_it_is_a_name() {
        let inventory = inventory();
        let said = |line: &str| match phrases(&inventory, &words(line)) {
            Ok(phrases) => {
                let line = |phrase: &Phrase| {
                    let words = phrase.words.iter().map(|word| format!(":{}", word.name()));
                    format!("{}{}", phrase.name, words.collect::<String>())
                };
                phrases.iter().map(line).collect::<Vec<_>>().join(" ")
            }
            Err(error) => error.to_string(),
        };
        for (line, expected) in [
            ("demo leader", "demo:leader"),
            ("demo leader follower demo-3", "demo:leader:follower demo-3"),
            ("demo", "demo"),
            // A lab that is called like a word.
            ("leader", "leader"),
            ("leader leader", "leader:leader"),
            ("leader demo", "leader demo"),
            ("demo-1 leader", "demo-1 leader"),
            // Nobody's.
            ("one", "`one` needs a lab whose nodes are meant"),
            ("demo-1 one", "`one` needs a lab whose nodes are meant"),
            // It is a word of groups only.
            ("demo others", "demo others"),
        ] {
            assert_eq!(said(line), expected, "{line}");
        }
    }

    #[test]
    fn groups_are_names_and_words_and_no_node_is_in_two() {
        let among = Electorate::of(&lab(5), Some(2));
        let said = |line: &str| {
            let groups = words(line);
            let parted = named(&lab(5), &groups).and_then(|Named { mut sets, words }| {
                apart(&lab(5), &mut sets, words, &among)?;
                Ok(sets)
            });
            match parted {
                Ok(sets) => sets.iter().map(ToString::to_string).collect::<Vec<_>>().join(" | "),
                Err(error) => error.to_string(),
            }
        };
        for (line, expected) in [
            ("demo-1 demo-2,demo-3", "1 | 2-3"),
            ("leader others", "2 | 1,3-5"),
            ("others leader", "1,3-5 | 2"),
            ("minority majority", "1-2 | 3-5"),
            ("one leader", "1 | 2"),
            ("leader,demo-5 others", "2,5 | 1,3-4"),
            ("demo-2 leader", "node `demo-2` is named twice; a node is in one group"),
            (
                "majority majority",
                "lab `demo` has too few nodes for `majority` beside those that are named before",
            ),
            ("all one", "`all` nodes are no group; `others` are those that are in no other group"),
            ("demo-1, demo-2", "group `demo-1,` has an empty name; write `NODE,NODE`"),
            ("demo-9 demo-2", "lab `demo` has no node `demo-9`"),
        ] {
            assert_eq!(said(line), expected, "{line}");
        }
    }

    #[test]
    fn words_for_one_set_are_added_up_and_each_is_told() {
        let lab = lab(3);
        let among = Electorate::of(&lab, Some(3));
        let (set, meant) = together(&lab, &[NodeWord::One, NodeWord::Leader], &among).unwrap();
        assert_eq!(set.to_string(), "1,3");
        assert_eq!(meant, ["`leader` of lab `demo`: demo-3", "`one` of lab `demo`: demo-1"]);
        let (set, _) = together(&lab, &[NodeWord::All, NodeWord::One], &among).unwrap();
        assert_eq!(set.to_string(), "1-3");
    }
}
