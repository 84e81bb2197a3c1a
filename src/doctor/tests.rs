//! A good host, and one thing broken at a time: that thing is found, and nothing else.

use super::finding::Level;
use super::host_facts::{BridgedFrames, Daemon, Disk, HostFacts, Socket, User};
use super::lab_facts::{ComesBack, LabFacts, LabHealth};
use super::libvirt_facts::{LibvirtFacts, Refusal, RefusalKind};
use super::*;
use crate::host::bridge::Helper;
use crate::host::firewall::Access;
use crate::host::systemd::Lack;
use crate::hypervisor::{Inventory, VirtProbe};
use crate::lab::spec::VirtType;
use crate::loaders::Program;
use crate::packages::Distribution;
use crate::state::Origin;

#[test]
fn a_good_host_is_all_well() {
    let wrong: Vec<Finding> =
        checks::all(&good()).into_iter().filter(|it| it.level > Level::Ok).collect();
    assert_eq!(wrong, []);
}

type Break = fn(&mut Facts);

#[test]
fn what_nodes_boot_with_is_missed_alone_with_the_command_that_installs_it() {
    let cases: [(Break, &str); 7] = [
        (
            |it| it.host.has_qemu = false,
            "failure qemu: there is no QEMU for x86_64 $ sudo apt-get install qemu-system-x86",
        ),
        (
            |it| it.host.has_dnsmasq = false,
            "failure dnsmasq: there is no dnsmasq $ sudo apt-get install dnsmasq-base",
        ),
        (
            |it| it.host.missing_programs = vec![Program::CardRom],
            "failure network-rom: there is no `efi-virtio.rom` $ sudo apt-get install ipxe-qemu",
        ),
        (
            |it| it.host.has_uefi = false,
            "warning uefi: there is no UEFI for guests $ sudo apt-get install ovmf ipxe",
        ),
        (
            |it| it.host.missing_programs = vec![Program::IpxeEfi],
            "warning uefi: there is no `snponly.efi` $ sudo apt-get install ipxe",
        ),
        (
            |it| it.host.missing_programs = vec![Program::Ldlinux],
            "warning pxelinux: there is no `ldlinux.c32` $ sudo apt-get install pxelinux syslinux-common",
        ),
        (
            |it| it.host.closed_folders = vec!["/var/lib/libvirt".into()],
            "failure tftp-root: dnsmasq may not pass `/var/lib/libvirt` $ sudo chmod o+x /var/lib/libvirt",
        ),
    ];
    assert_found(&cases);
}

#[test]
fn each_thing_that_is_broken_is_found_alone_with_the_command_that_mends_it() {
    let cases: [(Break, &str); 17] = [
        (
            |it| it.firewall.access = Access::Closed,
            "failure firewall: ufw keeps nodes from 8470/tcp $ sudo ufw allow",
        ),
        (
            |it| it.firewall.access = Access::Unknown,
            "warning firewall: ufw may keep nodes from 8470/tcp $ sudo ufw allow",
        ),
        (
            |it| {
                it.host.bridged.are_filtered = true;
                it.host.bridged.policy = Some("DROP".to_owned());
                it.host.bridged.has_docker = true;
            },
            "warning bridged-frames: br_netfilter sends bridged frames through iptables, whose policy is \
             DROP $ sudo iptables -I DOCKER-USER -m physdev --physdev-is-bridged -j ACCEPT",
        ),
        (
            |it| it.host.ra_interfaces = vec!["eth0".to_owned()],
            "warning accept-ra: `eth0` has routes by router advertisements, and accept_ra is not 2 $ \
             printf 'net.ipv6.conf.eth0.accept_ra = 2\\n' | sudo tee /etc/sysctl.d/90-virtlab-ra.conf && \
             sudo sysctl -p /etc/sysctl.d/90-virtlab-ra.conf",
        ),
        (
            |it| it.host.forwards = false,
            "warning forwarding: somebody switched IPv4 forwarding off $ \
             printf 'net.ipv4.ip_forward = 1\\n' | sudo tee /etc/sysctl.d/90-virtlab-forward.conf && \
             sudo sysctl -p /etc/sysctl.d/90-virtlab-forward.conf",
        ),
        (
            |it| it.host.routes = vec![("192.168.0.0/16".parse().unwrap(), "vpn".to_owned())],
            "failure subnet: no subnet below 192.168.0.0/16 is free",
        ),
        (|it| it.host.available_memory = 300 << 20, "failure memory: 300 MiB of memory are left"),
        (|it| it.host.available_memory = 1 << 30, "warning memory: 1.00 GiB of memory are left"),
        (
            |it| it.host.disks[0].free = 100 << 20,
            "failure disk: 100 MiB are left for images in `/home` $ virtlab image prune",
        ),
        (
            |it| it.libvirt.as_mut().unwrap().version = 6_000_000.into(),
            "warning libvirt: qemu:///system answers: libvirt 6.0.0, QEMU 7.2.0, one daemon",
        ),
        (
            |it| it.labs.labs[0].lacks = vec!["demo-2 is missing".to_owned()],
            "failure labs: lab `demo` is half made: demo-2 is missing $ virtlab create demo",
        ),
        (
            |it| it.labs.labs[0].is_served = false,
            "failure boot-servers: the boot server of lab `demo` at http://192.168.100.1:8470 does not \
             answer $ virtlab create demo",
        ),
        (
            |it| it.labs.labs[0].comes_back = ComesBack::Lacks(Lack::Linger),
            "warning autostart: the boot server of lab `demo` does not come back with the host: your systemd \
             units start when you log in, and end when you log out $ loginctl enable-linger",
        ),
        (
            |it| it.labs.labs[0].comes_back = ComesBack::Disabled,
            "warning autostart: the boot server of lab `demo` does not come back with the host: systemd was \
             not told to start it $ virtlab autostart demo on",
        ),
        (
            |it| it.labs.orphans = vec!["old".parse().unwrap()],
            "warning state-folders: configs are kept of what is no lab here: old $ virtlab destroy old",
        ),
        (
            |it| it.labs.unreadable = vec!["domain `x`: of a newer virtlab".to_owned()],
            "failure labs: this virtlab cannot read domain `x`: of a newer virtlab",
        ),
        (
            |it| {
                let virt =
                    VirtProbe { virt_type: VirtType::Qemu, reason: Some("no device".to_owned()) };
                it.libvirt.as_mut().unwrap().virt = Some(virt);
                it.host.has_kvm_device = false;
            },
            "warning kvm: KVM starts no guest: no device $ sudo modprobe kvm_amd",
        ),
    ];
    assert_found(&cases);
}

fn assert_found(cases: &[(Break, &str)]) {
    for (break_it, expected) in cases {
        let mut facts = good();
        break_it(&mut facts);
        assert_eq!(wrong(&facts), [*expected]);
    }
}

#[test]
fn a_libvirt_that_does_not_answer_is_told_first_and_the_rest_all_the_same() {
    let refused = |kind, socket, is_member| {
        let mut facts = good();
        let message = "connecting to libvirt:\n no such file".to_owned();
        facts.libvirt = Err(Refusal { message, kind });
        facts.labs = LabFacts::default();
        facts.host.daemon.socket = socket;
        facts.host.user.is_member = is_member;
        facts
    };
    let no_answer = "failure libvirt: libvirt does not answer: connecting to libvirt: no such file";
    let stopped = refused(RefusalKind::Transport, Socket::Missing, true);
    assert_eq!(wrong(&stopped), [format!("{no_answer} $ sudo systemctl enable --now libvirtd")]);

    let mut absent = refused(RefusalKind::Transport, Socket::Missing, true);
    absent.host.daemon.service = None;
    let install = "sudo apt-get install libvirt-daemon-system libvirt-clients qemu-system-x86 ipxe-qemu dnsmasq-base";
    assert_eq!(wrong(&absent), [format!("{no_answer} $ {install}")]);

    let join = "sudo usermod -aG libvirt me";
    let not_member = format!("failure group: `me` is not in group `libvirt` $ {join}");
    for (kind, socket) in
        [(RefusalKind::Transport, Socket::Closed), (RefusalKind::Permission, Socket::Open)]
    {
        let expected = [format!("{no_answer} $ {join}"), not_member.clone()];
        assert_eq!(wrong(&refused(kind, socket, false)), expected);
    }
    let not_yet = "failure group: `me` is in group `libvirt`, but was not when this session began $ newgrp libvirt";
    let early = refused(RefusalKind::Transport, Socket::Closed, true);
    assert_eq!(wrong(&early), [no_answer.to_owned(), not_yet.to_owned()]);
}

#[test]
fn a_session_needs_the_bridge_helper_and_its_list() {
    let session = |helper, bridges: &[(&str, bool)]| {
        let mut facts = good();
        facts.libvirt.as_mut().unwrap().is_session = true;
        facts.host.helper = helper;
        facts.host.bridges = bridges.iter().map(|(name, may)| ((*name).to_owned(), *may)).collect();
        wrong(&facts)
    };
    assert!(session(Helper::Ready, &[("br0", false), ("br1", true)]).is_empty());
    assert_eq!(
        session(Helper::Ready, &[("br0", false)]),
        [
            "failure bridge-helper: a session may not attach nodes to bridge `br0` $ sudo mkdir -p /etc/qemu && \
          echo 'allow br0' | sudo tee -a /etc/qemu/bridge.conf"
        ]
    );
    assert_eq!(
        session(Helper::NotSetuid("/usr/lib/qemu/qemu-bridge-helper".into()), &[]),
        [
            "failure bridge-helper: `/usr/lib/qemu/qemu-bridge-helper` is not setuid root $ sudo chmod u+s \
          /usr/lib/qemu/qemu-bridge-helper"
        ]
    );
    assert_eq!(
        session(Helper::Missing, &[]),
        ["failure bridge-helper: QEMU's bridge helper is not installed $ sudo apt-get install \
          qemu-system-common"]
    );
}

#[test]
fn where_the_distribution_is_unknown_the_packages_are_named() {
    let mut facts = good();
    facts.host.distribution = None;
    facts.host.has_dnsmasq = false;
    let finding = checks::all(&facts).into_iter().find(|it| it.check == "dnsmasq").unwrap();
    assert_eq!(finding.command, None);
    assert_eq!(
        finding.why.unwrap(),
        "libvirt's networks give addresses and boot files by it; it is in package dnsmasq-base (Debian, \
         Ubuntu) or dnsmasq (Fedora, Arch, openSUSE)"
    );
}

/// `failure kvm: what was found $ the command`
fn wrong(facts: &Facts) -> Vec<String> {
    let findings = checks::all(facts).into_iter().filter(|finding| finding.level > Level::Ok);
    let describe = |finding: Finding| {
        let command = finding.command.map(|command| format!(" $ {command}")).unwrap_or_default();
        format!("{} {}: {}{command}", finding.level.word(), finding.check, finding.summary)
    };
    findings.map(describe).collect()
}

/// A Debian with a lab that is on.
fn good() -> Facts {
    let disk = |what, path: &str| Disk { what, path: path.into(), free: 9 << 30, has_images: true };
    Facts {
        host: HostFacts {
            distribution: Some(Distribution::Debian),
            user: User {
                name: "me".to_owned(),
                is_root: false,
                group: Some("libvirt".to_owned()),
                is_member: true,
            },
            daemon: Daemon { service: Some("libvirtd"), is_modular: false, socket: Socket::Open },
            kvm_module: Some("kvm_amd"),
            has_kvm_device: true,
            has_qemu: true,
            has_dnsmasq: true,
            missing_programs: Vec::new(),
            has_uefi: true,
            closed_folders: Vec::new(),
            has_apparmor: true,
            selinux_enforces: None,
            bridged: BridgedFrames::default(),
            ra_interfaces: Vec::new(),
            forwards: true,
            routes: Vec::new(),
            available_memory: 8 << 30,
            disks: vec![disk("images", "/home"), disk("configs", "/home")],
            bridges: Vec::new(),
            helper: Helper::Missing,
        },
        libvirt: Ok(LibvirtFacts {
            origin: Origin { uri: "qemu:///system".to_owned(), host: "host".to_owned() },
            version: 9_000_000.into(),
            driver: "QEMU".to_owned(),
            driver_version: Some(7_002_000),
            is_local: true,
            is_session: false,
            inventory: Inventory::default(),
            virt: Some(VirtProbe { virt_type: VirtType::Kvm, reason: None }),
        }),
        labs: LabFacts {
            labs: vec![LabHealth {
                name: "demo".parse().unwrap(),
                lacks: Vec::new(),
                has_running_nodes: true,
                boot_url: "http://192.168.100.1:8470".to_owned(),
                is_served: true,
                comes_back: ComesBack::Yes,
            }],
            ..LabFacts::default()
        },
        firewall: Verdict {
            access: Access::Open,
            firewall: "ufw".to_owned(),
            ports: "8470/tcp".to_owned(),
            command: "sudo ufw allow".to_owned(),
        },
    }
}
