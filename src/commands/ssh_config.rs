//! `virtlab ssh-config`: what `ssh -F` needs to know of the nodes.

use anyhow::Result;

use crate::cli::login::SshConfigArgs;
use crate::cluster::login;
use crate::render::ssh_config::{Host, ssh_config};
use crate::session::Session;
use crate::status::logins::Login;
use crate::status::targets::targets;

pub(super) fn run(session: &Session, args: &SshConfigArgs) -> Result<()> {
    let hypervisor = session.brief_hypervisor()?;
    let inventory = session.observe(&hypervisor)?;
    let targets = targets(&inventory, &args.names)?;
    let user = args.login.user.as_deref();
    let logins = Login::of(&hypervisor, &session.catalogue()?, &targets, user)?;
    let hosts: Vec<Host> = logins.iter().map(host).collect();
    let identity = args.login.identity.as_deref().map(std::path::absolute).transpose()?;
    let text = ssh_config(&hosts, identity.as_deref(), &login::OPTIONS);
    session.printer.data(text.trim_end());
    Ok(())
}

fn host(login: &Login) -> Host<'_> {
    Host { name: &login.node.name, address: login.address, user: login.user.as_deref() }
}
