//! `virtlab inventory`: the labs for Ansible, by its protocol of dynamic inventories.

use anyhow::Result;

use crate::cli::login::InventoryArgs;
use crate::cluster::login;
use crate::hypervisor::Inventory;
use crate::lab::LabName;
use crate::render::inventory::{HostVars, common_args, inventory, key_file};
use crate::session::Session;
use crate::status::logins::Login;
use crate::status::{domain_word, targets};

/// Prints JSON, which is what Ansible asks for, whatever `--output` says.
pub(super) fn run(session: &Session, args: &InventoryArgs) -> Result<()> {
    let hypervisor = session.brief_hypervisor()?;
    let seen = session.observe(&hypervisor)?;
    let targets = match &args.host {
        Some(node) => vec![targets::one_node_of(&seen, node)?],
        None => targets::targets(&seen, &labs(&seen, &args.labs))?,
    };
    let user = args.login.user.as_deref();
    let logins = Login::of(&hypervisor, &session.catalogue()?, &targets, user)?;
    let key = args.login.identity.as_deref().map(std::path::absolute).transpose()?;
    let key = key.as_deref().map(key_file);
    let vars = |login: Login| HostVars {
        ansible_host: login.address,
        ansible_user: login.user,
        ansible_ssh_private_key_file: key.clone(),
        ansible_ssh_common_args: common_args(&login::OPTIONS),
        virtlab_lab: login.lab,
        virtlab_index: login.node.index,
        virtlab_mac: login.node.mac,
        virtlab_state: domain_word(login.state),
    };
    let mut hosts: Vec<(String, HostVars)> =
        logins.into_iter().map(|login| (login.node.name.clone(), vars(login))).collect();
    let text = match (&args.host, hosts.pop()) {
        (Some(_), Some((_, vars))) => serde_json::to_string_pretty(&vars)?,
        (_, last) => {
            hosts.extend(last);
            serde_json::to_string_pretty(&inventory(hosts))?
        }
    };
    session.printer.data(text);
    Ok(())
}

/// The labs that are named, or all of them.
fn labs(seen: &Inventory, named: &[LabName]) -> Vec<String> {
    let mut names = match named {
        [] => targets::lab_names(seen),
        named => named.iter().map(ToString::to_string).collect(),
    };
    names.sort();
    names
}
