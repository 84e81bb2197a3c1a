//! The files of the image over HTTP: whole or in ranges, and counted for the nodes.

use std::io;
use std::sync::Arc;

use axum::body::Body;
use axum::extract::{Path, Request, State};
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use tower_http::services::ServeFile;

use super::asking::Asking;
use super::content::ServedFile;
use super::delivery::Delivery;
use super::file_body::{file_body, open};
use super::range::{Requested, requested};
use super::recorder::event::{Happening, StageReached};
use super::server::Server;

/// A file of the image, whole or in ranges. The files are no secret; they are counted for the
/// nodes only.
pub(super) async fn file(
    State(server): State<Arc<Server>>,
    asking: Asking,
    Path(name): Path<String>,
    request: Request,
) -> Response {
    let Some(wanted) = server.content().files.get(&name).cloned() else {
        tracing::debug!("{} asked for the file {name:?}, which is not there", asking.ip);
        return (StatusCode::NOT_FOUND, format!("there is no file {name}\n")).into_response();
    };
    let path = wanted.path.clone();
    answer(server, &asking, name, wanted, request).await.unwrap_or_else(|error| {
        tracing::error!("reading {}: {error}", path.display());
        StatusCode::INTERNAL_SERVER_ERROR.into_response()
    })
}

/// Fails if the file, which the lab needs, cannot be read.
async fn answer(
    server: Arc<Server>,
    asking: &Asking,
    name: String,
    wanted: ServedFile,
    mut request: Request,
) -> io::Result<Response> {
    // First, since what serves files below would say that there is none, whatever is wrong with it.
    let file = open(wanted.path.clone()).await?;
    let asked = request.headers().clone();
    let delivery = request.extensions_mut().remove::<Delivery>().unwrap_or_default();
    request.headers_mut().remove(header::RANGE);
    // `ServeFile` handles conditional requests, dates and HEAD. We parse ranges ourselves because it is
    // too strict, and stream the body ourselves because that is faster.
    let response = ServeFile::new(&wanted.path).try_call(request).await?;
    if response.status() == StatusCode::NOT_FOUND {
        return Err(io::ErrorKind::NotFound.into());
    }
    if !asking.is_get || response.status() != StatusCode::OK {
        return Ok(response.map(Body::new));
    }
    let (mut parts, _) = response.into_parts();
    let total = file.metadata()?.len();
    let range = match requested(&asked, parts.headers.get(header::LAST_MODIFIED), total) {
        Requested::Whole => 0..total,
        Requested::Part(range) => {
            let text = format!("bytes {}-{}/{total}", range.start, range.end - 1);
            parts.status = StatusCode::PARTIAL_CONTENT;
            parts.headers.insert(header::CONTENT_RANGE, header_value(&text));
            range
        }
        Requested::Beyond => {
            let total = [(header::CONTENT_RANGE, format!("bytes */{total}"))];
            return Ok((StatusCode::RANGE_NOT_SATISFIABLE, total).into_response());
        }
    };
    let length = range.end - range.start;
    parts.headers.insert(header::CONTENT_LENGTH, length.into());
    let body = file_body(file, range.clone());
    // Who got the last byte has the file: it began at the start, or goes on with what it has.
    let node = server.node(asking).map(|node| node.index).filter(|_| range.end == total);
    let Some(node) = node else { return Ok(Response::from_parts(parts, body)) };
    let (stage, from) = (wanted.stage, asking.ip);
    let body = delivery.noting(body, length, move || {
        let file = Some(name);
        let reached = StageReached { node, stage, file, from: Some(from), bytes: total };
        server.recorder().record(Happening::Stage(reached));
    });
    Ok(Response::from_parts(parts, body))
}

fn header_value(text: &str) -> HeaderValue {
    HeaderValue::from_str(text).expect("digits and a few signs")
}
