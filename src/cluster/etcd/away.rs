//! Nodes that are not to answer, since somebody stopped or paused them: they stay members of their cluster, which is healthy
//! as long as a majority of its members is left.

use std::net::IpAddr;

use serde::{Deserialize, Serialize};

use super::{Endpoint, Member};
use crate::lab::metadata::Power;

/// The nodes of a lab that somebody stopped or paused.
#[derive(Clone, Debug, Default)]
pub struct Away {
    /// The lab's name, for the command that mends it.
    pub lab: String,
    /// Where they would answer, and which power is wanted of them.
    pub nodes: Vec<(Endpoint, Power)>,
}

/// A node that somebody stopped or paused.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct AwayNode {
    /// Its name.
    pub name: String,
    /// The power that is wanted of it.
    pub power: Power,
    /// The id of the member that it is, hexadecimal, as far as the others tell.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub member: Option<String>,
    /// It is to be no member.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub client: bool,
}

impl Away {
    /// All of them, with the members that they are.
    pub(super) fn among(&self, members: &[Member]) -> Vec<AwayNode> {
        let member = |ip: IpAddr| members.iter().find(|member| member.is_on(ip));
        let node = |(endpoint, power): &(Endpoint, Power)| AwayNode {
            name: endpoint.name.clone(),
            power: *power,
            member: member(endpoint.ip).map(|member| member.id.clone()),
            client: !endpoint.voter,
        };
        self.nodes.iter().map(node).collect()
    }
}

impl AwayNode {
    /// What `status` calls it.
    pub fn state(&self) -> &'static str {
        if self.power == Power::Paused { "paused" } else { "stopped" }
    }
}

/// How many members a cluster has, who leads it, and who is away.
pub(crate) fn summary(members: usize, leader: &str, away: &[AwayNode]) -> String {
    let absent = absent(away);
    let count = if absent == 0 {
        format!("{members} members")
    } else {
        format!("{} of {members} members answer", members.saturating_sub(absent))
    };
    let who = if away.is_empty() { String::new() } else { format!("; {}", who_is_away(away)) };
    format!("{count}, leader {leader}{who}")
}

/// How many of these nodes are members.
pub(super) fn absent(away: &[AwayNode]) -> usize {
    away.iter().filter(|node| node.member.is_some()).count()
}

/// What to say of a cluster of which these nodes are away and `left` members are left; `None` if those are a majority.
pub(crate) fn lost_majority(lab: &str, left: usize, away: &[AwayNode]) -> Option<String> {
    let absent: Vec<AwayNode> = away.iter().filter(|node| !node.client).cloned().collect();
    let all = left + absent.len();
    if absent.is_empty() || left * 2 > all {
        return None;
    }
    let what = match left {
        0 => "no member is left".to_owned(),
        1 => format!("1 of {all} members is left, which is no majority"),
        _ => format!("{left} of {all} members are left, which is no majority"),
    };
    let paused = absent.iter().filter(|node| node.power == Power::Paused).count();
    let mended = if (left + paused) * 2 > all {
        format!("`virtlab resume {lab}` brings it back")
    } else if left == 0 {
        format!("`virtlab start {lab}` forms a new cluster")
    } else {
        // The others cannot join: it takes a majority to let them in.
        format!("`virtlab restart {lab}` forms a new cluster, without what the old one held")
    };
    Some(format!("{what}: {}; {mended}", who_is_away(&absent)))
}

/// "`demo-2` is stopped, `demo-3`, `demo-4` are paused".
fn who_is_away(away: &[AwayNode]) -> String {
    let of_state = |state: &str| {
        let names: Vec<&str> = away
            .iter()
            .filter(|node| node.state() == state)
            .map(|node| node.name.as_str())
            .collect();
        let is = if names.len() == 1 { "is" } else { "are" };
        (!names.is_empty()).then(|| format!("`{}` {is} {state}", names.join("`, `")))
    };
    let states: Vec<String> = ["stopped", "paused"].into_iter().filter_map(of_state).collect();
    states.join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn away(name: &str, power: Power) -> AwayNode {
        AwayNode { name: name.to_owned(), power, member: Some("a1".to_owned()), client: false }
    }

    #[test]
    fn a_healthy_cluster_says_who_is_away() {
        let gone = AwayNode { member: None, client: true, ..away("demo-9", Power::Off) };
        let (second, third) = (away("demo-2", Power::Off), away("demo-3", Power::Paused));
        for (members, away, expected) in [
            (3, vec![], "3 members, leader demo-1"),
            (3, vec![second.clone()], "2 of 3 members answer, leader demo-1; `demo-2` is stopped"),
            (
                5,
                vec![third, second.clone()],
                "3 of 5 members answer, leader demo-1; `demo-2` is stopped, `demo-3` is paused",
            ),
            // A client is no member.
            (3, vec![gone.clone()], "3 members, leader demo-1; `demo-9` is stopped"),
            (
                3,
                vec![second, gone],
                "2 of 3 members answer, leader demo-1; `demo-2`, `demo-9` are stopped",
            ),
        ] {
            assert_eq!(summary(members, "demo-1", &away), expected);
        }
    }

    #[test]
    fn a_majority_that_is_lost_is_told_with_what_mends_it() {
        let (off, paused) = (away("demo-2", Power::Off), away("demo-3", Power::Paused));
        let client = AwayNode { client: true, ..off.clone() };
        for (left, away, expected) in [
            (2, vec![off.clone()], None),
            (1, vec![client], None),
            (1, vec![], None),
            (
                1,
                vec![off.clone()],
                Some(
                    "1 of 2 members is left, which is no majority: `demo-2` is stopped; `virtlab restart demo` \
                     forms a new cluster, without what the old one held",
                ),
            ),
            // It holds what it held.
            (
                1,
                vec![paused.clone(), off.clone()],
                Some(
                    "1 of 3 members is left, which is no majority: `demo-2` is stopped, `demo-3` is paused; \
                     `virtlab resume demo` brings it back",
                ),
            ),
            (
                0,
                vec![off],
                Some(
                    "no member is left: `demo-2` is stopped; `virtlab start demo` forms a new cluster",
                ),
            ),
            (
                0,
                vec![paused],
                Some("no member is left: `demo-3` is paused; `virtlab resume demo` brings it back"),
            ),
        ] {
            assert_eq!(lost_majority("demo", left, &away).as_deref(), expected);
        }
    }
}
