//! Nodes that have less of something on purpose: the guest sees it, all that virtlab does keeps it, and nothing is left of it
//! when it is healed.

use std::io::Write;
use std::path::Path;
use std::time::Duration;

use crate::harness::{
    LabGuard, Said, everything_there, is_healthy, read, run, virsh, virtlab, wait_until,
};
use crate::killing::{Change, killed_at_each_call};
use crate::terminal::inside;

const LONG: Duration = Duration::from_secs(120);
const LAB: &str = "scant";

#[test]
fn fault_of_resources_is_seen_by_the_guest_and_kept_until_it_is_healed() {
    let nothing = everything_there();
    // A machine without the controller refuses the fault, and the sandbox is one by itself.
    let guard = LabGuard(LAB);
    virtlab(&["create", LAB, "--nodes", "1", "--memory", "512MiB", "--disk", "64MiB"]).ok();
    let refused = virtlab(&["fault", "starve", "scant-1"]).refused();
    assert!(
        refused.contains("cannot limit processors: cgroup CPU controller is not mounted"),
        "{refused}"
    );
    assert_eq!(virtlab(&["fault", "list", "-o", "name"]).ok(), "");
    let before = everything();
    a_node_that_is_squeezed();
    assert_eq!(everything(), before);
    killed_while_it_squeezes_and_heals();
    assert_eq!(everything(), before);
    a_node_whose_disk_is_slow();
    assert_eq!(everything(), before);
    killed_while_it_slows_a_disk_and_heals();
    assert_eq!(everything(), before);
    virtlab(&["fault", "squeeze", "scant-1", "--memory", "300MiB"]).ok();
    virtlab(&["destroy", LAB]).ok();

    let Some(_cgroups) = CpuController::mount() else {
        // The harness keeps to itself what is printed.
        let why = "this machine has no cgroup controller `cpu` that can be mounted";
        writeln!(std::io::stderr(), "skipped: `fault starve` of a real guest: {why}").unwrap();
        return;
    };
    virtlab(&["create", LAB, "--nodes", "1", "--memory", "512MiB"]).ok();
    let before = domain();
    a_node_that_is_starved();
    assert_eq!(domain(), before);
    killed_while_it_starves_and_heals();
    assert_eq!(domain(), before);
    virtlab(&["fault", "starve", "scant-1"]).ok();
    virtlab(&["destroy", LAB]).ok();
    drop(guard);
    assert_eq!(everything_there(), nothing);
}

fn a_node_that_is_squeezed() {
    wait_until("a healthy cluster", LONG, || is_healthy(LAB));
    let whole = memory();
    let said = virtlab(&["fault", "squeeze", "scant-1", "--memory", "300MiB"]).ok();
    assert!(said.contains("\nscant-1  squeeze --memory 300MiB  0 s    -\n"), "{said}");
    let taken = 212 * 1024;
    wait_until("the guest gives its memory up", LONG, || memory() + taken == whole);
    println!("in KiB: {whole}, squeezed {}", memory());
    let status = virtlab(&["status", LAB, "-o", "json"]);
    let why = "scant-1 is squeezed (memory 300MiB) by a fault since ";
    assert!(status.stderr.contains(why), "{}", status.stderr);
    let status = status.json();
    assert_eq!(status["nodes"][0]["faults"][0]["memory_mib"], 300, "{status:#}");
    is_no_difference();
    // The last wish counts, and it outlives a restart.
    virtlab(&["fault", "squeeze", "scant-1", "--memory", "400MiB"]).ok();
    wait_until("some of it is back", LONG, || memory() + 112 * 1024 == whole);
    virtlab(&["restart", "scant-1", "--force", "--no-wait"]).ok();
    wait_until("the guest gives it up again", LONG, || memory() + 112 * 1024 == whole);
    is_no_difference();
    virtlab(&["heal", "scant-1"]).ok();
    wait_until("all of it is back", LONG, || memory() == whole);
    is_no_difference();
}

fn killed_while_it_squeezes_and_heals() {
    let kept = || virsh(&["dumpxml", "--inactive", "scant-1"]);
    let is_squeezed = |said: &Said, when: &str| {
        assert_eq!(said.code, Some(0), "{when}: {}", said.stderr);
        assert!(kept().contains("<currentMemory unit='KiB'>307200<"), "{when}");
        assert_eq!(virtlab(&["create", LAB, "--dry-run"]).ok(), "", "{when}");
    };
    let is_healed = |said: &Said, when: &str| {
        assert_eq!(said.code, Some(0), "{when}: {}", said.stderr);
        assert!(kept().contains("<currentMemory unit='KiB'>524288<"), "{when}");
        assert_eq!(virtlab(&["fault", "list", "-o", "name"]).ok(), "", "{when}");
    };
    let squeeze = ["fault", "squeeze", "scant-1", "--memory", "300MiB"];
    killed_at_each_call(
        &Change { args: &squeeze, check: &is_squeezed },
        &Change { args: &["heal", "scant-1"], check: &is_healed },
    );
    let runs = || virsh(&["dumpxml", "scant-1"]).contains("<currentMemory unit='KiB'>524288<");
    wait_until("all of it is back", LONG, runs);
}

/// The image has no driver for disks, so QEMU is the witness.
fn a_node_whose_disk_is_slow() {
    assert_eq!(throttling(), "");
    let slow = ["fault", "slow-disk", "scant-1", "--iops", "500", "--rate", "2MiB"];
    let said = virtlab(&slow).ok();
    assert!(said.contains("\nscant-1  slow-disk --iops 500 --rate 2MiB  0 s    -\n"), "{said}");
    assert!(throttling().contains(" bps=2097152 ") && throttling().contains(" iops=500 "));
    let status = virtlab(&["status", LAB, "-o", "json"]);
    let why = "scant-1 is slow of disk (500iops,2MiB/s) by a fault since ";
    assert!(status.stderr.contains(why), "{}", status.stderr);
    let status = status.json();
    assert_eq!(status["nodes"][0]["faults"][0]["bytes_per_second"], 2 << 20, "{status:#}");
    is_no_difference();
    // The last wish counts, and it outlives a restart.
    virtlab(&["fault", "slow-disk", "scant-1", "--iops", "50"]).ok();
    assert_eq!(paces(), ["<total_iops_sec>50</total_iops_sec>"; 2]);
    virtlab(&["restart", "scant-1", "--force", "--no-wait"]).ok();
    assert!(throttling().contains(" bps=0 ") && throttling().contains(" iops=50 "));
    is_no_difference();
    virtlab(&["heal", "scant-1"]).ok();
    assert_eq!(throttling(), "");
    is_no_difference();
}

fn killed_while_it_slows_a_disk_and_heals() {
    let is_slow = |said: &Said, when: &str| {
        assert_eq!(said.code, Some(0), "{when}: {}", said.stderr);
        assert_eq!(paces(), ["<total_iops_sec>50</total_iops_sec>"; 2], "{when}");
        assert_eq!(virtlab(&["create", LAB, "--dry-run"]).ok(), "", "{when}");
    };
    let is_healed = |said: &Said, when: &str| {
        assert_eq!(said.code, Some(0), "{when}: {}", said.stderr);
        assert_eq!(paces(), ["", ""], "{when}");
        assert_eq!(virtlab(&["fault", "list", "-o", "name"]).ok(), "", "{when}");
    };
    killed_at_each_call(
        &Change { args: &["fault", "slow-disk", "scant-1", "--iops", "50"], check: &is_slow },
        &Change { args: &["heal", "scant-1"], check: &is_healed },
    );
}

/// What QEMU says of the limits of the disk.
fn throttling() -> String {
    let disks = virsh(&["qemu-monitor-command", "scant-1", "--hmp", "info block"]);
    assert!(disks.contains("virtio-disk0"), "{disks}");
    disks.lines().find(|line| line.contains("I/O throttling")).unwrap_or_default().to_owned()
}

/// What limits the disk in what runs, and in what libvirt keeps.
fn paces() -> [String; 2] {
    let pace = |xml: String| {
        let (_, after) = xml.split_once("<iotune>").unwrap_or_default();
        after.split("</iotune>").next().unwrap_or_default().trim().to_owned()
    };
    [pace(virsh(&["dumpxml", "scant-1"])), pace(virsh(&["dumpxml", "--inactive", "scant-1"]))]
}

/// What the guest has, in KiB.
fn memory() -> u64 {
    inside("scant-1", "awk '/MemTotal/ { print $2 }' /proc/meminfo").parse().unwrap()
}

/// What runs of the domain, and what libvirt keeps of it. Of what runs each start has its own.
fn everything() -> String {
    let running = virsh(&["dumpxml", "scant-1"]);
    let own = ["<domain ", "<target dev='vnet", "<source path='/dev/pts", "tty='", "portid='"];
    let is_fixed = |line: &&str| !own.iter().any(|word| line.contains(word));
    let fixed: Vec<&str> = running.lines().filter(is_fixed).collect();
    format!("{}\n{}", fixed.join("\n"), domain())
}

fn a_node_that_is_starved() {
    wait_until("a healthy cluster", LONG, || is_healthy(LAB));
    let whole = work();
    let said = virtlab(&["fault", "starve", "scant-1", "--cpu", "20%"]).ok();
    assert!(said.contains("\nscant-1  starve --cpu 20%  0 s    -\n"), "{said}");
    let starved = work();
    println!("counted to in a second: {whole}, starved {starved}");
    assert!(starved * 2 < whole, "{starved} of {whole}");
    let status = virtlab(&["status", LAB, "-o", "json"]);
    let why = "scant-1 is starved (CPU 20%) by a fault since ";
    assert!(status.stderr.contains(why), "{}", status.stderr);
    let status = status.json();
    assert_eq!(status["nodes"][0]["faults"][0]["cpu_percent"], 20, "{status:#}");
    is_no_difference();
    // The last wish counts, and it outlives a restart.
    virtlab(&["fault", "starve", "scant-1", "--cpu", "40%"]).ok();
    assert_eq!(quotas(), ["40000", "40000"]);
    virtlab(&["restart", "scant-1", "--force", "--no-wait"]).ok();
    assert_eq!(quotas(), ["40000", "40000"]);
    is_no_difference();
    virtlab(&["heal", "scant-1"]).ok();
    is_no_difference();
    virtlab(&["wait", LAB]).ok();
    let healed = work();
    println!("healed {healed}");
    assert!(starved * 2 < healed, "{starved} of {healed}");
}

fn killed_while_it_starves_and_heals() {
    let is_starved = |said: &Said, when: &str| {
        assert_eq!(said.code, Some(0), "{when}: {}", said.stderr);
        assert_eq!(quotas(), ["10000", "10000"], "{when}");
        assert_eq!(virtlab(&["create", LAB, "--dry-run"]).ok(), "", "{when}");
    };
    let is_healed = |said: &Said, when: &str| {
        assert_eq!(said.code, Some(0), "{when}: {}", said.stderr);
        assert_eq!(quotas(), ["-1", ""], "{when}");
        assert_eq!(virtlab(&["fault", "list", "-o", "name"]).ok(), "", "{when}");
    };
    killed_at_each_call(
        &Change { args: &["fault", "starve", "scant-1"], check: &is_starved },
        &Change { args: &["heal", "scant-1"], check: &is_healed },
    );
}

/// How far a shell in the guest counts within some seconds, for each of them.
fn work() -> u64 {
    let count = "n=0; e=$(($(date +%s)+6)); while [ $(date +%s) -lt $e ]; do n=$((n+1)); done; echo $((n/6))";
    inside("scant-1", count).parse().unwrap()
}

/// Nobody calls it a difference or repairs it.
fn is_no_difference() {
    let status = virtlab(&["status", LAB, "-o", "json"]).json();
    assert_eq!(status["differences"], serde_json::json!([]), "{status:#}");
    assert_eq!(virtlab(&["create", LAB, "--dry-run"]).ok(), "");
}

/// In what runs, and in what libvirt keeps.
fn quotas() -> [String; 2] {
    let quota = |xml: String| {
        let (_, after) = xml.split_once("<quota>").unwrap_or_default();
        after.split('<').next().unwrap_or_default().to_owned()
    };
    [quota(virsh(&["dumpxml", "scant-1"])), quota(virsh(&["dumpxml", "--inactive", "scant-1"]))]
}

/// What libvirt keeps of the domain.
fn domain() -> String {
    virsh(&["dumpxml", "--inactive", "scant-1"])
}

/// The controller `cpu` of the sandbox, below a group of its own that goes with it.
struct CpuController {
    group: std::path::PathBuf,
}

impl CpuController {
    fn mount() -> Option<Self> {
        let at = Path::new(AT);
        let (cpu, all) = (at.join("cpu"), at.join("all"));
        run("mount", &["-n", "-t", "tmpfs", "tmpfs", AT]).ok();
        std::fs::create_dir_all(&cpu).unwrap();
        std::fs::create_dir_all(&all).unwrap();
        let all_path = all.to_str().unwrap();
        if run("mount", &["-n", "-t", "cgroup", "-o", "cpu", "cgroup", all_path]).code != Some(0) {
            run("umount", &["-n", AT]).ok();
            return None;
        }
        let group = all.join(std::env::var("VIRTLAB_SANDBOX").unwrap());
        std::fs::create_dir_all(&group).unwrap();
        run("mount", &["-n", "--bind", group.to_str().unwrap(), cpu.to_str().unwrap()]).ok();
        assert!(read(Path::new("/proc/mounts")).contains(cpu.to_str().unwrap()));
        Some(Self { group })
    }
}

impl Drop for CpuController {
    fn drop(&mut self) {
        run("find", &[self.group.to_str().unwrap(), "-depth", "-type", "d", "-delete"]).ok();
        run("umount", &["-n", "-R", AT]).ok();
    }
}

const AT: &str = "/sys/fs/cgroup";
