//! `virtlab ssh`: logs in to a node, whose name is enough: virtlab knows the address and the user.

use std::net::IpAddr;
use std::os::unix::process::CommandExt;
use std::process::Command;

use anyhow::{Context, Result};

use crate::cli::SshArgs;
use crate::error::hinted;
use crate::hypervisor::Hypervisor;
use crate::lab::{Lab, Node};
use crate::session::Session;
use crate::status::addresses;
use crate::status::targets::one_node;

/// Becomes `ssh`, whose exit status is that of the remote command.
pub(super) fn run(session: &Session, args: &SshArgs) -> Result<()> {
    let hypervisor = session.hypervisor()?;
    let inventory = session.observe(&hypervisor)?;
    let (found, node) = one_node(&inventory, &args.node)?;
    let lab = &found.lab;
    let target = format!("{}@{}", user(session, lab, args)?, address(&hypervisor, lab, &node)?);
    let mut ssh = Command::new("ssh");
    ssh.args(OPTIONS);
    if let Some(identity) = &args.identity {
        ssh.arg("-i").arg(identity);
    }
    let error = ssh.arg(target).args(&args.command).exec();
    Err(error).context("running `ssh` (package openssh-client)")
}

fn user(session: &Session, lab: &Lab, args: &SshArgs) -> Result<String> {
    if let Some(user) = &args.user {
        return Ok(user.clone());
    }
    let image = session.catalogue()?.find(&lab.spec.image.name)?;
    image.ssh_user.ok_or_else(|| {
        hinted(
            format!("image `{}` names nobody to log in as", image.name),
            "name a user by --user; `virtlab console NODE` needs no sshd",
        )
    })
}

fn address(hypervisor: &Hypervisor, lab: &Lab, node: &Node) -> Result<IpAddr> {
    let addresses = addresses::find(hypervisor, lab, true)?;
    let address = addresses.get(&node.index);
    address.copied().with_context(|| format!("nobody knows the address of node `{}`", node.name))
}

/// A node in RAM has new host keys after each boot, and its address may have been another lab's.
const OPTIONS: [&str; 6] = [
    "-o",
    "StrictHostKeyChecking=no",
    "-o",
    "UserKnownHostsFile=/dev/null",
    "-o",
    "LogLevel=ERROR",
];
