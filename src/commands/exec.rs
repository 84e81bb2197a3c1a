//! `virtlab exec`: one command on many nodes at the same time.

use std::collections::BTreeMap;
use std::process::Command;
use std::sync::Mutex;

use anyhow::Result;
use serde::Serialize;

use crate::cli::login::ExecArgs;
use crate::cluster::login::{self, Channel, NOT_REACHED};
use crate::error::RemoteStatus;
use crate::lab::plan::DomainState;
use crate::output::prefix::Prefixes;
use crate::output::{Format, Table};
use crate::session::Session;
use crate::status::logins::Login;
use crate::status::targets::targets;

/// Runs the command, and ends with the highest of all exit statuses.
pub(super) fn run(session: &Session, args: &ExecArgs) -> Result<()> {
    let hypervisor = session.hypervisor()?;
    let inventory = session.observe(&hypervisor)?;
    let targets = targets(&inventory, &args.names)?;
    let user = args.login.user.as_deref();
    let logins = Login::of(&hypervisor, &session.catalogue()?, &targets, user)?;
    run_on_each(session, &logins, |login| {
        let (user, address) = login.destination()?;
        let mut ssh = login::command("ssh", args.login.identity.as_deref());
        login::make_unattended(&mut ssh);
        ssh.arg(format!("{user}@{address}")).args(&args.command);
        Ok(ssh)
    })
}

/// Runs a command for each node, all at the same time, and shows what they say and how they end.
///
/// # Errors
/// [`RemoteStatus`] with the highest exit status, unless all are 0.
pub(super) fn run_on_each(
    session: &Session,
    logins: &[Login],
    command: impl Fn(&Login) -> Result<Command>,
) -> Result<()> {
    let names: Vec<&str> = logins.iter().map(|login| login.node.name.as_str()).collect();
    let show = Show {
        session,
        prefixes: Prefixes::new(&names),
        // A document is printed in one piece.
        kept: Mutex::new(vec![Said::default(); logins.len()]),
    };
    let (on, off): (Vec<usize>, Vec<usize>) =
        (0..logins.len()).partition(|at| logins[*at].state == Some(DomainState::Running));
    let commands = on.iter().map(|at| command(&logins[*at])).collect::<Result<_>>()?;
    for at in off {
        show.line(at, Channel::Stderr, "the node does not run".to_owned());
    }
    let ended = login::run_each(commands, |at, channel, line| show.line(on[at], channel, line))?;
    let ended: BTreeMap<usize, u8> = on.into_iter().zip(ended).collect();
    let status = |at| ended.get(&at).copied().unwrap_or(NOT_REACHED);
    let statuses: Vec<u8> = (0..logins.len()).map(status).collect();
    show.end(&names, &statuses)?;
    match statuses.into_iter().max() {
        None | Some(0) => Ok(()),
        Some(status) => Err(RemoteStatus(status).into()),
    }
}

/// What a command said.
#[derive(Clone, Debug, Default, Serialize)]
struct Said {
    stdout: Vec<String>,
    stderr: Vec<String>,
}

/// What `-o json` prints, see docs/looking-in.md.
#[derive(Serialize)]
struct Document {
    schema_version: u32,
    nodes: Vec<Row>,
}

#[derive(Serialize)]
struct Row {
    name: String,
    status: u8,
    #[serde(flatten)]
    said: Said,
}

struct Show<'a> {
    session: &'a Session<'a>,
    prefixes: Prefixes,
    kept: Mutex<Vec<Said>>,
}

impl Show<'_> {
    fn line(&self, at: usize, channel: Channel, line: String) {
        let printer = self.session.printer;
        match (printer.format(), channel) {
            (Format::Table, Channel::Stdout) => printer.data(self.prefixes.put(at, &line)),
            (Format::Table, Channel::Stderr) => printer.complaint(self.prefixes.put(at, &line)),
            (_, channel) => {
                let mut kept = self.kept.lock().expect("nobody panics with it");
                match channel {
                    Channel::Stdout => kept[at].stdout.push(line),
                    Channel::Stderr => kept[at].stderr.push(line),
                }
            }
        }
    }

    /// The table of the exit statuses is conversation: stdout is what the commands gave.
    fn end(self, names: &[&str], statuses: &[u8]) -> Result<()> {
        let printer = self.session.printer;
        let mut table = Table::new(&["node", "exit"]);
        for (name, status) in names.iter().zip(statuses) {
            table.row([(*name).to_owned(), status.to_string()]);
        }
        if printer.format() == Format::Table {
            printer.note(table);
            return Ok(());
        }
        let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
        let kept = self.kept.into_inner().expect("nobody panics with it");
        let row = |((name, status), said): ((&String, &u8), Said)| Row {
            name: name.clone(),
            status: *status,
            said,
        };
        let nodes = names.iter().zip(statuses).zip(kept).map(row).collect();
        let document = Document { schema_version: SCHEMA_VERSION, nodes };
        printer.listing(&document, &names, &table)
    }
}

const SCHEMA_VERSION: u32 = 1;
