//! `virtlab doctor`: whether this host is fit for labs, and what mends it.

use anstyle::{AnsiColor, Style};
use anyhow::{Result, bail};
use serde::Serialize;

use crate::doctor::{self, Finding, Level};
use crate::output::{Format, Printer, Table, sanitize};
use crate::session::Session;

/// What `-o json` prints.
#[derive(Serialize)]
struct Report<'a> {
    schema_version: u32,
    /// Whether nothing fails.
    ok: bool,
    checks: &'a [Finding],
}

pub(super) fn run(session: &Session) -> Result<()> {
    let findings = doctor::examine(session);
    print(session.printer, &findings)?;
    let failures = findings.iter().filter(|finding| finding.level == Level::Failure).count();
    if failures > 0 {
        bail!("{failures} of {} checks failed", findings.len());
    }
    Ok(())
}

fn print(printer: &Printer, findings: &[Finding]) -> Result<()> {
    if printer.format() == Format::Table {
        for finding in findings {
            printer.data(lines(finding));
        }
        return Ok(());
    }
    let ok = findings.iter().all(|finding| finding.level != Level::Failure);
    let report = Report { schema_version: SCHEMA_VERSION, ok, checks: findings };
    let names: Vec<String> = findings.iter().map(|finding| finding.check.to_owned()).collect();
    printer.listing(&report, &names, &Table::new(&[]))
}

/// One line, and below it what is to be done.
fn lines(finding: &Finding) -> String {
    let style = match finding.level {
        Level::Skipped => Style::new().dimmed(),
        Level::Ok => AnsiColor::Green.on_default(),
        Level::Warning => AnsiColor::Yellow.on_default().bold(),
        Level::Failure => AnsiColor::Red.on_default().bold(),
    };
    let word = finding.level.word();
    let first =
        format!("{style}{word:<7}{style:#}  {:<14}  {}", finding.check, sanitize(&finding.summary));
    let why = finding.why.as_ref().map(|why| format!("{INDENT}{}", sanitize(why)));
    let command = finding.command.as_ref().map(|it| format!("{INDENT}$ {}", sanitize(it)));
    [Some(first), why, command].into_iter().flatten().collect::<Vec<_>>().join("\n")
}

/// Grows when a field changes its meaning or goes.
const SCHEMA_VERSION: u32 = 1;
/// Below the summary.
const INDENT: &str = "                         ";
