//! The only part that talks to libvirt.
//!
//! Every function here is idempotent: "exists already", "is active already" and "is gone already"
//! are success, told by libvirt's error code. Nothing that does not carry our mark is changed.

mod attachments;
mod autostart;
mod capabilities;
mod cards;
mod connection;
mod console;
mod default_uri;
mod definitions;
mod description;
mod domains;
mod error;
mod event_loop;
mod events;
mod filters;
mod in_force;
mod kept;
mod keyboard;
mod limits;
mod links;
mod marks;
mod memory;
mod networks;
mod observe;
mod probe;
mod raw;
mod snapshots;
mod storage;
mod taps;

use std::sync::Mutex;
use std::thread;

use anyhow::Result;
use virt::connect::Connect;

pub use virt::connect::Connect as Connection;
pub use virt::error::ErrorNumber;

pub use self::attachments::{Attachment, SeenNetwork};
pub use self::capabilities::Capabilities;
use self::connection::{KeptConnection, Usage};
pub(crate) use self::console::{Console, ConsolePlace, Received};
pub(crate) use self::definitions::Definition;
use self::error::Doing;
pub use self::error::{LibvirtError, is_connection_lost, is_ipv6_refused};
pub use self::events::{DomainNews, watch_domains};
pub(crate) use self::keyboard::Keyboard;
pub use self::observe::{Copied, Foreign, Found, Inventory};
pub use self::probe::VirtProbe;
pub use self::storage::StoredFile;
use crate::error::all_errors;
use crate::lab::LibvirtVersion;

/// A connection to libvirt, which opens more of them when there is much to do at once.
#[derive(Debug)]
pub struct Hypervisor {
    connection: KeptConnection,
}

impl Hypervisor {
    /// Opens a connection: to `uri`, to what libvirt's client configuration names, or to the host's own
    /// libvirt.
    ///
    /// # Errors
    /// If nobody answers or we may not connect.
    pub fn open(uri: Option<&str>) -> Result<Self> {
        Self::open_for(uri, Usage::Lasting)
    }

    /// The same for who asks libvirt something at once and ends then: without the thread that looks after a connection while it is
    /// not used.
    pub fn open_briefly(uri: Option<&str>) -> Result<Self> {
        Self::open_for(uri, Usage::Brief)
    }

    fn open_for(uri: Option<&str>, usage: Usage) -> Result<Self> {
        virt::error::clear_error_callback();
        Ok(Self { connection: KeptConnection::open(uri, usage)? })
    }

    /// The connection, opened anew if it was lost.
    fn connection(&self) -> Result<Connect> {
        self.connection.current()
    }

    /// The version of the libvirt library.
    pub fn library_version() -> Result<LibvirtVersion> {
        let version = Connect::version().doing(|| "asking libvirt for its version".to_owned())?;
        Ok(version.into())
    }

    /// The version of the libvirt that we are connected to. The library here may be another one.
    pub fn version(&self) -> Result<LibvirtVersion> {
        let version = self.connection()?.lib_version();
        Ok(version.doing(|| "asking libvirt for its version".to_owned())?.into())
    }

    /// The URI that we are connected to.
    pub fn uri(&self) -> Result<String> {
        self.connection()?.uri().doing(|| "asking libvirt for its URI".to_owned())
    }

    /// Whether libvirt and we are on the same computer.
    pub fn is_local(&self) -> Result<bool> {
        Ok(names_no_host(&self.uri()?))
    }

    /// Whether libvirt is the user's own (`qemu:///session`) and not the host's.
    pub fn is_session(&self) -> Result<bool> {
        Ok(self.uri()?.split('?').next().is_some_and(|uri| uri.ends_with("/session")))
    }

    /// The name of libvirt's host.
    pub fn hostname(&self) -> Result<String> {
        self.connection()?.hostname().doing(|| "asking libvirt for its host's name".to_owned())
    }

    /// The memory of libvirt's host that is free, in bytes; `None` where the driver cannot tell.
    pub fn free_memory(&self) -> Option<u64> {
        self.connection().ok()?.free_memory().ok()
    }

    /// Does `work` for each of `items`, several at a time.
    ///
    /// # Errors
    /// All that went wrong; a lost connection alone, since then it is worth another try.
    pub(crate) fn for_each<T: Sync>(
        &self,
        items: &[T],
        work: impl Fn(&Connect, &T) -> Result<()> + Sync,
    ) -> Result<()> {
        let mut results = self.in_parallel(items, work);
        let lost = |result: &Result<()>| result.as_ref().is_err_and(is_connection_lost);
        match results.iter().position(lost) {
            Some(position) => results.swap_remove(position),
            None => all_errors(results),
        }
    }

    /// Does `work` for each of `items`, several at a time, and gives all results in their order; one
    /// error alone if there is no connection.
    ///
    /// libvirtd serves at most five calls of one connection at a time, so many items are spread
    /// over several connections; a few do not pay for opening them.
    pub fn in_parallel<T: Sync, R: Send>(
        &self,
        items: &[T],
        work: impl Fn(&Connect, &T) -> Result<R> + Sync,
    ) -> Vec<Result<R>> {
        let wanted = items.len().div_ceil(CALLS_PER_CONNECTION).clamp(1, MAX_CONNECTIONS);
        let first = match self.connection() {
            Ok(first) => first,
            Err(error) => return vec![Err(error)],
        };
        let mut connections = vec![first];
        // Fewer connections are slower, not wrong.
        connections.extend((1..wanted).map_while(|_| self.connection.another().ok()));

        let queue = Mutex::new(items.iter().enumerate());
        let results = Mutex::new(Vec::with_capacity(items.len()));
        thread::scope(|scope| {
            for worker in 0..items.len().min(connections.len() * CALLS_PER_CONNECTION) {
                let connection = &connections[worker % connections.len()];
                let (queue, results, work) = (&queue, &results, &work);
                scope.spawn(move || {
                    loop {
                        let next = queue.lock().expect("no worker panics").next();
                        let Some((index, item)) = next else { break };
                        let result = work(connection, item);
                        results.lock().expect("no worker panics").push((index, result));
                    }
                });
            }
        });
        let mut results = results.into_inner().expect("no worker panics");
        results.sort_by_key(|(index, _)| *index);
        results.into_iter().map(|(_, result)| result).collect()
    }
}

/// A remote URI has a host: `qemu+ssh://host/system`. <https://libvirt.org/uri.html>
fn names_no_host(uri: &str) -> bool {
    let host =
        uri.split_once("://").map_or("", |(_, rest)| rest.split(['/', '?']).next().unwrap_or(""));
    host.is_empty()
}

/// libvirtd's `max_client_requests` is 5; one is left for others.
const CALLS_PER_CONNECTION: usize = 4;
/// More were not faster (docs/performance.md).
const MAX_CONNECTIONS: usize = 4;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_uri_with_a_host_is_remote() {
        for uri in ["qemu:///system", "qemu+unix:///system?socket=/a/b", "test:///a.xml", "qemu"] {
            assert!(names_no_host(uri), "{uri}");
        }
        for uri in
            ["qemu+ssh://host/system", "qemu+tcp://[::1]:16509/system", "qemu+ssh://me@host?a=b"]
        {
            assert!(!names_no_host(uri), "{uri}");
        }
    }
}
