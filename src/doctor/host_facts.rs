//! What this computer tells of itself: files, folders, and the tools that read what is in no file.

use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use etcetera::BaseStrategy;
use fs_err as fs;
use ipnet::Ipv4Net;
use rustix::fs::Access;
use serde_json::Value;

use crate::host::{self, bridge};
use crate::loaders::Program;
use crate::packages::Distribution;

/// What this computer tells of itself.
#[derive(Debug, Default)]
pub(super) struct HostFacts {
    pub(super) distribution: Option<Distribution>,
    pub(super) user: User,
    pub(super) daemon: Daemon,
    /// The kernel module for the processor's virtualisation, if it has any.
    pub(super) kvm_module: Option<&'static str>,
    pub(super) has_kvm_device: bool,
    pub(super) has_qemu: bool,
    pub(super) has_dnsmasq: bool,
    pub(super) missing_programs: Vec<Program>,
    /// Whether there is a UEFI that libvirt would choose.
    pub(super) has_uefi: bool,
    /// Folders above all TFTP roots that only some may pass.
    pub(super) closed_folders: Vec<PathBuf>,
    pub(super) has_apparmor: bool,
    /// Whether `SELinux` enforces its rules; `None` if there is none.
    pub(super) selinux_enforces: Option<bool>,
    pub(super) bridged: BridgedFrames,
    /// Interfaces with routes from router advertisements that lose them when a network with IPv6 starts.
    pub(super) ra_interfaces: Vec<String>,
    pub(super) forwards: bool,
    pub(super) routes: Vec<(Ipv4Net, String)>,
    /// In bytes.
    pub(super) available_memory: u64,
    pub(super) disks: Vec<Disk>,
    /// Bridges that libvirt did not make, and whether a session may use them.
    pub(super) bridges: Vec<(String, bool)>,
    pub(super) helper: bridge::Helper,
}

/// Who asks.
#[derive(Debug, Default)]
pub(super) struct User {
    pub(super) name: String,
    pub(super) is_root: bool,
    /// The group that may use libvirt, if there is one.
    pub(super) group: Option<String>,
    /// Whether the user is listed in it.
    pub(super) is_member: bool,
}

/// libvirt's daemons.
#[derive(Debug, Default)]
pub(super) struct Daemon {
    /// The service that is installed.
    pub(super) service: Option<&'static str>,
    /// Whether each driver has a daemon of its own.
    pub(super) is_modular: bool,
    pub(super) socket: Socket,
}

/// The socket of libvirt's daemon for the whole host.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Socket {
    #[default]
    Missing,
    /// This user may not write to it.
    Closed,
    Open,
}

/// Whether frames between the ports of a bridge go through iptables.
#[derive(Debug, Default)]
pub(super) struct BridgedFrames {
    pub(super) are_filtered: bool,
    /// What happens to what no rule names; only root is told.
    pub(super) policy: Option<String>,
    /// A rule lets all bridged frames pass.
    pub(super) are_accepted: bool,
    pub(super) has_docker: bool,
}

/// Room on a file system.
#[derive(Debug)]
pub(super) struct Disk {
    pub(super) what: &'static str,
    pub(super) path: PathBuf,
    pub(super) free: u64,
    /// Whether it is images of virtlab's that fill it.
    pub(super) has_images: bool,
}

impl HostFacts {
    pub(super) fn gather() -> Self {
        let mut facts = Self::below(Path::new("/"));
        facts.user = user();
        facts.daemon.socket = socket();
        facts.bridged = bridged_frames(Path::new("/"), &run);
        facts.ra_interfaces = ra_interfaces(Path::new("/"), &run);
        facts.routes = host::routes().unwrap_or_default();
        facts.available_memory = host::available_memory().unwrap_or_default();
        facts.disks = disks();
        facts.distribution = Distribution::here();
        let allowed = |bridge: &String| bridge::is_allowed_in_session(bridge);
        let bridges = bridges(Path::new("/")).into_iter();
        facts.bridges = bridges.map(|bridge| (bridge.clone(), allowed(&bridge))).collect();
        facts.helper = bridge::helper();
        facts
    }

    /// What files below `root` tell.
    pub(super) fn below(root: &Path) -> Self {
        let read = |path: &str| fs::read_to_string(root.join(path)).unwrap_or_default();
        let is_there = |path: &str| root.join(path).exists();
        let units = ["usr/lib/systemd/system", "lib/systemd/system", "etc/systemd/system"];
        let has_unit =
            |name: &str| units.iter().any(|folder| is_there(&format!("{folder}/{name}.service")));
        let service = ["libvirtd", "virtqemud"].into_iter().find(|name| has_unit(name));
        let programs = [Program::CardRom, Program::IpxeEfi, Program::Pxelinux, Program::Ldlinux];
        Self {
            daemon: Daemon {
                service,
                is_modular: is_there("run/libvirt/virtqemud-sock"),
                socket: Socket::Missing,
            },
            kvm_module: kvm_module(&read("proc/cpuinfo")),
            has_kvm_device: is_there("dev/kvm"),
            has_qemu: QEMU.iter().any(|path| is_there(path)),
            has_dnsmasq: DNSMASQ.iter().any(|path| is_there(path)),
            missing_programs: programs
                .into_iter()
                .filter(|it| it.find_in(root).is_none())
                .collect(),
            has_uefi: has_uefi(root),
            closed_folders: closed_folders(root),
            has_apparmor: read("sys/module/apparmor/parameters/enabled").trim() == "Y",
            selinux_enforces: is_there("sys/fs/selinux/enforce")
                .then(|| read("sys/fs/selinux/enforce").trim() == "1"),
            forwards: read("proc/sys/net/ipv4/ip_forward").trim() != "0",
            ..Self::default()
        }
    }
}

fn kvm_module(cpuinfo: &str) -> Option<&'static str> {
    let flags = cpuinfo.lines().find(|line| line.starts_with("flags"))?;
    flags.split_whitespace().find_map(|flag| match flag {
        "vmx" => Some("kvm_intel"),
        "svm" => Some("kvm_amd"),
        _ => None,
    })
}

/// libvirt chooses a UEFI by these descriptions. <https://libvirt.org/kbase/secureboot.html>
fn has_uefi(root: &Path) -> bool {
    let descriptions = ["etc/qemu/firmware", "usr/share/qemu/firmware"].iter().flat_map(|folder| {
        let entries = fs::read_dir(root.join(folder)).into_iter().flatten();
        entries.filter_map(|entry| fs::read_to_string(entry.ok()?.path()).ok()).collect::<Vec<_>>()
    });
    descriptions.into_iter().any(|text| {
        let description: Value = serde_json::from_str(&text).unwrap_or_default();
        let has = |key: &str, wanted: &str| {
            let list = description[key].as_array().into_iter().flatten();
            list.into_iter().any(|it| it == wanted || it["architecture"] == wanted)
        };
        let mapping = &description["mapping"];
        let file = mapping["executable"]["filename"].as_str().or(mapping["filename"].as_str());
        has("interface-types", "uefi")
            && has("targets", "x86_64")
            && file.is_some_and(|file| root.join(file.trim_start_matches('/')).exists())
    })
}

/// dnsmasq gives up root before it reads a file.
fn closed_folders(root: &Path) -> Vec<PathBuf> {
    let is_closed = |path: &&Path| {
        let metadata = fs::metadata(root.join(path));
        metadata.is_ok_and(|metadata| metadata.permissions().mode() & SEARCH_BY_OTHERS == 0)
    };
    let mut folders: Vec<&Path> = Path::new(POOLS).ancestors().filter(is_closed).collect();
    folders.reverse();
    folders.into_iter().map(|path| Path::new("/").join(path)).collect()
}

fn user() -> User {
    let uid = rustix::process::getuid();
    let text = |path: &str| fs::read_to_string(path).unwrap_or_default();
    let passwd = text("/etc/passwd");
    let mut entries = passwd.lines().map(|line| line.split(':').collect::<Vec<_>>());
    let own = entries.find(|entry| entry.get(2) == Some(&uid.as_raw().to_string().as_str()));
    let name = own.map_or_else(|| std::env::var("USER").unwrap_or_default(), |it| it[0].to_owned());
    let (group, is_member) = membership(&text("/etc/group"), &name);
    User { name, is_root: uid.is_root(), group, is_member }
}

/// group(5): `libvirt:x:64055:me,you`
fn membership(groups: &str, user: &str) -> (Option<String>, bool) {
    let fields = groups.lines().map(|line| line.split(':').collect::<Vec<_>>());
    let found = fields.into_iter().find(|fields| fields.len() == 4 && fields[0] == GROUP);
    let is_member = found.as_ref().is_some_and(|it| it[3].split(',').any(|name| name == user));
    (found.map(|_| GROUP.to_owned()), is_member)
}

fn socket() -> Socket {
    let state = |path: &str| match rustix::fs::access(path, Access::WRITE_OK) {
        Ok(()) => Socket::Open,
        Err(rustix::io::Errno::ACCESS) => Socket::Closed,
        Err(_) => Socket::Missing,
    };
    let states = SOCKETS.map(state);
    [Socket::Open, Socket::Closed].into_iter().find(|it| states.contains(it)).unwrap_or_default()
}

type Run<'a> = &'a dyn Fn(&str, &[&str]) -> Option<String>;

fn bridged_frames(root: &Path, run: Run) -> BridgedFrames {
    let setting = fs::read_to_string(root.join("proc/sys/net/bridge/bridge-nf-call-iptables"));
    let rules = run("iptables", &["-w", "-S"]).unwrap_or_default();
    let policy = rules.lines().find_map(|line| line.strip_prefix("-P FORWARD "));
    BridgedFrames {
        are_filtered: setting.is_ok_and(|value| value.trim() == "1"),
        policy: policy.map(ToOwned::to_owned),
        are_accepted: rules.lines().any(|rule| rule.ends_with("--physdev-is-bridged -j ACCEPT")),
        has_docker: root.join("sys/class/net/docker0").exists(),
    }
}

/// As libvirt looks before it starts a network with IPv6: `accept_ra` must be 2 where routes came by
/// advertisements, since forwarding switches them off otherwise.
fn ra_interfaces(root: &Path, run: Run) -> Vec<String> {
    let routes = run("ip", &["-6", "route", "show", "proto", "ra"]).unwrap_or_default();
    let mut interfaces: Vec<String> = routes
        .lines()
        .filter_map(|line| line.split_once(" dev ")?.1.split_whitespace().next())
        .filter(|interface| {
            let path = root.join("proc/sys/net/ipv6/conf").join(interface).join("accept_ra");
            fs::read_to_string(path).is_ok_and(|value| value.trim() != "2")
        })
        .map(ToOwned::to_owned)
        .collect();
    interfaces.sort();
    interfaces.dedup();
    interfaces
}

/// Bridges that are not libvirt's own.
fn bridges(root: &Path) -> Vec<String> {
    let entries = fs::read_dir(root.join("sys/class/net")).into_iter().flatten();
    let mut bridges: Vec<String> = entries
        .filter_map(Result::ok)
        .filter(|entry| entry.path().join("bridge").is_dir())
        .filter_map(|entry| entry.file_name().into_string().ok())
        .filter(|name| !name.starts_with("virbr") && name != "docker0")
        .collect();
    bridges.sort();
    bridges
}

fn disks() -> Vec<Disk> {
    let strategy = etcetera::choose_base_strategy().ok();
    let images = strategy.as_ref().map(|it| it.cache_dir().join("virtlab/images"));
    let state = strategy.and_then(|it| Some(it.state_dir()?.join("virtlab")));
    let pools = Some(PathBuf::from("/").join(POOLS));
    [("boot files and consoles", pools), ("images", images), ("configs", state)]
        .into_iter()
        .filter_map(|(what, path)| {
            let path = path?;
            let there = path.ancestors().find(|path| path.exists())?.to_owned();
            let room = rustix::fs::statvfs(&there).ok()?;
            let has_images = what == "images" && fs::read_dir(&path).is_ok_and(|it| it.count() > 0);
            Some(Disk { what, path: there, free: room.f_bavail * room.f_frsize, has_images })
        })
        .collect()
}

/// What the program says if it succeeds.
fn run(program: &str, args: &[&str]) -> Option<String> {
    let path = std::env::var("PATH").unwrap_or_default();
    let mut command = Command::new(program);
    command.args(args).env("PATH", format!("{path}:/usr/sbin:/sbin")).env("LC_ALL", "C");
    let output = command.output().ok().filter(|output| output.status.success())?;
    Some(String::from_utf8_lossy(&output.stdout).into_owned())
}

/// Where the pools of all labs are: `Lab::pool_path`.
const POOLS: &str = "var/lib/libvirt";
const SEARCH_BY_OTHERS: u32 = 0o001;
const GROUP: &str = "libvirt";
const SOCKETS: [&str; 2] = ["/run/libvirt/virtqemud-sock", "/run/libvirt/libvirt-sock"];
/// RHEL has no other name for it.
const QEMU: [&str; 2] = ["usr/bin/qemu-system-x86_64", "usr/libexec/qemu-kvm"];
const DNSMASQ: [&str; 3] = ["usr/sbin/dnsmasq", "usr/bin/dnsmasq", "sbin/dnsmasq"];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bare_computer_has_nothing() {
        let root = tempfile::tempdir().unwrap();
        let facts = HostFacts::below(root.path());
        assert_eq!(facts.daemon.service, None);
        assert!(!facts.has_qemu && !facts.has_dnsmasq && !facts.has_uefi && !facts.has_kvm_device);
        assert_eq!(facts.missing_programs.len(), 4);
        assert_eq!((facts.has_apparmor, facts.selinux_enforces), (false, None));
    }

    #[test]
    fn what_is_installed_is_found() {
        let root = tempfile::tempdir().unwrap();
        let write = |path: &str, text: &str| {
            let path = root.path().join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        };
        write("lib/systemd/system/libvirtd.service", "");
        write("run/libvirt/virtqemud-sock", "");
        write("proc/cpuinfo", "processor : 0\nflags\t\t: fpu vmx sse\n");
        write("usr/bin/qemu-system-x86_64", "");
        write("usr/sbin/dnsmasq", "");
        write("usr/lib/ipxe/qemu/efi-virtio.rom", "");
        write("sys/module/apparmor/parameters/enabled", "Y\n");
        write("sys/fs/selinux/enforce", "0");
        write("proc/sys/net/ipv4/ip_forward", "1\n");
        write("usr/share/qemu/firmware/40-edk2-x86_64.json", UEFI);
        assert!(!HostFacts::below(root.path()).has_uefi);
        write("usr/share/OVMF/OVMF_CODE_4M.fd", "");
        let facts = HostFacts::below(root.path());
        assert_eq!((facts.daemon.service, facts.daemon.is_modular), (Some("libvirtd"), true));
        assert_eq!(facts.kvm_module, Some("kvm_intel"));
        assert!(facts.has_qemu && facts.has_dnsmasq && facts.has_uefi && facts.forwards);
        assert!(!facts.missing_programs.contains(&Program::CardRom));
        assert_eq!((facts.has_apparmor, facts.selinux_enforces), (true, Some(false)));
    }

    #[test]
    fn folders_that_dnsmasq_may_not_pass_are_found() {
        let root = tempfile::tempdir().unwrap();
        let folder = root.path().join(POOLS);
        fs::create_dir_all(&folder).unwrap();
        fs::set_permissions(root.path(), PermissionsExt::from_mode(0o755)).unwrap();
        assert!(closed_folders(root.path()).is_empty());
        fs::set_permissions(&folder, PermissionsExt::from_mode(0o750)).unwrap();
        assert_eq!(closed_folders(root.path()), [Path::new("/var/lib/libvirt")]);
    }

    #[test]
    fn members_are_listed_in_the_group() {
        let groups = "root:x:0:\nlibvirt:x:108:me,you\nlibvirt-qemu:x:64055:it\n";
        assert_eq!(membership(groups, "you"), (Some("libvirt".to_owned()), true));
        assert_eq!(membership(groups, "it"), (Some("libvirt".to_owned()), false));
        assert_eq!(membership("root:x:0:\n", "me"), (None, false));
    }

    #[test]
    fn bridged_frames_are_filtered_by_dockers_policy() {
        let root = tempfile::tempdir().unwrap();
        for folder in ["proc/sys/net/bridge", "sys/class/net/docker0"] {
            fs::create_dir_all(root.path().join(folder)).unwrap();
        }
        let setting = root.path().join("proc/sys/net/bridge/bridge-nf-call-iptables");
        fs::write(setting, "1\n").unwrap();
        let rules = "-P INPUT ACCEPT\n-P FORWARD DROP\n-N DOCKER-USER\n-A FORWARD -j DOCKER-USER\n";
        let frames = bridged_frames(root.path(), &|_, _| Some(rules.to_owned()));
        assert!(frames.are_filtered && frames.has_docker && !frames.are_accepted);
        assert_eq!(frames.policy.as_deref(), Some("DROP"));
        let rules = format!("{rules}-A DOCKER-USER -m physdev --physdev-is-bridged -j ACCEPT\n");
        assert!(bridged_frames(root.path(), &|_, _| Some(rules.clone())).are_accepted);
        assert_eq!(bridged_frames(root.path(), &|_, _| None).policy, None);
    }

    #[test]
    fn interfaces_that_would_lose_their_routes_are_found() {
        let root = tempfile::tempdir().unwrap();
        for (interface, value) in [("eth0", "1\n"), ("eth1", "2\n")] {
            let folder = root.path().join("proc/sys/net/ipv6/conf").join(interface);
            fs::create_dir_all(&folder).unwrap();
            fs::write(folder.join("accept_ra"), value).unwrap();
        }
        let routes = "default via fe80::1 dev eth0 metric 1024 expires 1790sec pref medium\n\
            2001:db8::/64 dev eth0 metric 1024\ndefault via fe80::1 dev eth1 metric 1024\n";
        assert_eq!(ra_interfaces(root.path(), &|_, _| Some(routes.to_owned())), ["eth0"]);
        assert!(ra_interfaces(root.path(), &|_, _| None).is_empty());
    }

    /// As Debian's package ovmf has it.
    const UEFI: &str = r#"{"interface-types": ["uefi"], "mapping": {"device": "flash",
        "executable": {"filename": "/usr/share/OVMF/OVMF_CODE_4M.fd", "format": "raw"}},
        "targets": [{"architecture": "x86_64", "machines": ["pc-q35-*"]}], "features": []}"#;
}
