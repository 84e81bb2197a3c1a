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
}

/// Notes in the lab's folder that this process is its boot server.
///
/// # Errors
/// If the folder cannot be written.
pub fn mark_own_process(state: &Path) -> Result<()> {
    let pid = i32::try_from(std::process::id())?;
    let start_ticks =
        start_ticks(pid).ok_or_else(|| anyhow!("/proc has no word of this process"))?;
    let mark = serde_json::to_string(&ProcessMark { pid, start_ticks })?;
    fs::write(state.join(PROCESS_FILE), mark)?;
    Ok(())
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
    if answered.is_some() {
        return Ok(());
    }
    bail!(
        "starting the boot server: no answer from {} within {} s (its log is {})",
        lab.boot_url(),
        START_TIMEOUT.as_secs(),
        log_path.display()
    )
}

/// Whether the process that the lab's folder names still runs.
pub fn is_running(state: &Path) -> bool {
    running(state).is_some()
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
    let mark = fs::read_to_string(state.join(PROCESS_FILE)).ok()?;
    let mark: ProcessMark = serde_json::from_str(&mark).ok()?;
    (start_ticks(mark.pid)? == mark.start_ticks).then(|| Pid::from_raw(mark.pid))?
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
        let other = ProcessMark { pid: i32::try_from(std::process::id()).unwrap(), start_ticks: 1 };
        fs::write(folder.path().join(PROCESS_FILE), serde_json::to_string(&other).unwrap())
            .unwrap();
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
