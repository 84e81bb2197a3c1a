//! What must hold of everything that comes from outside, whatever it is. `make fuzz` looks for texts of which it does not
//! (the crate in `fuzz/` takes the properties from here); what it has found so far is tried with every `cargo test`.

mod discovery;
mod journal;
mod lab_file;
mod mark;

use std::path::Path;

use fs_err as fs;

#[test]
fn what_fuzzing_found_of_lab_files_holds() {
    every("lab_file", lab_file::holds);
}

#[test]
fn what_fuzzing_found_of_marks_holds() {
    every("mark", mark::holds);
}

#[test]
fn what_fuzzing_found_of_journals_holds() {
    every("journal", journal::holds);
}

#[test]
fn what_fuzzing_found_of_the_discovery_protocol_holds() {
    every("discovery", discovery::holds);
}

/// Tries every file of a corpus.
fn every(corpus: &str, holds: fn(&[u8])) {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fuzz/corpus").join(corpus);
    let files: Vec<_> = fs::read_dir(folder).unwrap().map(|item| item.unwrap().path()).collect();
    assert!(!files.is_empty());
    for file in files {
        let data = fs::read(&file).unwrap();
        let held = std::panic::catch_unwind(|| holds(&data));
        assert!(held.is_ok(), "it does not hold of {}", file.display());
    }
}
