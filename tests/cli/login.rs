//! What logs in to nodes, as far as `ssh` and `scp` take over, and what tells others how to.

use std::os::unix::fs::PermissionsExt;

use crate::support::{PAUSED, RUNNING, SHUT_OFF, User, assert_transcript, text, transcript};

#[test]
fn ssh_is_given_the_user_and_the_address_of_a_node_and_its_end_is_ours() {
    let user = User::with_a_lab();
    let ssh = user.write("bin/ssh", "#!/bin/sh\nfor word; do echo \"$word\"; done\nexit 7\n");
    std::fs::set_permissions(&ssh, std::fs::Permissions::from_mode(0o755)).unwrap();
    let says = |args: &[&str]| {
        let mut command = user.virtlab(&[&["ssh"], args].concat());
        transcript(command.env("PATH", user.path().join("bin")))
    };
    assert_transcript!(
        "ssh",
        [
            says(&["-l", "core", "demo-2"]),
            says(&["-l", "core", "-i", "key", "demo", "systemctl", "-l", "status"]),
            says(&["demo"]),
            says(&["demo-3"]),
        ]
        .join("\n")
    );
    std::fs::remove_file(ssh).unwrap();
    assert_transcript!("ssh-missing", says(&["-l", "core", "demo"]));
}

#[test]
fn a_command_runs_on_every_node_and_the_highest_exit_status_is_ours() {
    let user = User::new();
    user.seed(&user.lab("demo", &[RUNNING, RUNNING, SHUT_OFF]));
    program(&user, "ssh", SSH);
    let says = |args: &[&str]| with_programs(&user, &[&["exec"], args].concat());
    assert_transcript!(
        "exec",
        [
            says(&["-l", "core", "demo-1", "--", "uptime", "-p"]),
            says(&["-l", "core", "-q", "-i", "key", "demo-2", "--", "uptime"]),
            says(&["-l", "core", "demo-1", "demo-3", "--", "uptime"]),
            says(&["-l", "core", "-o", "json", "demo", "--", "uptime"]),
            says(&["-l", "core", "-o", "name", "demo-1", "--", "uptime"]),
            says(&["demo", "--", "uptime"]),
            says(&["demo"]),
        ]
        .join("\n")
    );
}

#[test]
fn files_are_copied_by_the_names_of_nodes() {
    let user = User::new();
    user.seed(&user.lab("demo", &[RUNNING, RUNNING]));
    program(&user, "scp", "#!/bin/sh\nfor word; do echo \"$word\"; done\nexit 5\n");
    let says = |args: &[&str]| with_programs(&user, &[&["cp", "-l", "core"], args].concat());
    assert_transcript!(
        "cp",
        [
            says(&["demo-2:/etc/hostname", "."]),
            says(&["-r", "-i", "key", "a", "b", "demo-1:/tmp"]),
            says(&["demo-1:a", "demo-2:b"]),
            says(&["-o", "json", "tiny.toml", "demo:"]),
            says(&["demo:/etc/hostname", "."]),
            says(&["a", "./b:c"]),
            says(&["a", "dem:"]),
            says(&["a"]),
        ]
        .join("\n")
    );
}

#[test]
fn others_are_told_how_to_log_in() {
    let user = User::new();
    let labs = [user.lab("demo", &[RUNNING, PAUSED]), user.lab("my-lab", &[SHUT_OFF])];
    user.seed(&labs.join(""));
    assert_transcript!(
        "ssh-config",
        user.session(&[
            &["ssh-config", "demo"],
            &["ssh-config", "-l", "core", "-i", "/key", "my-lab", "demo-2"],
            &["ssh-config"],
        ])
    );
    assert_transcript!(
        "inventory",
        user.session(&[
            &["inventory", "-l", "core", "--list"],
            &["inventory", "-i", "/key", "my-lab"],
            &["inventory", "--host", "demo-2"],
            &["inventory", "--host", "demo-3"],
        ])
    );
}

#[test]
fn ansible_and_ssh_understand_what_they_are_told() {
    let user = User::new();
    user.seed(&[user.lab("demo", &[RUNNING, PAUSED]), user.lab("my-lab", &[SHUT_OFF])].join(""));
    let own = env!("CARGO_BIN_EXE_virtlab");
    program(&user, "inventory", &format!("#!/bin/sh\nexec {own} inventory -l core \"$@\"\n"));
    let ansible = |args: &[&str]| {
        let output = user
            .program("ansible-inventory", "ansible-core")
            .args(["-i", "bin/inventory"])
            .args(args)
            .output()
            .unwrap();
        assert!(output.status.success(), "{}", text(&output.stderr));
        // It warns of what it does not like.
        assert_eq!(text(&output.stderr), "");
        text(&output.stdout)
    };
    let graph = "@all:\n  |--@demo:\n  |  |--demo-1\n  |  |--demo-2\n  |--@my_lab:\n  |  |--my-lab-1\n  \
                 |--@ungrouped:\n";
    let lines = |text: &str| {
        let mut lines: Vec<String> = text.lines().map(ToOwned::to_owned).collect();
        lines.sort();
        lines
    };
    assert_eq!(lines(&ansible(&["--graph"])), lines(graph));
    let vars: serde_json::Value = serde_json::from_str(&ansible(&["--host", "demo-2"])).unwrap();
    assert_eq!(
        (&vars["ansible_host"], &vars["ansible_user"]),
        (&"10.201.0.3".into(), &"core".into())
    );

    let config = user.virtlab(&["ssh-config", "-l", "core", "-i", "/my keys/1", "demo"]).output();
    user.write("config", &text(&config.unwrap().stdout));
    let output =
        user.program("ssh", "openssh-client").args(["-G", "-F", "config", "demo-2"]).output();
    let said = text(&output.unwrap().stdout);
    for line in [
        "user core",
        "hostname 10.201.0.3",
        "stricthostkeychecking false",
        "userknownhostsfile /dev/null",
        "identityfile /my keys/1",
        "identitiesonly yes",
    ] {
        assert!(said.lines().any(|said| said == line), "{line}: {said}");
    }
}

fn program(user: &User, name: &str, script: &str) {
    let path = user.write(&format!("bin/{name}"), script);
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).unwrap();
}

/// virtlab with no other `ssh` and `scp` than the user's.
fn with_programs(user: &User, args: &[&str]) -> String {
    transcript(user.virtlab(args).env("PATH", format!("{}/bin:/bin", user.path().display())))
}

/// It fails on the second node.
const SSH: &str = "#!/bin/sh
printf '\\033[32m%s\\033[0m\\n' \"$*\"
echo 'a complaint' >&2
case $* in *10.201.0.3*) exit 4 ;; esac
";
