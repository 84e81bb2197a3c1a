//! Looking into nodes, as far as libvirt's test driver goes.

use std::process::Stdio;

use serde_json::{Value, json};

use crate::served::serve;
use crate::support::{RUNNING, User, assert_transcript};

#[test]
fn logs_and_consoles_that_cannot_be_had_are_refused_with_the_way_out() {
    let user = User::with_a_lab();
    assert_transcript!(
        "looking-refused",
        user.session(&[
            &["logs"],
            &["logs", "demo"],
            &["logs", "demo-3", "demo-1", "other"],
            &["logs", "demo", "--since", "yesterday"],
            &["console", "demo-1"],
            &["console", "demo-2"],
            &["console", "dem"],
        ])
    );
}

#[test]
fn who_waits_on_a_small_terminal_sees_the_nodes_that_are_most_behind() {
    let user = served(20);
    let own = env!("CARGO_BIN_EXE_virtlab");
    let script = format!("stty rows 8 cols 80; {own} wait demo --timeout 3s");
    let mut command = user.program("script", "bsdutils");
    command.args(["-qec", &script, "/dev/null"]).env("TERM", "xterm").stdin(Stdio::null());
    let output = command.output().unwrap();
    let said = plain(&String::from_utf8_lossy(&output.stdout));
    let (live, end) = said.split_once("error: ").unwrap();
    assert!(live.contains("2 of 20 nodes ready, 1s"), "{said}");
    assert!(live.contains("demo-3 script 2.5s  config 9.0s"), "{said}");
    assert!(live.contains("and 15 more, further on"), "{said}");
    assert!(!live.contains("demo-1 ") && !live.contains("demo-8 "), "{said}");
    assert!(end.starts_with("lab `demo` is not ready after 3.0s"), "{said}");
}

/// A user with a lab of so many nodes, of which the first two are ready and the others nearly.
fn served(nodes: usize) -> User {
    let user = User::new();
    let stages = |index: usize| match index {
        0 | 1 => json!({"power-on": 0, "script": 2500, "config": 9000, "ready": 12000}),
        _ => json!({"power-on": 0, "script": 2500, "config": 9000}),
    };
    let stages: Value = (0..nodes).map(stages).collect();
    serve(&user, &user.lab("demo", &vec![RUNNING; nodes]), &stages);
    user
}

/// A picture without what drives the terminal.
fn plain(picture: &str) -> String {
    anstream::adapter::strip_str(picture).to_string().replace('\r', "")
}
