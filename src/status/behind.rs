//! Which nodes are shown where not all have room: those that are most behind, for they are what one waits for.

use crate::boot_server::recorder::timeline::NodeTimeline;

/// Nodes that have room, and how many have not.
#[derive(Debug)]
pub(crate) struct Shown<'a> {
    pub(crate) nodes: Vec<&'a NodeTimeline>,
    /// The others are further on than all of these.
    pub(crate) others: usize,
}

/// All nodes in their own order if there are so many lines. If not, those that are most behind come first, and the last
/// line is for the number of the others.
pub(crate) fn in_room(mut nodes: Vec<&NodeTimeline>, lines: usize) -> Shown<'_> {
    if nodes.len() <= lines {
        return Shown { nodes, others: 0 };
    }
    nodes.sort_by_key(|node| (node.stage(), node.index));
    let others = nodes.split_off(lines.saturating_sub(1)).len();
    Shown { nodes, others }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::boot_server::recorder::event::{Event, Happening, NodeIdentity, StageReached};
    use crate::boot_server::recorder::timeline::Timeline;
    use crate::boot_server::stage::Stage;

    /// Four nodes: one that is ready, two that got their kernel, and one that did nothing.
    fn lab() -> Timeline {
        let node = |index| NodeIdentity {
            index,
            name: format!("demo-{index}"),
            mac: "52:54:00:12:34:01".parse().unwrap(),
            ip: None,
        };
        let mut lab = Timeline::new(&[node(1), node(2), node(3), node(4)]);
        for (index, stage) in [(1, Stage::Ready), (2, Stage::Kernel), (3, Stage::Kernel)] {
            let what = Happening::Stage(StageReached::unasked(index, stage));
            lab.apply(&Event { id: 1, at_ms: 1, what });
        }
        lab
    }

    #[test]
    fn what_is_most_behind_comes_first_where_not_all_have_room() {
        let lab = lab();
        for (lines, names, others) in
            [(9, "1234", 0), (4, "1234", 0), (3, "42", 2), (1, "", 4), (0, "", 4)]
        {
            let shown = in_room(lab.nodes.iter().collect(), lines);
            let shown_names: String = shown.nodes.iter().map(|it| it.index.to_string()).collect();
            assert_eq!((shown_names.as_str(), shown.others), (names, others), "{lines}");
        }
    }
}
