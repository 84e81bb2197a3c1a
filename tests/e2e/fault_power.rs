//! Nodes that are paused, killed and reset on purpose: the others see it, nothing that virtlab does brings them back before they
//! are healed, and then they are members of their cluster again.

use std::time::Duration;

use crate::harness::{
    LabGuard, Said, etcd_get, etcd_put, everything_there, ip, is_healthy, virsh, virtlab,
    wait_until,
};
use crate::killing::{Change, killed_at_each_call};
use crate::terminal::{hears, inside, pings};

const LONG: Duration = Duration::from_secs(120);
const LAB: &str = "struck";
const NODES: [&str; 3] = ["struck-1", "struck-2", "struck-3"];

#[test]
fn fault_power_pause_kill_and_reset_are_seen_by_the_others_and_healed() {
    let nothing = everything_there();
    let _guard = LabGuard(LAB);
    virtlab(&["create", LAB, "--nodes", "3", "--memory", "512MiB"]).ok();
    etcd_put(LAB, 1, "testing", "kept");
    let before = kept_of_the_lab();
    a_node_that_is_paused();
    assert_eq!(kept_of_the_lab(), before);
    a_leader_that_is_killed();
    assert_eq!(kept_of_the_lab(), before);
    a_node_that_is_reset();
    assert_eq!(kept_of_the_lab(), before);
    killed_while_it_strikes_and_heals();
    assert_eq!(kept_of_the_lab(), before);
    virtlab(&["fault", "kill", "struck-3"]).ok();
    virtlab(&["fault", "pause", "struck-2"]).ok();
    virtlab(&["destroy", LAB]).ok();
    assert_eq!(everything_there(), nothing);
}

fn a_node_that_is_paused() {
    let second = ip(LAB, 2);
    hears("struck-1", &second);
    let said = virtlab(&["fault", "pause", "struck-2"]).ok();
    assert!(
        said.starts_with("NODE      FAULT  SINCE  LEFT\nstruck-2  pause  0 s    -\n"),
        "{said}"
    );
    assert_eq!(domstate("struck-2"), "paused");
    assert!(!pings("struck-1", &second));
    is_told("struck-2", "paused", "paused");
    // Nobody lets it run again, but who heals it.
    virtlab(&["resume", "struck-2"]).ok();
    virtlab(&["restart", "struck-2", "--force", "--no-wait"]).ok();
    assert_eq!(domstate("struck-2"), "paused");
    virtlab(&["heal", "struck-2"]).ok();
    is_whole_again();
    hears("struck-1", &second);
    assert_eq!(etcd_get(LAB, 2, "testing"), "kept");

    // A node that a power verb paused stays so.
    virtlab(&["pause", "struck-2"]).ok();
    virtlab(&["fault", "pause", "struck-2"]).ok();
    virtlab(&["heal", LAB]).ok();
    assert_eq!(domstate("struck-2"), "paused");
    virtlab(&["resume", "struck-2"]).ok();
    is_whole_again();
}

fn a_leader_that_is_killed() {
    let leader = virtlab(&["status", LAB, "-o", "json"]).json()["etcd"]["leader"].clone();
    let leader = leader.as_str().unwrap();
    let index = NODES.iter().position(|node| *node == leader).unwrap() + 1;
    let other = index % 3 + 1;
    let said = virtlab(&["fault", "kill", LAB, "leader"]).ok();
    assert!(said.contains(&format!("\n{leader}  kill   ")), "{said}");
    assert_eq!(domstate(leader), "shut off");
    assert!(!pings(NODES[other - 1], &ip(LAB, index)));
    is_told(leader, "killed", "killed");
    // The others go on with another leader and what was written.
    wait_until("another leader", LONG, || {
        let again = virtlab(&["fault", "cut", LAB, "leader", "--dry-run"]);
        again.code == Some(0) && !again.stderr.contains(leader)
    });
    assert_eq!(etcd_get(LAB, other, "testing"), "kept");
    // Nobody starts it again, but who heals it.
    let started = virtlab(&["start", leader, "--timeout", "2s"]);
    let why = format!("{leader} is killed by a fault since ");
    assert!(started.code == Some(3) && started.stderr.contains(&why), "{}", started.stderr);
    assert_eq!(domstate(leader), "shut off");
    assert!(virtlab(&["fault", "reset", leader]).refused().contains("virtlab heal"));
    virtlab(&["heal"]).ok();
    virtlab(&["wait", LAB]).ok();
    is_whole_again();
    assert_eq!(etcd_get(LAB, index, "testing"), "kept");
}

fn a_node_that_is_reset() {
    let boot = || inside("struck-3", "cat /proc/sys/kernel/random/boot_id");
    let before = boot();
    let said = virtlab(&["fault", "reset", "struck-3", "-o", "json"]);
    assert_eq!(said.stderr, "struck-3 boots anew\n");
    let nodes = &said.json()["nodes"];
    assert_eq!(*nodes, serde_json::json!([{ "name": "struck-3", "lab": LAB, "faults": [] }]));
    // It has to be noticed first.
    wait_until("a lost node is noticed", LONG, || !is_healthy(LAB));
    is_whole_again();
    assert_ne!(boot(), before);
    assert_eq!(etcd_get(LAB, 3, "testing"), "kept");
}

fn killed_while_it_strikes_and_heals() {
    for (fault, struck) in [("pause", "paused"), ("kill", "shut off")] {
        let is_struck = |said: &Said, when: &str| {
            assert_eq!(said.code, Some(0), "{when}: {}", said.stderr);
            assert_eq!(domstate("struck-3"), struck, "{when}");
            assert_eq!(virtlab(&["create", LAB, "--dry-run"]).ok(), "", "{when}");
        };
        let is_healed = |said: &Said, when: &str| {
            assert_eq!(said.code, Some(0), "{when}: {}", said.stderr);
            assert_eq!(domstate("struck-3"), "running", "{when}");
            assert_eq!(virtlab(&["fault", "list", "-o", "name"]).ok(), "", "{when}");
        };
        killed_at_each_call(
            &Change { args: &["fault", fault, "struck-3"], check: &is_struck },
            &Change { args: &["heal", "struck-3"], check: &is_healed },
        );
    }
}

/// That all who look and wait are told, and nobody repairs it.
fn is_told(node: &str, state: &str, what: &str) {
    let why = format!("{node} is {what} by a fault since ");
    let status = virtlab(&["status", LAB, "-o", "json"]);
    assert!(status.stderr.contains(&why), "{}", status.stderr);
    let status = status.json();
    let nodes = status["nodes"].as_array().unwrap();
    let seen = nodes.iter().find(|it| it["name"] == node).unwrap();
    assert_eq!(seen["state"], state, "{status:#}");
    assert_eq!(status["differences"], serde_json::json!([]), "{status:#}");
    assert_eq!(virtlab(&["create", LAB, "--dry-run"]).ok(), "");
    let waited = virtlab(&["wait", LAB, "--timeout", "3s"]);
    assert!(waited.code == Some(3) && waited.stderr.contains(&why), "{}", waited.stderr);
}

fn is_whole_again() {
    wait_until("a healthy cluster of three", LONG, || {
        let status = virtlab(&["status", LAB, "-o", "json"]).json();
        let members = status["etcd"]["members"].as_array().map(Vec::len);
        status["etcd"]["healthy"] == true && members == Some(3)
    });
}

/// What libvirt keeps of the domains.
fn kept_of_the_lab() -> String {
    NODES.iter().map(|node| virsh(&["dumpxml", "--inactive", node])).collect()
}

pub(crate) fn domstate(node: &str) -> String {
    virsh(&["domstate", node]).trim().to_owned()
}
