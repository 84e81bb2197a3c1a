//! Requests as nodes, the host and strangers send them, put to the router without a network.

use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener};
use std::thread;

use axum::body::{Body, to_bytes};
use axum::extract::Request;
use axum::extract::connect_info::MockConnectInfo;
use axum::http::HeaderMap;
use fs_err as fs;
use tower::ServiceExt;
use uuid::Uuid;

use super::*;
use crate::boot_server::content::{Content, ServedFile, ServedNode};
use crate::boot_server::delivery::Delivery;
use crate::boot_server::message::Status;
use crate::boot_server::recorder::event::{Happening, StageReached};
use crate::host::neighbour::Neighbour;
use crate::lab::plan::DomainState;

mod files;

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
        voter: true,
        arguments: None,
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
        ready_when: None,
        interface: Some("br0".to_owned()),
        trust_claimed_mac: false,
        knock: false,
    };
    let mut server = Server::new(content, &folder.path().join("journal")).unwrap();
    server.neighbour = on_wire;
    Bench { server: Arc::new(server), folder }
}

/// 10.0.0.2, 10.0.0.3 and 10.7.0.5 are nodes on the lab's bridge, those that end in 66 are strangers there, those that
/// end in 7 are on another bridge, and 10.8/16 is behind a router.
fn on_wire(ip: std::net::IpAddr, interface: Option<&str>) -> Neighbour {
    assert_eq!(interface, Some("br0"));
    let mac = |text: &str| Neighbour::OnWire(text.parse().unwrap());
    match ip.to_string().as_str() {
        "10.0.0.2" => mac("52:54:00:12:34:01"),
        "10.0.0.3" | "10.7.0.5" => mac("52:54:00:12:34:02"),
        "10.0.0.66" | "10.7.0.66" => mac("52:54:00:ff:ff:ff"),
        "10.0.0.7" | "10.7.0.7" => Neighbour::Elsewhere,
        ip if ip.starts_with("10.8.") => Neighbour::Routed,
        _ => Neighbour::Unknown,
    }
}

fn on_a_bridge() -> Bench {
    bench(vec![node(1, None), node(2, None)])
}

/// The same, where a machine behind a router is who it says it is.
fn trusting() -> Bench {
    let bench = on_a_bridge();
    let content = Content { trust_claimed_mac: true, ..(*bench.server.content()).clone() };
    bench.server.replace_content(content);
    bench
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
        let delivery = Delivery::default();
        builder = builder.extension(delivery.clone());
        let app = router(Arc::clone(&self.server)).layer(MockConnectInfo(peer));
        let response = app.oneshot(builder.body(Body::empty()).unwrap()).await.unwrap();
        let (parts, body) = response.into_parts();
        let body = to_bytes(body, usize::MAX).await.unwrap();
        delivery.flushed();
        (parts.status.as_u16(), parts.headers, String::from_utf8(body.to_vec()).unwrap())
    }

    fn restarted(self) -> Self {
        let journal = self.folder.path().join("journal");
        let mut server = Server::new((*self.server.content()).clone(), &journal).unwrap();
        server.neighbour = on_wire;
        Bench { server: Arc::new(server), folder: self.folder }
    }

    fn stages(&self, index: usize) -> Vec<(Stage, u64)> {
        let (_, timeline) = self.server.recorder().snapshot();
        timeline.nodes[index]
            .stages
            .iter()
            .map(|(stage, reached)| (*stage, reached.bytes))
            .collect()
    }
}

#[test]
fn nodes_that_ran_before_the_host_was_off_have_booted_anew() {
    let bench = managed();
    let server = &bench.server;
    server.domain_is(1, DomainState::Running);
    server.recorder().record(Happening::Stage(StageReached::unasked(1, Stage::Ready)));
    let stages =
        |bench: &Bench| bench.stages(0).into_iter().map(|(stage, _)| stage).collect::<Vec<_>>();
    assert_eq!(stages(&bench), [Stage::PowerOn, Stage::Ready]);
    let bench = bench.restarted();
    bench.server.domain_is(1, DomainState::Running);
    assert_eq!(stages(&bench), [Stage::PowerOn, Stage::Ready], "only we were away");
    bench.server.host_was_off();
    bench.server.domain_is(1, DomainState::Running);
    assert_eq!(stages(&bench), [Stage::PowerOn]);
    assert_eq!(bench.stages(1), []);
}

#[tokio::test]
async fn a_node_gets_its_own_script_and_config_by_its_address() {
    let bench = managed();
    assert_eq!(bench.ask("10.0.0.3", "GET /ipxe?mac=52-54-00-12-34-01", &[]).await.2, "#!ipxe 2");
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
        assert_eq!((status, text.as_str()), (403, "you are no node of this lab\n"), "{request}");
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
        let (status, _, text) = bench.ask("10.0.0.3", &format!("GET /nocloud/{file}"), &[]).await;
        assert_eq!((status, text.as_str()), (200, expected), "{file}");
    }
    assert_eq!(bench.ask("10.0.0.3", "HEAD /nocloud/user-data", &[]).await.0, 200);
    assert_eq!(bench.stages(1), []);
    assert_eq!(bench.ask("10.0.0.3", "GET /nocloud/user-data", &[]).await.2, "node 2 at 10.0.0.3");
    assert_eq!(bench.stages(1), [(Stage::Config, 18)]);
    assert_eq!(bench.ask("10.0.0.3", "GET /nocloud/x", &[]).await.0, 404);
}

#[tokio::test]
async fn on_a_bridge_a_node_is_known_by_the_mac_on_the_wire_whatever_it_says() {
    let bench = on_a_bridge();
    for query in [
        "",
        "?mac=52-54-00-12-34-02",
        "?mac=52-54-00-12-34-01",
        "?mac=x",
        "?mac=a&mac=b",
        "?mac=%ff&=&",
    ] {
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
    for from in ["10.7.0.66", "10.7.0.68", "10.7.0.7", "10.0.0.1"] {
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
    server.neighbour = |_, _| Neighbour::OnWire("52:54:00:ff:ff:ff".parse().unwrap());
    assert_eq!(bench.ask("10.7.0.5", "GET /config", &[]).await.0, 403);
}

#[tokio::test]
async fn behind_a_router_a_node_is_who_it_says_it_is_only_where_the_lab_allows_it() {
    let bench = on_a_bridge();
    let claim = "GET /ipxe?mac=52-54-00-12-34-02";
    assert_eq!(bench.ask("10.8.0.5", claim, &[]).await.0, 403);
    let bench = trusting();
    assert_eq!(bench.ask("10.8.0.5", "GET /config", &[]).await.0, 403);
    assert_eq!(bench.ask("10.8.0.5", claim, &[]).await.2, "#!ipxe 2");
    assert_eq!(bench.ask("10.8.0.5", "GET /config", &[]).await.2, "node 2 at 10.8.0.5");
    assert_eq!(bench.ask("10.8.0.6", "GET /ipxe?mac=52:54:00:ff:ff:ff", &[]).await.0, 403);
    // On another bridge nobody is behind a router.
    assert_eq!(bench.ask("10.7.0.7", claim, &[]).await.0, 403);
}

#[tokio::test]
async fn an_address_of_ours_is_a_nodes_only_with_its_mac_address_on_the_labs_bridge() {
    for (last, knows) in [("2", true), ("66", false), ("7", false), ("9", true)] {
        let ip = format!("10.0.0.{last}");
        let bench = bench(vec![node(1, Some(&ip))]);
        let (status, _, _) = bench.ask(&ip, "GET /config", &[]).await;
        assert_eq!(status == 200, knows, "{ip}");
    }
}

#[tokio::test]
async fn only_the_host_itself_learns_how_the_lab_is_doing() {
    let bench = managed();
    for path in ["/status", "/events"] {
        for from in ["10.0.0.2", "10.0.0.9", "192.168.1.5"] {
            let (status, _, text) = bench.ask(from, &format!("GET {path}"), &[]).await;
            assert_eq!((status, text.as_str()), (403, "this is for the host itself\n"), "{from}");
        }
    }
    for from in ["10.0.0.1", "127.0.0.1"] {
        assert!(bench.ask(from, "GET /status", &[]).await.2.contains("demo-1"), "{from}");
    }
    // That somebody is there may be known to all.
    assert_eq!(bench.ask("10.0.0.9", "GET /healthz", &[]).await.2, "ok\n");
}

#[tokio::test]
async fn nobody_can_set_a_stage() {
    let bench = managed();
    assert_eq!(bench.ask("10.0.0.1", "POST /nodes/1/stages/ready", &[]).await.0, 404);
    assert_eq!(bench.stages(0), []);
}

#[tokio::test]
async fn what_is_given_out_can_be_replaced_while_the_server_runs() {
    let bench = managed();
    bench.ask("10.0.0.2", "GET /config", &[]).await;
    let mut content = (*bench.server.content()).clone();
    content.nodes[1].config = "another".to_owned();
    content.nodes.push(node(3, Some("10.0.0.9")));
    bench.server.replace_content(content);
    assert_eq!(bench.ask("10.0.0.3", "GET /config", &[]).await.2, "another");
    assert_eq!(bench.ask("10.0.0.9", "GET /ipxe", &[]).await.2, "#!ipxe 3");
    assert_eq!(bench.stages(0), [(Stage::Config, 18)]);
    assert_eq!(bench.stages(2), [(Stage::Script, 8)]);
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

/// A discovery service that gives the URLs `…/token1`, `…/token2` and so on.
fn discovery_service() -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let service = format!("http://{}/discovery", listener.local_addr().unwrap());
    let url = service.clone();
    thread::spawn(move || {
        for (number, stream) in (1..).zip(listener.incoming()) {
            let mut stream = stream.unwrap();
            let mut request = [0; 4096];
            let read = stream.read(&mut request).unwrap();
            assert!(request[..read].starts_with(b"GET /discovery/new?size=2 "));
            let body = format!("{url}/token{number}");
            let length = body.len();
            write!(
                stream,
                "HTTP/1.1 200 OK\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n{body}"
            )
            .unwrap();
        }
    });
    service
}

#[tokio::test]
async fn a_lab_that_was_off_gets_one_new_discovery_url_for_all_its_nodes() {
    // No etcd listens there: the whole lab was off.
    let bench = bench(vec![node(1, Some("127.0.0.92")), node(2, Some("127.0.0.93"))]);
    let service = discovery_service();
    let mut content = (*bench.server.content()).clone();
    let url = |number: u32| format!("{service}/token{number}");
    for node in &mut content.nodes {
        node.config = format!("by <DISCOVERY_URL> at $private_ipv4, {}", node.index);
    }
    content.put_discovery_url(url(0));
    bench.server.replace_content(content);
    let kept = || Content::read(&bench.folder.path().join("content.json"));
    let config = async |index: u32, method: &str| {
        let from = format!("127.0.0.9{}", index + 1);
        let (status, _, text) = bench.ask(&from, &format!("{method} /config"), &[]).await;
        assert_eq!(status, 200, "{text}");
        text
    };
    let expected =
        |number: u32, index: u32| format!("by {} at 127.0.0.9{}, {index}", url(number), index + 1);
    // The cluster has not formed yet, and its nodes look for each other.
    for index in [1, 2] {
        assert_eq!(config(index, "GET").await, expected(0, index));
    }
    for cluster in [1, 2] {
        bench.server.membership.has_formed();
        config(1, "HEAD").await;
        assert_eq!(bench.server.content().discovery_url, Some(url(cluster - 1)));
        for index in [2, 1, 2] {
            assert_eq!(config(index, "GET").await, expected(cluster, index));
        }
        let kept = kept().unwrap();
        assert_eq!(kept.discovery_url, Some(url(cluster)));
        assert!(kept.config_of(1).unwrap().contains(&url(cluster)));
    }
}

#[tokio::test]
async fn without_a_new_discovery_url_a_node_is_told_to_ask_again() {
    let bench = bench(vec![node(1, Some("127.0.0.92"))]);
    let mut content = (*bench.server.content()).clone();
    content.nodes[0].config = "by <DISCOVERY_URL>".to_owned();
    content.put_discovery_url("http://127.0.0.92:1/discovery/token".to_owned());
    bench.server.replace_content(content);
    bench.server.membership.has_formed();
    let (status, headers, text) = bench.ask("127.0.0.92", "GET /config", &[]).await;
    assert_eq!((status, &headers["retry-after"]), (503, &"2".parse().unwrap()));
    let expected = "asking `http://127.0.0.92:1/discovery/new?size=1` for a discovery URL: ";
    assert!(text.starts_with(expected), "{text}");
    assert_eq!(bench.stages(0), []);
    // Who waits for the node learns why, once for each reason.
    bench.ask("127.0.0.92", "GET /config", &[]).await;
    let (id, timeline) = bench.server.recorder().snapshot();
    assert_eq!(timeline.nodes[0].held.as_deref(), Some(text.trim_end()));
    assert!(
        matches!(&bench.server.recorder().until(id, 9)[..], [one] if matches!(one.what, Happening::Held(_)))
    );
}
