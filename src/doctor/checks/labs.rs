//! How the labs are that are there.

use super::super::lab_facts::ComesBack;
use super::super::{Facts, Finding};
use crate::lab::LabName;

/// Whether labs are half made.
pub(super) fn complete(facts: &Facts) -> Finding {
    if facts.libvirt.is_err() {
        return Finding::skipped(LABS, "cannot be told without libvirt");
    }
    if let Some(problem) = facts.labs.unreadable.first() {
        return Finding::failure(LABS, format!("this virtlab cannot read {problem}"))
            .why("it is left alone; a newer virtlab may have made it");
    }
    let labs = &facts.labs.labs;
    let Some(lab) = labs.iter().find(|lab| !lab.lacks.is_empty()) else {
        return Finding::ok(LABS, counted(labs.len(), "lab", "none is half made"));
    };
    Finding::failure(LABS, format!("lab `{}` is half made: {}", lab.name, lab.lacks.join(", ")))
        .why(format!("`virtlab destroy {}` removes it instead", lab.name))
        .mend(format!("virtlab create {}", lab.name))
}

/// Whether the nodes that are on have a boot server.
pub(super) fn boot_servers(facts: &Facts) -> Finding {
    if facts.libvirt.is_err() {
        return Finding::skipped(SERVERS, "cannot be told without libvirt");
    }
    let mut running = facts.labs.labs.iter().filter(|lab| lab.has_running_nodes).peekable();
    if running.peek().is_none() {
        return Finding::ok(SERVERS, "no lab is on that needs one");
    }
    // A lab that is half made gets its boot server with the rest.
    match running.find(|lab| !lab.is_served && lab.lacks.is_empty()) {
        None => Finding::ok(SERVERS, "the boot servers of all labs that are on answer"),
        Some(lab) => Finding::failure(
            SERVERS,
            format!("the boot server of lab `{}` at {} does not answer", lab.name, lab.boot_url),
        )
        .why("nodes that boot anew wait for it")
        .mend(format!("virtlab create {}", lab.name)),
    }
}

/// Whether labs come back with the host that are to.
pub(super) fn autostart(facts: &Facts) -> Finding {
    if facts.libvirt.is_err() {
        return Finding::skipped(AUTOSTART, "cannot be told without libvirt");
    }
    let wanted = || facts.labs.labs.iter().filter(|lab| lab.comes_back != ComesBack::Unwanted);
    let Some(lab) = wanted().find(|lab| lab.comes_back != ComesBack::Yes) else {
        return match wanted().count() {
            0 => Finding::ok(AUTOSTART, "no lab is to come back with the host"),
            count => Finding::ok(AUTOSTART, counted(count, "lab", "which come back with the host")),
        };
    };
    let on = format!("virtlab autostart {} on", lab.name);
    let (reason, why, command) = match lab.comes_back {
        ComesBack::Lacks(lack) => (
            lack.reason(),
            format!("nodes wait for it; afterwards, `{on}`"),
            lack.command().map(ToOwned::to_owned),
        ),
        _ => ("systemd was not told to start it", "nodes wait for it".to_owned(), Some(on)),
    };
    let summary =
        format!("the boot server of lab `{}` does not come back with the host: {reason}", lab.name);
    Finding::warning(AUTOSTART, summary).why(why).mend(command)
}

/// Whether folders are left of labs that are gone.
pub(super) fn folders(facts: &Facts) -> Finding {
    let Ok(libvirt) = &facts.libvirt else {
        return Finding::skipped(FOLDERS, "cannot be told without libvirt");
    };
    let orphans: Vec<&str> = facts.labs.orphans.iter().map(LabName::as_str).collect();
    if orphans.is_empty() {
        return Finding::ok(FOLDERS, "every folder of configs belongs to a lab");
    }
    Finding::warning(
        FOLDERS,
        format!("configs are kept of what is no lab here: {}", orphans.join(", ")),
    )
    .why(format!("no lab at {} has these names", libvirt.origin.uri))
    .mend(format!("virtlab destroy {}", orphans.join(" ")))
}

fn counted(count: usize, what: &str, rest: &str) -> String {
    match count {
        0 => format!("there are no {what}s"),
        1 => format!("1 {what}, {rest}"),
        _ => format!("{count} {what}s, {rest}"),
    }
}

const LABS: &str = "labs";
const SERVERS: &str = "boot-servers";
const AUTOSTART: &str = "autostart";
const FOLDERS: &str = "state-folders";
