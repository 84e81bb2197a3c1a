use super::*;

/// The files of a kernel 6.18 with the numbers of the article's 20 nodes.
pub(crate) fn recorded_tree(without: &[&str]) -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    for line in include_str!("../../tests/fixtures/ksm-6.18.txt").lines() {
        let (name, value) = line.split_once(' ').unwrap();
        if !without.contains(&name) {
            fs::write(dir.path().join(name), format!("{value}\n")).unwrap();
        }
    }
    dir
}

pub(crate) fn file(dir: &tempfile::TempDir, name: &str) -> String {
    fs::read_to_string(dir.path().join(name)).unwrap().trim().to_owned()
}

#[test]
fn reads_a_recorded_tree() {
    let tree = recorded_tree(&[]);
    let status = Ksm { root: tree.path().to_owned(), page_size: 4096 }.status().unwrap();
    insta::assert_snapshot!(serde_json::to_string_pretty(&status).unwrap(), @r#"
    {
      "run": "stopped",
      "saved_bytes": 4363124736,
      "in_use_bytes": 229638144,
      "general_profit_bytes": 4212109312,
      "pages_shared": 56064,
      "pages_sharing": 1065216,
      "pages_unshared": 840960,
      "zero_pages": 0,
      "pages_to_scan": 100,
      "sleep_millisecs": 20,
      "smart_scan": true,
      "full_scans": 37,
      "page_size_bytes": 4096
    }
    "#);
}

#[test]
fn an_older_kernel_lacks_three_numbers_and_nothing_else() {
    let tree = recorded_tree(&["general_profit", "ksm_zero_pages", "smart_scan"]);
    let older = Ksm::at(tree.path()).status().unwrap();
    let tree = recorded_tree(&[]);
    let newer = Ksm::at(tree.path()).status().unwrap();
    assert_eq!(
        older,
        KsmStatus { general_profit_bytes: None, zero_pages: None, smart_scan: None, ..newer }
    );
}

#[test]
fn sets_only_what_was_asked_for() {
    let tree = recorded_tree(&[]);
    let ksm = Ksm::at(tree.path());
    ksm.set(Settings::on()).unwrap();
    let now = ["run", "pages_to_scan", "sleep_millisecs"].map(|name| file(&tree, name));
    assert_eq!(now, ["1", "100", "20"]);
    ksm.set(Settings {
        run: Some(Run::Unmerged),
        pages_to_scan: Some(5000),
        sleep_millisecs: Some(10),
        smart_scan: None,
    })
    .unwrap();
    let now = ["run", "pages_to_scan", "sleep_millisecs"].map(|name| file(&tree, name));
    assert_eq!(now, ["2", "5000", "10"]);
}

#[test]
fn measuring_is_faster_and_skips_nothing_where_the_kernel_lets_it() {
    let measuring = |tree: &tempfile::TempDir| {
        let settings = Ksm::at(tree.path()).settings_to_measure().unwrap();
        assert_eq!(settings.run, Some(Run::Running));
        (settings.pages_to_scan, settings.sleep_millisecs, settings.smart_scan)
    };
    let tree = recorded_tree(&[]);
    assert_eq!(measuring(&tree), (Some(2500), None, Some(false)));
    fs::write(tree.path().join("pages_to_scan"), "9000").unwrap();
    assert_eq!(measuring(&tree), (Some(9000), None, Some(false)));
    fs::write(tree.path().join("advisor_mode"), "none [scan-time]\n").unwrap();
    assert_eq!(measuring(&tree), (None, None, Some(false)));
    let older = recorded_tree(&["advisor_mode", "smart_scan"]);
    assert_eq!(measuring(&older), (Some(2500), None, None));
}

#[test]
fn a_kernel_without_ksm_is_named_and_nothing_is_created() {
    let dir = tempfile::tempdir().unwrap();
    let root = dir.path().join("ksm");
    let ksm = Ksm::at(&root);
    for error in [ksm.status().unwrap_err(), ksm.set(Settings::on()).unwrap_err()] {
        let expected =
            format!("this kernel has no kernel samepage merging: there is no `{}`", root.display());
        assert_eq!(error.to_string(), expected);
        assert_eq!(error.hints().len(), 1);
    }
    assert!(!root.exists());
}

// Sysfs refuses to open an attribute without a store function, to root as well: so this is
// the real refusal of the kernel whoever runs the tests.
#[test]
fn without_permission_the_hint_is_the_command_to_type() {
    let tree = recorded_tree(&["run"]);
    let run = tree.path().join("run");
    std::os::unix::fs::symlink("/sys/kernel/uevent_seqnum", &run).unwrap();
    let error = Ksm::at(tree.path()).set(Settings::on()).unwrap_err();
    assert!(matches!(error, KsmError::NoPermission { .. }), "{error}");
    assert_eq!(error.to_string(), format!("writing `{}`: no permission", run.display()));
    assert_eq!(error.hints(), [format!("echo 1 | sudo tee {}", run.display())]);
}

#[test]
fn a_host_that_already_is_so_needs_no_permission() {
    let tree = recorded_tree(&["run"]);
    let real = tree.path().join("real");
    fs::write(&real, "1\n").unwrap();
    fs::set_permissions(&real, std::os::unix::fs::PermissionsExt::from_mode(0o444)).unwrap();
    std::os::unix::fs::symlink(&real, tree.path().join("run")).unwrap();
    Ksm::at(tree.path()).set(Settings::on()).unwrap();
    assert_eq!(fs::read_to_string(&real).unwrap(), "1\n", "not written again");
}

#[test]
fn each_refusal_of_the_kernel_is_told_apart() {
    let tree = recorded_tree(&[]);
    let ksm = Ksm::at(tree.path());
    let refused = |kind: ErrorKind| ksm.write_error(Knob::PagesToScan, 7, kind.into());
    let path = tree.path().join("pages_to_scan");
    let path = path.display();
    let texts = [
        (ErrorKind::PermissionDenied, format!("writing `{path}`: no permission")),
        (
            ErrorKind::ReadOnlyFilesystem,
            format!("writing `{path}`: the file system is read-only here"),
        ),
        (ErrorKind::InvalidInput, format!("writing `7` to `{path}`: the kernel refuses it")),
    ];
    for (kind, text) in texts {
        assert_eq!(refused(kind).to_string(), text);
        assert_eq!(refused(kind).hints().len(), 1, "{kind}");
    }
}

#[test]
fn a_file_with_nonsense_is_named() {
    let tree = recorded_tree(&[]);
    for (name, value) in [("pages_shared", "many"), ("run", "3")] {
        let path = tree.path().join(name);
        let before = fs::read(&path).unwrap();
        fs::write(&path, value).unwrap();
        let error = Ksm::at(tree.path()).status().unwrap_err();
        let expected = format!("reading `{}`: cannot understand `{value}`", path.display());
        assert_eq!(error.to_string(), expected);
        fs::write(&path, before).unwrap();
    }
}
