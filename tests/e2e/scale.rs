//! Labs that get more nodes and fewer while they run.

use std::time::Duration;

use serde_json::Value;

use crate::harness::{
    LabGuard, Said, etcd_get, etcd_put, everything_there, virsh, virtlab, wait_until,
};
use crate::killing::{Change, killed_at_each_call};

const LONG: Duration = Duration::from_secs(120);

#[test]
fn a_lab_grows_and_shrinks_while_it_runs_and_keeps_what_was_written() {
    let _guard = LabGuard("sizes");
    virtlab(&["create", "sizes", "--nodes", "3", "--memory", "512MiB"]).ok();
    etcd_put("sizes", 1, "testing", "kept");
    for nodes in [5_u32, 3, 1, 3] {
        let number = nodes.to_string();
        virtlab(&["scale", "sizes", &number]).ok();
        wait_until("a healthy cluster of that size", LONG, || is_healthy("sizes", nodes as usize));
        assert_eq!(etcd_get("sizes", 1, "testing"), "kept");
        assert_agrees("sizes", nodes);
        let again = virtlab(&["scale", "sizes", &number]);
        assert!(again.stderr.contains("nothing to do"), "{nodes}: {}", again.stderr);
    }
    let told = virtlab(&["create", "sizes", "--nodes", "2"]).refused();
    assert!(told.contains("`virtlab scale sizes 2`"), "{told}");
}

#[test]
fn nodes_beyond_the_voters_are_clients_of_the_cluster_and_come_back_and_go_as_such() {
    let _guard = LabGuard("clients");
    let size = ["--nodes", "3", "--voters", "2", "--memory", "512MiB", "--timeout", "10m"];
    virtlab(&[&["create", "clients"], &size[..]].concat()).ok();
    assert!(is_healthy("clients", 2));
    let table = virtlab(&["verify", "clients"]).ok();
    assert_eq!(words(&table, "clients-3"), ["clients-3", "yes", "client", "no", "-"]);
    etcd_put("clients", 3, "testing", "kept");
    let read = |node: usize| etcd_get("clients", node, "testing");
    assert_eq!(read(1), "kept");

    virsh(&["reset", "clients-3"]);
    wait_until("a lost client is noticed", LONG, || !is_healthy("clients", 2));
    wait_until("a client that boots anew", LONG, || is_healthy("clients", 2));
    assert_eq!(read(3), "kept");

    // The client and a member go; then a member and a client come.
    for (nodes, members) in [(1, 1), (3, 2)] {
        virtlab(&["scale", "clients", &nodes.to_string(), "--timeout", "10m"]).ok();
        wait_until("a healthy cluster", LONG, || is_healthy("clients", members));
        assert_eq!(read(nodes).trim(), "kept", "{nodes}");
    }
    let other = virtlab(&["create", "clients", "--voters", "3"]).refused();
    assert!(other.contains("--voters 3 (it has 2)"), "{other}");
}

#[test]
fn scaling_killed_at_any_call_is_completed_by_the_next_run() {
    let before = everything_there();
    let _guard = LabGuard("scaled");
    // A system that starts no etcd: what counts are libvirt's objects, and no boot is waited for.
    let folder = tempfile::tempdir().unwrap();
    let config = folder.path().join("nothing.ign");
    std::fs::write(&config, r#"{"ignition":{"version":"3.0.0"}}"#).unwrap();
    let config = format!("--config={}", config.display());
    let create = ["create", "scaled", "--nodes=2", "--memory=512MiB", "--disk=64MiB"];
    let rest = ["--ready=config", "--virt-type=qemu", "--no-wait", &config];
    virtlab(&[&create[..], &rest].concat()).ok();
    let is_done = |nodes: u32| {
        move |said: &Said, when: &str| {
            assert_eq!(said.code, Some(0), "{when}: {}", said.stderr);
            assert_agrees("scaled", nodes);
            let number = nodes.to_string();
            let rest = virtlab(&["scale", "scaled", &number, "--dry-run"]).ok();
            assert_eq!(rest, "", "{when}");
        }
    };
    killed_at_each_call(
        &Change { args: &["scale", "scaled", "3", "--no-wait"], check: &is_done(3) },
        &Change {
            args: &["scale", "scaled", "2", "--no-wait", "--stop-timeout=1s"],
            check: &is_done(2),
        },
    );
    virtlab(&["destroy", "scaled"]).ok();
    assert_eq!(everything_there(), before);
}

/// Domains, titles, marks, reservations and files are those of a lab of so many nodes.
#[track_caller]
pub(crate) fn assert_agrees(lab: &str, nodes: u32) {
    let names: Vec<String> = (1..=nodes).map(|index| format!("{lab}-{index}")).collect();
    let running = virsh(&["list", "--state-running", "--name"]);
    let mut running: Vec<&str> = running.split_whitespace().collect();
    running.sort_unstable();
    assert_eq!(running, names);
    let all = virsh(&["list", "--all", "--name"]);
    assert_eq!(all.split_whitespace().count(), names.len(), "{all}");
    let network = virsh(&["net-dumpxml", lab]);
    let size = format!("\"nodes\":{nodes},");
    // Before libvirt 9.7 the mark of an active network changes only in what libvirt keeps of it.
    let kept = virsh(&["net-dumpxml", "--inactive", lab]);
    assert!(unescaped(&kept).contains(&size), "{kept}");
    for (name, index) in names.iter().zip(1..) {
        let title = format!("virtlab {lab}: node {index} of {nodes}");
        assert!(network.contains(&format!("name='{name}'")), "{network}");
        for flags in [&["dumpxml", name][..], &["dumpxml", name, "--inactive"]] {
            let xml = virsh(flags);
            assert!(xml.contains(&format!("<title>{title}</title>")), "{xml}");
            assert!(unescaped(&xml).contains(&size), "{xml}");
        }
    }
    let pool = format!("virtlab-{lab}");
    virsh(&["pool-refresh", &pool]);
    let files = virsh(&["vol-list", &pool]);
    let gone = format!("{lab}-{}.", nodes + 1);
    assert!(!files.contains(&gone), "{files}");
}

fn words<'a>(table: &'a str, first: &str) -> Vec<&'a str> {
    let line = table.lines().find(|line| line.starts_with(first));
    line.unwrap_or_default().split_whitespace().collect()
}

fn unescaped(xml: &str) -> String {
    xml.replace("&quot;", "\"")
}

pub(crate) fn is_healthy(lab: &str, members: usize) -> bool {
    let status: Value = virtlab(&["status", lab, "-o", "json"]).json();
    let there = status["etcd"]["members"].as_array().map_or(0, Vec::len);
    status["etcd"]["healthy"] == true && there == members
}
