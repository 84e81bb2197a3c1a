//! What is broken on purpose, as it is typed and as it is told.

use crate::support::{PAUSED, RUNNING, SHUT_OFF, User, assert_transcript};

/// The second node is cut off, and the third is to be.
fn user() -> User {
    let user = User::new();
    let lab = user.lab("demo", &[RUNNING, RUNNING, SHUT_OFF, PAUSED]);
    let (before, after) = lab.split_once("<name>demo-2</name>").unwrap();
    let after = after.replacen("</interface>", "<link state='down'/></interface>", 1);
    let lab = format!("{before}<name>demo-2</name>{after}");
    let lab = User::cut(&User::cut(&lab, 2), 3);
    // That of the third ends by itself.
    let lab = lab.replace("node=\"3\" faults=\"cut=1000\"", "node=\"3\" faults=\"cut=1000-2000\"");
    user.seed(&format!("{lab}{}", user.lab("web", &[RUNNING]).replace("10.201", "10.202")));
    user
}

#[test]
fn faults_are_planned_and_listed() {
    let user = user();
    user.write("drill.toml", include_str!("../../docs/drill.toml"));
    assert_transcript!(
        "faults",
        user.session(&[
            &["fault", "cut", "demo-1", "--dry-run"],
            &["fault", "cut", "demo-2", "--dry-run"],
            &["fault", "cut", "demo", "web-1", "--dry-run"],
            &["fault", "cut", "demo", "minority", "--dry-run"],
            &["fault", "cut", "demo", "one", "majority", "web-1", "--dry-run"],
            &["fault", "pause", "demo", "web", "--dry-run"],
            &["fault", "kill", "demo", "--dry-run"],
            &["fault", "reset", "demo-1", "web", "--dry-run"],
            &["fault", "clock", "demo-1", "--offset", "-90m", "--dry-run"],
            &["fault", "list", "-o", "json"],
            &["fault", "list", "demo-1", "web"],
            &["fault", "list", "-o", "name"],
            &["heal", "--dry-run"],
            &["heal", "demo-3", "web", "--dry-run"],
            &["drill", "drill.toml", "web", "--dry-run"],
            &["heal", "web"],
        ])
    );
}

#[test]
fn a_fault_that_cannot_be_is_one_clear_error() {
    let user = user();
    user.write("drill.toml", include_str!("../../docs/drill.toml"));
    user.write("wrong.toml", "lab = \"demo\"\n[[fault]]\nat = \"1s\"\nrun = \"break $lab\"\n");
    assert_transcript!(
        "faults-refused",
        user.session(&[
            &["fault"],
            &["fault", "cut"],
            &["fault", "cut", "demo-9"],
            &["fault", "melt", "demo-1"],
            &["fault", "partition", "demo", "demo-1"],
            &["fault", "partition", "nope", "demo-1", "demo-2"],
            &["fault", "partition", "demo", "demo-1,demo-5", "demo-2"],
            &["fault", "partition", "demo", "demo-1,", "demo-2"],
            &["fault", "partition", "demo", "demo-1,demo-3", "demo-2,demo-3"],
            &["fault", "cut", "majority"],
            &["fault", "cut", "web", "minority"],
            &["fault", "cut", "demo", "others"],
            &["fault", "partition", "demo", "majority", "majority"],
            &["fault", "partition", "demo", "all", "demo-2"],
            &["fault", "reset", "demo-1", "demo-3"],
            &["fault", "cut", "demo-1", "--for", "soon"],
            // Nobody would heal it.
            &["fault", "cut", "demo-1", "--for", "30s"],
            &["fault", "cut", "demo-1", "--flap", "2s"],
            &["fault", "cut", "demo-1", "--flap", "10ms"],
            // The driver has no filters.
            &["fault", "partition", "demo", "demo-1", "demo-4"],
            &["fault", "isolate", "demo-1", "--dry-run"],
            // Nor quotas.
            &["fault", "starve", "demo-1", "--cpu", "5%", "--dry-run"],
            &["fault", "starve", "demo-1", "--cpu", "100%"],
            &["fault", "slow-disk", "demo-1", "--iops", "50"],
            &["fault", "slow-disk", "demo-1"],
            &["fault", "squeeze", "demo-1", "--memory", "512GiB"],
            &["fault", "clock", "demo-1"],
            // The driver's network cards have no devices.
            &["fault", "loss", "demo-1", "--percent", "20%"],
            &["fault", "delay", "demo-1", "--by", "100ms", "--jitter", "20ms", "--dry-run"],
            &["fault", "rate", "demo-3", "--to", "1mbit", "--dry-run"],
            &["fault", "delay", "demo-1"],
            &["fault", "delay", "demo-1", "--by", "2m"],
            &["fault", "corrupt", "demo-1", "--percent", "0"],
            &["fault", "rate", "demo-1", "--to", "fast"],
            &["fault", "clock", "demo-1", "--offset", "tomorrow"],
            &["fault", "clock", "demo-1", "--offset=-1h", "--verdict"],
            &["fault", "squeeze", "demo-1", "--memory", "128MiB", "--dry-run"],
            &["fault", "cut", "demo-1", "--verdict"],
            &["fault", "cut", "demo-1", "web-1", "--verdict"],
            &["fault", "cut", "demo-1", "--verdict", "--dry-run"],
            &["fault", "cut", "demo-1", "--within", "5s"],
            &["drill", "nothing.toml"],
            &["drill", "wrong.toml"],
            &["drill", "drill.toml", "nope"],
            &["drill", "drill.toml", "--seed", "5"],
            &["fault", "cut", "demo-1", "--verdict", "--probe", "etcd"],
            &["fault", "cut", "demo-1", "--verdict", "--probe", "tcp:22"],
            &["fault", "list", "nope"],
            &["heal", "demo", "nope"],
            &["snapshot", "save", "demo"],
            &["snapshot", "restore", "demo"],
        ])
    );
}

#[test]
fn a_fault_that_takes_the_majority_says_what_that_means() {
    let user = User::new();
    let lab = user.lab_with("demo", &[RUNNING, RUNNING, RUNNING], &["--ready", "etcd"]);
    user.seed(&lab);
    assert_transcript!(
        "faults-majority",
        user.session(&[
            &["fault", "cut", "demo-1", "--dry-run"],
            &["fault", "cut", "demo", "majority", "--dry-run"],
            &["fault", "pause", "demo", "--dry-run"],
            &["fault", "kill", "demo-1", "demo-3", "--dry-run"],
            &["fault", "reset", "demo", "--dry-run"],
        ])
    );
}
