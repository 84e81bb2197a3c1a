//! Requests as etcd's client sends them, put to the router without a network.

use axum::body::{Bytes, to_bytes};
use axum::extract::Request;
use axum::http::Method;
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::time::sleep;
use tower::ServiceExt;

use super::*;

mod polls;

const BASE: &str = "http://10.0.0.1:8080/discovery";
/// The second value of the counter that stands in for randomness.
const T: &str = "00000000000000000000000000000002";

#[tokio::test]
async fn a_new_url_has_the_configured_base_whatever_the_host_header_says() {
    let lab = Lab::new();
    for (method, n) in [(Method::GET, 2), (Method::PUT, 3), (Method::POST, 4)] {
        let request = Request::builder()
            .method(method)
            .uri("/new?size=5")
            .header("host", "elsewhere:1")
            .body(Body::empty());
        let reply = lab.send(request.unwrap()).await;
        assert_eq!((reply.status, reply.body), (200, format!("{BASE}/{n:032x}")));
    }
    let size = lab.get(&format!("/{T}/_config/size")).await;
    assert_eq!(size.json()["node"]["value"], "5");
}

#[tokio::test]
async fn a_head_makes_no_token() {
    let lab = Lab::new();
    let before = lab.discovery.saved.borrow().registry.clone();
    let request = Request::builder().method("HEAD").uri("/new?size=5").body(Body::empty());
    assert_eq!(lab.send(request.unwrap()).await.status, 405);
    assert_eq!(lab.discovery.saved.borrow().registry, before);
}

#[tokio::test]
async fn a_size_may_come_in_a_form_and_is_3_by_default() {
    let lab = Lab::new();
    let form = Request::builder().method("POST").uri("/new").header(CONTENT_TYPE, FORM);
    lab.send(form.body(Body::from("size=7")).unwrap()).await;
    lab.get("/new").await;
    for (n, size) in [(2, "7"), (3, "3")] {
        let reply = lab.get(&format!("/{n:032x}/_config/size")).await;
        assert_eq!(reply.json()["node"]["value"], size);
    }
}

#[tokio::test]
async fn a_wrong_size_is_an_error_of_etcds() {
    let lab = Lab::new();
    for size in ["0", "1001", "-3", "many"] {
        let reply = lab.get(&format!("/new?size={size}")).await;
        assert_eq!(
            (reply.status, reply.json()),
            (
                400,
                json!({"errorCode": 403, "message": "Invalid active size",
                       "cause": format!("the size must be 1 to 1000, not `{size}`"), "index": 0})
            )
        );
    }
    assert_eq!(lab.discovery.saved.borrow().registry.index(), 0);
}

#[tokio::test]
async fn the_answers_are_those_of_etcd_with_its_headers() {
    let lab = Lab::with_cluster().await;
    let key = format!("/_etcd/registry/{T}");

    let path = format!("/{T}/_config/size?quorum=false&recursive=false&sorted=false");
    let size = lab.get(&path).await;
    assert_eq!((size.status, size.index.as_deref()), (200, Some("1")));
    assert_eq!(size.cluster.as_deref(), Some("1"));
    assert_eq!(
        size.body,
        format!(
            "{{\"action\":\"get\",\"node\":{{\"key\":\"{key}/_config/size\",\"value\":\"3\",\
             \"modifiedIndex\":1,\"createdIndex\":1}}}}\n"
        )
    );

    let node = json!({"key": format!("{key}/1f"), "value": "a=http://h:2380",
                      "modifiedIndex": 2, "createdIndex": 2});
    let put = lab.register("1f", "a=http://h:2380").await;
    assert_eq!((put.status, put.index.as_deref()), (201, Some("2")));
    assert_eq!(put.json(), json!({"action": "create", "node": node}));

    let again = lab.register("1f", "a=http://h:2380").await;
    assert_eq!((again.status, again.index.as_deref()), (412, Some("2")));
    assert_eq!(again.cluster.as_deref(), Some("1"));
    assert_eq!(
        again.json(),
        json!({"errorCode": 105, "message": "Key already exists", "cause": format!("{key}/1f"),
               "index": 2})
    );

    let listed = json!({"action": "get", "node": {"key": key, "dir": true, "nodes": [node],
                        "modifiedIndex": 1, "createdIndex": 1}});
    for path in [format!("/{T}"), format!("/{T}/"), format!("/{T}?recursive=true&sorted=true")] {
        let reply = lab.get(&path).await;
        assert_eq!((reply.status, reply.json()), (200, listed.clone()), "{path}");
    }
    let member = lab.get(&format!("/{T}/1f")).await;
    assert_eq!(member.json(), json!({"action": "get", "node": node}));

    let gone = lab.request("DELETE", &format!("/{T}/1f"), "").await;
    assert_eq!((gone.status, gone.index.as_deref()), (200, Some("3")));
    assert_eq!(
        gone.json(),
        json!({"action": "delete",
               "node": {"key": format!("{key}/1f"), "modifiedIndex": 3, "createdIndex": 2},
               "prevNode": node})
    );
    let missing = lab.get(&format!("/{T}/1f")).await;
    assert_eq!((missing.status, missing.json()["errorCode"].clone()), (404, json!(100)));
}

#[tokio::test]
async fn requests_that_discovery_does_not_know_are_refused() {
    let lab = Lab::with_cluster().await;
    let unknown = "f".repeat(32);
    let table = [
        ("GET", format!("/{unknown}"), 404, 100),
        ("GET", format!("/{unknown}/_config/size"), 404, 100),
        ("GET", format!("/{unknown}?wait=true&recursive=true"), 404, 100),
        ("PUT", format!("/{unknown}/1f?prevExist=false"), 404, 100),
        ("DELETE", format!("/{T}/1f"), 404, 100),
        ("PUT", format!("/{T}"), 403, 102),
        ("PUT", format!("/{T}/_config"), 403, 102),
        ("DELETE", format!("/{T}/_config?recursive=true"), 403, 102),
        ("PUT", format!("/{T}/1f?prevExist=true"), 404, 100),
        ("PUT", format!("/{T}/1f?prevExist=perhaps"), 400, 209),
        ("PUT", format!("/{T}/1f?prevValue=x"), 400, 209),
        ("PUT", format!("/{T}/1f?ttl=10"), 400, 209),
        ("PUT", format!("/{T}/1f?wait=true"), 400, 209),
        ("PUT", format!("/{T}/_hidden"), 400, 209),
        ("GET", format!("/{T}?wait=true&waitIndex=soon"), 400, 203),
        ("GET", format!("/{T}?wait=true&stream=true"), 400, 209),
        ("GET", format!("/{T}/_config/size?wait=true"), 400, 209),
    ];
    for (method, path, status, code) in table {
        let reply = lab.request(method, &path, "").await;
        assert_eq!(
            (reply.status, reply.json()["errorCode"].clone()),
            (status, json!(code)),
            "{method} {path}"
        );
    }
    let size = lab.request("PUT", &format!("/{T}/_config/size"), "value=9").await;
    assert_eq!(size.status, 405);
    let long = format!("value={}", "v".repeat(LONGEST_BODY));
    let long = lab.request("PUT", &format!("/{T}/1f"), &long).await;
    assert_eq!((long.status, long.json()["errorCode"].clone()), (400, json!(210)));
    assert_eq!(lab.discovery.saved.borrow().registry.index(), 1);
}

#[tokio::test]
async fn a_change_that_cannot_be_saved_is_a_server_error_and_has_not_happened() {
    let lab = Lab::with_cluster().await;
    fs_err::remove_dir_all(lab.folder.path()).unwrap();
    let reply = lab.register("1f", "a=http://h:2380").await;
    assert_eq!(
        (reply.status, reply.json()),
        (
            500,
            json!({"errorCode": 300, "message": "Raft Internal Error",
                   "cause": "the change could not be saved", "index": 1})
        )
    );
    assert_eq!(lab.get(&format!("/{T}/1f")).await.status, 404);
}

#[tokio::test(start_paused = true)]
async fn a_form_that_never_comes_is_not_waited_for() {
    let lab = Lab::with_cluster().await;
    let body = Body::from_stream(stream::pending::<Result<Bytes, Infallible>>());
    let request = Request::put(format!("/{T}/1f")).header(CONTENT_TYPE, FORM).body(body);
    let reply = timeout(Duration::from_secs(60), lab.send(request.unwrap())).await.unwrap();
    assert_eq!(
        (reply.status, reply.json()["cause"].as_str()),
        (400, Some("the form did not come"))
    );
}

#[tokio::test]
async fn members_that_register_at_once_get_different_indices() {
    let lab = Lab::with_cluster().await;
    let registrations = (0..20).map(|n| {
        let (router, path) = (lab.router.clone(), format!("/{T}/{n}?prevExist=false"));
        tokio::spawn(async move { router.oneshot(form("PUT", &path, "value=v")).await })
    });
    for registration in registrations.collect::<Vec<_>>() {
        assert_eq!(registration.await.unwrap().unwrap().status(), 201);
    }
    let nodes = lab.get(&format!("/{T}")).await.json()["node"]["nodes"].clone();
    let index = |node: &Value| node["createdIndex"].as_u64().unwrap();
    let indices: Vec<u64> = nodes.as_array().unwrap().iter().map(index).collect();
    assert_eq!(indices, (2..22).collect::<Vec<_>>());
}

struct Lab {
    folder: TempDir,
    discovery: Arc<Discovery>,
    router: Router,
}

impl Lab {
    fn new() -> Self {
        let folder = TempDir::new().unwrap();
        let mut n = 0_u128;
        let counter = move || {
            n += 1;
            n.to_be_bytes()
        };
        let path = folder.path().join("discovery.json");
        let discovery = Arc::new(Discovery::open_with(&path, BASE, counter).unwrap());
        let router = router(Arc::clone(&discovery));
        Self { folder, discovery, router }
    }

    /// With a cluster of three members, whose token is [`T`].
    async fn with_cluster() -> Self {
        let lab = Self::new();
        lab.get("/new?size=3").await;
        lab
    }

    async fn get(&self, path: &str) -> Reply {
        self.send(Request::get(path).body(Body::empty()).unwrap()).await
    }

    async fn register(&self, id: &str, value: &str) -> Reply {
        let value = value.replace(':', "%3A").replace('/', "%2F").replace('=', "%3D");
        self.request("PUT", &format!("/{T}/{id}?prevExist=false"), &format!("value={value}")).await
    }

    async fn request(&self, method: &str, path: &str, body: &str) -> Reply {
        self.send(form(method, path, body)).await
    }

    async fn open(&self, path: &str) -> Response {
        let request = Request::get(path).body(Body::empty()).unwrap();
        self.router.clone().oneshot(request).await.unwrap()
    }

    async fn stays_open(&self, path: &str) -> bool {
        let body = self.open(path).await.into_body();
        timeout(MOMENT, to_bytes(body, usize::MAX)).await.is_err()
    }

    async fn send(&self, request: Request) -> Reply {
        let response = self.router.clone().oneshot(request).await.unwrap();
        let header = |name: &str| Some(response.headers().get(name)?.to_str().unwrap().to_owned());
        let (status, index, cluster) =
            (response.status().as_u16(), header(INDEX), header(CLUSTER_ID));
        let body = to_bytes(response.into_body(), usize::MAX).await.unwrap();
        Reply { status, index, cluster, body: String::from_utf8(body.to_vec()).unwrap() }
    }
}

fn form(method: &str, path: &str, body: &str) -> Request {
    let request = Request::builder().method(method).uri(path).header(CONTENT_TYPE, FORM);
    request.body(Body::from(body.to_owned())).unwrap()
}

struct Reply {
    status: u16,
    index: Option<String>,
    cluster: Option<String>,
    body: String,
}

impl Reply {
    fn json(&self) -> Value {
        serde_json::from_str(&self.body).unwrap_or_else(|error| panic!("{error}: {}", self.body))
    }
}

const FORM: &str = "application/x-www-form-urlencoded";
const MOMENT: Duration = Duration::from_millis(100);
