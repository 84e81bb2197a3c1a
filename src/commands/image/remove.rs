//! `image rm` and `image prune`.

use anyhow::Context;
use anyhow::Result;
use indicatif::HumanBytes;

use super::PruneArgs;
use super::RmArgs;
use super::meant;
use crate::images::Catalogue;
use crate::images::InUse;
use crate::images::Store;
use crate::images::store::Removed;
use crate::output::Printer;

pub(super) fn rm(
    args: &RmArgs,
    catalogue: &Catalogue,
    store: &Store,
    in_use: &dyn Fn() -> Result<InUse>,
    printer: &Printer,
) -> Result<()> {
    let records = meant(&args.images, catalogue, store)?;
    let in_use = if args.force { InUse::default() } else { in_use().context(OR_FORCE)? };
    removed(&store.remove(records, &in_use, printer)?, printer);
    Ok(())
}

pub(super) fn prune(
    args: &PruneArgs,
    store: &Store,
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
    removed(&store.prune(&in_use, printer)?, printer);
    Ok(())
}

fn removed(removed: &Removed, printer: &Printer) {
    for reference in &removed.references {
        printer.data(reference);
    }
    printer.note(format!("freed {}", HumanBytes(removed.bytes)));
}

const OR_FORCE: &str = "finding out which images labs use (`--force` removes without that)";
