//! What the boot server knows of a lab that nobody waits for, as others hear it.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use serde_json::Value;

use crate::daemon::restart_libvirtd;
use crate::harness::{
    LabGuard, holds_within, kill, read, run, state_folder, virsh, virtlab, virtlab_command,
    wait_until,
};
use crate::wire::Server;

const LONG: Duration = Duration::from_secs(600);
/// What the server says that is started anew, beside what is heard.
const SERVE_LOG: &str = "serve.log";

#[test]
fn a_lab_that_nobody_waits_for_becomes_ready_and_each_event_is_told_once() {
    let folder = tempfile::tempdir().unwrap();
    let _guard = LabGuard("told");
    virtlab(&["create", "told", "--nodes", "3", "--memory", "512MiB", "--no-wait"]).ok();
    let mut ear = Ear::new(folder.path());

    // Who listens goes away, and comes again with the number of the last event that it had.
    ear.hear("a script", |event| event["stage"] == "script", 1);
    ear.hear("three configs", |event| event["stage"] == "config", 3);

    // The server is killed and comes back while the nodes start their etcd.
    let server: Value =
        serde_json::from_str(&read(&state_folder("told").join("serve.json"))).unwrap();
    kill(&server["pid"].to_string());
    let _server =
        Server::start(virtlab_command(&["serve", "told"]), &folder.path().join(SERVE_LOG));
    ear.hear("three nodes that are ready", |event| event["stage"] == "ready", 3);
    ear.hear("a healthy etcd", |event| event["etcd"]["healthy"] == true, 1);

    let status = virtlab(&["status", "told", "-o", "json"]).json();
    for node in status["nodes"].as_array().unwrap() {
        assert_eq!(node["state"], "ready");
        let (config, ready) = (&node["seconds"]["config"], &node["seconds"]["ready"]);
        assert!(ready.as_f64().unwrap() >= config.as_f64().unwrap(), "{node}");
    }
    for node in 1..=3 {
        let stages = ear.stages(node);
        let expected = ["power-on", "script", "kernel", "initrd", "config", "ready"];
        assert_eq!(stages, expected, "node {node}: {:#?}", ear.events);
    }
    let leader = ear.events.last().unwrap()["etcd"]["leader"].as_str().unwrap().to_owned();
    assert!(leader.starts_with("told-"), "{leader}");

    // What becomes of a node is told as well, and what that means for the cluster.
    virsh(&["destroy", &leader]);
    ear.hear("a node that is off", |event| event["power"] == "off", 1);
    let other = |event: &Value| {
        event["etcd"]["leader"].as_str().is_some_and(|name| name != leader)
            && event["etcd"]["healthy"] == false
    };
    ear.hear("another leader", other, 1);
    assert_eq!(virtlab(&["status", "told", "-o", "json"]).json()["etcd"]["healthy"], false);

    // The same by a command of virtlab's own, which ends with the lab.
    assert_eq!(virtlab(&["events", "told", "-o", "json"]).json()["etcd"]["healthy"], false);
    let told = virtlab(&["events", "told"]).ok();
    assert!(
        told.contains(&format!("{leader}: off")) && told.contains("etcd: not healthy"),
        "{told}"
    );
    let followed = folder.path().join("followed");
    let mut follower = Server::start(virtlab_command(&["events", "-f", "told"]), &followed);
    wait_until("what is known", LONG, || read(&followed).contains("told-1: "));
    virsh(&["start", &leader]);
    // Who looks while libvirt still starts it sees it paused.
    wait_until("a new boot", LONG, || {
        let (followed, is) = (read(&followed), |how| format!("{leader}: {how}, boots"));
        followed.contains(&is("running")) || followed.contains(&is("paused"))
    });
    virtlab(&["destroy", "told"]).ok();
    wait_until("the follower ends", LONG, || !follower.is_running());
    assert!(read(&followed).ends_with("there is nothing left to follow: the lab is gone\n"));
}

#[test]
fn what_becomes_of_a_node_is_noticed_after_a_restart_of_libvirtd_as_well() {
    let folder = tempfile::tempdir().unwrap();
    let _guard = LabGuard("told");
    virtlab(&["create", "told", "--nodes", "2", "--memory", "512MiB", "--no-wait"]).ok();
    let mut ear = Ear::new(folder.path());
    ear.hear("two nodes that run", |event| event["stage"] == "power-on", 2);
    // In order: one that is killed may lose the state that it is writing, and the domain with it.
    restart_libvirtd("-TERM", Duration::from_secs(3));
    // On a busy host libvirtd may have taken it for lost while it restarted: it is off then as well.
    run("virsh", &["destroy", "told-1"]);
    ear.hear("a node that is off", |event| event["node"] == 1 && event["power"] == "off", 1);
    virsh(&["start", "told-1"]);
    virsh(&["reset", "told-2"]);
    ear.hear("two nodes that boot again", |event| event["stage"] == "power-on", 4);
    for node in [1, 2] {
        let stages = ear.stages(node);
        let boots = stages.iter().filter(|stage| **stage == "power-on").count();
        assert_eq!(boots, 2, "node {node}: {stages:?}");
    }
}

/// Hears all events of the lab `told` from the first one on, each time with a new connection.
struct Ear {
    log: PathBuf,
    url: String,
    events: Vec<Value>,
    last: u64,
}

impl Ear {
    fn new(folder: &Path) -> Self {
        let status = virtlab(&["status", "told", "-o", "json"]).json();
        let url = format!("{}/events", status["boot_server"]["url"].as_str().unwrap());
        let journal = read(&state_folder("told").join("timeline.jsonl"));
        let first: Value = serde_json::from_str(journal.lines().next().unwrap()).unwrap();
        let last = first["id"].as_u64().unwrap() - 1;
        Self { log: folder.join("events"), url, events: Vec::new(), last }
    }

    /// Listens until so many events in all are what is waited for.
    #[track_caller]
    fn hear(&mut self, what: &str, is_it: impl Fn(&Value) -> bool, count: usize) {
        // Until a server that was killed is back, curl comes to nothing.
        let was_heard = holds_within(LONG, || {
            let _ = std::fs::remove_file(&self.log);
            let mut curl = Command::new("curl");
            curl.args(["--silent", "--no-buffer", "--noproxy", "*"]);
            curl.args(["-H", &format!("Last-Event-ID: {}", self.last), &self.url]);
            let listening = Server::start(curl, &self.log);
            let heard = || self.events.iter().chain(&self.heard()).filter(|e| is_it(e)).count();
            let enough = holds_within(Duration::from_secs(5), || heard() >= count);
            drop(listening);
            for event in self.heard() {
                let id = event["id"].as_u64().unwrap();
                assert_eq!(id, self.last + 1, "{event}");
                assert_eq!(event["format"], 1, "{event}");
                self.last = id;
                self.events.push(event);
            }
            enough
        });
        let server = read(&self.log.with_file_name(SERVE_LOG));
        assert!(was_heard, "{what}: not heard; events:\n{:#?}\nthe server:\n{server}", self.events);
    }

    /// The whole events that curl has written by now.
    fn heard(&self) -> Vec<Value> {
        let text = read(&self.log);
        let whole = text.rsplit_once("\n\n").map_or("", |(whole, _)| whole);
        let data = whole.lines().filter_map(|line| line.strip_prefix("data: "));
        data.map(|data| serde_json::from_str(data).unwrap()).collect()
    }

    /// The stages that a node reached, in the order in which that was told.
    fn stages(&self, node: u64) -> Vec<&str> {
        let of_node = self.events.iter().filter(|event| event["node"] == node);
        of_node.filter_map(|event| event["stage"].as_str()).collect()
    }
}
