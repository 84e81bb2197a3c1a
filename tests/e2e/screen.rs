//! Nodes with a screen.

use std::time::Duration;

use crate::harness::{LabGuard, virsh, virtlab, wait_until};

#[test]
fn the_screen_shows_what_boots_and_the_serial_console_still_does() {
    let _lab = LabGuard("xscreen");
    let create = ["create", "xscreen", "--nodes", "1", "--memory", "512MiB", "--graphics", "vnc"];
    let made = virtlab(&create);
    assert_eq!(made.code, Some(0), "{}", made.stderr);
    for console in [screen as fn(&str) -> String, serial_log] {
        wait_until("both consoles to show the system", Duration::from_secs(60), || {
            let text = console("xscreen-1");
            text.contains("micro: [") && text.contains("etcd: healthy")
        });
    }
}

/// The characters in the video card's text memory, 32 KiB of pairs of a character and its colours.
fn screen(node: &str) -> String {
    let dump = virsh(&["qemu-monitor-command", node, "--hmp", "xp /32768bx 0xb8000"]);
    let bytes = dump.lines().filter_map(|line| line.split_once(": ")).flat_map(|(_, bytes)| {
        bytes
            .split_whitespace()
            .filter_map(|byte| u8::from_str_radix(byte.strip_prefix("0x")?, 16).ok())
    });
    bytes.step_by(2).map(char::from).collect()
}

fn serial_log(node: &str) -> String {
    let xml = virsh(&["dumpxml", node]);
    let (_, rest) = xml.split_once("<log file='").expect("a log of the serial console");
    let (path, _) = rest.split_once('\'').expect("its path");
    String::from_utf8_lossy(&std::fs::read(path).expect("root can read it")).into_owned()
}
