//! Two runs of virtlab at once that change the same lab.

use std::net::TcpListener;
use std::process::{Command, Stdio};

use crate::support::{User, assert_transcript, transcript};

#[test]
fn whoever_changes_a_lab_is_alone_with_it() {
    let user = User::new();
    let config = "{\"ignition\":{\"version\":\"3.3.0\"},\"storage\":{\"files\":[{\"path\":\"/url\",\
        \"contents\":{\"source\":\"data:,<DISCOVERY_URL>\"}}]}}";
    user.write("asks.ign.j2", config);
    // A service that does not answer holds up the first run, with the lock in its hand.
    let service = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}", service.local_addr().unwrap());
    let args = ["create", "demo", "--image", "tiny.toml", "--config", "asks.ign.j2"];
    let mut first: Command = user.virtlab(&[&args[..], &["--discovery", &url]].concat());
    let mut first = first.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
    let held = service.accept().unwrap();

    let pid = format!("process {}", first.id());
    let says = |args: &[&str]| {
        let said = transcript(&mut user.virtlab(args));
        said.replace(&pid, "process [FIRST]")
    };
    let waiting = [
        says(&["destroy", "demo", "--wait-lock", "100ms"]),
        says(&["create", "demo", "--image", "tiny.toml", "--wait-lock", "0s"]),
        // These change nothing, or another lab.
        says(&["destroy", "demo", "--dry-run"]),
        says(&["destroy", "other", "--wait-lock", "0s"]),
    ];
    drop((held, service));
    first.wait().unwrap();
    let after = says(&["destroy", "demo", "--wait-lock", "0s"]);
    assert_transcript!("locked", [&waiting[..], &[after]].concat().join("\n"));
}
