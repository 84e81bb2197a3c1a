//! `image show`.

use anyhow::{Context, Result};
use indicatif::HumanBytes;
use serde::Serialize;

use super::FileRow;
use super::list::source;
use crate::cli::image::ShowArgs;
use crate::images::{Catalogue, Image, ImageSpec, Library, Sha256, Source};
use crate::output::{Format, Printer, Table};

#[derive(Serialize)]
struct ShowRow {
    #[serde(flatten)]
    entry: ImageSpec,
    reference: Option<String>,
    digest: Option<Sha256>,
    cached: Vec<FileRow>,
}

pub(super) fn show(
    args: &ShowArgs,
    catalogue: &Catalogue,
    store: &Library,
    printer: &Printer,
) -> Result<()> {
    let spec = catalogue.find(&args.image)?;
    // Kept files that are not there yet are no reason not to show the entry.
    let pin = args.pin.pin(&spec.name)?;
    if let Source::Local(_) = spec.source {
        pin.refuse_version().with_context(|| format!("image `{}`", spec.name))?;
    }
    let image = match (store.find(&spec, &pin), &spec.source) {
        (Err(error), Source::Local(_)) => {
            printer.warn(format!("{error:#}"));
            None
        }
        (image, _) => image?,
    };
    if printer.format() == Format::Table {
        describe(&spec, image.as_ref(), printer);
        return Ok(());
    }
    let name = spec.name.clone();
    let shown = image.as_ref().map(|image| &image.files).into_iter().flatten();
    let row = ShowRow {
        entry: spec,
        reference: image.as_ref().map(|image| image.reference.clone()),
        digest: image.as_ref().map(|image| image.digest),
        cached: shown.map(FileRow::from).collect(),
    };
    printer.listing(&row, &[name], &Table::new(&[]))
}

fn describe(spec: &ImageSpec, image: Option<&Image>, printer: &Printer) {
    let arguments: Vec<&str> = spec.arguments.split_whitespace().collect();
    for (head, text) in [
        ("Name", spec.name.clone()),
        ("Description", spec.description.clone()),
        ("Source", source(spec).to_owned()),
        ("Channels", spec.channels().join(", ")),
        ("Memory", format!("{} MiB at least", spec.memory_mib)),
        ("Config", spec.config.as_str().to_owned()),
        ("Template", spec.config_template.clone().unwrap_or_default()),
        ("SSH user", spec.ssh_user.clone().unwrap_or_default()),
        ("Arguments", arguments.join(" ")),
        ("Cached", image.map_or("no".to_owned(), |image| image.reference.clone())),
        ("Digest", image.map_or(String::new(), |image| image.digest.to_string())),
    ] {
        if !text.is_empty() {
            printer.data(format!("{:<13}{text}", format!("{head}:")));
        }
    }
    for file in image.map(|image| &image.files).into_iter().flatten() {
        printer.data(format!("\n{}", file.name));
        for (head, text) in [
            ("Path", file.path.display().to_string()),
            ("Size", HumanBytes(file.size).to_string()),
            ("SHA-256", file.sha256.to_string()),
            ("Verified by", file.verified_by.clone()),
        ] {
            printer.data(format!("  {:<13}{text}", format!("{head}:")));
        }
    }
}
