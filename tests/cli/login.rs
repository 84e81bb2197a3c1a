//! `ssh`, as far as its own program takes over.

use std::os::unix::fs::PermissionsExt;

use crate::support::{User, assert_transcript, transcript};

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
