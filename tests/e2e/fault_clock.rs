//! A node whose clock is wrong on purpose: its guest sees it after its next power-on, and it is right again after the one that
//! follows the heal.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use crate::harness::{LabGuard, Said, everything_there, is_healthy, virsh, virtlab, wait_until};
use crate::killing::{Change, killed_at_each_call};
use crate::terminal::inside;

const LONG: Duration = Duration::from_secs(120);
const LAB: &str = "clocked";
const NODE: &str = "clocked-1";

#[test]
fn fault_clock_sets_the_time_of_a_guest_from_its_next_power_on() {
    let nothing = everything_there();
    let guard = LabGuard(LAB);
    virtlab(&["create", LAB, "--nodes", "1", "--memory", "512MiB"]).ok();
    let before = kept();
    assert!(is_about(0), "{}", behind_s());

    let said = virtlab(&["fault", "clock", NODE, "--offset", "-90m"]).ok();
    assert!(said.contains("\nclocked-1  clock --offset -90m  0 s    -\n"), "{said}");
    assert!(is_about(0), "{}", behind_s());
    let status = virtlab(&["status", LAB, "-o", "json"]);
    let why = "clocked-1 is set to another time (clock -90m) by a fault since ";
    assert!(status.stderr.contains(why), "{}", status.stderr);
    let status = status.json();
    assert_eq!(status["nodes"][0]["faults"][0]["clock_offset_s"], -5400, "{status:#}");
    is_no_difference();
    power_cycle();
    assert!(is_about(5400), "{}", behind_s());
    is_no_difference();
    // The last wish counts, a reset is no power-on, and a node that somebody else starts has it as well.
    virtlab(&["fault", "clock", NODE, "--offset", "+2d"]).ok();
    virtlab(&["fault", "reset", NODE]).ok();
    wait_until("a shell that is late", LONG, || is_about(5400));
    virsh(&["destroy", NODE]);
    virsh(&["start", NODE]);
    wait_until("a shell that is early", LONG, || is_about(-172_800));
    wait_until("a healthy cluster in two days", LONG, || is_healthy(LAB));
    is_no_difference();
    virtlab(&["heal", NODE]).ok();
    assert_eq!(kept(), before);
    is_no_difference();
    power_cycle();
    assert!(is_about(0), "{}", behind_s());

    killed_while_it_sets_the_clock_and_heals();
    assert_eq!(kept(), before);
    virtlab(&["fault", "clock", NODE, "--offset", "-1h"]).ok();
    virtlab(&["destroy", LAB]).ok();
    drop(guard);
    assert_eq!(everything_there(), nothing);
}

fn killed_while_it_sets_the_clock_and_heals() {
    let set = "<clock offset='variable' adjustment='-3600' basis='utc'";
    let is_set = |said: &Said, when: &str| {
        assert_eq!(said.code, Some(0), "{when}: {}", said.stderr);
        assert!(kept().contains(set), "{when}");
        assert_eq!(virtlab(&["create", LAB, "--dry-run"]).ok(), "", "{when}");
    };
    let is_healed = |said: &Said, when: &str| {
        assert_eq!(said.code, Some(0), "{when}: {}", said.stderr);
        assert!(kept().contains("<clock offset='utc'"), "{when}");
        assert_eq!(virtlab(&["fault", "list", "-o", "name"]).ok(), "", "{when}");
    };
    killed_at_each_call(
        &Change { args: &["fault", "clock", NODE, "--offset", "-1h"], check: &is_set },
        &Change { args: &["heal", NODE], check: &is_healed },
    );
}

fn power_cycle() {
    virtlab(&["restart", NODE, "--force", "--no-wait"]).ok();
    wait_until("a healthy cluster", LONG, || is_healthy(LAB));
}

/// Whether the guest is so many seconds behind, as far as that can be told of one that is emulated.
fn is_about(seconds: i64) -> bool {
    (behind_s() - seconds).abs() < 60
}

/// How many seconds the guest's clock is behind the host's.
fn behind_s() -> i64 {
    let guest: i64 = inside(NODE, "date +%s").parse().unwrap();
    let host = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs();
    i64::try_from(host).unwrap() - guest
}

/// Nobody calls it a difference or repairs it.
fn is_no_difference() {
    let status = virtlab(&["status", LAB, "-o", "json"]).json();
    assert_eq!(status["differences"], serde_json::json!([]), "{status:#}");
    assert_eq!(virtlab(&["create", LAB, "--dry-run"]).ok(), "");
}

/// What libvirt keeps of the domain.
fn kept() -> String {
    virsh(&["dumpxml", "--inactive", NODE])
}
