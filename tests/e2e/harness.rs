//! Runs virtlab and virsh, waits for things, and cleans up.

use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::thread;
use std::time::{Duration, Instant};

/// What a command said and how it ended.
#[derive(Debug)]
pub(crate) struct Said {
    pub(crate) code: Option<i32>,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

impl Said {
    /// Its stdout, after making sure that it succeeded.
    #[track_caller]
    pub(crate) fn ok(self) -> String {
        assert_eq!(self.code, Some(0), "stdout:\n{}\nstderr:\n{}", self.stdout, self.stderr);
        self.stdout
    }

    /// Its stderr, after making sure that it failed.
    #[track_caller]
    pub(crate) fn refused(self) -> String {
        assert_ne!(self.code, Some(0), "it succeeded, and said:\n{}", self.stdout);
        self.stderr
    }

    /// Its stdout as JSON.
    #[track_caller]
    pub(crate) fn json(self) -> serde_json::Value {
        let text = self.ok();
        serde_json::from_str(&text).unwrap_or_else(|error| panic!("{error}: {text}"))
    }
}

impl From<Output> for Said {
    fn from(output: Output) -> Self {
        Self {
            code: output.status.code(),
            stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
            stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
        }
    }
}

/// virtlab with these arguments, not started yet.
pub(crate) fn virtlab_command(args: &[&str]) -> Command {
    assert!(
        std::env::var_os("VIRTLAB_SANDBOX").is_some(),
        "these tests make and destroy labs: run them in the sandbox, with `make e2e`"
    );
    let mut command = Command::new(env!("CARGO_BIN_EXE_virtlab"));
    command.args(args);
    command
}

/// Runs virtlab.
pub(crate) fn virtlab(args: &[&str]) -> Said {
    virtlab_command(args).output().expect("virtlab runs").into()
}

/// Runs another program.
pub(crate) fn run(program: &str, args: &[&str]) -> Said {
    let output = Command::new(program).args(args).output();
    output.unwrap_or_else(|error| missing(program, &error)).into()
}

/// Ends a test that cannot run, with the package to install.
pub(crate) fn missing(program: &str, error: &std::io::Error) -> ! {
    let package = match program {
        "cc" => "gcc",
        "ip" => "iproute2",
        "nm" => "binutils",
        "dnsmasq" => "dnsmasq-base",
        "nginx" => "nginx-light",
        "virsh" => "libvirt-clients",
        "ssh" | "ssh-keygen" => "openssh-client",
        "etcd" => "etcd-server",
        "ansible" => "ansible-core",
        "discovery.etcd.io" => "etcd-discovery",
        other => other,
    };
    panic!("running `{program}` (package {package}): {error}")
}

/// Runs virsh and gives what it printed.
#[track_caller]
pub(crate) fn virsh(args: &[&str]) -> String {
    run("virsh", args).ok()
}

/// Writes a key into a lab's etcd, by the node with this index.
#[track_caller]
pub(crate) fn etcd_put(lab: &str, node: usize, key: &str, value: &str) {
    etcdctl(lab, node, &["put", key, value]);
}

/// What a lab's etcd holds for a key, asked of the node with this index; nothing if it does not have it.
#[track_caller]
pub(crate) fn etcd_get(lab: &str, node: usize, key: &str) -> String {
    etcdctl(lab, node, &["get", key, "--print-value-only"]).trim().to_owned()
}

#[track_caller]
fn etcdctl(lab: &str, node: usize, args: &[&str]) -> String {
    let endpoint = format!("--endpoints=http://{}:2379", ip(lab, node));
    run("env", &[&["ETCDCTL_API=3", "etcdctl", &endpoint], args].concat()).ok()
}

/// The address of the node with this index.
#[track_caller]
pub(crate) fn ip(lab: &str, node: usize) -> String {
    let status = virtlab(&["status", lab, "-o", "json"]).json();
    status["nodes"][node - 1]["ip"].as_str().unwrap().to_owned()
}

/// Whether the etcd of a lab is healthy.
#[track_caller]
pub(crate) fn is_healthy(lab: &str) -> bool {
    virtlab(&["status", lab, "-o", "json"]).json()["etcd"]["healthy"] == true
}

/// Kills a process, and waits until it is gone with all that it held: its port is free then.
#[track_caller]
pub(crate) fn kill(pid: &str) {
    run("kill", &["-KILL", pid]).ok();
    let stat = Path::new("/proc").join(pid).join("stat");
    wait_until("the process ends", Duration::from_secs(60), || {
        let stat = read(&stat);
        stat.rsplit_once(") ").is_none_or(|(_, state)| state.starts_with('Z'))
    });
}

/// A lab that is destroyed when the test ends, however it ends.
pub(crate) struct LabGuard<N: AsRef<str> = &'static str>(pub(crate) N);

impl<N: AsRef<str>> Drop for LabGuard<N> {
    fn drop(&mut self) {
        let said = virtlab(&["destroy", self.0.as_ref()]);
        if said.code != Some(0) && !said.stderr.contains("there is no lab") {
            eprintln!("cleaning up {}: {}", self.0.as_ref(), said.stderr);
        }
    }
}

/// Waits until `condition` holds.
#[track_caller]
pub(crate) fn wait_until(what: &str, timeout: Duration, condition: impl FnMut() -> bool) {
    assert!(holds_within(timeout, condition), "{what}: not within {} s", timeout.as_secs());
}

/// Whether `condition` comes true in time.
pub(crate) fn holds_within(timeout: Duration, mut condition: impl FnMut() -> bool) -> bool {
    let deadline = Instant::now() + timeout;
    while !condition() {
        if Instant::now() >= deadline {
            return false;
        }
        thread::sleep(Duration::from_millis(200));
    }
    true
}

/// What a file holds; nothing if it is not there.
pub(crate) fn read(path: &Path) -> String {
    std::fs::read_to_string(path).unwrap_or_default()
}

/// Where the state of a lab is kept: `LAB.UUID`, or `LAB` as virtlab 0.1 called it.
pub(crate) fn state_folder(lab: &str) -> PathBuf {
    let state = std::env::var_os("XDG_STATE_HOME").expect("the sandbox sets it");
    let root = PathBuf::from(state).join("virtlab");
    let folders = std::fs::read_dir(&root).into_iter().flatten().flatten();
    let start = format!("{lab}.");
    let of_lab = |name: &std::ffi::OsString| name.to_string_lossy().starts_with(&start);
    let name = folders.map(|folder| folder.file_name()).find(of_lab);
    root.join(name.unwrap_or_else(|| lab.into()))
}

/// Everything that a lab could leave behind on this host, as text to compare.
pub(crate) fn everything_there() -> String {
    let bridges = run("ip", &["-brief", "link", "show", "type", "bridge"]).ok();
    let processes = run("ps", &["-e", "-o", "args="]).ok();
    let processes: Vec<&str> = processes
        .lines()
        .filter(|line| ["qemu-system", "dnsmasq", " serve "].iter().any(|name| line.contains(name)))
        .filter(|line| !line.contains("defunct"))
        .collect();
    let folders = run("find", &["/var/lib/libvirt", "-mindepth", "1", "-name", "*virtlab*"]).ok();
    // libvirt makes the folder with its first network.
    let leases = run("find", &["/var/lib/libvirt", "-path", "*/dnsmasq/*", "-type", "f"]).ok();
    format!(
        "domains:\n{}networks:\n{}pools:\n{}bridges:\n{bridges}processes:\n{}\nfiles:\n{folders}{leases}",
        virsh(&["list", "--all", "--name"]),
        virsh(&["net-list", "--all", "--name"]),
        virsh(&["pool-list", "--all", "--name"]),
        processes.join("\n"),
    )
}
