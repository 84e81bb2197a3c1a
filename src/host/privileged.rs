//! Programs that need root: tried as they are, and then by `sudo -n`, which asks for nothing.

use std::error::Error;
use std::fmt;
use std::io::{ErrorKind, Write};
use std::process::{Command, Output, Stdio};

use anyhow::{Context, Result, anyhow};

/// A program that changes the network of the host, or of its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Tool {
    pub(crate) program: &'static str,
    /// The package that brings it, of all distributions that we know of.
    pub(crate) package: &'static str,
}

/// Queueing disciplines, tc(8).
pub(crate) const TC: Tool = Tool { program: "tc", package: "iproute2" };
/// Packet filters, nft(8).
pub(crate) const NFT: Tool = Tool { program: "nft", package: "nftables" };
/// Namespaces for trials of which nothing is left, unshare(1).
pub(crate) const UNSHARE: Tool = Tool { program: "unshare", package: "util-linux" };

/// Why a program was not run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum NotRun {
    /// It is not there.
    Missing(Tool),
    /// It takes root, and nobody gives it that.
    NoRoot(Tool),
}

impl fmt::Display for NotRun {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Missing(Tool { program, package }) => {
                write!(f, "`{program}` is missing (package {package})")
            }
            Self::NoRoot(Tool { program, .. }) => {
                write!(f, "`{program}` takes root, and `sudo -n` is refused")
            }
        }
    }
}

impl Error for NotRun {}

impl Tool {
    /// Runs it with this on its stdin, and gives what it prints.
    ///
    /// # Errors
    /// [`NotRun`], or what it says.
    pub(crate) fn run(self, args: &[&str], input: &str) -> Result<String> {
        let output = self.output(&[], args, input)?;
        if output.status.success() || rustix::process::geteuid().is_root() {
            return self.printed(&output);
        }
        match self.output(&["sudo", "-n"], args, input) {
            Ok(output) if !is_refused(&output) => self.printed(&output),
            _ => Err(NotRun::NoRoot(self).into()),
        }
    }

    /// What is typed to do the same by hand.
    pub(crate) fn line(self, args: &[&str], input: &str) -> String {
        let line = format!("sudo {} {}", self.program, args.join(" "));
        let input = input.split_whitespace().collect::<Vec<_>>().join(" ");
        if input.is_empty() { line } else { format!("echo '{input}' | {line}") }
    }

    fn printed(self, output: &Output) -> Result<String> {
        if output.status.success() {
            return Ok(String::from_utf8_lossy(&output.stdout).into_owned());
        }
        let said = said(output);
        let own = said.iter().find(|line| !is_of_sudo(line));
        let own = own.map(|line| line.trim_start_matches("Error: "));
        Err(anyhow!("`{}`: {}", self.program, own.unwrap_or_default()))
    }

    fn output(self, before: &[&str], args: &[&str], input: &str) -> Result<Output> {
        let words: Vec<&str> = before.iter().chain(&[self.program]).chain(args).copied().collect();
        // An ordinary user's PATH may lack the folders of the administrator's programs.
        let path = std::env::var("PATH").unwrap_or_default();
        let child = Command::new(words[0])
            .args(&words[1..])
            .env("PATH", format!("{path}:/usr/sbin:/sbin"))
            .env("LC_ALL", "C")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn();
        let mut child = match child {
            Err(error) if error.kind() == ErrorKind::NotFound => {
                return Err(NotRun::Missing(self).into());
            }
            other => other.with_context(|| format!("running `{}`", self.program))?,
        };
        // It may end without a look at it.
        let _ = child.stdin.take().map(|mut stdin| stdin.write_all(input.as_bytes()));
        child.wait_with_output().with_context(|| format!("running `{}`", self.program))
    }
}

fn said(output: &Output) -> Vec<String> {
    String::from_utf8_lossy(&output.stderr).lines().map(str::to_owned).collect()
}

/// `sudo` may warn of something and run the program all the same; what it refuses it says last.
fn is_refused(output: &Output) -> bool {
    !output.status.success() && said(output).last().is_none_or(|line| is_of_sudo(line))
}

fn is_of_sudo(line: &str) -> bool {
    line.starts_with("sudo: ") || line.starts_with("Sorry, user ")
}

#[cfg(test)]
mod tests {
    use std::os::unix::process::ExitStatusExt;
    use std::process::ExitStatus;

    use super::*;

    #[test]
    fn what_a_program_prints_is_given() {
        let shell = Tool { program: "sh", package: "dash" };
        assert_eq!(shell.run(&["-c", "cat"], "a\n").unwrap(), "a\n");
        let none = Tool { program: "no-such-program", package: "nowhere" };
        let error = none.run(&[], "").unwrap_err();
        assert_eq!(error.to_string(), "`no-such-program` is missing (package nowhere)");
        assert_eq!(error.downcast_ref(), Some(&NotRun::Missing(none)));
    }

    #[test]
    fn what_sudo_refuses_is_told_from_what_it_warns_of() {
        for (code, stderr, refused, error) in [
            (0, "sudo: unable to resolve host a\n", false, None),
            (1, "sudo: a password is required\n", true, None),
            (
                1,
                "Sorry, user u is not allowed to execute '/usr/sbin/tc' as root on a.\n",
                true,
                None,
            ),
            (
                2,
                "sudo: unable to resolve host a\nError: No such qdisc.\nMore\n",
                false,
                Some("`tc`: No such qdisc."),
            ),
        ] {
            let status = ExitStatus::from_raw(code << 8);
            let output = Output { status, stdout: Vec::new(), stderr: stderr.into() };
            assert_eq!(is_refused(&output), refused, "{stderr}");
            if let Some(error) = error {
                assert_eq!(TC.printed(&output).unwrap_err().to_string(), error);
            }
        }
    }

    #[test]
    fn the_line_to_type_has_all_of_it() {
        assert_eq!(TC.line(&["qdisc", "del"], ""), "sudo tc qdisc del");
        let line = NFT.line(&["-f", "-"], "table a {\n  b\n}\n");
        assert_eq!(line, "echo 'table a { b }' | sudo nft -f -");
    }
}
