//! `image verify`.

use std::collections::BTreeSet;

use anyhow::{Context, Result};
use serde::Serialize;

use super::{is_for_programs, meant};
use crate::cli::image::VerifyArgs;
use crate::error::hinted;
use crate::images::store::Check;
use crate::images::{Catalogue, Library, Sha256};
use crate::output::{Printer, Table};

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
    store: &Library,
    printer: &Printer,
) -> Result<()> {
    let records = if args.images.is_empty() {
        store.records()?
    } else {
        meant(&args.images, catalogue, store)?
    };
    let (mut bad, mut changed) = (0, 0);
    let mut names = BTreeSet::new();
    let mut rows = Vec::new();
    for record in &records {
        let checks = store
            .verify(record, printer)
            .with_context(|| format!("verifying image `{}`", record.reference))?;
        for check in checks {
            if !check.is_good() {
                names.insert(record.name.as_str());
            }
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
        findings.push(format!("{bad} of the files are not what they should be"));
    }
    if changed > 0 {
        findings.push(format!("{changed} of your own files changed since virtlab read them"));
    }
    if findings.is_empty() {
        return Ok(());
    }
    let names: Vec<&str> = names.into_iter().collect();
    Err(hinted(
        findings.join("; "),
        format!(
            "`virtlab image pull {}` gets them as they are now; an entry elsewhere is named by its file",
            names.join(" ")
        ),
    ))
}
