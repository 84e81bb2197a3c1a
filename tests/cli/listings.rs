//! `list` and `status`, in every form.

use std::net::TcpListener;

use serde_json::{Value, json};

use crate::served::serve;
use crate::support::{FOREIGN, PAUSED, RUNNING, SHUT_OFF, User, assert_transcript};

#[test]
fn labs_are_listed_in_every_form_and_what_is_foreign_is_not() {
    let user = User::with_a_lab();
    assert_transcript!(
        "list",
        user.session(&[
            &["list"],
            &["ls", "-o", "name"],
            &["list", "-o", "json"],
            &["list", "-o", "yaml"],
        ])
    );
}

#[test]
fn no_lab_is_an_empty_list() {
    let user = User::with(FOREIGN);
    assert_transcript!(
        "list-empty",
        user.session(&[&["list"], &["list", "-o", "name"], &["list", "-o", "json"]])
    );
}

#[test]
fn a_lab_is_shown_with_the_state_of_each_node() {
    let user = User::new();
    let lab = user.lab("demo", &[RUNNING, PAUSED, SHUT_OFF]);
    // Nobody listens there, and nothing leaves this computer.
    user.seed(&lab.replace("10.201.0.1\",\"boot_port\":8470", "127.0.0.1\",\"boot_port\":1"));
    assert_transcript!(
        "status",
        user.session(&[
            &["status", "demo"],
            &["status", "demo", "-o", "name"],
            &["status", "demo", "-o", "json"],
            &["status", "demo", "-o", "yaml", "-q"],
        ])
    );
}

#[test]
fn a_node_that_is_wanted_off_or_paused_is_left_so_and_is_no_fault() {
    let user = User::new();
    let lab = user.lab("demo", &[RUNNING, PAUSED, SHUT_OFF, RUNNING, SHUT_OFF]);
    let lab = User::wanting(&User::wanting(&lab, 2, "paused"), 3, "off");
    let lab = User::wanting(&lab, 4, "off");
    // Nobody listens there, and nothing leaves this computer.
    let here = lab.replace("10.201.0.1\",\"boot_port\":8470", "127.0.0.1\",\"boot_port\":1");
    user.seed_with_image(&here);
    let shown = user.says(&["status", "demo"]);
    let planned = user.says(&["create", "demo", "--dry-run"]);
    assert_transcript!("status-wanted", format!("{shown}\n{planned}"));
}

#[test]
fn nodes_that_are_off_or_still_boot_are_not_asked_for_their_etcd() {
    let user = User::new();
    let lab = user.lab("demo", &[RUNNING, SHUT_OFF, RUNNING]);
    serve(
        &user,
        &lab.replace("\"ready\":\"config\"", "\"ready\":\"etcd\""),
        &json!([
            {"power-on": 0, "script": 2600, "kernel": 3100},
            {"power-on": 0, "script": 2500, "ready": 9000},
            {"power-on": 0, "script": 2500, "config": 8000, "ready": 9000},
        ]),
    );
    // Who asked them would wait for an answer. Nobody listens on the third, which is asked.
    let etcd = |node: u32| TcpListener::bind(format!("127.201.0.{}:2379", node + 1)).unwrap();
    let silent = [etcd(1), etcd(2)];
    assert_transcript!("status-booting", user.says(&["status", "demo"]));
    for listener in silent {
        listener.set_nonblocking(true).unwrap();
        assert!(listener.accept().is_err(), "a node was asked that cannot answer");
    }
}

#[test]
fn json_is_json_and_holds_what_a_script_needs() {
    let user = User::with_a_lab();
    let output = user.virtlab(&["list", "-o", "json"]).output().unwrap();
    let labs: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(labs[0]["name"], "demo");
    assert_eq!(labs[0]["nodes"], 2);
    assert_eq!(labs[0]["running"], 1);
}

#[test]
fn what_a_later_virtlab_made_is_left_alone_with_a_warning() {
    let user = User::new();
    let lab = user.lab("demo", &[RUNNING]);
    let later = lab
        .replace("\"nodes\":1", "\"members\":1")
        .replace(&format!("version=\"{}\"", env!("CARGO_PKG_VERSION")), "version=\"9.9.9\"");
    user.seed(&later);
    assert_transcript!("list-later", user.session(&[&["list"], &["destroy", "demo"]]));
}

#[test]
fn a_node_that_was_renamed_is_a_node_all_the_same() {
    let user = User::new();
    let lab = user.lab("demo", &[SHUT_OFF]);
    // As `virsh domrename` does it.
    user.seed(&lab.replace("<name>demo-1</name>", "<name>mine</name>"));
    assert_transcript!(
        "renamed-node",
        user.session(&[&["list"], &["destroy", "demo", "--dry-run"], &["destroy", "demo"],])
    );
}

#[test]
fn a_copy_of_a_node_is_not_a_node() {
    let user = User::new();
    let lab = user.lab("demo", &[SHUT_OFF]);
    let (_, domain) = lab.split_at(lab.find("<domain type='kvm'").unwrap());
    let uuid = &domain[domain.find("<uuid>").unwrap()..domain.find("</uuid>").unwrap()];
    // As virt-clone does it: another name, UUID and MAC address.
    let copy = domain
        .replace(uuid, "<uuid>11111111-2222-4333-8444-555555555555")
        .replace("<name>demo-1</name>", "<name>my-copy</name>")
        .replace("52:54:00", "52:54:01")
        .replace(SHUT_OFF, RUNNING);
    user.seed(&format!("{lab}{copy}"));
    assert_transcript!(
        "copied-node",
        user.session(&[&["list"], &["destroy", "demo", "--dry-run"]])
    );
}
