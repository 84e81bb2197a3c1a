//! iPXE's two seconds, and who gets the keys that end them. libvirtd's log is the oracle of what was sent, and a guest
//! that shows what comes from its keyboard.

use std::path::Path;
use std::time::Duration;

use serde_json::Value;

use crate::harness::{LabGuard, read, run, virsh, virtlab, wait_until};

const LONG: Duration = Duration::from_secs(300);

#[test]
fn a_node_gets_keys_until_it_asks_for_its_script_and_none_after_that() {
    let folder = tempfile::tempdir().unwrap();
    let _guard = LabGuard("knock");
    let config = folder.path().join("keys.ign.j2");
    fs_err::write(&config, SHOWS_KEYS).unwrap();
    let log = folder.path().join("libvirtd.log");
    let log = Log::new(&log);
    for firmware in ["bios", "uefi"] {
        let sent_before = log.keys().len();
        let args = ["create", "knock", "--nodes", "1", "--memory", "512MiB", "--ready", "config"];
        let config = config.to_str().unwrap();
        virtlab(&[&args[..], &["--config", config, "--firmware", firmware]].concat()).ok();
        assert_knocked(&log.keys()[sent_before..], firmware);

        wait_until("the keyboard is read", LONG, || console().contains("reading keys"));
        // What was sent before is over when this one comes.
        virsh(&["send-key", "knock-1", "KEY_A"]);
        wait_until("a key by hand", LONG, || console().contains("key: 30"));
        let console = console();
        assert_eq!(console.matches("key: ").count(), 1, "{console}");

        if firmware == "bios" {
            // However it boots anew.
            let sent_before = log.keys().len();
            virsh(&["reset", "knock-1"]);
            wait_until("the config again", LONG, || {
                has("config") && log.keys().len() > sent_before
            });
            assert_knocked(&log.keys()[sent_before..], "reset");
        }
        virtlab(&["destroy", "knock"]).ok();
    }

    let sent_before = log.keys().len();
    let args = ["create", "knock", "--nodes", "1", "--memory", "512MiB", "--ready", "config"];
    virtlab(&[&args[..], &["--no-knock"]].concat()).ok();
    assert_eq!(log.keys().len(), sent_before);
}

/// The keys were sent before the node had what it boots.
#[track_caller]
fn assert_knocked(sent: &[u64], how: &str) {
    let known = known();
    let stages = &known["nodes"][0]["stages"];
    let at = |stage: &str| stages[stage]["at_ms"].as_u64().unwrap_or_else(|| panic!("{known:#}"));
    assert!(!sent.is_empty(), "{how}: no key was sent");
    for time in sent {
        assert!((at("power-on")..at("initrd")).contains(time), "{how}: {time}, {known:#}");
    }
}

fn has(stage: &str) -> bool {
    known()["nodes"][0]["stages"].get(stage).is_some()
}

/// What the boot server knows.
fn known() -> Value {
    let said = virtlab(&["events", "knock", "-o", "json"]).ok();
    serde_json::from_str(said.lines().next().expect("a snapshot")).unwrap()
}

fn console() -> String {
    let path = "/var/lib/libvirt/virtlab-knock/knock-1.console.log";
    String::from_utf8_lossy(&std::fs::read(path).unwrap()).into_owned()
}

/// What libvirtd writes down of what it sends to QEMU.
pub(crate) struct Log<'a>(&'a Path);

impl<'a> Log<'a> {
    pub(crate) fn new(path: &'a Path) -> Self {
        admin("daemon-log-filters", "2:qemu.qemu_monitor");
        admin("daemon-log-outputs", &format!("2:file:{}", path.display()));
        Self(path)
    }

    /// When it sent a key to somebody, each time, in milliseconds since the epoch, but for those that are sent by hand.
    pub(crate) fn keys(&self) -> Vec<u64> {
        let text = read(self.0);
        let space = |line: &&str| {
            line.contains("QEMU_MONITOR_SEND_MSG")
                && line.contains(r#""execute":"send-key""#)
                && line.contains(r#""data":57"#)
        };
        text.lines().filter(space).map(time).collect()
    }
}

impl Drop for Log<'_> {
    fn drop(&mut self) {
        admin("daemon-log-outputs", "3:stderr");
        admin("daemon-log-filters", "");
    }
}

fn admin(command: &str, value: &str) {
    run("virt-admin", &["-c", "libvirtd:///system", command, value]).ok();
}

/// A line begins with `2026-11-30 15:50:26.123+0000: `.
fn time(line: &str) -> u64 {
    let (stamp, _) = line.split_once(": ").expect("a time");
    let said = run("date", &["-d", stamp, "+%s%3N"]).ok();
    said.trim().parse().expect("milliseconds")
}

/// Each key that is pressed on the keyboard goes to the serial console with its number. An event is a `struct input_event` of
/// 24 bytes, <https://docs.kernel.org/input/input.html#event-interface>.
const SHOWS_KEYS: &str = r#"{
  "ignition": { "version": "3.3.0" },
  "storage": { "files": [
    { "path": "/etc/rc.local", "mode": 493, "contents": { "source": "data:,{{ "
exec 3</dev/input/event0
echo reading keys
while :; do
    set -- $(dd bs=24 count=1 2>/dev/null <&3 | od -An -v -tu2)
    [ $9 = 1 ] && [ ${11} = 1 ] && echo key: ${10}
done
"|urlencode }}" } }
  ] }
}
"#;
