//! What the tests share.

use std::path::Path;
use std::process::Command;
use std::time::Duration;

use virtlab::images::fetch::Patience;
use virtlab::images::store::Removed;
use virtlab::images::{Catalogue, Fetcher, ImageSpec, InUse, Library};
use virtlab::output::{Format, Printer};

/// Patience for servers that are microseconds away.
pub(crate) const HASTE: Patience = Patience {
    connect: Duration::from_secs(2),
    stall: Duration::from_millis(400),
    attempts: 3,
    pause: Duration::from_millis(10),
};

pub(crate) fn fetcher() -> Fetcher {
    Fetcher::new(HASTE).unwrap()
}

pub(crate) fn store(folder: &Path) -> Library {
    Library::open(&folder.join("cache"), fetcher()).unwrap()
}

pub(crate) fn printer() -> Printer {
    Printer::new(true, Format::Table)
}

/// Removes an image, `NAME` for all versions of it or `NAME@VERSION`.
pub(crate) fn remove(store: &Library, reference: &str) -> Removed {
    let mut records = store.records().unwrap();
    records.retain(|record| record.name == reference || record.reference == reference);
    assert!(!records.is_empty(), "{reference} is not there");
    store.remove(records, &InUse::default(), &printer()).unwrap()
}

/// Some bytes that do not repeat with a period that a resume could hide behind.
pub(crate) fn bytes(length: usize, seed: u32) -> Vec<u8> {
    let mut state = seed.wrapping_mul(2_654_435_761).wrapping_add(1);
    let next = || {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        state.to_be_bytes()[0]
    };
    std::iter::repeat_with(next).take(length).collect()
}

/// An entry of the user's own, `mine.toml` in their folder: what every entry says, and `rest`.
pub(crate) fn mine(folder: &Path, rest: &str) -> ImageSpec {
    let path = folder.join("mine.toml");
    std::fs::write(&path, format!("{MINE}{rest}")).unwrap();
    Catalogue::new(&[]).unwrap().find(path.to_str().unwrap()).unwrap()
}

const MINE: &str = r#"version = 1
name = "mine"
description = "Mine"
arguments = "console=ttyS0"
memory_mib = 512
config = "none"
ready = "config"
"#;

/// An embedded entry, with its servers replaced by ours.
pub(crate) fn redirected(folder: &Path, name: &str, replacements: &[(&str, &str)]) -> ImageSpec {
    let text = std::fs::read_to_string(format!("images/{name}.toml")).unwrap();
    let text = replacements.iter().fold(text, |text, (from, to)| {
        assert!(text.contains(from), "{name}.toml no longer has {from}");
        text.replace(from, to)
    });
    let own = folder.join("own");
    std::fs::create_dir_all(&own).unwrap();
    std::fs::write(own.join(format!("{name}.toml")), text).unwrap();
    Catalogue::new(&[own]).unwrap().find(name).unwrap()
}

/// The TOML block of docs/images.md that starts with this line.
pub(crate) fn documented(start: &str) -> String {
    let docs = std::fs::read_to_string("docs/images.md").unwrap();
    let mut blocks = docs.split("```toml\n").skip(1).filter_map(|rest| rest.split("```").next());
    let block = blocks.find(|block| block.starts_with(start));
    block
        .unwrap_or_else(|| panic!("docs/images.md has no block that starts with {start}"))
        .to_owned()
}

/// Runs a program that the tests need; its absence is a failure that names the package.
pub(crate) fn run(package: &str, command: &mut Command) -> Vec<u8> {
    let program = command.get_program().to_string_lossy().into_owned();
    let output = match command.output() {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            panic!("this test needs `{program}`: install the package `{package}`")
        }
        output => output.unwrap(),
    };
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{program}: {}\n{errors}", output.status);
    output.stdout
}

/// Whether this is the process that [`rerun`] has started, in which a test does its inner half.
pub(crate) fn is_rerun() -> bool {
    std::env::var_os(RERUN).is_some()
}

/// Runs the calling test once more in another process, where its environment can be chosen.
pub(crate) fn rerun(test: &str, command: &mut Command) {
    command.env(RERUN, "1").args(["--exact", test, "--nocapture"]);
    let output = command.output().unwrap();
    let report = String::from_utf8_lossy(&output.stdout);
    assert!(report.contains("1 passed"), "{report}{}", String::from_utf8_lossy(&output.stderr));
}

const RERUN: &str = "VIRTLAB_TEST_RERUN";

/// A variable that [`rerun`]'s caller has set.
pub(crate) fn variable(name: &str) -> String {
    std::env::var(name).unwrap_or_else(|_| panic!("this is a part of another test, which runs it"))
}
