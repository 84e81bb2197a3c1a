//! `image`: what is in the cache, and what may be removed from it.

use std::fs::File;
use std::io::{BufRead, BufReader};
use std::os::unix::net::UnixListener;
use std::os::unix::process::ExitStatusExt;
use std::process::Stdio;
use std::time::{Duration, Instant};

use fs_err as fs;
use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;

use crate::support::{RUNNING, User, assert_transcript, text};

#[test]
fn the_documented_image_of_ones_own_is_made_as_documented() {
    let docs = fs::read_to_string("docs/images.md").unwrap();
    let (_, section) = docs.split_once("## Your own image in ten lines").unwrap();
    let block = |start: &str| {
        let (_, rest) = section.split_once(start).unwrap();
        rest.split("```").next().unwrap()
    };
    let (entry, session) = (block("```toml\n"), block("```\n$ "));
    assert_eq!(entry.lines().count(), 10, "{entry}");
    let user = User::new();
    user.write("mine.toml", entry);
    let mut said = String::new();
    for line in session.trim_end().split("\n$ ") {
        let mut args: Vec<&str> = line.strip_prefix("virtlab ").unwrap().split(' ').collect();
        if args[0] == "create" {
            args.push("--dry-run");
        }
        let output = user.virtlab(&args).output().unwrap();
        assert!(output.status.success(), "{line}: {}", text(&output.stderr));
        said.push_str(&text(&output.stdout));
    }
    assert!(said.starts_with("mine@") && said.contains("start domain `lab-3`"), "{said}");
    let mut render = user.virtlab(&["render", "--image", "./mine.toml", "--part", "config"]);
    let config: Value = serde_json::from_slice(&render.output().unwrap().stdout).unwrap();
    assert_eq!(config["ignition"]["version"], "3.3.0");
}

/// A user whose lab `demo` boots from tiny.toml, which is in the cache.
fn with_a_lab() -> User {
    let user = User::new();
    user.seed_with_image(&user.lab("demo", &[RUNNING]));
    user
}

#[test]
fn an_image_that_a_lab_uses_is_removed_only_by_force() {
    let user = with_a_lab();
    assert_transcript!(
        "image-rm-used",
        user.session(&[&["image", "rm", "tiny"], &["image", "rm", "tiny", "--force"]])
    );
}

#[test]
fn nothing_is_removed_as_long_as_nobody_knows_what_labs_use() {
    let user = with_a_lab();
    let uri = "qemu+unix:///system?socket=/nonexistent";
    let unreachable = user.session(&[
        &["-c", uri, "image", "rm", "tiny"],
        &["-c", uri, "image", "prune"],
        &["-c", uri, "image", "prune", "--force"],
    ]);
    let lab = user.lab("demo", &[RUNNING]);
    user.seed(&lab.replace("\"nodes\":1", "\"members\":1"));
    let unreadable = user.session(&[
        &["image", "prune"],
        &["image", "rm", "tiny"],
        &["image", "rm", "tiny", "--force"],
    ]);
    assert_transcript!("image-use-unknown", format!("{unreachable}\n{unreadable}"));
}

#[test]
fn what_removes_nothing_does_not_wait_for_libvirt() {
    let user = User::new();
    // It takes connections and never answers.
    let socket = user.path().join("libvirt-sock");
    let _listener = UnixListener::bind(&socket).unwrap();
    let uri = format!("qemu+unix:///system?socket={}", socket.display());
    for args in [
        &["image", "list"][..],
        &["image", "show", "tiny.toml"],
        &["image", "pull", "./tiny.toml"],
        &["image", "verify"],
    ] {
        let mut command = user.virtlab(args);
        command.env("LIBVIRT_DEFAULT_URI", &uri).stdout(Stdio::null());
        let mut child = command.spawn().unwrap();
        let deadline = Instant::now() + Duration::from_secs(20);
        let status = loop {
            if let Some(status) = child.try_wait().unwrap() {
                break status;
            }
            if Instant::now() > deadline {
                child.kill().unwrap();
                child.wait().unwrap();
                panic!("{args:?} waits for libvirt");
            }
            std::thread::sleep(Duration::from_millis(20));
        };
        assert!(status.success(), "{args:?}");
    }
}

#[test]
fn removing_says_what_it_waits_for() {
    let user = User::new();
    let locks = user.path().join(".cache/virtlab/images/locks");
    fs::create_dir_all(&locks).unwrap();
    let pull = File::create(locks.join("store")).unwrap();
    pull.lock_shared().unwrap();
    let mut command = user.virtlab(&["image", "prune"]);
    let mut prune = command.stderr(Stdio::piped()).spawn().unwrap();
    let mut lines = BufReader::new(prune.stderr.take().unwrap()).lines();
    let said = lines.next().unwrap().unwrap();
    assert_eq!(said, "waiting for another virtlab that gets or removes images");
    pull.unlock().unwrap();
    assert_eq!(lines.next().unwrap().unwrap(), "freed 0 B");
    assert!(prune.wait().unwrap().success());
}

#[test]
fn a_file_of_the_users_own_that_has_changed_is_read_again_and_not_called_damaged() {
    let user = with_a_lab();
    user.write("initrd.img", "another one");
    assert_transcript!(
        "image-kept-changed",
        user.session(&[
            &["image", "verify"],
            &["image", "pull", "tiny.toml"],
            &["image", "verify"],
        ])
    );
}

#[test]
fn log_lines_in_a_pipe_carry_no_colours() {
    let user = User::new();
    user.write(".cache/virtlab/images/index/later@1.json", "{}");
    let output = user.virtlab(&["image", "verify"]).output().unwrap();
    let said = text(&output.stderr);
    assert!(said.contains("leaving out") && !said.contains('\u{1b}'), "{said:?}");
}

#[test]
fn an_image_of_an_entry_somewhere_else_is_listed_verified_and_removed() {
    let user = User::new();
    for name in ["coreos_production_pxe.vmlinuz", "coreos_production_pxe_image.cpio.gz"] {
        user.write(&format!("kept/{name}"), name);
    }
    assert_transcript!(
        "image-places",
        user.session(&[
            &["image", "pull", "./tiny.toml", "coreos:kept"],
            &["image", "list"],
            &["image", "list", "-o", "name"],
            &["image", "verify", "./tiny.toml", "tiny"],
            &["image", "verify", "coreos:kept"],
            &["image", "rm", "coreos:elsewhere"],
            &["image", "rm", "coreos"],
            &["image", "rm", "./tiny.toml", "coreos:kept"],
            &["image", "rm", "./tiny.toml"],
            &["image", "rm", "./none.toml"],
        ])
    );
}

#[test]
fn what_an_image_does_not_have_is_refused_under_its_name() {
    let user = User::new();
    assert_transcript!(
        "image-wrong-pins",
        user.session(&[
            &["image", "pull", "micro", "--version", "3"],
            &["image", "pull", "micro", "--channel", "beta"],
            &["image", "pull", "flatcar", "--channel", "nope"],
            &["image", "show", "micro", "--version", "3"],
            &["image", "show", "flatcar", "--channel", "nope"],
            &["image", "show", "coreos", "--channel", "nope"],
            &["image", "show", "coreos", "-o", "name"],
        ])
    );
}

#[test]
fn the_catalogue_is_shown_where_no_cache_can_be_made() {
    let user = User::new();
    user.write(".cache", "a file in the place of the folder");
    let output = user.virtlab(&["image", "list", "-o", "name"]).output().unwrap();
    assert_eq!(
        (text(&output.stdout).as_str(), text(&output.stderr).as_str()),
        ("coreos\ndebian\nfedora-coreos\nflatcar\nmicro\ntalos\n", "")
    );
    let fresh = User::new();
    assert!(fresh.virtlab(&["image", "list"]).output().unwrap().status.success());
    assert!(!fresh.path().join(".cache").exists());
}

#[test]
fn every_command_speaks_json_and_yaml() {
    let user = User::new();
    user.write("recipe/build.sh", "#!/bin/sh\nprintf k > \"$1/vmlinuz\"\n");
    user.write("built.toml", BUILT);
    assert_transcript!(
        "image-json",
        user.session(&[
            &["-q", "image", "build", "built.toml", "-o", "json"],
            &["image", "pull", "tiny.toml", "-o", "yaml"],
            &["image", "verify", "tiny", "-o", "json"],
            &["image", "rm", "tiny", "-o", "json"],
            &["image", "prune", "-o", "yaml"],
        ])
    );
}

#[test]
fn a_build_that_is_stopped_takes_its_children_and_its_folder_with_it() {
    let user = User::new();
    fs::create_dir(user.path().join("tmp")).unwrap();
    let pids = user.path().join("pids");
    let script = format!("#!/bin/sh\nsleep 60 &\necho $$ $! > {}\nwait\n", pids.display());
    user.write("recipe/build.sh", &script);
    user.write("built.toml", BUILT);
    for signal in [Signal::TERM, Signal::INT] {
        let mut build = user.virtlab(&["image", "build", "built.toml"]);
        build.env("TMPDIR", user.path().join("tmp")).stderr(Stdio::null());
        let mut build = build.spawn().unwrap();
        let is_written = || fs::read_to_string(&pids).is_ok_and(|text| text.ends_with('\n'));
        wait_until("the recipe runs", is_written);
        kill_process(Pid::from_child(&build), signal).unwrap();
        let status = build.wait().unwrap();
        assert_eq!(status.signal(), Some(Signal::INT.as_raw()), "{status}");
        for pid in fs::read_to_string(&pids).unwrap().split_whitespace() {
            let stat = format!("/proc/{pid}/stat");
            let is_gone = || fs::read_to_string(&stat).map_or(true, |stat| stat.contains(") Z "));
            wait_until("the recipe's processes are gone", is_gone);
        }
        assert_eq!(fs::read_dir(user.path().join("tmp")).unwrap().count(), 0);
        fs::remove_file(&pids).unwrap();
    }
}

#[test]
fn what_a_recipe_looks_at_in_the_environment_makes_another_image() {
    let user = User::new();
    user.write("recipe/build.sh", "#!/bin/sh\nprintf \"${SUITE:-stable}\" > \"$1/vmlinuz\"\n");
    let source = "source.recipe = { name = \"recipe\", environment = [\"SUITE\"] }";
    user.write("built.toml", &BUILT.replace("source.recipe.name = \"recipe\"", source));
    let build = |suite: Option<&str>| {
        let mut command = user.virtlab(&["image", "build", "built.toml", "-o", "json"]);
        command.envs(suite.map(|suite| ("SUITE", suite)));
        let output = command.output().unwrap();
        let built: Value = serde_json::from_slice(&output.stdout).unwrap();
        let kernel = fs::read_to_string(built[0]["files"][0]["path"].as_str().unwrap()).unwrap();
        (kernel, built[0]["reference"].as_str().unwrap().to_owned())
    };
    let (kernel, plain) = build(None);
    assert_eq!(kernel, "stable");
    let (kernel, testing) = build(Some("testing"));
    assert_eq!(kernel, "testing");
    assert_ne!(testing, plain);
    // Set to nothing is not set, and what is here is not built again.
    assert_eq!(build(Some("")), ("stable".to_owned(), plain));
    assert_eq!(build(Some("testing")), ("testing".to_owned(), testing));
}

fn wait_until(what: &str, is_so: impl Fn() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(20);
    while !is_so() {
        assert!(Instant::now() < deadline, "waiting until {what}");
        std::thread::sleep(Duration::from_millis(10));
    }
}

const BUILT: &str = r#"version = 1
name = "built"
description = "Built here"
arguments = ""
memory_mib = 64
config = "none"
ready = "config"
source.recipe.name = "recipe"
file = [{ role = "kernel", name = "vmlinuz" }]
"#;
