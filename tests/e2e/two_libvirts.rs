//! Two libvirtds of two hosts that share a home: labs of one name do not touch each other.

use std::path::Path;
use std::process::Command;

use crate::harness::{LabGuard, Said, run, virtlab_command};

const CREATE: &str = "create twin --nodes 1 --memory 512MiB --no-wait";

#[test]
fn labs_of_one_name_in_two_libvirts_keep_out_of_each_others_way() {
    let _guard = LabGuard("twin");
    let home = tempfile::tempdir().unwrap();
    let virtlab = |args: &str| -> Said {
        let args: Vec<&str> = args.split(' ').collect();
        let output = virtlab_command(&args).env("XDG_STATE_HOME", home.path()).output();
        output.unwrap().into()
    };
    virtlab(CREATE).ok();
    let ours = folders(home.path());
    assert_eq!(ours.len(), 1, "{ours:?}");

    // Made, looked at and destroyed over there; what is ours lives on.
    let program = env!("CARGO_BIN_EXE_virtlab");
    let there = elsewhere(
        home.path(),
        &format!(
            "{program} destroy twin; {program} {CREATE} && {program} status twin -o json && \
             ls $XDG_STATE_HOME/virtlab && {program} destroy twin"
        ),
    );
    assert!(there.stderr.contains("there is no lab `twin`"), "{}", there.stderr);
    let said = there.ok();
    assert!(said.contains("\"running\": true"), "{said}");
    assert_eq!(said.matches("twin.").count(), 2, "{said}");
    assert_eq!(folders(home.path()), ours);
    let status = virtlab("status twin -o json").json();
    assert_eq!(status["boot_server"]["running"], true);
    assert_eq!(status["nodes"][0]["domain"], "running");

    // Left over there, as when that host went away; not ours to remove.
    elsewhere(home.path(), &format!("{program} {CREATE}")).ok();
    assert_eq!(folders(home.path()).len(), 2);
    let serve = virtlab("serve twin").refused();
    assert!(serve.contains("several labs are called `twin`"), "{serve}");
    virtlab("destroy twin").ok();
    let left = folders(home.path());
    assert_eq!(left.len(), 1, "{left:?}");
    assert_ne!(left, ours);
    assert!(virtlab("destroy twin").refused().contains("there is no lab `twin`"));
    assert_eq!(folders(home.path()), left);
}

/// Runs a shell command beside another libvirtd, with the same home.
fn elsewhere(home: &Path, command: &str) -> Said {
    let sandbox = Path::new(env!("CARGO_MANIFEST_DIR")).join("scripts/sandbox.sh");
    let command = format!("export XDG_STATE_HOME={}; {command}", home.display());
    Command::new(sandbox).args(["bash", "-c", &command]).output().unwrap().into()
}

/// The names of the labs' folders.
fn folders(home: &Path) -> Vec<String> {
    let list = run("ls", &[home.join("virtlab").to_str().unwrap()]).ok();
    list.lines().filter(|name| name.starts_with("twin")).map(ToOwned::to_owned).collect()
}
