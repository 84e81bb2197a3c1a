//! When a body is sent. hyper takes a body's last chunk long before it is written, and lets go of the
//! body then; a client that breaks off just there must not count as one that has all of it. hyper
//! flushes a connection once everything it holds is written, so that is where it is found out.
//!
//! More cannot be known up here: the kernel may still hold a few megabytes for a client that is slow,
//! and a client may lose what it has got.

use std::fmt;
use std::io::{self, IoSlice};
use std::pin::Pin;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll};

use axum::body::{Body, Bytes, HttpBody};
use http_body::{Frame, SizeHint};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;

/// What is to be done once everything that was written to a connection has been sent. It is never
/// done if the connection breaks before. A request has its connection's as an extension.
#[derive(Clone, Default)]
pub(super) struct Delivery(Arc<Mutex<Vec<Job>>>);

type Job = Box<dyn FnOnce() + Send>;

impl Delivery {
    /// The same body; `sent` is called once all of its `length` bytes have been sent.
    pub(super) fn noting(
        self,
        body: Body,
        length: u64,
        sent: impl FnOnce() + Send + 'static,
    ) -> Body {
        let mut noted = Noted { body, left: length, sent: Some(Box::new(sent)), delivery: self };
        // Nobody asks an empty body for a chunk.
        noted.look_for_end();
        Body::new(noted)
    }

    /// Everything that was written has been sent.
    pub(super) fn flushed(&self) {
        let jobs = std::mem::take(&mut *self.0.lock().expect("no job runs with it"));
        for job in jobs {
            job();
        }
    }
}

struct Noted {
    body: Body,
    left: u64,
    sent: Option<Job>,
    delivery: Delivery,
}

impl Noted {
    fn look_for_end(&mut self) {
        if self.left > 0 {
            return;
        }
        if let Some(job) = self.sent.take() {
            self.delivery.0.lock().expect("no job runs with it").push(job);
        }
    }
}

impl HttpBody for Noted {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        let polled = Pin::new(&mut self.body).poll_frame(context);
        if let Poll::Ready(Some(Ok(frame))) = &polled {
            let length = frame.data_ref().map_or(0, |data| data.len() as u64);
            self.left = self.left.saturating_sub(length);
            // hyper writes this chunk before it flushes the next time.
            self.look_for_end();
        }
        polled
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

/// A connection that tells when everything that was written to it is sent.
pub(super) struct Connection {
    pub(super) stream: TcpStream,
    pub(super) delivery: Delivery,
}

impl AsyncRead for Connection {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(context, buffer)
    }
}

impl AsyncWrite for Connection {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(context, bytes)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        chunks: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write_vectored(context, chunks)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let flushed = Pin::new(&mut self.stream).poll_flush(context);
        if matches!(flushed, Poll::Ready(Ok(()))) {
            self.delivery.flushed();
        }
        flushed
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}

impl fmt::Debug for Delivery {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Delivery").finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use axum::extract::Path;
    use axum::routing::get;
    use axum::{Extension, Router};
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::TcpListener;
    use tokio::sync::mpsc;
    use tokio::time::timeout;

    use super::*;
    use crate::boot_server::connections::{Patience, serve_until};

    /// More than the kernel keeps for a client that reads nothing.
    const LENGTH: usize = 64 << 20;
    const LONG: Duration = Duration::from_secs(20);

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
        tokio::spawn(serve_until(listener, app, Patience::default(), std::future::pending()));
        let ask = async |length: usize| {
            let mut stream = TcpStream::connect(address).await.unwrap();
            let request = format!("GET /{length} HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n");
            stream.write_all(request.as_bytes()).await.unwrap();
            stream
        };

        let mut stream = ask(LENGTH).await;
        stream.read_exact(&mut [0; 4096]).await.unwrap();
        drop(stream);
        for length in [LENGTH, 1, 0] {
            let mut answer = Vec::new();
            let mut stream = ask(length).await;
            timeout(LONG, stream.read_to_end(&mut answer)).await.unwrap().unwrap();
            assert!(answer.len() > length, "{length}");
            assert_eq!(timeout(LONG, noted.recv()).await.unwrap(), Some(length));
        }
        assert!(noted.is_empty());
    }
}
