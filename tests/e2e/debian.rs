//! A whole Debian, RAM-booted: real cloud-init fetches its user-data from our boot server and applies
//! it, real sshd lets the given key in, Debian's own etcd forms the cluster.

use std::path::Path;
use std::process::Command;

use serde_json::Value;

#[test]
#[ignore = "needs the sandbox and the image `debian`: make e2e-full"]
fn cloud_init_applies_the_user_data_ssh_lets_the_key_in_and_etcd_is_healthy() {
    let folder = tempfile::tempdir().unwrap();
    let key = folder.path().join("key");
    let keygen = Command::new("ssh-keygen")
        .args(["-q", "-t", "ed25519", "-N", "", "-C", "virtlab-e2e", "-f"])
        .arg(&key)
        .output()
        .expect("`ssh-keygen` is needed (package openssh-client)");
    assert!(keygen.status.success(), "{keygen:?}");

    let _guard = Lab;
    let public = key.with_extension("pub");
    let public = public.to_str().unwrap();
    let size = ["--image", "debian", "--nodes", "2", "--memory", "1GiB", "--timeout", "10m"];
    virtlab(&[&["create", LAB, "--ssh-key", public], &size[..]].concat());

    let status = virtlab(&["status", LAB, "-o", "json"]);
    let status: Value = serde_json::from_str(&status).unwrap();
    assert_eq!(status["etcd"]["healthy"], true, "{status}");
    for node in status["nodes"].as_array().unwrap() {
        let (name, ip) = (node["name"].as_str().unwrap(), node["ip"].as_str().unwrap());
        for stage in ["script", "kernel", "initrd", "rootfs", "config", "ready"] {
            assert!(node["seconds"][stage].is_number(), "{stage} of {node}");
        }
        // The host name and the key are cloud-init's work, the file its `write_files`, and who serves
        // at port 2379 is Debian's unit.
        let said = ssh(&key, ip, "hostname; cloud-init query ds.meta_data.instance_id; systemctl is-active etcd; sudo grep -c . /etc/systemd/system/etcd.service.d/lab.conf; cat ~/.ssh/authorized_keys");
        let lines: Vec<&str> = said.lines().collect();
        assert_eq!(lines[0], name);
        assert_eq!(lines[1], format!("{}-{name}", status["uuid"].as_str().unwrap()));
        assert_eq!(lines[2..4], ["active", "5"]);
        assert!(lines[4].ends_with(" virtlab-e2e"), "{said}");
    }

    // The article's last section, by hand: written here, read there.
    let ips: Vec<&str> =
        status["nodes"].as_array().unwrap().iter().map(|node| node["ip"].as_str().unwrap()).collect();
    assert_eq!(ssh(&key, ips[0], "ETCDCTL_API=3 etcdctl put /testing testdata"), "OK\n");
    assert_eq!(ssh(&key, ips[1], "ETCDCTL_API=3 etcdctl get /testing"), "/testing\ntestdata\n");

    let verdict: Value = serde_json::from_str(&virtlab(&["verify", LAB, "-o", "json"])).unwrap();
    assert_eq!(verdict["healthy"], true, "{verdict}");
    assert_eq!(verdict["etcd"]["members"].as_array().unwrap().len(), 2);
}

fn virtlab(arguments: &[&str]) -> String {
    let output = Command::new(env!("CARGO_BIN_EXE_virtlab")).args(arguments).output().unwrap();
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "virtlab {arguments:?}: {}\n{stderr}", output.status);
    String::from_utf8(output.stdout).unwrap()
}

fn ssh(key: &Path, ip: &str, command: &str) -> String {
    let output = Command::new("ssh")
        .arg("-i")
        .arg(key)
        .args(["-o", "BatchMode=yes", "-o", "ConnectTimeout=30", "-o", "LogLevel=ERROR"])
        .args(["-o", "StrictHostKeyChecking=no", "-o", "UserKnownHostsFile=/dev/null"])
        .args([&format!("debian@{ip}"), command])
        .output()
        .expect("`ssh` is needed (package openssh-client)");
    assert!(output.status.success(), "ssh {ip} {command}: {output:?}");
    String::from_utf8(output.stdout).unwrap()
}

/// Takes the lab down whatever happens.
struct Lab;

impl Drop for Lab {
    fn drop(&mut self) {
        let _ = Command::new(env!("CARGO_BIN_EXE_virtlab")).args(["destroy", LAB]).status();
    }
}

const LAB: &str = "e2e-debian";
