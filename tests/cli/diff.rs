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
