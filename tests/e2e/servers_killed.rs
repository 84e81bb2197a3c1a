//! libvirtd, a lab's boot server and its network's dnsmasq are killed in the midst of `create`, of `scale`, and while the
//! nodes are waited for: what is missed is told with the command that brings it back, and then the lab gets there.

use std::path::Path;
use std::process::{Child, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use crate::daemon::{restart_libvirtd, with_signal};
use crate::harness::{
    LabGuard, Said, everything_there, holds_within, read, run, virsh, virtlab, virtlab_command,
};
use crate::scale::{assert_agrees, is_healthy};

const LAB: &str = "orphan";
const SILENT: &str = "does not answer; `virtlab create orphan` brings it back";
const MUTE: &str =
    "(dnsmasq) of network `orphan` has ended; `virtlab create orphan` brings it back";

#[test]
fn what_is_killed_while_nodes_are_waited_for_is_told_and_comes_back_in_time() {
    let before = everything_there();
    let _guard = LabGuard(LAB);
    let create = ["create", LAB, "--nodes", "1", "--memory", "512MiB", "--timeout", "5m"];
    Waiting::start(&create).until_runs("orphan-1").without_its_servers(|| (), &[SILENT, MUTE]);
    assert!(is_healthy(LAB, 1));
    // A libvirtd that comes up brings the dnsmasqs of its networks back.
    let kill_libvirtd = || restart_libvirtd("-KILL", Duration::ZERO);
    let scale = ["scale", LAB, "2", "--timeout", "5m"];
    Waiting::start(&scale).until_runs("orphan-2").without_its_servers(kill_libvirtd, &[SILENT]);
    assert!(is_healthy(LAB, 2));
    virtlab(&["destroy", LAB]).ok();
    assert_eq!(everything_there(), before);
}

#[test]
fn a_libvirtd_that_is_killed_does_not_end_scaling() {
    let _guard = LabGuard("torn");
    // A system that starts no etcd: what counts are libvirt's objects, and no boot is waited for.
    let folder = tempfile::tempdir().unwrap();
    let config = folder.path().join("nothing.ign");
    std::fs::write(&config, r#"{"ignition":{"version":"3.0.0"}}"#).unwrap();
    let config = format!("--config={}", config.display());
    let create = ["create", "torn", "--nodes=1", "--memory=512MiB", "--disk=64MiB"];
    let rest = ["--ready=config", "--virt-type=qemu", "--no-wait", &config];
    virtlab(&[&create[..], &rest].concat()).ok();
    let up = ["scale", "torn", "3", "--no-wait"];
    let down = ["scale", "torn", "1", "--no-wait", "--stop-timeout=1s"];
    let started = Instant::now();
    virtlab(&up).ok();
    let whole = started.elapsed();
    virtlab(&down).ok();
    for part in [0.4, 0.8] {
        let said = with_signal("-KILL", &up, whole.mul_f64(part));
        assert_eq!(said.code, Some(0), "part {part}: {}", said.stderr);
        assert_agrees("torn", 3);
        virtlab(&down).ok();
        assert_agrees("torn", 1);
    }
}

#[test]
fn a_libvirtd_that_is_killed_while_it_makes_a_lab_does_not_end_create() {
    let before = everything_there();
    let _guard = LabGuard("slain");
    let folder = tempfile::tempdir().unwrap();
    let config = folder.path().join("nothing.ign");
    std::fs::write(&config, r#"{"ignition":{"version":"3.0.0"}}"#).unwrap();
    let config = format!("--config={}", config.display());
    let create = ["create", "slain", "--nodes=3", "--memory=512MiB", "--ready=config"];
    let create = [&create[..], &["--virt-type=qemu", "--no-wait", &config]].concat();
    let mut noticed = 0;
    for moment in [
        "/etc/libvirt/qemu/networks/slain.xml",
        "/etc/libvirt/storage/virtlab-slain.xml",
        A_BRIDGE,
        "/etc/libvirt/qemu/slain-1.xml",
        "/run/libvirt/qemu/slain-3.pid",
    ] {
        let said = killed_when(&create, moment);
        // Only newer libvirts remove the bridge that the killed one left; of others the command that does so is told.
        let way_out =
            said.stderr.split("`sudo ").find(|it| it.starts_with("ip link delete virbr-"));
        if let (Some(1), Some(way_out)) = (said.code, way_out) {
            let args: Vec<&str> = way_out.split('`').next().unwrap().split(' ').collect();
            run(args[0], &args[1..]).ok();
            virtlab(&create).ok();
        } else {
            assert_eq!(said.code, Some(0), "{moment}: {}", said.stderr);
        }
        noticed += u32::from(said.stderr.contains("the connection to libvirt was lost"));
        assert_agrees("slain", 3);
        let steps = virtlab(&[&create[..], &["--dry-run"]].concat()).ok();
        assert_eq!(steps, "", "{moment}: {}", said.stderr);
        virtlab(&["destroy", "slain"]).ok();
        assert_eq!(everything_there(), before, "{moment}: {}", said.stderr);
    }
    assert!(noticed >= 2, "it was noticed {noticed} times");
}

/// Where the lab's network has its bridge, but is not started yet: its name begins so.
const A_BRIDGE: &str = "/sys/class/net/virbr-";

/// Runs virtlab, and kills libvirtd as soon as there is a file whose path begins so.
fn killed_when(args: &[&str], moment: &str) -> Said {
    let child = virtlab_command(args).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn();
    let child = child.unwrap();
    let deadline = Instant::now() + Duration::from_secs(30);
    while !is_there(moment) && Instant::now() < deadline {
        thread::sleep(Duration::from_millis(2));
    }
    assert!(is_there(moment), "{moment} was never there");
    restart_libvirtd("-KILL", Duration::from_millis(300));
    child.wait_with_output().unwrap().into()
}

fn is_there(moment: &str) -> bool {
    let entries = Path::new(moment).parent().and_then(|folder| std::fs::read_dir(folder).ok());
    let paths = entries.into_iter().flatten().map(|entry| entry.unwrap().path());
    paths.into_iter().any(|path| path.to_string_lossy().starts_with(moment))
}

/// A virtlab that waits for nodes.
struct Waiting {
    child: Child,
    said: tempfile::NamedTempFile,
}

impl Waiting {
    fn start(args: &[&str]) -> Self {
        let said = tempfile::NamedTempFile::new().unwrap();
        let mut command = virtlab_command(args);
        command.stdout(Stdio::null()).stderr(said.reopen().unwrap());
        Self { child: command.spawn().unwrap(), said }
    }

    fn until_runs(self, node: &str) -> Self {
        let runs = || virsh(&["list", "--state-running", "--name"]).contains(node);
        self.expect("the node to run", runs)
    }

    /// Kills the lab's own servers, and `more`; what is missed is told, and when it is back the wait ends well.
    fn without_its_servers(self, more: impl FnOnce(), missed: &[&str]) {
        run("pkill", &["-KILL", "-f", &format!("virtlab.* serve {LAB}")]).ok();
        run("pkill", &["-KILL", "-f", &format!("dnsmasq/{LAB}.conf")]).ok();
        more();
        let path = self.said.path().to_owned();
        let told = || {
            let said = read(&path);
            missed.iter().all(|it| said.contains(it))
        };
        let mut waiting = self.expect("the missing servers to be told", told);
        virtlab(&["create", LAB, "--no-wait"]).ok();
        let status = waiting.child.wait().unwrap();
        assert_eq!(status.code(), Some(0), "{}", read(&path));
    }

    fn expect(mut self, what: &str, holds: impl Fn() -> bool) -> Self {
        if !holds_within(Duration::from_secs(60), holds) {
            self.child.kill().unwrap();
            self.child.wait().unwrap();
            panic!("waited for {what}: {}", read(self.said.path()));
        }
        self
    }
}
