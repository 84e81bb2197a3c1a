//! Kernel samepage merging of the real host: switched on for labs, put back whatever happens, and
//! measured.
//!
//! It is one setting of the whole host, which a sandbox does not hide: two runs of these tests at
//! the same time get into each other's way.

use std::fmt::Write;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};
use virtlab::memory::Curve;

use crate::harness::{
    LabGuard, Said, everything_there, run, state_folder, virsh, virtlab, virtlab_command,
    wait_until,
};

/// Everything that virtlab may set, as text to compare.
fn settings() -> String {
    let mut text = String::new();
    for name in ["run", "pages_to_scan", "sleep_millisecs", "smart_scan"] {
        let value = std::fs::read_to_string(Path::new(KSM).join(name)).unwrap();
        write!(text, "{name}: {value}").unwrap();
    }
    text
}

fn is_on() -> bool {
    std::fs::read_to_string(Path::new(KSM).join("run")).unwrap().trim() == "1"
}

/// Switches KSM off, so that a test sees it go on.
fn off() -> String {
    virtlab(&["ksm", "off"]).ok();
    settings()
}

fn create(lab: &str) -> [&str; 8] {
    ["create", lab, "--nodes", "1", "--memory", "512MiB", "--no-wait", "--ksm"]
}

#[test]
fn merging_is_on_while_a_lab_asks_for_it_and_then_as_before() {
    let before = off();
    let _guards = [LabGuard("merge-a"), LabGuard("merge-b")];
    virtlab(&create("merge-a")).ok();
    assert!(is_on());
    virtlab(&create("merge-b")).ok();
    let status = virtlab(&["status", "merge-a", "-o", "json"]).json();
    assert_eq!(status["memory"]["ksm"]["run"], "running");
    assert!(status["memory"]["resident_bytes"].as_u64().unwrap() > 20 << 20, "{status}");

    virtlab(&["destroy", "merge-a"]).ok();
    assert!(is_on(), "merge-b still wants it");
    let said = virtlab(&["destroy", "merge-b"]);
    assert!(said.stderr.contains("KSM is as it was before the first lab"), "{}", said.stderr);
    assert_eq!(settings(), before);
    assert!(!Path::new(CLAIMS).exists());
}

#[test]
fn whenever_virtlab_is_killed_the_next_command_puts_merging_right() {
    let before = off();
    let _guard = LabGuard("merge-k");
    for milliseconds in [0, 20, 100, 400] {
        let mut child = virtlab_command(&create("merge-k")).stderr(Stdio::null()).spawn().unwrap();
        wait_until("KSM is switched on", Duration::from_secs(60), is_on);
        std::thread::sleep(Duration::from_millis(milliseconds));
        child.kill().unwrap();
        child.wait().unwrap();
        let labs = virtlab(&["list", "-o", "name"]).ok();
        let is_there = labs.lines().any(|name| name == "merge-k");
        assert_eq!(is_on(), is_there, "killed {milliseconds} ms after it was on");
        // Its folder may be there without the lab.
        let said = virtlab(&["destroy", "merge-k"]);
        assert!(said.code == Some(0) || said.stderr.contains("there is no lab"), "{}", said.stderr);
        assert_eq!(settings(), before, "killed {milliseconds} ms after it was on");
    }
}

#[test]
fn a_destroy_that_is_killed_or_done_by_hand_is_put_right_by_the_next_command() {
    let before = off();
    let _guard = LabGuard("merge-d");
    for milliseconds in [30, 150, 500] {
        virtlab(&create("merge-d")).ok();
        let mut child =
            virtlab_command(&["destroy", "merge-d"]).stderr(Stdio::null()).spawn().unwrap();
        std::thread::sleep(Duration::from_millis(milliseconds));
        child.kill().unwrap();
        child.wait().unwrap();
        virtlab(&["destroy", "merge-d"]);
        assert_eq!(settings(), before, "killed after {milliseconds} ms");
    }

    virtlab(&create("merge-d")).ok();
    virsh(&["destroy", "merge-d-1"]);
    virsh(&["undefine", "merge-d-1"]);
    virsh(&["net-destroy", "merge-d"]);
    virsh(&["net-undefine", "merge-d"]);
    virsh(&["pool-destroy", "virtlab-merge-d"]);
    virsh(&["pool-undefine", "virtlab-merge-d"]);
    assert!(is_on());
    let said = virtlab(&["list"]);
    assert!(said.stderr.contains("KSM is as it was before the first lab"), "{}", said.stderr);
    assert_eq!(settings(), before);
    virtlab(&["destroy", "merge-d"]).ok();
    std::fs::remove_dir_all("/var/lib/libvirt/virtlab-merge-d").unwrap();
}

/// Runs virtlab where `/sys/kernel/mm/ksm` is another: `change` gets the folder of a recorded one.
fn virtlab_with_ksm(args: &[&str], change: impl FnOnce(&Path)) -> Said {
    let folder = tempfile::tempdir().unwrap();
    let ksm = folder.path().join("ksm");
    std::fs::create_dir(&ksm).unwrap();
    for line in include_str!("../fixtures/ksm-6.18.txt").lines() {
        let (name, value) = line.split_once(' ').unwrap();
        std::fs::write(ksm.join(name), format!("{value}\n")).unwrap();
    }
    change(&ksm);
    let mut command = Command::new("unshare");
    command.args(["--mount", "bash", "-ec", "mount --bind \"$0\" /sys/kernel/mm; exec \"$@\""]);
    command.arg(folder.path()).arg(env!("CARGO_BIN_EXE_virtlab")).args(args);
    command.output().expect("unshare (package util-linux) runs").into()
}

#[test]
fn without_permission_nothing_is_made_and_the_command_to_type_is_told() {
    let before = everything_there();
    let _guard = LabGuard("merge-p");
    let said = virtlab_with_ksm(&create("merge-p"), |ksm| {
        std::fs::remove_file(ksm.join("run")).unwrap();
        // The kernel lets not even root write this one.
        std::os::unix::fs::symlink("/sys/kernel/uevent_seqnum", ksm.join("run")).unwrap();
    });
    assert_eq!(said.code, Some(1));
    let error = "error: switching on kernel samepage merging: \
                 writing `/sys/kernel/mm/ksm/run`: no permission";
    assert!(said.stderr.contains(error), "{}", said.stderr);
    let hint = "hint: echo 1 | sudo tee /sys/kernel/mm/ksm/run";
    assert!(said.stderr.contains(hint), "{}", said.stderr);
    assert_eq!(everything_there(), before);
    assert!(!state_folder("merge-p").exists());
    assert!(!Path::new(CLAIMS).exists());
}

#[test]
fn without_merging_in_the_kernel_nothing_is_made_and_numbers_are_not_available() {
    let before = everything_there();
    let _guard = LabGuard("merge-n");
    let remove = |ksm: &Path| std::fs::remove_dir_all(ksm).unwrap();
    let missing = "this kernel has no kernel samepage merging: there is no `/sys/kernel/mm/ksm`";
    for args in [&create("merge-n")[..], &["ksm", "status"], &["ksm", "on"]] {
        let said = virtlab_with_ksm(args, remove);
        assert_eq!(said.code, Some(1), "{args:?}");
        assert!(said.stderr.contains(missing), "{args:?}: {}", said.stderr);
        assert!(said.stderr.contains("hint: virtlab works without it"), "{}", said.stderr);
    }
    assert_eq!(everything_there(), before);

    virtlab(&create("merge-n")[..7]).ok();
    for (command, says_so) in [("status", false), ("memory", true)] {
        let said = virtlab_with_ksm(&[command, "merge-n"], remove);
        assert_eq!(said.code, Some(0), "{}", said.stderr);
        assert_eq!(said.stderr.contains("KSM: not available"), says_so, "{}", said.stderr);
    }
}

#[test]
fn an_older_kernel_has_no_profit_and_all_the_rest() {
    let without = |ksm: &Path| {
        for name in ["general_profit", "ksm_zero_pages", "smart_scan"] {
            std::fs::remove_file(ksm.join(name)).unwrap();
        }
    };
    let table = virtlab_with_ksm(&["ksm", "status"], without).ok();
    assert!(table.contains("profit        not available\n"), "{table}");
    assert!(table.contains("saved         4.06 GiB\n"), "{table}");
    let json = virtlab_with_ksm(&["ksm", "status", "-o", "json"], without).json();
    assert_eq!(json["general_profit_bytes"], serde_json::Value::Null);
    assert_eq!(json["pages_sharing"], 1_065_216);
}

#[test]
fn the_memory_of_a_lab_is_what_the_kernel_says_and_grows_a_curve() {
    let _guard = LabGuard("merge-m");
    virtlab(&create("merge-m")[..7]).ok();
    let folder = tempfile::tempdir().unwrap();
    let (svg, csv) = (folder.path().join("m.svg"), folder.path().join("m.csv"));
    std::fs::write(&csv, "nodes,without_ksm_mib,with_ksm_mib\n2,700,500\n").unwrap();
    let files = ["--svg", svg.to_str().unwrap(), "--csv", csv.to_str().unwrap()];
    let json = virtlab(&[&["memory", "merge-m", "-o", "json"], &files[..]].concat()).json();

    let qemu = run("pgrep", &["-f", "guest=merge-m-1"]).ok();
    let status = std::fs::read_to_string(format!("/proc/{}/status", qemu.trim())).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
    let resident = line.trim().trim_end_matches(" kB").parse::<u64>().unwrap() * 1024;
    let told = json["nodes"][0]["resident_bytes"].as_u64().unwrap();
    assert!(told.abs_diff(resident) < 100 << 20, "told {told}, now {resident}");
    assert_eq!(json["nodes"][0]["node"], "merge-m-1");
    assert!(json["ksm"]["saved_bytes"].is_u64(), "{json}");

    let curve = Curve::from_csv(&std::fs::read_to_string(&csv).unwrap()).unwrap();
    let nodes: Vec<u32> = curve.samples().iter().map(|sample| sample.nodes).collect();
    assert_eq!(nodes, [1, 2], "what the file had stays");
    assert_eq!(curve.samples()[0].without_ksm_bytes, told);
    let drawn = std::fs::read_to_string(&svg).unwrap();
    quick_xml::de::from_str::<serde::de::IgnoredAny>(&drawn).unwrap();
    assert!(drawn.starts_with("<svg "), "{drawn}");

    let remote = remote_uri(folder.path());
    let said = virtlab(&["--connect", &remote, "memory", "merge-m", "-o", "json"]);
    assert!(said.stderr.contains("libvirt does not tell what is merged"), "{}", said.stderr);
    let json = said.json();
    assert!(json["nodes"][0]["resident_bytes"].as_u64().unwrap() > 20 << 20, "{json}");
    assert_eq!(json["nodes"][0]["merged_bytes"], serde_json::Value::Null);
    let here = std::fs::read_to_string(Path::new(KSM).join("pages_to_scan")).unwrap();
    assert_eq!(json["ksm"]["pages_to_scan"].to_string(), here.trim());
    assert_eq!(json["ksm"]["run"], serde_json::Value::Null);
}

/// A URI by which libvirt takes this host for another one.
/// <https://libvirt.org/uri.html#transport-configuration>
fn remote_uri(folder: &Path) -> String {
    let script = folder.join("transport");
    std::fs::write(&script, "#!/bin/sh\nexec virt-ssh-helper qemu:///system\n").unwrap();
    run("chmod", &["+x", script.to_str().unwrap()]).ok();
    format!("qemu+ext://elsewhere/system?command={}", script.display())
}

#[test]
fn a_curve_that_is_interrupted_keeps_what_was_measured_and_nothing_else() {
    let (before, there) = (off(), everything_there());
    let _guard = LabGuard("memory-curve");
    let folder = tempfile::tempdir().unwrap();
    let (svg, csv) = (folder.path().join("c.svg"), folder.path().join("c.csv"));
    let mut command = virtlab_command(&["memory", "curve", "--max-nodes", "3"]);
    command.args(["--memory", "512MiB", "--svg"]).arg(&svg).arg("--csv").arg(&csv);
    let child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    wait_until("a first sample", Duration::from_secs(300), || csv.exists());
    kill_process(Pid::from_raw(child.id().cast_signed()).unwrap(), Signal::INT).unwrap();
    let output = child.wait_with_output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    // It ends by the signal, as a shell expects.
    assert_eq!(std::os::unix::process::ExitStatusExt::signal(&output.status), Some(2), "{said}");
    assert!(said.contains("1 node(s): "), "{said}");

    let curve = Curve::from_csv(&std::fs::read_to_string(&csv).unwrap()).unwrap();
    assert_eq!(curve.samples().len(), 1);
    let sample = &curve.samples()[0];
    assert!(sample.without_ksm_bytes > 100 << 20, "{sample:?}");
    assert!(sample.with_ksm_bytes <= sample.without_ksm_bytes, "{sample:?}");
    assert!(svg.exists());
    assert_eq!(settings(), before);
    assert_eq!(everything_there(), there);
}

const KSM: &str = "/sys/kernel/mm/ksm";
const CLAIMS: &str = "/run/virtlab/ksm.json";
