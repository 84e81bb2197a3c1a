//! A response body that tells how many bytes went out once the last one did.

use std::pin::Pin;
use std::task::Context;
use std::task::Poll;

use axum::body::Body;
use axum::body::Bytes;
use axum::body::HttpBody;
use http_body::Frame;
use http_body::SizeHint;

/// Wraps a `body` of `length` bytes; `done` is called once all of it was sent, and not if the client
/// went away.
pub(super) fn counted(body: Body, length: u64, done: impl FnOnce(u64) + Send + 'static) -> Body {
    Body::new(Counted { body, length, sent: 0, done: Some(Box::new(done)) })
}

struct Counted {
    body: Body,
    length: u64,
    sent: u64,
    done: Option<Box<dyn FnOnce(u64) + Send>>,
}

impl Counted {
    fn finish(&mut self) {
        if let Some(done) = self.done.take() {
            done(self.sent);
        }
    }
}

impl HttpBody for Counted {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        let polled = Pin::new(&mut self.body).poll_frame(context);
        match &polled {
            Poll::Ready(Some(Ok(frame))) => {
                self.sent += frame.data_ref().map_or(0, |data| data.len() as u64);
                // hyper does not ask again after the last byte of a body of known length.
                if self.sent >= self.length {
                    self.finish();
                }
            }
            Poll::Ready(None) => self.finish(),
            Poll::Ready(Some(Err(_))) | Poll::Pending => {}
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
