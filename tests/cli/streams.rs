//! What goes where: stdout is data, stderr is conversation, and colours are for terminals.

use std::process::Stdio;

use crate::support::{User, text};

#[test]
fn data_goes_to_stdout_and_conversation_to_stderr() {
    let user = User::with_a_lab();
    let output = user.virtlab(&["list"]).output().unwrap();
    assert!(text(&output.stdout).starts_with("LAB "));
    assert_eq!(text(&output.stderr), "");
    let output = user.virtlab(&["status", "nope"]).output().unwrap();
    assert_eq!(text(&output.stdout), "");
    assert!(text(&output.stderr).starts_with("error: "));
}

#[test]
fn quiet_silences_notes_and_neither_errors_nor_results() {
    let user = User::with_a_lab();
    // The driver forgets what was done when the program ends: it is there again for the next run.
    let destroy = |args: &[&str]| user.virtlab(&[&["destroy", "demo"], args].concat()).output();
    let said = destroy(&[]).unwrap();
    assert_eq!(
        (text(&said.stdout), text(&said.stderr)),
        (String::new(), "lab `demo` is gone\n".to_owned())
    );
    let quiet = destroy(&["-q"]).unwrap();
    assert_eq!((text(&quiet.stdout), text(&quiet.stderr)), (String::new(), String::new()));
    assert!(quiet.status.success());
    let error = user.virtlab(&["status", "nope", "-q"]).output().unwrap();
    assert!(text(&error.stderr).starts_with("error: there is no lab `nope`"));
    let list = user.virtlab(&["list", "-q", "-o", "name"]).output().unwrap();
    assert_eq!(text(&list.stdout), "demo\n");
}

#[test]
fn there_are_no_colours_without_a_terminal() {
    let user = User::with_a_lab();
    for args in [&["list"][..], &["status", "nope"], &["--help"], &["create", "--nodes", "0"]] {
        let output = user.virtlab(args).output().unwrap();
        let all = [output.stdout, output.stderr].concat();
        assert!(!all.contains(&0x1b), "{args:?}: {}", text(&all));
    }
}

#[test]
fn a_terminal_gets_colours_unless_no_color_is_set() {
    let user = User::with_a_lab();
    let on_a_terminal = |no_color: bool| {
        let virtlab = env!("CARGO_BIN_EXE_virtlab");
        let mut command = user.virtlab(&[]);
        let mut script = std::process::Command::new("script");
        script.args(["-qec", &format!("{virtlab} list"), "/dev/null"]);
        script.env_clear().envs(command.get_envs().filter_map(|(key, value)| Some((key, value?))));
        script.env("TERM", "xterm-256color").current_dir(user.path()).stdin(Stdio::null());
        if no_color {
            script.env("NO_COLOR", "1");
        }
        command = script;
        let output = command.output().expect("`script` (package bsdutils) is needed");
        text(&output.stdout)
    };
    assert!(on_a_terminal(false).contains('\u{1b}'));
    let plain = on_a_terminal(true);
    assert!(plain.contains("demo") && !plain.contains('\u{1b}'), "{plain}");
}

#[test]
fn a_reader_that_goes_away_is_no_error() {
    let user = User::with_a_lab();
    for args in [
        &["list"][..],
        &["render", "--nodes", "50"],
        &["completions", "bash"],
        &["--help"],
        &["destroy", "demo", "--dry-run"],
        &["version"],
        &["image", "list"],
    ] {
        let (reader, writer) = std::io::pipe().unwrap();
        drop(reader);
        let output = user.virtlab(args).stdout(writer).output().unwrap();
        assert!(output.status.success(), "{args:?}: {:?}", output.status);
        assert_eq!(text(&output.stderr), "", "{args:?}");
    }
}
