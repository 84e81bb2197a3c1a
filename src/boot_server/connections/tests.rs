use std::convert::Infallible;
use std::time::Instant;

use axum::Extension;
use axum::body::Bytes;
use axum::extract::Path;
use axum::routing::get;
use futures_util::stream;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinHandle;

use super::*;

const LIMITS: Limits = Limits {
    head: Duration::from_millis(200),
    stall: Duration::from_secs(20),
    per_peer: 8,
    end: Duration::from_secs(1),
};
const LONG: Duration = Duration::from_secs(20);
/// More than the kernel keeps for a client that reads nothing.
const TOO_MUCH: usize = 64 << 20;

/// A server with `/` (who asks), `/slow` (takes twice as long as a head may) and `/endless`.
struct Bench {
    address: SocketAddr,
    end: oneshot::Sender<()>,
    served: JoinHandle<()>,
    /// Something for each request for `/slow` that has arrived.
    slow: mpsc::UnboundedReceiver<()>,
}

async fn bench() -> Bench {
    limited(LIMITS).await
}

async fn limited(limits: Limits) -> Bench {
    let endless = || async {
        let chunks = stream::repeat_with(|| Ok::<_, Infallible>(Bytes::from(vec![0; 65_536])));
        Body::from_stream(chunks)
    };
    let (arrived, slow) = mpsc::unbounded_channel();
    let answer_slowly = || async move {
        arrived.send(()).unwrap();
        sleep(2 * LIMITS.head).await;
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
    let served = tokio::spawn(serve_until(listener, app, limits, ended));
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
    assert!(start.elapsed() >= 3 * LIMITS.head, "{:?}", start.elapsed());
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

#[tokio::test]
async fn who_takes_nothing_of_an_answer_is_sent_away() {
    let bench = limited(Limits { stall: Duration::from_millis(300), ..LIMITS }).await;
    let mut stalled = bench.connect("GET /endless HTTP/1.1\r\nHost: h\r\n\r\n").await;
    sleep_until_closed(&mut stalled).await;
    // Who takes a little now and then is served on.
    let mut slow = bench.connect("GET /endless HTTP/1.1\r\nHost: h\r\n\r\n").await;
    let start = Instant::now();
    let mut part = vec![0; TOO_MUCH / 8];
    while start.elapsed() < Duration::from_secs(1) {
        timeout(LONG, slow.read_exact(&mut part)).await.unwrap().unwrap();
        sleep(Duration::from_millis(50)).await;
    }
}

/// Waits until the server has closed the connection, without reading what it sent.
async fn sleep_until_closed(stream: &mut TcpStream) {
    let closed = async {
        while stream.write_all(b"x").await.is_ok() {
            sleep(Duration::from_millis(20)).await;
        }
    };
    timeout(LONG, closed).await.expect("the server closes the connection");
}

#[tokio::test]
async fn who_has_too_many_connections_gets_no_more_until_one_ends() {
    let bench = limited(Limits { head: LONG, per_peer: 2, ..LIMITS }).await;
    let request = "GET / HTTP/1.0\r\n\r\n";
    let (first, mut second) = (bench.connect("").await, bench.connect("").await);
    let mut third = bench.connect("").await;
    // It is closed with nothing said.
    assert_eq!(timeout(LONG, third.read(&mut [0])).await.unwrap().unwrap_or(0), 0);
    drop(first);
    let answered = async {
        loop {
            let mut again = bench.connect(request).await;
            let mut text = String::new();
            if again.read_to_string(&mut text).await.is_ok() && text.starts_with("HTTP/1.0 200") {
                break;
            }
        }
    };
    timeout(LONG, answered).await.unwrap();
    second.write_all(request.as_bytes()).await.unwrap();
    assert!(rest(&mut second).await.starts_with("HTTP/1.0 200"));
}

#[tokio::test]
async fn what_the_client_did_not_take_is_not_sent() {
    let (note, mut noted) = mpsc::unbounded_channel();
    let answer = async |Extension(delivery): Extension<Delivery>, Path(length): Path<usize>| {
        let sent = move || note.send(length).unwrap();
        // In one chunk, which hyper takes at once.
        delivery.noting(Body::from(vec![0; length]), length as u64, sent)
    };
    let app = Router::new().route("/{length}", get(answer));
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(serve_until(listener, app, Limits::default(), std::future::pending()));
    let ask = async |length: usize| {
        let mut stream = TcpStream::connect(address).await.unwrap();
        let request = format!("GET /{length} HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n");
        stream.write_all(request.as_bytes()).await.unwrap();
        stream
    };

    let mut stream = ask(TOO_MUCH).await;
    stream.read_exact(&mut [0; 4096]).await.unwrap();
    drop(stream);
    for length in [TOO_MUCH, 1, 0] {
        let mut answer = Vec::new();
        let mut stream = ask(length).await;
        timeout(LONG, stream.read_to_end(&mut answer)).await.unwrap().unwrap();
        assert!(answer.len() > length, "{length}");
        assert_eq!(timeout(LONG, noted.recv()).await.unwrap(), Some(length));
    }
    assert!(noted.is_empty());
}
