//! Looking into nodes, as far as libvirt's test driver goes.

use crate::support::{User, assert_transcript};

#[test]
fn logs_and_consoles_that_cannot_be_had_are_refused_with_the_way_out() {
    let user = User::with_a_lab();
    assert_transcript!(
        "looking-refused",
        user.session(&[
            &["logs"],
            &["logs", "demo"],
            &["logs", "demo-3", "demo-1", "other"],
            &["logs", "demo", "--since", "yesterday"],
            &["console", "demo-1"],
            &["console", "demo-2"],
            &["console", "dem"],
        ])
    );
}
