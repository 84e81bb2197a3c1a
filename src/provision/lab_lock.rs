//! One lock per lab: whoever changes a lab is alone with it.

use std::fs::File;
use std::io::{Seek, Write};
use std::time::Duration;

use anyhow::{Context, Result};

use crate::error::TimedOut;
use crate::files;
use crate::hypervisor::Hypervisor;
use crate::lab::LabName;
use crate::output::{sanitize, seconds};
use crate::session::Session;
use crate::state;

/// Held as long as a lab is changed, until it is dropped.
#[derive(Debug)]
pub(crate) struct LabLock {
    _file: File,
}

impl LabLock {
    /// Takes the lock for `verb`, such as `create`. If another virtlab has it, that is told and waited for, for
    /// `patience` at the most.
    ///
    /// # Errors
    /// [`TimedOut`] after `patience`.
    pub(crate) fn take(
        session: &Session,
        hypervisor: &Hypervisor,
        name: &LabName,
        verb: &str,
        patience: Option<Duration>,
    ) -> Result<Self> {
        let path = state::lab_lock(&hypervisor.uri()?, name)?;
        let mut holder = String::new();
        let waits = |text: String| {
            holder = match text.trim() {
                "" => "another virtlab".to_owned(),
                text => sanitize(text),
            };
            session.printer.note(format!("waiting for {holder} to be done with lab `{name}`"));
        };
        let Some(mut file) = files::lock_within(&path, patience, waits)? else {
            let waited = seconds(patience.unwrap_or_default());
            let message =
                format!("{holder} still works on lab `{name}`, after {waited} (--wait-lock)");
            return Err(TimedOut { message, hint: None }.into());
        };
        // Whoever waits for us says so.
        let own = format!("`virtlab {verb}` (process {})\n", std::process::id());
        file.set_len(0)
            .and_then(|()| file.rewind())
            .and_then(|()| file.write_all(own.as_bytes()))
            .with_context(|| format!("writing {}", path.display()))?;
        Ok(Self { _file: file })
    }
}
