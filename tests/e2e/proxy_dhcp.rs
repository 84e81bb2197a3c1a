//! A network whose DHCP server knows nothing of network boot, and cannot be changed.

use std::path::Path;
use std::time::Duration;

use crate::harness::{LabGuard, read, virsh, virtlab, virtlab_command, wait_until};
use crate::wire::{Bridge, Machine, Server};

#[test]
fn a_proxy_dhcp_boots_the_labs_nodes_and_nobody_else() {
    let folder = tempfile::tempdir().unwrap();
    let log = |name: &str| folder.path().join(name);
    let _bridge = Bridge::new("br0", "10.77.1.1/24");
    let dhcp = Machine::new("dhcp", "br0", Some("10.77.1.2/24"), None);
    let leases = format!("--dhcp-leasefile={}", log("leases").display());
    let dnsmasq = ["dnsmasq", "-k", "--log-facility=-", "--log-dhcp", "--port=0", "--pid-file="];
    let plain = [
        "--conf-file=/dev/null",
        "--interface=eth0",
        "--dhcp-range=10.77.1.100,10.77.1.199",
        &leases,
    ];
    let _dhcp = dhcp.start(&[&dnsmasq[..], &plain].concat(), &log("dhcp.log"));

    let _lab = LabGuard("xproxy");
    let create = ["create", "xproxy", "--network", "bridge", "--nodes", "2", "--memory", "512MiB"];
    virtlab(&[&create[..], &["--mac-prefix", "52:54:00:12:36", "--no-wait"]].concat()).ok();
    let serve = ["pxe", "serve", "--bridge", "br0", "--proxy-dhcp", "xproxy"];
    let mut proxy = Server::start(virtlab_command(&serve), &log("proxy.log"));

    // A foreign machine's network card says all that a node's says, but for the MAC address.
    virsh(&["define", write_foreign_domain(folder.path()).as_str()]);
    virsh(&["start", "xforeign"]);

    let waited = virtlab(&["create", "xproxy", "--timeout", "9m"]);
    assert_eq!(
        waited.code,
        Some(0),
        "{}\n{}\n{}",
        waited.stderr,
        read(&log("dhcp.log")),
        read(&log("proxy.log"))
    );
    let status = virtlab(&["status", "xproxy", "-o", "json"]).json();
    assert_eq!(status["etcd"]["healthy"], true, "{status}");
    for node in status["nodes"].as_array().unwrap() {
        assert!(node["ip"].as_str().unwrap().starts_with("10.77.1.1"), "{node}");
        for stage in ["script", "kernel", "initrd", "config", "ready"] {
            assert!(node["seconds"][stage].as_f64().is_some(), "{stage} in {node}");
        }
    }

    // It asked and was given an address; of us it got nothing.
    let foreign = "52:54:00:ff:00:01";
    let offered = |line: &str| line.contains("DHCPOFFER") && line.contains(foreign);
    wait_until("an offer to the foreign machine", Duration::from_secs(60), || {
        read(&log("dhcp.log")).lines().any(offered)
    });
    let text = read(&log("proxy.log"));
    assert!(text.contains("52:54:00:12:36:01"), "{text}");
    let answers: Vec<&str> =
        text.lines().filter(|line| line.contains(foreign) && !line.contains("ignored")).collect();
    assert_eq!(answers, Vec::<&str>::new());
    virsh(&["destroy", "xforeign"]);
    virsh(&["undefine", "xforeign"]);

    assert!(proxy.is_running());
    assert_eq!(proxy.interrupt(), Some(0), "{}", read(&log("proxy.log")));
    let left = std::fs::read_dir(std::env::temp_dir()).unwrap().filter_map(Result::ok);
    let left: Vec<_> = left
        .map(|entry| entry.file_name().to_string_lossy().into_owned())
        .filter(|name| name.starts_with("virtlab-pxe-"))
        .collect();
    assert_eq!(left, Vec::<String>::new());
}

fn write_foreign_domain(folder: &Path) -> String {
    let path = folder.join("foreign.xml");
    let xml = "<domain type='qemu'><name>xforeign</name><memory unit='MiB'>64</memory><vcpu>1</vcpu>\
        <os><type arch='x86_64' machine='q35'>hvm</type><boot dev='network'/></os><devices>\
        <interface type='bridge'><mac address='52:54:00:ff:00:01'/><source bridge='br0'/><model type='virtio'/>\
        </interface></devices></domain>";
    std::fs::write(&path, xml).unwrap();
    path.to_str().unwrap().to_owned()
}
