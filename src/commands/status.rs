//! `virtlab status`: every node of a lab, its stages, and whether it is ready now.

use anyhow::Result;

use super::node_table::{HEADS, row};
use super::progress::silence;
use super::watch;
use crate::boot_server::client::Client;
use crate::boot_server::stage::Stage;
use crate::cli::{ClusterArgs, StatusArgs};
use crate::cluster::etcd::away;
use crate::hypervisor::{Found, Hypervisor};
use crate::output::Table;
use crate::provision::differences::{self, Difference};
use crate::provision::drift::Drift;
use crate::provision::merging;
use crate::session::Session;
use crate::status::{self, Asking, NodeStatus, faults, no_lab};

/// Shows the lab of this name.
pub(super) fn run(session: &Session, args: &StatusArgs) -> Result<()> {
    let hypervisor = session.hypervisor()?;
    let inventory = session.observe(&hypervisor)?;
    merging::repair(session.printer, &hypervisor, &inventory);
    let ClusterArgs { lab, client_port } = &args.cluster;
    let Some(found) = inventory.lab(lab) else { return Err(no_lab(&inventory, lab)) };
    if args.watch {
        return watch::run(session, &hypervisor, found);
    }
    print(session, &hypervisor, found, *client_port)
}

/// Shows a lab.
pub(super) fn print(
    session: &Session,
    hypervisor: &Hypervisor,
    found: &Found,
    client_port: u16,
) -> Result<()> {
    let lab = &found.lab;
    let timeline = Client::new(lab)?.status().map(|status| status.timeline.nodes);
    if timeline.is_none() {
        session.printer.warn(silence(lab));
    }
    let timeline = timeline.as_deref();
    let look = || status::look(hypervisor, found, timeline, client_port, Asking::Thoroughly);
    let mut status = session.persistently(hypervisor, look)?;
    match Drift::look(session, hypervisor, found) {
        Ok(drift) => {
            let differences = differences::of_definitions(found, &drift);
            status.differences = differences.iter().map(Difference::line).collect();
        }
        Err(error) => session.printer.warn(format!("comparing with what is wanted: {error:#}")),
    }
    if !status.differences.is_empty() {
        session.printer.warn(format!(
            "{}; `virtlab diff {1}` shows how, `virtlab create {1}` puts it right",
            status.differences.join("; "),
            lab.name
        ));
    }
    if status.dhcp_running == Some(false) {
        session.printer.warn(format!(
            "the DHCP and TFTP server (dnsmasq) of network `{0}` has ended, so no node can boot; \
             `virtlab create {0}` brings it back",
            lab.name
        ));
    }
    for line in faults::lines(found) {
        session.printer.warn(line);
    }
    let names: Vec<String> = status.nodes.iter().map(|node| node.name.clone()).collect();
    session.printer.listing(&status, &names, &table(&status.nodes))?;
    if let Some(report) = &status.etcd {
        let summary = match (&report.leader, report.healthy) {
            (Some(leader), true) => {
                let summary = away::summary(report.members.len(), leader, &report.away);
                format!("etcd: healthy, {summary}")
            }
            _ => format!("etcd: {}", report.problems().join("; ")),
        };
        session.printer.note(summary);
    }
    if let Some(discovery) = &status.discovery {
        super::print_discovery(session.printer, discovery);
    }
    status.memory.lines().iter().for_each(|line| session.printer.note(line));
    Ok(())
}

fn table(nodes: &[NodeStatus]) -> Table {
    let mut table = Table::new(&HEADS);
    for node in nodes {
        let seconds = |stage: Stage| node.seconds.get(stage.name()).copied();
        table.row(row(&node.name, node.ip, &node.state, seconds));
    }
    table
}
