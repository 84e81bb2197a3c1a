//! Our HTTP server, one process per lab: it hands out every stage of a boot and so knows how far
//! each node is. The only part with an async runtime inside; to the rest it is one blocking call.

mod asking;
pub mod client;
mod connections;
mod content;
mod delivery;
pub mod discovery;
mod events;
mod file_body;
mod files;
mod membership;
pub mod message;
pub mod page;
mod probe;
pub mod process;
mod range;
pub mod recorder;
mod routes;
mod server;
mod spent_url;
pub mod stage;
mod upkeep;

use std::net::SocketAddr;
use std::sync::Arc;

use anyhow::{Context, Result};
use tokio::net::TcpListener;

use self::connections::{Limits, raise_open_files, serve_until};
pub(crate) use self::content::CONTENT_FILE;
use self::content::DISCOVERY_PATH;
pub use self::content::{Content, ServedFile, ServedNode};
pub use self::discovery::Discovery;
use self::page::insight::Insight;
pub use self::routes::router;
pub use self::server::Server;
pub use self::upkeep::Folder;

/// Serves the lab's files and, below `/discovery`, its etcd discovery, until a signal ends the process or the lab's
/// folder is gone. The lab's page, on loopback, shows what `insight` finds as well.
///
/// # Errors
/// If the address cannot be listened on.
pub fn serve(
    server: Arc<Server>,
    discovery: Discovery,
    address: SocketAddr,
    folder: Folder,
    insight: Arc<dyn Insight>,
) -> Result<()> {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(WORKERS)
        .enable_all()
        .build()
        .context("starting the boot server")?;
    let served = runtime.block_on(async {
        let listener = TcpListener::bind(address)
            .await
            .with_context(|| format!("listening on http://{address}"))?;
        // Not before: who cannot listen must not be taken for who does.
        process::mark_own_process(&folder.path)?;
        tracing::info!("listening on http://{address}");
        let discovery = Arc::new(discovery);
        raise_open_files();
        tokio::spawn(probe::probe(Arc::clone(&server)));
        let app = router(Arc::clone(&server))
            .nest(DISCOVERY_PATH, discovery::router(Arc::clone(&discovery)));
        let (shown, path) = (Arc::clone(&server), folder.path.clone());
        let page = tokio::spawn(async move { page::serve(shown, insight, &path).await });
        let gone = async move {
            upkeep::until_gone(Arc::clone(&server), folder).await;
            server.close();
            discovery.close();
        };
        serve_until(listener, app, Limits::default(), gone).await;
        let _ = page.await;
        Ok(())
    });
    // A node that is being asked may take its time to answer.
    runtime.shutdown_background();
    served
}

/// Nodes that boot at the same time are served at the same time; the rest of the host is theirs.
const WORKERS: usize = 2;
