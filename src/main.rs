//! Parses, runs, prints, exits.

use std::io::Write as _;
use std::process::ExitCode;

use clap::Parser;
use virtlab::cli::Cli;
use virtlab::output::{Printer, cut_lines};
use virtlab::{commands, completion, error, hint};

fn main() -> ExitCode {
    completion::answer();
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => return refuse_usage(&error),
    };
    let printer = Printer::new(cli.global.quiet, cli.global.output);
    let failed = ExitCode::from(cli.command.failed());
    let Err(error) = commands::run(cli, &printer) else { return ExitCode::SUCCESS };

    if error.is::<error::Differs>() {
        return ExitCode::FAILURE;
    }
    if error.is::<error::Interrupted>() {
        printer.note("interrupted");
        // So that the shell sees what happened, and a script's loop ends.
        let _ = signal_hook::low_level::emulate_default_handler(signal_hook::consts::SIGINT);
        return ExitCode::from(INTERRUPTED);
    }
    if let Some(error::RemoteStatus(status)) = error.downcast_ref() {
        return ExitCode::from(*status);
    }
    printer.error(&error, &hint::hints(&error));
    if error.is::<error::TimedOut>() { ExitCode::from(TIMED_OUT) } else { failed }
}

/// As clap itself does it, but without repeating an argument of any length.
fn refuse_usage(error: &clap::Error) -> ExitCode {
    let text = error.render().to_string();
    let cut = cut_lines(&text);
    // Nobody is told when even this cannot be written.
    let _ = if cut == text { error.print() } else { write!(anstream::stderr(), "{cut}") };
    u8::try_from(error.exit_code()).map_or(ExitCode::FAILURE, ExitCode::from)
}

const TIMED_OUT: u8 = 3;
const INTERRUPTED: u8 = 130;
