//! Words that choose nodes of a lab, as Jepsen has them. Of several nodes, those with the lowest index are meant, so that the
//! same command means the same nodes; or they are drawn by lot, and the same seed draws the same ones.

use super::Lab;
use super::node_set::NodeSet;

/// A word for nodes of a lab.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NodeWord {
    /// The node that leads etcd.
    Leader,
    /// A node that may lead etcd, and does not.
    Follower,
    /// One node.
    One,
    /// As many nodes as may go without an end of the cluster.
    Minority,
    /// As many nodes as make the cluster up by themselves.
    Majority,
    /// All nodes.
    All,
    /// All nodes that nothing else names.
    Others,
}

/// What words choose from.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Electorate {
    /// All nodes of a lab.
    pub all: NodeSet,
    /// Those that are voting members of its etcd, if it has one.
    pub voters: NodeSet,
    /// The one that leads.
    pub leader: Option<u32>,
    /// What draws one of several, if that is not to be the first.
    pub lot: Option<Lot>,
}

/// Draws nodes: the same one draws the same nodes again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Lot(u64);

impl Lot {
    /// That of a seed for the draw with this number, so that draws do not depend on each other.
    pub fn of(seed: u64, draw: u64) -> Self {
        Self(mixed(seed ^ mixed(draw)))
    }

    /// The lot of a node. Those with the lowest are drawn.
    fn rank(self, index: u32) -> u64 {
        mixed(self.0 ^ u64::from(index))
    }
}

/// A step of `SplitMix64`: of numbers that follow each other it makes such as look like chance.
/// <https://prng.di.unimi.it/splitmix64.c>
fn mixed(number: u64) -> u64 {
    let number = number.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let number = (number ^ (number >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let number = (number ^ (number >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    number ^ (number >> 31)
}

impl Electorate {
    /// That of a lab, whose leader somebody has to be asked for.
    pub fn of(lab: &Lab, leader: Option<u32>) -> Self {
        let all = || 1..=lab.spec.nodes;
        let voters = all().filter(|index| lab.is_voter(*index)).collect();
        Self { all: all().collect(), voters, leader, lot: None }
    }
}

impl NodeWord {
    /// Each of them.
    pub const ALL: [Self; 7] = [
        Self::Leader,
        Self::Follower,
        Self::One,
        Self::Minority,
        Self::Majority,
        Self::All,
        Self::Others,
    ];

    /// The one that is spelled like this.
    pub fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|word| word.name() == name)
    }

    /// As it is typed.
    pub fn name(self) -> &'static str {
        match self {
            Self::Leader => "leader",
            Self::Follower => "follower",
            Self::One => "one",
            Self::Minority => "minority",
            Self::Majority => "majority",
            Self::All => "all",
            Self::Others => "others",
        }
    }

    /// Whether the leader has to be known for it.
    pub fn needs_leader(self) -> bool {
        matches!(self, Self::Leader | Self::Follower)
    }

    /// Words with a lower one choose first, so that the others choose from what is left.
    pub fn rank(self) -> u8 {
        match self {
            Self::Leader => 0,
            Self::Follower | Self::One | Self::Minority | Self::Majority => 1,
            Self::All | Self::Others => 2,
        }
    }

    /// The nodes that it means beside those that are taken; `None` if there are too few.
    pub fn choose(self, among: &Electorate, taken: NodeSet) -> Option<NodeSet> {
        let Electorate { all, voters, leader, lot } = *among;
        let leader: NodeSet = leader.into_iter().collect();
        let count = voters.iter().count();
        let first = |from: NodeSet, count: usize| {
            let mut free: Vec<u32> = from.without(taken).iter().collect();
            if let Some(lot) = lot {
                free.sort_by_key(|index| lot.rank(*index));
            }
            let chosen: NodeSet = free.into_iter().take(count).collect();
            (chosen.iter().count() == count).then_some(chosen)
        };
        let chosen = match self {
            Self::Leader => Some(leader),
            Self::Follower => first(voters.without(leader), 1),
            Self::One => first(voters, 1),
            Self::Minority => first(voters, count.saturating_sub(1) / 2),
            Self::Majority => first(voters, count / 2 + 1),
            Self::All => Some(all),
            Self::Others => Some(all.without(taken)),
        };
        chosen.filter(|chosen| !chosen.is_empty())
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;
    use crate::lab::tests::lab;

    fn set(text: &str) -> NodeSet {
        text.split(',').filter_map(|index| index.parse::<u32>().ok()).collect()
    }

    #[test]
    fn words_mean_the_first_nodes_that_nothing_else_means() {
        use NodeWord::{All, Follower, Leader, Majority, Minority, One, Others};
        let mut five = Electorate::of(&lab(6), Some(2));
        five.voters = set("1,2,3,4,5");
        for (word, taken, expected) in [
            (Leader, "", "2"),
            (Follower, "", "1"),
            (Follower, "1", "3"),
            (One, "", "1"),
            (One, "1,2", "3"),
            (Minority, "", "1-2"),
            (Majority, "", "1-3"),
            (Majority, "1,2", "3-5"),
            (All, "1", "1-6"),
            (Others, "2", "1,3-6"),
        ] {
            let chosen = word.choose(&five, set(taken)).unwrap();
            assert_eq!(chosen.to_string(), expected, "{word:?} {taken}");
        }
        for (word, taken) in [(Majority, "1,2,3"), (Others, "1,2,3,4,5,6"), (One, "1,2,3,4,5")] {
            assert_eq!(word.choose(&five, set(taken)), None, "{word:?}");
        }
    }

    #[test]
    fn a_lot_draws_any_node_and_the_same_one_the_same() {
        let drawn = |word: NodeWord, seed| {
            let lot = Some(Lot::of(seed, 0));
            let five = Electorate { lot, ..Electorate::of(&lab(5), Some(2)) };
            word.choose(&five, set("4")).unwrap().to_string()
        };
        let all = |word| (0..100).map(|seed| drawn(word, seed)).collect::<BTreeSet<_>>();
        assert_eq!(all(NodeWord::One), ["1", "2", "3", "5"].map(str::to_owned).into());
        assert_eq!(all(NodeWord::Follower), ["1", "3", "5"].map(str::to_owned).into());
        assert_eq!(all(NodeWord::Minority).len(), 6);
        assert_eq!(all(NodeWord::Leader), ["2".to_owned()].into());
        // What a file's seed draws is the same in each version.
        let first: Vec<String> = (0..8).map(|seed| drawn(NodeWord::One, seed)).collect();
        assert_eq!(first.join(""), "13535313");
        assert_ne!(Lot::of(1, 0), Lot::of(1, 1));
    }

    #[test]
    fn a_small_cluster_has_no_minority_and_one_without_a_leader_no_leader() {
        for nodes in 1..=2 {
            let some = Electorate::of(&lab(nodes), None);
            assert_eq!(NodeWord::Minority.choose(&some, NodeSet::default()), None);
            assert_eq!(NodeWord::Leader.choose(&some, NodeSet::default()), None);
            assert_eq!(NodeWord::Majority.choose(&some, NodeSet::default()), Some(some.all));
        }
    }

    #[test]
    fn no_node_is_called_like_a_word() {
        for word in NodeWord::ALL {
            assert_eq!(NodeWord::named(word.name()), Some(word));
            assert!(!word.name().contains('-'), "nodes are LAB-N");
        }
        assert_eq!(NodeWord::named("leader-1"), None);
    }
}
