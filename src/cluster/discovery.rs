//! The asking side of etcd's v2 discovery: a new token, and who has registered.
//!
//! A lab may use a discovery service that is not ours (`--discovery URL`), and the public one is
//! no longer to be relied on. So a request has a deadline, and an answer that is not a discovery
//! URL (an error page, a captive portal) is refused here, where it can be explained, and not in
//! the journal of a node that does not come up.
//!
//! These functions block. They must not be called inside an async runtime.

use std::io::Read;
use std::net::IpAddr;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use reqwest::Url;
use reqwest::blocking::Response;
use serde::{Deserialize, Serialize};

use crate::http;
use crate::output::sanitize;

/// An etcd member that has announced itself at a discovery URL.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Registration {
    /// etcd's member id, hexadecimal
    pub id: String,
    /// The member's `--name`; empty if what it registered cannot be read
    pub name: String,
    /// Where the other members reach it
    pub peer_urls: Vec<String>,
}

impl Registration {
    /// Reads `name=url[,name=url…]`, the value a member stores under its id. An entry without a
    /// `=` is taken for a URL, since a broken registration is worth showing too.
    pub fn parse(id: &str, value: &str) -> Self {
        let mut name = "";
        let mut peer_urls = Vec::new();
        for entry in value.split(',').filter(|entry| !entry.is_empty()) {
            let url = match entry.split_once('=') {
                Some((left, right)) if !left.contains("://") => {
                    name = left;
                    right
                }
                _ => entry,
            };
            peer_urls.push(url.to_owned());
        }
        Self { id: id.to_owned(), name: name.to_owned(), peer_urls }
    }
}

/// Asks a discovery service for a fresh URL for a cluster of `size` members: `GET
/// SERVICE/new?size=N`. Fails after `timeout`, and if the answer is not an http(s) URL with a path.
pub fn request_token(service: &str, size: usize, timeout: Duration) -> Result<String> {
    let url = new_url(service, size)?;
    let context = || format!("asking `{url}` for a discovery URL");
    let body = body_of(&url, timeout).with_context(context)?;
    discovery_url(&body).with_context(context)
}

/// Who has registered at a discovery URL, in the order of registration. Fails after `timeout`, and
/// if the answer is not what etcd's v2 API says.
pub fn registrations(url: &str, timeout: Duration) -> Result<Vec<Registration>> {
    let context = || format!("asking `{}` who has registered", sanitize(url));
    let parsed = http_url(url).with_context(context)?;
    let body = body_of(&parsed, timeout).with_context(context)?;
    parse_registrations(&body).with_context(context)
}

/// The service's `/new` below whatever path it is served at.
fn new_url(service: &str, size: usize) -> Result<Url> {
    let mut url = http_url(service)
        .with_context(|| format!("reading the discovery service `{}`", sanitize(service)))?;
    if url.query().is_some() || url.fragment().is_some() {
        bail!("reading the discovery service `{url}`: it must not have a query or a fragment");
    }
    let path = url.path().trim_end_matches('/');
    let path = path.strip_suffix("/new").unwrap_or(path);
    let path = format!("{path}/new");
    url.set_path(&path);
    url.query_pairs_mut().append_pair("size", &size.to_string());
    Ok(url)
}

fn http_url(text: &str) -> Result<Url> {
    let url = Url::parse(text)?;
    if !matches!(url.scheme(), "http" | "https") {
        bail!("it must start with `http://` or `https://`");
    }
    Ok(url)
}

fn body_of(url: &Url, timeout: Duration) -> Result<String> {
    let mut client = http::client().timeout(timeout).user_agent(USER_AGENT);
    if is_nearby(url) {
        client = client.no_proxy();
    }
    let response = match client.build()?.get(url.clone()).send() {
        Ok(response) => response,
        Err(error) if error.is_timeout() => bail!("no answer within {timeout:?}"),
        Err(error) => return Err(error.without_url().into()),
    };
    let status = response.status();
    let body = read_limited(response)?;
    if !status.is_success() {
        bail!("the service answered {status}{}", error_text(&body));
    }
    Ok(body)
}

/// A proxy of the environment is for the internet; it cannot reach a lab's own network.
fn is_nearby(url: &Url) -> bool {
    let host = url.host_str().unwrap_or_default();
    match host.trim_start_matches('[').trim_end_matches(']').parse() {
        Ok(IpAddr::V4(ip)) => ip.is_loopback() || ip.is_private() || ip.is_link_local(),
        Ok(IpAddr::V6(ip)) => {
            ip.is_loopback() || ip.is_unique_local() || ip.is_unicast_link_local()
        }
        Err(_) => host == "localhost",
    }
}

fn read_limited(response: Response) -> Result<String> {
    let mut body = Vec::new();
    response.take(LONGEST_ANSWER + 1).read_to_end(&mut body).context("reading the answer")?;
    if body.len() as u64 > LONGEST_ANSWER {
        bail!("the answer is longer than {} KiB", LONGEST_ANSWER / 1024);
    }
    String::from_utf8(body).context("reading the answer")
}

fn discovery_url(body: &str) -> Result<String> {
    let body = body.trim();
    if body.is_empty() {
        bail!("the answer is empty");
    }
    if body.starts_with('<') {
        bail!("the answer is a web page, not a discovery URL{}", error_text(body));
    }
    let url = match http_url(body) {
        Ok(url) if !body.contains(|c: char| c.is_whitespace() || c.is_control()) => url,
        _ => bail!("the answer is not an http(s) URL{}", error_text(body)),
    };
    if url.path().trim_matches('/').is_empty() {
        bail!("the answer is a URL without a token{}", error_text(body));
    }
    Ok(body.to_owned())
}

/// The start of an answer, harmless and on one line, for an error message.
fn error_text(body: &str) -> String {
    let line = body.split_whitespace().collect::<Vec<_>>().join(" ");
    if line.is_empty() {
        return String::new();
    }
    let cut: String = line.chars().take(LONGEST_QUOTE).collect();
    let dots = if cut.len() < line.len() { "…" } else { "" };
    format!(": `{}{dots}`", sanitize(&cut))
}

fn parse_registrations(body: &str) -> Result<Vec<Registration>> {
    let answer: Answer = serde_json::from_str(body)
        .with_context(|| format!("the answer is not etcd's v2 JSON{}", error_text(body)))?;
    if !answer.node.dir {
        bail!("the answer is about a single key, not about a cluster");
    }
    let mut nodes = answer.node.nodes;
    // The order in which etcd lists a directory is not the order of registration.
    nodes.sort_by_key(|node| node.created_index);
    let registration = |node: &Node| {
        let id = node.key.rsplit('/').next().unwrap_or_default();
        Registration::parse(id, node.value.as_deref().unwrap_or_default())
    };
    Ok(nodes.iter().filter(|node| !node.dir).map(registration).collect())
}

#[derive(Deserialize)]
struct Answer {
    node: Node,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Node {
    key: String,
    #[serde(default)]
    value: Option<String>,
    #[serde(default)]
    dir: bool,
    #[serde(default)]
    nodes: Vec<Node>,
    #[serde(default)]
    created_index: u64,
}

/// How long a discovery service may take to answer.
pub const TIMEOUT: Duration = Duration::from_secs(10);

/// A registry of 1000 members with a few peer URLs each stays well below this.
const LONGEST_ANSWER: u64 = 1024 * 1024;
const LONGEST_QUOTE: usize = 120;
const USER_AGENT: &str = concat!("virtlab/", env!("CARGO_PKG_VERSION"));

#[cfg(test)]
mod tests {
    use std::io::Write;
    use std::net::TcpListener;
    use std::thread;

    use super::*;

    #[test]
    fn a_registration_is_read_as_etcd_writes_it() {
        let table = [
            ("n1=http://10.0.0.1:2380", "n1", vec!["http://10.0.0.1:2380"]),
            (
                "n1=http://10.0.0.1:2380,n1=http://[fd00::1]:2380",
                "n1",
                vec!["http://10.0.0.1:2380", "http://[fd00::1]:2380"],
            ),
            ("n1=http://h/?a=b", "n1", vec!["http://h/?a=b"]),
            ("http://h:1/?a=b", "", vec!["http://h:1/?a=b"]),
            ("", "", vec![]),
        ];
        for (value, name, urls) in table {
            let expected = Registration {
                id: "1f".into(),
                name: name.into(),
                peer_urls: urls.into_iter().map(str::to_owned).collect(),
            };
            assert_eq!(Registration::parse("1f", value), expected, "{value}");
        }
    }

    #[test]
    fn the_service_may_be_written_in_several_ways() {
        for service in ["http://h:1/d", "http://h:1/d/", "http://h:1/d/new", "http://h:1/d/new/"] {
            assert_eq!(new_url(service, 3).unwrap().as_str(), "http://h:1/d/new?size=3");
        }
        assert_eq!(new_url("https://h", 5).unwrap().as_str(), "https://h/new?size=5");
    }

    #[test]
    fn a_service_that_is_not_an_http_url_is_refused() {
        let table = [
            (
                "ftp://h",
                "reading the discovery service `ftp://h`: it must start with `http://` or `https://`",
            ),
            ("h", "reading the discovery service `h`: relative URL without a base"),
            (
                "http://h/new?size=3",
                "reading the discovery service `http://h/new?size=3`: it must not have a query or a fragment",
            ),
        ];
        for (service, expected) in table {
            assert_eq!(format!("{:#}", new_url(service, 3).unwrap_err()), expected);
        }
    }

    #[test]
    fn only_an_http_url_with_a_token_is_an_answer() {
        let good = "https://discovery.etcd.io/9e0aeb71f9b477f38e953f0050478666";
        assert_eq!(discovery_url(&format!("{good}\n")).unwrap(), good);
        let table = [
            (" \n", "the answer is empty"),
            (
                "<!DOCTYPE html>\n<title>Log in</title>",
                "the answer is a web page, not a discovery URL: `<!DOCTYPE html> <title>Log in</title>`",
            ),
            ("http://h/", "the answer is a URL without a token: `http://h/`"),
            ("ftp://h/t", "the answer is not an http(s) URL: `ftp://h/t`"),
            ("http://h/t http://h/u", "the answer is not an http(s) URL: `http://h/t http://h/u`"),
            (
                "Unable to generate\u{1b}[2J",
                "the answer is not an http(s) URL: `Unable to generate\\u{1b}[2J`",
            ),
        ];
        for (body, expected) in table {
            assert_eq!(format!("{:#}", discovery_url(body).unwrap_err()), expected);
        }
    }

    #[test]
    fn the_articles_registry_is_read_in_the_order_of_registration() {
        let body = r#"{"action":"get","node":{"key":"/_etcd/registry/57de","dir":true,"nodes":[
            {"key":"/_etcd/registry/57de/dc0df5ec4a3f1c1f","value":"b=http://192.168.5.200:2380",
             "modifiedIndex":1149021527,"createdIndex":1149021527},
            {"key":"/_etcd/registry/57de/3470e6055e4e1119","value":"a=http://192.168.5.236:2380",
             "modifiedIndex":1149021445,"createdIndex":1149021445}],
            "modifiedIndex":1149020480,"createdIndex":1149020480}}"#;
        let expected = [
            Registration::parse("3470e6055e4e1119", "a=http://192.168.5.236:2380"),
            Registration::parse("dc0df5ec4a3f1c1f", "b=http://192.168.5.200:2380"),
        ];
        assert_eq!(parse_registrations(body).unwrap(), expected);
    }

    #[test]
    fn a_registry_without_members_is_empty_and_a_key_is_no_registry() {
        let empty = r#"{"action":"get","node":{"key":"/t","dir":true,"createdIndex":1}}"#;
        assert_eq!(parse_registrations(empty).unwrap(), []);
        let key = r#"{"action":"get","node":{"key":"/t/_config/size","value":"3"}}"#;
        assert_eq!(
            parse_registrations(key).unwrap_err().to_string(),
            "the answer is about a single key, not about a cluster"
        );
    }

    #[test]
    fn a_service_that_misbehaves_is_named_with_what_it_did() {
        let table = [
            (
                "HTTP/1.1 503 Service Unavailable\r\ncontent-length: 4\r\n\r\nbusy",
                "the service answered 503 Service Unavailable: `busy`",
            ),
            ("HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n", "the answer is empty"),
        ];
        for (answer, expected) in table {
            let service = one_answer(answer);
            let error = request_token(&service, 3, TIMEOUT).unwrap_err();
            let expected = format!("asking `{service}/new?size=3` for a discovery URL: {expected}");
            assert_eq!(format!("{error:#}"), expected);
        }
    }

    #[test]
    fn a_service_that_is_not_there_refuses_the_connection() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let service = format!("http://{}", listener.local_addr().unwrap());
        drop(listener);
        let error = format!("{:#}", request_token(&service, 3, TIMEOUT).unwrap_err());
        assert!(error.starts_with(&format!("asking `{service}/new?size=3`")), "{error}");
        assert!(error.contains("Connection refused"), "{error}");
    }

    #[test]
    fn a_service_that_never_answers_is_given_up() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let service = format!("http://{}", listener.local_addr().unwrap());
        let error = request_token(&service, 3, Duration::from_millis(200)).unwrap_err();
        let expected =
            format!("asking `{service}/new?size=3` for a discovery URL: no answer within 200ms");
        assert_eq!(format!("{error:#}"), expected);
    }

    #[test]
    fn an_endless_answer_is_cut_off() {
        let body = "x".repeat(usize::try_from(LONGEST_ANSWER).unwrap() + 1);
        let service = one_answer(&format!("HTTP/1.1 200 OK\r\n\r\n{body}"));
        let error = request_token(&service, 3, TIMEOUT).unwrap_err();
        assert_eq!(error.root_cause().to_string(), "the answer is longer than 1024 KiB");
    }

    /// A server that gives one answer to one request and goes away.
    fn one_answer(answer: &str) -> String {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let service = format!("http://{}", listener.local_addr().unwrap());
        let answer = answer.to_owned();
        thread::spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            let mut request = [0; 4096];
            let _ = stream.read(&mut request).unwrap();
            // The client may hang up once it has seen enough.
            let _ = stream.write_all(answer.as_bytes());
        });
        service
    }
}
