//! A host whose own IPv6 route comes from router advertisements: libvirt refuses IPv6 there.

use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use crate::harness::{LabGuard, everything_there, run, virsh, virtlab, wait_until};
use crate::wire::Bridge;

/// A router in a network namespace of its own, at the other end of a cable.
struct Router {
    children: Vec<Child>,
}

impl Router {
    fn start() -> Self {
        let holder = Command::new("unshare").args(["--net", "sleep", "600"]).spawn();
        let holder = holder.expect("unshare (package util-linux) runs");
        let pid = holder.id().to_string();
        let mut router = Self { children: vec![holder] };
        let namespace = |of: &str| std::fs::read_link(format!("/proc/{of}/ns/net")).unwrap();
        wait_until("a namespace", Duration::from_secs(10), || namespace(&pid) != namespace("self"));
        let ip = |args: &[&str]| run("ip", args).ok();
        ip(&["link", "add", "ra0", "type", "veth", "peer", "name", "ra1", "netns", &pid]);
        // Accepting advertisements is for hosts that forward nothing.
        for (key, value) in [("disable_ipv6", "0"), ("forwarding", "0"), ("accept_ra", "1")] {
            std::fs::write(Path::new("/proc/sys/net/ipv6/conf/ra0").join(key), value).unwrap();
        }
        ip(&["link", "set", "ra0", "up"]);
        let inside = |args: &[&str]| inside(&pid, args);
        inside(&["ip", "link", "set", "lo", "up"]).status().unwrap();
        inside(&["ip", "link", "set", "ra1", "up"]).status().unwrap();
        let address = ["ip", "address", "add", "fd99::1/64", "dev", "ra1", "nodad"];
        assert!(inside(&address).status().unwrap().success());
        let dnsmasq = [
            "dnsmasq",
            "--keep-in-foreground",
            "--conf-file=/dev/null",
            "--pid-file=",
            "--leasefile-ro",
            "--port=0",
            "--interface=ra1",
            "--enable-ra",
            "--dhcp-range=::,constructor:ra1,ra-only",
        ];
        let dnsmasq = inside(&dnsmasq).stderr(Stdio::null()).spawn().expect("nsenter runs");
        router.children.push(dnsmasq);
        router
    }
}

/// A command in the namespace of that process.
fn inside(pid: &str, args: &[&str]) -> Command {
    let mut command = Command::new("nsenter");
    command.args(["-t", pid, "-n"]).args(args);
    command
}

impl Drop for Router {
    fn drop(&mut self) {
        for child in self.children.iter_mut().rev() {
            child.kill().ok();
            child.wait().ok();
        }
        run("ip", &["link", "del", "ra0"]);
    }
}

#[test]
fn where_libvirt_refuses_ipv6_the_lab_comes_up_without_it_and_with_one_warning() {
    let before = everything_there();
    let router = Router::start();
    wait_until("a route from an advertisement", Duration::from_secs(60), || {
        run("ip", &["-6", "route", "show", "default", "proto", "ra"]).ok().contains("ra0")
    });
    let guard = LabGuard("nosix");
    let said =
        virtlab(&["create", "nosix", "--nodes", "1", "--memory", "512MiB", "--timeout", "10m"]);
    assert_eq!(said.code, Some(0), "{}", said.stderr);
    assert_eq!(said.stderr.matches("the network has no IPv6").count(), 1, "{}", said.stderr);
    assert!(said.stderr.contains("accept_ra"), "{}", said.stderr);
    let network = virsh(&["net-dumpxml", "nosix"]);
    assert!(!network.contains("family='ipv6'"), "{network}");
    assert!(said.stderr.contains("etcd: healthy, 1 members"), "{}", said.stderr);
    virtlab(&["destroy", "nosix"]).ok();
    drop(router);
    assert_eq!(everything_there(), before);
    drop(guard);
}

#[test]
fn a_network_that_cannot_start_for_another_reason_keeps_its_ipv6_and_the_error() {
    let before = everything_there();
    let folder = tempfile::tempdir().unwrap();
    // libvirt cannot make a bridge that is there, and takes away what it could not make: the second time it can.
    let bridge = Bridge::new("br9", "10.79.9.1/24");
    let ours = include_str!("../../network-templates/base.xml.j2");
    let text = ours.replace("<bridge name='{{ network.bridge }}'", "<bridge name='br9'");
    assert_ne!(text, ours);
    let template = folder.path().join("network.xml.j2");
    std::fs::write(&template, text).unwrap();
    let template = template.to_str().unwrap();
    let _lab = LabGuard("taken");
    let create = ["create", "taken", "--nodes", "1", "--memory", "512MiB", "--no-wait"];
    let said = virtlab(&[&create[..], &["--network-template", template]].concat()).refused();
    assert!(said.contains("error: starting network `taken`: "), "{said}");
    assert!(!said.contains("IPv6"), "{said}");
    drop(bridge);
    assert_eq!(everything_there(), before);
}
