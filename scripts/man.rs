//! Writes a man page for each command into the folder that is named: `make install`.

use std::path::Path;
use std::{env, fs, io};

use clap::CommandFactory;
use virtlab::cli::Cli;

fn main() -> io::Result<()> {
    let folder = env::args_os().nth(1).expect("the folder for the pages is needed");
    write_pages(folder.as_ref())
}

/// Writes `virtlab.1`, `virtlab-create.1` and so on.
///
/// # Errors
/// If a file cannot be written.
pub(crate) fn write_pages(folder: &Path) -> io::Result<()> {
    fs::create_dir_all(folder)?;
    clap_mangen::generate_to(Cli::command(), folder)
}
