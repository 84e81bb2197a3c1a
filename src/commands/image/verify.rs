//! `image verify`.

use anyhow::Context;
use anyhow::Result;
use anyhow::ensure;
use serde::Serialize;

use super::VerifyArgs;
use super::is_for_programs;
use super::meant;
use crate::images::Catalogue;
use crate::images::Sha256;
use crate::images::Store;
use crate::images::store::Check;
use crate::output::Printer;
use crate::output::Table;

#[derive(Serialize)]
struct VerifyRow {
    reference: String,
    file: String,
    verdict: Verdict,
    expected: Sha256,
    found: Option<Sha256>,
}

#[derive(Serialize)]
#[serde(rename_all = "kebab-case")]
enum Verdict {
    Good,
    Wrong,
    Missing,
}

impl VerifyRow {
    fn new(reference: String, check: Check) -> Self {
        let verdict = match check.found {
            _ if check.is_good() => Verdict::Good,
            Some(_) => Verdict::Wrong,
            None => Verdict::Missing,
        };
        let Check { name, expected, found, .. } = check;
        Self { reference, file: name, verdict, expected, found }
    }

    fn line(&self) -> String {
        let verdict = match (&self.verdict, self.found) {
            (Verdict::Good, _) => "good".to_owned(),
            (Verdict::Wrong, Some(found)) => {
                format!("WRONG: expected sha256 {}, found {found}", self.expected)
            }
            (Verdict::Wrong | Verdict::Missing, _) => "MISSING".to_owned(),
        };
        format!("{} {}: {verdict}", self.reference, self.file)
    }
}

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
    let mut rows = Vec::new();
    for record in &records {
        let checks = store
            .verify(record, printer)
            .with_context(|| format!("verifying image `{}`", record.reference))?;
        for check in checks {
            bad += usize::from(!check.is_good() && !check.is_kept);
            changed += usize::from(!check.is_good() && check.is_kept);
            let row = VerifyRow::new(record.reference.clone(), check);
            if !is_for_programs(printer) {
                printer.data(row.line());
            }
            rows.push(row);
        }
    }
    if is_for_programs(printer) {
        printer.listing(&rows, &[], &Table::new(&[]))?;
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
