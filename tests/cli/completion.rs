//! Completion, as the shells ask for it.

use std::io::Write;
use std::process::{Command, Stdio};

use crate::support::{User, text};

#[test]
fn the_scripts_are_right_in_the_shells_own_opinion() {
    let user = User::new();
    for shell in ["bash", "zsh", "fish"] {
        let output = user.virtlab(&["completions", shell]).output().unwrap();
        assert!(output.status.success() && output.stdout.len() > 100, "{shell}");
        let child = Command::new(shell).arg("-n").stdin(Stdio::piped()).spawn();
        let mut child =
            child.unwrap_or_else(|error| panic!("{shell} (package {shell}) is needed: {error}"));
        child.stdin.take().unwrap().write_all(&output.stdout).unwrap();
        assert!(child.wait().unwrap().success(), "{shell} -n refuses the script");
    }
}

#[test]
fn bash_completes_commands_and_the_names_of_labs_and_nodes() {
    let user = User::with_a_lab();
    for (line, expected) in [
        ("virtlab stat", "status"),
        ("virtlab status ", "demo"),
        ("virtlab destroy de", "demo"),
        ("virtlab serve ", "demo"),
        ("virtlab diff ", "demo"),
        ("virtlab explain demo-", "demo-1 demo-2"),
        ("virtlab open ", "demo"),
        ("virtlab timeline d", "demo"),
        ("virtlab status x", ""),
        ("virtlab ssh ", "demo demo-1 demo-2"),
        ("virtlab ssh demo-", "demo-1 demo-2"),
        ("virtlab exec demo-1 d", "demo demo-1 demo-2"),
        ("virtlab logs demo-", "demo-1 demo-2"),
        ("virtlab stop demo-1 d", "demo demo-1 demo-2"),
        ("virtlab fault cut demo l", "leader"),
        ("virtlab fault cut demo-", "demo-1 demo-2"),
        ("virtlab scale d", "demo"),
        ("virtlab wait d", "demo demo-1 demo-2"),
        ("virtlab wait demo --for o", "off"),
        ("virtlab inventory --host d", "demo-1 demo-2"),
        ("virtlab inventory d", "demo"),
        ("virtlab create --image mi", "micro"),
        ("virtlab create --image tin", "tiny.toml"),
        ("virtlab image pull f", "fedora-coreos flatcar"),
        ("virtlab create --network ", "bridge default isolated nat routed"),
        ("virtlab create --ready ", "command: config etcd http://: ssh tcp:"),
        ("virtlab create --ready e", "etcd"),
        ("virtlab cp tin", "tiny.toml"),
        ("virtlab cp tiny.toml d", "demo-1: demo-2: demo:"),
    ] {
        assert_eq!(bash_completes(&user, line, &user.uri()), expected, "{line}");
    }
}

#[test]
fn completion_is_silent_where_libvirt_does_not_answer() {
    let user = User::with_a_lab();
    let uri = "qemu+unix:///system?socket=/nonexistent";
    assert_eq!(bash_completes(&user, "virtlab status de", uri), "");
    let with_flag = format!("virtlab -c {} status de", user.uri());
    assert_eq!(bash_completes(&user, &with_flag, uri), "demo");
}

/// What bash would offer at the end of `line`, by the script that `virtlab completions` prints.
fn bash_completes(user: &User, line: &str, uri: &str) -> String {
    let words: Vec<&str> = line.split(' ').collect();
    let script = format!(
        "source <(virtlab completions bash)\n\
         COMP_WORDS=({})\nCOMP_CWORD={}\nCOMP_TYPE=9\n_clap_complete_virtlab virtlab '{}'\n\
         echo \"${{COMPREPLY[*]}}\"",
        words.iter().map(|word| format!("'{word}'")).collect::<Vec<_>>().join(" "),
        words.len() - 1,
        words.last().unwrap(),
    );
    let binary = std::path::Path::new(env!("CARGO_BIN_EXE_virtlab"));
    let path = std::env::var("PATH").unwrap();
    let output = Command::new("bash")
        .args(["-c", &script])
        .env("PATH", format!("{}:{path}", binary.parent().unwrap().display()))
        .current_dir(user.path())
        .env("HOME", user.path())
        .env("LIBVIRT_DEFAULT_URI", uri)
        .output()
        .unwrap();
    assert_eq!(text(&output.stderr), "", "{line}");
    // The flags that could follow come after the names.
    let offered = text(&output.stdout);
    let offered = offered.split_whitespace().filter(|word| !word.starts_with("--"));
    offered.collect::<Vec<_>>().join(" ")
}
