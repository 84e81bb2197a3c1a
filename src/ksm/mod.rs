//! Kernel samepage merging (KSM): read, switch, report.
//!
//! Nodes that booted the same image from memory are full of identical pages, and KSM lets them
//! share one copy. It is a setting of the whole host, not of a lab, so everything here says what
//! it found, changes only what differs, and [`claims`] puts it back.
//!
//! What the files mean: <https://docs.kernel.org/admin-guide/mm/ksm.html>.

pub mod claims;
mod error;
pub mod process;
mod settings;
mod status;

use std::io::{self, ErrorKind, Write};
use std::path::{Path, PathBuf};

use fs_err as fs;

pub use error::KsmError;
pub use settings::{Knob, Run, Settings};
pub use status::KsmStatus;

/// The KSM of one kernel, through its directory of files.
#[derive(Clone, Debug)]
pub struct Ksm {
    root: PathBuf,
    page_size: u64,
}

impl Ksm {
    /// The KSM of the host this runs on.
    pub fn host() -> Self {
        Self::at(Path::new(KSM_ROOT))
    }

    /// The KSM whose files are in `root`, with this host's page size.
    pub fn at(root: &Path) -> Self {
        Self { root: root.to_owned(), page_size: rustix::param::page_size() as u64 }
    }

    /// The directory of the files.
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// The size of a page in bytes.
    pub fn page_size(&self) -> u64 {
        self.page_size
    }

    /// Reads what KSM does and what it has brought.
    ///
    /// # Errors
    /// [`KsmError::NotInKernel`] without KSM; others if a file cannot be read or understood.
    pub fn status(&self) -> Result<KsmStatus, KsmError> {
        Ok(KsmStatus {
            run: Some(Run::try_from(self.knob(Knob::Run)?).map_err(|value| {
                let path = self.root.join(Knob::Run.file_name());
                KsmError::Unreadable { path, value: value.to_string() }
            })?),
            pages_to_scan: self.knob(Knob::PagesToScan)?,
            sleep_millisecs: self.knob(Knob::SleepMillisecs)?,
            smart_scan: optional(self.knob(Knob::SmartScan))?.map(|value| value != 0),
            pages_shared: self.number("pages_shared")?,
            pages_sharing: self.number("pages_sharing")?,
            pages_unshared: self.number("pages_unshared")?,
            zero_pages: optional(self.number("ksm_zero_pages"))?,
            full_scans: self.number("full_scans")?,
            general_profit_bytes: optional(self.number("general_profit"))?,
            page_size_bytes: self.page_size,
        })
    }

    /// Changes what differs from `settings`; a host that already is so is left untouched, so this
    /// needs no permission there.
    ///
    /// # Errors
    /// [`KsmError::NoPermission`] with the command to type, [`KsmError::NotInKernel`],
    /// [`KsmError::Refused`] if the kernel refuses a number.
    pub fn set(&self, settings: Settings) -> Result<(), KsmError> {
        for (knob, value) in settings.knobs() {
            self.set_knob(knob, value)?;
        }
        Ok(())
    }

    /// What lets a measurement see soon what KSM would find in time: merging at 2500 pages at a
    /// time or the host's speed, if that is more, and no page skipped.
    ///
    /// # Errors
    /// As [`status`](Self::status).
    pub fn settings_to_measure(&self) -> Result<Settings, KsmError> {
        let status = self.status()?;
        let advisor = fs::read_to_string(self.root.join("advisor_mode"));
        // The advisor sets the speed itself, and the kernel then refuses ours.
        let is_advised = advisor.is_ok_and(|modes| !modes.contains("[none]"));
        let pages_to_scan = status.pages_to_scan.max(MEASURING_PAGES_TO_SCAN);
        Ok(Settings {
            run: Some(Run::Running),
            pages_to_scan: (!is_advised).then_some(pages_to_scan),
            smart_scan: status.smart_scan.map(|_| false),
            ..Settings::default()
        })
    }

    /// The settings, or those of them that `settings` leaves open, are already so.
    pub(crate) fn is_set(&self, settings: Settings) -> Result<bool, KsmError> {
        for (knob, value) in settings.knobs() {
            if self.knob(knob)? != value {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// What now is, of that which `settings` names.
    pub(crate) fn current(&self, settings: Settings) -> Result<Settings, KsmError> {
        let mut current = Settings::default();
        for (knob, _) in settings.knobs() {
            let value = self.knob(knob)?;
            match knob {
                Knob::PagesToScan => current.pages_to_scan = Some(value),
                Knob::SleepMillisecs => current.sleep_millisecs = Some(value),
                Knob::SmartScan => current.smart_scan = Some(value != 0),
                Knob::Run => current.run = Run::try_from(value).ok(),
            }
        }
        Ok(current)
    }

    pub(crate) fn knob(&self, knob: Knob) -> Result<u64, KsmError> {
        self.number(knob.file_name())
    }

    pub(crate) fn set_knob(&self, knob: Knob, value: u64) -> Result<(), KsmError> {
        if matches!(self.knob(knob), Ok(current) if current == value) {
            return Ok(());
        }
        kill_point();
        let path = self.root.join(knob.file_name());
        // Never created: a file that is missing is a kernel without it.
        let file = fs::OpenOptions::new().write(true).truncate(true).open(&path);
        file.and_then(|mut file| file.write_all(value.to_string().as_bytes()))
            .map_err(|error| self.write_error(knob, value, error))
    }

    fn number<T: std::str::FromStr>(&self, name: &str) -> Result<T, KsmError> {
        let path = self.root.join(name);
        let text = fs::read_to_string(&path).map_err(|error| match error.kind() {
            ErrorKind::NotFound if !self.root.exists() => self.not_in_kernel(),
            _ => KsmError::Io(error),
        })?;
        let text = text.trim();
        text.parse().map_err(|_| KsmError::Unreadable { path, value: text.to_owned() })
    }

    fn write_error(&self, knob: Knob, value: u64, error: io::Error) -> KsmError {
        let path = self.root.join(knob.file_name());
        match error.kind() {
            ErrorKind::NotFound if !self.root.exists() => self.not_in_kernel(),
            ErrorKind::PermissionDenied => KsmError::NoPermission { path, value },
            ErrorKind::ReadOnlyFilesystem => KsmError::ReadOnly { path },
            ErrorKind::InvalidInput => KsmError::Refused { path, value },
            _ => KsmError::Io(error),
        }
    }

    fn not_in_kernel(&self) -> KsmError {
        KsmError::NotInKernel { root: self.root.clone() }
    }
}

/// A file that older kernels lack is `None`.
fn optional<T>(number: Result<T, KsmError>) -> Result<Option<T>, KsmError> {
    match number {
        Err(KsmError::Io(error)) if error.kind() == ErrorKind::NotFound => Ok(None),
        other => other.map(Some),
    }
}

/// Stands before every effect. In tests a thread can be ended at any of them, as a SIGKILL would:
/// nothing runs after it but what the kernel does, which is to free the lock.
#[cfg(not(test))]
fn kill_point() {}

#[cfg(test)]
use claims::tests::kill_point;

/// Where the kernel has the files.
pub const KSM_ROOT: &str = "/sys/kernel/mm/ksm";

/// With the kernel's pause of 20 ms this is up to 500 MB a second.
const MEASURING_PAGES_TO_SCAN: u64 = 2500;

#[cfg(test)]
pub(crate) mod tests;
