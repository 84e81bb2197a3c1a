//! One run of virtlab: its printer, its connection to libvirt, the user's folders, Ctrl-C.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use anyhow::{Context, Result, bail};
use etcetera::BaseStrategy;

use crate::error::Interrupted;
use crate::hypervisor::{Hypervisor, Inventory};
use crate::images::{Catalogue, InUse};
use crate::lab::Lab;
use crate::output::Printer;
use crate::signals;
use crate::template::Templates;

/// What every command has at hand.
pub(crate) struct Session<'a> {
    /// Where everything that is said goes.
    pub(crate) printer: &'a Printer,
    /// The libvirt URI that was asked for.
    pub(crate) uri: Option<String>,
    template_dir: Option<PathBuf>,
    interrupted: Arc<AtomicBool>,
}

impl<'a> Session<'a> {
    /// A session that has not connected to anything yet.
    pub(crate) fn new(
        printer: &'a Printer,
        uri: Option<String>,
        template_dir: Option<PathBuf>,
    ) -> Self {
        Self { printer, uri, template_dir, interrupted: Arc::default() }
    }

    /// A new connection to libvirt.
    pub(crate) fn hypervisor(&self) -> Result<Hypervisor> {
        Hypervisor::open(self.uri.as_deref())
    }

    /// A new connection to libvirt for a command that looks at it once and ends.
    pub(crate) fn brief_hypervisor(&self) -> Result<Hypervisor> {
        Hypervisor::open_briefly(self.uri.as_deref())
    }

    /// Everything that libvirt has; what of ours could not be understood is warned of.
    pub(crate) fn observe(&self, hypervisor: &Hypervisor) -> Result<Inventory> {
        let inventory = self.persistently(hypervisor, || hypervisor.observe())?;
        for problem in &inventory.foreign.unreadable {
            self.printer.warn(format!("leaving alone {problem}"));
        }
        for found in inventory.labs.values() {
            for (index, domain) in &found.renamed {
                let node = found.lab.name.node(*index);
                self.printer.warn(format!("node `{node}` is called `{domain}` in libvirt"));
            }
        }
        Ok(inventory)
    }

    /// Does `work`, and does it again where the connection to libvirt was lost meanwhile.
    pub(crate) fn persistently<T>(
        &self,
        hypervisor: &Hypervisor,
        work: impl FnMut() -> Result<T>,
    ) -> Result<T> {
        hypervisor.persistently(|error| self.warn_of_lost_connection(error), work)
    }

    /// Says that libvirt went away, and that what was being done is done again.
    pub(crate) fn warn_of_lost_connection(&self, error: &anyhow::Error) {
        self.printer.warn(format!("the connection to libvirt was lost, trying again: {error:#}"));
    }

    /// The templates, with the user's own in the place of ours.
    pub(crate) fn templates(&self) -> Result<Templates> {
        Ok(Templates::new(self.user_folders()?))
    }

    /// The images there are, with the user's own entries.
    pub(crate) fn catalogue(&self) -> Result<Catalogue> {
        let mut folders: Vec<PathBuf> =
            self.user_folders()?.into_iter().map(|folder| folder.join("images")).collect();
        // In the catalogue a later folder wins.
        folders.reverse();
        Catalogue::new(&folders)
    }

    /// What labs boot from.
    pub(crate) fn images_in_use(&self) -> Result<InUse> {
        let inventory = self.brief_hypervisor()?.observe()?;
        // It may be a lab, and then it has an image.
        if let Some(problem) = inventory.foreign.unreadable.first() {
            bail!("libvirt has what this virtlab cannot read: {problem}");
        }
        let labs = inventory.labs.values().map(|found| &found.lab);
        let pair = |lab: &Lab| Some((lab.spec.image.digest?.to_string(), lab.name.to_string()));
        Ok(labs.filter_map(pair).collect())
    }

    /// Where a user's templates and images are; the first folder wins.
    fn user_folders(&self) -> Result<Vec<PathBuf>> {
        let strategy =
            etcetera::choose_base_strategy().context("looking for the home directory")?;
        let own = strategy.config_dir().join("virtlab");
        Ok(self.template_dir.iter().cloned().chain([own]).collect())
    }

    /// From now on Ctrl-C and SIGTERM are looked at between steps; a second one ends us at once.
    pub(crate) fn catch_signals(&self) -> Result<()> {
        signals::leave_to_others();
        for signal in signals::ALL {
            let flag = &self.interrupted;
            signal_hook::flag::register_conditional_default(signal, Arc::clone(flag))
                .and_then(|_| signal_hook::flag::register(signal, Arc::clone(flag)))
                .context("catching signals")?;
        }
        Ok(())
    }

    /// Whether somebody pressed Ctrl-C.
    pub(crate) fn is_interrupted(&self) -> bool {
        self.interrupted.load(Ordering::Relaxed)
    }

    /// The same for what has to be done to its end: it takes no notice of a first Ctrl-C.
    pub(crate) fn undisturbed(&self) -> Self {
        let Self { printer, uri, template_dir, .. } = self;
        Self::new(printer, uri.clone(), template_dir.clone())
    }

    /// The flag behind [`Self::is_interrupted`], for what looks at it itself.
    pub(crate) fn interrupt_flag(&self) -> &AtomicBool {
        &self.interrupted
    }

    /// An error if somebody pressed Ctrl-C.
    pub(crate) fn refuse_interrupt(&self) -> Result<()> {
        if self.is_interrupted() {
            return Err(Interrupted.into());
        }
        Ok(())
    }
}
