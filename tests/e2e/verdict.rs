//! What a fault does to a real etcd, as clients see it.

use std::process::Stdio;
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;

use crate::foreign::domain;
use crate::harness::{
    LabGuard, etcd_get, etcd_put, read, run, virsh, virtlab, virtlab_command, wait_until,
};

const LAB: &str = "judged";
const LONG: Duration = Duration::from_secs(120);

#[test]
fn verdict_of_a_fault_says_how_long_it_failed_and_that_nothing_was_lost() {
    let _guard = LabGuard(LAB);
    virtlab(&["create", LAB, "--nodes", "3", "--memory", "512MiB"]).ok();
    etcd_put(LAB, 1, "before", "here");
    a_leader_that_is_cut_off();
    a_majority_that_is_cut_off_and_too_late();
    a_leader_that_hears_nobody();
    what_is_refused();
    a_drill_of_two_faults();
    a_service_that_is_not_etcd();
    a_fault_that_is_interrupted_is_healed();
    wait_until("a healthy cluster", LONG, || virtlab(&["verify", LAB]).code == Some(0));
    // The clients leave nothing, and what was there stays.
    for node in 1..=3 {
        assert_eq!(etcd_get(LAB, node, "before"), "here");
    }
    let etcd = format!("--endpoints=http://{}:2379", node("judged-1", "ip"));
    let all = ["ETCDCTL_API=3", "etcdctl", &etcd, "get", "--prefix", "", "--keys-only"];
    let keys = run("env", &all).ok();
    // A probe of the boot server's may have been cut off before it took its own key away.
    let kept = keys.split_whitespace().filter(|key| !key.starts_with("virtlab/check/"));
    assert_eq!(kept.collect::<Vec<_>>(), ["before"]);
    a_run_that_is_killed_is_healed_by_the_boot_server();
}

fn a_leader_that_is_cut_off() {
    let leader = leader();
    let folder = tempfile::tempdir().unwrap();
    let svg = folder.path().join("verdict.svg");
    let cut = ["fault", "cut", &leader, "--verdict", "--for", "15s", "-o", "json", "--svg"];
    let verdict: Value = virtlab(&[&cut[..], &[svg.to_str().unwrap()]].concat()).json();
    let title = format!("<title id=\"title\">cut {leader}</title>");
    assert!(read(&svg).contains(&title) && read(&svg).contains(" leads</text>"));
    println!("cut of the leader: {}", verdict["summary"]);
    assert_eq!((&verdict["passed"], &verdict["nodes"][0]), (&true.into(), &leader.into()));
    let number = |name: &str| verdict["writes"][name].as_u64().unwrap();
    assert!(number("acknowledged") > 20 && number("failed") + number("unknown") > 0, "{verdict:#}");
    assert!(number("longest_ms") > 3000, "{verdict:#}");
    assert_new_leader(&verdict);
}

/// An election takes 5 to 10 s, and as long again where votes are split, so it may be over only after the heal.
#[track_caller]
fn assert_new_leader(verdict: &Value) {
    let elections = verdict["elections"].as_array().unwrap();
    let (first, last) = (elections.first().unwrap(), elections.last().unwrap());
    let is_during = first["at_ms"].as_u64() < verdict["heal"]["from_ms"].as_u64();
    assert!(!is_during || first["leader"] != verdict["nodes"][0], "{verdict:#}");
    assert_eq!(last["leader"], leader(), "{verdict:#}");
}

fn a_majority_that_is_cut_off_and_too_late() {
    let cut = ["fault", "cut", "judged-1", "judged-2", "--verdict", "--for", "6s"];
    let said = virtlab(&[&cut[..], &["--within", "1ms"]].concat());
    println!("cut of a majority: {}{}", said.stdout, said.stderr);
    assert_eq!(said.code, Some(3));
    assert!(said.stdout.starts_with("writes failed for ") && said.stdout.contains("; 0 of "));
    let failed_for: f64 = said.stdout.split(' ').nth(3).unwrap().parse().unwrap();
    assert!(failed_for > 5.5, "{}", said.stdout);
    assert!(said.stderr.contains("error: lab `judged` did not pass:\n  healthy again "));
    assert!(said.stderr.contains("which is later than 0.0 s"), "{}", said.stderr);
}

/// The host and its clients reach all of them.
fn a_leader_that_hears_nobody() {
    let leader = leader();
    let isolate = ["fault", "isolate", &leader, "--verdict", "--for", "15s", "-o", "json"];
    let verdict: Value = virtlab(&isolate).json();
    println!("a leader alone: {}", verdict["summary"]);
    assert_eq!(verdict["lost"], Value::Array(Vec::new()));
    assert!(verdict["writes"]["longest_ms"].as_u64() > Some(3000), "{verdict:#}");
    assert_new_leader(&verdict);
}

/// The first one is healed by the boot server, the second one in the end.
fn a_drill_of_two_faults() {
    wait_until("a healthy cluster", LONG, || virtlab(&["verify", LAB]).code == Some(0));
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("drill.toml");
    let drill = "seed = 7\n[[fault]]\nat = \"1s\"\nrun = \"cut $lab follower --for 4s\"\n\
        [[fault]]\nat = \"9s\"\nrun = \"pause $lab one\"\n";
    fs_err::write(&file, drill).unwrap();
    let file = file.to_str().unwrap();
    let planned = virtlab(&["drill", file, LAB, "--dry-run"]).ok();
    assert_eq!(planned, "1s\tcut judged follower --for 4s\n9s\tpause judged one\n");
    let said = virtlab(&["drill", file, "nobody"]).refused();
    assert!(said.contains("nobody"), "{said}");
    // Somebody else's domain has a near name.
    let xml = folder.path().join("judged-9.xml");
    fs_err::write(&xml, domain("judged-9", "")).unwrap();
    virsh(&["define", xml.to_str().unwrap()]);
    let foreign = virsh(&["dumpxml", "judged-9"]);
    let verdict: Value = virtlab(&["drill", file, LAB, "-o", "json"]).json();
    assert_eq!(virsh(&["dumpxml", "judged-9"]), foreign);
    virsh(&["undefine", "judged-9"]);
    println!("a drill: {}", verdict["summary"]);
    assert_eq!((&verdict["passed"], &verdict["lost"]), (&true.into(), &Value::Array(Vec::new())));
    let faults = verdict["faults"].as_array().unwrap();
    let what = |place: usize| faults[place]["what"].as_str().unwrap();
    assert!(
        what(0).starts_with("cut judged-") && what(1).starts_with("pause judged-"),
        "{faults:?}"
    );
    let ms = |place: usize, name: &str| faults[place][name].as_u64().unwrap();
    assert_eq!(ms(0, "until_ms"), ms(0, "from_ms") + 4000);
    assert!((7000..12_000).contains(&(ms(1, "from_ms") - ms(0, "from_ms"))), "{faults:?}");
    assert!(faults[1].get("until_ms").is_none());
    assert_eq!(self::faults(), "");
}

/// A node that stands still accepts no connections, and the others do.
fn a_service_that_is_not_etcd() {
    let pause = ["fault", "pause", "judged-2", "--verdict", "--for", "4s", "-o", "json", "--probe"];
    let said = virtlab(&[&pause[..], &["http://:2379/nothing"]].concat()).refused();
    assert!(said.contains("does not answer http://:2379/nothing (--probe)"), "{said}");
    assert_eq!(faults(), "");
    let verdict: Value = virtlab(&[&pause[..], &["http://:2379/health"]].concat()).json();
    println!("a service: {}", verdict["summary"]);
    let summary = verdict["summary"].as_str().unwrap();
    assert!(summary.starts_with("judged-2 did not answer http://:2379/health for "), "{summary}");
    assert!(summary.contains("; all answering again "), "{summary}");
    let silent = |place: usize| verdict["probes"][place]["failed_for_ms"].as_u64().unwrap();
    assert!(silent(1) > 3500 && silent(0) < silent(1), "{verdict:#}");
}

fn what_is_refused() {
    virtlab(&["fault", "cut", "judged-3"]).ok();
    let said = virtlab(&["fault", "cut", "judged-2", "--verdict"]).refused();
    assert!(said.contains("error: node `judged-3` has a fault already (--verdict)"), "{said}");
    assert!(said.contains("hint: `virtlab heal judged` takes it away"), "{said}");
    virtlab(&["heal", LAB]).ok();
    let mac = node("judged-3", "mac");
    virsh(&["domif-setlink", "judged-3", &mac, "down"]);
    let said = virtlab(&["fault", "cut", "judged-2", "--verdict"]).refused();
    assert!(said.contains("error: lab `judged` has no healthy etcd to be broken:\n  "), "{said}");
    virsh(&["domif-setlink", "judged-3", &mac, "up"]);
}

fn a_fault_that_is_interrupted_is_healed() {
    wait_until("a healthy cluster", LONG, || virtlab(&["verify", LAB]).code == Some(0));
    let cut = ["fault", "cut", LAB, "follower", "--verdict", "--for", "5m"];
    let mut command = virtlab_command(&cut);
    let child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    wait_until("the fault", LONG, || !faults().is_empty());
    let node = faults().trim().to_owned();
    kill_process(Pid::from_child(&child), Signal::INT).unwrap();
    let output = child.wait_with_output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    let healing = "healing lab `judged`, as `virtlab heal judged` does";
    assert!(said.ends_with(&format!("{healing}\n{node}: healed\ninterrupted\n")), "{said}");
    assert_eq!(faults(), "");
}

/// Ten seconds after the time.
fn a_run_that_is_killed_is_healed_by_the_boot_server() {
    let cut = ["fault", "cut", LAB, "follower", "--verdict", "--for", "1s"];
    let mut child = virtlab_command(&cut).stderr(Stdio::null()).spawn().unwrap();
    wait_until("the fault", LONG, || !faults().is_empty());
    child.kill().unwrap();
    child.wait().unwrap();
    assert!(!faults().is_empty());
    wait_until("the heal", LONG, || faults().is_empty());
}

fn faults() -> String {
    virtlab(&["fault", "list", LAB, "-o", "name"]).ok()
}

fn leader() -> String {
    let status: Value = virtlab(&["status", LAB, "-o", "json"]).json();
    status["etcd"]["leader"].as_str().unwrap().to_owned()
}

fn node(name: &str, what: &str) -> String {
    let status: Value = virtlab(&["status", LAB, "-o", "json"]).json();
    let nodes = status["nodes"].as_array().unwrap();
    let found = nodes.iter().find(|it| it["name"] == name).unwrap();
    found[what].as_str().unwrap().to_owned()
}
