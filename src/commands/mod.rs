//! One file a verb. The only place where the layers meet.

mod apply;
mod attach;
mod check;
mod create;
mod curve;
mod decide;
mod destroy;
mod draft;
pub mod image;
pub mod ksm;
mod list;
pub mod memory;
mod prepare;
pub mod pxe;
mod readiness;
mod render;
mod serve;
mod ssh;
mod status;
mod verify;
mod version;
mod wait;

use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Once};

use anstream::{AutoStream, ColorChoice};
use anyhow::{Context as _, Result, bail};
use etcetera::BaseStrategy;
use tracing_subscriber::EnvFilter;

use crate::cli::{Cli, Command, Global};
use crate::hint::Interrupted;
use crate::hypervisor::{Hypervisor, Inventory};
use crate::images::store::Store;
use crate::images::{Catalogue, InUse};
use crate::ksm::claims::Claims;
use crate::output::Printer;
use crate::render::Templates;
use crate::{completion, signals};

/// What every command has at hand.
struct Context<'a> {
    printer: &'a Printer,
    global: Global,
    interrupted: Arc<AtomicBool>,
    ksm_repair: Once,
}

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

    let interrupted = Arc::new(AtomicBool::new(false));
    let ksm_repair = Once::new();
    let context = Context { printer, global: cli.global, interrupted, ksm_repair };
    match cli.command {
        Command::Create(args) => create::run(&context, &args),
        Command::List => list::run(&context),
        Command::Status(args) => status::run(&context, &args),
        Command::Verify(args) => verify::run(&context, &args),
        Command::Ssh(args) => ssh::run(&context, &args),
        Command::Destroy(args) => destroy::run(&context, &args),
        Command::Render(args) => render::run(&context, &args),
        Command::Serve(args) => serve::run(&args.lab),
        Command::Pxe(command) => pxe::run(&context, &command),
        Command::Image(command) => context.image(command),
        Command::Ksm(command) => ksm::run(command, printer),
        Command::Memory(args) => memory::run(&context, &args),
        Command::Completions(args) => {
            printer.data(completion::script(&args.shell)?.trim_end());
            Ok(())
        }
        Command::Version => version::run(&context),
    }
}

impl Context<'_> {
    fn hypervisor(&self) -> Result<Hypervisor> {
        Hypervisor::open(self.global.connect.as_deref())
    }

    /// Everything that libvirt has; what of ours could not be understood is warned of.
    fn observe(&self, hypervisor: &Hypervisor) -> Result<Inventory> {
        let inventory = hypervisor.observe()?;
        for problem in &inventory.foreign.unreadable {
            self.printer.warn(format!("leaving alone {problem}"));
        }
        self.ksm_repair.call_once(|| self.repair_ksm(hypervisor, &inventory));
        Ok(inventory)
    }

    /// Puts KSM back if the labs that asked for it are gone, as after a kill.
    fn repair_ksm(&self, hypervisor: &Hypervisor, inventory: &Inventory) {
        // What could not be understood may be a lab that asked for it.
        if !inventory.foreign.unreadable.is_empty() {
            return;
        }
        let exists = |uuid| inventory.labs.contains_key(&uuid);
        let repaired = hypervisor.uri().and_then(|uri| Claims::host().repair(&uri, exists));
        ksm::tell(self.printer, repaired);
    }

    fn templates(&self) -> Result<Templates> {
        Ok(Templates::new(self.user_folders()?))
    }

    fn catalogue(&self) -> Result<Catalogue> {
        let mut folders: Vec<PathBuf> =
            self.user_folders()?.into_iter().map(|folder| folder.join("images")).collect();
        // In the catalogue a later folder wins.
        folders.reverse();
        Catalogue::new(&folders)
    }

    fn image(&self, command: image::ImageCommand) -> Result<()> {
        let store = Store::open_default()?;
        let in_use = || self.images_in_use();
        image::run(command, &self.catalogue()?, &store, &in_use, self.printer)
    }

    /// What labs boot from.
    fn images_in_use(&self) -> Result<InUse> {
        let inventory = self.hypervisor()?.observe()?;
        // It may be a lab, and then it has an image.
        if let Some(problem) = inventory.foreign.unreadable.first() {
            bail!("libvirt has what this virtlab cannot read: {problem}");
        }
        let labs = inventory.labs.values().map(|found| &found.lab);
        Ok(labs.map(|lab| (lab.spec.image.digest.clone(), lab.name.to_string())).collect())
    }

    /// Where a user's templates and images are; the first folder wins.
    fn user_folders(&self) -> Result<Vec<PathBuf>> {
        let strategy =
            etcetera::choose_base_strategy().context("looking for the home directory")?;
        let own = strategy.config_dir().join("virtlab");
        Ok(self.global.template_dir.iter().cloned().chain([own]).collect())
    }

    /// From now on Ctrl-C and SIGTERM are looked at between steps; a second one ends us at once.
    fn catch_signals(&self) -> Result<()> {
        signals::leave_to_others();
        for signal in signals::ALL {
            let flag = &self.interrupted;
            signal_hook::flag::register_conditional_default(signal, Arc::clone(flag))
                .and_then(|_| signal_hook::flag::register(signal, Arc::clone(flag)))
                .context("catching signals")?;
        }
        Ok(())
    }

    /// An error if somebody pressed Ctrl-C.
    fn check_interrupt(&self) -> Result<()> {
        if self.interrupted.load(Ordering::Relaxed) {
            return Err(Interrupted.into());
        }
        Ok(())
    }
}
