//! Who may see the page: who comes to 127.0.0.1 by a loopback name, from the page itself or from nowhere, with its cookie or with
//! a key that becomes the cookie. Everybody else learns nothing, not even which paths there are.

use std::net::SocketAddr;
use std::sync::Arc;

use axum::extract::{ConnectInfo, Request, State};
use axum::http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, Uri, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};

use super::address::PageAddress;
use crate::host::tcp_owner;

/// What is to be had only by who may.
#[derive(Debug)]
pub(super) struct Guard {
    pub(super) address: PageAddress,
    /// Whether the other end of a connection is this user's.
    pub(super) is_own: fn(SocketAddr, SocketAddr) -> bool,
}

/// What is done with a request.
#[derive(Debug, PartialEq, Eq)]
enum Verdict {
    Answer,
    /// It has a key: it gets the cookie and is sent to the URL without the key.
    LetIn,
    Refuse(StatusCode, &'static str),
}

pub(super) async fn guard(
    State(guard): State<Arc<Guard>>,
    ConnectInfo(peer): ConnectInfo<SocketAddr>,
    request: Request,
    next: Next,
) -> Response {
    let verdict = guard.judge(request.method(), request.uri(), request.headers(), peer);
    let mut response = match verdict {
        Verdict::Answer => next.run(request).await,
        Verdict::LetIn => {
            let root = guard.address.root();
            let cookie = format!(
                "{}={}; Path={root}; HttpOnly; SameSite=Strict",
                guard.cookie_name(),
                guard.address.key
            );
            let headers = [(header::LOCATION, root), (header::SET_COOKIE, cookie)];
            (StatusCode::SEE_OTHER, headers).into_response()
        }
        Verdict::Refuse(status, why) => {
            let mut response = (status, why).into_response();
            if status == StatusCode::METHOD_NOT_ALLOWED {
                response.headers_mut().insert(header::ALLOW, HeaderValue::from_static("GET, HEAD"));
            }
            response
        }
    };
    for (name, value) in HEADERS {
        response.headers_mut().entry(name).or_insert(HeaderValue::from_static(value));
    }
    response
}

impl Guard {
    pub(super) fn new(address: PageAddress) -> Self {
        let is_own = |peer, local| {
            tcp_owner::owner(peer, local) == Some(rustix::process::geteuid().as_raw())
        };
        Self { address, is_own }
    }

    fn judge(&self, method: &Method, uri: &Uri, headers: &HeaderMap, peer: SocketAddr) -> Verdict {
        if !peer.ip().to_canonical().is_loopback() {
            return Verdict::Refuse(StatusCode::FORBIDDEN, "this is for the host itself\n");
        }
        if !matches!(*method, Method::GET | Method::HEAD) {
            return Verdict::Refuse(StatusCode::METHOD_NOT_ALLOWED, "this page can only be read\n");
        }
        // A name of the Internet that leads to 127.0.0.1 is somebody's trick (DNS rebinding).
        if !self.has_our_host(uri, headers) {
            return Verdict::Refuse(StatusCode::MISDIRECTED_REQUEST, "this is no such host\n");
        }
        if !self.comes_from_here(headers) {
            return Verdict::Refuse(StatusCode::FORBIDDEN, "this page is for no other page\n");
        }
        let root = self.address.root();
        if uri.path() == root && self.has_key(uri, peer) {
            return Verdict::LetIn;
        }
        if self.has_cookie(headers) && uri.path().starts_with(&root) {
            return Verdict::Answer;
        }
        Verdict::Refuse(StatusCode::FORBIDDEN, NO_KEY)
    }

    fn has_our_host(&self, uri: &Uri, headers: &HeaderMap) -> bool {
        let is_ours = |host: &str| {
            LOOPBACK.iter().any(|name| host == format!("{name}:{}", self.address.port))
        };
        let mut hosts = headers.get_all(header::HOST).iter();
        let (Some(host), None) = (hosts.next(), hosts.next()) else { return false };
        host.to_str().is_ok_and(is_ours) && uri.authority().is_none_or(|it| is_ours(it.as_str()))
    }

    /// Whether no other origin has to do with it. From another port of this computer, as the page of another lab, one may come by
    /// a link and no other way.
    fn comes_from_here(&self, headers: &HeaderMap) -> bool {
        let is_own = |origin: &HeaderValue| {
            let name = origin.to_str().unwrap_or_default().strip_prefix("http://");
            let own =
                |host| LOOPBACK.iter().any(|it| host == format!("{it}:{}", self.address.port));
            name.is_some_and(own)
        };
        let all = |name: &HeaderName| headers.get_all(name).iter();
        let is = |name: &HeaderName, value: &str| all(name).eq([value]);
        let is_link = is(&FETCH_MODE, "navigate") && is(&FETCH_DEST, "document");
        all(&header::ORIGIN).all(is_own)
            && all(&FETCH_SITE).all(|site| match site.as_bytes() {
                b"same-origin" | b"none" => true,
                b"same-site" => is_link,
                _ => false,
            })
    }

    fn has_key(&self, uri: &Uri, peer: SocketAddr) -> bool {
        let mut parts = uri.query().unwrap_or_default().split('&');
        let Some(key) = parts.find_map(|part| part.strip_prefix("key=")) else { return false };
        let local = SocketAddr::from(([127, 0, 0, 1], self.address.port));
        let is_own_key = is_same(key, &self.address.own_key);
        is_same(key, &self.address.key) || (is_own_key && (self.is_own)(peer, local))
    }

    fn has_cookie(&self, headers: &HeaderMap) -> bool {
        let name = self.cookie_name();
        let texts = headers.get_all(header::COOKIE).iter().filter_map(|it| it.to_str().ok());
        let mut cookies = texts.flat_map(|text| text.split(';'));
        cookies.any(|cookie| {
            let value = cookie.trim().split_once('=').filter(|(other, _)| *other == name);
            value.is_some_and(|(_, value)| is_same(value, &self.address.key))
        })
    }

    /// Labs share the host's name, and so their cookies' names must differ.
    fn cookie_name(&self) -> String {
        format!("virtlab-{}", self.address.port)
    }
}

/// Takes as long for every text of the same length.
fn is_same(text: &str, secret: &str) -> bool {
    let differs = |all: u8, (a, b): (u8, u8)| std::hint::black_box(all | (a ^ b));
    text.len() == secret.len() && text.bytes().zip(secret.bytes()).fold(0, differs) == 0
}

const NO_KEY: &str = "`virtlab open` prints the URL that opens this page\n";
const LOOPBACK: [&str; 3] = ["127.0.0.1", "localhost", "[::1]"];
const FETCH_SITE: HeaderName = HeaderName::from_static("sec-fetch-site");
const FETCH_MODE: HeaderName = HeaderName::from_static("sec-fetch-mode");
const FETCH_DEST: HeaderName = HeaderName::from_static("sec-fetch-dest");

/// What every answer says to the browser, where it does not say otherwise.
const HEADERS: [(HeaderName, &str); 7] = [
    (
        header::CONTENT_SECURITY_POLICY,
        "default-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'; object-src 'none'",
    ),
    (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
    (header::X_FRAME_OPTIONS, "DENY"),
    (header::REFERRER_POLICY, "no-referrer"),
    (header::CACHE_CONTROL, "no-store"),
    (HeaderName::from_static("cross-origin-opener-policy"), "same-origin"),
    (HeaderName::from_static("cross-origin-resource-policy"), "same-origin"),
];
