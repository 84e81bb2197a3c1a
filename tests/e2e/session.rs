//! An ordinary user's own libvirt: nodes on a bridge of the host, which QEMU's setuid helper attaches.

use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use crate::harness::{Said, holds_within, missing, read, run, virtlab_command, wait_until};
use crate::wire::{Bridge, Machine};

#[test]
fn a_users_own_libvirt_boots_a_lab_on_a_bridge_and_keeps_it_below_the_home_directory() {
    let user = User::new();
    let bridge = Bridge::new("br0", "10.77.2.1/24");
    let create = ["create", "mine", "--network", "bridge", "--nodes", "1", "--memory", "512MiB"];
    let create = [&create[..], &["--mac-prefix", "52:54:00:12:37", "--no-wait"]].concat();

    let own = user.virtlab(&["create", "mine", "--nodes", "1"]).refused();
    assert!(own.contains("error: lab `mine` cannot have a network of its own"), "{own}");
    assert!(own.contains("--network bridge --bridge br0"), "{own}");
    assert_eq!(user.virsh(&["pool-list", "--all", "--name"]).trim(), "");

    let helper = Helper::installed();
    let refused = user.virtlab(&create).refused();
    assert!(refused.contains("is not setuid root\n\nhint: `sudo chmod u+s "), "{refused}");
    helper.make_setuid();
    let refused = user.virtlab(&create).refused();
    assert!(refused.contains("error: qemu:///session may not attach nodes to bridge `br0`"));
    assert!(refused.contains("echo 'allow br0' | sudo tee -a /etc/qemu/bridge.conf"), "{refused}");
    std::fs::write("/etc/qemu/bridge.conf", "allow br0\n").unwrap();

    let server = Machine::new("dhcp", "br0", Some("10.77.2.2/24"), None);
    user.virtlab(&create).ok();
    let tree = user.home.path().join("tree");
    let tree = tree.to_str().unwrap();
    user.virtlab(&["pxe", "export", "mine", "--dir", tree, "--tftp-server", "10.77.2.2"]).ok();
    let log = |name: &str| user.home.path().join(name);
    let leases = format!("--dhcp-leasefile={}", log("leases").display());
    let conf = format!("--conf-file={tree}/dnsmasq.conf");
    let dnsmasq = ["dnsmasq", "-k", "--log-facility=-", "--log-dhcp", "--port=0", "--pid-file="];
    let range = ["--user=root", "--dhcp-range=10.77.2.100,10.77.2.199", &leases, &conf];
    let _dnsmasq = server.start(&[&dnsmasq[..], &range].concat(), &log("dnsmasq.log"));

    let waited = user.virtlab(&["create", "mine", "--timeout", "9m"]);
    assert_eq!(waited.code, Some(0), "{}\n{}", waited.stderr, read(&log("dnsmasq.log")));
    let status = user.virtlab(&["status", "mine", "-o", "json"]).json();
    assert_eq!(status["etcd"]["healthy"], true, "{status}");
    assert_eq!(status["nodes"][0]["mac"], "52:54:00:12:37:01");
    let folder = user.home.path().join("data/virtlab/mine");
    let console = read(&folder.join("mine-1.console.log"));
    assert!(console.contains("micro: ["), "{console}");
    assert!(!Path::new("/var/lib/libvirt/virtlab-mine").exists());
    let qemu = run("ps", &["-u", NOBODY, "-o", "args="]).ok();
    assert_eq!(qemu.matches("qemu-system-x86_64 -name guest=mine-").count(), 1, "{qemu}");

    user.virtlab(&["destroy", "mine"]).ok();
    assert!(!folder.exists());
    assert_eq!(user.virsh(&["list", "--all", "--name"]).trim(), "");
    assert_eq!(user.virsh(&["pool-list", "--all", "--name"]).trim(), "");
    drop(bridge);
}

/// A user who is nobody, with a home directory that ends with the test.
struct User {
    home: tempfile::TempDir,
}

impl User {
    fn new() -> Self {
        let home = tempfile::tempdir().unwrap();
        // Neither the target folder nor the images are where others may look.
        let program = virtlab_command(&[]).get_program().to_owned();
        std::fs::copy(program, home.path().join("virtlab")).unwrap();
        let images = home.path().join("cache/virtlab");
        std::fs::create_dir_all(&images).unwrap();
        std::fs::create_dir(home.path().join("run")).unwrap();
        // Debian 13's sudo forbids core files to all that it starts, and libvirt cannot allow them again.
        let config = home.path().join("config/libvirt");
        std::fs::create_dir_all(&config).unwrap();
        std::fs::write(config.join("qemu.conf"), "max_core = 0\n").unwrap();
        let copied = run("cp", &["-a", &images_folder(), images.to_str().unwrap()]);
        copied.ok();
        std::fs::set_permissions(home.path(), PermissionsExt::from_mode(0o755)).unwrap();
        run("chown", &["-R", "nobody:", home.path().to_str().unwrap()]).ok();
        Self { home }
    }

    fn command(&self, program: &Path) -> Command {
        let mut command = Command::new("setpriv");
        command.args(["--reuid", NOBODY, "--regid", "65534", "--clear-groups", "--"]).arg(program);
        let path = std::env::var_os("PATH").unwrap_or_default();
        command.env_clear().env("PATH", path).env("HOME", self.home.path());
        for (name, folder) in [
            ("XDG_RUNTIME_DIR", "run"),
            ("XDG_DATA_HOME", "data"),
            ("XDG_CACHE_HOME", "cache"),
            ("XDG_STATE_HOME", "state"),
            ("XDG_CONFIG_HOME", "config"),
        ] {
            command.env(name, self.home.path().join(folder));
        }
        command.env("LIBVIRT_DEFAULT_URI", "qemu:///session").current_dir(self.home.path());
        command
    }

    fn virtlab(&self, args: &[&str]) -> Said {
        let mut command = self.command(&self.home.path().join("virtlab"));
        let output = command.args(args).output();
        output.unwrap_or_else(|error| missing("setpriv", &error)).into()
    }

    #[track_caller]
    fn virsh(&self, args: &[&str]) -> String {
        let output = self.command(Path::new("virsh")).args(args).output();
        Said::from(output.unwrap_or_else(|error| missing("setpriv", &error))).ok()
    }
}

impl User {
    /// The process numbers of the user's libvirtd and virtlogd, or of the modular daemons.
    fn daemons(&self) -> Vec<String> {
        let folder = std::fs::read_dir(self.home.path().join("run/libvirt"));
        let files = folder.into_iter().flatten().filter_map(Result::ok).map(|entry| entry.path());
        let pids = files.filter(|path| path.extension().is_some_and(|it| it == "pid"));
        pids.map(|path| read(&path).trim().to_owned()).filter(|pid| !pid.is_empty()).collect()
    }
}

impl Drop for User {
    fn drop(&mut self) {
        let said = self.virtlab(&["destroy", "mine"]);
        if said.code != Some(0) && !said.stderr.contains("there is no lab") {
            eprintln!("cleaning up mine: {}", said.stderr);
        }
        // The user's daemons wait for more to do.
        for pid in self.daemons() {
            let _ = run("kill", &[&pid]);
            let process = Path::new("/proc").join(&pid);
            if !holds_within(Duration::from_secs(10), || !process.exists()) {
                eprintln!("process {pid} of {NOBODY} is left");
            }
        }
    }
}

/// QEMU's bridge helper and the folder of its list, as they are right after they were installed; seen in the
/// sandbox only.
struct Helper {
    path: PathBuf,
    copy: tempfile::TempDir,
    /// The folder of the list was not there before.
    made_folder: bool,
}

impl Helper {
    fn installed() -> Self {
        let known = ["/usr/lib/qemu/qemu-bridge-helper", "/usr/libexec/qemu-bridge-helper"];
        let path = known.map(PathBuf::from).into_iter().find(|path| path.exists());
        let path = path.expect("qemu-bridge-helper (package qemu-system-common)");
        // Debian's package makes no folder for the list; a mount needs one.
        let made_folder = std::fs::create_dir("/etc/qemu").is_ok();
        mount(&["-t", "tmpfs", "-o", "mode=755", "tmpfs", "/etc/qemu"]);
        // A folder of its own, since a user's own files may lie where setuid counts for nothing.
        let copy = tempfile::tempdir_in("/run").unwrap();
        let file = copy.path().join("qemu-bridge-helper");
        std::fs::copy(&path, &file).unwrap();
        std::fs::set_permissions(&file, PermissionsExt::from_mode(0o755)).unwrap();
        mount(&["--bind", file.to_str().unwrap(), path.to_str().unwrap()]);
        Self { path, copy, made_folder }
    }

    fn make_setuid(&self) {
        let file = self.copy.path().join("qemu-bridge-helper");
        std::fs::set_permissions(file, PermissionsExt::from_mode(0o4755)).unwrap();
    }
}

impl Drop for Helper {
    fn drop(&mut self) {
        let path = self.path.to_str().unwrap();
        let unmounted = || run("umount", &["-n", path]).code == Some(0);
        wait_until("the bridge helper to be unused", Duration::from_secs(10), unmounted);
        run("umount", &["-n", "/etc/qemu"]);
        // The sandbox has the host's /etc.
        if self.made_folder {
            let _ = std::fs::remove_dir("/etc/qemu");
        }
    }
}

#[track_caller]
fn mount(args: &[&str]) {
    run("mount", &[&["-n"], args].concat()).ok();
}

/// Where virtlab keeps images.
fn images_folder() -> String {
    let cache = std::env::var("XDG_CACHE_HOME");
    let cache = cache.unwrap_or_else(|_| format!("{}/.cache", std::env::var("HOME").unwrap()));
    format!("{cache}/virtlab/images")
}

const NOBODY: &str = "nobody";
