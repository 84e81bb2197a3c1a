//! A lab that an earlier virtlab made, defined from what was recorded of it, lives on.

use std::path::Path;

use crate::harness::{LabGuard, everything_there, state_folder, virsh, virtlab};

#[test]
fn a_lab_of_0_1_is_started_shown_and_destroyed() {
    let before = everything_there();
    let _guard = LabGuard("old");
    let home = tempfile::tempdir().unwrap();
    let write = |path: &Path, text: &str| {
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        let text = text.replace("[HOME]", home.path().to_str().unwrap());
        // The machine type of the QEMU that it was made with need not be one of this QEMU.
        std::fs::write(path, text.replace("pc-q35-10.0", "q35")).unwrap();
    };
    write(&home.path().join("vmlinuz"), "kernel");
    write(&home.path().join("initrd.img"), "initrd");
    write(&home.path().join("tiny.toml"), include_str!("../fixtures/v0.1/tiny.toml"));
    for (command, name, xml) in [
        ("net-define", "network.xml", include_str!("../fixtures/v0.1/network.xml")),
        ("pool-define", "pool.xml", include_str!("../fixtures/v0.1/pool.xml")),
        ("define", "domain-1.xml", include_str!("../fixtures/v0.1/domain-1.xml")),
        ("define", "domain-2.xml", include_str!("../fixtures/v0.1/domain-2.xml")),
    ] {
        write(&home.path().join(name), xml);
        virsh(&[command, home.path().join(name).to_str().unwrap()]);
    }
    for (name, text) in [
        ("content.json", include_str!("../fixtures/v0.1/state/content.json")),
        ("serve.json", include_str!("../fixtures/v0.1/state/serve.json")),
        ("timeline.jsonl", include_str!("../fixtures/v0.1/state/timeline.jsonl")),
    ] {
        write(&state_folder("old").join(name), text);
    }

    virtlab(&["create", "old", "--no-wait"]).ok();
    let status = virtlab(&["status", "old", "-o", "json"]).json();
    assert_eq!(status["boot_server"]["running"], true);
    assert_eq!(status["nodes"][1]["domain"], "running");
    assert_eq!(status["nodes"][1]["mac"], "52:54:00:cb:00:02");
    assert!(virsh(&["dumpxml", "old-1"]).contains(UUID), "the domain was made anew");
    // Made again where it is gone, beside one that is as it was.
    virsh(&["destroy", "old-2"]);
    virsh(&["undefine", "old-2"]);
    virtlab(&["create", "old", "--no-wait"]).ok();
    assert!(virsh(&["list", "--name"]).contains("old-2"));
    let again = virtlab(&["create", "old", "--no-wait"]);
    assert!(again.stderr.contains("nothing to do"), "{}", again.stderr);
    virtlab(&["destroy", "old"]).ok();
    assert_eq!(everything_there(), before);
}

/// Of `old-1`, when it was recorded.
const UUID: &str = "<uuid>0435fb50-0ed6-4f3c-bf59-892bb15f6333</uuid>";
