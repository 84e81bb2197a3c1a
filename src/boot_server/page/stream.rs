//! What the page listens to: the messages of `/events`, before the first one what happened lately, and each new look. A browser
//! that lost the connection comes again with the number of the last event that it has, and loses none.

use std::convert::Infallible;
use std::sync::Arc;

use axum::body::{Body, Bytes};
use axum::http::header;
use axum::response::{IntoResponse, Response};
use futures_util::{StreamExt, stream};
use serde_json::json;
use tokio::sync::watch;
use tokio::time::timeout;

use super::Page;
use super::insight::Look;
use crate::boot_server::events::{ALIVE, KEEP_ALIVE};
use crate::boot_server::message::Message;
use crate::boot_server::recorder::now_ms;

pub(super) fn events(page: Arc<Page>, last: Option<u64>) -> Response {
    let mut looks = page.looks.subscribe();
    looks.mark_changed();
    page.came.notify_one();
    let (newest, closing) = (page.server.recorder().listen(), page.server.closing());
    let listener = Listener { page, newest, looks, closing, last };
    let greeting = stream::once(async { Bytes::from_static(GREETING) });
    let told = stream::unfold(listener, |mut listener| async {
        listener.next().await.map(|text| (text, listener))
    });
    let body = Body::from_stream(greeting.chain(told).map(Ok::<_, Infallible>));
    ([(header::CONTENT_TYPE, "text/event-stream")], body).into_response()
}

/// A page that is open.
struct Listener {
    page: Arc<Page>,
    newest: watch::Receiver<u64>,
    looks: watch::Receiver<Option<Arc<Look>>>,
    closing: watch::Receiver<bool>,
    /// The number of the last event that it has.
    last: Option<u64>,
}

impl Listener {
    /// What is to be sent next; `None` at the end.
    async fn next(&mut self) -> Option<Bytes> {
        loop {
            self.newest.borrow_and_update();
            if let Some(text) = self.news() {
                return Some(text.into());
            }
            if self.looks.has_changed().unwrap_or(false)
                && let Some(look) = self.looks.borrow_and_update().clone()
            {
                let look = serde_json::to_string(&*look).expect("a look is plain data");
                return Some(format!("event: look\ndata: {look}\n\n").into());
            }
            let news = async {
                tokio::select! {
                    changed = self.newest.changed() => changed.is_ok(),
                    changed = self.looks.changed() => {
                        self.looks.mark_changed();
                        changed.is_ok()
                    }
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

    /// All events that it does not have yet, or everything.
    fn news(&mut self) -> Option<String> {
        let recorder = self.page.server.recorder();
        if let Some(events) = self.last.and_then(|last| recorder.after(last)) {
            self.last = events.last().map(|event| event.id).or(self.last);
            let text: String =
                events.into_iter().map(|event| Message::Change(event).encode()).collect();
            return Some(text).filter(|text| !text.is_empty());
        }
        // What happens between the two is told as a change, and is in no history.
        let status = self.page.server.status();
        let events = recorder.until(status.id, HISTORY);
        let memory = self.page.samples.all();
        let past = json!({ "now_ms": now_ms(), "events": events, "memory": memory });
        self.last = Some(status.id);
        Some(format!("event: past\ndata: {past}\n\n{}", Message::Snapshot(status).encode()))
    }
}

/// How soon a browser comes again, in milliseconds.
const GREETING: &[u8] = b"retry: 1000\n\n";
/// How many events a page begins with.
const HISTORY: usize = 200;
