//! The HTTP side of discovery: paths, parameters, statuses, headers and long polls.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use axum::extract::{DefaultBodyLimit, Path, State};
use axum::http::StatusCode;
use axum::http::header::{ALLOW, CONTENT_TYPE};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use axum::{Router, middleware};
use futures_util::stream;
use serde::Serialize;
use tokio::task::spawn_blocking;
use tokio::time::timeout;

use super::params::Params;
use super::protocol::{Code, EtcdError, Event};
use super::registry::Registry;
use super::token::Size;
use super::{ChangeError, Discovery};

/// The routes of discovery, relative to the base URL: `/new`, `/TOKEN`, `/TOKEN/_config/size` and
/// `/TOKEN/MEMBER`.
pub fn router(discovery: Arc<Discovery>) -> Router {
    let cluster = get(list).put(cluster_is_no_file);
    let config = get(config).put(config_is_no_file).delete(config_is_no_file);
    let cluster_id = discovery.saved.borrow().registry.cluster_id();
    let cluster_id = format!("{cluster_id:x}");
    let identify = middleware::map_response(move |response: Response| {
        // Not on what never reached the registry, such as a wrong method.
        let id = response.headers().contains_key(INDEX).then(|| [(CLUSTER_ID, cluster_id.clone())]);
        std::future::ready((id, response).into_response())
    });
    Router::new()
        .route("/{token}", cluster.clone())
        .route("/{token}/", cluster)
        .route("/{token}/_config", config)
        .route("/{token}/_config/size", get(size))
        .route("/{token}/{member}", get(member).put(put).delete(delete))
        .route_layer(identify)
        .route("/new", get(new).put(new).post(new).head(new_is_no_question))
        .layer(DefaultBodyLimit::max(LONGEST_BODY))
        .with_state(discovery)
}

/// Without a size it is 3, as with the real service.
async fn new(State(discovery): State<Arc<Discovery>>, params: Params) -> Answer<String> {
    let size = params.first("size").filter(|size| !size.is_empty()).unwrap_or("3");
    let size: Size =
        size.parse().map_err(|cause: String| EtcdError::request(Code::InvalidActiveSize, cause))?;
    let url = spawn_blocking(move || saved(&discovery, discovery.create(size))).await;
    let url = url.map_err(|error| broken(&error))??;
    tracing::info!(url, "made a discovery URL");
    Ok(url)
}

/// A `GET` makes a token, as the real service has it; a `HEAD` must not.
async fn new_is_no_question() -> impl IntoResponse {
    (StatusCode::METHOD_NOT_ALLOWED, [(ALLOW, "GET, PUT, POST")])
}

async fn list(
    State(discovery): State<Arc<Discovery>>,
    Path(token): Path<String>,
    params: Params,
) -> Answer<Response> {
    let sorted = params.flag("sorted")?.unwrap_or(false);
    if !params.flag("wait")?.unwrap_or(false) {
        return read(&discovery, |registry| registry.list(&token, sorted));
    }
    // Without `recursive` only the directory's own changes count, and it has none.
    let members =
        if params.flag("recursive")?.unwrap_or(false) { Wanted::All } else { Wanted::None };
    wait(&discovery, token, members, &params)
}

async fn member(
    State(discovery): State<Arc<Discovery>>,
    Path((token, id)): Path<(String, String)>,
    params: Params,
) -> Answer<Response> {
    if params.flag("wait")?.unwrap_or(false) {
        return wait(&discovery, token, Wanted::One(id), &params);
    }
    read(&discovery, |registry| registry.member(&token, &id))
}

async fn config(
    State(discovery): State<Arc<Discovery>>,
    Path(token): Path<String>,
    params: Params,
) -> Answer<Response> {
    params.refuse(&["wait"])?;
    read(&discovery, |registry| registry.config(&token))
}

async fn size(
    State(discovery): State<Arc<Discovery>>,
    Path(token): Path<String>,
    params: Params,
) -> Answer<Response> {
    params.refuse(&["wait"])?;
    read(&discovery, |registry| registry.size(&token))
}

async fn put(
    State(discovery): State<Arc<Discovery>>,
    Path((token, id)): Path<(String, String)>,
    params: Params,
) -> Answer<Response> {
    params.is_no_poll()?;
    params.refuse(&["dir", "ttl", "refresh", "prevValue", "prevIndex"])?;
    let exists = params.flag("prevExist")?;
    let value = params.first("value").unwrap_or_default().to_owned();
    change(discovery, move |registry| {
        let event = registry.put(&token, &id, &value, exists)?;
        tracing::info!(token, id, value, "registered with the discovery");
        Ok(event)
    })
    .await
}

/// `dir` and `recursive` make no difference to a key that is not a directory.
async fn delete(
    State(discovery): State<Arc<Discovery>>,
    Path((token, id)): Path<(String, String)>,
    params: Params,
) -> Answer<Response> {
    params.is_no_poll()?;
    params.refuse(&["prevValue", "prevIndex"])?;
    change(discovery, move |registry| registry.delete(&token, &id)).await
}

async fn cluster_is_no_file(
    State(discovery): State<Arc<Discovery>>,
    Path(token): Path<String>,
) -> EtcdError {
    not_a_file(&discovery, |registry| registry.list(&token, false))
}

async fn config_is_no_file(
    State(discovery): State<Arc<Discovery>>,
    Path(token): Path<String>,
) -> EtcdError {
    not_a_file(&discovery, |registry| registry.config(&token))
}

fn not_a_file(discovery: &Discovery, folder: impl FnOnce(&Registry) -> Answer<Event>) -> EtcdError {
    let registry = &discovery.saved.borrow().registry;
    match folder(registry) {
        Ok(event) => registry.error(Code::NotFile, event.node.key),
        Err(error) => error,
    }
}

fn read(
    discovery: &Discovery,
    read: impl FnOnce(&Registry) -> Result<Event, EtcdError>,
) -> Answer<Response> {
    let registry = &discovery.saved.borrow().registry;
    Ok(answer(&read(registry)?, registry.index()))
}

/// The disk may take its time; it must not stop the runtime that serves everybody else.
async fn change(
    discovery: Arc<Discovery>,
    change: impl FnOnce(&mut Registry) -> Result<Event, EtcdError> + Send + 'static,
) -> Answer<Response> {
    let event =
        spawn_blocking(move || saved(&discovery, discovery.change(|registry, _| change(registry))));
    let event = event.await.map_err(|error| broken(&error))??;
    Ok(answer(&event, event.node.modified_index))
}

/// A node is told that it went wrong, and we are told why.
fn saved<T>(discovery: &Discovery, result: Result<T, ChangeError>) -> Result<T, EtcdError> {
    result.map_err(|error| match error {
        ChangeError::Refused(error) => error,
        ChangeError::NotSaved(error) => {
            tracing::error!("{error:#}");
            let registry = &discovery.saved.borrow().registry;
            registry.error(Code::RaftInternal, "the change could not be saved".to_owned())
        }
    })
}

fn broken(error: &tokio::task::JoinError) -> EtcdError {
    tracing::error!("{error}");
    EtcdError::request(Code::RaftInternal, "the change was not finished")
}

/// A long poll: the headers at once, the first event that fits when there is one.
fn wait(discovery: &Discovery, token: String, wanted: Wanted, params: &Params) -> Answer<Response> {
    params.refuse(&["stream"])?;
    let mut saved = discovery.saved.subscribe();
    let index = {
        let registry = &saved.borrow_and_update().registry;
        registry.size(&token)?;
        registry.index()
    };
    // 0 is the client's way to say "from now on".
    let since = params.index("waitIndex")?.filter(|&since| since > 0).unwrap_or(index + 1);
    let event = async move {
        let find = |registry: &Registry| match &wanted {
            Wanted::All => registry.creation(&token, None, since),
            Wanted::One(id) => registry.creation(&token, Some(id), since),
            Wanted::None => None,
        };
        let mut found = None;
        let seen = saved.wait_for(|snapshot| {
            found = find(&snapshot.registry);
            found.is_some() || snapshot.closed
        });
        // Without an event the body is empty, and the client asks again.
        let _ = timeout(LONGEST_POLL, seen).await;
        Ok::<_, Infallible>(found.map(|event| json(&event)).unwrap_or_default())
    };
    let body = Body::from_stream(stream::once(event));
    Ok((StatusCode::OK, headers(index), body).into_response())
}

enum Wanted {
    All,
    One(String),
    None,
}

fn answer(event: &Event, index: u64) -> Response {
    let status = if event.is_created() { StatusCode::CREATED } else { StatusCode::OK };
    (status, headers(index), json(event)).into_response()
}

fn json(body: &impl Serialize) -> String {
    let mut text = serde_json::to_string(body).expect("an event has no keys but strings");
    text.push('\n');
    text
}

fn headers(index: u64) -> impl axum::response::IntoResponseParts {
    [(CONTENT_TYPE.as_str(), "application/json".to_owned()), (INDEX, index.to_string())]
}

impl IntoResponse for EtcdError {
    fn into_response(self) -> Response {
        let status = StatusCode::from_u16(self.code.status()).expect("the statuses are valid");
        let mut body = self.to_json();
        body.push('\n');
        (status, headers(self.index), body).into_response()
    }
}

type Answer<T> = Result<T, EtcdError>;

const INDEX: &str = "x-etcd-index";
const CLUSTER_ID: &str = "x-etcd-cluster-id";
/// A registration is far shorter.
const LONGEST_BODY: usize = 16 * 1024;
/// etcd lets a poll wait for ever. Here the connection of a node that was switched off is found out.
const LONGEST_POLL: Duration = Duration::from_secs(5 * 60);

#[cfg(test)]
mod tests;
