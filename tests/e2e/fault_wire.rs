//! Packets of nodes that are spoilt on purpose by the host's kernel: the guests see it, all that virtlab does keeps it, and nothing
//! is left of it when it is healed.

use std::io::Write;
use std::path::Path;
use std::time::Duration;

use crate::harness::{LabGuard, Said, everything_there, read, run, virsh, virtlab, wait_until};
use crate::killing::{Change, killed_at_each_call};
use crate::terminal::inside;

const LONG: Duration = Duration::from_secs(120);
const LAB: &str = "spoilt";

#[test]
fn fault_loss_is_seen_by_guests_and_kept_until_it_is_healed() {
    if let Some(why) = lack() {
        // The harness keeps to itself what is printed.
        writeln!(std::io::stderr(), "skipped: `fault loss` of real guests: {why}").unwrap();
        return;
    }
    let (nothing, nothing_in_the_kernel) = (everything_there(), kernel());
    let guard = LabGuard(LAB);
    virtlab(&["create", LAB, "--nodes", "2", "--memory", "512MiB"]).ok();
    let before = (kernel(), kept());
    assert_eq!(lost(40), 0);

    let said = virtlab(&["fault", "loss", "spoilt-1", "--percent", "30%"]).ok();
    assert!(said.contains("\nspoilt-1  loss --percent 30%  0 s    -\n"), "{said}");
    // What is asked and what is answered: 20 of 40 are to get lost, and 16 are five times the deviation from that.
    let lost_of_40 = lost(40);
    println!("of 40 pings {lost_of_40} got lost by --percent 30%");
    assert!((4..=36).contains(&lost_of_40), "{lost_of_40}");
    let status = virtlab(&["status", LAB, "-o", "json"]);
    let why = "spoilt-1 is losing packets (loss 30%) by a fault since ";
    assert!(status.stderr.contains(why), "{}", status.stderr);
    let status = status.json();
    assert_eq!(status["nodes"][0]["faults"][0]["percent"], 30, "{status:#}");
    is_no_difference();
    // The last wish counts, and it outlives a restart, though the devices are others then.
    virtlab(&["fault", "loss", "spoilt-1", "--percent", "100%"]).ok();
    assert_eq!(lost(5), 5);
    virtlab(&["fault", "loss", "spoilt-1", "--percent", "5%"]).ok();
    virtlab(&["restart", "spoilt-1", "--force", "--no-wait"]).ok();
    assert_eq!(chains(), expected_chains(5));
    is_no_difference();
    // Who starts it by hand starts it without; virtlab brings it back.
    virsh(&["destroy", "spoilt-1"]);
    virsh(&["start", "spoilt-1"]);
    assert_ne!(chains(), expected_chains(5));
    wait_until("nothing gets lost", LONG, || lost(10) == 0);
    let repaired = virtlab(&["create", LAB, "--dry-run"]).ok();
    assert_eq!(repaired, "spoil the packets of domain `spoilt-1`: loss 5%\n");
    virtlab(&["fault", "loss", "spoilt-1", "--percent", "5%"]).ok();
    assert_eq!(chains(), expected_chains(5));
    virtlab(&["heal", LAB]).ok();
    assert_eq!(kept(), before.1);
    wait_until("nothing gets lost", LONG, || lost(10) == 0);
    assert_eq!(kernel(), before.0);

    heals_by_itself_and_completes();
    the_kernel_is_asked_before_anything_is_changed();
    virtlab(&["fault", "loss", LAB]).ok();
    virtlab(&["destroy", LAB]).ok();
    drop(guard);
    assert_eq!((everything_there(), kernel()), (nothing, nothing_in_the_kernel));
}

fn heals_by_itself_and_completes() {
    let before = kernel();
    virtlab(&["fault", "loss", "spoilt-2", "--for", "2s"]).ok();
    wait_until("it is healed by itself", LONG, || {
        virtlab(&["fault", "list", "-o", "name"]).ok().is_empty()
    });
    assert_eq!(kernel(), before);
    let is_lossy = |said: &Said, when: &str| {
        assert_eq!(said.code, Some(0), "{when}: {}", said.stderr);
        let chains = chains();
        let own = expected_chains(20);
        assert!(
            chains.len() == 4 && own.iter().all(|it| chains.contains(it)),
            "{when}: {chains:?}"
        );
        assert_eq!(virtlab(&["create", LAB, "--dry-run"]).ok(), "", "{when}");
    };
    let is_healed = |said: &Said, when: &str| {
        assert_eq!(said.code, Some(0), "{when}: {}", said.stderr);
        assert_eq!(kernel(), before, "{when}");
        assert_eq!(virtlab(&["fault", "list", "-o", "name"]).ok(), "", "{when}");
    };
    killed_at_each_call(
        &Change { args: &["fault", "loss", LAB, "--percent", "20"], check: &is_lossy },
        &Change { args: &["heal", LAB], check: &is_healed },
    );
}

/// Where the kernel has netem, the delay is seen; where it has none, that is said, and nothing is changed.
fn the_kernel_is_asked_before_anything_is_changed() {
    let before = (kernel(), kept());
    let delay = virtlab(&["fault", "delay", "spoilt-1", "--by", "300ms"]);
    if delay.code == Some(0) {
        assert!(ping(10).contains("min/avg/max = 3"), "{}", ping(10));
        virtlab(&["heal", "spoilt-1"]).ok();
    } else {
        let error =
            "error: this host's kernel has no netem\n\nhint: it is the module `sch_netem`: ";
        assert!(delay.stderr.starts_with(error), "{}", delay.stderr);
        assert_eq!(virtlab(&["fault", "list", "-o", "name"]).ok(), "");
    }
    assert_eq!((kernel(), kept()), before);
    // A queueing discipline of somebody else's stays.
    let tap = tap();
    run("tc", &["qdisc", "replace", "dev", &tap, "root", "handle", "1:", "htb"]).ok();
    let refused = virtlab(&["fault", "rate", "spoilt-1", "--to", "1mbit"]).refused();
    let error = format!("network card `{tap}` has a qdisc `htb` that somebody else has set");
    assert!(refused.contains(&error), "{refused}");
    run("tc", &["qdisc", "replace", "dev", &tap, "root", "noqueue"]).ok();
}

/// Why this machine's kernel loses no packets by nftables, if it does not.
fn lack() -> Option<String> {
    let chain = "type filter hook egress device lo priority 0; numgen random mod 100 < 5 drop;";
    let said = run("nft", &["-c", &format!("table netdev t {{ chain c {{ {chain} }}; }}")]);
    (said.code != Some(0)).then_some(said.stderr)
}

/// How many pings of these the first node does not hear the answer of.
fn lost(pings: usize) -> usize {
    let said = ping(pings);
    let received = said.split(", ").find_map(|part| part.strip_suffix(" packets received"));
    // One that boots has no network to send by.
    pings - received.map_or(0, |received| received.parse().unwrap())
}

fn ping(pings: usize) -> String {
    let status = virtlab(&["status", LAB, "-o", "json"]).json();
    let second = status["nodes"][1]["ip"].as_str().unwrap();
    inside("spoilt-1", &format!("ping -q -A -W 1 -c {pings} {second} | tail -n 2 | tr '\\n' ' '"))
}

/// The device of the first node's network card.
fn tap() -> String {
    let cards = virsh(&["domiflist", "spoilt-1"]);
    cards.split_whitespace().find(|word| word.starts_with("vnet")).unwrap().to_owned()
}

fn chains() -> Vec<String> {
    let rules = run("nft", &["list", "ruleset"]).ok();
    let chains = rules.lines().filter_map(|line| line.trim().strip_prefix("chain loss-"));
    let mut chains: Vec<String> = chains.map(|it| it.trim_end_matches(" {").to_owned()).collect();
    chains.sort();
    chains
}

fn expected_chains(percent: u8) -> Vec<String> {
    let tap = tap();
    let index = read(Path::new(&format!("/sys/class/net/{tap}/ifindex")));
    ["egress", "ingress"].map(|hook| format!("{percent}-{hook}-{tap}-{}", index.trim())).to_vec()
}

/// What of this could be left in the kernel: tables of devices, and queueing disciplines by their kind.
fn kernel() -> String {
    let tables = run("nft", &["list", "tables", "netdev"]).ok();
    let qdiscs = run("tc", &["qdisc", "show"]).ok();
    let kinds = qdiscs.lines().map(|line| {
        let mut words = line.split_whitespace().skip(1);
        let kind = words.next().unwrap_or_default();
        let device = words.skip_while(|word| *word != "dev").nth(1).unwrap_or_default();
        format!("{kind} {}", device.trim_end_matches(|c: char| c.is_ascii_digit()))
    });
    let mut kinds: Vec<String> = kinds.collect();
    kinds.sort();
    format!("{tables}{}", kinds.join("\n"))
}

/// Nobody calls it a difference or repairs it.
fn is_no_difference() {
    let status = virtlab(&["status", LAB, "-o", "json"]).json();
    assert_eq!(status["differences"], serde_json::json!([]), "{status:#}");
    assert_eq!(virtlab(&["create", LAB, "--dry-run"]).ok(), "");
}

/// What libvirt keeps of the domains.
fn kept() -> String {
    ["spoilt-1", "spoilt-2"].map(|node| virsh(&["dumpxml", "--inactive", node])).concat()
}
