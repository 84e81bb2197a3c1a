//! The boot server as a process beside us: started detached, found again, asked, ended.

use std::io::{Read, Seek, SeekFrom};
use std::net::SocketAddr;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, anyhow, bail};
use fs_err as fs;
use rustix::process::{Pid, Signal};
use serde::{Deserialize, Serialize};

use super::client::Client;
use crate::deadline::Deadline;
use crate::host::process::ProcessIdentity;
use crate::lab::Lab;

/// Which process serves, told by its number and its start, since numbers are used again.
#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
struct ProcessMark {
    pid: i32,
    start_ticks: u64,
    /// The boot of the host that it ran in; earlier virtlabs did not note it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    host_boot: Option<String>,
}

/// Notes in the lab's folder that this process is its boot server.
///
/// # Errors
/// If the folder cannot be written.
pub fn mark_own_process(state: &Path) -> Result<()> {
    let pid = i32::try_from(std::process::id())?;
    let start_ticks =
        start_ticks(pid).ok_or_else(|| anyhow!("/proc has no word of this process"))?;
    let mark = serde_json::to_string(&ProcessMark { pid, start_ticks, host_boot: host_boot() })?;
    fs::write(state.join(PROCESS_FILE), mark)?;
    Ok(())
}

/// Whether the host was switched off and on since the lab's boot server ran last.
pub fn host_was_off(state: &Path) -> bool {
    let last = read_mark(state).and_then(|mark| mark.host_boot);
    last.is_some() && last != host_boot()
}

/// What tells the host's boots apart: the kernel's, and the first process's where a container is the host.
fn host_boot() -> Option<String> {
    let id = fs::read_to_string("/proc/sys/kernel/random/boot_id").ok()?;
    Some(format!("{} {}", id.trim(), start_ticks(1)?))
}

/// Starts `virtlab serve LAB` as a process of its own and waits until it answers.
///
/// # Errors
/// If it does not come up, with what it says is wrong.
pub fn start_detached(lab: &Lab, state: &Path, uri: Option<&str>) -> Result<()> {
    let log_path = state.join(LOG_FILE);
    let log = fs::File::options().create(true).append(true).open(&log_path)?;
    let logged_before = log.metadata()?.len();
    let program = std::env::current_exe().context("finding our own program")?;
    let mut command = Command::new(program);
    if let Some(uri) = uri {
        command.args(["--connect", uri]);
    }
    command.arg("serve").arg(lab.name.as_str());
    command.arg("--uuid").arg(lab.uuid.to_string());
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(log.into_parts().0);
    // A group of its own, so that Ctrl-C in our terminal does not reach it.
    command.process_group(0);
    let mut child = command.spawn().context("starting the boot server")?;
    let client = Client::new(lab)?;
    let answered = Deadline::after(START_TIMEOUT).wait_for(POLL, || {
        let ended = child.try_wait()?;
        // If it has ended, another run may have been faster.
        match (client.status(), ended) {
            (Some(_), _) => Ok(Some(())),
            (None, Some(status)) => {
                let log = read_from(&log_path, logged_before).unwrap_or_default();
                bail!("starting the boot server: it ended with {status}: {}", complaint(&log));
            }
            (None, None) => Ok(None),
        }
    })?;
    answered.with_context(|| no_answer(lab, &log_path.display().to_string()))
}

/// Waits until a boot server answers that somebody else starts, and whose log is there.
///
/// # Errors
/// If it does not come up.
pub fn wait_for_answer(lab: &Lab, log: &str) -> Result<()> {
    let client = Client::new(lab)?;
    let look = || Ok(client.status().map(drop));
    let answered = Deadline::after(START_TIMEOUT).wait_for(POLL, look)?;
    answered.with_context(|| no_answer(lab, log))
}

fn no_answer(lab: &Lab, log: &str) -> String {
    format!(
        "starting the boot server: no answer from {} within {} s (its log is {log})",
        lab.boot_url(),
        START_TIMEOUT.as_secs(),
    )
}

/// Whether the process that the lab's folder names still runs.
pub fn is_running(state: &Path) -> bool {
    running(state).is_some()
}

/// The number of the process that the lab's folder names, if it still runs.
pub fn pid(state: &Path) -> Option<i32> {
    running(state).map(|pid| pid.as_raw_nonzero().get())
}

/// Ends the process that the lab's folder names, gently first.
///
/// # Errors
/// If it may not be ended, or does not end.
pub fn stop(state: &Path) -> Result<()> {
    for signal in [Signal::TERM, Signal::KILL] {
        let Some(pid) = running(state) else { return Ok(()) };
        match rustix::process::kill_process(pid, signal) {
            Ok(()) | Err(rustix::io::Errno::SRCH) => {}
            Err(error) => return Err(error).context("stopping the boot server"),
        }
        let ended = || Ok(running(state).is_none().then_some(()));
        Deadline::after(STOP_TIMEOUT).wait_for(POLL, ended)?;
    }
    if running(state).is_some() {
        bail!("stopping the boot server: it does not end");
    }
    Ok(())
}

/// Whether something can listen on `address` now.
pub fn is_free(address: SocketAddr) -> bool {
    std::net::TcpListener::bind(address).is_ok()
}

fn running(state: &Path) -> Option<Pid> {
    let mark = read_mark(state)?;
    (start_ticks(mark.pid)? == mark.start_ticks).then(|| Pid::from_raw(mark.pid))?
}

fn read_mark(state: &Path) -> Option<ProcessMark> {
    serde_json::from_str(&fs::read_to_string(state.join(PROCESS_FILE)).ok()?).ok()
}

fn start_ticks(pid: i32) -> Option<u64> {
    ProcessIdentity::of(u32::try_from(pid).ok()?).started
}

fn read_from(path: &Path, start: u64) -> Result<String> {
    let mut file = fs::File::open(path)?;
    file.seek(SeekFrom::Start(start))?;
    let mut bytes = Vec::new();
    file.read_to_end(&mut bytes)?;
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

/// What a log ends with: its last error, after which a hint may follow, or else its last line.
fn complaint(log: &str) -> &str {
    let mut lines = log.lines().rev().filter(|line| !line.trim().is_empty());
    let error = lines.clone().find_map(|line| line.strip_prefix("error: "));
    error.or_else(|| lines.next()).unwrap_or("its log is empty")
}

const PROCESS_FILE: &str = "serve.json";
const LOG_FILE: &str = "serve.log";
const START_TIMEOUT: Duration = Duration::from_secs(20);
const STOP_TIMEOUT: Duration = Duration::from_secs(3);
const POLL: Duration = Duration::from_millis(30);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_is_known_by_number_and_start() {
        let folder = tempfile::tempdir().unwrap();
        assert!(!is_running(folder.path()));
        mark_own_process(folder.path()).unwrap();
        assert!(is_running(folder.path()));
        assert!(!host_was_off(folder.path()));
        let pid = i32::try_from(std::process::id()).unwrap();
        let other = |host_boot: Option<&str>| {
            let host_boot = host_boot.map(ToOwned::to_owned);
            let mark = ProcessMark { pid, start_ticks: 1, host_boot };
            let mark = serde_json::to_string(&mark).unwrap();
            fs::write(folder.path().join(PROCESS_FILE), mark).unwrap();
        };
        other(Some("yesterday's"));
        assert!(host_was_off(folder.path()));
        other(None);
        assert!(!host_was_off(folder.path()), "an earlier virtlab noted nothing");
        assert!(!is_running(folder.path()));
        stop(folder.path()).unwrap();
    }

    #[test]
    fn a_log_is_asked_for_the_error_and_not_for_the_hint() {
        for (log, expected) in [
            ("INFO up\nerror: listening on x: in use\n\nhint: end it\n", "listening on x: in use"),
            ("error: first\n\nhint: a\nerror: second\n\nhint: b\n", "second"),
            ("thread 'main' panicked at x:\nout of luck\n\n", "out of luck"),
            ("\n", "its log is empty"),
        ] {
            assert_eq!(complaint(log), expected, "{log}");
        }
    }

    #[test]
    fn a_log_is_read_from_where_this_start_began() {
        let log = tempfile::NamedTempFile::new().unwrap();
        fs::write(log.path(), "error: yesterday\nINFO today\n").unwrap();
        assert_eq!(read_from(log.path(), 17).unwrap(), "INFO today\n");
    }
}
