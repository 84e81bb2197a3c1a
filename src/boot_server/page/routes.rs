//! What the page consists of.

use std::sync::Arc;

use axum::extract::{Path, Query, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::middleware::from_fn_with_state;
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use axum::{Json, Router};
use fs_err as fs;
use serde::Deserialize;
use tokio::task::spawn_blocking;

use super::Page;
use super::guard::{Guard, guard};
use super::stream;

/// All routes of the page, for those only whom the guard lets through.
pub(super) fn router(page: Arc<Page>, watchful: Guard) -> Router {
    let root = watchful.address.root();
    let at = |name: &str| format!("{root}{name}");
    Router::new()
        .route(&root, get(async || text("text/html; charset=utf-8", include_str!("page.html"))))
        .route(&at("page.css"), get(async || text("text/css", include_str!("page.css"))))
        .route(&at("page.js"), get(async || text("text/javascript", include_str!("page.js"))))
        .route(&at("icon.svg"), get(async || text("image/svg+xml", ICON)))
        .route(&at("events"), get(events))
        .route(&at("console/{node}"), get(console))
        .route(&at("labs"), get(labs))
        .route(&at("verdict.svg"), get(verdict))
        .with_state(page)
        .layer(from_fn_with_state(Arc::new(watchful), guard))
}

/// Three bars of a boot.
const ICON: &str = r##"<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 16 16"><path d="M1 3h6" stroke="#218bff" stroke-width="3"/><path d="M4 8h8" stroke="#d4661c" stroke-width="3"/><path d="M8 13h7" stroke="#3fb950" stroke-width="3"/></svg>"##;

fn text(kind: &'static str, text: &'static str) -> Response {
    ([(header::CONTENT_TYPE, kind)], text).into_response()
}

async fn events(State(page): State<Arc<Page>>, headers: HeaderMap) -> Response {
    let last = headers.get("last-event-id").and_then(|id| id.to_str().ok()?.parse().ok());
    stream::events(page, last)
}

#[derive(Deserialize)]
struct From {
    after: Option<u64>,
}

async fn console(
    State(page): State<Arc<Page>>,
    Path(node): Path<u32>,
    Query(From { after }): Query<From>,
) -> Response {
    if !page.server.content().nodes.iter().any(|it| it.index == node) {
        return (StatusCode::NOT_FOUND, "there is no such node\n").into_response();
    }
    match spawn_blocking(move || page.insight.console(node, after)).await {
        Ok(Ok(part)) => Json(part).into_response(),
        Ok(Err(error)) => (StatusCode::BAD_GATEWAY, format!("{error:#}\n")).into_response(),
        Err(error) => (StatusCode::INTERNAL_SERVER_ERROR, format!("{error}\n")).into_response(),
    }
}

/// It has a style of its own, which decides what is light and dark, and nothing else that could be done by it.
async fn verdict(State(page): State<Arc<Page>>) -> Response {
    match spawn_blocking(move || fs::read(&page.verdict)).await {
        Ok(Ok(svg)) => {
            let policy = "default-src 'none'; style-src 'unsafe-inline'";
            let headers = [
                (header::CONTENT_TYPE, "image/svg+xml"),
                (header::CONTENT_SECURITY_POLICY, policy),
            ];
            (headers, svg).into_response()
        }
        _ => (StatusCode::NOT_FOUND, "there is no verdict\n").into_response(),
    }
}

async fn labs(State(page): State<Arc<Page>>) -> Response {
    Json(spawn_blocking(move || page.insight.labs()).await.unwrap_or_default()).into_response()
}
