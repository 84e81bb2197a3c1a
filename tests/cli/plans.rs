//! What would be done, without doing it: `--dry-run` and `render`.

use fs_err as fs;

use crate::support::{PAUSED, RUNNING, SHUT_OFF, User, assert_transcript, text};

#[test]
fn a_dry_run_prints_the_steps_and_makes_nothing() {
    let user = User::new();
    let create = ["create", "demo", "--nodes", "2", "--image", "tiny.toml"];
    let create =
        [&create[..], &["--subnet", "10.201.0.0/24", "--boot-port", "8470", "--dry-run"]].concat();
    assert_transcript!("create-dry-run", user.session(&[&create, &["list"]]));
    let state = user.path().join(".local/state/virtlab");
    assert!(!state.exists(), "{} was made", state.display());
}

#[test]
fn a_dry_run_gets_no_image() {
    let user = User::new();
    let create = ["create", "demo", "--nodes", "1", "--subnet", "10.201.0.0/24", "--dry-run"];
    let create = [&create[..], &["--boot-port", "8470"]].concat();
    assert_transcript!("create-without-image", user.says(&create));
    let cache = user.path().join(".cache/virtlab/images/index");
    let records = fs::read_dir(&cache).map_or(0, Iterator::count);
    assert_eq!(records, 0, "{}", cache.display());
}

#[test]
fn a_lab_is_made_anew_only_if_the_new_one_can_be() {
    let user = User::with_a_lab();
    user.write("bad.ign", "{");
    let recreate = ["create", "demo", "--recreate", "--image", "tiny.toml", "--boot-port", "8470"];
    assert_transcript!(
        "recreate",
        user.session(&[
            // The old one's subnet may be used again.
            &[&recreate[..], &["--nodes", "1", "--subnet", "10.201.0.0/24", "--dry-run"]].concat(),
            &[&recreate[..], &["--config", "bad.ign"]].concat(),
            &[&recreate[..], &["--nodes", "300", "--mac-prefix", "52:54:00:12:34"]].concat(),
            &["list"],
        ])
    );
}

#[test]
fn a_half_made_lab_is_completed() {
    let user = User::new();
    user.seed_with_image(&user.lab("demo", &[RUNNING, PAUSED, SHUT_OFF]));
    assert_transcript!("create-half-made", user.says(&["create", "demo", "--dry-run"]));
}

#[test]
fn destroying_is_planned_from_what_is_there() {
    let user = User::with_a_lab();
    assert_transcript!(
        "destroy-dry-run",
        user.session(&[
            &["destroy", "demo", "--dry-run"],
            &["destroy", "--all", "--dry-run"],
            &["destroy", "nope", "demo", "demo", "--dry-run"],
        ])
    );
}

#[test]
fn rendering_needs_no_libvirt() {
    let user = User::new();
    let render = |part: &'static str| {
        let mut command = user.virtlab(&["render", "demo", "--nodes", "2", "--node", "2"]);
        command.args(["--subnet", "10.201.0.0/24", "--part", part]);
        command.env("LIBVIRT_DEFAULT_URI", "qemu+unix:///system?socket=/nonexistent");
        crate::support::transcript(&mut command)
    };
    for part in ["network", "domain", "boot", "config"] {
        assert_transcript!(format!("render-{part}"), render(part));
    }
}

#[test]
fn all_parts_are_rendered_in_the_order_of_their_use() {
    let output = User::new().virtlab(&["render"]).output().unwrap();
    let text = text(&output.stdout);
    let at = |part: &str| text.find(part).unwrap_or_else(|| panic!("no {part} in:\n{text}"));
    let places = ["<network", "<domain type", "#!ipxe", "\"ignition\""].map(at);
    assert!(places.is_sorted(), "{places:?}");
}
