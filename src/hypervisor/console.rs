//! A node's serial console: what it wrote so far, by the log in the lab's storage pool, and talking with it, by libvirt's
//! stream. Neither needs root, and both work from another computer.

use anyhow::{Result, bail};
use virt::connect::Connect;
use virt::error::ErrorNumber;
use virt::storage_pool::StoragePool;
use virt::storage_vol::StorageVol;
use virt::stream::Stream;
use virt::sys;

use super::Hypervisor;
use super::domains::own_domain;
use super::error::{Already, Doing, LibvirtError};
use super::storage::receive_all;
use crate::lab::{Lab, Node};

/// How far a console log has been read.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct ConsolePlace {
    /// The number that libvirt gave the domain when it was powered on; each time another one.
    power_on: Option<u32>,
    offset: u64,
    has_begun: bool,
}

impl Hypervisor {
    /// What a node wrote to its console after `place`, and the place after that. libvirt begins a new log when the node is
    /// powered on, and moves an old part of it away when it grows large. `None`: the lab has no storage pool any more.
    ///
    /// # Errors
    /// If libvirt cannot read it.
    pub(crate) fn read_console(
        &self,
        lab: &Lab,
        node: &Node,
        place: ConsolePlace,
    ) -> Result<Option<(Vec<u8>, ConsolePlace)>> {
        let Some(pool) = self.own_pool(lab)? else { return Ok(None) };
        // A lab that is being removed loses the log first and the pool then.
        Ok(Some(unless_removed(self.read_log(&pool, lab, node, place), place)?))
    }

    fn read_log(
        &self,
        pool: &StoragePool,
        lab: &Lab,
        node: &Node,
        place: ConsolePlace,
    ) -> Result<(Vec<u8>, ConsolePlace)> {
        let doing = || format!("reading the console log of `{}`", node.name);
        let connection = self.connection()?;
        let power_on = power_on(&connection, lab, node)?;
        let log = Log { connection: &connection, pool, name: lab.console_log_name(node) };
        let is_new = !place.has_begun || (power_on.is_some() && place.power_on != power_on);
        // A pool learns of files that were made by others only when it is looked through.
        if is_new || log.volume().doing(doing)?.is_none() {
            pool.refresh(0).doing(doing)?;
        }
        let size = log.size().doing(doing)?;
        let mut text = Vec::new();
        let start = if is_new {
            for part in (0..MOVED_AWAY).rev() {
                text.extend(log.moved_away(part).read_from(0, None)?);
            }
            0
        } else if size < place.offset {
            pool.refresh(0).doing(doing)?;
            text.extend(log.moved_away(0).read_from(place.offset, None)?);
            0
        } else {
            place.offset
        };
        text.extend(log.read_from(start, Some(size))?);
        let power_on = power_on.or(place.power_on);
        let place = ConsolePlace { power_on, offset: size, has_begun: true };
        Ok((text, place))
    }

    /// Opens the console of a node that runs. `force` takes it from somebody who has it.
    ///
    /// # Errors
    /// If libvirt cannot, for example since somebody has it.
    pub(crate) fn open_console(&self, lab: &Lab, node: &Node, force: bool) -> Result<Console> {
        let doing = || format!("opening the console of `{}`", node.name);
        let connection = self.connection()?;
        let Some(domain) = own_domain(&connection, lab, node.index)? else {
            bail!("{}: it is not there any more", doing());
        };
        let stream = Stream::new(&connection, sys::VIR_STREAM_NONBLOCK).doing(doing)?;
        let flags = if force { sys::VIR_DOMAIN_CONSOLE_FORCE } else { 0 };
        domain.open_console(None, &stream, flags).doing(doing)?;
        Ok(Console { connection, stream })
    }
}

/// A console that is open.
pub(crate) struct Console {
    connection: Connect,
    stream: Stream,
}

/// What came from a console.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Received {
    /// Nothing for now.
    Nothing,
    /// These bytes.
    Bytes(Vec<u8>),
    /// The node is off, or somebody else took the console.
    Ended,
}

impl Console {
    /// What has come, without waiting for it.
    ///
    /// # Errors
    /// If the connection to libvirt is lost.
    pub(crate) fn receive(&self) -> Result<Received> {
        let mut bytes = vec![0; PIECE];
        let received = match self.stream.recv(&mut bytes) {
            // This is how libvirt takes a console away.
            Err(_) if self.connection.is_alive().unwrap_or(false) => return Ok(Received::Ended),
            other => other.map_err(LibvirtError::from)?,
        };
        let Ok(received) = usize::try_from(received) else { return Ok(Received::Nothing) };
        bytes.truncate(received);
        Ok(if bytes.is_empty() { Received::Ended } else { Received::Bytes(bytes) })
    }

    /// Sends all of these bytes.
    ///
    /// # Errors
    /// If the connection to libvirt is lost, or the console has ended.
    pub(crate) fn send(&self, mut bytes: &[u8]) -> Result<()> {
        while !bytes.is_empty() {
            let sent = self.stream.send(bytes).map_err(LibvirtError::from)?;
            match usize::try_from(sent) {
                Ok(sent) => bytes = &bytes[sent..],
                Err(_) => std::thread::sleep(FULL),
            }
        }
        Ok(())
    }
}

/// Without this libvirt keeps the console for us until our connection ends.
impl Drop for Console {
    fn drop(&mut self) {
        if let Err(error) = self.stream.clone().abort() {
            tracing::debug!("giving back the console: {}", error.message());
        }
    }
}

/// A console log, or a part of it that was moved away.
struct Log<'a> {
    connection: &'a Connect,
    pool: &'a StoragePool,
    name: String,
}

impl Log<'_> {
    /// The part that was moved away last has the number 0.
    fn moved_away(&self, part: u32) -> Self {
        Self { name: format!("{}.{part}", self.name), ..*self }
    }

    fn size(&self) -> Result<u64, virt::error::Error> {
        let Some(volume) = self.volume()? else { return Ok(0) };
        Ok(volume.info()?.capacity)
    }

    /// From `offset` to `end`, or to what the end is now.
    fn read_from(&self, offset: u64, end: Option<u64>) -> Result<Vec<u8>> {
        let doing = || format!("reading the console log `{}`", self.name);
        let Some(volume) = self.volume().doing(doing)? else { return Ok(Vec::new()) };
        let end = end.map_or_else(|| Ok(volume.info()?.capacity), Ok).doing(doing)?;
        if end <= offset {
            return Ok(Vec::new());
        }
        let stream = Stream::new(self.connection, 0).doing(doing)?;
        volume.download(&stream, offset, end - offset, 0).doing(doing)?;
        let text = receive_all(&stream)?;
        stream.finish().doing(doing)?;
        Ok(text)
    }

    fn volume(&self) -> Result<Option<StorageVol>, virt::error::Error> {
        let volume = self.pool.lookup_storage_vol_by_name(&self.name);
        volume.already(&[ErrorNumber::NoStorageVolume])
    }
}

/// What was read; nothing if meanwhile the log was removed, or its pool.
fn unless_removed(
    read: Result<(Vec<u8>, ConsolePlace)>,
    place: ConsolePlace,
) -> Result<(Vec<u8>, ConsolePlace)> {
    read.or_else(|error| {
        let cause = error.chain().find_map(|cause| cause.downcast_ref::<LibvirtError>());
        let is_removed = cause.is_some_and(|cause| cause.is_any(&REMOVED));
        if is_removed { Ok((Vec::new(), place)) } else { Err(error) }
    })
}

fn power_on(connection: &Connect, lab: &Lab, node: &Node) -> Result<Option<u32>> {
    Ok(own_domain(connection, lab, node.index)?.and_then(|domain| domain.id()))
}

/// As many parts of a log as virtlogd keeps (`max_backups`).
const MOVED_AWAY: u32 = 3;
/// What libvirt says of a log that is not there any more.
const REMOVED: [ErrorNumber; 2] = [ErrorNumber::NoStorageVolume, ErrorNumber::NoStoragePool];
const PIECE: usize = 64 << 10;
/// How long to wait where a stream takes nothing for now.
const FULL: std::time::Duration = std::time::Duration::from_millis(5);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_log_that_is_removed_while_it_is_read_has_nothing_more_and_is_no_error() {
        virt::error::clear_error_callback();
        let connection = Connect::open(Some("test:///default")).unwrap();
        let pool = connection.lookup_storage_pool_by_name("default-pool").unwrap();
        let place = ConsolePlace { power_on: Some(7), offset: 42, has_begun: true };
        let doing = || "reading the console log of `demo-1`".to_owned();
        let volume = "<volume><name>log</name><capacity>1</capacity></volume>";
        let volume = StorageVol::create_xml(&pool, volume, 0).unwrap();
        volume.delete(0).unwrap();
        let removed = volume.info().map(|_| (vec![1], place)).doing(doing);
        let (text, after) = unless_removed(removed, place).unwrap();
        assert_eq!((text.as_slice(), after.power_on, after.offset), (&[][..], Some(7), 42));

        let no_pool = connection.lookup_storage_pool_by_name("none");
        let removed = no_pool.map(|_| (vec![1], place)).doing(doing);
        assert!(unless_removed(removed, place).unwrap().0.is_empty());

        let other = connection.lookup_domain_by_name("none");
        let failed = other.map(|_| (vec![1], place)).doing(doing);
        let error = unless_removed(failed, place).unwrap_err();
        assert!(
            format!("{error:#}").starts_with("reading the console log of `demo-1`: "),
            "{error:#}"
        );
    }
}
