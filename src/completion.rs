//! Completion on the command line. The shell asks virtlab itself, which knows the labs and nodes there are.

use std::ffi::{OsStr, OsString};

use anyhow::{Context, Result};
use clap::{Arg, Command, CommandFactory};
use clap_complete::CompleteEnv;
use clap_complete::engine::{
    ArgValueCompleter, CompletionCandidate, PathCompleter, ValueCompleter,
};
use clap_complete::env::Shells;

use crate::cli::Cli;
use crate::hypervisor::{Hypervisor, Inventory};
use crate::lab::node_word::NodeWord;
use crate::lab::snapshot::SnapshotFile;
use crate::output::{Format, Printer};
use crate::session::Session;
use crate::status::targets;

/// Answers the shell if it is the shell that runs us, and exits then.
pub fn answer() {
    let described = || {
        let mut command = Cli::command();
        command.build();
        with_names(command)
    };
    CompleteEnv::with_factory(described).var(VARIABLE).complete();
}

/// The script that makes a shell ask us.
///
/// # Errors
/// If the shell is not known.
pub fn script(shell: &str) -> Result<String> {
    let shells = Shells::builtins();
    let shell = shells.completer(shell).with_context(|| format!("shell `{shell}` is not known"))?;
    let mut script = Vec::new();
    shell
        .write_registration(VARIABLE, "virtlab", "virtlab", "virtlab", &mut script)
        .context("writing the completion script")?;
    Ok(String::from_utf8_lossy(&script).into_owned())
}

/// What an argument takes is told by the name of its value, in whatever command: LAB, NODE, NODE|LAB.
fn with_names(command: Command) -> Command {
    let complete = |argument: Arg| match Takes::of(&argument) {
        Some(takes) => argument.add(names(takes)),
        None => argument,
    };
    command.mut_args(complete).mut_subcommands(with_names)
}

/// What an argument takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Takes {
    Labs,
    Nodes,
    LabsAndNodes,
    /// And words that choose nodes of a lab.
    LabsNodesAndWords,
    /// Images of the catalogue, or paths of their entries.
    Images,
    /// Kinds of networks, or libvirt networks that are there.
    Networks,
    /// Snapshots of the lab that is named before.
    Snapshots,
    /// Paths, here or there.
    Paths,
    /// When a node is ready; what has to be added to some of them nobody knows.
    Criteria,
}

impl Takes {
    fn of(argument: &Arg) -> Option<Self> {
        let mut names = argument.get_value_names()?.iter().map(clap::builder::Str::as_str);
        names.find_map(|name| match name {
            "LAB" => Some(Self::Labs),
            "NODE" => Some(Self::Nodes),
            "NODE|LAB" => Some(Self::LabsAndNodes),
            "NODE|LAB|WORD" => Some(Self::LabsNodesAndWords),
            "IMAGE" => Some(Self::Images),
            "NETWORK" => Some(Self::Networks),
            "SNAPSHOT" => Some(Self::Snapshots),
            "[NODE:]PATH" => Some(Self::Paths),
            "config|ssh|etcd|…" => Some(Self::Criteria),
            _ => None,
        })
    }
}

/// Completes names of the connection that the command line names.
fn names(takes: Takes) -> ArgValueCompleter {
    ArgValueCompleter::new(move |typed: &OsStr| {
        let words: Vec<OsString> = std::env::args_os().collect();
        // An error message in the middle of a command line helps nobody.
        let names = known(&words, takes).unwrap_or_default();
        let typed = typed.to_string_lossy();
        let matching = names.into_iter().filter(|name| name.starts_with(typed.as_ref()));
        let mut candidates: Vec<_> = matching.map(CompletionCandidate::new).collect();
        if matches!(takes, Takes::Paths | Takes::Images) {
            candidates.extend(PathCompleter::any().complete(typed.as_ref().as_ref()));
        }
        candidates
    })
}

fn known(words: &[OsString], takes: Takes) -> Result<Vec<String>> {
    let uri = connection(words);
    let open = || Hypervisor::open_briefly(uri.as_deref());
    let observe = || open()?.observe();
    let mut names = match takes {
        Takes::Images => images()?,
        Takes::Criteria => CRITERIA.map(str::to_owned).to_vec(),
        Takes::Snapshots => snapshots(&open()?, words)?,
        // The kinds are known without libvirt.
        Takes::Networks => {
            let there = observe().map(|inventory| inventory.foreign.networks).unwrap_or_default();
            NETWORKS.iter().map(|kind| (*kind).to_owned()).chain(there).collect()
        }
        _ => of_labs(&observe()?, takes),
    };
    names.sort();
    names.dedup();
    Ok(names)
}

fn images() -> Result<Vec<String>> {
    let printer = Printer::new(true, Format::default());
    let catalogue = Session::new(&printer, None, None).catalogue()?;
    Ok(catalogue.list().into_iter().map(|(name, _)| name).collect())
}

/// Those of the first lab that the command line names.
fn snapshots(hypervisor: &Hypervisor, words: &[OsString]) -> Result<Vec<String>> {
    let inventory = hypervisor.observe()?;
    let labs = words.iter().filter_map(|word| inventory.lab(&word.to_str()?.parse().ok()?));
    let Some(found) = labs.into_iter().next() else { return Ok(Vec::new()) };
    let files = hypervisor.pool_files(&found.lab)?;
    let name = |file: &String| match SnapshotFile::of(file) {
        Some(SnapshotFile::Manifest(name)) => Some(name.to_string()),
        _ => None,
    };
    Ok(files.iter().filter_map(name).collect())
}

fn of_labs(inventory: &Inventory, takes: Takes) -> Vec<String> {
    match takes {
        Takes::Labs => targets::lab_names(inventory),
        Takes::Nodes => targets::node_names(inventory),
        Takes::LabsAndNodes => targets::names(inventory),
        Takes::LabsNodesAndWords => {
            let words = NodeWord::ALL.into_iter().filter(|word| *word != NodeWord::Others);
            let words = words.map(|word| word.name().to_owned());
            targets::names(inventory).into_iter().chain(words).collect()
        }
        Takes::Paths => targets::names(inventory).iter().map(|name| format!("{name}:")).collect(),
        Takes::Images | Takes::Networks | Takes::Snapshots | Takes::Criteria => Vec::new(),
    }
}

/// What `-c` or `--connect` says in a command line that may not be finished. Without it, libvirt
/// reads `LIBVIRT_DEFAULT_URI` itself.
fn connection(words: &[OsString]) -> Option<String> {
    let words: Vec<&str> = words.iter().filter_map(|word| word.to_str()).collect();
    let attached = |word: &str| {
        let uri = word.strip_prefix("--connect=").or_else(|| word.strip_prefix("-c"));
        uri.filter(|uri| !uri.is_empty()).map(ToOwned::to_owned)
    };
    words.iter().enumerate().find_map(|(index, word)| match *word {
        "-c" | "--connect" => words.get(index + 1).map(|uri| (*uri).to_owned()),
        word => attached(word),
    })
}

/// What `--network` takes beside names of libvirt's.
const NETWORKS: [&str; 4] = ["nat", "isolated", "routed", "bridge"];
/// How criteria of `--ready` begin.
const CRITERIA: [&str; 6] = ["config", "ssh", "etcd", "tcp:", "http://:", "command:"];
/// What tells a run by the shell from one by a person.
const VARIABLE: &str = "COMPLETE";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_connection_is_found_in_every_spelling() {
        for (line, uri) in [
            ("virtlab -c test:///x status", Some("test:///x")),
            ("virtlab status --connect test:///x", Some("test:///x")),
            ("virtlab status --connect=test:///x", Some("test:///x")),
            ("virtlab status -ctest:///x demo", Some("test:///x")),
            ("virtlab status demo", None),
            ("virtlab status -c", None),
        ] {
            let words: Vec<OsString> = line.split(' ').map(OsString::from).collect();
            assert_eq!(connection(&words).as_deref(), uri, "{line}");
        }
    }
}
