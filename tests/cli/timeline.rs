//! `virtlab timeline`, mostly from the journal of a boot server that does not run.

use std::process::{Command, Stdio};

use fs_err as fs;
use quick_xml::Reader;
use quick_xml::events::Event;

use serde_json::json;

use crate::served::serve;
use crate::support::{RUNNING, SHUT_OFF, User, assert_transcript, text, transcript};

/// A user whose lab has a node that is ready, one that boots and one that is off, as its journal says.
fn user() -> User {
    let user = User::new();
    let lab = user.lab("demo", &[RUNNING, RUNNING, SHUT_OFF]);
    user.seed(&lab);
    keep(
        &user,
        &lab,
        &[
            "power-on 0 script 2800 kernel 3800 initrd 5300 config 13100 ready 18600",
            "power-on 400 script 3300 kernel 4600 initrd 5800",
            "power-on 0 script 2900",
        ],
    );
    user
}

/// The journal of a lab called `demo` or `fast`, whose nodes booted like this.
fn keep(user: &User, lab: &str, boots: &[&str]) {
    let uuid = lab.split(" uuid=\"").nth(1).unwrap().split('"').next().unwrap();
    let name = if lab.contains("<name>fast</name>") { "fast" } else { "demo" };
    let mut journal = String::new();
    for (node, boot) in (1..).zip(boots) {
        let words: Vec<&str> = boot.split(' ').collect();
        for pair in words.chunks(2) {
            let at_ms = 1_764_000_000_000 + pair[1].parse::<u64>().unwrap();
            let line = format!(r#"{{"at_ms":{at_ms},"node":{node},"stage":"{}"}}"#, pair[0]);
            journal.push_str(&line);
            journal.push('\n');
        }
    }
    user.write(&format!(".local/state/virtlab/{name}.{uuid}/timeline.jsonl"), &journal);
}

#[test]
fn labs_are_shown_beside_each_other() {
    let user = user();
    let fast = user.lab("fast", &[RUNNING]);
    let fast = fast.replace("10.201.0.", "10.202.0.").replace("10.201.0.0", "10.202.0.0");
    let demo = user.lab("demo", &[RUNNING, RUNNING, SHUT_OFF]);
    user.seed(&format!("{demo}{fast}"));
    keep(&user, &fast, &["power-on 0 script 1000 kernel 1900 initrd 3100 config 8000 ready 12100"]);
    assert_transcript!(
        "timeline-beside",
        user.session(&[
            &["timeline", "demo", "--beside", "fast"],
            &["timeline", "fast", "--beside", "demo", "-o", "json", "-q"],
            &["timeline", "fast", "--beside", "demo", "-o", "name", "-q"],
            &["timeline", "fast", "--beside", "slow"],
        ])
    );
}

#[test]
fn the_last_boots_are_shown_in_whatever_the_locale_can_show_and_for_programs() {
    let user = user();
    let unicode = transcript(user.virtlab(&["timeline", "demo"]).env("LANG", "de_DE.UTF-8"));
    let others = user.session(&[
        &["timeline", "demo"],
        &["timeline", "demo", "-o", "json"],
        &["timeline", "demo", "-o", "yaml", "-q"],
        &["timeline", "demo", "-o", "name", "-q"],
    ]);
    assert_transcript!("timeline", format!("{unicode}\n{others}"));
}

#[test]
fn a_boot_server_that_answers_is_believed() {
    let user = User::new();
    let lab = user.lab("demo", &[RUNNING, SHUT_OFF]);
    let stages = json!([{"power-on": 0, "script": 3000, "config": 9000, "ready": 12000}, {}]);
    serve(&user, &lab, &stages);
    assert_transcript!("timeline-served", user.says(&["timeline", "demo"]));
}

#[test]
fn it_is_as_wide_as_the_terminal_and_says_the_same_without_colours() {
    let user = user();
    let on_a_terminal = |no_color: Option<&str>| {
        let run = format!("stty cols 100; {} timeline demo -q", env!("CARGO_BIN_EXE_virtlab"));
        let mut script = Command::new("script");
        script.args(["-qec", &run, "/dev/null"]).env_clear();
        let environment = user.virtlab(&[]);
        script.envs(environment.get_envs().filter_map(|(key, value)| Some((key, value?))));
        script.envs([("TERM", "xterm-256color"), ("LC_CTYPE", "C.UTF-8")]);
        script.envs(no_color.map(|value| ("NO_COLOR", value)));
        let output = script.current_dir(user.path()).stdin(Stdio::null()).output();
        text(&output.expect("`script` (package bsdutils) is needed").stdout)
    };
    let (coloured, plain) = (on_a_terminal(None), on_a_terminal(Some("1")));
    assert!(coloured.contains('\u{1b}') && !plain.contains('\u{1b}'), "{coloured}{plain}");
    let picture = |text: &str| text[text.find("NODE").unwrap()..].to_owned();
    assert_eq!(picture(&anstream::adapter::strip_str(&coloured).to_string()), picture(&plain));
    let widest = plain.lines().skip(1).map(|line| line.trim_end().chars().count()).max();
    assert_eq!(widest, Some(100), "{plain}");
}

#[test]
fn the_picture_is_well_formed_and_has_all_nodes() {
    let user = user();
    let output = user.virtlab(&["timeline", "demo", "--svg", "boot.svg"]).output().unwrap();
    assert!(output.status.success(), "{}", text(&output.stderr));
    let svg = fs::read_to_string(user.path().join("boot.svg")).unwrap();
    let mut reader = Reader::from_str(&svg);
    let (mut bars, mut texts) = (0, Vec::new());
    loop {
        match reader.read_event().unwrap() {
            Event::Eof => break,
            Event::Start(tag) if tag.name().as_ref() == "rect" => bars += 1,
            Event::Text(text) => texts.push(text.trim().to_owned()),
            _ => {}
        }
    }
    assert_eq!(bars, 5 + 3 + 1);
    for expected in ["Last boot of demo", "demo-1", "demo-2", "demo-3", "off", "ready 18.6s"] {
        assert!(texts.iter().any(|text| text == expected), "{expected} in {texts:?}");
    }
}

#[test]
fn what_cannot_be_shown_or_written_is_one_error() {
    let user = User::with_a_lab();
    fs::create_dir(user.path().join("folder")).unwrap();
    assert_transcript!(
        "timeline-refused",
        user.session(&[
            &["timeline", "dem"],
            &["timeline", "demo", "--svg", "no/such/folder/boot.svg"],
            &["timeline", "demo", "--svg", "folder"],
            &["timeline", "demo"],
            &["timeline", "Demo"],
        ])
    );
}
