//! Nodes that are stopped, started, paused, and that boot anew however that came: each joins its cluster again, and
//! nothing is lost.

use std::time::{Duration, Instant};

use serde_json::Value;

use crate::harness::{LabGuard, Said, etcd_get, etcd_put, is_healthy, virsh, virtlab, wait_until};
use crate::killing::{Change, killed_at_each_call};
use crate::terminal::reboot_inside;

const LONG: Duration = Duration::from_secs(300);
const LAB: &str = "again";

#[test]
fn power_of_nodes_that_boot_anew_join_their_cluster_and_a_lab_that_was_off_founds_a_new_one() {
    let _guard = LabGuard(LAB);
    virtlab(&["create", LAB, "--nodes", "3", "--memory", "512MiB"]).ok();
    etcd_put(LAB, 1, "testing", "kept");

    let said = timed("restart again-2", || virtlab(&["restart", "again-2"]));
    assert_eq!(said.stdout, "NODE     STATE\nagain-2  ready\n", "{}", said.stderr);
    // Its system answered the power button.
    assert!(!said.stderr.contains("loses its power"), "{}", said.stderr);
    assert_whole(2);

    timed("virsh reset again-1", || {
        virsh(&["reset", "again-1"]);
        wait_until("a lost node is noticed", LONG, || !is_healthy(LAB));
        wait_until("three members again after a reset", LONG, || is_healthy(LAB));
    });
    assert_whole(1);

    timed("reboot inside again-3", || {
        reboot_inside("again-3");
        wait_until("a lost node is noticed", LONG, || !is_healthy(LAB));
        wait_until("three members again after a reboot", LONG, || is_healthy(LAB));
    });
    assert_whole(3);

    // The power is taken away and comes back.
    virsh(&["destroy", "again-2"]);
    let said = timed("virsh destroy again-2; virtlab start again", || virtlab(&["start", LAB]));
    assert_eq!(said.code, Some(0), "{}", said.stderr);
    assert_whole(2);

    a_stopped_node_is_wanted_stopped();
    assert_whole(3);
    a_paused_node_is_wanted_paused();
    assert_whole(2);

    virtlab(&["stop", LAB]).ok();
    assert_eq!(states(), ["stopped", "stopped", "stopped"]);
    virtlab(&["wait", LAB, "--for", "off", "--timeout", "0s"]).ok();
    let said = timed("all stopped and started", || virtlab(&["start", LAB]));
    assert_eq!(said.code, Some(0), "{}", said.stderr);
    assert!(said.stderr.contains("its etcd is a new cluster"), "{}", said.stderr);
    assert!(is_healthy(LAB));
    assert_eq!(etcd_get(LAB, 1, "testing"), "");
}

fn a_stopped_node_is_wanted_stopped() {
    let stopped = virtlab(&["stop", "again-3"]);
    assert_eq!(stopped.stdout, "NODE     STATE\nagain-3  stopped\n", "{}", stopped.stderr);
    assert!(!stopped.stderr.contains("loses its power"), "{}", stopped.stderr);
    // The two others are a healthy cluster, and nobody starts or awaits the third.
    wait_until("a leader without again-3", LONG, || is_healthy(LAB));
    virtlab(&["create", LAB]).ok();
    virtlab(&["wait", LAB]).ok();
    virtlab(&["wait", LAB, "--for", "etcd"]).ok();
    assert_eq!(states(), ["ready", "ready", "stopped"]);
    let verified = virtlab(&["verify", LAB]);
    let (two, who) = ("etcd: healthy, 2 of 3 members answer", "; `again-3` is stopped");
    let said = &verified.stderr;
    assert!(verified.code == Some(0) && said.contains(two) && said.contains(who), "{said}");
    wait_until("the boot server to tell it", LONG, || {
        let events = virtlab(&["events", LAB]).ok();
        events.contains(two) && events.contains(who)
    });
    assert!(virtlab(&["wait", "again-3"]).refused().contains("virtlab start again-3"));
    virtlab(&["start", "again-3"]).ok();
}

fn a_paused_node_is_wanted_paused() {
    virtlab(&["pause", "again-2"]).ok();
    virtlab(&["create", LAB, "--no-wait"]).ok();
    assert_eq!(states()[1], "paused");
    virtlab(&["resume", "again-2"]).ok();
    wait_until("three members again after a pause", LONG, || is_healthy(LAB));
}

#[test]
fn power_verbs_killed_at_any_call_are_completed_by_the_next_run() {
    let _guard = LabGuard("cut");
    let create = ["create", "cut", "--nodes", "2", "--memory", "512MiB", "--virt-type", "qemu"];
    virtlab(&[&create[..], &["--no-wait"]].concat()).ok();
    let running = || {
        let names = virsh(&["list", "--state-running", "--name"]);
        let mut names: Vec<&str> = names.split_whitespace().collect();
        names.sort_unstable();
        names.join(" ")
    };
    let is_off = |said: &Said, when: &str| {
        assert_eq!(said.code, Some(0), "{when}: {}", said.stderr);
        assert_eq!(running(), "", "{when}");
        // It is wanted so.
        assert_eq!(virtlab(&["create", "cut", "--dry-run"]).ok(), "", "{when}");
    };
    let is_on = |said: &Said, when: &str| {
        assert_eq!(said.code, Some(0), "{when}: {}", said.stderr);
        assert_eq!(running(), "cut-1 cut-2", "{when}");
        assert_eq!(virtlab(&["create", "cut", "--dry-run"]).ok(), "", "{when}");
    };
    killed_at_each_call(
        &Change { args: &["stop", "cut", "--timeout", "1s"], check: &is_off },
        &Change { args: &["start", "cut", "--no-wait"], check: &is_on },
    );
}

fn timed<T>(what: &str, work: impl FnOnce() -> T) -> T {
    let begun = Instant::now();
    let result = work();
    println!("{what}: {:.1} s", begun.elapsed().as_secs_f64());
    result
}

/// Three healthy members, and what was written before anything happened; asked of the node with this index.
fn assert_whole(node: usize) {
    let status: Value = virtlab(&["status", LAB, "-o", "json"]).json();
    assert_eq!(status["etcd"]["healthy"], true, "{status:#}");
    assert_eq!(status["etcd"]["members"].as_array().unwrap().len(), 3, "{status:#}");
    assert_eq!(etcd_get(LAB, node, "testing"), "kept");
}

fn states() -> Vec<String> {
    let status: Value = virtlab(&["status", LAB, "-o", "json"]).json();
    let state = |node: &Value| node["state"].as_str().unwrap().to_owned();
    status["nodes"].as_array().unwrap().iter().map(state).collect()
}
