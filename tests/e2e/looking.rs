//! Looking into nodes: their serial consoles, as logs and to talk with.

use std::fs::File;
use std::io::Write;
use std::process::{Child, ChildStdin, Command, Stdio};
use std::thread;
use std::time::Duration;

use serde_json::{Value, json};
use tempfile::{NamedTempFile, TempDir};

use crate::harness::{LabGuard, holds_within, read, virsh, virtlab, virtlab_command, wait_until};
use crate::page::Page;

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

    let page = Page::open("logs");
    page.assert_whole();
    page.assert_refuses_others();
    page.assert_out_of_reach("logs");

    virsh(&["reset", "logs-1"]);
    wait_until("the kernel of the second boot", PATIENCE, || starts() == 2);
    let stages = ["power-on", "script", "kernel", "initrd", "config", "ready"];
    page.wait_for_stages(1, &stages, PATIENCE);
    the_page_knows_the_node(&page);
    drop(page);
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
    let mut terminal = Terminal::connected();
    terminal.keys.write_all(b"\r").unwrap();
    wait_until("an answer of the shell", PATIENCE, || {
        terminal.keys.write_all(b"echo talk''ed $((6*7))\r").unwrap();
        holds_within(Duration::from_secs(5), || terminal.shown().contains("talked 42"))
    });
    terminal.keys.write_all(b"\x1d").unwrap();
    let said = terminal.ended();
    assert!(said.contains("connected to `talk-1`; Ctrl-] leaves"), "{said}");
    assert_restored(&said, "0");

    // Somebody else has it, until it is taken from them.
    let first = Terminal::connected();
    let said = left_again("virtlab console talk-1");
    assert!(said.contains("console --force talk-1"), "{said}");
    let said = left_again("virtlab console --force talk-1");
    assert_restored(&said, "0");
    let said = first.ended();
    assert!(said.contains("the console of `talk-1` has ended: "), "{said}");
    assert_restored(&said, "0");

    // The node goes off.
    let first = Terminal::connected();
    let table = Terminal::run("virtlab status talk --watch");
    wait_until("a live table", PATIENCE, || table.shows("talk-1", "ready"));
    virsh(&["destroy", "talk-1"]);
    wait_until("a node that is off", PATIENCE, || table.shows("talk-1", "off"));
    let said = first.ended();
    assert!(said.contains("the console of `talk-1` has ended: "), "{said}");
    assert_restored(&said, "0");
    let said = virtlab(&["console", "talk-1"]).refused();
    assert!(
        said.contains("node `talk-1` is off") && said.contains("`virtlab create talk`"),
        "{said}"
    );
    // Nothing happens to a node that is off already, and it is called otherwise.
    virtlab(&["stop", "talk-1"]).ok();
    assert!(virtlab(&["status", "talk"]).ok().contains("stopped"));
    wait_until("a node that was stopped", PATIENCE, || table.shows("talk-1", "stopped"));
    assert_restored(&table.quit(), "0");
}

/// Its row, what was looked at, and its console.
fn the_page_knows_the_node(page: &Page) {
    let snapshot = &page.heard("snapshot")[0];
    assert_eq!(snapshot["lab"], "logs");
    assert_eq!(snapshot["nodes"][0]["name"], "logs-1");
    assert!(!page.heard("past")[0]["events"].as_array().unwrap().is_empty());
    wait_until("a look at the node", PATIENCE, || {
        let looks = page.heard("look");
        looks
            .last()
            .is_some_and(|look| look["nodes"][0]["state"] == "ready" && look["wrong"] == json!([]))
    });
    let console: Value = serde_json::from_str(&page.get("console/1")).unwrap();
    let lines: Vec<&str> =
        console["lines"].as_array().unwrap().iter().filter_map(Value::as_str).collect();
    assert!(lines.iter().any(|line| line.contains("init of kernel")), "{lines:#?}");
}

fn follow(lab: &str, into: &std::path::Path) -> Child {
    let file = File::create(into).unwrap();
    virtlab_command(&["logs", "-f", lab]).stdout(file).spawn().expect("virtlab runs")
}

/// A command on a terminal of its own, between two looks at how that is set.
struct Terminal {
    child: Child,
    keys: ChildStdin,
    shown: NamedTempFile,
}

impl Terminal {
    fn run(command: &str) -> Self {
        let own = env!("CARGO_BIN_EXE_virtlab");
        let command = command.replacen("virtlab", own, 1);
        let script = format!("stty -g; {command}; echo exit $?; stty -g");
        let shown = NamedTempFile::new().unwrap();
        let mut child = Command::new("script")
            .args(["-qec", &script, "/dev/null"])
            .stdin(Stdio::piped())
            .stdout(shown.reopen().unwrap())
            .spawn()
            .expect("script(1) runs");
        let keys = child.stdin.take().unwrap();
        Self { child, keys, shown }
    }

    /// The console of `talk-1`, in our hands.
    fn connected() -> Self {
        let terminal = Self::run("virtlab console talk-1");
        wait_until("the console", PATIENCE, || terminal.shown().contains("connected to"));
        terminal
    }

    fn shown(&self) -> String {
        read(self.shown.path()).replace('\r', "")
    }

    /// Whether a row of a table has shown a node in this state.
    fn shows(&self, node: &str, state: &str) -> bool {
        let has = |line: &str| {
            let words: Vec<&str> = line.split_whitespace().collect();
            words.first().is_some_and(|first| first.ends_with(node)) && words.get(2) == Some(&state)
        };
        self.shown().lines().any(has)
    }

    /// Leaves a table.
    fn quit(mut self) -> String {
        self.keys.write_all(b"q").unwrap();
        self.ended()
    }

    /// All that was shown, when the command has ended by itself.
    fn ended(mut self) -> String {
        wait_until("the end of the command", PATIENCE, || self.child.try_wait().unwrap().is_some());
        self.shown()
    }
}

/// Leaves with Ctrl-] after a while, if it has not ended before, and gives all that was shown.
fn left_again(command: &str) -> String {
    let mut terminal = Terminal::run(command);
    thread::sleep(Duration::from_secs(2));
    let _ = terminal.keys.write_all(b"\x1d");
    terminal.ended()
}

/// The first line and the last one are how the terminal was set.
#[track_caller]
fn assert_restored(said: &str, status: &str) {
    let lines: Vec<&str> = said.lines().collect();
    assert_eq!(lines.first(), lines.last(), "{said}");
    // A table leaves the screen without a new line.
    assert!(lines.iter().any(|line| line.ends_with(&format!("exit {status}"))), "{said}");
}

const PATIENCE: Duration = Duration::from_secs(120);
