//! The page of a lab, as a browser without a window sees it, and as those see it who are not to.

use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use serde_json::Value;
use tempfile::TempDir;

use crate::harness::{read, run, virsh, virtlab, wait_until};
use crate::wire::{Machine, Server};

/// A page that is open.
pub(crate) struct Page {
    /// The URL without the key.
    url: String,
    cookie: String,
    heard: PathBuf,
    _folder: TempDir,
    _listening: Server,
}

impl Page {
    /// Opens it with what `virtlab open` prints, and listens from then on.
    pub(crate) fn open(lab: &str) -> Self {
        let told = virtlab(&["open", lab, "--print"]).ok();
        let (url, key) = told.trim().split_once("?key=").expect("a key");
        let entered = curl(&["--include", told.trim()]);
        let header = |name: &str| {
            let line = entered.lines().find_map(|line| line.strip_prefix(name));
            line.unwrap_or_else(|| panic!("{name} {entered}")).trim_end().to_owned()
        };
        assert!(url.ends_with(&header("location: ")), "{entered}");
        let cookie = header("set-cookie: ").split(';').next().unwrap().to_owned();
        assert!(cookie.ends_with(key), "{entered}");

        let folder = TempDir::new().unwrap();
        let heard = folder.path().join("events");
        let mut listen = Command::new("curl");
        listen.args(["-sS", "--no-buffer", "--noproxy", "*", "--cookie", &cookie]);
        listen.arg(format!("{url}events"));
        let listening = Server::start(listen, &heard);
        Self { url: url.to_owned(), cookie, heard, _folder: folder, _listening: listening }
    }

    /// The page asks for nothing but what is here, and is small.
    pub(crate) fn assert_whole(&self) {
        let html = self.get("");
        let mut weight = html.len();
        let named = html.split(['"']).collect::<Vec<_>>();
        let named = named
            .windows(2)
            .filter(|pair| pair[0].ends_with(" src=") || pair[0].ends_with(" href="));
        let parts: Vec<&str> =
            named.map(|pair| pair[1]).filter(|it| !it.starts_with('#')).collect();
        assert_eq!(parts, ["icon.svg", "page.css", "page.js"]);
        assert!(!html.contains("://"), "{html}");
        for part in parts {
            let text = self.get(part);
            // The names of XML's namespaces are no addresses.
            assert!(!text.replace("http://www.w3.org/", "").contains("://"), "{part}: {text}");
            weight += text.len();
        }
        assert!(weight <= MOST_BYTES, "{weight} bytes");
    }

    /// A wrong host, no key, a wrong one, another origin, and anything but reading.
    pub(crate) fn assert_refuses_others(&self) {
        let cookie = ["--cookie", self.cookie.as_str()];
        let wrong = self.cookie.replace('=', "=0");
        for (status, args) in [
            ("200", &[][..]),
            ("421", &["--header", "Host: virtlab.example"]),
            ("403", &["--header", "Origin: http://virtlab.example"]),
            ("403", &["--header", "Sec-Fetch-Site: cross-site"]),
            ("405", &["--request", "POST"]),
        ] {
            for part in ["", "page.js", "labs"] {
                assert_eq!(
                    self.status(part, &[&cookie[..], args].concat()),
                    status,
                    "{part} {args:?}"
                );
            }
        }
        for args in [&[][..], &["--cookie", &wrong]] {
            for part in ["", "page.js", "events", "console/1", "labs"] {
                assert_eq!(self.status(part, args), "403", "{part} {args:?}");
            }
        }
    }

    /// Who is on the nodes' network reaches neither its port nor, at the address that boots nodes, any of it.
    pub(crate) fn assert_out_of_reach(&self, lab: &str) {
        let status = virtlab(&["status", lab, "-o", "json"]).json();
        let boot_server = status["boot_server"]["url"].as_str().unwrap();
        let host = boot_server.strip_prefix("http://").unwrap().split(':').next().unwrap();
        let xml = virsh(&["net-dumpxml", lab]);
        let (_, rest) = xml.split_once("<bridge name='").expect("a bridge");
        let (network, _) = host.rsplit_once('.').unwrap();
        let address = format!("{network}.250/24");
        let guest = Machine::new("guest", rest.split('\'').next().unwrap(), Some(&address), None);
        let ask = |url: &str| {
            let args =
                ["curl", "-sS", "--noproxy", "*", "--max-time", "5", "--output", "/dev/null"];
            let rest = ["--write-out", "%{http_code}", "--cookie", &self.cookie, url];
            guest.run(&[&args[..], &rest].concat())
        };
        // It is on the network: the boot server answers, and does not know it.
        assert_eq!(ask(&format!("{boot_server}/ipxe")).ok(), "403");
        let (_, place) = self.url.strip_prefix("http://").unwrap().split_once(':').unwrap();
        let (port, path) = place.split_once('/').unwrap();
        let closed = ask(&format!("http://{host}:{port}/{path}"));
        assert_eq!(closed.code, Some(COULD_NOT_CONNECT), "{closed:?}");
        assert_eq!(ask(&format!("{boot_server}/{path}")).ok(), "404");
    }

    /// Waits until a node has gone through these stages while the page was open.
    pub(crate) fn wait_for_stages(&self, node: u32, stages: &[&str], patience: Duration) {
        let reached = || {
            let changes = self.heard("change");
            let of_node = changes.into_iter().filter(|change| change["node"] == node);
            of_node.filter_map(|it| Some(it["stage"].as_str()?.to_owned())).collect::<Vec<_>>()
        };
        let last = stages.last().copied();
        wait_until("the stages on the page", patience, || {
            reached().last().map(String::as_str) == last
        });
        let mut reached = reached();
        // A file of several parts tells of each.
        reached.dedup();
        assert_eq!(reached, stages);
    }

    /// All that came under this name.
    pub(crate) fn heard(&self, name: &str) -> Vec<Value> {
        let text = read(&self.heard);
        let whole = text.rsplit_once("\n\n").map_or("", |(whole, _)| whole);
        let of_name = |message: &&str| message.lines().any(|line| line == format!("event: {name}"));
        let data = |message: &str| {
            let data = message.lines().find_map(|line| line.strip_prefix("data: ")).expect("data");
            serde_json::from_str(data).unwrap()
        };
        whole.split("\n\n").filter(of_name).map(data).collect()
    }

    /// One of its parts.
    pub(crate) fn get(&self, part: &str) -> String {
        curl(&["--fail", "--cookie", &self.cookie, &format!("{}{part}", self.url)])
    }

    fn status(&self, part: &str, args: &[&str]) -> String {
        let url = format!("{}{part}", self.url);
        curl(&[&["--output", "/dev/null", "--write-out", "%{http_code}", &url], args].concat())
    }
}

#[track_caller]
fn curl(args: &[&str]) -> String {
    run("curl", &[&["-sS", "--noproxy", "*", "--max-time", "10"], args].concat()).ok()
}

/// With all its parts; docs/page.md tells it.
const MOST_BYTES: usize = 60_000;
/// An exit status of curl's.
const COULD_NOT_CONNECT: i32 = 7;
