//! Every way to boot that makes sense, to a node that is ready. The serial console is the oracle of
//! what really went over which wire.
//!
//! The lines `boot: …` are what docs/performance.md has in its table: `-- boot_matrix --nocapture`.

use crate::harness::{LabGuard, everything_there, virsh, virtlab};

/// Boots one node of `micro` with these flags and gives its console log.
#[track_caller]
fn boot(guard: &LabGuard, flags: &[&str]) -> String {
    let lab = guard.0;
    // TFTP over an emulated real-mode driver is slow, and so is a busy machine.
    let args = ["create", lab, "--nodes", "1", "--memory", "512MiB", "--timeout", "15m"];
    let said = virtlab(&[&args, flags].concat());
    assert_eq!(said.code, Some(0), "{flags:?}: {}", said.stderr);
    let status = virtlab(&["status", lab, "-o", "json"]).json();
    let node = &status["nodes"][0];
    assert_eq!((&node["state"], &node["ready"]), (&"ready".into(), &true.into()), "{node}");
    let console = format!("/var/lib/libvirt/virtlab-{lab}/{lab}-1.console.log");
    let console = String::from_utf8_lossy(&std::fs::read(console).unwrap()).into_owned();
    // The kernel's clock when it asked for its config, and ours when it got it.
    let line = console.lines().find(|line| line.contains("ignition: fetch")).expect("a line");
    let uptime = line.split_once('[').and_then(|(_, rest)| rest.split_once(']')).expect("a time").0;
    let config = node["seconds"]["config"].as_f64().unwrap();
    let kernel = config - uptime.parse::<f64>().expect("seconds");
    assert!(kernel > 0.0, "config after {config} s, with the kernel running for {uptime} s");
    let ready = node["seconds"]["ready"].as_f64().unwrap();
    println!("boot: {} kernel {kernel:.1} s ready {ready:.1} s", flags.join(" "));
    console
}

/// iPXE says the URL or name, how much it has in percent, and `ok` at the end.
#[track_caller]
fn assert_loaded(console: &str, expected: &[&str]) {
    for file in expected {
        let start = format!("{file}...");
        let mut lines = console.lines().map(str::trim_end);
        let loaded = lines.any(|line| line.contains(&start) && line.ends_with("ok"));
        assert!(loaded, "`{file}` was not loaded:\n{console}");
    }
}

/// Without the sequences that move the cursor: the firmware sends one in the middle of a word where its screen scrolls.
fn without_sequences(console: &str) -> String {
    let mut parts = console.split("\u{1b}[");
    let mut text = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        let rest = part.trim_start_matches(|c: char| c.is_ascii_digit() || ";?".contains(c));
        text.extend(rest.chars().skip(1));
    }
    text
}

#[test]
fn bios_with_ipxe_over_http() {
    let guard = LabGuard("bih");
    let console = boot(&guard, &[]);
    assert_loaded(&console, &["/boot.ipxe", "/files/vmlinuz", "/files/initrd.img"]);
}

#[test]
fn bios_with_ipxe_over_tftp() {
    let guard = LabGuard("bit");
    let console = boot(&guard, &["--transport", "tftp"]);
    assert_loaded(&console, &["-00-01.ipxe", "vmlinuz", "initrd.img"]);
    assert!(!console.contains("/files/"), "{console}");
}

#[test]
fn bios_with_pxelinux_over_tftp() {
    let guard = LabGuard("bpt");
    let console = boot(&guard, &["--loader", "pxelinux"]);
    assert_loaded(&console, &["/pxelinux.0"]);
    assert!(without_sequences(&console).contains("PXELINUX 6"), "{console}");
}

#[test]
fn uefi_with_ipxe_over_http_and_nothing_is_left_of_its_nvram() {
    let before = everything_there();
    let guard = LabGuard("uih");
    let console = boot(&guard, &["--firmware", "uefi"]);
    assert_loaded(&console, &["/boot.ipxe", "/files/vmlinuz"]);
    let xml = virsh(&["dumpxml", "uih-1"]);
    let nvram = xml.split("<nvram").nth(1).and_then(|rest| rest.split(['>', '<']).nth(1)).unwrap();
    assert!(std::path::Path::new(nvram).exists(), "{nvram}");
    virtlab(&["destroy", "uih"]).ok();
    assert!(!std::path::Path::new(nvram).exists(), "{nvram}");
    assert_eq!(everything_there(), before);
}

#[test]
fn uefi_with_ipxe_over_tftp_with_secure_boot_and_no_keys() {
    let guard = LabGuard("uits");
    let console = boot(&guard, &["--firmware", "uefi", "--transport", "tftp", "--secure-boot"]);
    assert_loaded(&console, &["vmlinuz", "initrd.img"]);
    let xml = virsh(&["dumpxml", "uits-1"]);
    assert!(xml.contains("<loader readonly='yes' secure='yes'"), "{xml}");
}

#[test]
fn an_empty_disk_is_passed_over_and_goes_with_the_lab() {
    let before = everything_there();
    let guard = LabGuard("disk");
    let flags = ["--disk", "1GiB", "--graphics", "vnc", "--nic", "disk", "--no-share-pages"];
    boot(&guard, &flags);
    let volumes = virsh(&["vol-list", "virtlab-disk"]);
    assert!(volumes.contains("disk-1.qcow2"), "{volumes}");
    let xml = virsh(&["dumpxml", "disk-1"]);
    assert_eq!(xml.matches("<interface type='network'>").count(), 2, "{xml}");
    assert!(xml.contains("<nosharepages/>") && xml.contains("<graphics type='vnc'"), "{xml}");
    virtlab(&["destroy", "disk"]).ok();
    assert_eq!(everything_there(), before);
}
