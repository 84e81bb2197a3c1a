//! The files of the image over HTTP: whole or in ranges, and counted for the nodes.

use std::ops::Range;
use std::sync::Arc;

use axum::body::Body;
use axum::extract::Path;
use axum::extract::Request;
use axum::extract::State;
use axum::http::HeaderMap;
use axum::http::HeaderName;
use axum::http::StatusCode;
use axum::http::header;
use axum::response::IntoResponse;
use axum::response::Response;
use tower_http::services::ServeFile;

use super::Server;
use super::counted::counted;
use super::file_body::file_body;
use super::routes::Asking;

/// A file of the image, whole or in ranges. The files are no secret; they are counted for the
/// nodes only.
pub(super) async fn file(
    State(server): State<Arc<Server>>,
    asking: Asking,
    Path(name): Path<String>,
    request: Request,
) -> Response {
    let Some(wanted) = server.content.files.get(&name).cloned() else {
        return (StatusCode::NOT_FOUND, format!("there is no file {name}\n")).into_response();
    };
    // It knows all about ranges, conditions and HEAD; only what it reads, we read faster.
    let answer = ServeFile::new(&wanted.path).try_call(request).await;
    let answer = match answer {
        Ok(response) if asking.is_get && response.status().is_success() => {
            let (parts, _) = response.into_parts();
            let range = sent_range(&parts.headers).unwrap_or(0..0);
            let body = file_body(wanted.path.clone(), range).await;
            body.map(|body| Response::from_parts(parts, body))
        }
        Ok(response) => Ok(response.map(Body::new)),
        Err(error) => Err(error),
    };
    let response = match answer {
        Ok(response) => response,
        Err(error) => {
            tracing::error!("reading {}: {error}", wanted.path.display());
            return StatusCode::INTERNAL_SERVER_ERROR.into_response();
        }
    };
    let ip = asking.ip;
    let index = server.node(&asking).map(|node| node.index);
    let Some(index) = index.filter(|_| asking.is_get && is_last_part(response.headers())) else {
        return response;
    };
    let length = header_number(response.headers(), header::CONTENT_LENGTH).unwrap_or(u64::MAX);
    let reached = move |bytes| server.reached(index, wanted.stage, ip, bytes);
    response.map(|body| counted(body, length, reached))
}

/// Whether this answer carries a file's last byte: all of it, or a range that ends with it.
fn is_last_part(headers: &HeaderMap) -> bool {
    content_range(headers).is_none_or(|(range, total)| range.end == total)
}

/// The bytes of the file that this answer carries.
fn sent_range(headers: &HeaderMap) -> Option<Range<u64>> {
    let whole = || Some(0..header_number(headers, header::CONTENT_LENGTH)?);
    content_range(headers).map(|(range, _)| range).or_else(whole)
}

/// RFC 9110, 14.4: `bytes 0-99/1000`, the last byte included.
fn content_range(headers: &HeaderMap) -> Option<(Range<u64>, u64)> {
    let text = headers.get(header::CONTENT_RANGE)?.to_str().ok()?.strip_prefix("bytes ")?;
    let (range, total) = text.split_once('/')?;
    let (start, end) = range.split_once('-')?;
    let end: u64 = end.parse().ok()?;
    Some((start.parse().ok()?..end + 1, total.parse().ok()?))
}

fn header_number(headers: &HeaderMap, name: HeaderName) -> Option<u64> {
    headers.get(name)?.to_str().ok()?.parse().ok()
}
