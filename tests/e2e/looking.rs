//! Looking into nodes: their serial consoles, as logs and to talk with.

use std::fs::File;
use std::io::Write;
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::Duration;

use tempfile::TempDir;

use crate::harness::{LabGuard, read, virsh, virtlab, virtlab_command, wait_until};

#[test]
fn console_logs_are_read_and_followed_through_resets_power_cycles_and_the_end_of_the_lab() {
    let _guard = LabGuard("logs");
    virtlab(&["create", "logs", "--nodes", "1", "--memory", "512MiB", "--ready", "config"]).ok();
    wait_until("the config is applied", PATIENCE, || {
        virtlab(&["logs", "logs-1"]).ok().contains("config applied, host name logs-1")
    });
    let log = virtlab(&["logs", "logs-1"]).ok();
    assert!(log.starts_with("SeaBIOS (version "), "{log}");
    let is_harmless = |c: char| c == '\n' || c == '\t' || !c.is_control();
    assert!(log.chars().all(is_harmless), "{log:?}");
    // iPXE wrote a percentage and took it back.
    assert!(log.lines().any(|line| line.ends_with("/files/vmlinuz... ok")), "{log}");

    let folder = TempDir::new().unwrap();
    let followed = folder.path().join("followed");
    let mut follower = follow("logs", &followed);
    wait_until("what was written before", PATIENCE, || {
        read(&followed).contains("logs-1 | SeaBIOS (version ")
    });
    let starts = || read(&followed).matches("init of kernel").count();
    wait_until("the kernel of the first boot", PATIENCE, || starts() == 1);

    virsh(&["reset", "logs-1"]);
    wait_until("the kernel of the second boot", PATIENCE, || starts() == 2);
    let all = virtlab(&["logs", "logs-1"]).ok();
    assert_eq!(all.matches("SeaBIOS (version ").count(), 2, "{all}");
    let boot = virtlab(&["logs", "logs-1", "--since", "boot"]).ok();
    assert_eq!(boot.matches("SeaBIOS (version ").count(), 1, "{boot}");
    assert!(boot.starts_with("SeaBIOS (version ") && all.contains(&boot[..500]), "{boot}");

    virsh(&["destroy", "logs-1"]);
    virtlab(&["create", "logs", "--no-wait"]).ok();
    wait_until("the kernel after power-on", PATIENCE, || starts() == 3);
    let all = virtlab(&["logs", "logs-1"]).ok();
    assert_eq!(all.matches("SeaBIOS (version ").count(), 1, "{all}");

    virtlab(&["destroy", "logs"]).ok();
    wait_until("the follower ends", PATIENCE, || follower.try_wait().unwrap().is_some());
    assert!(follower.wait().unwrap().success());
}

#[test]
fn a_console_is_talked_with_and_leaves_the_terminal_as_it_was() {
    let _guard = LabGuard("talk");
    virtlab(&["create", "talk", "--nodes", "1", "--memory", "512MiB", "--ready", "config"]).ok();
    wait_until("a shell on the console", PATIENCE, || {
        virtlab(&["logs", "talk-1"]).ok().contains("Please press Enter")
    });
    // What is typed is echoed in two words and said by the shell in one.
    let said = type_into("virtlab console talk-1", &["\r", "echo talk''ed $((6*7))\r", "\x1d"]);
    assert!(said.contains("connected to `talk-1`; Ctrl-] leaves"), "{said}");
    assert!(said.contains("talked 42"), "{said}");
    assert_restored(&said, "0");

    // Somebody else has it, until it is taken from them.
    let (first, _keys) = terminal("virtlab console talk-1");
    let second = || type_into("virtlab console talk-1", &["\x1d"]);
    wait_until("the console is taken", PATIENCE, || second().contains("console --force talk-1"));
    let said = type_into("virtlab console --force talk-1", &["\x1d"]);
    assert_restored(&said, "0");
    let said = ended(first);
    assert!(said.contains("the console of `talk-1` has ended: "), "{said}");
    assert_restored(&said, "0");

    // The node goes off.
    let (first, _keys) = terminal("virtlab console talk-1");
    wait_until("the console is taken", PATIENCE, || second().contains("console --force talk-1"));
    virsh(&["destroy", "talk-1"]);
    let said = ended(first);
    assert!(said.contains("the console of `talk-1` has ended: "), "{said}");
    assert_restored(&said, "0");
    let said = virtlab(&["console", "talk-1"]).refused();
    assert!(
        said.contains("node `talk-1` is off") && said.contains("`virtlab create talk`"),
        "{said}"
    );
}

fn follow(lab: &str, into: &std::path::Path) -> Child {
    let file = File::create(into).unwrap();
    virtlab_command(&["logs", "-f", lab]).stdout(file).spawn().expect("virtlab runs")
}

/// A command on a terminal of its own, between two looks at how that is set.
fn terminal(command: &str) -> (Child, std::process::ChildStdin) {
    let own = env!("CARGO_BIN_EXE_virtlab");
    let command = command.replacen("virtlab", own, 1);
    let script = format!("stty -g; {command}; echo exit $?; stty -g");
    let mut child = Command::new("script")
        .args(["-qec", &script, "/dev/null"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .expect("script(1) runs");
    let keys = child.stdin.take().unwrap();
    (child, keys)
}

/// Types these keys, slowly, and gives all that was shown.
fn type_into(command: &str, keys: &[&str]) -> String {
    let (child, mut stdin) = terminal(command);
    for key in keys {
        thread::sleep(Duration::from_secs(2));
        // It may have ended without them.
        let _ = stdin.write_all(key.as_bytes());
    }
    ended(child)
}

fn ended(child: Child) -> String {
    let output = child.wait_with_output().unwrap();
    String::from_utf8_lossy(&output.stdout).replace('\r', "")
}

/// The first line and the last one are how the terminal was set.
#[track_caller]
fn assert_restored(said: &str, status: &str) {
    let lines: Vec<&str> = said.lines().collect();
    assert_eq!(lines.first(), lines.last(), "{said}");
    assert!(lines.contains(&format!("exit {status}").as_str()), "{said}");
}

const PATIENCE: Duration = Duration::from_secs(120);
