//! `image verify`.

use anyhow::Context;
use anyhow::Result;
use anyhow::ensure;

use super::VerifyArgs;
use super::meant;
use crate::images::Catalogue;
use crate::images::Store;
use crate::output::Printer;

pub(super) fn verify(
    args: &VerifyArgs,
    catalogue: &Catalogue,
    store: &Store,
    printer: &Printer,
) -> Result<()> {
    let records = if args.images.is_empty() {
        store.records()?
    } else {
        meant(&args.images, catalogue, store)?
    };
    let (mut bad, mut changed) = (0, 0);
    for record in &records {
        let checks = store
            .verify(record, printer)
            .with_context(|| format!("verifying image `{}`", record.reference))?;
        for check in checks {
            let verdict = match check.found {
                _ if check.is_good() => "good".to_owned(),
                Some(found) => {
                    format!("WRONG: expected sha256 {}, found {found}", check.expected)
                }
                None => "MISSING".to_owned(),
            };
            bad += usize::from(!check.is_good() && !check.is_kept);
            changed += usize::from(!check.is_good() && check.is_kept);
            printer.data(format!("{} {}: {verdict}", record.reference, check.name));
        }
    }
    let mut findings = Vec::new();
    if bad > 0 {
        findings.push(format!(
            "{bad} of the files are not what they should be; `virtlab image pull` gets them again"
        ));
    }
    if changed > 0 {
        findings.push(format!(
            "{changed} of your own files changed since virtlab read them; \
             `virtlab image pull` takes them as they are now"
        ));
    }
    ensure!(findings.is_empty(), findings.join("; "));
    Ok(())
}
