//! Logging in to nodes by the user's own `ssh` and `scp`.

use std::io::{self, Read};
use std::net::IpAddr;
use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::thread;

use anyhow::{Context, Result};

use crate::output::guest_text::Lines;

/// `ssh` or `scp` with the options that nodes need.
pub(crate) fn command(program: &str, identity: Option<&Path>) -> Command {
    let mut command = Command::new(program);
    for (name, value) in OPTIONS {
        command.arg("-o").arg(format!("{name}={value}"));
    }
    if let Some(identity) = identity {
        command.arg("-i").arg(identity);
    }
    command
}

/// Makes a command ask nobody for a password, and give up soon where nobody answers: there are others beside it.
pub(crate) fn make_unattended(command: &mut Command) {
    command.args(["-o", "BatchMode=yes", "-o", "ConnectTimeout=10"]);
}

/// An address with a path behind it, as `scp` takes it.
pub(crate) fn place(user: &str, address: IpAddr, path: &str) -> String {
    match address {
        IpAddr::V4(address) => format!("{user}@{address}:{path}"),
        IpAddr::V6(address) => format!("{user}@[{address}]:{path}"),
    }
}

/// Where a line of a command comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Channel {
    /// What it is to give.
    Stdout,
    /// What it has to say.
    Stderr,
}

/// Runs all commands at the same time. `line` gets each line, made harmless, with the command's position. The exit
/// statuses are those that a shell would give.
pub(crate) fn run_each(
    commands: Vec<Command>,
    line: impl Fn(usize, Channel, String) + Sync,
) -> Result<Vec<u8>> {
    let mut children = Vec::with_capacity(commands.len());
    for mut command in commands {
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let doing = format!("running `{}` ({PACKAGE})", command.get_program().display());
        children.push(command.spawn().context(doing)?);
    }
    let line = &line;
    thread::scope(|scope| {
        let wait = |(position, child): (usize, Child)| {
            scope.spawn(move || status(child, |channel, text| line(position, channel, text)))
        };
        let threads: Vec<_> = children.into_iter().enumerate().map(wait).collect();
        let wait = |thread: thread::ScopedJoinHandle<io::Result<u8>>| {
            let status = thread.join().expect("reading does not panic");
            status.context("reading what a command says")
        };
        threads.into_iter().map(wait).collect()
    })
}

fn status(mut child: Child, line: impl Fn(Channel, String) + Sync) -> io::Result<u8> {
    let (stdout, stderr) = (child.stdout.take(), child.stderr.take());
    thread::scope(|scope| {
        let line = &line;
        let reading = stderr
            .map(|stderr| scope.spawn(move || read(stderr, |text| line(Channel::Stderr, text))));
        let read = stdout.map_or(Ok(()), |stdout| read(stdout, |text| line(Channel::Stdout, text)));
        let other = reading.map_or(Ok(()), |it| it.join().expect("reading does not panic"));
        read.and(other)
    })?;
    Ok(code(child.wait()?))
}

fn read(mut from: impl Read, line: impl Fn(String)) -> io::Result<()> {
    let mut lines = Lines::default();
    let mut buffer = vec![0; BUFFER];
    loop {
        let read = from.read(&mut buffer)?;
        if read == 0 {
            lines.rest().into_iter().for_each(line);
            return Ok(());
        }
        lines.push(&buffer[..read]).into_iter().for_each(&line);
    }
}

fn code(status: ExitStatus) -> u8 {
    let by_signal = || status.signal().map(|signal| signal + BY_SIGNAL);
    status.code().or_else(by_signal).and_then(|code| u8::try_from(code).ok()).unwrap_or(u8::MAX)
}

/// A node in RAM has new host keys after each boot, and its address may have been another lab's.
pub(crate) const OPTIONS: [(&str, &str); 3] =
    [("StrictHostKeyChecking", "no"), ("UserKnownHostsFile", "/dev/null"), ("LogLevel", "ERROR")];
/// The package of the programs.
pub(crate) const PACKAGE: &str = "package openssh-client";
/// What `ssh` ends with if it did not get as far as the command.
pub(crate) const NOT_REACHED: u8 = 255;
const BY_SIGNAL: i32 = 128;
const BUFFER: usize = 8192;

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use super::*;

    #[test]
    fn commands_run_side_by_side_and_each_has_its_lines_and_its_status() {
        let shell = |script: &str| {
            let mut command = Command::new("sh");
            command.args(["-c", script]);
            command
        };
        let said = Mutex::new(Vec::new());
        let scripts = ["printf 'a\\n\\033[31mb'; echo c >&2; exit 3", "true", "kill -9 $$"];
        let statuses = run_each(scripts.map(shell).into(), |position, channel, line| {
            said.lock().unwrap().push((position, channel == Channel::Stderr, line));
        });
        assert_eq!(statuses.unwrap(), [3, 0, 137]);
        let mut said = said.into_inner().unwrap();
        said.sort();
        let expected = [(0, false, "a"), (0, false, "b"), (0, true, "c")];
        assert_eq!(said, expected.map(|(position, err, line)| (position, err, line.to_owned())));
    }

    #[test]
    fn what_does_not_wait_for_another_is_not_kept_waiting() {
        // Each waits for the other's file.
        let folder = tempfile::tempdir().unwrap();
        let script = |own: &str, other: &str| {
            let mut command = Command::new("sh");
            let script = format!("touch {own}; until [ -e {other} ]; do sleep 0.01; done");
            command.args(["-c", &script]).current_dir(folder.path());
            command
        };
        let statuses = run_each(vec![script("a", "b"), script("b", "a")], |_, _, _| ()).unwrap();
        assert_eq!(statuses, [0, 0]);
    }

    #[test]
    fn a_place_is_as_scp_takes_it() {
        let place = |address: &str| place("core", address.parse().unwrap(), "/x");
        assert_eq!(place("192.0.2.1"), "core@192.0.2.1:/x");
        assert_eq!(place("2001:db8::1"), "core@[2001:db8::1]:/x");
    }
}
