//! What is answered to whom. A node gets its own script and config and no other's; who is no node of the lab gets none,
//! and only the host itself learns how the lab is doing.

use std::sync::Arc;

use axum::extract::{Path, Query, State};
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use axum::{Json, Router};
use tokio::task::spawn_blocking;

use super::asking::Asking;
use super::events::events;
use super::files::file;
use super::membership::Start;
use super::server::{Claimed, Server};
use super::stage::Stage;
use crate::cluster::etcd::Endpoint;
use crate::cluster::etcd::membership::{Peer, initial_cluster};
use crate::render::config::{self, InitialState, substitute_addresses};

/// All routes of a boot server.
pub fn router(server: Arc<Server>) -> Router {
    Router::new()
        .route("/healthz", get(async || "ok\n"))
        .route("/status", get(status))
        .route("/events", get(events))
        .route("/ipxe", get(script))
        .route("/files/{name}", get(file))
        .route("/config", get(own_config))
        .route("/nocloud/{file}", get(nocloud))
        .with_state(server)
}

async fn status(State(server): State<Arc<Server>>, asking: Asking) -> Response {
    if !asking.is_host(&server.content()) {
        return (StatusCode::FORBIDDEN, "this is for the host itself\n").into_response();
    }
    Json(server.status()).into_response()
}

async fn script(
    State(server): State<Arc<Server>>,
    asking: Asking,
    Query(query): Query<Vec<(String, String)>>,
) -> Response {
    // Nobody is refused for a strange query: most nodes are known without it.
    let mut macs = query.iter().filter(|(name, _)| name == "mac");
    let mac = macs.find_map(|(_, text)| text.parse().ok());
    let asking = Asking { mac, ..asking };
    match server.node(&asking) {
        Some(node) => {
            let text = node.script.clone();
            server.answered(&asking, &node, Stage::Script, &text);
            ([(header::CONTENT_TYPE, PLAIN)], text).into_response()
        }
        None => refuse(&server, &asking, "a boot script"),
    }
}

async fn own_config(State(server): State<Arc<Server>>, asking: Asking) -> Response {
    let Some(node) = server.node(&asking) else { return refuse(&server, &asking, "a config") };
    match filled_config(&server, &asking, &node).await {
        Ok(text) => {
            server.answered(&asking, &node, Stage::Config, &text);
            ([(header::CONTENT_TYPE, node.content.config_type.clone())], text).into_response()
        }
        Err(why) => later(&server, &node, why),
    }
}

/// A node's config with what only now is known: its address, and how its etcd is to start.
async fn filled_config(
    server: &Arc<Server>,
    asking: &Asking,
    node: &Claimed,
) -> Result<String, String> {
    let config = server.config_with_fresh_url(asking, node).await;
    let config = config.map_err(|error| format!("{error:#}\n"))?;
    let text = substitute_addresses(&config, asking.ip);
    if !config::wants_cluster(&text) {
        return Ok(text);
    }
    let nodes = server.endpoints(Some((node.index, asking.ip)));
    let all: Vec<Peer> = nodes.iter().filter(|(_, node)| node.voter).map(peer).collect();
    let founders = || config::put_cluster(&text, &initial_cluster(&all), InitialState::New);
    // Who only looks changes no cluster.
    let applicant = server.applicant(node.index, asking.ip).filter(|_| asking.is_get);
    let Some(applicant) = applicant else { return Ok(founders()) };
    let asked = Arc::clone(server);
    let start = spawn_blocking(move || asked.membership.start(&applicant)).await;
    match start {
        Ok(Ok(Start::New)) => Ok(founders()),
        Ok(Ok(Start::Existing(peers))) => {
            Ok(config::put_cluster(&text, &initial_cluster(&peers), InitialState::Existing))
        }
        Ok(Ok(Start::Hold)) => Err(format!(
            "etcd has lost its majority: its data is gone, and `virtlab restart {}` forms a new cluster\n",
            node.content.lab
        )),
        Ok(Err(error)) => Err(format!("{error:#}\n")),
        Err(error) => Err(format!("{error}\n")),
    }
}

fn peer((_, endpoint): &(u32, Endpoint)) -> Peer {
    Peer { name: endpoint.name.clone(), url: endpoint.peer_url() }
}

/// Who asks again in a moment may be answered then.
fn later(server: &Server, node: &Claimed, why: String) -> Response {
    tracing::warn!("{}: {}", node.name, why.trim_end());
    server.recorder().held(node.index, why.trim_end());
    (StatusCode::SERVICE_UNAVAILABLE, [(header::RETRY_AFTER, "2")], why).into_response()
}

/// cloud-init's data source `NoCloud`: a folder of four files.
/// <https://cloudinit.readthedocs.io/en/latest/reference/datasources/nocloud.html>
async fn nocloud(
    State(server): State<Arc<Server>>,
    asking: Asking,
    Path(file): Path<String>,
) -> Response {
    let Some(node) = server.node(&asking) else { return refuse(&server, &asking, "a config") };
    let text = match file.as_str() {
        "user-data" => match filled_config(&server, &asking, &node).await {
            Ok(text) => text,
            Err(why) => return later(&server, &node, why),
        },
        "meta-data" => meta_data(&node),
        // cloud-init retries a 404 ten times; an empty file avoids that.
        "vendor-data" | "network-config" => String::new(),
        _ => {
            tracing::debug!("{} asked for {file:?} of NoCloud, which has none", asking.ip);
            return (StatusCode::NOT_FOUND, format!("there is no file {file}\n")).into_response();
        }
    };
    if file == "user-data" {
        server.answered(&asking, &node, Stage::Config, &text);
    }
    ([(header::CONTENT_TYPE, PLAIN)], text).into_response()
}

/// A new instance id makes cloud-init run everything again, so it is the lab's UUID that is in it.
fn meta_data(node: &Claimed) -> String {
    let name = &node.name;
    format!("instance-id: {}-{name}\nlocal-hostname: {name}\n", node.content.uuid)
}

fn refuse(server: &Server, asking: &Asking, what: &'static str) -> Response {
    server.log_refusal(asking, what);
    (StatusCode::FORBIDDEN, "you are no node of this lab\n").into_response()
}

const PLAIN: &str = "text/plain; charset=utf-8";

#[cfg(test)]
mod tests;
