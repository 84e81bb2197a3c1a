//! The boot server's connections and their limits.
//!
//! `axum::serve` has no clock: with it, a machine that connects and says nothing, or takes nothing of its answer, keeps
//! its connection for ever, until there are no file descriptors left for anybody.

mod peers;
mod stream;
#[cfg(test)]
mod tests;

use std::future::Future;
use std::io::{Error, ErrorKind};
use std::net::SocketAddr;
use std::pin::pin;
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::extract::{ConnectInfo, Request};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::{Service, service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::server::graceful::GracefulShutdown;
use hyper_util::service::TowerToHyperService;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::{sleep, timeout};

use self::peers::Peers;
use self::stream::Connection;
use super::delivery::Delivery;

/// What one client may take of the server.
#[derive(Clone, Copy, Debug)]
pub(super) struct Limits {
    /// How long a request's head may take: on a new connection, and after an answer until the next one.
    pub(super) head: Duration,
    /// How long a client may take nothing of its answer.
    pub(super) stall: Duration,
    /// How many connections an address may have.
    pub(super) per_peer: usize,
    /// How long the server waits at its end for the answers that are still on their way.
    pub(super) end: Duration,
}

/// Serves `app` to all who connect until `end`, and after that, for a moment, to those who are being
/// answered then. A connection beyond the limit of its peer is closed at once.
pub(super) async fn serve_until(
    listener: TcpListener,
    app: Router,
    limits: Limits,
    end: impl Future<Output = ()>,
) {
    let mut http = http1::Builder::new();
    http.timer(TokioTimer::new()).header_read_timeout(limits.head);
    let graceful = GracefulShutdown::new();
    let peers = Peers::default();
    let mut end = pin!(end);
    loop {
        let (stream, peer) = tokio::select! {
            accepted = accept(&listener) => accepted,
            () = &mut end => break,
        };
        let Some(counted) = peers.admit(peer.ip(), limits.per_peer) else {
            tracing::debug!("{} has {} connections, and gets no more", peer.ip(), limits.per_peer);
            continue;
        };
        let delivery = Delivery::default();
        let connection = Connection::new(stream, delivery.clone(), limits.stall);
        let answers = TowerToHyperService::new(app.clone());
        let service = service_fn(move |request: Request<Incoming>| {
            let mut request = request.map(Body::new);
            request.extensions_mut().insert(ConnectInfo(peer));
            request.extensions_mut().insert(delivery.clone());
            answers.call(request)
        });
        let connection = http.serve_connection(TokioIo::new(connection), service);
        let connection = graceful.watch(connection);
        tokio::spawn(async move {
            let _counted = counted;
            if let Err(error) = connection.await {
                tracing::debug!("serving {peer}: {error}");
            }
        });
    }
    drop(listener);
    let unfinished = graceful.count();
    if timeout(limits.end, graceful.shutdown()).await.is_err() {
        tracing::warn!("ending with up to {unfinished} answers unfinished");
    }
}

/// Lets this process have as many connections as the host allows it; the usual 1024 are for
/// programs that use select(2).
pub(super) fn raise_open_files() {
    let Rlimit { current, maximum } = getrlimit(Resource::Nofile);
    if current == maximum {
        return;
    }
    if let Err(error) = setrlimit(Resource::Nofile, Rlimit { current: maximum, maximum }) {
        tracing::warn!("raising the limit of open files from {current:?}: {error}");
    }
}

/// The next who connects. What goes wrong is logged, and tried again.
async fn accept(listener: &TcpListener) -> (TcpStream, SocketAddr) {
    loop {
        match listener.accept().await {
            Ok((stream, peer)) => {
                // Small answers must not wait for the client's word that it got the last one.
                if let Err(error) = stream.set_nodelay(true) {
                    tracing::debug!("setting TCP_NODELAY: {error}");
                }
                return (stream, peer);
            }
            Err(error) if is_the_clients(&error) => tracing::debug!("accepting: {error}"),
            // Most likely there are no file descriptors left. It helps to wait for somebody to go.
            Err(error) => {
                tracing::error!("accepting a connection: {error}");
                sleep(ACCEPT_PAUSE).await;
            }
        }
    }
}

/// accept(2) also tells of what has become of the connection since.
fn is_the_clients(error: &Error) -> bool {
    use ErrorKind::{ConnectionAborted, ConnectionRefused, ConnectionReset};
    matches!(error.kind(), ConnectionAborted | ConnectionRefused | ConnectionReset)
}

impl Default for Limits {
    /// Firmware sends its request in one piece; a second is much, even in an emulated guest. What boots opens a
    /// few connections at a time; 64 leave room for nodes that share one address behind a router.
    fn default() -> Self {
        Self {
            head: Duration::from_secs(10),
            stall: Duration::from_secs(60),
            per_peer: 64,
            end: Duration::from_secs(5),
        }
    }
}

const ACCEPT_PAUSE: Duration = Duration::from_secs(1);
