//! virtlab killed at the entry of each of its calls of libvirt in turn: the next run completes what that one began.
//!
//! A library in C stands between the two (`tests/fixtures/kill/preload.c`), for the functions that the program
//! imports.

use std::path::{Path, PathBuf};
use std::process::Command;

use crate::harness::{
    LabGuard, Said, everything_there, missing, read, run, state_folder, virsh, virtlab,
    virtlab_command,
};

/// A change of a lab by one command.
pub(crate) struct Change<'a> {
    /// What is typed.
    pub(crate) args: &'a [&'a str],
    /// Looks at what there is after a second run that nobody killed, and at what that said.
    pub(crate) check: &'a dyn Fn(&Said, &str),
}

/// Makes one change and the other in turn, until each was killed at each of its calls and completed by the next
/// run. What is printed is how many calls those were.
pub(crate) fn killed_at_each_call(there: &Change, back: &Change) {
    let killer = Killer::build();
    let mut points = [None, None];
    for number in 1.. {
        for (change, points) in [there, back].into_iter().zip(&mut points) {
            let command = change.args.join(" ");
            let ended = match points {
                None => killer.run(change.args, number),
                Some(_) => Ended::Done(virtlab(change.args)),
            };
            let when = match ended {
                Ended::Killed(call) => {
                    format!("`virtlab {command}` killed at call {number}, {call}")
                }
                Ended::Done(said) => {
                    assert_eq!(said.code, Some(0), "`virtlab {command}`: {}", said.stderr);
                    points.get_or_insert(number - 1);
                    format!("`virtlab {command}`, not killed")
                }
            };
            (change.check)(&virtlab(change.args), &when);
        }
        if points.iter().all(Option::is_some) {
            break;
        }
    }
    for (change, points) in [there, back].into_iter().zip(points) {
        let (command, points) = (change.args.join(" "), points.unwrap_or_default());
        println!(
            "`virtlab {command}`: killed at {points} {KIND}, each time completed by the next run"
        );
        assert!(points >= 2, "`virtlab {command}` makes more calls than that");
    }
}

/// Runs a command that is killed at each of its calls in turn, and `check`s each time what comes of it without another run.
pub(crate) fn left_alone_after_each_call(args: &[&str], check: &dyn Fn(&str)) {
    let killer = Killer::build();
    for number in 1.. {
        let Ended::Killed(call) = killer.run(args, number) else {
            assert!(number > 2, "`virtlab {}` makes more calls than that", args.join(" "));
            check("not killed");
            return;
        };
        check(&format!("killed at call {number}, {call}"));
    }
}

/// How a run ended that was to be killed.
enum Ended {
    /// At the entry of this call.
    Killed(String),
    /// It makes fewer calls.
    Done(Said),
}

/// The library that kills.
struct Killer {
    folder: tempfile::TempDir,
}

impl Killer {
    fn build() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let calls: Vec<_> = calls().iter().map(|call| format!("CALL({call})\n")).collect();
        std::fs::write(folder.path().join("calls.h"), calls.concat()).unwrap();
        let killer = Self { folder };
        let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/kill/preload.c");
        let folder = killer.folder.path();
        let built = Command::new("cc")
            .args(["-Wall", "-Wextra", "-O1", "-fPIC", "-shared", "-fno-builtin", "-I"])
            .arg(folder)
            .arg("-o")
            .arg(killer.library())
            .arg(source)
            .output();
        Said::from(built.unwrap_or_else(|error| missing("cc", &error))).ok();
        killer
    }

    fn library(&self) -> PathBuf {
        self.folder.path().join("kill.so")
    }

    /// Runs virtlab, which is killed at the entry of its call of this number.
    fn run(&self, args: &[&str], number: u32) -> Ended {
        let calls = self.folder.path().join("calls");
        std::fs::write(&calls, "").unwrap();
        let output = virtlab_command(args)
            .env("LD_PRELOAD", self.library())
            .env("VIRTLAB_KILL_AT", number.to_string())
            .env("VIRTLAB_KILL_CALLS", &calls)
            .output()
            .unwrap();
        match std::os::unix::process::ExitStatusExt::signal(&output.status) {
            Some(9) => Ended::Killed(read(&calls).lines().last().unwrap_or_default().to_owned()),
            _ => Ended::Done(output.into()),
        }
    }
}

/// The functions of libvirt's at whose entry virtlab is killed: all that it calls. `make e2e` leaves out those that
/// only look, `make e2e-full` does not.
fn calls() -> Vec<String> {
    let symbols = run("nm", &["-D", "--undefined-only", env!("CARGO_BIN_EXE_virtlab")]).ok();
    let names = symbols.split_whitespace().filter_map(|word| word.split('@').next());
    let names = names.filter(|name| name.starts_with("vir") && !asks_nobody(name));
    let mut calls: Vec<String> =
        names.filter(|name| EVERY_CALL || !only_looks(name)).map(str::to_owned).collect();
    assert!(calls.len() > 20, "{calls:?}");
    // Looked up while it runs, since old libraries lack it: there it has to be lacking still.
    let loaded = run("ldd", &[env!("CARGO_BIN_EXE_virtlab")]).ok();
    let mut words = loaded.split_whitespace();
    let library = words.find(|word| word.starts_with('/') && word.contains("/libvirt.so"));
    let defined = run("nm", &["-D", "--defined-only", library.expect("it is linked to libvirt")]);
    let late = "virNetworkSetMetadata";
    if defined.ok().contains(late) {
        calls.push(late.to_owned());
    }
    calls
}

/// Whether a function looks at what the program holds already, or frees it.
fn asks_nobody(call: &str) -> bool {
    let starts = ["virEvent", "virGet", "virSet", "virStreamEvent", "virTypedParams"];
    let ends = ["Free", "Ref", "GetName", "GetUUID", "GetID", "IsAlive", "StreamNew"];
    starts.iter().any(|start| call.starts_with(start)) || ends.iter().any(|end| call.ends_with(end))
}

fn only_looks(call: &str) -> bool {
    let words = ["Get", "List", "Lookup", "IsActive", "Connect", "Stats", "Open", "Stream"];
    words.iter().any(|word| call.contains(word)) && call != "virStreamFinish"
}

const EVERY_CALL: bool = cfg!(feature = "e2e-full");
const KIND: &str = if EVERY_CALL { "calls" } else { "calls that change something" };

const CREATE: [&str; 7] = [
    "create",
    "killed-at",
    "--nodes=1",
    "--memory=512MiB",
    "--disk=64MiB",
    "--virt-type=qemu",
    "--no-wait",
];

#[test]
fn create_and_destroy_killed_at_any_call_are_completed_by_the_next_run() {
    let before = everything_there();
    let _guard = LabGuard("killed-at");
    let is_there = |said: &Said, when: &str| {
        assert_eq!(said.code, Some(0), "{when}: {}", said.stderr);
        let running = virsh(&["list", "--state-running", "--name"]);
        assert_eq!(running.trim(), "killed-at-1", "{when}");
        let rest = virtlab(&[&CREATE[..], &["--dry-run"]].concat()).ok();
        assert_eq!(rest, "", "{when}");
    };
    let is_gone = |said: &Said, when: &str| {
        let nothing = said.stderr.contains("there is no lab");
        assert!(said.code == Some(0) || nothing, "{when}: {}", said.stderr);
        assert_eq!(everything_there(), before, "{when}");
        assert!(!state_folder("killed-at").exists(), "{when}");
    };
    killed_at_each_call(
        &Change { args: &CREATE, check: &is_there },
        &Change { args: &["destroy", "killed-at"], check: &is_gone },
    );
}
