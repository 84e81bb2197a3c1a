//! What is not virtlab's survives every command that changes something, however near its name is.

use std::path::Path;

use crate::behind::tiny_image;
use crate::harness::{LabGuard, run, virsh, virtlab};

#[test]
fn what_is_not_virtlabs_survives_every_command_that_changes_something() {
    let home = tempfile::tempdir().unwrap();
    let image = tiny_image(home.path());
    let _guards = (LabGuard("demo"), LabGuard("demo2"));
    let with = |args: &[&str]| {
        let args: Vec<String> = args.iter().map(|arg| arg.replace("IMAGE", &image)).collect();
        virtlab(&args.iter().map(String::as_str).collect::<Vec<_>>())
    };
    // Another lab, whose objects have a mark, but not that of `demo`.
    let create = ["create", "demo2", "--image", "IMAGE", "--nodes", "1", "--virt-type", "qemu"];
    with(&[&create[..], &["--no-wait"]].concat()).ok();
    with(&["stop", "demo2", "--force"]).ok();
    let foreign = Foreign::define(home.path(), &mark("demo2-1"));
    let before = snapshot(home.path());
    for name in DOMAINS.iter().chain(&NETWORKS).chain(&[POOL, "demo2-1", "demo2", "virtlab-demo2"])
    {
        assert!(before.contains(&format!("<name>{name}</name>")), "`{name}` is not compared");
    }
    for command in CHANGING.iter().chain(LOOKING) {
        let said = with(command);
        // `diff` says by 1 that something differs, `wait` by 3 that it waited long enough.
        let as_expected = match command[0] {
            "diff" => matches!(said.code, Some(0 | 1)),
            "wait" => matches!(said.code, Some(0 | 3)),
            _ => said.code == Some(0),
        };
        assert!(as_expected, "{command:?}: {:?}\n{}{}", said.code, said.stdout, said.stderr);
        assert_eq!(snapshot(home.path()), before, "after {command:?}");
    }
    with(&["destroy", "demo"]).ok();
    assert_eq!(snapshot(home.path()), before, "after destroy");

    // A foreign object that has the very name is in the way, and stays.
    for (define, undefine, name, xml) in [
        ("define", "undefine", "demo-1", domain("demo-1", "")),
        ("net-define", "net-undefine", "demo", network("demo", "")),
    ] {
        virsh(&[define, &write(home.path(), name, &xml)]);
        let before = snapshot(home.path());
        let destroy: &[&str] = &["destroy", "demo"];
        for command in CHANGING.iter().chain([&destroy]) {
            with(command).refused();
            assert_eq!(snapshot(home.path()), before, "`{name}`, after {command:?}");
        }
        virsh(&[undefine, name]);
    }
    assert_eq!(snapshot(home.path()), before);
    drop(foreign);
}

#[test]
fn every_command_is_tried_beside_foreign_objects_or_knows_none() {
    let help = virtlab(&["--help"]).ok();
    let lines = help.lines().skip_while(|line| *line != "Commands:").skip(1);
    let lines = lines.take_while(|line| !line.is_empty());
    let lines = lines.filter(|line| line.starts_with("  ") && !line.starts_with("   "));
    let names = lines.filter_map(|line| line.split_whitespace().next());
    let is_tried = |name: &str| CHANGING.iter().chain(LOOKING).any(|command| command[0] == name);
    let is_known = |name: &&str| *name == "destroy" || is_tried(name) || ELSEWHERE.contains(name);
    let unknown: Vec<&str> = names.filter(|name| !is_known(name)).collect();
    assert_eq!(unknown, Vec::<&str>::new(), "put them into CHANGING, LOOKING or ELSEWHERE");
}

/// All that change something in libvirt, in an order in which each has something to do. `destroy` comes last.
const CHANGING: &[&[&str]] = &[
    &[
        "create",
        "demo",
        "--image",
        "IMAGE",
        "--nodes=2",
        "--memory=256MiB",
        "--virt-type=qemu",
        "--no-wait",
    ],
    &["create", "demo", "--no-wait"],
    &["scale", "demo", "3", "--no-wait"],
    &["scale", "demo", "2", "--no-wait"],
    &["autostart", "demo", "on"],
    &["autostart", "demo", "off"],
    &["pause", "demo"],
    &["resume", "demo"],
    &["restart", "demo", "--force", "--no-wait"],
    &["stop", "demo", "--force"],
    &["start", "demo", "--no-wait"],
    &["fault", "cut", "demo-1"],
    &["fault", "partition", "demo", "demo-1", "demo-2"],
    &["fault", "isolate", "demo-2"],
    &["fault", "squeeze", "demo-2", "--memory", "128MiB"],
    &["fault", "clock", "demo-2", "--offset", "+1h"],
    &["fault", "reset", "demo", "one"],
    &["fault", "pause", "demo-1"],
    &["fault", "kill", "demo", "all", "--for", "1h"],
    &["heal", "demo"],
    &["snapshot", "save", "demo", "one"],
    &["snapshot", "restore", "demo", "one", "--no-wait"],
    &["snapshot", "rm", "demo", "one"],
    &["create", "demo", "--image", "IMAGE", "--nodes=1", "--recreate", "--no-wait"],
];

/// Those that only look at a lab, which is there after all of CHANGING.
const LOOKING: &[&[&str]] = &[
    &["list"],
    &["status", "demo"],
    &["wait", "demo", "--timeout", "1"],
    &["diff", "demo"],
    &["explain", "demo-1"],
    &["ssh-config", "demo"],
    &["inventory", "--list"],
    &["open", "demo", "--print"],
    &["events", "demo"],
    &["timeline", "demo"],
    &["snapshot", "list", "demo"],
    &["logs", "demo"],
    &["fault", "list", "demo"],
    &["render", "demo", "--image", "IMAGE"],
];

/// Those that change nothing in libvirt but what their users do themselves inside a node, or know no lab at all; and `drill`, which
/// needs nodes that answer: a foreign domain is beside those of its own test.
const ELSEWHERE: &[&str] = &[
    "drill",
    "verify",
    "ssh",
    "exec",
    "cp",
    "console",
    "doctor",
    "serve",
    "pxe",
    "image",
    "ksm",
    "memory",
    "completions",
    "version",
    "help",
];

/// Objects with names near those of the lab `demo`: without a mark, with that of another lab, and with one that nobody can
/// read. They go when the test ends, however it ends.
struct Foreign;

impl Foreign {
    fn define(folder: &Path, mark: &str) -> Self {
        let foreign = Self;
        for (name, mark) in DOMAINS.into_iter().zip(["", mark, "", UNREADABLE]) {
            virsh(&["define", &write(folder, name, &domain(name, mark))]);
        }
        for (name, mark) in NETWORKS.into_iter().zip(["", mark]) {
            virsh(&["net-define", &write(folder, name, &network(name, mark))]);
        }
        let target = folder.join("pool");
        std::fs::create_dir(&target).unwrap();
        std::fs::write(target.join("demo-1.qcow2"), "mine").unwrap();
        let target = target.to_str().unwrap();
        virsh(&["pool-define-as", POOL, "dir", "--target", target]);
        virsh(&["pool-start", POOL]);
        foreign
    }
}

impl Drop for Foreign {
    fn drop(&mut self) {
        let domains = DOMAINS.iter().chain(&["demo-1"]).map(|name| ["undefine", name]);
        let networks = NETWORKS.iter().map(|name| ["net-undefine", name]);
        let pool = [["pool-destroy", POOL], ["pool-undefine", POOL]];
        for args in domains.chain(networks).chain(pool) {
            // What the test itself has removed is not there.
            run("virsh", &args);
        }
    }
}

const DOMAINS: [&str; 4] = ["demo-10x", "demo-1-foreign", "demo-", "demo-2x"];
const NETWORKS: [&str; 2] = ["virtlab-demo2", "demo-net"];
const POOL: &str = "virtlab-demo-1";
const UNREADABLE: &str = "<virtlab:lab xmlns:virtlab='https://virtlab.dev/xmlns/lab/1' name='demo' format='9' version='9'/>";

/// The mark of a domain.
fn mark(domain: &str) -> String {
    let xml = virsh(&["dumpxml", domain]);
    let start = xml.find("<virtlab:lab ").unwrap();
    let end = xml.find("</virtlab:lab>").unwrap() + "</virtlab:lab>".len();
    xml[start..end].to_owned()
}

pub(crate) fn domain(name: &str, mark: &str) -> String {
    format!(
        "<domain type='qemu'><name>{name}</name><metadata>{mark}</metadata><memory>65536</memory>\
         <os><type arch='x86_64'>hvm</type></os></domain>"
    )
}

fn network(name: &str, mark: &str) -> String {
    format!("<network><name>{name}</name><metadata>{mark}</metadata></network>")
}

fn write(folder: &Path, name: &str, xml: &str) -> String {
    let path = folder.join(format!("{name}.xml"));
    std::fs::write(&path, xml).unwrap();
    path.to_str().unwrap().to_owned()
}

/// The XML of everything that does not belong to the lab `demo`, and the foreign pool's files.
fn snapshot(folder: &Path) -> String {
    let names = |list: &str| {
        let all = virsh(&[list, "--all", "--name"]);
        all.lines().map(|name| name.trim().to_owned()).filter(|name| !name.is_empty()).collect()
    };
    let mut text = String::new();
    for (list, dump) in
        [("list", "dumpxml"), ("net-list", "net-dumpxml"), ("pool-list", "pool-dumpxml")]
    {
        let names: Vec<String> = names(list);
        for name in names.iter().filter(|name| !is_of_demo(list, name)) {
            text += &virsh(&[dump, name]);
            text += &virsh(&[dump, "--inactive", name]);
        }
    }
    text + &run("ls", &["-l", folder.join("pool").to_str().unwrap()]).ok()
}

/// Whether virtlab made it for the lab `demo`.
fn is_of_demo(list: &str, name: &str) -> bool {
    let has = |dump: &str| virsh(&[dump, name]).contains("name=\"demo\" uuid=");
    match list {
        "list" => has("dumpxml"),
        "net-list" => has("net-dumpxml"),
        _ => name == "virtlab-demo",
    }
}
