//! Nodes that are not told who the others are find each other: through the lab's own discovery, and
//! through Debian's packaged service, named by `--discovery`.

use std::path::Path;
use std::process::Command;
use std::time::Duration;

use crate::harness::{LabGuard, read, run, virtlab, wait_until};
use crate::wire::{Bridge, Server};

#[test]
fn nodes_find_each_other_by_the_labs_own_discovery_and_by_a_service_elsewhere() {
    let folder = tempfile::tempdir().unwrap();
    let config = folder.path().join("discovered.ign.j2");
    std::fs::write(&config, DISCOVERED).unwrap();
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
    let own = create(&[]);
    let boot_url = virtlab(&["status", LAB, "-o", "json"]).json()["boot_server"]["url"].clone();
    assert!(own.starts_with(&format!("{}/discovery/", boot_url.as_str().unwrap())), "{own}");
    assert_eq!(create(&[]), own, "a lab keeps its URL");

    // Where the whole lab was off, its nodes need another one.
    virtlab(&["stop", LAB, "--force"]).ok();
    let said = virtlab(&["start", LAB, "--timeout", "5m"]);
    assert!(said.stderr.contains("so its etcd is a new cluster"), "{}", said.stderr);
    assert!(!said.stderr.contains("takes each of them once"), "{}", said.stderr);
    said.ok();
    let anew = create(&[]);
    assert_ne!(anew, own);
    assert!(anew.starts_with(&own[..own.rfind('/').unwrap()]), "{anew}");

    // A service that does not answer costs nobody their lab.
    let recreate = ["create", LAB, "--recreate", "--nodes", "3", "--memory", "512MiB", "--config"];
    let nowhere = [&recreate[..], &[config.to_str().unwrap(), "--discovery", SERVICE]].concat();
    let said = virtlab(&nowhere).refused();
    assert!(said.contains(&format!("asking `{SERVICE}/new?size=3` for a discovery URL")), "{said}");
    assert_eq!(virtlab(&["verify", LAB, "-o", "json"]).json()["discovery"]["url"], anew);

    let _bridge = Bridge::new("brdisc", "10.80.0.1/24");
    let _service = start_service(folder.path());
    let elsewhere = create(&["--recreate", "--discovery", SERVICE]);
    assert!(elsewhere.starts_with(&format!("{SERVICE}/")), "{elsewhere}");
    virtlab(&["restart", LAB, "--force", "--timeout", "5m"]).ok();
    let url = create(&[]);
    assert!(url != elsewhere && url.starts_with(&format!("{SERVICE}/")), "{url}");

    // Who comes later is told so.
    let fourth = ["--name", "fourth", "--discovery", &url, "--discovery-fallback", "exit"];
    let urls = ["--initial-advertise-peer-urls", "http://127.0.0.1:23804"];
    let peer = ["--listen-peer-urls", "http://127.0.0.1:23804"];
    let client = ["--listen-client-urls", "http://127.0.0.1:23794"];
    let advertised = ["--advertise-client-urls", "http://127.0.0.1:23794"];
    let data = folder.path().join("fourth");
    let data = ["--data-dir", data.to_str().unwrap()];
    let said = run("etcd", &[&fourth[..], &urls, &peer, &client, &advertised, &data].concat());
    assert!(said.refused().contains("discovery: cluster is full"));
}

/// Debian's `discovery.etcd.io`, and the etcd that it keeps its registry in.
fn start_service(folder: &Path) -> [Server; 2] {
    let mut etcd = Command::new("etcd");
    etcd.arg("--enable-v2").arg("--data-dir").arg(folder.join("registry"));
    etcd.args(["--listen-client-urls", REGISTRY, "--advertise-client-urls", REGISTRY]);
    etcd.args(["--listen-peer-urls", "http://127.0.0.1:23800"]);
    let log = folder.join("registry.log");
    let etcd = Server::start(etcd, &log);
    let mut service = Command::new("discovery.etcd.io");
    service.args(["--addr", SERVICE.trim_start_matches("http://"), "--host", SERVICE]);
    service.args(["--etcd", REGISTRY]);
    let log = folder.join("service.log");
    let service = Server::start(service, &log);
    let health = format!("{SERVICE}/health");
    wait_until(&format!("the service; {}", read(&log)), Duration::from_secs(30), || {
        run("curl", &["--silent", "--fail", &health]).code == Some(0)
    });
    [etcd, service]
}

const LAB: &str = "e2e-discovery";
const SERVICE: &str = "http://10.80.0.1:8087";
const REGISTRY: &str = "http://127.0.0.1:23790";

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
