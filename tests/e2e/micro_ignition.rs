//! Debian's real `ignition` reads a config of ours over `ignition.config.url`, and etcd comes up from
//! the file that it wrote.

use std::fs;

use crate::harness::{LabGuard, virtlab};

#[test]
fn etcd_comes_up_from_what_ignition_wrote() {
    let _guard = LabGuard(LAB);
    virtlab(&["create", LAB, "--nodes", "1", "--memory", "512MiB", "--timeout", "5m"]).ok();
    let status = virtlab(&["status", LAB, "-o", "json"]).json();
    let url = format!("{}/config", status["boot_server"]["url"].as_str().unwrap());
    assert_eq!(status["etcd"]["healthy"], true, "{status}");
    // The name of the member stands nowhere but in the file that Ignition wrote.
    assert_eq!(status["etcd"]["members"][0]["name"], format!("{LAB}-1"), "{status}");

    let console = fs::read_to_string(format!("/var/lib/libvirt/virtlab-{LAB}/{LAB}-1.console.log"));
    let console = console.unwrap();
    let mut rest = console.as_str();
    for line in [
        format!("ignition: fetch {url}"),
        format!("ignition: files {url}"),
        format!("config applied, host name {LAB}-1"),
        "etcd: starting".to_owned(),
        "etcd: healthy".to_owned(),
    ] {
        let (_, after) = rest
            .split_once(line.as_str())
            .unwrap_or_else(|| panic!("no `{line}` in its place on the console:\n{console}"));
        rest = after;
    }
}

const LAB: &str = "e2e-ignition";
