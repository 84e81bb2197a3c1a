//! One file a verb: parse, one operation, print.

mod autostart;
mod console;
mod cp;
mod create;
mod curve;
mod destroy;
mod diff;
mod doctor;
mod drill;
mod events;
mod exec;
mod explain;
mod fault;
pub mod image;
mod inventory;
pub mod ksm;
mod list;
mod logs;
mod memory;
mod node_states;
mod node_table;
mod open;
mod power;
mod progress;
mod pxe;
mod render;
mod scale;
mod serve;
mod snapshot;
mod ssh;
mod ssh_config;
mod status;
mod timeline;
mod verdict;
mod verify;
mod version;
mod wait;
mod watch;

use anstream::{AutoStream, ColorChoice};
use anyhow::Result;
use tracing_subscriber::EnvFilter;

use crate::cli::{Cli, Command, Global};
use crate::completion;
use crate::output::Printer;
use crate::session::Session;
use crate::status::discovery::DiscoveryStatus;

/// Does what the command line says.
///
/// # Errors
/// Whatever went wrong, for `main` to print.
pub fn run(cli: Cli, printer: &Printer) -> Result<()> {
    let default_level = match (&cli.command, cli.global.verbose) {
        (Command::Serve(_), 0) | (_, 1) => "virtlab=info",
        (_, 0) => "virtlab=warn",
        (_, 2..) => "debug",
    };
    let filter = EnvFilter::try_from_env("VIRTLAB_LOG").unwrap_or_else(|_| default_level.into());
    let colours = AutoStream::choice(&std::io::stderr()) != ColorChoice::Never;
    tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_ansi(colours)
        .with_writer(std::io::stderr)
        .init();

    let Global { connect, template_dir, .. } = cli.global;
    let session = Session::new(printer, connect, template_dir);
    match cli.command {
        Command::Create(args) => create::run(&session, &args),
        Command::Autostart(args) => autostart::run(&session, &args),
        Command::Scale(args) => scale::run(&session, &args),
        Command::List => list::run(&session),
        Command::Status(args) => status::run(&session, &args),
        Command::Wait(args) => wait::run(&session, &args),
        Command::Start(args) => power::start(&session, &args),
        Command::Stop(args) => power::stop(&session, &args),
        Command::Restart(args) => power::restart(&session, &args),
        Command::Pause(args) => power::pause(&session, &args),
        Command::Resume(args) => power::resume(&session, &args),
        Command::Fault(command) => fault::run(&session, &command),
        Command::Heal(args) => fault::heal(&session, &args),
        Command::Drill(args) => drill::run(&session, &args),
        Command::Snapshot(command) => snapshot::run(&session, &command),
        Command::Diff(args) => diff::run(&session, &args),
        Command::Explain(args) => explain::run(&session, &args),
        Command::Verify(args) => verify::run(&session, &args),
        Command::Ssh(args) => ssh::run(&session, &args),
        Command::Exec(args) => exec::run(&session, &args),
        Command::Cp(args) => cp::run(&session, &args),
        Command::SshConfig(args) => ssh_config::run(&session, &args),
        Command::Inventory(args) => inventory::run(&session, &args),
        Command::Open(args) => open::run(&session, &args),
        Command::Events(args) => events::run(&session, &args),
        Command::Timeline(args) => timeline::run(&session, &args),
        Command::Logs(args) => logs::run(&session, &args),
        Command::Console(args) => console::run(&session, &args),
        Command::Destroy(args) => destroy::run(&session, &args),
        Command::Doctor => doctor::run(&session),
        Command::Render(args) => render::run(&session, &args),
        Command::Serve(args) => serve::run(&session, &args),
        Command::Pxe(command) => pxe::run(&session, &command),
        Command::Image(command) => image::run(&session, command.0),
        Command::Ksm(command) => ksm::run(command.0, printer),
        Command::Memory(args) => memory::run(&session, &args),
        Command::Completions(args) => {
            printer.data(completion::script(&args.shell)?.trim_end());
            Ok(())
        }
        Command::Version => version::run(&session),
    }
}

/// Says who has registered with the lab's discovery URL.
fn print_discovery(printer: &Printer, status: &DiscoveryStatus) {
    match &status.problem {
        Some(problem) => printer.warn(problem),
        None => printer.note(format!(
            "discovery: {} registered at {}",
            status.registrations.len(),
            status.url
        )),
    }
}
