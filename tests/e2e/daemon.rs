//! A libvirtd that is restarted, and steps that it will not do.

use std::process::{Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use crate::harness::{
    LabGuard, Said, everything_there, holds_within, run, virsh, virtlab, virtlab_command,
    wait_until,
};

/// Ends libvirtd, and starts another one after a while.
pub(crate) fn restart_libvirtd(signal: &str, down: Duration) {
    run("pkill", &[signal, "-x", "libvirtd"]).ok();
    wait_until("libvirtd to end", Duration::from_secs(30), || {
        run("pgrep", &["-r", "R,S,D", "-x", "libvirtd"]).code == Some(1)
    });
    thread::sleep(down);
    let started = Command::new("libvirtd").arg("--daemon").stderr(Stdio::null()).status();
    assert!(started.expect("libvirtd (package libvirt-daemon-system) runs").success());
    wait_until("libvirtd", Duration::from_secs(30), || run("virsh", &["list"]).code == Some(0));
}

/// Runs virtlab, and restarts libvirtd after a part of the time that it takes undisturbed.
fn with_restart(args: &[&str], after: Duration) -> Said {
    with_signal("-TERM", args, after)
}

pub(crate) fn with_signal(signal: &str, args: &[&str], after: Duration) -> Said {
    let child = virtlab_command(args).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn();
    let child = child.unwrap();
    thread::sleep(after);
    // What libvirtd does when it is ended it brings to an end; a crash may leave a bridge that nobody knows.
    restart_libvirtd(signal, Duration::from_millis(500));
    child.wait_with_output().unwrap().into()
}

#[test]
fn a_libvirtd_that_is_restarted_ends_neither_create_nor_destroy() {
    let before = everything_there();
    let _guard = LabGuard("restart");
    let create = ["create", "restart", "--nodes", "3", "--memory", "512MiB", "--no-wait"];
    let time = |args: &[&str]| {
        let started = Instant::now();
        virtlab(args).ok();
        started.elapsed()
    };
    let whole = time(&create);
    let whole_destroy = time(&["destroy", "restart"]);
    let mut noticed = 0;
    for part in 1..6 {
        let said = with_restart(&create, whole.mul_f64(f64::from(part) / 6.0));
        assert_eq!(said.code, Some(0), "create, part {part}: {}", said.stderr);
        noticed += u32::from(said.stderr.contains("the connection to libvirt was lost"));
        let running = virsh(&["list", "--state-running", "--name"]);
        for node in ["restart-1", "restart-2", "restart-3"] {
            assert!(running.contains(node), "create, part {part}: {running}\n{}", said.stderr);
        }
        let said =
            with_restart(&["destroy", "restart"], whole_destroy.mul_f64(f64::from(part) / 6.0));
        assert_eq!(said.code, Some(0), "destroy, part {part}: {}", said.stderr);
        noticed += u32::from(said.stderr.contains("the connection to libvirt was lost"));
        assert_eq!(everything_there(), before, "destroy, part {part}: {}", said.stderr);
    }
    assert!(noticed >= 3, "it was noticed {noticed} times");
}

#[test]
fn a_libvirtd_that_is_restarted_does_not_end_the_wait() {
    let _guard = LabGuard("waits");
    let args = ["create", "waits", "--nodes", "1", "--memory", "512MiB", "--timeout", "10m"];
    let mut child = virtlab_command(&args).stderr(Stdio::piped()).spawn().unwrap();
    let runs = || virsh(&["list", "--state-running", "--name"]).contains("waits-1");
    if !holds_within(Duration::from_secs(60), runs) {
        child.kill().unwrap();
        let said: Said = child.wait_with_output().unwrap().into();
        panic!("no node runs: {}", said.stderr);
    }
    // Longer than the wait goes without looking at the nodes.
    restart_libvirtd("-KILL", Duration::from_secs(7));
    let said: Said = child.wait_with_output().unwrap().into();
    assert_eq!(said.code, Some(0), "{}", said.stderr);
}

#[test]
fn a_node_that_libvirt_does_not_start_is_not_said_to_run() {
    let before = everything_there();
    let _guard = LabGuard("asleep");
    let network = "/tmp/virtlab-e2e-asleep.xml";
    std::fs::write(network, "<network><name>asleep-net</name><bridge name='asleep0'/></network>")
        .unwrap();
    virsh(&["net-define", network]);
    std::fs::remove_file(network).unwrap();
    let said = virtlab(&["create", "asleep", "--nodes", "1", "--nic", "asleep-net", "--no-wait"]);
    virsh(&["net-undefine", "asleep-net"]);
    let stderr = said.refused();
    assert!(stderr.contains("asleep-net") && stderr.contains("not active"), "{stderr}");
    assert_eq!(everything_there(), before);
}

#[test]
fn what_cannot_be_deleted_keeps_what_leads_to_it() {
    let before = everything_there();
    let _guard = LabGuard("stuck");
    virtlab(&["create", "stuck", "--nodes", "2", "--memory", "512MiB", "--no-wait"]).ok();
    let file = "/var/lib/libvirt/virtlab-stuck/boot.ipxe";
    run("mount", &["--bind", file, file]).ok();
    let said = virtlab(&["destroy", "stuck"]);
    let domains = virsh(&["list", "--all", "--name"]);
    let networks = virsh(&["net-list", "--all", "--name"]);
    run("umount", &[file]).ok();
    let stderr = said.refused();
    assert!(stderr.contains("deleting storage pool `virtlab-stuck`"), "{stderr}");
    assert!(stderr.contains("left undone: remove network `stuck`"), "{stderr}");
    assert!(domains.contains("stuck-1") && domains.contains("stuck-2"), "{domains}");
    assert!(networks.contains("stuck"), "{networks}");
    virtlab(&["destroy", "stuck"]).ok();
    assert_eq!(everything_there(), before);
}

#[test]
fn a_network_whose_dnsmasq_has_ended_gets_it_back_under_running_nodes() {
    let _guard = LabGuard("mute");
    let create = ["create", "mute", "--nodes", "2", "--memory", "512MiB", "--timeout", "10m"];
    virtlab(&create).ok();
    let warning = "the DHCP and TFTP server (dnsmasq) of network `mute` has ended";
    let status = virtlab(&["status", "mute"]);
    assert!(!status.stderr.contains(warning), "{}", status.stderr);
    let ports = || run("ip", &["-brief", "link", "show", "type", "tun"]).ok();
    let wire = ports();

    run("pkill", &["-KILL", "-f", "dnsmasq/mute.conf"]).ok();
    let status = virtlab(&["status", "mute"]);
    assert!(status.stderr.contains(warning), "{}", status.stderr);
    let steps = virtlab(&[&create[..], &["--dry-run"]].concat()).ok();
    assert_eq!(steps, "bring back DHCP and TFTP of network `mute`\n");
    virtlab(&create).ok();
    assert_eq!(ports(), wire);
    assert!(!virsh(&["net-dumpxml", "mute"]).contains("<txt"));

    // A node that boots anew has all that it needs.
    let status = virtlab(&["status", "mute", "-o", "json"]).json();
    assert_eq!(status["dhcp_running"], true, "{status}");
    virsh(&["reset", "mute-2"]);
    let console = "/var/lib/libvirt/virtlab-mute/mute-2.console.log";
    let boots = || {
        std::fs::read(console)
            .map(|text| String::from_utf8_lossy(&text).matches("iPXE initialising").count())
    };
    wait_until("a second boot", Duration::from_secs(60), || boots().is_ok_and(|count| count >= 2));
    let loads =
        || String::from_utf8_lossy(&std::fs::read(console).unwrap()).matches("initrd").count();
    wait_until("its initrd", Duration::from_secs(120), || loads() >= 2);
}
