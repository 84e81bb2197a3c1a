//! `virtlab ssh`: logs in to a node, whose name is enough: virtlab knows the address and the user.

use std::os::unix::process::CommandExt;

use anyhow::{Context, Result};

use crate::cli::login::SshArgs;
use crate::cluster::login;
use crate::session::Session;
use crate::status::logins::Login;
use crate::status::targets::one_node_of;

/// Becomes `ssh`, whose exit status is that of the remote command.
pub(super) fn run(session: &Session, args: &SshArgs) -> Result<()> {
    let hypervisor = session.hypervisor()?;
    let inventory = session.observe(&hypervisor)?;
    let target = one_node_of(&inventory, &args.node)?;
    let user = args.login.user.as_deref();
    let logins = Login::of(&hypervisor, &session.catalogue()?, &[target], user)?;
    let (user, address) = logins[0].destination()?;
    let mut ssh = login::command("ssh", args.login.identity.as_deref());
    let error = ssh.arg(format!("{user}@{address}")).args(&args.command).exec();
    Err(error).context(format!("running `ssh` ({})", login::PACKAGE))
}
