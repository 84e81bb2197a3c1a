//! Where an option's value comes from: flag, environment, lab file, default, in this order.

use crate::support::{User, assert_transcript};

#[test]
fn a_flag_wins_over_the_environment_over_the_lab_file_over_the_default() {
    let user = User::new();
    user.write("lab.toml", "version = 1\nname = 'demo'\nnodes = 4\n");
    for (file, environment, flag, nodes) in [
        (false, None, None, 3),
        (true, None, None, 4),
        (true, Some("5"), None, 5),
        (true, Some("5"), Some("6"), 6),
        (false, Some("5"), Some("6"), 6),
    ] {
        let mut command = user.virtlab(&["render", "--part", "network"]);
        if file {
            command.args(["-f", "lab.toml"]);
        }
        command.envs(environment.map(|nodes| ("VIRTLAB_NODES", nodes)));
        command.args(flag.iter().flat_map(|nodes| ["--nodes", nodes]));
        let output = command.output().unwrap();
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        assert!(
            text.contains(&format!("{{\"nodes\":{nodes},")),
            "file {file}, environment {environment:?}, flag {flag:?}: {}",
            String::from_utf8_lossy(&output.stderr)
        );
        assert_eq!(text.contains("<name>demo</name>"), file);
    }
}

#[test]
fn a_users_template_is_found_in_the_folder_or_the_configuration() {
    let user = User::new();
    let name = "boot-templates/boot.ipxe.j2";
    user.write(&format!(".config/virtlab/{name}"), "#!ipxe configuration");
    let boot = |args: &[&str]| {
        let output = user.virtlab(&[&["render", "--part", "boot"], args].concat()).output();
        String::from_utf8(output.unwrap().stdout).unwrap()
    };
    assert!(boot(&[]).starts_with("#!ipxe configuration"));
    user.write(&format!("mine/{name}"), "#!ipxe folder");
    assert!(boot(&["--template-dir", "mine"]).starts_with("#!ipxe folder"));
}

#[test]
fn when_a_node_is_ready_is_said_by_a_flag_a_lab_file_or_the_images_entry() {
    let user = User::new();
    let entry = std::fs::read_to_string(user.path().join("tiny.toml")).unwrap();
    let ready = entry.lines().find(|line| line.starts_with("ready = ")).unwrap();
    let own = "ready = 'http://:8080/healthz'\nssh_user = 'core'";
    user.write(
        "mine.toml",
        &entry.replace(ready, own).replace("name = \"tiny\"", "name = \"mine\""),
    );
    user.write("lab.toml", "version = 1\nimage = 'mine.toml'\nready = 'tcp:6443'\n");
    user.write("wrong.toml", "version = 1\nready = 'tcp:x'\n");
    let command = "command:test -e /run/ready";
    for (args, expected) in [
        (&["--image", "mine.toml"][..], "\"ready\":\"http://:8080/healthz\","),
        (&["-f", "lab.toml"], "\"ready\":\"tcp:6443\","),
        (
            &["-f", "lab.toml", "--ready", command],
            "\"ready\":\"command:test -e /run/ready\",\"ready_user\":\"core\",",
        ),
    ] {
        let output = user.virtlab(&[&["render", "--part", "network"], args].concat()).output();
        let output = output.unwrap();
        let text = String::from_utf8_lossy(&output.stdout);
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(text.contains(expected), "{args:?}: {said}{text}");
    }
    assert_transcript!("wrong-ready", user.says(&["render", "-f", "wrong.toml"]));
}
