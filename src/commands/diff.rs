//! `virtlab diff`: what is wanted of a lab against what there is of it.

use anyhow::Result;
use serde::Serialize;

use crate::cli::DiffArgs;
use crate::error::Differs;
use crate::output::Format;
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
    let printer = session.printer;
    match printer.format() {
        Format::Json => printer.data(serde_json::to_string_pretty(document)?),
        Format::Yaml => printer.data(serde_saphyr::to_string(document)?.trim_end()),
        Format::Name => document.differences.iter().for_each(|it| printer.data(&it.name)),
        Format::Table => {
            for difference in &document.differences {
                printer.data(difference.line());
                for line in difference.diff.iter().flat_map(|diff| diff.lines()) {
                    printer.data(format!("  {line}"));
                }
            }
        }
    }
    Ok(())
}

const SCHEMA_VERSION: u32 = 1;
