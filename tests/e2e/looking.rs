//! Looking into nodes: their serial consoles, as logs and to talk with.

use std::fs::File;
use std::process::Child;
use std::thread;
use std::time::Duration;

use serde_json::{Value, json};
use tempfile::TempDir;

use crate::harness::{LabGuard, holds_within, read, virsh, virtlab, virtlab_command, wait_until};
use crate::page::Page;
use crate::terminal::Terminal;

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
    let mut terminal = Terminal::of_console("talk-1");
    terminal.types("\r");
    wait_until("an answer of the shell", PATIENCE, || {
        terminal.types("echo talk''ed $((6*7))\r");
        holds_within(Duration::from_secs(5), || terminal.shown().contains("talked 42"))
    });
    let said = terminal.left();
    assert!(said.contains("connected to `talk-1`; Ctrl-] leaves"), "{said}");
    assert_restored(&said, "0");

    // Somebody else has it, until it is taken from them.
    let first = Terminal::of_console("talk-1");
    let said = left_again("virtlab console talk-1");
    assert!(said.contains("console --force talk-1"), "{said}");
    let said = left_again("virtlab console --force talk-1");
    assert_restored(&said, "0");
    let said = first.ended();
    assert!(said.contains("the console of `talk-1` has ended: "), "{said}");
    assert_restored(&said, "0");

    // The node goes off.
    let first = Terminal::of_console("talk-1");
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

/// Leaves with Ctrl-] after a while, if it has not ended before, and gives all that was shown.
fn left_again(command: &str) -> String {
    let terminal = Terminal::run(command);
    thread::sleep(Duration::from_secs(2));
    terminal.left()
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
