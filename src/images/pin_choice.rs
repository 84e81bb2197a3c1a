//! Which version of an image somebody asked for, by flags or by a lock file.

use std::path::PathBuf;

use anyhow::Result;
use clap::Args;

use super::{Image, LockFile, Pin};

/// Which version of an image is wanted.
#[derive(Clone, Debug, Default, Args)]
pub struct PinChoice {
    /// Channel of the image, such as `stable`
    #[arg(long, value_name = "CHANNEL")]
    pub channel: Option<String>,
    /// Version of the image, instead of the newest
    #[arg(long, value_name = "VERSION")]
    pub version: Option<String>,
    /// Lock file: written on the first run, obeyed on every later one
    #[arg(long, value_name = "FILE")]
    pub lock: Option<PathBuf>,
}

impl PinChoice {
    /// What is wanted of an image: what the lock file says, else the flags.
    ///
    /// # Errors
    /// If the lock file cannot be read, or a flag contradicts it.
    pub fn pin(&self, name: &str) -> Result<Pin> {
        let pin = match &self.lock {
            Some(path) => LockFile::load(path)?.pin(name),
            None => Pin::default(),
        };
        pin.with_flags(self.channel.as_deref(), self.version.as_deref())
    }

    /// Enters the image into the lock file, if there is one and it does not have it yet.
    ///
    /// # Errors
    /// If the lock file cannot be written.
    pub fn enter(&self, image: &Image) -> Result<()> {
        match &self.lock {
            Some(path) => LockFile::enter(path, &image.spec.name, image.pin()),
            None => Ok(()),
        }
    }
}
