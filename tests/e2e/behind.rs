//! What somebody does with virsh behind virtlab's back: it is shown, and the next `create` puts it right.

use std::process::Command;

use crate::harness::{LabGuard, Said, everything_there, missing, virsh, virtlab};

#[test]
fn what_is_done_behind_virtlabs_back_is_shown_and_put_right() {
    let before = everything_there();
    let home = tempfile::tempdir().unwrap();
    let image = tiny_image(home.path());
    let _guard = LabGuard(LAB);
    let create = ["create", LAB, "--image", &image, "--nodes", "2", "--memory", "256MiB"];
    virtlab(&[&create[..], &["--no-wait"]].concat()).ok();
    as_wanted();

    // `virsh edit` of a node that runs: what it is started with next.
    edit("edit", "behind-1", "s/262144/294912/");
    let shown = differs("domain `behind-1` is defined otherwise");
    assert!(shown.contains("-  <memory unit='KiB'>262144</memory>"), "{shown}");
    assert!(shown.contains("+  <memory unit='KiB'>294912</memory>"), "{shown}");
    let id = virsh(&["domid", "behind-1"]);
    put_right();
    assert_eq!(virsh(&["domid", "behind-1"]), id, "it was restarted");
    assert!(virsh(&["dumpxml", "--inactive", "behind-1"]).contains("'KiB'>262144</memory>"));

    // A device more, with which it was started again.
    edit("edit", "behind-1", "s|<memballoon|<sound model=\"ich9\"/>\\n<memballoon|");
    virsh(&["destroy", "behind-1"]);
    virsh(&["start", "behind-1"]);
    differs("domain `behind-1` runs otherwise than it is defined");
    let repaired = virtlab(&["create", LAB, "--no-wait"]);
    assert!(repaired.stderr.contains("`virtlab restart behind-1`"), "{}", repaired.stderr);
    repaired.ok();
    assert!(differs("until it is started anew").contains("+    <sound model='ich9'"));
    virtlab(&["restart", "behind-1", "--force", "--no-wait"]).ok();
    as_wanted();

    edit("net-edit", LAB, "s/dhcp-ignore-clid/dhcp-authoritative/");
    differs("network `behind` is defined otherwise");
    put_right();

    virsh(&["destroy", "behind-1"]);
    differs("domain `behind-1` is off");
    put_right();
    virsh(&["suspend", "behind-1"]);
    differs("domain `behind-1` is paused");
    put_right();
    virsh(&["destroy", "behind-2"]);
    virsh(&["undefine", "behind-2"]);
    differs("domain `behind-2` is missing");
    put_right();

    virsh(&["pool-destroy", "virtlab-behind"]);
    differs("storage pool `virtlab-behind` is inactive");
    put_right();
    virsh(&["vol-delete", "boot.ipxe", "--pool", "virtlab-behind"]);
    virsh(&["pool-destroy", "virtlab-behind"]);
    virsh(&["pool-undefine", "virtlab-behind"]);
    differs("storage pool `virtlab-behind` is missing");
    put_right();

    // libvirt plugs nodes that run into no network that is started again.
    virsh(&["net-destroy", LAB]);
    differs("network `behind` is inactive");
    virtlab(&["create", LAB, "--no-wait"]).ok();
    differs("domain `behind-2` is cut off from its network");
    virtlab(&["restart", LAB, "--force", "--no-wait"]).ok();
    as_wanted();

    virtlab(&["destroy", LAB]).ok();
    assert_eq!(virtlab(&["diff", LAB]).code, Some(2));
    assert_eq!(everything_there(), before);
}

/// `diff` and `status` show it, and `diff` says so by its status.
#[track_caller]
fn differs(line: &str) -> String {
    let Said { code, stdout, stderr } = virtlab(&["diff", LAB]);
    assert_eq!(code, Some(1), "{stdout}{stderr}");
    assert!(stdout.contains(line), "no `{line}` in:\n{stdout}{stderr}");
    let status = virtlab(&["status", LAB]);
    let word = line.rsplit(' ').next().unwrap();
    let shown = status.stderr.contains(line) || status.stdout.contains(word);
    assert!(shown, "no `{line}` in:\n{}{}", status.stdout, status.stderr);
    stdout
}

#[track_caller]
fn as_wanted() {
    let Said { code, stdout, stderr } = virtlab(&["diff", LAB]);
    assert_eq!((code, stdout.as_str()), (Some(0), ""), "{stderr}");
    assert_eq!(virtlab(&["create", LAB, "--dry-run"]).ok(), "");
}

#[track_caller]
fn put_right() {
    virtlab(&["create", LAB, "--no-wait"]).ok();
    as_wanted();
}

/// virsh's own editor is `sed`.
#[track_caller]
fn edit(command: &str, name: &str, script: &str) {
    let mut virsh = Command::new("virsh");
    virsh.args([command, name]).env("EDITOR", format!("sed -i '{script}'"));
    let said: Said = virsh.output().unwrap_or_else(|error| missing("virsh", &error)).into();
    let said = said.ok();
    assert!(said.contains("edited"), "{said}");
}

/// An image that boots nothing: what is looked at here is libvirt's.
pub(crate) fn tiny_image(folder: &std::path::Path) -> String {
    let write = |name: &str, text: &str| std::fs::write(folder.join(name), text).unwrap();
    write("vmlinuz", "kernel");
    write("initrd.img", "initrd");
    write("tiny.toml", include_str!("../fixtures/v0.1/tiny.toml"));
    folder.join("tiny.toml").to_str().unwrap().to_owned()
}

const LAB: &str = "behind";
