//! Real etcd processes find each other: through the embedded discovery, and through Debian's
//! packaged discovery service by the same client code.

use std::net::Ipv4Addr;
use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use std::thread::{self, JoinHandle};

use axum::Router;
use reqwest::Method;
use reqwest::blocking::Response;
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::net::TcpListener;
use tokio::sync::oneshot;
use virtlab::boot_server::discovery::{Discovery, router};
use virtlab::cluster::discovery::{TIMEOUT, registrations, request_token};

use crate::etcd::{Etcd, Process, client, loopback, wait_for};

#[test]
fn three_etcds_bootstrap_through_the_embedded_discovery_and_a_fourth_is_told_it_is_full() {
    let folder = TempDir::new().unwrap();
    let server = Server::start(&folder.path().join("discovery.json"), loopback());
    let url = server.discovery.new_token(3).unwrap();
    let etcds: Vec<Etcd> = (1..=3).map(|n| Etcd::start(folder.path(), n, &url, &[])).collect();
    assert_cluster(&url, &etcds.iter().collect::<Vec<_>>());

    let registered = registrations(&url, TIMEOUT).unwrap();
    assert_eq!(registered.len(), 3);

    assert_refused(folder.path(), &url);
    let proxy = Etcd::start(folder.path(), 5, &url, &[]);
    proxy.says(&[
        "discovery cluster full, falling back to proxy",
        "discovery cluster is full, falling back to proxy",
    ]);
    assert_eq!(registrations(&url, TIMEOUT).unwrap(), registered);
}

#[test]
fn a_restart_of_the_server_between_two_members_and_the_third_loses_nothing() {
    let folder = TempDir::new().unwrap();
    let (state, address) = (folder.path().join("discovery.json"), loopback());
    let server = Server::start(&state, address);
    let url = request_token(&server.base, 3, TIMEOUT).unwrap();
    let mut etcds: Vec<Etcd> = (1..=2).map(|n| Etcd::start(folder.path(), n, &url, &[])).collect();
    let two = wait_for("two registrations", || {
        let found = registrations(&url, TIMEOUT).map_err(|error| format!("{error:#}"))?;
        if found.len() == 2 { Ok(found) } else { Err(format!("{found:?}")) }
    });
    for etcd in &etcds {
        etcd.says(&["waiting for 1 more", r#""needed-peers":1"#]);
    }

    drop(server);
    let _server = Server::start(&state, address);
    assert_eq!(registrations(&url, TIMEOUT).unwrap(), two);
    etcds.push(Etcd::start(folder.path(), 3, &url, &[]));
    assert_cluster(&url, &etcds.iter().collect::<Vec<_>>());
}

/// What `virtlab start` and `restart` warn of.
#[test]
fn a_member_that_lost_its_memory_is_not_taken_twice() {
    let folder = TempDir::new().unwrap();
    let server = Server::start(&folder.path().join("discovery.json"), loopback());
    let url = server.discovery.new_token(1).unwrap();
    let mut etcd = Etcd::start(folder.path(), 1, &url, &[]);
    assert_cluster(&url, &[&etcd]);
    etcd.process.kill();
    std::fs::remove_dir_all(folder.path().join(&etcd.name)).unwrap();
    let mut again = Etcd::run(folder.path(), &etcd.name, etcd.address, &["--discovery", &url]);
    assert_eq!(again.ends().code(), Some(1));
    let log = again.process.log();
    assert!(log.contains("discovery") && log.contains("registered"), "{log}");
}

#[test]
fn of_five_etcds_that_start_at_once_three_make_the_cluster() {
    let folder = TempDir::new().unwrap();
    let server = Server::start(&folder.path().join("discovery.json"), loopback());
    let url = server.discovery.new_token(3).unwrap();
    let exit = ["--discovery-fallback", "exit"];
    let etcds: Vec<Etcd> = (1..=5).map(|n| Etcd::start(folder.path(), n, &url, &exit)).collect();
    let first = wait_for("three registrations", || {
        let mut found = registrations(&url, TIMEOUT).map_err(|error| format!("{error:#}"))?;
        if found.len() < 3 {
            return Err(format!("{found:?}"));
        }
        found.truncate(3);
        Ok(found)
    });
    let (members, late): (Vec<Etcd>, Vec<Etcd>) =
        etcds.into_iter().partition(|etcd| first.iter().any(|member| member.name == etcd.name));
    assert_eq!((members.len(), late.len()), (3, 2));
    for etcd in late {
        etcd.ends_refused();
    }
    assert_members(&members.iter().collect::<Vec<_>>());
}

/// As our template for the etcd of 2016 has it, where a lab has more nodes than members.
#[test]
fn an_etcd_that_is_a_proxy_from_the_start_takes_no_members_place() {
    let folder = TempDir::new().unwrap();
    let server = Server::start(&folder.path().join("discovery.json"), loopback());
    let url = server.discovery.new_token(2).unwrap();
    let proxy = Etcd::start(folder.path(), 3, &url, &["--proxy", "on"]);
    let etcds: Vec<Etcd> = (1..=2).map(|n| Etcd::start(folder.path(), n, &url, &[])).collect();
    assert_cluster(&url, &etcds.iter().collect::<Vec<_>>());
    wait_for("an answer by the proxy", || {
        let answer = proxy.ask(&Method::GET, "/health")?;
        if answer["health"] == "true" { Ok(()) } else { Err(answer.to_string()) }
    });
    assert_eq!(registrations(&url, TIMEOUT).unwrap().len(), 2);
}

#[test]
fn an_unknown_token_ends_etcd_with_the_reason() {
    let folder = TempDir::new().unwrap();
    let server = Server::start(&folder.path().join("discovery.json"), loopback());
    let url = format!("{}/{}", server.base, "f".repeat(32));
    let mut etcd = Etcd::start(folder.path(), 1, &url, &[]);
    etcd.says(&["Key not found"]);
    assert!(!etcd.ends().success());
}

#[test]
fn three_etcds_bootstrap_through_the_packaged_service_and_a_fourth_is_refused() {
    let folder = TempDir::new().unwrap();
    let service = Service::start(folder.path());
    let url = request_token(&service.url, 3, TIMEOUT).unwrap();
    assert!(url.starts_with(&format!("{}/", service.url)), "{url}");
    assert_eq!(registrations(&url, TIMEOUT).unwrap(), []);
    let etcds: Vec<Etcd> = (1..=3).map(|n| Etcd::start(folder.path(), n, &url, &[])).collect();
    assert_cluster(&url, &etcds.iter().collect::<Vec<_>>());
    assert_refused(folder.path(), &url);
}

#[test]
fn the_packaged_service_without_its_etcd_is_a_clear_error() {
    let folder = TempDir::new().unwrap();
    let mut service = Service::start(folder.path());
    service.backend.process.kill();
    let error = format!("{:#}", request_token(&service.url, 3, TIMEOUT).unwrap_err());
    let expected = format!(
        "asking `{}/new?size=3` for a discovery URL: the service answered 400 Bad Request: \
         `Unable to generate token`",
        service.url
    );
    assert_eq!(error, expected);
}

/// The same requests to both; what differs on purpose is not among them (`registry.rs` says what).
#[test]
fn the_embedded_discovery_answers_as_the_packaged_service_does() {
    let folder = TempDir::new().unwrap();
    let service = Service::start(folder.path());
    let server = Server::start(&folder.path().join("discovery.json"), loopback());
    let theirs = request_token(&service.url, 3, TIMEOUT).unwrap();
    let ours = request_token(&server.base, 3, TIMEOUT).unwrap();
    let (theirs, ours) = (Conversation::new(&theirs), Conversation::new(&ours));
    let table = [
        ("GET", "", ""),
        ("GET", "/", ""),
        ("GET", "/_config/size?quorum=false&recursive=false&sorted=false", ""),
        ("GET", "/_config", ""),
        ("GET", "/b", ""),
        ("GET", "/../ffffffffffffffffffffffffffffffff", ""),
        ("GET", "/../ffffffffffffffffffffffffffffffff/_config/size", ""),
        ("PUT", "/b?prevExist=false", "value=b%3Dhttp%3A%2F%2F10.0.0.2%3A2380"),
        ("PUT", "/b?prevExist=false", "value=again"),
        ("PUT", "/a?prevExist=false", "value=a%3Dhttp%3A%2F%2F10.0.0.1%3A2380"),
        ("PUT", "/c?prevExist=false", "value=c%3Dhttp%3A%2F%2F10.0.0.3%3A2380"),
        ("PUT", "/e", "value=e%3Dhttp%3A%2F%2F10.0.0.5%3A2380"),
        ("GET", "?sorted=true", ""),
        ("GET", "/b", ""),
        ("GET", "/b?wait=true&recursive=false&waitIndex=+1", ""),
        ("GET", "?wait=true&recursive=true&waitIndex=+1", ""),
        ("GET", "?wait=true&recursive=true&waitIndex=+2", ""),
        ("GET", "?wait=true&recursive=true&waitIndex=+3", ""),
        ("PUT", "/d?prevExist=true", "value=d"),
        ("PUT", "/d?prevExist=maybe", "value=d"),
        ("PUT", "/c?wait=true", "value=d"),
        ("GET", "?wait=maybe", ""),
        ("GET", "?wait=true&waitIndex=soon", ""),
        ("PUT", "", "value=x"),
        ("PUT", "/_config", "value=x"),
        ("PUT", "/_config/size", "value=9"),
        ("DELETE", "/b", ""),
        ("DELETE", "/b", ""),
        ("DELETE", "", ""),
        ("GET", "?sorted=true", ""),
    ];
    for (method, path, form) in table {
        let (theirs, ours) = (theirs.say(method, path, form), ours.say(method, path, form));
        assert_eq!(ours, theirs, "{method} {path} {form}");
    }
}

/// Waits until these etcds, and no others, are registered at `url`, healthy, and one cluster.
#[track_caller]
fn assert_cluster(url: &str, etcds: &[&Etcd]) {
    assert_members(etcds);
    let mut registered: Vec<(String, Vec<String>)> = registrations(url, TIMEOUT)
        .unwrap()
        .into_iter()
        .map(|member| (member.name, member.peer_urls))
        .collect();
    registered.sort();
    let expected = etcds.iter().map(|etcd| (etcd.name.clone(), vec![etcd.peer_url()]));
    assert_eq!(registered, expected.collect::<Vec<_>>());
}

/// Waits until these etcds are healthy and each names all of them as members.
#[track_caller]
fn assert_members(etcds: &[&Etcd]) {
    let mut expected: Vec<String> = etcds.iter().map(|etcd| etcd.name.clone()).collect();
    expected.sort();
    for etcd in etcds {
        wait_for(&format!("`{}` to be healthy", etcd.name), || {
            let health = etcd.ask(&Method::GET, "/health")?;
            let list = etcd.ask(&Method::POST, "/v3/cluster/member/list")?;
            let mut names: Vec<&str> = list["members"]
                .as_array()
                .into_iter()
                .flatten()
                .filter_map(|member| member["name"].as_str())
                .collect();
            names.sort_unstable();
            if health["health"] == "true" && names == expected {
                Ok(())
            } else {
                Err(format!("{health} {names:?}\n{}", etcd.process.log()))
            }
        });
    }
}

fn assert_refused(folder: &Path, url: &str) {
    Etcd::start(folder, 4, url, &["--discovery-fallback", "exit"]).ends_refused();
}

/// The embedded discovery, served as the boot server serves it, in a thread of its own.
struct Server {
    base: String,
    discovery: Arc<Discovery>,
    stop: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Server {
    fn start(state: &Path, address: Ipv4Addr) -> Self {
        let base = format!("http://{address}:8080/discovery");
        let discovery = Arc::new(Discovery::open(state, &base).unwrap());
        let (stop, stopped) = oneshot::channel();
        let (ready, is_ready) = std::sync::mpsc::channel();
        let routes = Router::new().nest("/discovery", router(Arc::clone(&discovery)));
        let thread = thread::spawn(move || {
            let mut runtime = tokio::runtime::Builder::new_current_thread();
            runtime.enable_all().build().unwrap().block_on(async {
                let listener = TcpListener::bind((address, 8080)).await.unwrap();
                ready.send(()).unwrap();
                tokio::select! {
                    served = axum::serve(listener, routes) => served.unwrap(),
                    _ = stopped => {}
                }
            });
        });
        is_ready.recv().expect("the server has an address");
        Self { base, discovery, stop: Some(stop), thread: Some(thread) }
    }
}

impl Drop for Server {
    /// Ends at once, as if killed: connections are cut, nothing is saved.
    fn drop(&mut self) {
        let _ = self.stop.take().map(|stop| stop.send(()));
        if let Some(thread) = self.thread.take() {
            let ended = thread.join();
            assert!(ended.is_ok() || thread::panicking(), "the server has panicked");
        }
    }
}

/// Debian's `discovery.etcd.io` with the etcd that it keeps its registry in.
struct Service {
    url: String,
    backend: Etcd,
    _process: Process,
}

impl Service {
    fn start(folder: &Path) -> Self {
        let backend = Etcd::alone(folder);
        let url = format!("http://{}:8087", loopback());
        let mut command = Command::new("discovery.etcd.io");
        command.args(["--addr", url.strip_prefix("http://").unwrap(), "--host", &url]);
        command.args(["--etcd", &backend.client_url()]);
        let process = Process::start(&mut command, "etcd-discovery", folder.join("service.log"));
        wait_for("the packaged service", || {
            let reply = client().get(format!("{url}/health")).send();
            match reply.and_then(Response::error_for_status) {
                Ok(_) => Ok(()),
                Err(error) => Err(format!("{error}\n{}", process.log())),
            }
        });
        Self { url, backend, _process: process }
    }
}

/// Requests about one token, and answers in which token and indices no longer tell who answered.
struct Conversation {
    url: String,
    start: u64,
}

impl Conversation {
    fn new(url: &str) -> Self {
        let reply = client().get(url).send().unwrap().json::<Value>().unwrap();
        let start = reply["node"]["createdIndex"].as_u64().unwrap();
        Self { url: url.to_owned(), start }
    }

    /// The status, `X-Etcd-Index` and body. `waitIndex=+N` counts from the token's own index.
    fn say(&self, method: &str, path: &str, form: &str) -> (u16, Option<u64>, Value) {
        let token = self.url.rsplit('/').next().unwrap();
        let path = match path.split_once("waitIndex=+") {
            Some((before, n)) => {
                format!("{before}waitIndex={}", self.start + n.parse::<u64>().unwrap())
            }
            None => path.to_owned(),
        };
        let url = match path.strip_prefix("/..") {
            Some(other) => self.url.replace(&format!("/{token}"), other),
            None => format!("{}{path}", self.url),
        };
        let request = client().request(method.parse().unwrap(), url);
        let request = request.header("content-type", "application/x-www-form-urlencoded");
        let reply = request.body(form.to_owned()).send().unwrap();
        let status = reply.status().as_u16();
        let index = reply.headers().get("x-etcd-index");
        let index = index.map(|index| self.relative(index.to_str().unwrap().parse().unwrap()));
        assert_eq!(index.is_some(), reply.headers().contains_key("x-etcd-cluster-id"));
        let body = reply.text().unwrap().replace(token, "TOKEN");
        let mut body = serde_json::from_str(&body).unwrap_or(Value::String(body));
        self.relate(&mut body);
        (status, index, body)
    }

    fn relate(&self, value: &mut Value) {
        match value {
            Value::Number(number) => *value = json!(self.relative(number.as_u64().unwrap())),
            Value::Array(values) => values.iter_mut().for_each(|value| self.relate(value)),
            Value::Object(fields) => {
                let indices = fields.iter_mut().filter(|(name, _)| *name != "errorCode");
                indices.for_each(|(_, value)| self.relate(value));
            }
            _ => {}
        }
    }

    /// A request that is wrong in itself is answered with index 0.
    fn relative(&self, index: u64) -> u64 {
        if index == 0 { 0 } else { 1000 + index - self.start }
    }
}
