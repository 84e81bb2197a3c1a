//! Nodes that boot anew, however that came: each joins its cluster again, and nothing is lost.

use std::time::Duration;

use serde_json::Value;

use crate::harness::{LabGuard, run, virsh, virtlab, wait_until};

const LONG: Duration = Duration::from_secs(300);

#[test]
fn a_node_that_boots_anew_joins_its_cluster_again_and_a_lab_that_was_off_founds_a_new_one() {
    let _guard = LabGuard("again");
    virtlab(&["create", "again", "--nodes", "3", "--memory", "512MiB"]).ok();
    put("again-1", "kept");

    virsh(&["reset", "again-1"]);
    wait_until("a lost node is noticed", LONG, || !is_healthy());
    wait_until("three members again after a reset", LONG, is_healthy);
    assert_eq!(get("again-1"), "kept");

    // The power is taken away and comes back.
    virsh(&["destroy", "again-2"]);
    virsh(&["start", "again-2"]);
    wait_until("a lost node is noticed", LONG, || !is_healthy());
    wait_until("three members again after a power cut", LONG, is_healthy);
    assert_eq!(get("again-2"), "kept");

    for node in ["again-1", "again-2", "again-3"] {
        virsh(&["destroy", node]);
    }
    for node in ["again-1", "again-2", "again-3"] {
        virsh(&["start", node]);
    }
    wait_until("a new cluster after all were off", LONG, is_healthy);
    assert_eq!(get("again-1"), "");
}

fn is_healthy() -> bool {
    let status: Value = virtlab(&["status", "again", "-o", "json"]).json();
    status["etcd"]["healthy"] == true
}

fn ip(node: &str) -> String {
    let status = virtlab(&["status", "again", "-o", "json"]).json();
    let nodes = status["nodes"].as_array().unwrap();
    let found = nodes.iter().find(|it| it["name"] == node).unwrap();
    found["ip"].as_str().unwrap().to_owned()
}

fn put(node: &str, value: &str) {
    etcdctl(node, &["put", "testing", value]);
}

fn get(node: &str) -> String {
    etcdctl(node, &["get", "testing", "--print-value-only"]).trim().to_owned()
}

fn etcdctl(node: &str, args: &[&str]) -> String {
    let endpoint = format!("--endpoints=http://{}:2379", ip(node));
    let args = [&["ETCDCTL_API=3", "etcdctl", &endpoint], args].concat();
    run("env", &args).ok()
}
