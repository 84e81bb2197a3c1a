//! Labs that come back with the host, with a systemd that only notes what it is asked.

use std::os::unix::fs::PermissionsExt;

use fs_err as fs;

use crate::support::{RUNNING, SHUT_OFF, User, assert_transcript, transcript};

/// What `systemctl show` says of the unit, or `None` where no systemd answers.
fn user_with_systemd(state: Option<&str>) -> User {
    let user = User::new();
    let answer = match state {
        Some(state) => format!("*' show '*) echo LoadState={state} ;;"),
        None => "*) echo 'System has not been booted with systemd' >&2; exit 1 ;;".to_owned(),
    };
    let systemctl = format!(
        "#!/bin/sh\ncase \" $* \" in\n{answer}\n*) echo \"systemctl ${{*#--user }}\" >>\"$HOME/asked\" ;;\nesac\n"
    );
    for (name, text) in [("systemctl", systemctl.as_str()), ("loginctl", "#!/bin/sh\necho yes\n")] {
        let path = user.write(&format!("bin/{name}"), text);
        fs::set_permissions(path, PermissionsExt::from_mode(0o755)).unwrap();
    }
    user
}

/// Runs virtlab several times, with this systemd, and gives all that it said and asked for.
fn session(user: &User, runs: &[&[&str]]) -> String {
    let path = std::env::var("PATH").unwrap_or_default();
    let path = format!("{}:{path}", user.path().join("bin").display());
    let runs = runs.iter().map(|args| transcript(user.virtlab(args).env("PATH", &path)));
    let asked = |run: String| {
        let asked = fs::read_to_string(user.path().join("asked")).unwrap_or_default();
        fs::write(user.path().join("asked"), "").unwrap();
        if asked.is_empty() { run } else { format!("{run}--- asked\n{asked}") }
    };
    runs.map(asked).collect::<Vec<_>>().join("\n")
}

/// Gives libvirt a lab of two nodes, the second of which is off.
fn seed(user: &User, autostart: bool) {
    let lab = user.lab("demo", &[RUNNING, SHUT_OFF]);
    let marked = lab.replace("\"ksm\":false", "\"ksm\":false,\"autostart\":true");
    assert_ne!(lab, marked);
    user.seed_with_image(if autostart { &marked } else { &lab });
}

#[test]
fn a_lab_is_to_come_back_from_now_on_and_then_no_more() {
    let user = user_with_systemd(Some("loaded"));
    seed(&user, false);
    let off = session(
        &user,
        &[
            &["autostart", "demo", "off"],
            &["autostart", "demo", "on", "--dry-run"],
            &["autostart", "demo", "on"],
            &["autostart", "nope", "on"],
            &["create", "demo", "--autostart"],
        ],
    );
    assert_transcript!("autostart-on", off);
    seed(&user, true);
    let on = session(
        &user,
        &[
            &["autostart", "demo", "on", "--dry-run"],
            &["autostart", "demo", "off"],
            &["create", "demo", "--autostart", "--dry-run"],
            &["destroy", "demo", "--dry-run"],
        ],
    );
    assert_transcript!("autostart-off", on);
}

#[test]
fn a_new_lab_comes_back_by_libvirt_and_systemd() {
    let user = user_with_systemd(Some("loaded"));
    let create = ["create", "demo", "--nodes", "1", "--image", "tiny.toml", "--autostart"];
    let create = [&create[..], &["--subnet", "10.201.0.0/24", "--boot-port", "8470"]].concat();
    let dry_run = [&create[..], &["--dry-run"]].concat();
    assert_transcript!("autostart-create", session(&user, &[&dry_run]));
}

#[test]
fn what_does_not_come_back_by_itself_is_told_with_the_way_to_it() {
    let told: Vec<String> = [None, Some("not-found")]
        .into_iter()
        .map(|state| {
            let user = user_with_systemd(state);
            seed(&user, false);
            session(&user, &[&["autostart", "demo", "on"]])
        })
        .collect();
    assert_transcript!("autostart-without-unit", told.join("\n"));
}
