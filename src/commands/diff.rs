//! `virtlab diff`: what is wanted of a lab against what there is of it.

use std::iter;

use anyhow::Result;
use serde::Serialize;

use crate::cli::DiffArgs;
use crate::error::Differs;
use crate::provision::apply::Applier;
use crate::provision::differences::{self, Difference};
use crate::provision::draft;
use crate::provision::drift::Drift;
use crate::session::Session;

/// What `-o json` prints.
#[derive(Serialize)]
struct Document {
    schema_version: u32,
    name: String,
    differs: bool,
    differences: Vec<Difference>,
}

pub(super) fn run(session: &Session, args: &DiffArgs) -> Result<()> {
    let hypervisor = session.hypervisor()?;
    let again = draft::again(session, &hypervisor, &args.lab)?;
    let lab = &again.prepared.lab;
    let applier = Applier::new(session, &hypervisor, lab, Some(&again.prepared))?;
    let mut observed = applier.observed(Some(&again.found))?;
    // What the files of an image would be that is not here is not known.
    observed.boot_files |= again.lacks_image;
    let drift = Drift::of(&hypervisor, &again.found, &again.prepared.wanted())?;
    let differences = differences::differences(lab, &observed, &drift);
    let differs = !differences.is_empty();
    let document = Document {
        schema_version: SCHEMA_VERSION,
        name: lab.name.to_string(),
        differs,
        differences,
    };
    print(session, &document)?;
    for outdated in drift.outdated(lab) {
        session.printer.note(outdated);
    }
    if !differs {
        session.printer.note(format!("lab `{}` is as it is wanted", lab.name));
        return Ok(());
    }
    session
        .printer
        .note(format!("`virtlab create {}` puts right what can be while nodes run", lab.name));
    Err(Differs.into())
}

fn print(session: &Session, document: &Document) -> Result<()> {
    let names: Vec<&str> = document.differences.iter().map(|it| it.name.as_str()).collect();
    session.printer.document(document, &names, || {
        let lines = document.differences.iter().flat_map(|difference| {
            let shown = difference.diff.iter().flat_map(|diff| diff.lines());
            iter::once(difference.line()).chain(shown.map(|line| format!("  {line}")))
        });
        lines.collect::<Vec<_>>().join("\n")
    })
}

const SCHEMA_VERSION: u32 = 1;
