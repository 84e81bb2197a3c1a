//! Runs virtlab and virsh, waits for things, and cleans up.

use std::path::PathBuf;
use std::process::Command;
use std::process::Output;
use std::thread;
use std::time::Duration;
use std::time::Instant;

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
    output.unwrap_or_else(|error| panic!("running {program}: {error}")).into()
}

/// Runs virsh and gives what it printed.
#[track_caller]
pub(crate) fn virsh(args: &[&str]) -> String {
    run("virsh", args).ok()
}

/// A lab that is destroyed when the test ends, however it ends.
pub(crate) struct LabGuard(pub(crate) &'static str);

impl Drop for LabGuard {
    fn drop(&mut self) {
        let said = virtlab(&["destroy", self.0]);
        if said.code != Some(0) && !said.stderr.contains("there is no lab") {
            eprintln!("cleaning up {}: {}", self.0, said.stderr);
        }
    }
}

/// Waits until `condition` holds.
#[track_caller]
pub(crate) fn wait_until(what: &str, timeout: Duration, mut condition: impl FnMut() -> bool) {
    let deadline = Instant::now() + timeout;
    while !condition() {
        assert!(Instant::now() < deadline, "{what}: not within {} s", timeout.as_secs());
        thread::sleep(Duration::from_millis(200));
    }
}

/// Where the state of a lab is kept.
pub(crate) fn state_folder(lab: &str) -> PathBuf {
    let state = std::env::var_os("XDG_STATE_HOME").expect("the sandbox sets it");
    PathBuf::from(state).join("virtlab").join(lab)
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
