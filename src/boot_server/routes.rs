//! What is answered to whom. A node is known by its address where we gave it that address. Where
//! somebody else did, it is known by the MAC address that the kernel sees on the wire; what a
//! machine says of itself (iPXE's `mac=`) counts only if a router hides the wire. A node gets its
//! own config and no other's; who is no node of the lab gets none.

use std::net::IpAddr;
use std::net::SocketAddr;
use std::ops::Range;
use std::sync::Arc;

use axum::Json;
use axum::Router;
use axum::body::Body;
use axum::extract::ConnectInfo;
use axum::extract::FromRequestParts;
use axum::extract::Path;
use axum::extract::Query;
use axum::extract::Request;
use axum::extract::State;
use axum::http::HeaderMap;
use axum::http::HeaderName;
use axum::http::Method;
use axum::http::StatusCode;
use axum::http::header;
use axum::http::request::Parts;
use axum::response::IntoResponse;
use axum::response::Response;
use axum::routing::get;
use axum::routing::post;
use serde::Deserialize;
use serde::Serialize;
use tower_http::services::ServeFile;
use uuid::Uuid;

use super::Server;
use super::content::ServedNode;
use super::counted::counted;
use super::file_body::file_body;
use super::now_ms;
use super::timeline::Event;
use super::timeline::Stage;
use super::timeline::Timeline;
use crate::host::neighbour::Neighbour;
use crate::lab::LabName;
use crate::lab::MacAddr;
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
struct Asking {
    ip: IpAddr,
    mac: Option<MacAddr>,
    is_get: bool,
}

impl<S: Send + Sync> FromRequestParts<S> for Asking {
    type Rejection = <ConnectInfo<SocketAddr> as FromRequestParts<S>>::Rejection;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Self::Rejection> {
        let ConnectInfo(peer) = ConnectInfo::from_request_parts(parts, state).await?;
        Ok(Self { ip: canonical(peer), mac: None, is_get: parts.method == Method::GET })
    }
}

#[derive(Debug, Deserialize)]
struct ScriptQuery {
    mac: Option<String>,
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
    Query(query): Query<ScriptQuery>,
) -> Response {
    let mac = query.mac.and_then(|text| text.parse().ok());
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
        _ => return (StatusCode::NOT_FOUND, format!("there is no file {file}\n")).into_response(),
    };
    if file == "user-data" {
        server.answered(&asking, node, Stage::Config, &text);
    }
    ([(header::CONTENT_TYPE, PLAIN)], text).into_response()
}

/// A file of the image, whole or in ranges. The files are no secret; they are counted for the
/// nodes only.
async fn file(
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
    server.reached(index, stage, server.content.address, 0);
    StatusCode::NO_CONTENT
}

impl Server {
    /// The node that asks.
    fn node(&self, asking: &Asking) -> Option<&ServedNode> {
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
            self.reached(node.index, stage, asking.ip, text.len() as u64);
        }
    }

    fn reached(&self, node: u32, stage: Stage, from: IpAddr, bytes: u64) {
        tracing::info!(node, stage = stage.name(), %from, bytes);
        self.record(&Event { node, stage, at_ms: now_ms(), from, bytes });
    }
}

fn refuse(asking: &Asking, what: &str) -> Response {
    let Asking { ip, mac, .. } = asking;
    let mac = mac.map(|mac| format!(" ({mac})")).unwrap_or_default();
    tracing::warn!("{ip}{mac} asked for {what}, but is no node of this lab");
    (StatusCode::FORBIDDEN, "you are no node of this lab\n").into_response()
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

fn canonical(peer: SocketAddr) -> IpAddr {
    peer.ip().to_canonical()
}

const PLAIN: &str = "text/plain; charset=utf-8";

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use axum::body::to_bytes;
    use axum::extract::connect_info::MockConnectInfo;
    use fs_err as fs;
    use tower::ServiceExt;

    use super::*;
    use crate::boot_server::Content;
    use crate::boot_server::ServedFile;

    struct Bench {
        server: Arc<Server>,
        folder: tempfile::TempDir,
    }

    fn node(index: u32, ip: Option<&str>) -> ServedNode {
        ServedNode {
            index,
            name: format!("demo-{index}"),
            mac: format!("52:54:00:12:34:0{index}").parse().unwrap(),
            ip: ip.map(|ip| ip.parse().unwrap()),
            script: format!("#!ipxe {index}"),
            config: format!("node {index} at $private_ipv4"),
        }
    }

    fn bench(nodes: Vec<ServedNode>) -> Bench {
        let folder = tempfile::tempdir().unwrap();
        let kernel = folder.path().join("vmlinuz");
        fs::write(&kernel, b"0123456789").unwrap();
        let content = Content {
            lab: "demo".parse().unwrap(),
            uuid: Uuid::nil(),
            address: "10.0.0.1".parse().unwrap(),
            port: 8470,
            nodes,
            files: BTreeMap::from([(
                "vmlinuz".to_owned(),
                ServedFile { path: kernel, stage: Stage::Kernel },
            )]),
            config_type: "application/json".to_owned(),
            ssh_keys: Vec::new(),
            discovery_url: None,
        };
        let server = Server::new(content, &folder.path().join("journal")).unwrap();
        Bench { server: Arc::new(server), folder }
    }

    /// `node(2)` is on the wire, 10.7.0.66 is a stranger there, and 10.8/16 is behind a router.
    fn on_a_bridge() -> Bench {
        let Bench { server, folder } = bench(vec![node(1, None), node(2, None)]);
        let mut server = Arc::into_inner(server).unwrap();
        server.neighbour = |ip| match ip.to_string().as_str() {
            "10.7.0.5" => Neighbour::OnWire("52:54:00:12:34:02".parse().unwrap()),
            "10.7.0.66" => Neighbour::OnWire("52:54:00:ff:ff:ff".parse().unwrap()),
            ip if ip.starts_with("10.8.") => Neighbour::Routed,
            _ => Neighbour::Unknown,
        };
        Bench { server: Arc::new(server), folder }
    }

    fn managed() -> Bench {
        bench(vec![node(1, Some("10.0.0.2")), node(2, Some("10.0.0.3"))])
    }

    impl Bench {
        async fn ask(
            &self,
            from: &str,
            request: &str,
            headers: &[(&str, &str)],
        ) -> (u16, HeaderMap, String) {
            let (method, path) = request.split_once(' ').unwrap();
            let mut builder = Request::builder().method(method).uri(path);
            for (name, value) in headers {
                builder = builder.header(*name, *value);
            }
            let peer: SocketAddr = format!("{from}:40000").parse().unwrap();
            let app = router(Arc::clone(&self.server)).layer(MockConnectInfo(peer));
            let response = app.oneshot(builder.body(Body::empty()).unwrap()).await.unwrap();
            let (parts, body) = response.into_parts();
            let body = to_bytes(body, usize::MAX).await.unwrap();
            (parts.status.as_u16(), parts.headers, String::from_utf8(body.to_vec()).unwrap())
        }

        fn restarted(self) -> Self {
            let journal = self.folder.path().join("journal");
            let server = Server::new(self.server.content.clone(), &journal).unwrap();
            Bench { server: Arc::new(server), folder: self.folder }
        }

        fn stages(&self, index: usize) -> Vec<(Stage, u64)> {
            let timeline = self.server.timeline.lock().unwrap();
            timeline.nodes[index]
                .stages
                .iter()
                .map(|(stage, reached)| (*stage, reached.bytes))
                .collect()
        }
    }

    #[tokio::test]
    async fn a_node_gets_its_own_script_and_config_by_its_address() {
        let bench = managed();
        assert_eq!(
            bench.ask("10.0.0.3", "GET /ipxe?mac=52-54-00-12-34-01", &[]).await.2,
            "#!ipxe 2"
        );
        let (status, headers, text) = bench.ask("10.0.0.2", "GET /config", &[]).await;
        assert_eq!((status, text.as_str()), (200, "node 1 at 10.0.0.2"));
        assert_eq!(headers["content-type"], "application/json");
        assert_eq!(bench.stages(0), [(Stage::Config, 18)]);
        assert_eq!(bench.stages(1), [(Stage::Script, 8)]);
    }

    #[tokio::test]
    async fn who_is_no_node_gets_nothing_of_a_node() {
        let bench = managed();
        for request in [
            "GET /ipxe",
            "GET /config",
            "GET /nocloud/user-data",
            "GET /nocloud/meta-data",
            "GET /ipxe?mac=52:54:00:12:34:01",
            "GET /ipxe?mac=x",
        ] {
            let (status, _, text) = bench.ask("10.0.0.9", request, &[]).await;
            assert_eq!(
                (status, text.as_str()),
                (403, "you are no node of this lab\n"),
                "{request}"
            );
        }
    }

    #[tokio::test]
    async fn cloud_init_gets_its_four_files() {
        let bench = managed();
        for (file, expected) in [
            (
                "meta-data",
                "instance-id: 00000000-0000-0000-0000-000000000000-demo-2\nlocal-hostname: demo-2\n",
            ),
            ("vendor-data", ""),
            ("network-config", ""),
        ] {
            let (status, _, text) =
                bench.ask("10.0.0.3", &format!("GET /nocloud/{file}"), &[]).await;
            assert_eq!((status, text.as_str()), (200, expected), "{file}");
        }
        assert_eq!(bench.ask("10.0.0.3", "HEAD /nocloud/user-data", &[]).await.0, 200);
        assert_eq!(bench.stages(1), []);
        assert_eq!(
            bench.ask("10.0.0.3", "GET /nocloud/user-data", &[]).await.2,
            "node 2 at 10.0.0.3"
        );
        assert_eq!(bench.stages(1), [(Stage::Config, 18)]);
        assert_eq!(bench.ask("10.0.0.3", "GET /nocloud/x", &[]).await.0, 404);
    }

    #[tokio::test]
    async fn on_a_bridge_a_node_is_known_by_the_mac_on_the_wire_whatever_it_says() {
        let bench = on_a_bridge();
        for query in ["", "?mac=52-54-00-12-34-02", "?mac=52-54-00-12-34-01", "?mac=x"] {
            let text = bench.ask("10.7.0.5", &format!("GET /ipxe{query}"), &[]).await.2;
            assert_eq!(text, "#!ipxe 2", "{query}");
        }
        assert_eq!(bench.ask("10.7.0.5", "GET /config", &[]).await.2, "node 2 at 10.7.0.5");
        assert_eq!(bench.stages(1).len(), 2);
        assert_eq!(bench.stages(0), []);
    }

    #[tokio::test]
    async fn who_claims_a_nodes_mac_but_has_another_gets_nothing() {
        let bench = on_a_bridge();
        // 10.0.0.1 is the host itself, where other users may ask too.
        for from in ["10.7.0.66", "10.7.0.67", "10.0.0.1"] {
            for request in ["GET /ipxe?mac=52:54:00:12:34:01", "GET /config"] {
                assert_eq!(bench.ask(from, request, &[]).await.0, 403, "{from} {request}");
            }
        }
    }

    #[tokio::test]
    async fn an_address_that_a_node_had_is_no_proof_when_another_machine_has_it() {
        let mut bench = on_a_bridge();
        bench.ask("10.7.0.5", "GET /ipxe", &[]).await;
        let server = Arc::get_mut(&mut bench.server).unwrap();
        server.neighbour = |_| Neighbour::OnWire("52:54:00:ff:ff:ff".parse().unwrap());
        assert_eq!(bench.ask("10.7.0.5", "GET /config", &[]).await.0, 403);
    }

    #[tokio::test]
    async fn behind_a_router_a_node_is_known_by_the_mac_that_its_firmware_sends() {
        let bench = on_a_bridge();
        assert_eq!(bench.ask("10.8.0.5", "GET /config", &[]).await.0, 403);
        assert_eq!(
            bench.ask("10.8.0.5", "GET /ipxe?mac=52-54-00-12-34-02", &[]).await.2,
            "#!ipxe 2"
        );
        assert_eq!(bench.ask("10.8.0.5", "GET /config", &[]).await.2, "node 2 at 10.8.0.5");
        assert_eq!(bench.ask("10.8.0.6", "GET /ipxe?mac=52:54:00:ff:ff:ff", &[]).await.0, 403);
    }

    #[tokio::test]
    async fn files_are_sent_whole_in_ranges_and_as_heads_with_the_right_length() {
        let bench = managed();
        let (status, headers, text) = bench.ask("10.0.0.2", "HEAD /files/vmlinuz", &[]).await;
        assert_eq!((status, text.as_str()), (200, ""));
        assert_eq!(headers["content-length"], "10");
        assert_eq!(bench.stages(0), []);
        let range = bench.ask("10.0.0.2", "GET /files/vmlinuz", &[("range", "bytes=2-4")]).await;
        assert_eq!((range.0, range.2.as_str()), (206, "234"));
        assert_eq!(range.1["content-range"], "bytes 2-4/10");
        assert_eq!(bench.stages(0), []);
        assert_eq!(bench.ask("10.0.0.2", "GET /files/vmlinuz", &[]).await.2, "0123456789");
        assert_eq!(bench.stages(0), [(Stage::Kernel, 10)]);
        assert_eq!(bench.ask("10.0.0.2", "GET /files/nope", &[]).await.0, 404);
        assert_eq!(bench.ask("10.0.0.2", "GET /files/..%2f..%2fetc%2fpasswd", &[]).await.0, 404);
    }

    #[tokio::test]
    async fn a_head_is_answered_and_changes_nothing() {
        let bench = managed();
        bench.ask("10.0.0.2", "GET /ipxe", &[]).await;
        bench.ask("10.0.0.2", "GET /config", &[]).await;
        let before = bench.stages(0);
        for path in ["/ipxe", "/config", "/nocloud/user-data", "/files/vmlinuz"] {
            let (status, headers, text) = bench.ask("10.0.0.2", &format!("HEAD {path}"), &[]).await;
            assert_eq!((status, text.as_str()), (200, ""), "{path}");
            assert!(headers["content-length"] != "0", "{path}");
            assert_eq!(bench.stages(0), before, "{path}");
        }
        assert_eq!(bench.ask("10.0.0.1", "HEAD /nodes/1/stages/ready", &[]).await.0, 405);
    }

    #[tokio::test]
    async fn only_the_host_itself_may_set_a_stage() {
        let bench = managed();
        assert_eq!(bench.ask("10.0.0.2", "POST /nodes/1/stages/ready", &[]).await.0, 403);
        assert_eq!(bench.ask("10.0.0.1", "POST /nodes/7/stages/ready", &[]).await.0, 404);
        assert_eq!(bench.ask("10.0.0.1", "POST /nodes/1/stages/ready", &[]).await.0, 204);
        assert_eq!(bench.stages(0), [(Stage::Ready, 0)]);
    }

    #[tokio::test]
    async fn the_timeline_outlives_a_restart_and_a_torn_last_line() {
        let bench = managed();
        bench.ask("10.0.0.2", "GET /config", &[]).await;
        let journal = bench.folder.path().join("journal");
        let mut text = fs::read_to_string(&journal).unwrap();
        text.push_str("{\"node\":1,\"sta");
        fs::write(&journal, text).unwrap();
        let again = bench.restarted();
        assert_eq!(again.stages(0), [(Stage::Config, 18)]);
        // What came after the torn line is not lost either.
        again.ask("10.0.0.3", "GET /config", &[]).await;
        let again = again.restarted();
        assert_eq!(again.stages(0), [(Stage::Config, 18)]);
        assert_eq!(again.stages(1), [(Stage::Config, 18)]);
        let text = again.ask("10.0.0.1", "GET /status", &[]).await.2;
        let status: Status = serde_json::from_str(&text).unwrap();
        assert_eq!(status.lab.as_str(), "demo");
        assert_eq!(status.timeline.nodes[0].stage(), Some(Stage::Config));
    }
}
