//! The connection to libvirt. One that is lost (libvirtd was restarted, the network failed) is opened anew.

use std::sync::{Mutex, PoisonError};
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result};
use virt::connect::Connect;

use super::error::{Doing, LibvirtError, is_connection_lost};
use super::{Hypervisor, default_uri, event_loop};
use crate::deadline::Deadline;

/// A connection that is there again after it was lost.
#[derive(Debug)]
pub(super) struct KeptConnection {
    uri: Option<String>,
    usage: Usage,
    current: Mutex<Connect>,
}

/// How long a connection is used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Usage {
    /// For some calls, one after the other. Nobody hears events, and libvirtd ends it after half a minute without a call: each call
    /// looks after keepalive itself, but between them nobody does.
    Brief,
    /// For as long as it is wanted.
    Lasting,
}

impl KeptConnection {
    pub(super) fn open(uri: Option<&str>, usage: Usage) -> Result<Self> {
        let uri = default_uri::resolve(uri);
        let current = Mutex::new(open(uri.as_deref(), usage)?);
        Ok(Self { uri, usage, current })
    }

    /// The connection, opened anew if it was lost.
    pub(super) fn current(&self) -> Result<Connect> {
        let mut current = self.current.lock().unwrap_or_else(PoisonError::into_inner);
        // This asks nobody: it is what the last call, or keepalive, found out.
        if !current.is_alive().unwrap_or(false) {
            *current = open(self.uri.as_deref(), self.usage)?;
        }
        Ok(current.clone())
    }

    /// Opens the connection anew. It may not have noticed yet what another one has: that libvirtd has gone.
    fn renew(&self) -> Result<()> {
        *self.current.lock().unwrap_or_else(PoisonError::into_inner) =
            open(self.uri.as_deref(), self.usage)?;
        Ok(())
    }

    /// One more connection, for what is done at the same time.
    pub(super) fn another(&self) -> Result<Connect> {
        open(self.uri.as_deref(), self.usage)
    }
}

impl Hypervisor {
    /// Does `work`, and does it again if the connection was lost meanwhile, so it has to be idempotent. `lost` is
    /// told each time.
    ///
    /// # Errors
    /// What `work` gives; that the connection was lost, if it does not come back soon.
    pub fn persistently<T>(
        &self,
        lost: impl Fn(&anyhow::Error),
        mut work: impl FnMut() -> Result<T>,
    ) -> Result<T> {
        for _ in 0..RETRIES {
            match work() {
                Err(error) if is_connection_lost(&error) => {
                    lost(&error);
                    self.wait_for_connection()?;
                }
                other => return other,
            }
        }
        work()
    }

    fn wait_for_connection(&self) -> Result<()> {
        // One that goes away still takes connections for a moment, which would use up the retries.
        thread::sleep(POLL);
        Deadline::after(PATIENCE).retry(POLL, is_connection_lost, || self.connection.renew())
    }
}

fn open(uri: Option<&str>, usage: Usage) -> Result<Connect> {
    event_loop::register().doing(|| "registering libvirt's event loop".to_owned())?;
    let connection = Connect::open(uri).map_err(|error| LibvirtError::of_open(error, uri));
    let connection = connection.with_context(|| match uri {
        Some(uri) => format!("connecting to libvirt at `{uri}`"),
        None => "connecting to libvirt".to_owned(),
    })?;
    // Drivers without a daemon have nobody to ask.
    if let Err(error) = connection.set_keep_alive(KEEPALIVE_SECONDS, KEEPALIVE_MISSES) {
        tracing::debug!("no keepalive: {}", error.message());
    }
    if usage == Usage::Lasting {
        event_loop::start();
    }
    Ok(connection)
}

/// As virsh has them: a connection on which nothing was heard for half a minute is lost.
const KEEPALIVE_SECONDS: i32 = 5;
const KEEPALIVE_MISSES: u32 = 6;
/// How long a libvirtd may take to come back: as long as systemd lets a service take to end (`DefaultTimeoutStopSec=`,
/// systemd-system.conf(5)). One that is ended first finishes what it does for others.
const PATIENCE: Duration = Duration::from_secs(90);
const POLL: Duration = Duration::from_millis(200);
/// A libvirtd that goes away more often than this does so because of what it is asked.
const RETRIES: u32 = 5;
