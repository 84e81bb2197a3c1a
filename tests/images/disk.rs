//! A disk that is full: a real one, a tmpfs of 1 MiB in a mount namespace of its own.

use std::path::PathBuf;
use std::process::Command;
use std::sync::atomic::AtomicBool;

use indicatif::ProgressBar;

use crate::faulty::{Faulty, answer};
use crate::support::{bytes, fetcher, is_rerun, rerun, variable};

#[test]
fn a_full_disk_is_said_and_what_arrived_is_kept() {
    if is_rerun() {
        return inside_a_small_disk();
    }
    let folder = tempfile::tempdir().unwrap();
    let file = bytes(2 << 20, 1);
    let length = format!("Content-Length: {}", file.len());
    let server = Faulty::start(vec![answer("200 OK", &[&length], &file)]);
    let script = "mount -t tmpfs -o size=1m tmpfs \"$DISK\" && exec \"$@\"";
    rerun(
        "disk::a_full_disk_is_said_and_what_arrived_is_kept",
        Command::new("unshare")
            .args(["--user", "--map-root-user", "--mount", "sh", "-c", script, "sh"])
            .arg(std::env::current_exe().unwrap())
            .env("DISK", folder.path())
            .env("FROM", server.url("/f")),
    );
    assert_eq!(server.requests().len(), 1, "a full disk was tried again");
}

fn inside_a_small_disk() {
    let part = PathBuf::from(variable("DISK")).join("file.part");
    let url = variable("FROM");
    let stop = AtomicBool::new(false);
    let error = fetcher().download(&url, &part, &ProgressBar::hidden(), &stop).unwrap_err();
    let error = format!("{error:#}");
    let expected = format!(
        "fetching {url}: the disk is full; what has arrived is kept in {}, and the next run goes \
         on there: ",
        part.display()
    );
    assert!(error.starts_with(&expected) && error.contains("No space left"), "{error}");
    let kept = std::fs::read(&part).unwrap();
    assert!(kept.len() > 500_000 && bytes(2 << 20, 1).starts_with(&kept), "{}", kept.len());
}
