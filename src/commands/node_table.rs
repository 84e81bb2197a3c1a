//! A row for each node, with the seconds to each stage: what `status` prints once, and draws with `--watch`.

use std::net::IpAddr;

use crate::boot_server::stage::Stage;

/// The table fits a terminal of 80 columns, so MAC addresses are left to JSON.
pub(super) const HEADS: [&str; 8] =
    ["node", "ip", "state", "script", "kernel", "initrd", "config", "ready"];

/// A node in the table: its seconds from power-on to each stage.
pub(super) fn row(
    name: &str,
    ip: Option<IpAddr>,
    state: &str,
    seconds: impl Fn(Stage) -> Option<f64>,
) -> Vec<String> {
    let stages = [Stage::Script, Stage::Kernel, Stage::Initrd, Stage::Config, Stage::Ready];
    let seconds = stages.map(|stage| seconds(stage).map(|it| format!("{it:.1}s")));
    let cells = [Some(name.to_owned()), ip.map(|ip| ip.to_string()), Some(state.to_owned())];
    let or_dash = |cell: Option<String>| cell.unwrap_or_else(|| "-".to_owned());
    cells.into_iter().chain(seconds).map(or_dash).collect()
}
