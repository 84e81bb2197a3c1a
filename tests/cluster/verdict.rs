//! Verdicts on real etcds: an honest cluster passes, and one that loses what it acknowledged does not.

use std::net::{Ipv4Addr, SocketAddr};
use std::process::Command;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

use axum::Router;
use axum::body::Bytes;
use axum::extract::State;
use axum::http::Uri;
use tempfile::TempDir;
use virtlab::cluster::etcd::{CLIENT_PORT, Endpoint, examine};
use virtlab::verdict::history::{History, Span};
use virtlab::verdict::judge::{Breakage, Moments, Verdict, judge};
use virtlab::verdict::workload::Workload;

use crate::etcd::{Etcd, loopback, wait_for};

#[test]
fn a_leader_that_stands_still_is_followed_by_another_and_nothing_is_lost() {
    let folder = TempDir::new().unwrap();
    let etcds = Etcd::cluster(folder.path(), 3, &[]);
    let endpoints: Vec<Endpoint> = etcds.iter().map(|it| endpoint(&it.name, it.address)).collect();
    let leader = leader_of(&endpoints);
    let stopped = etcds.iter().find(|etcd| etcd.name == leader).unwrap();
    let verdict = verdict_of(
        &endpoints,
        || signal(stopped, "-STOP"),
        || {
            thread::sleep(Duration::from_secs(5));
            signal(stopped, "-CONT");
        },
    );
    assert!(verdict.passed, "{verdict:#?}");
    assert!(verdict.writes.acknowledged > 20, "{verdict:#?}");
    assert_eq!((&verdict.lost, &verdict.stale), (&vec![], &vec![]));
    let first = &verdict.elections[0];
    assert!(first.leader.starts_with('n') && first.leader != leader, "{verdict:#?}");
    let outage = verdict.writes.outages.first().expect("an election takes time");
    assert!(outage.to_ms > first.at_ms - 500 && outage.length_ms() >= 500, "{verdict:#?}");
}

#[test]
fn a_majority_that_stands_still_takes_no_writes_until_it_is_back() {
    let folder = TempDir::new().unwrap();
    let etcds = Etcd::cluster(folder.path(), 3, &[]);
    let endpoints: Vec<Endpoint> = etcds.iter().map(|it| endpoint(&it.name, it.address)).collect();
    leader_of(&endpoints);
    let verdict = verdict_of(
        &endpoints,
        || etcds[..2].iter().for_each(|etcd| signal(etcd, "-STOP")),
        || {
            thread::sleep(Duration::from_secs(4));
            etcds[..2].iter().for_each(|etcd| signal(etcd, "-CONT"));
        },
    );
    assert!(verdict.passed, "{verdict:#?}");
    assert!(verdict.writes.longest_ms >= 3900 && verdict.reads.longest_ms >= 3900, "{verdict:#?}");
}

#[test]
fn writes_that_are_acknowledged_and_dropped_are_seen() {
    let verdict = verdict_through(Lie::DropsWrites);
    assert!(!verdict.passed && !verdict.lost.is_empty(), "{verdict:#?}");
    let (lost, all) = (verdict.lost.len(), verdict.writes.acknowledged);
    assert_eq!(verdict.problems, [format!("{lost} of {all} acknowledged writes lost")]);
}

#[test]
fn reads_that_are_answered_from_memory_are_seen() {
    let verdict = verdict_through(Lie::RepeatsReads);
    assert!(!verdict.passed && !verdict.stale.is_empty(), "{verdict:#?}");
    // It may lie in the end as well, when all is read again.
    assert!(verdict.problems.contains(&format!("{} stale reads", verdict.stale.len())));
}

fn verdict_through(lie: Lie) -> Verdict {
    let folder = TempDir::new().unwrap();
    let etcds = Etcd::cluster(folder.path(), 1, &[]);
    leader_of(&[endpoint("n1", etcds[0].address)]);
    let proxy = Liar::start(lie, &etcds[0]);
    verdict_of(&[endpoint("n1", proxy)], || (), || thread::sleep(Duration::from_secs(2)))
}

/// Clients work for a second before what is done and after all is well again.
fn verdict_of(endpoints: &[Endpoint], fault: impl FnOnce(), heal: impl FnOnce()) -> Verdict {
    let workload = Workload::start(endpoints).unwrap();
    thread::sleep(Duration::from_secs(1));
    let made = moment(&workload, fault);
    let heal = moment(&workload, heal);
    wait_for("the cluster to be healthy", || {
        workload.healthy_ms(heal.to_ms).ok_or_else(|| "it is not".to_owned())
    });
    thread::sleep(Duration::from_secs(1));
    let history: History = workload.finish().unwrap();
    let fault = Breakage { what: "stop".to_owned(), made, until_ms: None };
    judge(&history, &Moments { faults: vec![fault], heal: Some(heal) }, 60_000)
}

fn moment(workload: &Workload, work: impl FnOnce()) -> Span {
    let from_ms = workload.now_ms();
    work();
    Span { from_ms, to_ms: workload.now_ms() }
}

fn leader_of(endpoints: &[Endpoint]) -> String {
    let report = wait_for("the cluster to be healthy", || {
        let report = examine(endpoints, "mark").unwrap();
        if report.healthy { Ok(report) } else { Err(report.problems().join("; ")) }
    });
    report.leader.unwrap()
}

fn endpoint(name: &str, address: Ipv4Addr) -> Endpoint {
    Endpoint { name: name.to_owned(), ip: address.into(), port: CLIENT_PORT, voter: true }
}

fn signal(etcd: &Etcd, signal: &str) {
    let pid = etcd.process.child.id().to_string();
    assert!(Command::new("kill").args([signal, &pid]).status().unwrap().success());
}

/// What a proxy before an etcd does not do with each fifth request.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Lie {
    /// It acknowledges a write as if it were the one before.
    DropsWrites,
    /// It answers a read with the first answer that it ever gave.
    RepeatsReads,
}

impl Lie {
    fn path(self) -> &'static str {
        match self {
            Self::DropsWrites => "/v3/kv/txn",
            Self::RepeatsReads => "/v3/kv/range",
        }
    }
}

/// A proxy that lies.
struct Liar {
    lie: Lie,
    etcd: String,
    http: reqwest::Client,
    asked: AtomicUsize,
    kept: Mutex<Option<Bytes>>,
}

impl Liar {
    /// It listens until the test's process ends.
    fn start(lie: Lie, etcd: &Etcd) -> Ipv4Addr {
        let address = loopback();
        let http = reqwest::Client::builder().no_proxy().build().unwrap();
        let (asked, kept) = (AtomicUsize::new(0), Mutex::new(None));
        let liar = Arc::new(Self { lie, etcd: etcd.client_url(), http, asked, kept });
        let listener = std::net::TcpListener::bind(SocketAddr::from((address, CLIENT_PORT)));
        let listener = listener.unwrap();
        listener.set_nonblocking(true).unwrap();
        thread::spawn(move || {
            let runtime = tokio::runtime::Runtime::new().unwrap();
            runtime.block_on(async {
                let listener = tokio::net::TcpListener::from_std(listener).unwrap();
                let router = Router::new().fallback(Self::pass_on).with_state(liar);
                axum::serve(listener, router).await.unwrap();
            });
        });
        address
    }

    async fn pass_on(State(liar): State<Arc<Self>>, uri: Uri, body: Bytes) -> Bytes {
        let is_subject = uri.path() == liar.lie.path();
        if is_subject && liar.asked.fetch_add(1, Ordering::Relaxed) % 5 == 4 {
            return liar.kept.lock().unwrap().clone().unwrap();
        }
        let request = liar.http.post(format!("{}{}", liar.etcd, uri.path())).body(body);
        let answer = request.send().await.unwrap().bytes().await.unwrap();
        if is_subject {
            let mut kept = liar.kept.lock().unwrap();
            if liar.lie == Lie::DropsWrites || kept.is_none() {
                *kept = Some(answer.clone());
            }
        }
        answer
    }
}
