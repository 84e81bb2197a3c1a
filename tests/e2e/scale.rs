//! Labs that get more nodes and fewer while they run.

use std::time::Duration;

use serde_json::Value;

use crate::harness::{LabGuard, Said, everything_there, run, virsh, virtlab, wait_until};
use crate::killing::{Change, killed_at_each_call};

const LONG: Duration = Duration::from_secs(120);

#[test]
fn a_lab_grows_and_shrinks_while_it_runs_and_keeps_what_was_written() {
    let _guard = LabGuard("sizes");
    virtlab(&["create", "sizes", "--nodes", "3", "--memory", "512MiB"]).ok();
    etcdctl(&["put", "testing", "kept"]);
    for nodes in [5, 3, 1, 3] {
        let number = nodes.to_string();
        virtlab(&["scale", "sizes", &number]).ok();
        wait_until("a healthy cluster of that size", LONG, || is_healthy(nodes));
        assert_eq!(etcdctl(&["get", "testing", "--print-value-only"]).trim(), "kept");
        assert_agrees("sizes", nodes);
        let again = virtlab(&["scale", "sizes", &number]);
        assert!(again.stderr.contains("nothing to do"), "{nodes}: {}", again.stderr);
    }
    let told = virtlab(&["create", "sizes", "--nodes", "2"]).refused();
    assert!(told.contains("`virtlab scale sizes 2`"), "{told}");
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
fn assert_agrees(lab: &str, nodes: u32) {
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

fn unescaped(xml: &str) -> String {
    xml.replace("&quot;", "\"")
}

fn is_healthy(nodes: u32) -> bool {
    let status: Value = virtlab(&["status", "sizes", "-o", "json"]).json();
    let members = status["etcd"]["members"].as_array().map_or(0, Vec::len);
    status["etcd"]["healthy"] == true && members == nodes as usize
}

/// Asks the first node, which stays.
fn etcdctl(args: &[&str]) -> String {
    let status = virtlab(&["status", "sizes", "-o", "json"]).json();
    let ip = status["nodes"][0]["ip"].as_str().unwrap();
    let endpoint = format!("--endpoints=http://{ip}:2379");
    run("env", &[&["ETCDCTL_API=3", "etcdctl", &endpoint], args].concat()).ok()
}
