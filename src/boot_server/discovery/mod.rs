//! etcd v2 discovery, embedded: the meeting point of nodes that do not know each other yet.
//!
//! The public service is gone for practical purposes, and a lab must come up without the internet.
//! So the boot server speaks the protocol itself, to the letter of what etcd's client asks
//! (`server/etcdserver/api/v2discovery` in etcd 3.4 and 3.5) and the real service answers.
//!
//! A change is saved before anybody is told of it, be it the one who asked or a waiting node: a
//! boot server that is killed and started again has forgotten nothing that a node was promised.

use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use anyhow::{Context, Result, bail};
use fs_err as fs;
use reqwest::Url;
use thiserror::Error;
use tokio::sync::watch;
use uuid::Uuid;

use self::protocol::EtcdError;
use self::registry::Registry;
pub use self::routes::router;
use self::token::{Size, Token};
use crate::files::{Readers, replace};

mod params;
pub mod protocol;
pub mod registry;
mod routes;
pub mod token;

/// The registry with its file, shared by the routes and by whoever wants a token.
///
/// None of its methods needs an async runtime. Those that change something wait for the disk.
pub struct Discovery {
    path: PathBuf,
    base: String,
    writer: Mutex<Writer>,
    /// What has been saved. Readers and waiters see nothing else.
    saved: watch::Sender<Snapshot>,
    /// Held as long as this lives, so that two processes do not save over each other.
    _lock: fs::File,
}

impl Discovery {
    /// Opens the registry saved at `path`, or begins one there. `base` is the URL below which
    /// [`router`] is reached by the nodes, such as `http://10.0.0.1:8080/discovery`.
    ///
    /// Fails if the file is not a registry, or if another process has it open.
    pub fn open(path: &Path, base: &str) -> Result<Self> {
        Self::open_with(path, base, || Uuid::new_v4().into_bytes())
    }

    /// The same with a given source of tokens.
    pub fn open_with(
        path: &Path,
        base: &str,
        mut random: impl FnMut() -> [u8; 16] + Send + 'static,
    ) -> Result<Self> {
        let base = base_url(base)
            .with_context(|| format!("reading the base URL `{base}` of the discovery"))?;
        let lock = lock_registry(path)?;
        let registry = load(path)?.unwrap_or_else(|| {
            let (_, id) = Uuid::from_bytes(random()).as_u64_pair();
            Registry::new(id)
        });
        Ok(Self {
            path: path.to_owned(),
            base,
            writer: Mutex::new(Writer { random: Box::new(random) }),
            saved: watch::Sender::new(Snapshot { registry, closed: false }),
            _lock: lock,
        })
    }

    /// A discovery URL, never given before, for a cluster of `size` members. Fails if the size is
    /// not 1 to 1000, if there are too many clusters, or if it cannot be saved.
    pub fn new_token(&self, size: usize) -> Result<String> {
        let size = Size::try_from(size).map_err(anyhow::Error::msg);
        let url = size.and_then(|size| Ok(self.create(size)?));
        url.context("making a discovery URL")
    }

    /// Ends all long polls, now and later, so that a graceful shutdown does not wait for nodes that
    /// wait for each other. etcd's client asks again until a server is back.
    pub fn close(&self) {
        self.saved.send_modify(|snapshot| snapshot.closed = true);
    }

    fn create(&self, size: Size) -> Result<String, ChangeError> {
        self.change(|registry, writer| {
            let token = Token::new((writer.random)());
            let url = format!("{}/{}", self.base, token.as_str());
            registry.create(token, size)?;
            Ok(url)
        })
    }

    /// Makes a change, saves it, and only then lets it be seen.
    fn change<T>(
        &self,
        change: impl FnOnce(&mut Registry, &mut Writer) -> Result<T, EtcdError>,
    ) -> Result<T, ChangeError> {
        // What is seen is replaced in one piece, so a panic elsewhere has left nothing half-done.
        let mut writer = self.writer.lock().unwrap_or_else(PoisonError::into_inner);
        let mut registry = self.saved.borrow().registry.clone();
        let value = change(&mut registry, &mut writer)?;
        save(&self.path, &registry)?;
        self.saved.send_modify(|snapshot| snapshot.registry = registry);
        Ok(value)
    }
}

struct Writer {
    random: Box<dyn FnMut() -> [u8; 16] + Send>,
}

struct Snapshot {
    registry: Registry,
    closed: bool,
}

/// Why a change was not made.
#[derive(Debug, Error)]
enum ChangeError {
    #[error(transparent)]
    Refused(#[from] EtcdError),
    #[error(transparent)]
    NotSaved(#[from] anyhow::Error),
}

fn base_url(base: &str) -> Result<String> {
    let url = Url::parse(base)?;
    if !matches!(url.scheme(), "http" | "https") {
        bail!("it must start with `http://` or `https://`");
    }
    if url.query().is_some() || url.fragment().is_some() {
        bail!("it must not have a query or a fragment");
    }
    Ok(base.trim_end_matches('/').to_owned())
}

fn lock_registry(path: &Path) -> Result<fs::File> {
    let mut name = path.as_os_str().to_owned();
    name.push(".lock");
    let lock = fs::OpenOptions::new().create(true).append(true).open(PathBuf::from(name))?;
    match lock.try_lock() {
        Ok(()) => Ok(lock),
        Err(std::fs::TryLockError::WouldBlock) => {
            bail!("opening the discovery registry `{}`: it is in use", path.display())
        }
        Err(std::fs::TryLockError::Error(error)) => {
            Err(error).with_context(|| format!("locking `{}`", lock.path().display()))
        }
    }
}

fn load(path: &Path) -> Result<Option<Registry>> {
    let text = match fs::read_to_string(path) {
        Ok(text) => text,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error.into()),
    };
    let registry = Registry::from_json(&text).map_err(anyhow::Error::msg);
    let context = || format!("reading the discovery registry `{}`", path.display());
    registry.map(Some).with_context(context)
}

fn save(path: &Path, registry: &Registry) -> Result<()> {
    let text = registry.to_json().context("writing the discovery registry")?;
    replace(path, text.as_bytes(), Readers::Owner).context("saving the discovery registry")
}

#[cfg(test)]
mod tests;
