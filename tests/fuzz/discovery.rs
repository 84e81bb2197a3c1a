//! Whatever a node sends to the discovery, it is answered with HTTP, nothing breaks, and what was registered is there
//! after a restart. What stands before a zero byte is a registry that an earlier boot server left.

use std::convert::Infallible;
use std::path::Path;
use std::sync::{Arc, LazyLock};

use axum::body::Body;
use axum::extract::Request;
use fs_err as fs;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::{Service, service_fn};
use hyper_util::rt::TokioIo;
use hyper_util::service::TowerToHyperService;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::runtime::{Builder, Runtime};
use virtlab::boot_server::Discovery;
use virtlab::boot_server::discovery::registry::Registry;
use virtlab::boot_server::discovery::router;

pub(crate) fn holds(data: &[u8]) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("discovery.json");
    let (saved, requests) = match data.iter().position(|byte| *byte == 0) {
        Some(end) => (Some(&data[..end]), &data[end + 1..]),
        None => (None, data),
    };
    if let Some(saved) = saved {
        fs::write(&path, saved).unwrap();
    }
    let Ok(discovery) = open(&path) else {
        assert!(saved.is_some(), "a registry can be begun");
        return;
    };
    discovery.new_token(2).ok();
    // Long polls end at once, so that nothing waits.
    discovery.close();
    let before = fs::read_to_string(&path).ok();
    let answers = RUNTIME.block_on(answers(discovery, requests));
    assert!(answers.is_empty() || answers.starts_with("HTTP/1."), "{answers}");
    assert!(!answers.contains("Raft Internal Error"), "{answers}");

    let Ok(text) = fs::read_to_string(&path) else {
        assert_eq!(before, None);
        return;
    };
    let registry = Registry::from_json(&text).expect("what was saved can be read");
    // One that nobody changed is as it was found, whoever indented it.
    if saved.is_none_or(|saved| saved != text.as_bytes()) {
        assert_eq!(registry.to_json().unwrap(), text);
    }
    drop(open(&path).expect("a restart goes on with it"));
}

/// Tokens are 1, 2, 3, …, so that a request can name one.
fn open(path: &Path) -> anyhow::Result<Discovery> {
    let mut last = 0_u128;
    let random = move || {
        last += 1;
        last.to_be_bytes()
    };
    Discovery::open_with(path, "http://10.0.0.1:8470/discovery", random)
}

/// All that comes back on one connection.
async fn answers(discovery: Discovery, requests: &[u8]) -> String {
    let app = TowerToHyperService::new(router(Arc::new(discovery)));
    let service = service_fn(move |request: Request<Incoming>| {
        let answer = app.call(request.map(Body::new));
        async move { Ok::<_, Infallible>(answer.await.unwrap_or_else(|never| match never {})) }
    });
    let (mut client, server) = tokio::io::duplex(1 << 20);
    client.write_all(requests).await.unwrap();
    client.shutdown().await.unwrap();
    let mut http = http1::Builder::new();
    // A client that has said all still gets its answers.
    let served = http.half_close(true).serve_connection(TokioIo::new(server), service);
    let mut answers = Vec::new();
    let (_, read) = tokio::join!(served, client.read_to_end(&mut answers));
    read.unwrap();
    String::from_utf8_lossy(&answers).into_owned()
}

static RUNTIME: LazyLock<Runtime> =
    LazyLock::new(|| Builder::new_current_thread().enable_time().build().unwrap());
