//! Debian's real `ignition` reads a config of ours over `ignition.config.url`, and etcd comes up from
//! the file that it wrote.

use std::fs;

use crate::harness::LabGuard;
use crate::harness::virtlab;

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

#[test]
fn a_config_with_a_discovery_url_makes_a_cluster_and_another_lab_gets_another_url() {
    let folder = tempfile::tempdir().unwrap();
    let config = folder.path().join("discovered.ign.j2");
    fs::write(&config, DISCOVERED).unwrap();
    let _guard = LabGuard(LAB);
    let create = |extra: &[&str]| {
        let config = config.to_str().unwrap();
        let size = ["--nodes", "3", "--memory", "512MiB", "--timeout", "5m"];
        virtlab(&[&["create", LAB, "--config", config], &size[..], extra].concat()).ok();
        let verdict = virtlab(&["verify", LAB, "-o", "json"]).json();
        assert_eq!(verdict["healthy"], true, "{verdict}");
        let registered = verdict["discovery"]["registrations"].as_array().unwrap();
        let mut names: Vec<&str> =
            registered.iter().map(|one| one["name"].as_str().unwrap()).collect();
        names.sort_unstable();
        assert_eq!(names, ["member-1", "member-2", "member-3"]);
        verdict["discovery"]["url"].as_str().unwrap().to_owned()
    };
    let first = create(&[]);
    assert_eq!(create(&[]), first, "a lab keeps its URL");
    assert_ne!(create(&["--recreate"]), first, "a new lab gets a new one");
}

const LAB: &str = "e2e-ignition";

/// The article's settings, for an etcd of today: nobody is told who the others are.
const DISCOVERED: &str = r#"{% set etcd %}
name: member-{{ node.index }}
data-dir: /var/lib/etcd
discovery: <DISCOVERY_URL>
advertise-client-urls: http://$private_ipv4:2379
initial-advertise-peer-urls: http://$private_ipv4:2380
listen-client-urls: http://0.0.0.0:2379
listen-peer-urls: http://$private_ipv4:2380
enable-grpc-gateway: true
heartbeat-interval: 500
election-timeout: 5000
{% endset %}
{% set etcd = etcd|urlencode|replace("%24", "$")|replace("%3CDISCOVERY_URL%3E", "<DISCOVERY_URL>") %}
{
  "ignition": { "version": "3.3.0" },
  "storage": {
    "files": [{ "path": "/etc/etcd/etcd.conf.yml", "contents": { "source": "data:,{{ etcd }}" } }]
  }
}
"#;
