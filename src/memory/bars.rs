//! The live view of `virtlab memory --watch`: one bar a node.

use crate::memory::NodeMemory;
use crate::output::sanitize;
use crate::units::human_bytes;

/// One line a node in `width` columns: what is the node's alone, what KSM merged, and the amount.
/// All bars have one scale, so that they can be compared.
///
/// ```text
/// lab-1  ██████████████▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒  384 MiB
/// lab-2  ███████▒▒▒▒▒▒▒▒▒                 192 MiB
/// █ the node's own  ▒ merged
/// ```
pub fn bars(nodes: &[NodeMemory], width: usize) -> String {
    let names: Vec<String> = nodes.iter().map(|node| sanitize(&node.node)).collect();
    let name_width = names.iter().map(|name| name.chars().count()).max().unwrap_or(0);
    let bar_width = width.saturating_sub(name_width + AMOUNT_WIDTH + 2 * GAP.len());
    let most = nodes.iter().filter_map(|node| node.resident_bytes).max().unwrap_or(0);
    let mut lines = Vec::new();
    for (node, name) in nodes.iter().zip(&names) {
        let amount = node.resident_bytes.map_or_else(|| "-".to_owned(), human_bytes);
        let bar = bar(node, most, bar_width);
        let line = format!("{name:<name_width$}{GAP}{bar:<bar_width$}{GAP}{amount:>AMOUNT_WIDTH$}");
        lines.push(cut(&line, width));
    }
    lines.push(cut(LEGEND, width));
    lines.join("\n")
}

/// Whole cells for what is merged and for the node's own pages, and an eighth of a cell as the
/// last step where a node has nothing merged.
fn bar(node: &NodeMemory, most: u64, width: usize) -> String {
    let Some(resident) = node.resident_bytes else { return String::new() };
    let eighths = scaled(resident, most, width * 8);
    let merged = node.merged_bytes.unwrap_or(0).min(resident);
    let merged_cells = scaled(merged, most, width);
    if merged_cells == 0 {
        let partial = ["", "▏", "▎", "▍", "▌", "▋", "▊", "▉"][eighths % 8];
        return "█".repeat(eighths / 8) + partial;
    }
    let cells = (eighths + 4) / 8;
    let merged_cells = merged_cells.min(cells);
    "█".repeat(cells - merged_cells) + &"▒".repeat(merged_cells)
}

/// `value` of `most`, rounded to whole steps out of `steps`.
fn scaled(value: u64, most: u64, steps: usize) -> usize {
    let steps = steps as u128;
    let most = u128::from(most.max(1));
    usize::try_from((u128::from(value) * steps + most / 2) / most).unwrap_or(usize::MAX)
}

fn cut(line: &str, width: usize) -> String {
    line.chars().take(width).collect::<String>().trim_end().to_owned()
}

const GAP: &str = "  ";
const AMOUNT_WIDTH: usize = 8;
const LEGEND: &str = "█ the node's own  ▒ merged";

#[cfg(test)]
mod tests {
    use super::*;
    use crate::memory::tests::node;

    #[test]
    fn bars_share_one_scale() {
        let nodes = [
            node("lab-1", 384, Some(219)),
            node("lab-2", 192, Some(192)),
            node("lab-10", 100, None),
            NodeMemory::unknown("lab-11", "shut off"),
        ];
        insta::assert_snapshot!(bars(&nodes, 50), @"
        lab-1   ██████████████▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒   384 MiB
        lab-2   ▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒                   192 MiB
        lab-10  ████████▍                          100 MiB
        lab-11                                           -
        █ the node's own  ▒ merged
        ");
    }

    #[test]
    fn no_line_is_wider_than_asked_for() {
        let nodes = [node("a-long-name-of-a-node", 1 << 22, Some(1 << 21)), node("b", 0, Some(0))];
        for width in 0..120 {
            for line in bars(&nodes, width).lines() {
                assert!(line.chars().count() <= width, "{width}: {line}");
            }
        }
        assert_eq!(bars(&[], 80), LEGEND);
    }
}
