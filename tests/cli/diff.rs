//! What is wanted of a lab against what libvirt has of it, as far as libvirt's test driver goes.

use crate::support::{FOREIGN, RUNNING, SHUT_OFF, User, assert_transcript};

#[test]
fn what_differs_is_shown_with_an_exit_status_of_its_own() {
    let user = User::new();
    let lab = user.lab("demo", &[RUNNING, SHUT_OFF]).replace("10.201.0.1:8470", "127.0.0.1:1");
    // As `virsh edit demo-1` and `virsh net-edit demo` do it.
    let edited = lab
        .replacen("1024</memory>", "2048</memory>", 1)
        .replacen("<memballoon", "<sound model='ich9'/><memballoon", 1)
        .replacen("localOnly='yes'", "localOnly='no'", 1);
    assert_ne!(edited, lab);
    user.seed_with_image(&format!("{edited}{FOREIGN}"));
    assert_transcript!(
        "diff",
        user.session(&[
            &["diff", "demo"],
            &["diff", "demo", "-o", "json", "-q"],
            &["diff", "demo", "-o", "name", "-q"],
            &["diff", "nope"],
            &["create", "demo", "--dry-run"],
        ])
    );
}

#[test]
fn everything_that_a_node_is_given_is_explained_without_its_secrets() {
    let user = User::new();
    user.write(
        "mine.ign.j2",
        "{\"ignition\":{\"version\":\"3.3.0\"},\"passwd\":{\"users\":[{\"name\":\"{{ node.name }}\",\
         \"passwordHash\":\"$6$salt$hash\"}]}}",
    );
    let lab = user.lab_with("demo", &[RUNNING, SHUT_OFF], &["--config", "mine.ign.j2"]);
    user.seed_with_image(&format!("{lab}{FOREIGN}"));
    assert_transcript!(
        "explain",
        user.session(&[
            &["explain", "demo-2"],
            &["explain", "demo", "-o", "name"],
            &["explain", "nope"],
        ])
    );
    let shown = |args: &[&str]| {
        let output = user.virtlab(&[&["explain", "demo-1", "-o", "json"], args].concat()).output();
        let document: serde_json::Value = serde_json::from_slice(&output.unwrap().stdout).unwrap();
        assert_eq!(document["schema_version"], 1);
        let config = document["parts"].as_array().unwrap().last().unwrap();
        config["text"].as_str().unwrap().to_owned()
    };
    assert!(shown(&[]).contains("\"passwordHash\":\"[hidden]\""), "{}", shown(&[]));
    assert!(shown(&["--show-secrets"]).contains("$6$salt$hash"));
}
