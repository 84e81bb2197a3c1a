//! `image pull` and `image build`.

use anyhow::Result;
use anyhow::bail;

use super::BuildArgs;
use super::PullArgs;
use crate::images::Catalogue;
use crate::images::ImageSpec;
use crate::images::Pin;
use crate::images::Source;
use crate::images::Store;
use crate::output::Printer;

pub(super) fn pull(
    args: &PullArgs,
    catalogue: &Catalogue,
    store: &Store,
    printer: &Printer,
) -> Result<()> {
    let specs: Vec<ImageSpec> =
        args.images.iter().map(|image| catalogue.find(image)).collect::<Result<_>>()?;
    for spec in &specs {
        let image = store.pull(spec, &args.pin.pin(&spec.name)?, printer)?;
        args.pin.record(&image)?;
        printer.data(image.reference);
    }
    Ok(())
}

pub(super) fn build(
    args: &BuildArgs,
    catalogue: &Catalogue,
    store: &Store,
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
    printer.data(image.reference);
    Ok(())
}
