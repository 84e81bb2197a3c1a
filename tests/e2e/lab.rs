//! A lab from nothing to a healthy etcd cluster, and back to nothing.

use std::time::Duration;

use crate::harness::{LabGuard, everything_there, run, state_folder, virsh, virtlab, wait_until};

#[test]
fn three_nodes_become_a_healthy_etcd_cluster_and_leave_nothing() {
    let before = everything_there();
    let guard = LabGuard("three");
    let said = virtlab(&[
        "create",
        "three",
        "--nodes",
        "3",
        "--memory",
        "512MiB",
        "--description",
        "<&'\">",
    ]);
    assert_eq!(said.code, Some(0), "{}", said.stderr);
    assert!(said.stderr.contains("etcd: healthy, 3 members"), "{}", said.stderr);

    let status = virtlab(&["status", "three", "-o", "json"]).json();
    assert_eq!(status["etcd"]["healthy"], true);
    let nodes = status["nodes"].as_array().unwrap();
    assert_eq!(nodes.len(), 3);
    for node in nodes {
        assert_eq!(node["state"], "ready");
        for stage in ["script", "kernel", "initrd", "config", "ready"] {
            assert!(node["seconds"][stage].as_f64().unwrap() > 0.0, "{node}");
        }
        assert!(node["bytes"]["kernel"].as_u64().unwrap() > 5_000_000, "{node}");
    }

    // What libvirt and its users see.
    let xml = virsh(&["dumpxml", "three-2"]);
    assert!(xml.contains("<title>virtlab three: node 2 of 3</title>"), "{xml}");
    assert!(xml.contains("<description>&lt;&amp;"), "{xml}");
    assert!(
        xml.contains("<boot dev='network'/>") && xml.contains("<model type='virtio'/>"),
        "{xml}"
    );
    assert!(xml.contains("xmlns:virtlab="), "{xml}");
    let leases = virsh(&["net-dhcp-leases", "three"]);
    for node in nodes {
        assert!(leases.contains(&format!("{}/24", node["ip"].as_str().unwrap())), "{leases}");
        assert!(leases.contains(node["mac"].as_str().unwrap()), "{leases}");
    }
    the_console_works_beside_its_log("three-1");

    // What the folder holds is for its owner only.
    let modes = run("stat", &["-c", "%a", state_folder("three").to_str().unwrap()]).ok();
    assert_eq!(modes, "700\n");
    let content = state_folder("three").join("content.json");
    assert_eq!(run("stat", &["-c", "%a", content.to_str().unwrap()]).ok(), "600\n");

    // Once more is a no-op that says so.
    let again = virtlab(&["create", "three"]);
    assert_eq!(again.code, Some(0), "{}", again.stderr);
    assert!(
        again.stderr.contains("lab `three` is there already, nothing to do"),
        "{}",
        again.stderr
    );
    let other = virtlab(&["create", "three", "--nodes", "4"]);
    assert_eq!(other.code, Some(1));
    assert!(other.stderr.contains("--nodes 4 (it has 3)"), "{}", other.stderr);

    virtlab(&["destroy", "three"]).ok();
    assert_eq!(everything_there(), before);
    assert!(!state_folder("three").exists());
    drop(guard);
}

/// `virsh console` gets a shell while libvirt keeps the log.
fn the_console_works_beside_its_log(domain: &str) {
    let script = format!(
        "(sleep 1; printf '\\r'; sleep 1; printf 'echo con''sole-works\\r'; sleep 2) | \
        timeout 20 script -qfc 'virsh console --force {domain}' /dev/null; true"
    );
    let mut said = String::new();
    wait_until("a shell on the serial console", Duration::from_secs(60), || {
        said = run("bash", &["-c", &script]).stdout;
        said.contains("console-works")
    });
    let log =
        std::fs::read_to_string(format!("/var/lib/libvirt/virtlab-three/{domain}.console.log"));
    assert!(log.unwrap().contains("console-works"));
}

#[test]
fn a_wait_that_times_out_says_what_is_missing_and_shows_the_console() {
    let _guard = LabGuard("late");
    let said =
        virtlab(&["create", "late", "--nodes", "1", "--memory", "512MiB", "--timeout", "4s"]);
    assert_eq!(said.code, Some(3), "{}", said.stderr);
    assert!(said.stderr.contains("error: lab `late` is not ready after 4.0s"), "{}", said.stderr);
    assert!(said.stderr.contains("  late-1: "), "{}", said.stderr);
    assert!(said.stderr.contains("    | "), "{}", said.stderr);
}

#[test]
fn a_lab_without_etcd_is_verified_by_what_makes_it_ready() {
    let _guard = LabGuard("plain");
    let config = "/tmp/virtlab-e2e-plain.ign.j2";
    std::fs::write(config, "{\"ignition\":{\"version\":\"3.3.0\"}}\n").unwrap();
    let create = ["create", "plain", "--nodes", "2", "--memory", "512MiB", "--timeout", "10m"];
    virtlab(&[&create[..], &["--ready", "config", "--config", config]].concat()).ok();
    std::fs::remove_file(config).unwrap();
    let said = virtlab(&["verify", "plain"]);
    assert_eq!(said.code, Some(0), "{}", said.stderr);
    assert_eq!(said.stdout, "NODE     READY\nplain-1  yes\nplain-2  yes\n");
    let note = "no etcd answers, and none is expected: a node of lab `plain` is ready when its config is fetched";
    assert!(said.stderr.contains(note), "{}", said.stderr);
}
