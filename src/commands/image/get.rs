//! `image pull` and `image build`.

use anyhow::{Result, bail};
use serde::Serialize;

use super::{FileRow, is_for_programs};
use crate::cli::image::{BuildArgs, PullArgs};
use crate::images::{Catalogue, Image, ImageSpec, Library, Pin, Sha256, Source};
use crate::output::{Printer, Table};

#[derive(Serialize)]
struct ImageRow {
    reference: String,
    name: String,
    channel: Option<String>,
    version: Option<String>,
    digest: Sha256,
    files: Vec<FileRow>,
}

pub(super) fn pull(
    args: &PullArgs,
    catalogue: &Catalogue,
    store: &Library,
    printer: &Printer,
) -> Result<()> {
    let specs: Vec<ImageSpec> =
        args.images.iter().map(|image| catalogue.find(image)).collect::<Result<_>>()?;
    let mut rows = Vec::new();
    let outcome = specs.iter().try_for_each(|spec| {
        let image = store.pull(spec, &args.pin.pin(&spec.name)?, printer)?;
        args.pin.enter(&image)?;
        rows.push(row(&image, printer));
        Ok(())
    });
    // What came before something went wrong is here.
    print(&rows, printer)?;
    outcome
}

pub(super) fn build(
    args: &BuildArgs,
    catalogue: &Catalogue,
    store: &Library,
    printer: &Printer,
) -> Result<()> {
    let spec = catalogue.find(&args.image)?;
    let Source::Recipe(_) = spec.source else {
        bail!("image `{0}` is not built from a recipe: use `virtlab image pull {0}`", spec.name);
    };
    let image = if args.force {
        store.rebuild(&spec, printer)?
    } else {
        store.ensure(&spec, &Pin::default(), printer)?
    };
    print(&[row(&image, printer)], printer)
}

/// People are told at once.
fn row(image: &Image, printer: &Printer) -> ImageRow {
    if !is_for_programs(printer) {
        printer.data(&image.reference);
    }
    ImageRow {
        reference: image.reference.clone(),
        name: image.spec.name.clone(),
        channel: image.channel.clone(),
        version: image.version.clone(),
        digest: image.digest,
        files: image.files.iter().map(FileRow::from).collect(),
    }
}

fn print(rows: &[ImageRow], printer: &Printer) -> Result<()> {
    if is_for_programs(printer) {
        printer.listing(&rows, &[], &Table::new(&[]))?;
    }
    Ok(())
}
