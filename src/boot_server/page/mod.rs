//! The page of a lab, on a listener of its own: on loopback only, never at the address that nodes reach. It is read-only, and
//! it shows what `/events` tells and what an [`Insight`] finds out.

pub mod address;
mod guard;
pub mod insight;
mod routes;
mod samples;
mod stream;
#[cfg(test)]
mod tests;

use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant, UNIX_EPOCH};

use anyhow::{Context, Result};
use fs_err as fs;
use tokio::net::TcpListener;
use tokio::sync::{Notify, watch};
use tokio::task::spawn_blocking;
use tokio::time::sleep;

use self::address::PageAddress;
use self::guard::Guard;
use self::insight::{Insight, Look};
use self::samples::Samples;
use super::connections::{Limits, serve_until};
use super::server::Server;
use crate::boot_server::recorder::timeline::Timeline;

/// What the page's routes share.
pub(super) struct Page {
    server: Arc<Server>,
    insight: Arc<dyn Insight>,
    samples: Samples,
    /// The newest look, once there is one.
    looks: watch::Sender<Option<Arc<Look>>>,
    /// Somebody begins to listen.
    came: Notify,
    /// The picture of the newest verdict, if there is one.
    verdict: PathBuf,
}

/// Serves the page until the server closes. That it cannot be served keeps nobody from booting.
pub(super) async fn serve(server: Arc<Server>, insight: Arc<dyn Insight>, folder: &Path) {
    let (listener, address) = match listen(folder).await {
        Ok(both) => both,
        Err(error) => {
            tracing::warn!("serving no page: {error:#}");
            return;
        }
    };
    tracing::info!("the lab's page is at 127.0.0.1:{}", address.port);
    let mut closing = server.closing();
    let page = Arc::new(Page::new(server, insight, folder));
    tokio::spawn(Arc::clone(&page).look());
    let app = routes::router(page, Guard::new(address));
    let end = async move {
        let _ = closing.wait_for(|closed| *closed).await;
    };
    serve_until(listener, app, Limits::default(), end).await;
}

/// Listens where the folder says, so that a page that is open finds its server again, or anywhere on loopback.
async fn listen(folder: &Path) -> Result<(TcpListener, PageAddress)> {
    let on = |port| TcpListener::bind(SocketAddr::from((Ipv4Addr::LOCALHOST, port)));
    let known = PageAddress::read(folder).ok();
    if let Some(known) = &known
        && let Ok(listener) = on(known.port).await
    {
        return Ok((listener, known.clone()));
    }
    let listener = on(0).await.context("listening on 127.0.0.1")?;
    let port = listener.local_addr().context("asking for the port of 127.0.0.1")?.port();
    // Where the old place is somebody else's now, the old keys may have been told to them.
    let address = PageAddress::new(port);
    address.write(folder)?;
    Ok((listener, address))
}

impl Page {
    fn new(server: Arc<Server>, insight: Arc<dyn Insight>, folder: &Path) -> Self {
        let samples = Samples::open(folder);
        let (looks, came) = (watch::Sender::new(None), Notify::new());
        Self { server, insight, samples, looks, came, verdict: folder.join(VERDICT_FILE) }
    }

    /// Looks at the lab again and again, as long as somebody has the page open.
    async fn look(self: Arc<Self>) {
        let mut closing = self.server.closing();
        loop {
            while self.looks.receiver_count() == 0 {
                tokio::select! {
                    () = self.came.notified() => {}
                    _ = closing.wait_for(|closed| *closed) => return,
                }
            }
            let began = Instant::now();
            let page = Arc::clone(&self);
            let looked = spawn_blocking(move || {
                let known = page.server.recorder().look(Timeline::clone);
                Look { verdict_ms: modified_ms(&page.verdict), ..page.insight.look(&known) }
            });
            let Ok(look) = looked.await else { return };
            if let Some(memory) = look.memory {
                self.samples.add(memory);
            }
            self.looks.send_replace(Some(Arc::new(look)));
            // A host that is slow to answer is asked less often.
            let pause = (2 * began.elapsed()).clamp(SHORTEST, LONGEST);
            tokio::select! {
                () = sleep(pause) => {}
                _ = closing.wait_for(|closed| *closed) => return,
            }
        }
    }
}

fn modified_ms(file: &Path) -> Option<u64> {
    let modified = fs::metadata(file).and_then(|it| it.modified()).ok()?;
    let since = modified.duration_since(UNIX_EPOCH).ok()?;
    u64::try_from(since.as_millis()).ok()
}

/// The name of the file in a lab's folder that whoever makes a verdict draws again and again.
pub const VERDICT_FILE: &str = "verdict.svg";
const SHORTEST: Duration = Duration::from_secs(2);
const LONGEST: Duration = Duration::from_secs(15);
