//! Labs on a bridge of the host that boot from a PXE server elsewhere, as the article's do.

use std::os::unix::fs::PermissionsExt;

use crate::harness::{LabGuard, read, run, virsh, virtlab};
use crate::wire::{Bridge, Machine};

#[test]
fn nodes_on_a_bridge_boot_from_an_external_pxe_server_and_form_a_cluster() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::set_permissions(folder.path(), std::fs::Permissions::from_mode(0o755)).unwrap();
    let bridge = Bridge::new("br0", "10.77.0.1/24");
    let server = Machine::new("pxe", "br0", Some("10.77.0.2/24"), None);
    let before = bridge.details();
    let networks = virsh(&["net-list", "--all", "--uuid"]);

    let _lab = LabGuard("xpxe");
    let create = ["create", "xpxe", "--network", "bridge", "--bridge", "br0", "--nodes", "3"];
    let options = ["--memory", "512MiB", "--mac-prefix", "52:54:00:12:34"];
    virtlab(&[&create[..], &options, &["--no-wait"]].concat()).ok();
    let tree = folder.path().join("tree");
    let tree = tree.to_str().unwrap();
    let served = ["--http-url", "http://10.77.0.2:8080/lab", "--tftp-server", "10.77.0.2"];
    virtlab(&[&["pxe", "export", "xpxe", "--dir", tree], &served[..]].concat()).ok();

    let log = |name: &str| folder.path().join(name);
    let conf = format!("--conf-file={tree}/dnsmasq.conf");
    let leases = format!("--dhcp-leasefile={}", log("leases").display());
    let dnsmasq = ["dnsmasq", "-k", "--log-facility=-", "--log-dhcp", "--port=0", "--pid-file="];
    let range = ["--interface=eth0", "--dhcp-range=10.77.0.100,10.77.0.199", &leases, &conf];
    let _dnsmasq = server.start(&[&dnsmasq[..], &range].concat(), &log("dnsmasq.log"));
    let conf = format!("{tree}/nginx.conf");
    let directives = format!("daemon off; pid {}; error_log stderr;", log("nginx.pid").display());
    let _nginx = server.start(&["nginx", "-c", &conf, "-g", &directives], &log("nginx.log"));

    let waited = virtlab(&["create", "xpxe", "--timeout", "9m"]);
    assert_eq!(
        waited.code,
        Some(0),
        "{}\n{}\n{}",
        waited.stderr,
        read(&log("dnsmasq.log")),
        read(&log("nginx.log"))
    );
    let status = virtlab(&["status", "xpxe", "-o", "json"]).json();
    assert_eq!(status["etcd"]["healthy"], true, "{status}");
    assert_eq!(status["etcd"]["members"].as_array().unwrap().len(), 3);
    for (node, mac) in status["nodes"].as_array().unwrap().iter().zip(1..) {
        assert_eq!(node["mac"], format!("52:54:00:12:34:0{mac}"));
        let ip: std::net::Ipv4Addr = node["ip"].as_str().unwrap().parse().unwrap();
        let octets = ip.octets();
        assert!(octets[..3] == [10, 77, 0] && (100..200).contains(&octets[3]), "{ip}");
        // The other server gave it everything, ours nothing.
        assert!(node["seconds"].get("config").is_none(), "{node}");
        assert!(node["seconds"]["ready"].as_f64().is_some(), "{node}");
    }
    assert_eq!(virsh(&["net-list", "--all", "--uuid"]), networks);

    virtlab(&["destroy", "xpxe"]).ok();
    assert_eq!(bridge.details(), before);
    assert_eq!(virsh(&["list", "--all", "--name"]).trim(), "");
}

#[test]
fn what_is_wrong_with_a_bridge_is_told_before_anything_is_made() {
    let create = |bridge: &str, lab: &str| {
        let wanted = ["--network", "bridge", "--bridge", bridge, "--nodes", "1", "--no-wait"];
        let options = ["--memory", "512MiB", "--mac-prefix", "52:54:00:12:35"];
        [&["create", lab], &wanted[..], &options]
            .concat()
            .iter()
            .map(ToString::to_string)
            .collect::<Vec<_>>()
    };
    let refuse = |bridge: &str, lab: &str| {
        let args = create(bridge, lab);
        virtlab(&args.iter().map(String::as_str).collect::<Vec<_>>()).refused()
    };
    assert!(refuse("br7", "xb").contains("error: there is no bridge `br7` on this host"));
    assert!(refuse("lo", "xb").contains("error: network interface `lo` is no bridge"));
    let _bridge = Bridge::new("br7", "10.78.0.1/24");
    run("ip", &["link", "set", "br7", "down"]).ok();
    let text = refuse("br7", "xb");
    assert!(text.contains("error: bridge `br7` is down"), "{text}");
    assert!(text.contains("hint: `sudo ip link set br7 up`"), "{text}");
    run("ip", &["link", "set", "br7", "up"]).ok();

    let _lab = LabGuard("xb");
    let args = create("br7", "xb");
    virtlab(&args.iter().map(String::as_str).collect::<Vec<_>>()).ok();
    let text = refuse("br7", "xb2");
    assert!(
        text.contains(
            "MAC address 52:54:00:12:35:01 is that of domain `xb-1` on bridge `br7` already"
        ),
        "{text}"
    );
    assert_eq!(virsh(&["list", "--all", "--name"]).trim(), "xb-1");

    let text = virtlab(&["create", "xb3", "--network", "lan", "--no-wait"]).refused();
    assert!(text.contains("error: there is no libvirt network `lan`"), "{text}");
}

#[test]
fn a_libvirt_network_of_others_is_attached_to_and_left_alone() {
    let folder = tempfile::tempdir().unwrap();
    let xml = folder.path().join("lan.xml");
    std::fs::write(
        &xml,
        "<network><name>lan</name><bridge name='virbr-lan'/><ip address='10.79.0.1' prefix='24'>\
         <dhcp><range start='10.79.0.2' end='10.79.0.99'/></dhcp></ip></network>",
    )
    .unwrap();
    virsh(&["net-define", xml.to_str().unwrap()]);
    let create =
        ["create", "xlan", "--network", "lan", "--nodes", "1", "--memory", "512MiB", "--no-wait"];
    let text = virtlab(&create).refused();
    assert!(text.contains("error: network `lan` is not active"), "{text}");
    assert!(text.contains("hint: `virsh net-start lan` starts it"), "{text}");
    virsh(&["net-start", "lan"]);
    let before = virsh(&["net-dumpxml", "lan"]);

    let lab = LabGuard("xlan");
    let made = virtlab(&create);
    let text = &made.stderr;
    assert_eq!(made.code, Some(0), "{text}");
    assert!(
        text.contains("network `lan` names no boot file: its nodes need a PXE server"),
        "{text}"
    );
    let status = virtlab(&["status", "xlan", "-o", "json"]).json();
    let url = status["boot_server"]["url"].as_str().unwrap();
    assert!(url.starts_with("http://10.79.0.1:"), "{url}");
    drop(lab);
    // The number of guests on it is all that may have changed.
    let strip = |text: &str| text.replace(" connections='1'", "");
    assert_eq!(strip(&virsh(&["net-dumpxml", "lan"])), strip(&before));
    virsh(&["net-destroy", "lan"]);
    virsh(&["net-undefine", "lan"]);
}
