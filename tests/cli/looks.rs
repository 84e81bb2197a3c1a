//! How often virtlab looks at libvirt, told by libvirt's own log of what its library is asked for.

use std::path::{Path, PathBuf};

use crate::support::User;

/// The calls of libvirt's library that `virtlab args` makes, in order.
fn calls(user: &User, args: &[&str]) -> Vec<String> {
    let log = user.path().join("libvirt.log");
    let mut command = user.virtlab(args);
    command.env("LIBVIRT_LOG_FILTERS", "1:libvirt");
    command.env("LIBVIRT_LOG_OUTPUTS", format!("1:file:{}", log.display()));
    // The test driver takes no files, so the run ends there; what came before it counts.
    command.output().unwrap();
    let text = std::fs::read_to_string(log).unwrap();
    // `2026-11-24 08:00:00.000+0000: 42: debug : virConnectOpen:1234 : name=…`
    let call = |line: &str| {
        let name = line.split(" : ").nth(1)?.split(':').next()?.trim();
        name.starts_with("vir").then(|| name.to_owned())
    };
    text.lines().filter_map(call).collect()
}

#[test]
fn create_looks_at_libvirt_once_before_it_makes_anything() {
    let user = User::new();
    let calls = calls(&user, &["create", "demo", "--image", "tiny.toml", "--no-wait"]);
    let first = calls.iter().position(|call| call.contains("Define") || call.contains("CreateXML"));
    let before = &calls[..first.unwrap_or_else(|| panic!("nothing is made: {calls:?}"))];
    for list in
        ["virConnectListAllDomains", "virConnectListAllNetworks", "virConnectListAllStoragePools"]
    {
        let count = before.iter().filter(|call| *call == list).count();
        assert_eq!(count, 1, "{list} in {before:?}");
    }
}

#[test]
fn a_dry_run_writes_nothing() {
    let user = User::new();
    let before = tree(user.path());
    let transcript = user.says(&["create", "demo", "--image", "tiny.toml", "--dry-run"]);
    assert!(transcript.contains("define network `demo`"), "{transcript}");
    assert_eq!(tree(user.path()), before);
}

/// Every file and folder below `folder`, with what it holds.
fn tree(folder: &Path) -> Vec<(PathBuf, Vec<u8>)> {
    let mut found = Vec::new();
    for item in std::fs::read_dir(folder).unwrap() {
        let path = item.unwrap().path();
        let content = if path.is_dir() { Vec::new() } else { std::fs::read(&path).unwrap() };
        if path.is_dir() {
            found.extend(tree(&path));
        }
        found.push((path, content));
    }
    found.sort();
    found
}
