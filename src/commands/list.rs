//! `virtlab list`: the labs there are.

use anyhow::Result;
use serde::Serialize;

use crate::lab::plan::DomainState;
use crate::output::{Format, Table};
use crate::provision::merging;
use crate::session::Session;

/// What `-o json` prints.
#[derive(Serialize)]
struct Row {
    name: String,
    uuid: String,
    nodes: u32,
    running: usize,
    network: String,
    image: String,
    memory_mib: u64,
    vcpus: u32,
}

pub(super) fn run(session: &Session) -> Result<()> {
    let hypervisor = session.brief_hypervisor()?;
    let inventory = session.observe(&hypervisor)?;
    merging::repair(session.printer, &hypervisor, &inventory);
    let mut rows: Vec<Row> = inventory
        .labs
        .values()
        .map(|found| Row {
            name: found.lab.name.to_string(),
            uuid: found.lab.uuid.to_string(),
            nodes: found.lab.spec.nodes,
            running: found.domains.values().filter(|state| **state == DomainState::Running).count(),
            network: found.lab.spec.network.to_string(),
            image: found.lab.spec.image.name.clone(),
            memory_mib: found.lab.spec.memory.mib(),
            vcpus: found.lab.spec.vcpus,
        })
        .collect();
    rows.sort_by(|a, b| a.name.cmp(&b.name));
    let mut table = Table::new(&["lab", "nodes", "running", "network", "image", "memory", "vcpus"]);
    for row in &rows {
        table.row([
            row.name.clone(),
            row.nodes.to_string(),
            row.running.to_string(),
            row.network.clone(),
            row.image.clone(),
            format!("{}MiB", row.memory_mib),
            row.vcpus.to_string(),
        ]);
    }
    let names: Vec<String> = rows.iter().map(|row| row.name.clone()).collect();
    if rows.is_empty() && session.printer.format() == Format::Table {
        session.printer.note("there are no labs; `virtlab create` makes one");
        return Ok(());
    }
    session.printer.listing(&rows, &names, &table)
}
