//! Snapshots of a whole lab: what its cluster held is there again, nobody types into a node that goes on, and a run that is
//! killed leaves a lab that is whole or a snapshot that is.

use std::cell::RefCell;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::time::Instant;

use serde_json::Value;

use crate::behind::tiny_image;
use crate::harness::{LabGuard, Said, etcd_get, etcd_put, everything_there, run, virsh, virtlab};
use crate::killing::{Change, killed_at_each_call};
use crate::knocking::Log;

const LAB: &str = "back";

#[test]
fn a_restored_cluster_has_what_it_held_and_gets_no_key() {
    let before = everything_there();
    let guard = LabGuard(LAB);
    virtlab(&["create", LAB, "--nodes", "3", "--memory", "512MiB"]).ok();
    etcd_put(LAB, 1, "old", "1");
    let saved = virtlab(&["snapshot", "save", LAB, "base", "-o", "json"]).json();
    let bytes = saved["snapshots"][0]["bytes"].as_u64().unwrap();
    assert!((30 << 20..1536 << 20).contains(&bytes), "{saved:#}");
    etcd_put(LAB, 1, "old", "2");
    etcd_put(LAB, 1, "new", "1");
    nobody_else_reads_it();
    let again = virtlab(&["snapshot", "save", LAB, "base"]).refused();
    assert!(again.contains("has a snapshot `base` already"), "{again}");

    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("libvirtd.log");
    let log = Log::new(&path);
    // As often as one likes.
    for _ in 0..2 {
        let begun = Instant::now();
        let restored = virtlab(&["snapshot", "restore", LAB]);
        println!("restored and healthy after {:.1} s", begun.elapsed().as_secs_f64());
        assert_eq!(restored.code, Some(0), "{}", restored.stderr);
        assert_eq!(restored.stdout.matches("ready").count(), 3, "{}", restored.stdout);
        assert_eq!((etcd_get(LAB, 1, "old").as_str(), etcd_get(LAB, 1, "new").as_str()), ("1", ""));
        etcd_put(LAB, 1, "old", "3");
    }
    assert_eq!(log.keys(), Vec::<u64>::new(), "keys were typed into systems that run");
    drop(log);
    let known = virtlab(&["events", LAB, "-o", "json"]).ok();
    let known: Value = serde_json::from_str(known.lines().next().unwrap()).unwrap();
    for node in known["nodes"].as_array().unwrap() {
        assert_eq!(node["restored"], true, "{node:#}");
        assert!(node["stages"].get("script").is_none(), "{node:#}");
    }

    // QEMU saves nobody twice in one pause.
    virtlab(&["pause", "back-3"]).ok();
    for name in ["p1", "p2"] {
        virtlab(&["snapshot", "save", LAB, name]).ok();
    }
    virtlab(&["snapshot", "restore", LAB, "p2"]).ok();
    assert!(virsh(&["domstate", "back-3"]).starts_with("paused"));
    virtlab(&["snapshot", "rm", LAB, "p1", "p2"]).ok();

    // One that was stopped is stopped again, and what nodes need beside themselves comes back.
    virtlab(&["stop", "back-3", "--force"]).ok();
    virtlab(&["snapshot", "save", LAB]).ok();
    let list = virtlab(&["snapshot", "list", LAB, "-o", "name"]).ok();
    assert_eq!(list, "base\n1\n");
    run("pkill", &["-KILL", "-f", "virtlab.* serve back"]).ok();
    for node in ["back-1", "back-2"] {
        virsh(&["destroy", node]);
    }
    let restored = virtlab(&["snapshot", "restore", LAB, "1"]);
    assert_eq!(restored.code, Some(0), "{}", restored.stderr);
    assert_eq!(restored.stdout, "NODE    STATE\nback-1  ready\nback-2  ready\nback-3  stopped\n");
    virtlab(&["snapshot", "restore", LAB, "base"]).ok();
    let status: Value = virtlab(&["status", LAB, "-o", "json"]).json();
    assert_eq!(status["etcd"]["members"].as_array().unwrap().len(), 3, "{status:#}");
    assert_eq!((etcd_get(LAB, 1, "old").as_str(), etcd_get(LAB, 1, "new").as_str()), ("1", ""));
    assert_eq!(virtlab(&["create", LAB, "--dry-run"]).ok(), "");

    virtlab(&["snapshot", "rm", LAB, "1"]).ok();
    assert_eq!(
        files(LAB),
        [
            "snapshot.base.1.memory",
            "snapshot.base.2.memory",
            "snapshot.base.3.memory",
            "snapshot.base.json"
        ]
    );
    drop(guard);
    assert_eq!(everything_there(), before);
}

#[test]
fn snapshots_killed_at_any_call_leave_a_whole_lab_or_a_whole_snapshot() {
    let home = tempfile::tempdir().unwrap();
    let image = tiny_image(home.path());
    let _guard = LabGuard("torn-up");
    let create = ["create", "torn-up", "--image", &image, "--nodes=2", "--memory=256MiB"];
    virtlab(&[&create[..], &["--virt-type=qemu", "--no-wait"]].concat()).ok();
    virtlab(&["snapshot", "save", "torn-up", "base"]).ok();
    let base = files("torn-up");
    assert_eq!(base.len(), 3, "{base:?}");
    let ids = || ["torn-up-1", "torn-up-2"].map(|node| virsh(&["domid", node]));
    let known = RefCell::new(ids());
    let runs = |when: &str| {
        let running = virsh(&["list", "--state-running", "--name"]);
        let running: Vec<&str> = running.split_whitespace().collect();
        assert!(running.contains(&"torn-up-1") && running.contains(&"torn-up-2"), "{when}");
    };
    let is_saved = |said: &Said, when: &str| {
        let is_there = said.stderr.contains("has a snapshot `k` already");
        assert!(said.code == Some(0) || is_there, "{when}: {}", said.stderr);
        // No node was stopped for it.
        assert_eq!(*known.borrow(), ids(), "{when}");
        let all = files("torn-up");
        assert!(all.len() == 6 && base.iter().all(|file| all.contains(file)), "{when}: {all:?}");
        runs(when);
        virtlab(&["snapshot", "rm", "torn-up", "k"]).ok();
        assert_eq!(files("torn-up"), base, "{when}");
    };
    let is_restored = |said: &Said, when: &str| {
        assert_eq!(said.code, Some(0), "{when}: {}", said.stderr);
        runs(when);
        assert_eq!(files("torn-up"), base, "{when}");
        *known.borrow_mut() = ids();
    };
    killed_at_each_call(
        &Change { args: &["snapshot", "save", "torn-up", "k"], check: &is_saved },
        &Change {
            args: &["snapshot", "restore", "torn-up", "base", "--no-wait"],
            check: &is_restored,
        },
    );
}

/// The memory of nodes holds secrets: guests reach the folder by TFTP, and so do the host's other users.
fn nobody_else_reads_it() {
    for file in files(LAB) {
        let path = format!("/var/lib/libvirt/virtlab-{LAB}/{file}");
        let mode = fs::metadata(&path).unwrap().permissions().mode();
        assert_eq!(mode & 0o077, 0, "{path}: {mode:o}");
    }
}

/// The snapshots' files of a lab.
fn files(lab: &str) -> Vec<String> {
    let entries = fs::read_dir(format!("/var/lib/libvirt/virtlab-{lab}")).unwrap();
    let names = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap());
    let mut names: Vec<String> = names.filter(|name| name.starts_with("snapshot.")).collect();
    names.sort();
    names
}
