//! Requests as browsers and others send them, put to the page's router, and listeners on real sockets.

use std::collections::BTreeMap;
use std::net::IpAddr;

use axum::Router;
use axum::body::{Body, HttpBody, to_bytes};
use axum::extract::Request;
use axum::extract::connect_info::MockConnectInfo;
use axum::http::{HeaderMap, Method, StatusCode};
use axum::response::Response;
use tokio::time::timeout;
use tower::ServiceExt;
use uuid::Uuid;

use super::insight::{ConsolePart, OtherLab, Wrong};
use super::*;
use crate::boot_server::content::{Content, ServedNode};
use crate::boot_server::recorder::event::{Happening, StageReached};
use crate::boot_server::stage::Stage;

/// An insight that knows what the tests want.
struct Known;

impl Insight for Known {
    fn look(&self, known: &Timeline) -> Look {
        let text = format!("{} nodes", known.nodes.len());
        Look { wrong: vec![Wrong { text, command: None }], ..Look::default() }
    }

    fn console(&self, _: u32, after: Option<u64>) -> Result<ConsolePart> {
        let lines = vec!["<script>".to_owned()];
        Ok(ConsolePart { after: after.unwrap_or(0), lines, rest: String::new() })
    }

    fn labs(&self) -> Vec<OtherLab> {
        Vec::new()
    }
}

struct Bench {
    server: Arc<Server>,
    page: Arc<Page>,
    address: PageAddress,
    folder: tempfile::TempDir,
}

fn bench() -> Bench {
    let folder = tempfile::tempdir().unwrap();
    let node = ServedNode {
        index: 1,
        name: "demo-1".to_owned(),
        mac: "52:54:00:12:34:01".parse().unwrap(),
        ip: Some("10.0.0.2".parse().unwrap()),
        arguments: None,
        script: String::new(),
        config: String::new(),
        voter: true,
    };
    let content = Content {
        lab: "demo".parse().unwrap(),
        uuid: Uuid::nil(),
        address: "10.0.0.1".parse().unwrap(),
        port: 8470,
        nodes: vec![node],
        files: BTreeMap::new(),
        config_type: "application/json".to_owned(),
        ssh_keys: Vec::new(),
        discovery_url: None,
        ready_when: None,
        interface: None,
        trust_claimed_mac: false,
        knock: false,
    };
    let server = Arc::new(Server::new(content, &folder.path().join("journal")).unwrap());
    let page = Arc::new(Page::new(Arc::clone(&server), Arc::new(Known), folder.path()));
    Bench { server, page, address: PageAddress::new(4711), folder }
}

/// A request as a browser sends it that has the page open; `changes` takes headers out (`""`) and puts others in.
struct Asked {
    peer: &'static str,
    method: Method,
    path: String,
    headers: Vec<(String, String)>,
}

impl Bench {
    fn asked(&self, path: &str) -> Asked {
        let cookie = format!("other=1; virtlab-4711={}", self.address.key);
        let headers =
            [("host", "127.0.0.1:4711"), ("cookie", &cookie), ("sec-fetch-site", "same-origin")];
        let own = |(name, value): (&str, &str)| (name.to_owned(), value.to_owned());
        Asked {
            peer: "127.0.0.1:50000",
            method: Method::GET,
            path: format!("{}{path}", self.address.root()),
            headers: headers.map(own).to_vec(),
        }
    }

    fn router(&self) -> Router {
        let mut guard = Guard::new(self.address.clone());
        guard.is_own = |peer, _| peer.port() != 666;
        routes::router(Arc::clone(&self.page), guard)
    }

    async fn answer(&self, asked: Asked) -> Response {
        let mut request = Request::builder().method(asked.method).uri(&asked.path);
        for (name, value) in asked.headers.iter().filter(|(_, value)| !value.is_empty()) {
            request = request.header(name, value);
        }
        let peer: SocketAddr = asked.peer.parse().unwrap();
        let app = self.router().layer(MockConnectInfo(peer));
        app.oneshot(request.body(Body::empty()).unwrap()).await.unwrap()
    }

    async fn status(&self, asked: Asked) -> u16 {
        let response = self.answer(asked).await;
        let headers = response.headers().clone();
        assert_careful(&headers);
        let status = response.status();
        if status.is_client_error() {
            let body = to_bytes(response.into_body(), 1 << 20).await.unwrap();
            let body = String::from_utf8_lossy(&body).into_owned();
            assert!(!body.contains("demo") && !body.contains(&self.address.path), "{body}");
        }
        status.as_u16()
    }
}

impl Asked {
    fn with(mut self, name: &str, value: &str) -> Self {
        self.headers.retain(|(other, _)| other != name);
        self.headers.push((name.to_owned(), value.to_owned()));
        self
    }

    fn also(mut self, name: &str, value: &str) -> Self {
        self.headers.push((name.to_owned(), value.to_owned()));
        self
    }

    fn from(mut self, peer: &'static str) -> Self {
        self.peer = peer;
        self
    }

    fn by(mut self, method: Method) -> Self {
        self.method = method;
        self
    }

    fn at(mut self, path: &str) -> Self {
        path.clone_into(&mut self.path);
        self
    }
}

/// What every answer has, whatever it is.
fn assert_careful(headers: &HeaderMap) {
    for (name, value) in [
        (
            "content-security-policy",
            "default-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'; object-src 'none'",
        ),
        ("x-content-type-options", "nosniff"),
        ("x-frame-options", "DENY"),
        ("referrer-policy", "no-referrer"),
        ("cache-control", "no-store"),
        ("cross-origin-opener-policy", "same-origin"),
        ("cross-origin-resource-policy", "same-origin"),
    ] {
        assert_eq!(headers.get(name).map(|it| it.to_str().unwrap()), Some(value), "{name}");
    }
    assert!(!headers.keys().any(|name| name.as_str().starts_with("access-control-")));
}

#[tokio::test]
async fn who_has_the_cookie_sees_the_page() {
    let bench = bench();
    for path in ["", "page.css", "page.js", "icon.svg", "console/1", "labs", "events"] {
        assert_eq!(bench.status(bench.asked(path)).await, 200, "{path}");
        assert_eq!(bench.status(bench.asked(path).by(Method::HEAD)).await, 200, "{path}");
    }
    for path in ["console/2", "status", "ipxe"] {
        assert_eq!(bench.answer(bench.asked(path)).await.status(), StatusCode::NOT_FOUND, "{path}");
    }
    for host in ["localhost:4711", "[::1]:4711"] {
        assert_eq!(bench.status(bench.asked("").with("host", host)).await, 200, "{host}");
        let origin = format!("http://{host}");
        assert_eq!(bench.status(bench.asked("").with("origin", &origin)).await, 200, "{origin}");
    }
    // Who is no browser sends none of these.
    assert_eq!(bench.status(bench.asked("").with("sec-fetch-site", "")).await, 200);
    assert_eq!(bench.status(bench.asked("").with("sec-fetch-site", "none")).await, 200);
}

#[tokio::test]
async fn the_picture_of_a_verdict_is_there_when_one_was_drawn_and_only_draws() {
    let bench = bench();
    assert_eq!(bench.status(bench.asked("verdict.svg")).await, 404);
    std::fs::write(bench.folder.path().join(VERDICT_FILE), "<svg/>").unwrap();
    let response = bench.answer(bench.asked("verdict.svg")).await;
    let headers = response.headers();
    assert_eq!(headers["content-type"], "image/svg+xml");
    assert_eq!(headers["content-security-policy"], "default-src 'none'; style-src 'unsafe-inline'");
    assert_eq!(headers["x-content-type-options"], "nosniff");
    assert_eq!(to_bytes(response.into_body(), 99).await.unwrap(), "<svg/>");
    let stranger = bench.asked("verdict.svg").with("cookie", "");
    assert_eq!(bench.status(stranger).await, 403);
}

#[tokio::test]
async fn a_host_that_is_no_loopback_name_is_refused() {
    let bench = bench();
    for host in [
        "",
        "evil.example:4711",
        "127.0.0.1.evil.example:4711",
        "127.0.0.1",
        "127.0.0.1:4712",
        "10.0.0.1:4711",
        "127.0.0.2:4711",
        "LOCALHOST.:4711",
    ] {
        assert_eq!(bench.status(bench.asked("").with("host", host)).await, 421, "{host}");
    }
    let two = bench.asked("").also("host", "127.0.0.1:4711");
    assert_eq!(bench.status(two).await, 421);
    let absolute = format!("http://evil.example:4711{}", bench.address.root());
    assert_eq!(bench.status(bench.asked("").at(&absolute)).await, 421);
}

#[tokio::test]
async fn without_the_cookie_or_with_a_wrong_one_there_is_nothing() {
    let bench = bench();
    let key = &bench.address.key;
    let wrong = format!("{}x", &key[1..]);
    for cookie in [
        String::new(),
        "virtlab-4711=".to_owned(),
        format!("virtlab-4711={wrong}"),
        format!("virtlab-4711={}", &key[1..]),
        format!("virtlab-4711={}", bench.address.own_key),
        // That of another lab.
        format!("virtlab-4712={key}"),
        format!("xvirtlab-4711={key}"),
    ] {
        for path in ["", "page.js", "events", "console/1", "nothing"] {
            let asked = bench.asked(path).with("cookie", &cookie);
            assert_eq!(bench.status(asked).await, 403, "{path} {cookie}");
        }
    }
    for path in ["/", "/events", "/status", "/favicon.ico", "//", "/x/page.js"] {
        assert_eq!(bench.status(bench.asked("").at(path)).await, 403, "{path}");
    }
}

#[tokio::test]
async fn a_key_in_the_url_becomes_a_cookie_and_a_wrong_one_does_not() {
    let bench = bench();
    let PageAddress { key, own_key, .. } = &bench.address;
    let root = bench.address.root();
    let enter = |key: &str| {
        let fresh = bench.asked(&format!("?key={key}")).with("cookie", "");
        fresh.with("sec-fetch-site", "none")
    };
    for key in [key, own_key] {
        let response = bench.answer(enter(key)).await;
        assert_eq!(response.status(), StatusCode::SEE_OTHER);
        assert_careful(response.headers());
        assert_eq!(response.headers()["location"], root);
        let cookie = response.headers()["set-cookie"].to_str().unwrap().to_owned();
        let expected =
            format!("virtlab-4711={}; Path={root}; HttpOnly; SameSite=Strict", bench.address.key);
        assert_eq!(cookie, expected);
        let asked = bench.asked("").with("cookie", cookie.split(';').next().unwrap());
        assert_eq!(bench.status(asked).await, 200);
    }
    for wrong in ["", "x", &key[1..], &key.to_uppercase(), &format!("{key}x")] {
        // Of hexadecimal digits some text may have no letter.
        if wrong != key {
            assert_eq!(bench.status(enter(wrong)).await, 403, "{wrong}");
        }
    }
    // The key of this user's own processes is worth nothing to others, who can read it.
    assert_eq!(bench.status(enter(own_key).from("127.0.0.1:666")).await, 403);
    assert_eq!(bench.status(enter(key).from("127.0.0.1:666")).await, 303);
    // A key opens the page, and nothing beside it.
    let beside = bench.asked(&format!("events?key={key}")).with("cookie", "");
    assert_eq!(bench.status(beside).await, 403);
}

#[tokio::test]
async fn another_origin_is_refused_with_the_cookie_as_well() {
    let bench = bench();
    for origin in [
        "http://evil.example",
        "http://evil.example:4711",
        "https://127.0.0.1:4711",
        "http://127.0.0.1:4712",
        "null",
    ] {
        assert_eq!(
            bench.status(bench.asked("events").with("origin", origin)).await,
            403,
            "{origin}"
        );
    }
    for site in ["cross-site", "same-site", "strange"] {
        for path in ["", "events"] {
            let asked = bench.asked(path).with("sec-fetch-site", site);
            assert_eq!(bench.status(asked).await, 403, "{site} {path}");
            let framed = bench.asked(path).with("sec-fetch-site", site);
            let framed = framed.with("sec-fetch-mode", "navigate").with("sec-fetch-dest", "iframe");
            assert_eq!(bench.status(framed).await, 403, "{site} {path}");
        }
    }
    // The page of another lab is on another port of the same host: it may have a link here.
    let link = |site| {
        let asked = bench.asked("").with("sec-fetch-site", site);
        asked.with("sec-fetch-mode", "navigate").with("sec-fetch-dest", "document")
    };
    assert_eq!(bench.status(link("same-site")).await, 200);
    assert_eq!(bench.status(link("cross-site")).await, 403);
}

#[tokio::test]
async fn the_page_can_only_be_read() {
    let bench = bench();
    for method in [Method::POST, Method::PUT, Method::DELETE, Method::OPTIONS, Method::PATCH] {
        let response = bench.answer(bench.asked("").by(method.clone())).await;
        assert_eq!(response.status(), StatusCode::METHOD_NOT_ALLOWED, "{method}");
        assert_eq!(response.headers()["allow"], "GET, HEAD");
        assert_careful(response.headers());
    }
}

#[tokio::test]
async fn a_guest_cannot_reach_it() {
    let bench = bench();
    for peer in ["10.0.0.2:50000", "10.0.0.1:50000", "[fd00::1]:50000", "192.168.1.7:1"] {
        assert_eq!(bench.status(bench.asked("").from(peer)).await, 403, "{peer}");
    }
    assert_eq!(bench.status(bench.asked("").from("[::ffff:127.0.0.1]:50000")).await, 200);
    // The nodes' own listener has none of its routes, whoever asks.
    let app = crate::boot_server::router(Arc::clone(&bench.server));
    for peer in ["10.0.0.2:50000", "127.0.0.1:50000"] {
        for path in ["", "page.js", "events", "console/1", "labs"] {
            let Asked { path, headers, .. } = bench.asked(path);
            let mut request = Request::builder().uri(&path);
            for (name, value) in headers {
                request = request.header(name, value);
            }
            let peer: SocketAddr = peer.parse().unwrap();
            let app = app.clone().layer(MockConnectInfo(peer));
            let response = app.oneshot(request.body(Body::empty()).unwrap()).await.unwrap();
            assert_eq!(response.status(), StatusCode::NOT_FOUND, "{peer} {path}");
        }
    }
}

#[tokio::test]
async fn it_listens_on_loopback_and_nowhere_else_and_stays_where_it_was() {
    let bench = bench();
    let (listener, address) = listen(bench.folder.path()).await.unwrap();
    let local = listener.local_addr().unwrap();
    assert_eq!(local, SocketAddr::from(([127, 0, 0, 1], address.port)));
    assert_eq!(PageAddress::read(bench.folder.path()).unwrap(), address);
    // Another address of this computer, also of loopback, leads to nobody.
    let other: IpAddr = "127.0.0.2".parse().unwrap();
    assert!(std::net::TcpStream::connect((other, address.port)).is_err());

    // Taken by somebody else: another place, with other keys.
    let (beside, moved) = listen(bench.folder.path()).await.unwrap();
    assert!(moved.port != address.port && moved.key != address.key && moved.path != address.path);
    drop((listener, beside));
    let (_again, same) = listen(bench.folder.path()).await.unwrap();
    assert_eq!(same, moved);
}

/// What a stream has told, until `is_enough`.
async fn told(response: Response, is_enough: impl Fn(&str) -> bool) -> String {
    let mut body = Box::pin(response.into_body());
    let mut text = String::new();
    let all = async {
        while !is_enough(&text) {
            let frame = std::future::poll_fn(|context| body.as_mut().poll_frame(context)).await;
            let Some(Ok(frame)) = frame else { break };
            text += std::str::from_utf8(frame.data_ref().unwrap()).unwrap();
        }
    };
    timeout(Duration::from_secs(60), all).await.expect("it is told");
    text
}

fn names(text: &str) -> Vec<&str> {
    text.lines().filter_map(|line| line.strip_prefix("event: ")).collect()
}

#[tokio::test]
async fn the_stream_begins_with_the_past_and_goes_on_from_the_last_event() {
    let bench = bench();
    let reach =
        |stage| bench.server.recorder().record(Happening::Stage(StageReached::unasked(1, stage)));
    reach(Stage::PowerOn);
    reach(Stage::Script);
    tokio::spawn(Arc::clone(&bench.page).look());
    let response = bench.answer(bench.asked("events")).await;
    let text = told(response, |text| text.contains("event: look")).await;
    assert!(text.starts_with("retry: 1000\n\nevent: past\ndata: {\"events\":[{"), "{text}");
    assert_eq!(names(&text), ["past", "snapshot", "look"]);
    let past = text.lines().find_map(|line| line.strip_prefix("data: ")).unwrap();
    let past: serde_json::Value = serde_json::from_str(past).unwrap();
    let stages: Vec<&str> =
        past["events"].as_array().unwrap().iter().filter_map(|it| it["stage"].as_str()).collect();
    assert_eq!(stages, ["power-on", "script"]);
    assert!(text.contains("{\"text\":\"1 nodes\",\"command\":null}"), "{text}");

    // It comes again with what it had, and is told what it missed and nothing else.
    let last = text.lines().filter_map(|line| line.strip_prefix("id: ")).next_back().unwrap();
    reach(Stage::Kernel);
    let response = bench.answer(bench.asked("events").with("last-event-id", last)).await;
    let text = told(response, |text| text.contains("event: look")).await;
    assert_eq!(names(&text), ["change", "look"]);
    assert!(text.contains("\"stage\":\"kernel\""), "{text}");

    // The server ends, and so does the stream.
    let response = bench.answer(bench.asked("events")).await;
    bench.server.close();
    told(response, |_| false).await;
}

#[tokio::test]
async fn text_of_guests_is_json_and_never_html() {
    let bench = bench();
    let response = bench.answer(bench.asked("console/1?after=7")).await;
    assert_eq!(response.headers()["content-type"], "application/json");
    let body = to_bytes(response.into_body(), 1 << 20).await.unwrap();
    assert_eq!(body, r#"{"after":7,"lines":["<script>"],"rest":""}"#);
}

#[test]
fn the_page_is_small_and_takes_nothing_from_elsewhere() {
    let (html, css, js) =
        (include_str!("page.html"), include_str!("page.css"), include_str!("page.js"));
    assert!(html.len() + css.len() + js.len() <= 60_000);
    for (name, text) in [("html", html), ("css", css), ("js", js)] {
        for elsewhere in ["http://", "https://", "//cdn", "@import", "url("] {
            let text = text.replace("http://www.w3.org/", "");
            assert!(!text.contains(elsewhere), "{name}: {elsewhere}");
        }
    }
    for sink in ["innerHTML", "outerHTML", "insertAdjacentHTML", "document.write", "eval("] {
        assert!(!js.contains(sink), "{sink}");
    }
    assert!(!html.contains("style=") && !html.contains("onclick"));
}
