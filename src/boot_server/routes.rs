//! What is answered to whom. A node is known by its address where we gave it that address. Where
//! somebody else did, it is known by the MAC address that the kernel sees on the wire; what a
//! machine says of itself (iPXE's `mac=`) counts only if a router hides the wire. A node gets its
//! own config and no other's; who is no node of the lab gets none.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use axum::extract::{ConnectInfo, FromRequestParts, Path, Query, State};
use axum::http::request::Parts;
use axum::http::{Method, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Json, Router};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::content::ServedNode;
use super::files::file;
use super::timeline::{Event, Stage, Timeline};
use super::{Server, now_ms};
use crate::host::neighbour::Neighbour;
use crate::lab::{LabName, MacAddr};
use crate::render::config::substitute_addresses;

/// What `/healthz` and `/status` answer.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Status {
    /// The lab.
    pub lab: LabName,
    /// The lab's UUID.
    pub uuid: Uuid,
    /// The version of the virtlab that serves.
    pub version: String,
    /// How far each node is.
    #[serde(flatten)]
    pub timeline: Timeline,
}

/// All routes of a boot server.
pub fn router(server: Arc<Server>) -> Router {
    Router::new()
        .route("/healthz", get(status))
        .route("/status", get(status))
        .route("/ipxe", get(script))
        .route("/files/{name}", get(file))
        .route("/config", get(config))
        .route("/nocloud/{file}", get(nocloud))
        .route("/nodes/{index}/stages/{stage}", post(reach))
        .with_state(server)
}

/// Who asks: the address and, from iPXE, the MAC address. Only who gets what it asks for reaches a
/// stage by it: `HEAD` is answered as `GET` is, and changes nothing (RFC 9110, 9.2.1).
#[derive(Debug)]
pub(super) struct Asking {
    pub(super) ip: IpAddr,
    mac: Option<MacAddr>,
    pub(super) is_get: bool,
}

impl<S: Send + Sync> FromRequestParts<S> for Asking {
    type Rejection = <ConnectInfo<SocketAddr> as FromRequestParts<S>>::Rejection;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Self::Rejection> {
        let ConnectInfo(peer) = ConnectInfo::from_request_parts(parts, state).await?;
        Ok(Self { ip: canonical(peer), mac: None, is_get: parts.method == Method::GET })
    }
}

async fn status(State(server): State<Arc<Server>>) -> Json<Status> {
    let timeline = server.timeline.lock().expect("no handler panics").clone();
    Json(Status {
        lab: server.content.lab.clone(),
        uuid: server.content.uuid,
        version: env!("CARGO_PKG_VERSION").to_owned(),
        timeline,
    })
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
            server.answered(&asking, node, Stage::Script, &text);
            ([(header::CONTENT_TYPE, PLAIN)], text).into_response()
        }
        None => refuse(&asking, "a boot script"),
    }
}

async fn config(State(server): State<Arc<Server>>, asking: Asking) -> Response {
    match server.node(&asking) {
        Some(node) => {
            let text = substitute_addresses(&node.config, asking.ip);
            server.answered(&asking, node, Stage::Config, &text);
            ([(header::CONTENT_TYPE, server.content.config_type.clone())], text).into_response()
        }
        None => refuse(&asking, "a config"),
    }
}

/// cloud-init's data source `NoCloud`: a folder of four files.
/// <https://cloudinit.readthedocs.io/en/latest/reference/datasources/nocloud.html>
async fn nocloud(
    State(server): State<Arc<Server>>,
    asking: Asking,
    Path(file): Path<String>,
) -> Response {
    let Some(node) = server.node(&asking) else { return refuse(&asking, "a config") };
    let text = match file.as_str() {
        "user-data" => substitute_addresses(&node.config, asking.ip),
        "meta-data" => server.meta_data(node),
        // What is not there is asked for ten times, a second apart; empty means the same.
        "vendor-data" | "network-config" => String::new(),
        _ => {
            tracing::info!("{} asked for {file:?} of NoCloud, which has none", asking.ip);
            return (StatusCode::NOT_FOUND, format!("there is no file {file}\n")).into_response();
        }
    };
    if file == "user-data" {
        server.answered(&asking, node, Stage::Config, &text);
    }
    ([(header::CONTENT_TYPE, PLAIN)], text).into_response()
}

/// `create` tells from the outside what the server cannot see: power-on and being ready.
async fn reach(
    State(server): State<Arc<Server>>,
    ConnectInfo(peer): ConnectInfo<SocketAddr>,
    Path((index, stage)): Path<(u32, Stage)>,
) -> StatusCode {
    if canonical(peer) != server.content.address {
        return StatusCode::FORBIDDEN;
    }
    if !server.content.nodes.iter().any(|node| node.index == index) {
        return StatusCode::NOT_FOUND;
    }
    let from = server.content.address;
    server.record(&Event { node: index, stage, file: None, at_ms: now_ms(), from, bytes: 0 });
    StatusCode::NO_CONTENT
}

impl Server {
    /// The node that asks.
    pub(super) fn node(&self, asking: &Asking) -> Option<&ServedNode> {
        let nodes = &self.content.nodes;
        if let Some(node) = nodes.iter().find(|node| node.ip == Some(asking.ip)) {
            return Some(node);
        }
        let unaddressed = || nodes.iter().filter(|node| node.ip.is_none());
        unaddressed().next()?;
        let claimed = match (self.neighbour)(asking.ip) {
            Neighbour::OnWire(mac) => Some(mac),
            Neighbour::Unknown => return None,
            Neighbour::Routed => asking.mac,
        };
        if let Some(mac) = claimed {
            return unaddressed().find(|node| node.mac == mac);
        }
        // Behind a router: the address that the node's own iPXE asked from before.
        let timeline = self.timeline.lock().expect("no handler panics");
        let seen = timeline.nodes.iter().find(|node| node.ip == Some(asking.ip))?.index;
        unaddressed().find(|node| node.index == seen)
    }

    /// A new instance id makes cloud-init run everything again, so it is the lab's UUID that is in it.
    fn meta_data(&self, node: &ServedNode) -> String {
        let name = &node.name;
        format!("instance-id: {}-{name}\nlocal-hostname: {name}\n", self.content.uuid)
    }

    /// Notes that a node got a text by which it reaches a stage.
    fn answered(&self, asking: &Asking, node: &ServedNode, stage: Stage, text: &str) {
        if asking.is_get {
            self.record(&Event {
                node: node.index,
                stage,
                file: None,
                at_ms: now_ms(),
                from: asking.ip,
                bytes: text.len() as u64,
            });
        }
    }
}

fn refuse(asking: &Asking, what: &str) -> Response {
    let Asking { ip, mac, .. } = asking;
    let mac = mac.map(|mac| format!(" ({mac})")).unwrap_or_default();
    tracing::warn!("{ip}{mac} asked for {what}, but is no node of this lab");
    (StatusCode::FORBIDDEN, "you are no node of this lab\n").into_response()
}

fn canonical(peer: SocketAddr) -> IpAddr {
    peer.ip().to_canonical()
}

const PLAIN: &str = "text/plain; charset=utf-8";

#[cfg(test)]
mod tests;
