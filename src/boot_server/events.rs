//! `/events`: all that is known, and then each event as it happens, for this host itself. Who comes again with the number
//! of the last event that it has (`Last-Event-ID`) goes on from there.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use axum::body::{Body, Bytes};
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use futures_util::{StreamExt, stream};
use tokio::sync::watch;
use tokio::time::timeout;

use super::asking::Asking;
use super::message::Message;
use super::server::Server;

pub(super) async fn events(
    State(server): State<Arc<Server>>,
    asking: Asking,
    headers: HeaderMap,
) -> Response {
    if !asking.is_host(&server.content()) {
        return (StatusCode::FORBIDDEN, "this is for the host itself\n").into_response();
    }
    let last = headers.get("last-event-id").and_then(|id| id.to_str().ok()?.parse().ok());
    let listener =
        Listener { newest: server.recorder().listen(), closing: server.closing(), server, last };
    // The answer's head is to be sent at once, whether or not there is anything to tell.
    let greeting = stream::once(async { Bytes::from_static(ALIVE) });
    let told = stream::unfold(listener, |mut listener| async {
        listener.next().await.map(|text| (text, listener))
    });
    let body = Body::from_stream(greeting.chain(told).map(Ok::<_, Infallible>));
    let headers =
        [(header::CONTENT_TYPE, "text/event-stream"), (header::CACHE_CONTROL, "no-store")];
    (headers, body).into_response()
}

/// Somebody who listens.
struct Listener {
    server: Arc<Server>,
    newest: watch::Receiver<u64>,
    closing: watch::Receiver<bool>,
    /// The number of the last event that it has.
    last: Option<u64>,
}

impl Listener {
    /// What is to be sent next; `None` at the end.
    async fn next(&mut self) -> Option<Bytes> {
        loop {
            self.newest.borrow_and_update();
            let messages = self.news();
            if !messages.is_empty() {
                let text: String = messages.iter().map(Message::encode).collect();
                return Some(text.into());
            }
            let news = async {
                tokio::select! {
                    changed = self.newest.changed() => changed.is_ok(),
                    _ = self.closing.wait_for(|closed| *closed) => false,
                }
            };
            match timeout(KEEP_ALIVE, news).await {
                Ok(true) => {}
                Ok(false) => return None,
                Err(_) => return Some(Bytes::from_static(ALIVE)),
            }
        }
    }

    /// All that it does not have yet.
    fn news(&mut self) -> Vec<Message> {
        let messages = match self.last.and_then(|last| self.server.recorder().after(last)) {
            Some(events) => events.into_iter().map(Message::Change).collect(),
            None => vec![Message::Snapshot(self.server.status())],
        };
        if let Some(message) = messages.last() {
            self.last = Some(message.id());
        }
        messages
    }
}

/// A comment: something to send, so that either side finds out that the other is gone.
pub(super) const ALIVE: &[u8] = b":\n\n";
/// Clients give up after some multiple of this.
pub(super) const KEEP_ALIVE: Duration = Duration::from_secs(5);

#[cfg(test)]
mod tests;
