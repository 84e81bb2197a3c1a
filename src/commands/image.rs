//! `virtlab image`: which images there are, and which of them are here.

use std::collections::BTreeSet;
use std::path::PathBuf;

use anyhow::Context;
use anyhow::Result;
use anyhow::bail;
use anyhow::ensure;
use clap::Args;
use clap::Subcommand;
use indicatif::HumanBytes;
use serde::Serialize;

use crate::images::Catalogue;
use crate::images::Image;
use crate::images::ImageSpec;
use crate::images::InUse;
use crate::images::Lock;
use crate::images::Pin;
use crate::images::Role;
use crate::images::Sha256;
use crate::images::Source;
use crate::images::Store;
use crate::images::index::Record;
use crate::images::store::Removed;
use crate::images::store::refuse_version;
use crate::output::Format;
use crate::output::Printer;
use crate::output::Table;

/// What to do with images
#[derive(Clone, Debug, Subcommand)]
pub enum ImageCommand {
    /// List the images there are, and which are in the cache
    #[command(visible_alias = "ls")]
    List,
    /// Show one image: its files, what vouched for them, its kernel arguments
    Show(ShowArgs),
    /// Fetch images, or their newest versions, into the cache
    Pull(PullArgs),
    /// Read the files of cached images again and compare their digests
    Verify(VerifyArgs),
    /// Build an image by its recipe
    Build(BuildArgs),
    /// Remove images from the cache
    Rm(RmArgs),
    /// Remove old versions and interrupted downloads from the cache
    Prune(PruneArgs),
}

/// Which version of an image is wanted.
#[derive(Clone, Debug, Default, Args)]
pub struct PinArgs {
    /// Channel of the image, such as `stable`
    #[arg(long, value_name = "CHANNEL")]
    pub channel: Option<String>,
    /// Version of the image, instead of the newest
    #[arg(long, value_name = "VERSION")]
    pub version: Option<String>,
    /// Lock file: written on the first run, obeyed on every later one
    #[arg(long, value_name = "FILE")]
    pub lock: Option<PathBuf>,
}

/// Arguments of `image show`.
#[derive(Clone, Debug, Args)]
pub struct ShowArgs {
    /// NAME, NAME:FOLDER or the path of an entry that ends in .toml
    pub image: String,
    /// The version to show
    #[command(flatten)]
    pub pin: PinArgs,
}

/// Arguments of `image pull`.
#[derive(Clone, Debug, Args)]
pub struct PullArgs {
    /// NAME, NAME:FOLDER or the path of an entry that ends in .toml
    #[arg(required = true, value_name = "IMAGE")]
    pub images: Vec<String>,
    /// The version to fetch
    #[command(flatten)]
    pub pin: PinArgs,
}

/// Arguments of `image verify`.
#[derive(Clone, Debug, Args)]
pub struct VerifyArgs {
    /// NAME, NAME@VERSION, NAME:FOLDER or PATH.toml; all if none is given
    #[arg(value_name = "IMAGE")]
    pub images: Vec<String>,
}

/// Arguments of `image build`.
#[derive(Clone, Debug, Args)]
pub struct BuildArgs {
    /// NAME or the path of an entry that ends in .toml
    pub image: String,
    /// Build it even if this recipe's image is in the cache
    #[arg(long)]
    pub force: bool,
}

/// Arguments of `image rm`.
#[derive(Clone, Debug, Args)]
pub struct RmArgs {
    /// NAME for all its versions, NAME@VERSION, NAME:FOLDER or PATH.toml
    #[arg(required = true, value_name = "IMAGE")]
    pub images: Vec<String>,
    /// Remove them even if a lab uses them, or if libvirt cannot say so
    #[arg(long)]
    pub force: bool,
}

/// Arguments of `image prune`.
#[derive(Clone, Debug, Args)]
pub struct PruneArgs {
    /// Prune even if libvirt cannot say which images labs use
    #[arg(long)]
    pub force: bool,
}

/// Runs `virtlab image …`. `in_use` finds out what labs boot from; only what removes images asks.
///
/// # Errors
/// What was asked for could not be done; with `verify`, if a file is not what it should be.
pub fn run(
    command: ImageCommand,
    catalogue: &Catalogue,
    store: &Store,
    in_use: &dyn Fn() -> Result<InUse>,
    printer: &Printer,
) -> Result<()> {
    match command {
        ImageCommand::List => list(catalogue, store, printer),
        ImageCommand::Show(args) => show(&args, catalogue, store, printer),
        ImageCommand::Pull(args) => pull(&args, catalogue, store, printer),
        ImageCommand::Verify(args) => verify(&args, catalogue, store, printer),
        ImageCommand::Build(args) => build(&args, catalogue, store, printer),
        ImageCommand::Rm(args) => rm(&args, catalogue, store, in_use, printer),
        ImageCommand::Prune(args) => prune(&args, store, in_use, printer),
    }
}

impl PinArgs {
    /// What is wanted of an image: what the lock file says, else the flags.
    ///
    /// # Errors
    /// If the lock file cannot be read, or a flag contradicts it.
    pub fn pin(&self, name: &str) -> Result<Pin> {
        let pin = match &self.lock {
            Some(path) => Lock::load(path)?.pin(name),
            None => Pin::default(),
        };
        pin.with_flags(self.channel.as_deref(), self.version.as_deref())
    }

    /// Enters the image into the lock file, if there is one and it does not have it yet.
    ///
    /// # Errors
    /// If the lock file cannot be written.
    pub fn record(&self, image: &Image) -> Result<()> {
        match &self.lock {
            Some(path) => Lock::enter(path, &image.spec.name, image.pin()),
            None => Ok(()),
        }
    }
}

#[derive(Serialize)]
struct ListRow {
    name: String,
    source: &'static str,
    config: Option<&'static str>,
    memory_mib: Option<u32>,
    cached: Vec<String>,
    description: String,
}

fn list(catalogue: &Catalogue, store: &Store, printer: &Printer) -> Result<()> {
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

#[derive(Serialize)]
struct ShowRow {
    #[serde(flatten)]
    entry: ImageSpec,
    reference: Option<String>,
    digest: Option<Sha256>,
    cached: Vec<ShownFile>,
}

#[derive(Serialize)]
struct ShownFile {
    role: Role,
    name: String,
    path: PathBuf,
    size: u64,
    sha256: Sha256,
    verified_by: String,
}

fn show(args: &ShowArgs, catalogue: &Catalogue, store: &Store, printer: &Printer) -> Result<()> {
    let spec = catalogue.find(&args.image)?;
    // Kept files that are not there yet are no reason not to show the entry.
    let pin = args.pin.pin(&spec.name)?;
    if let Source::Local(_) = spec.source {
        refuse_version(&pin).with_context(|| format!("image `{}`", spec.name))?;
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
        cached: shown
            .map(|file| ShownFile {
                role: file.role,
                name: file.name.clone(),
                path: file.path.clone(),
                size: file.size,
                sha256: file.sha256,
                verified_by: file.verified_by.clone(),
            })
            .collect(),
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

fn pull(args: &PullArgs, catalogue: &Catalogue, store: &Store, printer: &Printer) -> Result<()> {
    let specs: Vec<ImageSpec> =
        args.images.iter().map(|image| catalogue.find(image)).collect::<Result<_>>()?;
    for spec in &specs {
        let image = store.pull(spec, &args.pin.pin(&spec.name)?, printer)?;
        args.pin.record(&image)?;
        printer.data(image.reference);
    }
    Ok(())
}

fn verify(
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

fn build(args: &BuildArgs, catalogue: &Catalogue, store: &Store, printer: &Printer) -> Result<()> {
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

fn rm(
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

fn prune(
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

/// The records of the images that somebody named.
fn meant(images: &[String], catalogue: &Catalogue, store: &Store) -> Result<Vec<Record>> {
    let all = store.records()?;
    let mut meant: Vec<Record> = Vec::new();
    for image in images {
        let records = if Catalogue::is_place(image) {
            store.records_of(&catalogue.find(image)?)?
        } else {
            let is_meant = |record: &&Record| record.name == *image || record.reference == *image;
            all.iter().filter(is_meant).cloned().collect()
        };
        ensure!(!records.is_empty(), "image `{image}` is not in the cache");
        let is_new = |record: &Record| !meant.contains(record);
        let new: Vec<Record> = records.into_iter().filter(is_new).collect();
        meant.extend(new);
    }
    Ok(meant)
}

fn source(spec: &ImageSpec) -> &'static str {
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
const OR_FORCE: &str = "finding out which images labs use (`--force` removes without that)";

#[cfg(test)]
mod tests {
    use clap::CommandFactory;
    use clap::Parser;

    use super::*;

    #[derive(Parser)]
    #[command(version)]
    struct Cli {
        #[command(subcommand)]
        command: ImageCommand,
    }

    #[test]
    fn the_flags_fit_together() {
        Cli::command().debug_assert();
        let words =
            ["image", "pull", "--channel", "beta", "--version", "1", "--lock", "l", "a", "b"];
        let ImageCommand::Pull(args) = Cli::try_parse_from(words).unwrap().command else {
            panic!("it is another command")
        };
        assert_eq!(args.images, ["a", "b"]);
        assert_eq!(args.pin.version.as_deref(), Some("1"));
    }

    #[test]
    fn a_lock_file_is_written_once_and_then_obeyed() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("kernel"), "one").unwrap();
        let entry = folder.path().join("mine.toml");
        let text = "version = 1\nname = \"mine\"\ndescription = \"\"\narguments = \"\"\n\
                    memory_mib = 64\nconfig = \"none\"\nready = \"config\"\n\
                    source.local.folder = \".\"\n[[file]]\nrole = \"kernel\"\nname = \"kernel\"\n";
        std::fs::write(&entry, text).unwrap();
        let fetcher = crate::images::Fetcher::new(crate::images::fetch::Patience::default());
        let store = Store::open(&folder.path().join("cache"), fetcher.unwrap()).unwrap();
        let catalogue = Catalogue::new(&[]).unwrap();
        let lock = folder.path().join("virtlab.lock");
        let pull = || {
            let (entry, lock) = (entry.to_str().unwrap(), lock.to_str().unwrap());
            let cli = Cli::try_parse_from(["image", "pull", "--lock", lock, entry]).unwrap();
            let in_use = || Ok(InUse::default());
            run(cli.command, &catalogue, &store, &in_use, &Printer::new(true, Format::Name))
        };
        pull().unwrap();
        let written = std::fs::read(&lock).unwrap();
        pull().unwrap();
        assert_eq!(std::fs::read(&lock).unwrap(), written);
        std::fs::write(folder.path().join("kernel"), "two").unwrap();
        let error = format!("{:#}", pull().unwrap_err());
        assert!(error.contains("`kernel` is not the file that was locked"), "{error}");
        assert_eq!(std::fs::read(&lock).unwrap(), written);
    }
}
