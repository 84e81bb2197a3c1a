//! Nodes that are broken on purpose: the others see it, everything that virtlab does keeps it, and nothing is left of it when it
//! is healed.

use std::net::TcpStream;
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::harness::{LabGuard, Said, ip, is_healthy, virsh, virtlab, wait_until};
use crate::killing::{Change, killed_at_each_call};
use crate::terminal::{hears, inside, pings};

const LONG: Duration = Duration::from_secs(120);
const LAB: &str = "broken";
const NODES: [&str; 3] = ["broken-1", "broken-2", "broken-3"];

#[test]
fn fault_of_a_node_is_seen_by_the_others_and_kept_until_it_is_healed() {
    let _guard = LabGuard(LAB);
    virtlab(&["create", LAB, "--nodes", "3", "--memory", "512MiB"]).ok();
    let before = everything_of_the_lab();
    let begun = Instant::now();
    nodes_that_words_choose();
    assert_same(&before, &everything_of_the_lab());
    groups_that_do_not_hear_each_other();
    assert_same(&before, &everything_of_the_lab());
    println!("partition and heal: {:.1} s", begun.elapsed().as_secs_f64());
    a_node_that_is_cut_off();
    assert_same(&before, &everything_of_the_lab());
    println!("cut and healed: {:.1} s", begun.elapsed().as_secs_f64());
    killed_while_it_cuts_and_heals();
    assert_same(&before, &everything_of_the_lab());
    killed_while_it_parts_and_heals();
    assert_same(&before, &everything_of_the_lab());
    started_and_destroyed_with_faults();
    println!("with all of the killing: {:.1} s", begun.elapsed().as_secs_f64());
}

/// The leader is the one that etcd itself names.
fn nodes_that_words_choose() {
    wait_until("a healthy cluster", LONG, || is_healthy(LAB));
    let leader = virtlab(&["status", LAB, "-o", "json"]).json()["etcd"]["leader"].clone();
    let leader = leader.as_str().unwrap();
    let said = virtlab(&["fault", "partition", LAB, "leader", "others"]);
    assert!(said.stderr.contains(&format!("`leader` of lab `{LAB}`: {leader}\n")), "{said:?}");
    let others: Vec<&str> = NODES.into_iter().filter(|node| *node != leader).collect();
    let row = format!("{leader}  partition from {}  ", others.join(", "));
    assert!(said.ok().contains(&row));
    // It leads nobody any more, and the others have elected another one.
    let said = virtlab(&["fault", "cut", LAB, "leader", "--dry-run"]);
    let cut = |node: &str| said.stdout.contains(&format!("take the link of domain `{node}` away"));
    assert!(!cut(leader) && others.iter().any(|node| cut(node)), "{said:?}");
    virtlab(&["heal", LAB]).ok();
    wait_until("a healthy cluster again", LONG, || is_healthy(LAB));

    virtlab(&["fault", "cut", LAB, "minority"]).ok();
    assert_eq!(virtlab(&["fault", "list", "-o", "name"]).ok(), "broken-1\n");
    virtlab(&["heal", LAB]).ok();
    wait_until("a healthy cluster again", LONG, || is_healthy(LAB));
}

fn groups_that_do_not_hear_each_other() {
    let (second, third) = (ip(LAB, 2), ip(LAB, 3));
    let filters = virsh(&["nwfilter-list"]);
    virtlab(&["fault", "partition", LAB, "broken-1,broken-2", "broken-3"]).ok();
    hears("broken-1", &second);
    assert!(!pings("broken-1", &third) && !pings("broken-3", &second));
    // The host reaches all.
    for ip in [&second, &third] {
        let etcd = format!("{ip}:2379").parse().unwrap();
        TcpStream::connect_timeout(&etcd, Duration::from_secs(5)).unwrap();
    }
    let status = virtlab(&["status", LAB, "-o", "json"]);
    let why = "broken-3 is kept apart from broken-1, broken-2 by a fault since ";
    assert!(status.stderr.contains(why), "{}", status.stderr);
    assert_eq!(status.json()["differences"], Value::Array(Vec::new()));
    assert_eq!(virtlab(&["create", LAB, "--dry-run"]).ok(), "");

    // One of them is healed: nobody is kept apart from it any more, and it hears the others.
    virtlab(&["fault", "isolate", "broken-2"]).ok();
    assert!(!pings("broken-1", &second));
    virtlab(&["heal", "broken-3"]).ok();
    hears("broken-1", &third);
    virtlab(&["heal"]).ok();
    hears("broken-3", &second);
    wait_until("a healthy cluster again", LONG, || is_healthy(LAB));
    assert_eq!(virsh(&["nwfilter-list"]), filters);
}

fn a_node_that_is_cut_off() {
    let second = ip(LAB, 2);
    hears("broken-1", &second);
    let said = virtlab(&["fault", "cut", "broken-2"]).ok();
    assert!(
        said.starts_with("NODE      FAULT  SINCE  LEFT\nbroken-2  cut    0 s    -\n"),
        "{said}"
    );
    assert!(!pings("broken-1", &second));
    assert_eq!(inside("broken-2", "cat /sys/class/net/eth0/carrier"), "0");

    // Everybody knows why, and nobody repairs it or calls it a difference.
    let status = virtlab(&["status", LAB, "-o", "json"]);
    let why = "broken-2 is cut off by a fault since ";
    let undo = "`virtlab heal broken` undoes it";
    assert!(status.stderr.contains(why) && status.stderr.contains(undo), "{}", status.stderr);
    let status: Value = status.json();
    assert_eq!(status["nodes"][1]["state"], "cut off", "{status:#}");
    assert_eq!(status["nodes"][1]["faults"][0]["fault"], "cut", "{status:#}");
    assert_eq!(status["differences"], Value::Array(Vec::new()), "{status:#}");
    assert_eq!(virtlab(&["create", LAB, "--dry-run"]).ok(), "");
    let waited = virtlab(&["wait", LAB, "--timeout", "2s"]);
    assert!(waited.code == Some(3) && waited.stderr.contains(why), "{}", waited.stderr);

    virtlab(&["heal", LAB]).ok();
    virtlab(&["heal", LAB]).ok();
    virtlab(&["wait", LAB]).ok();
    hears("broken-1", &second);
    wait_until("three members again", LONG, || is_healthy(LAB));
    let said = virtlab(&["fault", "list", LAB]);
    assert!(said.stderr.contains("no node has a fault"), "{}", said.stderr);
}

fn killed_while_it_cuts_and_heals() {
    let is_cut = |said: &Said, when: &str| {
        assert_eq!(said.code, Some(0), "{when}: {}", said.stderr);
        assert_eq!(links("broken-3"), ["down", "down"], "{when}");
        assert_eq!(virtlab(&["fault", "list", "-o", "name"]).ok(), "broken-3\n", "{when}");
    };
    let is_whole = |said: &Said, when: &str| {
        assert_eq!(said.code, Some(0), "{when}: {}", said.stderr);
        assert_eq!(links("broken-3"), ["up", "up"], "{when}");
        assert_eq!(virtlab(&["fault", "list", "-o", "name"]).ok(), "", "{when}");
    };
    killed_at_each_call(
        &Change { args: &["fault", "cut", "broken-3"], check: &is_cut },
        &Change { args: &["heal", "broken-3"], check: &is_whole },
    );
}

fn killed_while_it_parts_and_heals() {
    let before = virsh(&["nwfilter-list"]);
    let parted = ["broken-1", "broken-2"];
    let is_named = |node: &str, kept: &[&str]| {
        let name = format!("<filterref filter='virtlab-{node}'/>");
        virsh(&[&["dumpxml", node], kept].concat()).contains(&name)
    };
    let is_apart = |said: &Said, when: &str| {
        assert_eq!(said.code, Some(0), "{when}: {}", said.stderr);
        for node in parted {
            assert!(is_named(node, &[]) && is_named(node, &["--inactive"]), "{when}");
            let rules = virsh(&["nwfilter-dumpxml", &format!("virtlab-{node}")]);
            assert_eq!(rules.matches("<rule action='drop'").count(), 2, "{when}");
        }
    };
    let is_whole = |said: &Said, when: &str| {
        assert_eq!(said.code, Some(0), "{when}: {}", said.stderr);
        assert_eq!(virsh(&["nwfilter-list"]), before, "{when}");
        for node in parted {
            assert!(!is_named(node, &[]) && !is_named(node, &["--inactive"]), "{when}");
        }
    };
    let part = ["fault", "partition", LAB, "broken-1", "broken-2"];
    killed_at_each_call(
        &Change { args: &part, check: &is_apart },
        &Change { args: &["heal", LAB], check: &is_whole },
    );
}

/// Both faults are there after a start as well, and a lab takes its filters with it.
fn started_and_destroyed_with_faults() {
    let before = virsh(&["nwfilter-list"]);
    virtlab(&["fault", "cut", "broken-3"]).ok();
    virtlab(&["fault", "isolate", "broken-3"]).ok();
    virtlab(&["restart", "broken-3", "--force", "--no-wait"]).ok();
    assert_eq!(links("broken-3"), ["down", "down"]);
    let kept = ["dumpxml", "--inactive", "broken-3"];
    for dump in [&kept[..], &["dumpxml", "broken-3"]] {
        assert!(virsh(dump).contains("<filterref filter='virtlab-broken-3'/>"));
    }
    virtlab(&["destroy", LAB]).ok();
    assert_eq!(virsh(&["nwfilter-list"]), before);
}

/// The lines in which they differ are told.
#[track_caller]
fn assert_same(before: &str, after: &str) {
    let lines = |text: &str| text.lines().map(str::to_owned).collect::<Vec<_>>();
    let (before, after) = (lines(before), lines(after));
    let gone: Vec<&String> = before.iter().filter(|line| !after.contains(line)).collect();
    let new: Vec<&String> = after.iter().filter(|line| !before.contains(line)).collect();
    assert!(gone.is_empty() && new.is_empty(), "gone: {gone:#?}\nnew: {new:#?}");
    assert_eq!(before.len(), after.len());
}

/// What libvirt has of the lab that a fault may change, of what runs and of what it keeps.
fn everything_of_the_lab() -> String {
    let xml = |node: &&str| {
        let (running, kept) = (virsh(&["dumpxml", node]), virsh(&["dumpxml", "--inactive", node]));
        // Of what runs, each start has its own.
        let is_fixed = |line: &&str| {
            !["<domain ", "<target dev='vnet", "<source path='/dev/pts", "tty='", "portid='"]
                .iter()
                .any(|word| line.contains(word))
        };
        let fixed: Vec<&str> = running.lines().filter(is_fixed).collect();
        format!("{}\n{kept}", fixed.join("\n"))
    };
    NODES.iter().map(xml).collect()
}

/// The link of a node's card in what runs, and in what libvirt keeps.
pub(crate) fn links(node: &str) -> [&'static str; 2] {
    let link = |xml: String| if xml.contains("<link state='down'/>") { "down" } else { "up" };
    [link(virsh(&["dumpxml", node])), link(virsh(&["dumpxml", "--inactive", node]))]
}
