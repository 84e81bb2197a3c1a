//! `image list`.

use std::collections::BTreeSet;

use anyhow::Result;
use serde::Serialize;

use crate::images::index::Record;
use crate::images::{Catalogue, ImageSpec, Library, Source};
use crate::output::{Printer, Table};

#[derive(Serialize)]
struct ListRow {
    name: String,
    source: &'static str,
    config: Option<&'static str>,
    memory_mib: Option<u32>,
    cached: Vec<String>,
    description: String,
}

pub(super) fn list(catalogue: &Catalogue, store: &Library, printer: &Printer) -> Result<()> {
    let records = store.records()?;
    let mut rows = Vec::new();
    let mut known = BTreeSet::new();
    for (name, spec) in catalogue.list() {
        known.insert(name.clone());
        match spec {
            Ok(spec) => rows.push(ListRow {
                cached: cached(&records, &name),
                name,
                source: source(&spec),
                config: Some(spec.config.as_str()),
                memory_mib: Some(spec.memory_mib),
                description: spec.description,
            }),
            Err(error) => printer.warn(format!("image `{name}` cannot be used: {error:#}")),
        }
    }
    // Those of entries somewhere else, of which nothing else is known here.
    let names: BTreeSet<&str> = records.iter().map(|record| record.name.as_str()).collect();
    for name in names.into_iter().filter(|name| !known.contains(*name)) {
        rows.push(ListRow {
            name: name.to_owned(),
            source: source_of(&records, name),
            config: None,
            memory_mib: None,
            cached: cached(&records, name),
            description: "of an entry of your own (PATH.toml)".to_owned(),
        });
    }
    let names: Vec<String> = rows.iter().map(|row| row.name.clone()).collect();
    let mut table = Table::new(&["name", "source", "config", "memory", "cached", "description"]);
    for row in &rows {
        table.row([
            row.name.clone(),
            row.source.to_owned(),
            row.config.unwrap_or("-").to_owned(),
            row.memory_mib.map_or("-".to_owned(), |memory| format!("{memory} MiB")),
            if row.cached.is_empty() { "-".to_owned() } else { row.cached.join(",") },
            row.description.clone(),
        ]);
    }
    printer.listing(&rows, &names, &table)
}

/// The cached versions, the newest first.
fn cached(records: &[Record], name: &str) -> Vec<String> {
    let mut records: Vec<&Record> = records.iter().filter(|record| record.name == name).collect();
    records.sort_by_key(|record| std::cmp::Reverse(record.pulled));
    let tag = |record: &Record| record.reference.rsplit('@').next().unwrap_or("").to_owned();
    let mut tags: Vec<String> = records.into_iter().map(tag).collect();
    let mut seen = BTreeSet::new();
    tags.retain(|tag| seen.insert(tag.clone()));
    tags
}

pub(super) fn source(spec: &ImageSpec) -> &'static str {
    match spec.source {
        Source::Urls(_) | Source::Stream(_) => DOWNLOAD,
        Source::Local(_) => KEPT,
        Source::Recipe(_) => BUILT,
    }
}

/// Where the files of a cached image came from.
fn source_of(records: &[Record], name: &str) -> &'static str {
    let mut records = records.iter().filter(|record| record.name == name);
    match records.find_map(|record| record.files.first()) {
        Some(file) if file.path.is_some() => KEPT,
        Some(file) if file.url.is_some() => DOWNLOAD,
        _ => BUILT,
    }
}

const DOWNLOAD: &str = "download";
const KEPT: &str = "your files";
const BUILT: &str = "built here";
