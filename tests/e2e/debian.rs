//! A whole Debian, RAM-booted: real cloud-init fetches its user-data from our boot server and applies
//! it, real sshd lets the given key in, Debian's own etcd forms the cluster.

use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use crate::harness::{LabGuard, Said, read, run, virtlab, virtlab_command};
use crate::logging_in::Agent;

#[test]
fn cloud_init_applies_the_user_data_ssh_lets_the_key_in_and_etcd_is_healthy() {
    let folder = tempfile::tempdir().unwrap();
    let key = folder.path().join("key");
    let file = key.to_str().unwrap();
    run("ssh-keygen", &["-q", "-t", "ed25519", "-N", "", "-C", "virtlab-e2e", "-f", file]).ok();

    let _guard = LabGuard(LAB);
    let public = key.with_extension("pub");
    let public = public.to_str().unwrap();
    let size = ["--image", "debian", "--nodes", "2", "--memory", "1GiB", "--timeout", "10m"];
    virtlab(&[&["create", LAB, "--ssh-key", public], &size[..]].concat()).ok();

    let status = virtlab(&["status", LAB, "-o", "json"]).json();
    assert_eq!(status["etcd"]["healthy"], true, "{status}");
    for node in status["nodes"].as_array().unwrap() {
        let name = node["name"].as_str().unwrap();
        for stage in ["script", "kernel", "initrd", "rootfs", "config", "ready"] {
            assert!(node["seconds"][stage].is_number(), "{stage} of {node}");
        }
        // The host name and the key are cloud-init's work, the file its `write_files`, and who serves
        // at port 2379 is Debian's unit.
        let said = ssh(&key, name, LOOK);
        let lines: Vec<&str> = said.lines().collect();
        assert_eq!(lines[0], name);
        assert_eq!(lines[1], format!("{}-{name}", status["uuid"].as_str().unwrap()));
        assert_eq!(lines[2..4], ["active", "5"]);
        assert!(lines[4].ends_with(" virtlab-e2e"), "{said}");
        let (network, _) = node["ip"].as_str().unwrap().rsplit_once('.').unwrap();
        assert_eq!(lines[5..], ["status: done", "running", &format!("{network}.1")]);
    }

    // The article's last section, by hand: written here, read there.
    let (first, second) = (format!("{LAB}-1"), format!("{LAB}-2"));
    assert_eq!(ssh(&key, &first, "ETCDCTL_API=3 etcdctl put /testing testdata"), "OK\n");
    let read = ssh(&key, &second, "ETCDCTL_API=3 etcdctl get /testing");
    assert_eq!(read, "/testing\ntestdata\n");

    every_way_in_works(folder.path(), &key);

    let verdict = virtlab(&["verify", LAB, "-o", "json"]).json();
    assert_eq!(verdict["healthy"], true, "{verdict}");
    assert_eq!(verdict["etcd"]["members"].as_array().unwrap().len(), 2);
}

#[test]
fn a_node_is_ready_when_the_users_own_command_says_so() {
    let folder = tempfile::tempdir().unwrap();
    let key = folder.path().join("key");
    let file = key.to_str().unwrap();
    run("ssh-keygen", &["-q", "-t", "ed25519", "-N", "", "-f", file]).ok();
    let agent = Agent::with(&key);
    let _guard = LabGuard("e2e-command");
    let public = key.with_extension("pub");
    let size = ["--image", "debian", "--nodes", "1", "--memory", "1GiB", "--timeout", "10m"];
    let when = ["--ready", "command:systemctl is-active etcd && cloud-init status --wait"];
    let create = ["create", "e2e-command", "--ssh-key", public.to_str().unwrap()];
    let mut create = virtlab_command(&[&create[..], &size, &when].concat());
    Said::from(agent.serves(&mut create).output().unwrap()).ok();
    assert_eq!(ssh(&key, "e2e-command-1", "systemctl is-active etcd"), "active\n");
}

#[test]
fn a_disk_that_a_fault_slows_down_is_slow_inside_until_it_is_healed() {
    let folder = tempfile::tempdir().unwrap();
    let key = folder.path().join("key");
    let file = key.to_str().unwrap();
    run("ssh-keygen", &["-q", "-t", "ed25519", "-N", "", "-f", file]).ok();
    let _guard = LabGuard("e2e-disk");
    let public = key.with_extension("pub");
    let size = ["--image", "debian", "--nodes", "1", "--memory", "1GiB", "--disk", "64MiB"];
    let create = ["create", "e2e-disk", "--timeout", "10m", "--ssh-key", public.to_str().unwrap()];
    virtlab(&[&create[..], &size].concat()).ok();
    let read_ms = || -> u64 { ssh(&key, "e2e-disk-1", READ).trim().parse().unwrap() };
    let whole = read_ms();
    virtlab(&["fault", "slow-disk", "e2e-disk-1", "--rate", "1MiB"]).ok();
    let slow = read_ms();
    virtlab(&["heal", "e2e-disk-1"]).ok();
    let healed = read_ms();
    println!("8 MiB are read in {whole} ms, with 1 MiB a second in {slow} ms, healed {healed} ms");
    // What a second allows is there from the start.
    assert!(slow > 5000, "{slow} ms");
    assert!(whole * 2 < slow && healed * 2 < slow, "{whole} {slow} {healed} ms");
}

/// `exec`, `cp`, `ssh -F` and Ansible, whose modules find the Python that cloud-init brings.
fn every_way_in_works(folder: &Path, key: &Path) {
    let key = key.to_str().unwrap();
    let with_key = |verb: &str, args: &[&str]| virtlab(&[&[verb, "-i", key], args].concat());
    let said = with_key("exec", &[LAB, "-o", "json", "--", "hostname"]).json();
    for (index, node) in said["nodes"].as_array().unwrap().iter().enumerate() {
        assert_eq!(node["stdout"][0], format!("{LAB}-{}", index + 1), "{said}");
    }
    let (file, back) = (folder.join("file"), folder.join("back"));
    std::fs::write(&file, "by hand\n").unwrap();
    with_key("cp", &[file.to_str().unwrap(), &format!("{LAB}:/tmp/")]).ok();
    with_key("cp", &[&format!("{LAB}-2:/tmp/file"), back.to_str().unwrap()]).ok();
    assert_eq!(read(&back), "by hand\n");

    let config = folder.join("config");
    std::fs::write(&config, with_key("ssh-config", &[LAB]).ok()).unwrap();
    let second = format!("{LAB}-2");
    let said = run("ssh", &["-F", config.to_str().unwrap(), &second, "hostname"]).ok();
    assert_eq!(said, format!("{second}\n"));

    let inventory = folder.join("inventory");
    let own = env!("CARGO_BIN_EXE_virtlab");
    std::fs::write(&inventory, format!("#!/bin/sh\nexec {own} inventory -i {key} \"$@\"\n"))
        .unwrap();
    std::fs::set_permissions(&inventory, PermissionsExt::from_mode(0o755)).unwrap();
    let said = run("ansible", &["-i", inventory.to_str().unwrap(), "all", "-m", "ping"]).ok();
    assert_eq!(said.matches("\"ping\": \"pong\"").count(), 2, "{said}");
}

#[track_caller]
fn ssh(key: &Path, node: &str, command: &str) -> String {
    virtlab(&["ssh", "-i", key.to_str().unwrap(), node, command]).ok()
}

/// What stands where, and nothing that has failed. The name server is the network's own.
const LOOK: &str = "hostname
cloud-init query instance_id
systemctl is-active etcd
sudo grep -c . /etc/systemd/system/etcd.service.d/lab.conf
cat ~/.ssh/authorized_keys
cloud-init status --wait | tail -n 1
systemctl is-system-running --wait
resolvectl dns | grep -o '[0-9.]*$'";

/// In how many milliseconds 8 MiB come from the disk itself.
const READ: &str = "a=$(date +%s%3N)
sudo dd if=/dev/vda of=/dev/null bs=64k count=128 iflag=direct status=none
echo $(($(date +%s%3N)-a))";
const LAB: &str = "e2e-debian";
