//! `snapshot`, as far as libvirt's test driver goes: it saves no memory and downloads nothing.

use uuid::Uuid;

use crate::support::{PAUSED, RUNNING, SHUT_OFF, User, assert_transcript};

/// A lab with its storage pool, in which there are these files.
fn with_pool(lab: &str, name: &str, files: &[&str]) -> String {
    let uuid = lab.split("\" uuid=\"").nth(1).unwrap().split('"').next().unwrap();
    let uuid = Uuid::new_v5(&uuid.parse().unwrap(), b"storage pool");
    let volume = |file: &&str| {
        format!("<volume type='file'><name>{file}</name><capacity>7</capacity><target/></volume>")
    };
    let volumes: String = files.iter().map(volume).collect();
    format!(
        "{lab}<pool type='dir'><name>virtlab-{name}</name><uuid>{uuid}</uuid><target>\
         <path>/var/lib/libvirt/virtlab-{name}</path></target>{volumes}</pool>"
    )
}

#[test]
fn what_cannot_be_saved_or_brought_back_is_refused_with_the_way_out() {
    let user = User::new();
    let demo = with_pool(&user.lab("demo", &[RUNNING, SHUT_OFF]), "demo", &[]);
    let idle = User::wanting(&user.lab("idle", &[SHUT_OFF]), 1, "off");
    let bare = user.lab("bare", &[RUNNING]);
    let disk = user.lab_with("disk", &[RUNNING], &["--disk", "1GiB"]);
    let disk = with_pool(&disk, "disk", &[]);
    let half = user.lab("half", &[RUNNING, RUNNING]).replace("<name>half-2<", "<name>other<");
    let half = half.replace("node=\"2\"", "node=\"1\"");
    user.seed(&[demo, idle, bare, disk, half].concat());
    assert_transcript!(
        "snapshot-refused",
        user.session(&[
            &["snapshot", "save", "demo"],
            &["snapshot", "save", "idle"],
            &["snapshot", "save", "bare"],
            &["snapshot", "save", "disk", "base"],
            &["snapshot", "save", "half"],
            &["snapshot", "save", "dem"],
            &["snapshot", "save", "demo", "Base"],
            &["snapshot", "save"],
            &["snapshot", "restore", "demo"],
            &["snapshot", "restore", "demo", "base"],
            &["snapshot", "restore", "bare"],
            &["snapshot", "list", "demo"],
            &["snapshot", "list", "demo", "-o", "json"],
            &["snapshot", "list", "nope"],
            &["snapshot", "rm", "demo"],
            &["snapshot", "rm", "demo", "base"],
            &["snapshot", "rm", "demo", "--all"],
        ])
    );
}

#[test]
fn a_dry_run_prints_the_steps_of_a_save() {
    let user = User::new();
    let lab = user.lab("demo", &[RUNNING, PAUSED, PAUSED, SHUT_OFF]);
    let lab = User::wanting(&User::wanting(&lab, 2, "paused"), 4, "off");
    user.seed(&with_pool(&lab, "demo", &[]));
    assert_transcript!(
        "snapshot-save-dry-run",
        user.says(&["snapshot", "save", "demo", "--dry-run"])
    );
}

#[test]
fn what_a_killed_save_left_is_removed() {
    let user = User::new();
    let lab = user.lab("demo", &[RUNNING]);
    user.seed(&with_pool(&lab, "demo", &["snapshot.base.1.memory", "demo-1.console.log"]));
    assert_transcript!(
        "snapshot-leftovers",
        user.session(&[
            &["snapshot", "rm", "demo", "--all", "--dry-run"],
            &["snapshot", "rm", "demo", "--all"],
        ])
    );
}
