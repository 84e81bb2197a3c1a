//! Makes what a lab consists of by nothing but libvirt's API, in the order and with the connections and threads of
//! `virtlab create`, which scripts/bench/many.sh measures against it.
//!
//! `raw-create FOLDER`: `network.xml`, `pool.xml`, `domains/*.xml`, and `volumes/*`, the files of the pool.

use std::error::Error;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

use fs_err as fs;
use virt::connect::Connect;
use virt::domain::Domain;
use virt::storage_pool::StoragePool;
use virt::storage_vol::StorageVol;
use virt::stream::Stream;
use virt::sys;

fn main() -> Result<(), Box<dyn Error>> {
    let folder: PathBuf = std::env::args_os().nth(1).ok_or("name a folder")?.into();
    let connection = Connect::open(None)?;
    let network =
        connection.define_network_xml(&fs::read_to_string(folder.join("network.xml"))?)?;
    let pool = fs::read_to_string(folder.join("pool.xml"))?;
    let pool = connection.define_storage_pool_xml(&pool, 0)?;
    pool.build(0)?;
    pool.create(0)?;
    pool.set_autostart(true)?;
    for file in files(&folder.join("volumes"))? {
        upload(&connection, &pool, &file)?;
    }
    network.create()?;
    network.set_autostart(true)?;

    let domains: io::Result<Vec<_>> =
        files(&folder.join("domains"))?.iter().map(fs::read_to_string).collect();
    let connections: Result<Vec<_>, _> = (0..CONNECTIONS).map(|_| Connect::open(None)).collect();
    let (domains, connections) = (domains?, connections?);
    let flags = sys::VIR_DOMAIN_DEFINE_VALIDATE;
    let domains = each(&connections, &domains, |connection, xml| {
        connection.define_domain_xml_flags(xml, flags)
    })?;
    let flags = sys::VIR_DOMAIN_START_PAUSED;
    each(&connections, &domains, |_, domain: &Domain| domain.create_with_flags(flags))?;
    each(&connections, &domains, |_, domain: &Domain| domain.resume())?;
    Ok(())
}

/// Calls `call` for all items, each connection in the hands of several threads.
fn each<I: Sync, T: Send>(
    connections: &[Connect],
    items: &[I],
    call: impl Fn(&Connect, &I) -> Result<T, virt::error::Error> + Sync,
) -> Result<Vec<T>, virt::error::Error> {
    let next = AtomicUsize::new(0);
    let work = |connection: &Connect| {
        let mut results = Vec::new();
        while let Some(item) = items.get(next.fetch_add(1, Ordering::Relaxed)) {
            results.push(call(connection, item));
        }
        results
    };
    thread::scope(|scope| {
        let threads = connections.iter().cycle().take(CONNECTIONS * CALLS_PER_CONNECTION);
        let threads: Vec<_> = threads.map(|connection| scope.spawn(|| work(connection))).collect();
        threads.into_iter().flat_map(|thread| thread.join().expect("no thread panics")).collect()
    })
}

fn upload(connection: &Connect, pool: &StoragePool, file: &Path) -> Result<(), Box<dyn Error>> {
    let content = fs::read(file)?;
    let name = file.file_name().unwrap_or_default().display();
    let xml = format!(
        "<volume><name>{name}</name><capacity unit='bytes'>{}</capacity><target><format type='raw'/>\
         <permissions><mode>0644</mode></permissions></target></volume>",
        content.len()
    );
    let volume = StorageVol::create_xml(pool, &xml, 0)?;
    if content.is_empty() {
        return Ok(());
    }
    let stream = Stream::new(connection, 0)?;
    volume.upload(&stream, 0, content.len() as u64, 0)?;
    for chunk in content.chunks(CHUNK) {
        let mut left = chunk;
        while !left.is_empty() {
            left = &left[usize::try_from(stream.send(left)?)?..];
        }
    }
    stream.finish()?;
    Ok(())
}

fn files(folder: &Path) -> io::Result<Vec<PathBuf>> {
    let mut files: Vec<PathBuf> =
        fs::read_dir(folder)?.map(|item| Ok(item?.path())).collect::<io::Result<_>>()?;
    files.sort();
    Ok(files)
}

// As in src/hypervisor/mod.rs.
const CONNECTIONS: usize = 4;
const CALLS_PER_CONNECTION: usize = 4;
const CHUNK: usize = 128 << 10;
