//! Real etcd processes, and what the tests know of them.
//!
//! Every process has a loopback address of its own, so the ports are etcd's usual ones and no two
//! tests, nor two runs of them, can meet.

use std::fs::File;
use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use reqwest::Method;
use reqwest::blocking::Client;
use serde_json::{Value, json};
use virtlab::cluster::discovery::TIMEOUT;
use virtlab::http::nearby_client;

pub(crate) struct Etcd {
    pub(crate) name: String,
    pub(crate) address: Ipv4Addr,
    pub(crate) process: Process,
}

impl Etcd {
    /// Member `n`, looking for the others at `discovery`.
    pub(crate) fn start(folder: &Path, n: usize, discovery: &str, more: &[&str]) -> Self {
        let mut options = vec!["--discovery", discovery];
        options.extend(more);
        Self::run(folder, &format!("n{n}"), loopback(), &options)
    }

    /// A cluster of `size` members that know each other.
    pub(crate) fn cluster(folder: &Path, size: usize, more: &[&str]) -> Vec<Self> {
        let members: Vec<(String, Ipv4Addr)> =
            (1..=size).map(|n| (format!("n{n}"), loopback())).collect();
        let peers = members.iter().map(|(name, ip)| format!("{name}=http://{ip}:2380"));
        let peers = peers.collect::<Vec<_>>().join(",");
        let options = [&["--initial-cluster", &peers], more].concat();
        members.into_iter().map(|(name, ip)| Self::run(folder, &name, ip, &options)).collect()
    }

    /// A cluster of one with the v2 API, ready for use.
    pub(crate) fn alone(folder: &Path) -> Self {
        let address = loopback();
        let cluster = format!("backend=http://{address}:2380");
        let options = ["--enable-v2", "--initial-cluster", &cluster];
        let etcd = Self::run(folder, "backend", address, &options);
        // From then on etcd writes nothing of its own, and the indices are those of the requests.
        wait_for("the backend to decide on its version", || {
            let version = etcd.ask(&Method::GET, "/version")?;
            match version["etcdcluster"].as_str() {
                Some("not_decided") | None => Err(version.to_string()),
                Some(_) => Ok(()),
            }
        });
        etcd
    }

    pub(crate) fn run(folder: &Path, name: &str, address: Ipv4Addr, options: &[&str]) -> Self {
        let (peer, client) = (format!("http://{address}:2380"), format!("http://{address}:2379"));
        let mut command = Command::new("etcd");
        for (variable, _) in std::env::vars().filter(|(name, _)| name.starts_with("ETCD_")) {
            command.env_remove(variable);
        }
        command.args(["--name", name]).arg("--data-dir").arg(folder.join(name));
        command.args(["--listen-peer-urls", &peer, "--initial-advertise-peer-urls", &peer]);
        command.args(["--listen-client-urls", &client, "--advertise-client-urls", &client]);
        command.args(options);
        let log = folder.join(format!("{name}.log"));
        let process = Process::start(&mut command, "etcd-server", log);
        Self { name: name.to_owned(), address, process }
    }

    pub(crate) fn client_url(&self) -> String {
        format!("http://{}:2379", self.address)
    }

    pub(crate) fn peer_url(&self) -> String {
        format!("http://{}:2380", self.address)
    }

    pub(crate) fn ask(&self, method: &Method, path: &str) -> Result<Value, String> {
        let mut request = client().request(method.clone(), self.client_url() + path);
        if *method == Method::POST {
            request = request.json(&json!({}));
        }
        let reply = request.send().map_err(|error| format!("{error}\n{}", self.process.log()))?;
        reply.json().map_err(|error| error.to_string())
    }

    /// Waits until its log holds one of these texts: etcd 3.4 logs sentences, 3.5 JSON.
    #[track_caller]
    pub(crate) fn says(&self, texts: &[&str]) {
        wait_for(&format!("`{}` to say one of {texts:?}", self.name), || {
            let log = self.process.log();
            if texts.iter().any(|text| log.contains(text)) { Ok(()) } else { Err(log) }
        });
    }

    /// Waits until it has ended.
    #[track_caller]
    pub(crate) fn ends(&mut self) -> ExitStatus {
        let what = format!("`{}` to end", self.name);
        let process = &mut self.process;
        wait_for(&what, || match process.child.try_wait().unwrap() {
            Some(status) => Ok(status),
            None => Err(process.log()),
        })
    }

    #[track_caller]
    pub(crate) fn ends_refused(mut self) {
        assert_eq!(self.ends().code(), Some(1));
        let log = self.process.log();
        assert!(log.contains("discovery: cluster is full"), "{log}");
    }
}

/// A child process that does not outlive its test.
pub(crate) struct Process {
    pub(crate) child: Child,
    pub(crate) log: PathBuf,
}

impl Process {
    pub(crate) fn start(command: &mut Command, package: &str, log: PathBuf) -> Self {
        let output = File::create(&log).unwrap();
        command.stdin(Stdio::null()).stdout(output.try_clone().unwrap()).stderr(output);
        let program = command.get_program().to_owned();
        let child = command.spawn().unwrap_or_else(|error| {
            panic!("starting `{}`: {error}; install `{package}`", program.display())
        });
        Self { child, log }
    }

    pub(crate) fn log(&self) -> String {
        std::fs::read_to_string(&self.log).unwrap()
    }

    pub(crate) fn kill(&mut self) {
        // Neither fails but for a process that has ended, which is as good.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.kill();
    }
}

/// Tries until it works, and says why it did not in the end.
#[track_caller]
pub(crate) fn wait_for<T>(what: &str, mut attempt: impl FnMut() -> Result<T, String>) -> T {
    let deadline = Instant::now() + PATIENCE;
    loop {
        match attempt() {
            Ok(value) => return value,
            Err(reason) if Instant::now() > deadline => {
                panic!("waited {PATIENCE:?} for {what}: {reason}")
            }
            Err(_) => thread::sleep(Duration::from_millis(50)),
        }
    }
}

pub(crate) fn client() -> Client {
    nearby_client(TIMEOUT).build().unwrap()
}

/// A loopback address that no other process of this run or another uses: the process id and a
/// count of 128.
pub(crate) fn loopback() -> Ipv4Addr {
    static NEXT: AtomicU32 = AtomicU32::new(1);
    let n = NEXT.fetch_add(1, Ordering::Relaxed);
    assert!(n < 128, "more addresses than there is room for");
    let host = (std::process::id() << 7 | n) & 0x00ff_ffff;
    Ipv4Addr::from(127 << 24 | host)
}

const PATIENCE: Duration = Duration::from_secs(30);
