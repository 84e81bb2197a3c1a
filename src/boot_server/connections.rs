//! The boot server's connections: who comes is let in, who says nothing is sent away, and at the end
//! those who are still being served get a moment.
//!
//! `axum::serve` has no clock: with it, a machine that connects and says nothing keeps its connection
//! for ever, until there are no file descriptors left for anybody.

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

use super::delivery::{Connection, Delivery};

/// How long the server waits for whom.
#[derive(Clone, Copy, Debug)]
pub(super) struct Patience {
    /// For a request's head: on a new connection, and after an answer until the next one.
    pub(super) head: Duration,
    /// For the answers that are still on their way at the end.
    pub(super) end: Duration,
}

/// Serves `app` to all who connect until `end`, and after that, for a moment, to those who are being
/// answered then.
pub(super) async fn serve_until(
    listener: TcpListener,
    app: Router,
    patience: Patience,
    end: impl Future<Output = ()>,
) {
    let mut http = http1::Builder::new();
    http.timer(TokioTimer::new()).header_read_timeout(patience.head);
    let graceful = GracefulShutdown::new();
    let mut end = pin!(end);
    loop {
        let (stream, peer) = tokio::select! {
            accepted = accept(&listener) => accepted,
            () = &mut end => break,
        };
        let delivery = Delivery::default();
        let connection = Connection { stream, delivery: delivery.clone() };
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
            if let Err(error) = connection.await {
                tracing::debug!("serving {peer}: {error}");
            }
        });
    }
    drop(listener);
    let unfinished = graceful.count();
    if timeout(patience.end, graceful.shutdown()).await.is_err() {
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

impl Default for Patience {
    /// Firmware sends its request in one piece; a second is much, even in an emulated guest.
    fn default() -> Self {
        Self { head: Duration::from_secs(10), end: Duration::from_secs(5) }
    }
}

const ACCEPT_PAUSE: Duration = Duration::from_secs(1);

#[cfg(test)]
mod tests {
    use std::convert::Infallible;
    use std::time::Instant;

    use axum::body::Bytes;
    use axum::routing::get;
    use futures_util::stream;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::sync::{mpsc, oneshot};
    use tokio::task::JoinHandle;

    use super::*;

    const PATIENCE: Patience =
        Patience { head: Duration::from_millis(200), end: Duration::from_secs(1) };
    const LONG: Duration = Duration::from_secs(20);

    /// A server with `/` (who asks), `/slow` (takes twice our patience) and `/endless`.
    struct Bench {
        address: SocketAddr,
        end: oneshot::Sender<()>,
        served: JoinHandle<()>,
        /// Something for each request for `/slow` that has arrived.
        slow: mpsc::UnboundedReceiver<()>,
    }

    async fn bench() -> Bench {
        let endless = || async {
            let chunks = stream::repeat_with(|| Ok::<_, Infallible>(Bytes::from(vec![0; 65_536])));
            Body::from_stream(chunks)
        };
        let (arrived, slow) = mpsc::unbounded_channel();
        let answer_slowly = || async move {
            arrived.send(()).unwrap();
            sleep(2 * PATIENCE.head).await;
            "slow"
        };
        let who = |ConnectInfo(peer): ConnectInfo<SocketAddr>| async move { peer.to_string() };
        let app = Router::new()
            .route("/", get(who))
            .route("/slow", get(answer_slowly))
            .route("/endless", get(endless));
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (end, ended) = oneshot::channel();
        let ended = async { ended.await.unwrap() };
        let served = tokio::spawn(serve_until(listener, app, PATIENCE, ended));
        Bench { address, end, served, slow }
    }

    impl Bench {
        async fn connect(&self, sent: &str) -> TcpStream {
            let mut stream = TcpStream::connect(self.address).await.unwrap();
            stream.write_all(sent.as_bytes()).await.unwrap();
            stream
        }
    }

    /// Everything until the server closes the connection.
    async fn rest(stream: &mut TcpStream) -> String {
        let mut text = String::new();
        timeout(LONG, stream.read_to_string(&mut text)).await.unwrap().unwrap();
        text
    }

    #[tokio::test]
    async fn who_says_nothing_or_not_enough_is_sent_away() {
        let bench = bench().await;
        for sent in ["", "GET / HTTP/1.1\r\nHost:"] {
            assert_eq!(rest(&mut bench.connect(sent).await).await, "", "{sent:?}");
        }
    }

    #[tokio::test]
    async fn who_is_answered_is_not_sent_away_before_the_next_request_is_due() {
        let bench = bench().await;
        let start = Instant::now();
        let mut stream = bench.connect("GET /slow HTTP/1.1\r\nHost: h\r\n\r\n").await;
        let text = rest(&mut stream).await;
        assert!(text.starts_with("HTTP/1.1 200 OK\r\n") && text.ends_with("slow"), "{text}");
        assert!(start.elapsed() >= 3 * PATIENCE.head, "{:?}", start.elapsed());
    }

    #[tokio::test]
    async fn the_handlers_know_who_asks() {
        let bench = bench().await;
        let mut stream = bench.connect("GET / HTTP/1.0\r\n\r\n").await;
        let expected = stream.local_addr().unwrap().to_string();
        let text = rest(&mut stream).await;
        assert!(text.ends_with(&expected), "{text}");
    }

    #[tokio::test]
    async fn a_stalled_download_does_not_keep_the_server() {
        let mut bench = bench().await;
        let mut stalled = bench.connect("GET /endless HTTP/1.1\r\nHost: h\r\n\r\n").await;
        let mut answered = bench.connect("GET /slow HTTP/1.1\r\nHost: h\r\n\r\n").await;
        stalled.read_exact(&mut [0; 4096]).await.unwrap();
        bench.slow.recv().await.unwrap();
        bench.end.send(()).unwrap();
        let text = rest(&mut answered).await;
        assert!(text.ends_with("slow"), "{text}");
        timeout(LONG, bench.served).await.unwrap().unwrap();
        assert!(TcpStream::connect(bench.address).await.is_err());
    }
}
