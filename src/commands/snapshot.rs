//! `virtlab snapshot`: all nodes of a lab at one moment, saved and brought back.

use anyhow::Result;
use serde::Serialize;

use super::power::until_restored;
use crate::cli::snapshot::{ListArgs, RestoreArgs, RmArgs, SaveArgs, SnapshotCommand};
use crate::lab::metadata::Power;
use crate::lab::snapshot::Manifest;
use crate::output::{Format, Table};
use crate::provision::lab_lock::LabLock;
use crate::provision::snapshot::restore::{Restore, Restored};
use crate::provision::snapshot::save::Save;
use crate::provision::snapshot::shelf::{Kept, Shelf};
use crate::session::Session;
use crate::status::no_lab;
use crate::units::{human_bytes, utc};

/// What `-o json` prints, see docs/snapshots.md.
#[derive(Serialize)]
struct Document {
    schema_version: u32,
    lab: String,
    snapshots: Vec<Row>,
}

#[derive(Serialize)]
struct Row {
    name: String,
    /// Milliseconds since the epoch.
    made_at_ms: u64,
    nodes: Vec<NodeRow>,
    bytes: u64,
    /// Why it cannot be restored any more.
    #[serde(skip_serializing_if = "Option::is_none")]
    damage: Option<String>,
}

#[derive(Serialize)]
struct NodeRow {
    name: String,
    power: Power,
    bytes: u64,
}

pub(super) fn run(session: &Session, command: &SnapshotCommand) -> Result<()> {
    match command {
        SnapshotCommand::Save(args) => save(session, args),
        SnapshotCommand::Restore(args) => restore(session, args),
        SnapshotCommand::List(args) => list(session, args),
        SnapshotCommand::Rm(args) => rm(session, args),
    }
}

fn save(session: &Session, args: &SaveArgs) -> Result<()> {
    let hypervisor = session.hypervisor()?;
    let save = Save {
        session,
        hypervisor: &hypervisor,
        lab: &args.lab,
        name: args.name.as_ref(),
        dry_run: args.dry_run,
        patience: args.lock.patience(),
    };
    let Some(manifest) = save.run()? else { return Ok(()) };
    session.printer.note(format!(
        "snapshot `{}` of lab `{}` is made, {}",
        manifest.name,
        args.lab,
        human_bytes(manifest.bytes())
    ));
    let kept = Kept { manifest, damage: None };
    print(session, args.lab.as_str(), std::slice::from_ref(&kept))
}

fn restore(session: &Session, args: &RestoreArgs) -> Result<()> {
    let hypervisor = session.hypervisor()?;
    let restore = Restore {
        session,
        hypervisor: &hypervisor,
        lab: &args.lab,
        name: args.name.as_ref(),
        dry_run: args.dry_run,
        patience: args.lock.patience(),
    };
    let Some(restored) = restore.run()? else { return Ok(()) };
    let Restored { manifest, found, booted } = restored;
    let made = utc(manifest.made_at_ms);
    session.printer.note(format!(
        "lab `{}` goes on where it was at {made} (snapshot `{}`)",
        args.lab, manifest.name
    ));
    let wait = (!args.no_wait).then(|| args.timeout.into());
    until_restored(session, &hypervisor, &found, booted, wait)
}

fn list(session: &Session, args: &ListArgs) -> Result<()> {
    let hypervisor = session.hypervisor()?;
    let inventory = session.observe(&hypervisor)?;
    let found = inventory.lab(&args.lab).ok_or_else(|| no_lab(&inventory, &args.lab))?;
    let shelf = Shelf::look(session, &hypervisor, found)?;
    if shelf.snapshots.is_empty() && session.printer.format() == Format::Table {
        session.printer.note(format!(
            "there is no snapshot of lab `{0}`; `virtlab snapshot save {0}` makes one",
            args.lab
        ));
        return Ok(());
    }
    for Kept { manifest, damage } in &shelf.snapshots {
        if let Some(damage) = damage {
            session.printer.warn(format!("snapshot `{}` is damaged: {damage}", manifest.name));
        }
    }
    print(session, args.lab.as_str(), &shelf.snapshots)
}

fn rm(session: &Session, args: &RmArgs) -> Result<()> {
    let hypervisor = session.hypervisor()?;
    let patience = args.lock.patience();
    let take_lock = || LabLock::take(session, &hypervisor, &args.lab, "snapshot rm", patience);
    let _alone = if args.dry_run { None } else { Some(take_lock()?) };
    let inventory = session.observe(&hypervisor)?;
    let found = inventory.lab(&args.lab).ok_or_else(|| no_lab(&inventory, &args.lab))?;
    let lab = &found.lab;
    let shelf = Shelf::look(session, &hypervisor, found)?;
    let mut meant: Vec<&Kept> = Vec::new();
    for name in &args.names {
        let kept = shelf.find(lab, Some(name))?;
        if !meant.contains(&kept) {
            meant.push(kept);
        }
    }
    if args.all {
        meant.extend(&shelf.snapshots);
    }
    if args.dry_run {
        for file in meant.iter().flat_map(|kept| kept.files()) {
            session.printer.data(format!("delete `{file}` of `{}`", lab.pool_name()));
        }
        return Ok(());
    }
    shelf.sweep(session, &hypervisor, lab)?;
    for kept in &meant {
        kept.remove(session, &hypervisor, lab)?;
        let name = &kept.manifest.name;
        session.printer.note(format!("snapshot `{name}` of lab `{}` is gone", lab.name));
    }
    if meant.is_empty() {
        session.printer.note(format!("there is no snapshot of lab `{}`", lab.name));
    }
    Ok(())
}

fn print(session: &Session, lab: &str, snapshots: &[Kept]) -> Result<()> {
    let mut table = Table::new(&["snapshot", "made", "nodes", "size"]);
    for Kept { manifest, .. } in snapshots {
        table.row([
            manifest.name.to_string(),
            utc(manifest.made_at_ms),
            nodes(manifest),
            human_bytes(manifest.bytes()),
        ]);
    }
    let names: Vec<String> = snapshots.iter().map(|kept| kept.manifest.name.to_string()).collect();
    let rows = snapshots.iter().map(|kept| row(lab, kept)).collect();
    let document =
        Document { schema_version: SCHEMA_VERSION, lab: lab.to_owned(), snapshots: rows };
    session.printer.listing(&document, &names, &table)
}

/// `3`, or `2 of 3` where one was stopped.
fn nodes(manifest: &Manifest) -> String {
    let (saved, all) = (manifest.saved().count(), manifest.nodes.len());
    if saved == all { all.to_string() } else { format!("{saved} of {all}") }
}

fn row(lab: &str, Kept { manifest, damage }: &Kept) -> Row {
    let node = |node: &crate::lab::snapshot::SavedNode| NodeRow {
        name: format!("{lab}-{}", node.index),
        power: node.power,
        bytes: node.bytes,
    };
    Row {
        name: manifest.name.to_string(),
        made_at_ms: manifest.made_at_ms,
        nodes: manifest.nodes.iter().map(node).collect(),
        bytes: manifest.bytes(),
        damage: damage.clone(),
    }
}

const SCHEMA_VERSION: u32 = 1;
