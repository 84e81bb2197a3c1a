//! When a body is sent. hyper takes a body's last chunk long before it is written, and lets go of the
//! body then; a client that breaks off just there must not count as one that has all of it. hyper
//! flushes a connection once everything it holds is written, so that is where it is found out.
//!
//! More cannot be known up here: the kernel may still hold a few megabytes for a client that is slow,
//! and a client may lose what it has got.

use std::fmt;
use std::pin::Pin;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll};

use axum::body::{Body, Bytes, HttpBody};
use http_body::{Frame, SizeHint};

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

impl fmt::Debug for Delivery {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Delivery").finish_non_exhaustive()
    }
}
