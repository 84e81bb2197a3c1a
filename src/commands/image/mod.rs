//! `virtlab image`: which images there are, and which of them are here.

mod get;
mod list;
mod remove;
mod show;
mod verify;

use std::path::PathBuf;

use anyhow::{Result, ensure};
use serde::Serialize;

use crate::cli::image::ImageCommand;
use crate::images::index::Record;
use crate::images::{Catalogue, ImageFile, InUse, Library, Role, Sha256};
use crate::output::{Format, Printer};
use crate::session::Session;

/// Runs `virtlab image …` with the user's own cache.
pub(super) fn run(session: &Session, command: ImageCommand) -> Result<()> {
    let store = Library::open_default()?;
    let in_use = || session.images_in_use();
    run_on(command, &session.catalogue()?, &store, &in_use, session.printer)
}

/// The same with any cache. `in_use` finds out what labs boot from; only what removes images asks.
fn run_on(
    command: ImageCommand,
    catalogue: &Catalogue,
    store: &Library,
    in_use: &dyn Fn() -> Result<InUse>,
    printer: &Printer,
) -> Result<()> {
    match command {
        ImageCommand::List => list::list(catalogue, store, printer),
        ImageCommand::Show(args) => show::show(&args, catalogue, store, printer),
        ImageCommand::Pull(args) => get::pull(&args, catalogue, store, printer),
        ImageCommand::Verify(args) => verify::verify(&args, catalogue, store, printer),
        ImageCommand::Build(args) => get::build(&args, catalogue, store, printer),
        ImageCommand::Rm(args) => remove::rm(&args, catalogue, store, in_use, printer),
        ImageCommand::Prune(args) => remove::prune(&args, store, in_use, printer),
    }
}

/// A file of an image, for programs.
#[derive(Serialize)]
struct FileRow {
    role: Role,
    name: String,
    path: PathBuf,
    size: u64,
    sha256: Sha256,
    verified_by: String,
}

impl From<&ImageFile> for FileRow {
    fn from(file: &ImageFile) -> Self {
        Self {
            role: file.role,
            name: file.name.clone(),
            path: file.path.clone(),
            size: file.size,
            sha256: file.sha256,
            verified_by: file.verified_by.clone(),
        }
    }
}

/// Whether a program reads what is printed; people get a line as soon as there is one to say.
fn is_for_programs(printer: &Printer) -> bool {
    matches!(printer.format(), Format::Json | Format::Yaml)
}

/// The records of the images that somebody named.
fn meant(images: &[String], catalogue: &Catalogue, store: &Library) -> Result<Vec<Record>> {
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

#[cfg(test)]
mod tests {
    use clap::{CommandFactory, Parser};

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
        let store = Library::open(&folder.path().join("cache"), fetcher.unwrap()).unwrap();
        let catalogue = Catalogue::new(&[]).unwrap();
        let lock = folder.path().join("virtlab.lock");
        let pull = || {
            let (entry, lock) = (entry.to_str().unwrap(), lock.to_str().unwrap());
            let cli = Cli::try_parse_from(["image", "pull", "--lock", lock, entry]).unwrap();
            let in_use = || Ok(InUse::default());
            run_on(cli.command, &catalogue, &store, &in_use, &Printer::new(true, Format::Name))
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
