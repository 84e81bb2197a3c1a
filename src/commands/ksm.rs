//! `virtlab ksm`: kernel samepage merging of this host, for good or until it is switched off.

use anyhow::Result;

use crate::cli::ksm::{KsmCommand, OffArgs};
use crate::ksm::claims::Claims;
use crate::ksm::{KsmStatus, Run, Settings};
use crate::output::Printer;
use crate::units::human_bytes;

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
    printer.note(summary_line(&before, &ksm.status()?));
    let labs = claims.labs()?.len();
    if labs > 0 && settings.run != Some(Run::Running) {
        printer.warn(format!("KSM is off, but was asked for by {labs} running lab(s)"));
    }
    Ok(())
}

fn print(status: &KsmStatus, printer: &Printer) -> Result<()> {
    let names = [status.run.map_or("unknown", Run::name).to_owned()];
    printer.listing(status, &names, &status.table())
}

/// What was done, in one line.
fn summary_line(before: &KsmStatus, now: &KsmStatus) -> String {
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
        assert_eq!(summary_line(&stopped, &running), "KSM: running, 100 pages every 20 ms");
        assert_eq!(summary_line(&running, &running), "KSM: running, as it was");
        assert_eq!(summary_line(&running, &stopped), "KSM: stopped, 4.06 GiB still saved");
    }
}
