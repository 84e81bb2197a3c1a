//! The lab's storage pool: a folder on libvirt's host that is TFTP root and place of the console
//! logs. Files go in and out by libvirt's streams, so no root and no shared file system is needed.

use std::io::Read;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use virt::connect::Connect;
use virt::error::{Error, ErrorNumber};
use virt::storage_pool::StoragePool;
use virt::storage_vol::StorageVol;
use virt::stream::Stream;

use super::Hypervisor;
use super::error::{Already, Doing, LibvirtError, Unless, is_any};
use crate::deadline::Deadline;
use crate::lab::hardware::DiskSize;
use crate::lab::{Lab, Node};
use crate::render::comparison::{self, View};
use crate::render::xml;

/// A file in a lab's storage pool.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoredFile {
    /// Its name in the pool.
    pub name: String,
    /// Its length.
    pub bytes: u64,
}

impl Hypervisor {
    /// Defines, builds and starts the lab's pool, as far as that was not done. Stopping it to start it elsewhere
    /// disturbs nobody: nodes and dnsmasq have its files by their paths.
    pub fn make_pool(&self, lab: &Lab) -> Result<()> {
        let doing = || format!("making storage pool `{}`", lab.pool_name());
        let wanted = xml::pool(lab);
        let pool = self.connection()?.define_storage_pool_xml(&wanted, 0).doing(doing)?;
        if pool.is_active().doing(doing)? {
            let running = pool.xml_desc(0).doing(doing)?;
            if comparison::difference(&wanted, &running, View::Running)?.is_some() {
                pool.destroy().unless(|| Ok(!pool.is_active()?)).doing(doing)?;
            }
        }
        if !pool.is_active().doing(doing)? {
            pool.build(0).doing(doing)?;
            pool.create(0).unless(|| pool.is_active()).doing(doing)?;
        }
        pool.set_autostart(true).already(&[ErrorNumber::NoSupport]).doing(doing)?;
        Ok(())
    }

    /// Puts a file of `size` bytes into the lab's pool, in the place of one that is there.
    ///
    /// # Errors
    /// If libvirt cannot, or `content` cannot be read or is shorter.
    pub fn upload(&self, lab: &Lab, name: &str, size: u64, content: impl Read) -> Result<()> {
        self.upload_as(lab, name, &xml::volume(name, size), size, content)
    }

    /// The same with a text that no guest and no other user of the host may read.
    ///
    /// # Errors
    /// If libvirt cannot.
    pub(crate) fn upload_private(&self, lab: &Lab, name: &str, text: &[u8]) -> Result<()> {
        let size = text.len() as u64;
        self.upload_as(lab, name, &xml::private_volume(name, size), size, text)
    }

    fn upload_as(
        &self,
        lab: &Lab,
        name: &str,
        description: &str,
        size: u64,
        content: impl Read,
    ) -> Result<()> {
        let doing = || format!("uploading `{name}` to storage pool `{}`", lab.pool_name());
        let pool = self.require_pool(lab)?;
        let volume = match StorageVol::create_xml(&pool, description, 0) {
            Err(error) if is_any(&error, &[ErrorNumber::StorageVolExist]) => {
                let old = pool.lookup_storage_vol_by_name(name).doing(doing)?;
                old.delete(0).doing(doing)?;
                StorageVol::create_xml(&pool, description, 0).doing(doing)?
            }
            other => other.doing(doing)?,
        };
        if size == 0 {
            return Ok(());
        }
        let stream = Stream::new(&self.connection()?, 0).doing(doing)?;
        volume.upload(&stream, 0, size, 0).doing(doing)?;
        send_all(&stream, content.take(size)).with_context(doing)?;
        stream.finish().doing(doing)
    }

    /// Makes the disk of a node in the lab's pool; one that is there is kept with what is on it.
    pub fn make_disk(connection: &Connect, lab: &Lab, node: &Node, size: DiskSize) -> Result<()> {
        let name = lab.disk_name(node);
        let doing = || format!("making disk `{name}` in storage pool `{}`", lab.pool_name());
        let pool = connection.lookup_storage_pool_by_uuid(lab.pool_uuid()).doing(doing)?;
        let made = StorageVol::create_xml(&pool, &xml::disk(&name, size.bytes()), 0);
        made.already(&[ErrorNumber::StorageVolExist]).doing(doing)?;
        Ok(())
    }

    /// Deletes the disk and the console log of a node that goes, as far as there are any.
    pub fn delete_volumes(connection: &Connect, lab: &Lab, node: &Node) -> Result<()> {
        let pool_name = lab.pool_name();
        let pool = connection.lookup_storage_pool_by_uuid(lab.pool_uuid());
        let pool = pool.already(&[ErrorNumber::NoStoragePool]);
        let pool = pool.doing(|| format!("looking up storage pool `{pool_name}`"))?;
        let Some(pool) = pool else { return Ok(()) };
        // An inactive pool does not know its files.
        let gone = [ErrorNumber::NoStorageVolume, ErrorNumber::OperationInvalid];
        // QEMU made the log behind the pool's back.
        let refreshed = pool.refresh(0).already(&gone);
        refreshed.doing(|| format!("refreshing storage pool `{pool_name}`"))?;
        for name in [lab.disk_name(node), lab.console_log_name(node)] {
            let doing = || format!("deleting `{name}` of storage pool `{pool_name}`");
            let volume = pool.lookup_storage_vol_by_name(&name).already(&gone).doing(doing)?;
            if let Some(volume) = volume {
                delete_volume(&volume).doing(doing)?;
            }
        }
        Ok(())
    }

    /// The names of the files in the lab's pool; empty if there is no pool.
    pub fn pool_files(&self, lab: &Lab) -> Result<Vec<String>> {
        let Some(pool) = self.own_pool(lab)? else { return Ok(Vec::new()) };
        let doing = || format!("listing storage pool `{}`", lab.pool_name());
        // An inactive pool does not know its files.
        if !pool.is_active().doing(doing)? {
            return Ok(Vec::new());
        }
        pool.list_volumes().doing(doing)
    }

    /// The end of a node's console log, at most `bytes` bytes of it; empty if there is none yet.
    ///
    /// # Errors
    /// If libvirt cannot read it.
    pub fn console_tail(&self, lab: &Lab, node: &Node, bytes: u64) -> Result<String> {
        let doing = || format!("reading the console log of `{}`", node.name);
        let Some(pool) = self.own_pool(lab)? else { return Ok(String::new()) };
        pool.refresh(0).doing(doing)?;
        let name = lab.console_log_name(node);
        let volume = pool.lookup_storage_vol_by_name(&name);
        let Some(volume) = volume.already(&[ErrorNumber::NoStorageVolume]).doing(doing)? else {
            return Ok(String::new());
        };
        let size = volume.info().doing(doing)?.capacity;
        let length = size.min(bytes);
        let text = self.download(&volume, size - length, length, doing)?;
        Ok(String::from_utf8_lossy(&text).into_owned())
    }

    /// The files in the lab's pool whose names are meant, also those that libvirt has not made as volumes; nothing if there
    /// is no pool or it is inactive.
    ///
    /// # Errors
    /// If libvirt cannot tell.
    pub fn stored_files(
        &self,
        lab: &Lab,
        is_meant: impl Fn(&str) -> bool,
    ) -> Result<Vec<StoredFile>> {
        let doing = || format!("listing storage pool `{}`", lab.pool_name());
        let Some(pool) = self.own_pool(lab)? else { return Ok(Vec::new()) };
        if !pool.is_active().doing(doing)? {
            return Ok(Vec::new());
        }
        pool.refresh(0).doing(doing)?;
        let mut files = Vec::new();
        for name in pool.list_volumes().doing(doing)?.into_iter().filter(|name| is_meant(name)) {
            let gone = [ErrorNumber::NoStorageVolume];
            let volume = pool.lookup_storage_vol_by_name(&name).already(&gone).doing(doing)?;
            let info =
                volume.map(|volume| volume.info()).transpose().already(&gone).doing(doing)?;
            if let Some(info) = info.flatten() {
                files.push(StoredFile { name, bytes: info.capacity });
            }
        }
        Ok(files)
    }

    /// What a file in the lab's pool holds.
    ///
    /// # Errors
    /// If libvirt cannot read it.
    pub(crate) fn read_file(&self, lab: &Lab, file: &StoredFile) -> Result<Vec<u8>> {
        let StoredFile { name, bytes } = file;
        let doing = || format!("reading `{name}` of storage pool `{}`", lab.pool_name());
        let pool = self.require_pool(lab)?;
        let volume = pool.lookup_storage_vol_by_name(name).doing(doing)?;
        self.download(&volume, 0, *bytes, doing)
    }

    /// Deletes a file in the lab's pool, if it is there.
    ///
    /// # Errors
    /// If libvirt cannot.
    pub(crate) fn delete_file(&self, lab: &Lab, name: &str) -> Result<()> {
        let doing = || format!("deleting `{name}` of storage pool `{}`", lab.pool_name());
        let Some(pool) = self.own_pool(lab)? else { return Ok(()) };
        let gone = [ErrorNumber::NoStorageVolume];
        let volume = pool.lookup_storage_vol_by_name(name).already(&gone).doing(doing)?;
        volume.map_or(Ok(()), |volume| delete_volume(&volume)).doing(doing)
    }

    /// The bytes that are free where the lab's pool is, as of when its files were listed last.
    ///
    /// # Errors
    /// If libvirt cannot tell.
    pub(crate) fn free_space(&self, lab: &Lab) -> Result<u64> {
        let doing = || format!("looking at storage pool `{}`", lab.pool_name());
        Ok(self.require_pool(lab)?.info().doing(doing)?.available)
    }

    fn download(
        &self,
        volume: &StorageVol,
        offset: u64,
        length: u64,
        doing: impl Fn() -> String,
    ) -> Result<Vec<u8>> {
        // libvirt takes 0 for all that there is.
        if length == 0 {
            return Ok(Vec::new());
        }
        let stream = Stream::new(&self.connection()?, 0).doing(&doing)?;
        volume.download(&stream, offset, length, 0).doing(&doing)?;
        let content = receive_all(&stream).with_context(&doing)?;
        stream.finish().doing(&doing)?;
        Ok(content)
    }

    /// Deletes the lab's pool with everything in it.
    pub fn delete_pool(&self, lab: &Lab) -> Result<()> {
        let doing = || format!("deleting storage pool `{}`", lab.pool_name());
        let gone = [ErrorNumber::NoStoragePool];
        let Some(pool) = self.own_pool(lab)? else { return Ok(()) };
        // An inactive pool does not know its files; one whose folder is gone cannot be started.
        if pool.is_active().doing(doing)? || (pool.build(0).is_ok() && pool.create(0).is_ok()) {
            pool.refresh(0).doing(doing)?;
            for volume in pool.list_all_volumes(0).doing(doing)? {
                delete_volume(&volume).doing(doing)?;
            }
            let stopped = pool.destroy().unless(|| Ok(!pool.is_active()?));
            stopped.already(&gone).doing(doing)?;
        }
        pool.delete(0)
            .already(&[ErrorNumber::NoStoragePool, ErrorNumber::NoSupport])
            .doing(doing)?;
        pool.undefine().already(&gone).doing(doing)?;
        Ok(())
    }

    fn require_pool(&self, lab: &Lab) -> Result<StoragePool> {
        match self.own_pool(lab)? {
            Some(pool) => Ok(pool),
            None => bail!("storage pool `{}` is not there any more", lab.pool_name()),
        }
    }

    /// The pool whose UUID only this lab's UUID leads to.
    pub(super) fn own_pool(&self, lab: &Lab) -> Result<Option<StoragePool>> {
        let pool = self.connection()?.lookup_storage_pool_by_uuid(lab.pool_uuid());
        pool.already(&[ErrorNumber::NoStoragePool])
            .doing(|| format!("looking up storage pool `{}`", lab.pool_name()))
    }
}

/// Deletes a volume, unless it is gone. libvirt refuses it while somebody reads it, as `virtlab logs -f` does now and then.
fn delete_volume(volume: &StorageVol) -> Result<(), Error> {
    let is_in_use = |error: &Error| is_any(error, &[ErrorNumber::OperationInvalid]);
    let deleted = Deadline::after(READERS_PATIENCE).retry(POLL, is_in_use, || volume.delete(0));
    deleted.already(&[ErrorNumber::NoStorageVolume]).map(drop)
}

fn send_all(stream: &Stream, mut content: impl Read) -> Result<()> {
    let mut buffer = vec![0; CHUNK];
    loop {
        let read = content.read(&mut buffer)?;
        if read == 0 {
            return Ok(());
        }
        let mut chunk = &buffer[..read];
        while !chunk.is_empty() {
            let sent = stream.send(chunk).map_err(LibvirtError::from)?;
            chunk = &chunk[usize::try_from(sent)?..];
        }
    }
}

pub(super) fn receive_all(stream: &Stream) -> Result<Vec<u8>> {
    let mut text = Vec::new();
    let mut buffer = vec![0; CHUNK];
    loop {
        let received = stream.recv(&mut buffer).map_err(LibvirtError::from)?;
        if received <= 0 {
            return Ok(text);
        }
        text.extend_from_slice(&buffer[..usize::try_from(received)?]);
    }
}

/// How long others may read a volume that is to be deleted.
const READERS_PATIENCE: Duration = Duration::from_secs(10);
const POLL: Duration = Duration::from_millis(100);
/// libvirt's own limit of a stream packet is a little under 256 KiB.
const CHUNK: usize = 128 << 10;
