//! `virtlab ksm`: kernel samepage merging of this host, for good or until it is switched off.

use anyhow::{Context as _, Result};
use clap::{Args, Subcommand};

use crate::hint;
use crate::hypervisor::Hypervisor;
use crate::ksm::claims::{Claimed, Claims, Released};
use crate::ksm::{KsmStatus, Run, Settings};
use crate::lab::Lab;
use crate::output::Printer;
use crate::units::human_bytes;

/// What to do with KSM.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Subcommand)]
pub enum KsmCommand {
    /// Show whether pages are merged, and what it saves
    Status,
    /// Merge identical pages, until `off` or a reboot
    On(OnArgs),
    /// Stop merging; pages that are merged stay so until they change
    Off(OffArgs),
}

/// How fast to merge: faster finds more sooner and takes more CPU.
#[derive(Args, Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct OnArgs {
    /// Pages to look at before each pause [kernel's default: 100]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    pub pages_to_scan: Option<u32>,
    /// Length of the pause in milliseconds [kernel's default: 20]
    #[arg(long, value_name = "N")]
    pub sleep_millisecs: Option<u32>,
}

/// How to stop.
#[derive(Args, Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct OffArgs {
    /// Give every process its own pages back, which takes the memory that was saved
    #[arg(long)]
    pub unmerge: bool,
}

/// Runs the command on this host.
///
/// # Errors
/// A [`KsmError`](crate::ksm::KsmError), whose hints say what to type.
pub fn run(command: KsmCommand, printer: &Printer) -> Result<()> {
    run_on(&Claims::host(), command, printer)
}

/// The same on any KSM and claims.
///
/// # Errors
/// As [`run`].
pub fn run_on(claims: &Claims, command: KsmCommand, printer: &Printer) -> Result<()> {
    let ksm = claims.ksm();
    let settings = match command {
        KsmCommand::Status => None,
        KsmCommand::On(args) => Some(Settings {
            run: Some(Run::Running),
            pages_to_scan: args.pages_to_scan.map(u64::from),
            sleep_millisecs: args.sleep_millisecs.map(u64::from),
            smart_scan: None,
        }),
        KsmCommand::Off(OffArgs { unmerge }) => {
            let run = if unmerge { Run::Unmerged } else { Run::Stopped };
            Some(Settings { run: Some(run), ..Settings::default() })
        }
    };
    let Some(settings) = settings else {
        return print(&ksm.status()?, printer);
    };
    let before = ksm.status()?;
    claims.set_for_good(settings)?;
    printer.note(said(&before, &ksm.status()?));
    let labs = claims.labs()?.len();
    if labs > 0 && settings.run != Some(Run::Running) {
        printer.warn(format!("KSM is off, but was asked for by {labs} running lab(s)"));
    }
    Ok(())
}

/// Makes the host's KSM as `settings` for a lab, which need not be there yet.
pub(super) fn claim(
    printer: &Printer,
    hypervisor: &Hypervisor,
    lab: &Lab,
    settings: Settings,
) -> Result<()> {
    let claimed = Claims::host()
        .claim(lab.uuid, &hypervisor.uri()?, settings)
        .context("switching on kernel samepage merging")?;
    if claimed == Claimed::AlreadyOnUnrecorded {
        printer.note(format!(
            "KSM is on already; without permission for it nobody knows that lab `{}` wants it",
            lab.name
        ));
    }
    Ok(())
}

/// Says what the end of a claim did. The lab is gone, so that KSM cannot be put back is a warning.
pub(super) fn tell(printer: &Printer, released: Result<Released>) {
    match released {
        Ok(Released::Nothing | Released::StillClaimed { .. }) => {}
        Ok(Released::Restored { foreign }) => {
            printer.note("KSM is as it was before the first lab that asked for it");
            for setting in foreign {
                printer.warn(setting);
            }
        }
        Err(error) => {
            printer.warn(format!("putting KSM back as it was: {error:#}"));
            for hint in hint::hints(&error) {
                printer.note(format!("hint: {hint}"));
            }
        }
    }
}

fn print(status: &KsmStatus, printer: &Printer) -> Result<()> {
    let names = [status.run.map_or("unknown", Run::name).to_owned()];
    printer.listing(status, &names, &status.table())
}

/// What was done, in one line.
fn said(before: &KsmStatus, now: &KsmStatus) -> String {
    let state = now.run.map_or("unknown", Run::name);
    if before.settings() == now.settings() {
        return format!("KSM: {state}, as it was");
    }
    let speed = format!("{} pages every {} ms", now.pages_to_scan, now.sleep_millisecs);
    let saved = human_bytes(now.saved_bytes());
    match now.run {
        Some(Run::Running) => format!("KSM: {state}, {speed}"),
        _ => format!("KSM: {state}, {saved} still saved"),
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;
    use crate::ksm::Ksm;
    use crate::ksm::process::Processes;
    use crate::ksm::tests::{file, recorded_tree};
    use crate::output::Format;

    #[derive(Parser)]
    struct Cli {
        #[command(subcommand)]
        command: KsmCommand,
    }

    fn parse(line: &str) -> Result<KsmCommand, clap::Error> {
        Cli::try_parse_from(line.split(' ')).map(|cli| cli.command)
    }

    #[test]
    fn switches_and_sets_the_speed() {
        let tree = recorded_tree(&[]);
        let dir = tempfile::tempdir().unwrap();
        let claims = Claims::at(dir.path(), Ksm::at(tree.path()), Processes::host());
        let printer = Printer::new(true, Format::Table);
        let table = [
            ("ksm on", ["1", "100", "20"]),
            ("ksm on --pages-to-scan 5000 --sleep-millisecs 10", ["1", "5000", "10"]),
            ("ksm off", ["0", "5000", "10"]),
            ("ksm off --unmerge", ["2", "5000", "10"]),
            ("ksm status", ["2", "5000", "10"]),
        ];
        for (line, expected) in table {
            run_on(&claims, parse(line).unwrap(), &printer).unwrap();
            let now = ["run", "pages_to_scan", "sleep_millisecs"].map(|name| file(&tree, name));
            assert_eq!(now, expected, "{line}");
        }
    }

    #[test]
    fn a_speed_of_nothing_is_refused() {
        assert!(parse("ksm on --pages-to-scan 0").is_err());
        assert!(parse("ksm on --sleep-millisecs -1").is_err());
    }

    #[test]
    fn says_what_it_did() {
        let tree = recorded_tree(&[]);
        let mut stopped = Ksm::at(tree.path()).status().unwrap();
        stopped.page_size_bytes = 4096;
        let running = KsmStatus { run: Some(Run::Running), ..stopped.clone() };
        assert_eq!(said(&stopped, &running), "KSM: running, 100 pages every 20 ms");
        assert_eq!(said(&running, &running), "KSM: running, as it was");
        assert_eq!(said(&running, &stopped), "KSM: stopped, 4.06 GiB still saved");
    }
}
