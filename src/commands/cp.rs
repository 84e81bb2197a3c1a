//! `virtlab cp`: files to and from nodes.

use std::os::unix::process::CommandExt;
use std::process::Command;

use anyhow::{Context, Result, bail};

use super::exec::run_on_each;
use crate::cli::login::CpArgs;
use crate::cluster::login;
use crate::error::hinted;
use crate::hypervisor::{Hypervisor, Inventory};
use crate::session::Session;
use crate::status::logins::Login;
use crate::status::targets::targets;

/// Copies; to several nodes at the same time.
pub(super) fn run(session: &Session, args: &CpArgs) -> Result<()> {
    let places: Vec<Place> = args.paths.iter().map(|path| Place::parse(path)).collect();
    let Some((to, from)) = places.split_last() else { bail!("there is nothing to copy") };
    if !places.iter().any(|place| matches!(place, Place::There { .. })) {
        return Err(hinted(
            "no path is that of a node",
            "a path on a node is NODE:PATH, such as demo-1:/etc/hostname",
        ));
    }
    let hypervisor = session.hypervisor()?;
    let inventory = session.observe(&hypervisor)?;
    let known = Known { session, hypervisor: &hypervisor, inventory: &inventory, args };
    let from: Vec<String> = from.iter().map(|place| known.source(place)).collect::<Result<_>>()?;
    let command = |to: &str| {
        let mut scp = login::command("scp", args.login.identity.as_deref());
        // By way of this computer: nodes cannot log in to each other.
        scp.arg("-3");
        if args.recursive {
            scp.arg("-r");
        }
        (scp, [&from[..], &[to.to_owned()]].concat())
    };
    let (logins, path) = match to {
        Place::Here(path) => return become_scp(command(path)),
        Place::There { name, path } => (known.logins(name)?, path),
    };
    let place = |login: &Login| {
        let (user, address) = login.destination()?;
        Ok::<_, anyhow::Error>(login::place(user, address, path))
    };
    if let [login] = &logins[..] {
        return become_scp(command(&place(login)?));
    }
    run_on_each(session, &logins, |login| {
        let (mut scp, paths) = command(&place(login)?);
        login::make_unattended(&mut scp);
        scp.arg("-q").arg("--").args(paths);
        Ok(scp)
    })
}

/// A single copy shows its progress itself.
fn become_scp((mut scp, paths): (Command, Vec<String>)) -> Result<()> {
    let error = scp.arg("--").args(paths).exec();
    Err(error).context(format!("running `scp` ({})", login::PACKAGE))
}

struct Known<'a> {
    session: &'a Session<'a>,
    hypervisor: &'a Hypervisor,
    inventory: &'a Inventory,
    args: &'a CpArgs,
}

impl Known<'_> {
    fn logins(&self, name: &str) -> Result<Vec<Login>> {
        let targets = targets(self.inventory, &[name])?;
        let user = self.args.login.user.as_deref();
        Login::of(self.hypervisor, &self.session.catalogue()?, &targets, user)
    }

    /// What is copied is in one place.
    fn source(&self, place: &Place) -> Result<String> {
        let (name, path) = match place {
            Place::Here(path) => return Ok(path.clone()),
            Place::There { name, path } => (name, path),
        };
        let logins = self.logins(name)?;
        let [login] = &logins[..] else {
            return Err(hinted(
                format!(
                    "`{name}:{path}` is on {} nodes, which would overwrite each other",
                    logins.len()
                ),
                format!("name one of them, such as {}:{path}", logins[0].node.name),
            ));
        };
        let (user, address) = login.destination()?;
        Ok(login::place(user, address, path))
    }
}

/// A path of the command line.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Place {
    Here(String),
    There { name: String, path: String },
}

impl Place {
    /// As scp has it: what has a colon before any slash is there.
    fn parse(text: &str) -> Self {
        match text.split_once(':') {
            Some((name, path)) if !name.is_empty() && !name.contains('/') => {
                Self::There { name: name.to_owned(), path: path.to_owned() }
            }
            _ => Self::Here(text.to_owned()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_is_there_if_a_name_and_a_colon_stand_before_any_slash() {
        let there = |name: &str, path: &str| Place::There { name: name.into(), path: path.into() };
        for (text, expected) in [
            ("demo-1:/etc/hostname", there("demo-1", "/etc/hostname")),
            ("demo:", there("demo", "")),
            ("demo-1:a:b", there("demo-1", "a:b")),
            ("./a:b", Place::Here("./a:b".into())),
            ("/tmp/a:b", Place::Here("/tmp/a:b".into())),
            (":x", Place::Here(":x".into())),
            ("x", Place::Here("x".into())),
        ] {
            assert_eq!(Place::parse(text), expected, "{text}");
        }
    }
}
