//! `image rm` and `image prune`.

use anyhow::{Context, Result};
use indicatif::HumanBytes;
use serde::Serialize;

use super::{is_for_programs, meant};
use crate::cli::image::{PruneArgs, RmArgs};
use crate::images::store::Removed;
use crate::images::{Catalogue, InUse, Library};
use crate::output::{Printer, Table};

#[derive(Serialize)]
struct RemovedRow {
    removed: Vec<String>,
    freed_bytes: u64,
}

pub(super) fn rm(
    args: &RmArgs,
    catalogue: &Catalogue,
    store: &Library,
    in_use: &dyn Fn() -> Result<InUse>,
    printer: &Printer,
) -> Result<()> {
    let records = meant(&args.images, catalogue, store)?;
    let in_use = if args.force { InUse::default() } else { in_use().context(OR_FORCE)? };
    print(store.remove(records, &in_use, printer)?, printer)
}

pub(super) fn prune(
    args: &PruneArgs,
    store: &Library,
    in_use: &dyn Fn() -> Result<InUse>,
    printer: &Printer,
) -> Result<()> {
    let in_use = match in_use() {
        Err(error) if args.force => {
            printer.warn(format!("nobody knows which images labs use: {error:#}"));
            InUse::default()
        }
        in_use => in_use.context(OR_FORCE)?,
    };
    print(store.prune(&in_use, printer)?, printer)
}

fn print(removed: Removed, printer: &Printer) -> Result<()> {
    let row = RemovedRow { removed: removed.references, freed_bytes: removed.bytes };
    if is_for_programs(printer) {
        printer.listing(&row, &[], &Table::new(&[]))?;
    } else {
        row.removed.iter().for_each(|reference| printer.data(reference));
    }
    printer.note(format!("freed {}", HumanBytes(row.freed_bytes)));
    Ok(())
}

const OR_FORCE: &str = "finding out which images labs use (`--force` removes without that)";
