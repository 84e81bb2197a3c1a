//! Commands on a terminal of their own, and shells inside of guests.

use std::io::Write;
use std::process::{Child, ChildStdin, Command, Stdio};
use std::time::Duration;

use tempfile::NamedTempFile;

use crate::harness::{read, wait_until};

/// A command on a terminal of its own, between two looks at how that is set.
pub(crate) struct Terminal {
    child: Child,
    keys: ChildStdin,
    shown: NamedTempFile,
}

impl Terminal {
    pub(crate) fn run(command: &str) -> Self {
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

    /// The serial console of a node, in our hands.
    pub(crate) fn of_console(node: &str) -> Self {
        let terminal = Self::run(&format!("virtlab console {node}"));
        wait_until("the console", PATIENCE, || terminal.shown().contains("connected to"));
        terminal
    }

    /// A shell on the serial console of a node.
    fn in_guest(node: &str) -> Self {
        let mut terminal = Self::of_console(node);
        wait_until("a shell on the console", PATIENCE, || {
            terminal.types("\r");
            terminal.shown().contains(":/# ") || terminal.shown().contains(":~# ")
        });
        terminal
    }

    /// What is typed into a command that has ended is lost.
    pub(crate) fn types(&mut self, keys: &str) {
        let _ = self.keys.write_all(keys.as_bytes());
    }

    pub(crate) fn shown(&self) -> String {
        read(self.shown.path()).replace('\r', "")
    }

    /// Whether a row of a table has shown a node in this state.
    pub(crate) fn shows(&self, node: &str, state: &str) -> bool {
        let has = |line: &str| {
            let words: Vec<&str> = line.split_whitespace().collect();
            words.first().is_some_and(|first| first.ends_with(node)) && words.get(2) == Some(&state)
        };
        self.shown().lines().any(has)
    }

    /// Leaves a table.
    pub(crate) fn quit(mut self) -> String {
        self.types("q");
        self.ended()
    }

    /// Leaves a console, by Ctrl-].
    pub(crate) fn left(mut self) -> String {
        self.types("\x1d");
        self.ended()
    }

    /// All that was shown, when the command has ended by itself.
    pub(crate) fn ended(mut self) -> String {
        wait_until("the end of the command", PATIENCE, || self.child.try_wait().unwrap().is_some());
        self.shown()
    }
}

/// What a command prints that is typed on a node's serial console.
pub(crate) fn inside(node: &str, command: &str) -> String {
    let mut shell = Terminal::in_guest(node);
    // What is typed is shown as well, so the words that frame the answer are put together by the shell.
    shell.types(&format!("echo beg''in \"$({command})\" e''nd\r"));
    let mut answer = None;
    wait_until("an answer on the console", PATIENCE, || {
        let text = shell.shown();
        let framed = text.split_once("begin ").and_then(|(_, rest)| rest.split_once(" end"));
        answer = framed.map(|(answer, _)| answer.trim().to_owned());
        answer.is_some()
    });
    shell.left();
    answer.unwrap()
}

/// Has a node's system reboot.
pub(crate) fn reboot_inside(node: &str) {
    let mut shell = Terminal::in_guest(node);
    shell.types("reboot\r");
    wait_until("the reboot", PATIENCE, || shell.shown().contains("going down"));
    shell.left();
}

/// Waits until a node hears another one: on a busy host a first answer takes a while.
#[track_caller]
pub(crate) fn hears(node: &str, ip: &str) {
    wait_until("a ping that is answered", PATIENCE, || pings(node, ip));
}

/// Whether a node hears another one.
pub(crate) fn pings(node: &str, ip: &str) -> bool {
    inside(node, &format!("ping -c 1 -W 1 {ip} >/dev/null; echo $?")) == "0"
}

const PATIENCE: Duration = Duration::from_secs(120);
