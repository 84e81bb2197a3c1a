//! Many virtlabs at the same time.

use std::collections::BTreeSet;
use std::process::Stdio;

use crate::harness::{LabGuard, Said, everything_there, virsh, virtlab, virtlab_command};

#[test]
fn ten_labs_made_at_once_from_ten_shells_do_not_get_in_each_others_way() {
    let names: Vec<String> = (0..LABS).map(|number| format!("xten{number}")).collect();
    let _guards: Vec<_> = names.iter().map(LabGuard).collect();
    let networks = virsh(&["net-list", "--all", "--name"]);
    let pools = virsh(&["pool-list", "--all", "--name"]);

    at_once(&names, &["create", "--nodes", "1", "--memory", "512MiB", "--no-wait"]);
    let mut urls = BTreeSet::new();
    let mut bridges = BTreeSet::new();
    let mut macs = BTreeSet::new();
    for name in &names {
        let status = virtlab(&["status", name, "-o", "json"]).json();
        assert_eq!(status["boot_server"]["running"], true, "{status}");
        assert_eq!(status["nodes"][0]["domain"], "running", "{status}");
        urls.insert(status["boot_server"]["url"].as_str().unwrap().to_owned());
        macs.insert(status["nodes"][0]["mac"].as_str().unwrap().to_owned());
        let info = virsh(&["net-info", name]);
        let bridge = info.lines().find_map(|line| line.strip_prefix("Bridge:"));
        bridges.insert(bridge.expect("a bridge").trim().to_owned());
    }
    assert_eq!(urls.len(), LABS, "{urls:?}");
    assert_eq!(bridges.len(), LABS, "{bridges:?}");
    assert_eq!(macs.len(), LABS, "{macs:?}");

    at_once(&names, &["destroy"]);
    assert_eq!(virtlab(&["list", "-o", "name"]).ok().trim(), "");
    assert_eq!(virsh(&["list", "--all", "--name"]).trim(), "");
    assert_eq!(virsh(&["net-list", "--all", "--name"]), networks);
    assert_eq!(virsh(&["pool-list", "--all", "--name"]), pools);
    let state = std::env::var("XDG_STATE_HOME").expect("the sandbox has a state folder of its own");
    let left: Vec<String> = std::fs::read_dir(format!("{state}/virtlab"))
        .unwrap()
        .map(|entry| entry.unwrap().file_name().to_string_lossy().into_owned())
        .filter(|name| name.starts_with("xten"))
        .collect();
    assert_eq!(left, Vec::<String>::new());
}

#[test]
fn two_runs_that_make_the_same_lab_make_one_and_two_that_destroy_it_are_no_harm() {
    let before = everything_there();
    let _guard = LabGuard("twice");
    let both = |args: &[&str]| -> Vec<Said> {
        let start = || virtlab_command(args).stdout(Stdio::null()).stderr(Stdio::piped()).spawn();
        let children = [start().unwrap(), start().unwrap()];
        children.into_iter().map(|child| child.wait_with_output().unwrap().into()).collect()
    };
    let made = both(&["create", "twice", "--nodes", "3", "--memory", "512MiB", "--no-wait"]);
    for said in &made {
        assert_eq!(said.code, Some(0), "{made:?}");
    }
    let count = |text: &str| made.iter().filter(|said| said.stderr.contains(text)).count();
    assert_eq!(count("waiting for `virtlab create` (process "), 1, "{made:?}");
    assert_eq!(count("lab `twice` is there already, nothing to do"), 1, "{made:?}");
    let running = virsh(&["list", "--state-running", "--name"]);
    assert_eq!(running.matches("twice-").count(), 3, "{running}");

    let gone = both(&["destroy", "twice"]);
    assert!(gone.iter().any(|said| said.code == Some(0)), "{gone:?}");
    assert!(gone.iter().any(|said| said.stderr.contains("there is no lab `twice`")), "{gone:?}");
    assert_eq!(everything_there(), before);
}

/// Runs virtlab once for each lab, all at the same time; all must succeed.
fn at_once(names: &[String], args: &[&str]) {
    let start = |name: &String| {
        let mut command = virtlab_command(args);
        command.arg(name);
        command.stdout(Stdio::null()).stderr(Stdio::piped()).spawn().expect("virtlab runs")
    };
    let children: Vec<_> = names.iter().map(start).collect();
    let failures: Vec<String> = children
        .into_iter()
        .zip(names)
        .filter_map(|(child, name)| {
            let output = child.wait_with_output().expect("our child");
            let text = String::from_utf8_lossy(&output.stderr).into_owned();
            (!output.status.success()).then(|| format!("{name}: {text}"))
        })
        .collect();
    assert!(failures.is_empty(), "virtlab {}:\n{}", args[0], failures.join("\n"));
}

const LABS: usize = 10;
