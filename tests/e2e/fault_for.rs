//! Faults that end by themselves: the lab's boot server heals them in time, whatever became of the run that made them.

use std::time::{Duration, Instant};

use crate::fault::links;
use crate::fault_power::domstate;
use crate::harness::{
    LabGuard, Said, everything_there, ip, is_healthy, kill, read, state_folder, virsh, virtlab,
    wait_until,
};
use crate::killing::{Change, killed_at_each_call, left_alone_after_each_call};
use crate::terminal::{hears, inside, pings};

const LONG: Duration = Duration::from_secs(120);
/// How long a fault may be overdue on a busy host.
const SOON: Duration = Duration::from_secs(15);
const LAB: &str = "timely";

#[test]
fn fault_for_a_time_is_healed_by_the_boot_server_whoever_was_killed() {
    let nothing = everything_of_the_host();
    let _guard = LabGuard(LAB);
    virtlab(&["create", LAB, "--nodes", "3", "--memory", "512MiB"]).ok();
    let before = virsh(&["nwfilter-list"]);
    a_partition_that_ends();
    assert_eq!(virsh(&["nwfilter-list"]), before);
    a_node_that_is_killed_for_a_time();
    a_run_that_is_killed();
    a_boot_server_that_is_killed();
    one_that_is_healed_before_its_time();
    a_link_that_comes_and_goes();
    // Nothing is left to be healed of a lab that is gone.
    virtlab(&["fault", "partition", LAB, "one", "others", "--for", "3s"]).ok();
    virtlab(&["fault", "kill", "timely-3", "--for", "3s"]).ok();
    virtlab(&["destroy", LAB]).ok();
    assert_eq!(everything_of_the_host(), nothing);
}

fn a_partition_that_ends() {
    let second = ip(LAB, 2);
    hears("timely-1", &second);
    let begun = Instant::now();
    let said = virtlab(&["fault", "partition", LAB, "timely-1", "others", "--for", "12s"]).ok();
    assert!(
        said.starts_with("NODE      FAULT                              SINCE  LEFT\n"),
        "{said}"
    );
    assert!(!pings("timely-1", &second));
    let status = virtlab(&["status", LAB]).stderr;
    assert!(status.contains("timely-2 is kept apart from timely-1 by a fault since "), "{status}");
    assert!(status.contains(" s, healed in "), "{status}");
    wait_until("the end of the partition", 2 * SOON, || are_whole(&[]));
    assert!(begun.elapsed() >= Duration::from_secs(12), "{:?}", begun.elapsed());
    hears("timely-1", &second);
    wait_until("a healthy cluster", LONG, || is_healthy(LAB));
}

fn a_node_that_is_killed_for_a_time() {
    let said = virtlab(&["fault", "kill", LAB, "leader", "--for", "5s"]).ok();
    let node = ["timely-1", "timely-2", "timely-3"];
    let node = node.into_iter().find(|node| said.contains(&format!("\n{node}  kill "))).unwrap();
    assert_eq!(domstate(node), "shut off");
    wait_until("the node to be started", SOON, || domstate(node) == "running");
    // Who waits for it gets what it waits for.
    virtlab(&["wait", LAB]).ok();
    wait_until("a healthy cluster", LONG, || is_healthy(LAB));
    assert!(are_whole(&[]));
}

/// It leaves a mark and perhaps no effect, or it leaves nothing.
fn a_run_that_is_killed() {
    left_alone_after_each_call(&["fault", "cut", "timely-2", "--for", "2s"], &|when| {
        wait_until(when, SOON, || are_whole(&[]));
        assert_eq!(links("timely-2"), ["up", "up"], "{when}");
    });
    wait_until("a healthy cluster", LONG, || is_healthy(LAB));
}

fn a_boot_server_that_is_killed() {
    virtlab(&["fault", "pause", "timely-2", "--for", "3s"]).ok();
    let mark = read(&state_folder(LAB).join("serve.json"));
    let mark: serde_json::Value = serde_json::from_str(&mark).unwrap();
    kill(&mark["pid"].to_string());
    let overdue = || {
        let listed = virtlab(&["fault", "list", LAB]).ok();
        listed.contains("timely-2  pause  ") && listed.trim_end().ends_with("  0 s")
    };
    wait_until("the end of the fault", SOON, overdue);
    assert_eq!(domstate("timely-2"), "paused");
    let said = virtlab(&["fault", "cut", "timely-3", "--for", "3s"]).refused();
    assert!(said.contains("the boot server of lab `timely` does not answer"), "{said}");
    virtlab(&["create", LAB, "--no-wait"]).ok();
    wait_until("the heal of what is overdue", SOON, || are_whole(&[]));
    assert_eq!(domstate("timely-2"), "running");
    wait_until("a healthy cluster", LONG, || is_healthy(LAB));
}

fn one_that_is_healed_before_its_time() {
    virtlab(&["fault", "cut", "timely-3", "--for", "2s"]).ok();
    // The last wish says when it ends.
    virtlab(&["fault", "cut", "timely-3"]).ok();
    virtlab(&["fault", "cut", "timely-2", "--for", "3s"]).ok();
    wait_until("the end of the other fault", SOON, || are_whole(&["timely-3"]));
    virtlab(&["heal", "timely-3"]).ok();
    assert!(are_whole(&[]));
}

fn a_link_that_comes_and_goes() {
    let said = virtlab(&["fault", "cut", "timely-2", "--flap", "1s"]).ok();
    assert!(said.contains("\ntimely-2  cut --flap 1s  0 s    -\n"), "{said}");
    let carriers =
        "for i in $(seq 40); do cat /sys/class/net/eth0/carrier; sleep 0.2; done | uniq -c | wc -l";
    // By turns of a second, in the eight seconds or more of this.
    let turns: usize = inside("timely-2", carriers).parse().unwrap();
    println!("a link that comes and goes each second changed {} times in 8 s or more", turns - 1);
    assert!(turns > 4, "{turns}");
    let status = virtlab(&["status", LAB, "-o", "json"]);
    let why = "timely-2 is cut off and back by turns of 1s by a fault since ";
    assert!(status.stderr.contains(why), "{}", status.stderr);
    assert_eq!(status.json()["differences"], serde_json::json!([]));
    assert_eq!(virtlab(&["create", LAB, "--dry-run"]).ok(), "");
    let is_flapping = |said: &Said, when: &str| {
        assert_eq!(said.code, Some(0), "{when}: {}", said.stderr);
        let kept = links("timely-2")[1];
        assert_eq!(kept, "down", "{when}");
    };
    let is_healed = |said: &Said, when: &str| {
        assert_eq!(said.code, Some(0), "{when}: {}", said.stderr);
        for _ in 0..15 {
            assert_eq!(links("timely-2"), ["up", "up"], "{when}");
            std::thread::sleep(Duration::from_millis(100));
        }
    };
    killed_at_each_call(
        &Change { args: &["fault", "cut", "timely-2", "--flap", "500ms"], check: &is_flapping },
        &Change { args: &["heal", "timely-2"], check: &is_healed },
    );
    virtlab(&["fault", "cut", "timely-2", "--flap", "500ms", "--for", "3s"]).ok();
    wait_until("the end of the fault", SOON, || are_whole(&[]));
    is_healed(&virtlab(&["heal", LAB]), "ended by itself");
    hears("timely-1", &ip(LAB, 2));
    wait_until("a healthy cluster", LONG, || is_healthy(LAB));
}

/// Whether these nodes have faults, and no others.
fn are_whole(but: &[&str]) -> bool {
    let faulty = virtlab(&["fault", "list", LAB, "-o", "name"]).ok();
    faulty.split_whitespace().eq(but.iter().copied())
}

fn everything_of_the_host() -> String {
    format!("{}\n{}", everything_there(), virsh(&["nwfilter-list"]))
}
