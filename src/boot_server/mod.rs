//! Our HTTP server, one process per lab: it hands out every stage of a boot and so knows how far
//! each node is. The only part with an async runtime inside; to the rest it is one blocking call.

mod connections;
mod content;
mod delivery;
pub mod discovery;
mod file_body;
mod files;
pub mod process;
mod range;
mod routes;
pub mod timeline;

use std::io::{Read, Write};
use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use anyhow::{Context, Result};
use fs_err as fs;
use tokio::net::TcpListener;

use self::connections::{Limits, raise_open_files, serve_until};
pub use self::content::{Content, ServedFile, ServedNode};
pub use self::discovery::Discovery;
pub use self::routes::{Status, router};
use self::timeline::{Event, Timeline};
use crate::host::neighbour::{self, Neighbour};

/// What the handlers share.
#[derive(Debug)]
pub struct Server {
    content: Content,
    timeline: Mutex<Timeline>,
    journal: Mutex<fs::File>,
    neighbour: fn(IpAddr) -> Neighbour,
}

impl Server {
    /// A server of `content` that goes on with the timeline that `journal` holds.
    ///
    /// # Errors
    /// If the journal cannot be read or written.
    pub fn new(content: Content, journal: &Path) -> Result<Self> {
        let mut timeline = Timeline::new(&content.nodes);
        let mut file = fs::File::options().read(true).create(true).append(true).open(journal)?;
        let mut text = String::new();
        file.read_to_string(&mut text)?;
        // A line that was cut off by a crash is not worth failing for, but the next one must not
        // become a part of it.
        if !text.is_empty() && !text.ends_with('\n') {
            file.write_all(b"\n")?;
        }
        let events = text.lines().filter_map(|line| serde_json::from_str(line).ok());
        events.for_each(|event: Event| timeline.apply(&event));
        Ok(Self {
            content,
            timeline: Mutex::new(timeline),
            journal: Mutex::new(file),
            neighbour: neighbour::look_up,
        })
    }

    /// Notes that something happened, for the status and for the next start.
    fn record(&self, event: &Event) {
        let Event { node, stage, file, from, bytes, .. } = event;
        tracing::info!(node, stage = stage.name(), file, %from, bytes);
        self.timeline.lock().expect("no handler panics").apply(event);
        let mut line = serde_json::to_string(event).expect("an event is plain data");
        line.push('\n');
        let written = self.journal.lock().expect("no handler panics").write_all(line.as_bytes());
        if let Err(error) = written {
            tracing::warn!("writing the journal: {error}");
        }
    }
}

/// Serves the lab's files and, below [`DISCOVERY_PATH`], its etcd discovery, until a signal ends the
/// process or `state` (the lab's folder, where the journal is) is gone: a server whose lab was
/// destroyed must not outlive it.
///
/// # Errors
/// If the address cannot be listened on.
pub fn serve(
    server: Server,
    discovery: Discovery,
    address: SocketAddr,
    state: PathBuf,
) -> Result<()> {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(WORKERS)
        .enable_all()
        .build()
        .context("starting the boot server")?;
    runtime.block_on(async {
        let listener = TcpListener::bind(address)
            .await
            .with_context(|| format!("listening on http://{address}"))?;
        tracing::info!("listening on http://{address}");
        let discovery = Arc::new(discovery);
        raise_open_files();
        let app = router(Arc::new(server))
            .nest(DISCOVERY_PATH, discovery::router(Arc::clone(&discovery)));
        let gone = async move {
            until_gone(state).await;
            discovery.close();
        };
        serve_until(listener, app, Limits::default(), gone).await;
        Ok(())
    })
}

async fn until_gone(state: PathBuf) {
    while state.exists() {
        tokio::time::sleep(STATE_CHECK).await;
    }
    tracing::info!("the lab is gone, and so am I");
}

/// Milliseconds since the epoch, as the timeline counts.
pub(crate) fn now_ms() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or(Duration::ZERO);
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}

/// Where the boot server's own etcd discovery is, below the server's URL.
pub const DISCOVERY_PATH: &str = "/discovery";
/// Nodes that boot at the same time are served at the same time; the rest of the host is theirs.
const WORKERS: usize = 2;
const STATE_CHECK: Duration = Duration::from_secs(1);
