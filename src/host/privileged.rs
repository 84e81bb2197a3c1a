//! Programs that need root: tried as they are, and then by `sudo -n`, which asks for nothing.

use std::io::{ErrorKind, Write};
use std::process::{Command, Output, Stdio};

use anyhow::{Context, Result, bail};

use crate::error::hinted;

/// A program of the host's that changes its network.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Tool {
    pub(crate) program: &'static str,
    /// The package that brings it, of all distributions that we know of.
    pub(crate) package: &'static str,
}

/// Of iproute2: queueing disciplines, tc(8).
pub(crate) const TC: Tool = Tool { program: "tc", package: "iproute2" };
/// Of nftables: nft(8).
pub(crate) const NFT: Tool = Tool { program: "nft", package: "nftables" };

impl Tool {
    /// Runs it with this on its stdin, and gives what it prints.
    ///
    /// # Errors
    /// If it is missing; if it takes root, with the line to type; or with what it says.
    pub(crate) fn run(self, args: &[&str], input: &str) -> Result<String> {
        let output = self.output(&[], args, input)?;
        if output.status.success() || rustix::process::geteuid().is_root() {
            return self.printed(&output);
        }
        let by_sudo = self.output(&["sudo", "-n"], args, input);
        // `sudo` speaks for itself where it does not run anything.
        let is_refused = |output: &Output| said(output).starts_with("sudo: ");
        match by_sudo {
            Ok(output) if !is_refused(&output) => self.printed(&output),
            _ => Err(hinted(
                format!("`{}` takes root, and `sudo -n` is refused", self.program),
                format!("`{}`", self.line(args, input)),
            )),
        }
    }

    /// What is typed to do it by hand.
    fn line(self, args: &[&str], input: &str) -> String {
        let line = format!("sudo {} {}", self.program, args.join(" "));
        match input.lines().collect::<Vec<_>>().join(" ") {
            input if input.is_empty() => line,
            input => format!("echo '{input}' | {line}"),
        }
    }

    fn printed(self, output: &Output) -> Result<String> {
        if !output.status.success() {
            bail!("`{}`: {}", self.program, said(output));
        }
        Ok(String::from_utf8_lossy(&output.stdout).into_owned())
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
                let Self { program, package } = self;
                bail!("`{program}` is missing (package {package})")
            }
            other => other.with_context(|| format!("running `{}`", self.program))?,
        };
        // It may end without a look at it.
        let _ = child.stdin.take().map(|mut stdin| stdin.write_all(input.as_bytes()));
        child.wait_with_output().with_context(|| format!("running `{}`", self.program))
    }
}

fn said(output: &Output) -> String {
    let text = String::from_utf8_lossy(&output.stderr);
    text.lines().next().unwrap_or_default().trim_start_matches("Error: ").to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_program_prints_is_given_and_what_it_says_is_the_error() {
        let shell = Tool { program: "sh", package: "dash" };
        assert_eq!(shell.run(&["-c", "cat"], "a\n").unwrap(), "a\n");
        let error = shell.run(&["-c", "echo 'Error: No such qdisc.\nMore' >&2; exit 2"], "");
        let error = error.unwrap_err().to_string();
        assert!(error == "`sh`: No such qdisc." || error.contains("takes root"), "{error}");
        let none = Tool { program: "no-such-program", package: "nowhere" };
        let error = none.run(&[], "").unwrap_err().to_string();
        assert_eq!(error, "`no-such-program` is missing (package nowhere)");
    }

    #[test]
    fn the_line_to_type_has_all_of_it() {
        assert_eq!(TC.line(&["qdisc", "del"], ""), "sudo tc qdisc del");
        let line = NFT.line(&["-f", "-"], "table a {\n}\n");
        assert_eq!(line, "echo 'table a { }' | sudo nft -f -");
    }
}
