//! What is said of healthy clusters and others, by both APIs that etcd has had.

use std::net::Ipv4Addr;
use std::path::Path;
use std::process::Command;
use std::thread;

use reqwest::Method;
use serde_json::{Value, json};
use tempfile::TempDir;
use virtlab::cluster::etcd::{Away, CLIENT_PORT, Endpoint, Report, examine, examine_without};
use virtlab::lab::metadata::Power;

use crate::etcd::{Etcd, Process, client, loopback, wait_for};

#[test]
fn a_cluster_is_healthy_by_v3_and_no_key_stays() {
    let folder = TempDir::new().unwrap();
    let etcds = Etcd::cluster(folder.path(), 3, &[]);
    assert_healthy(&etcds);
    let all = json!({"key": "AA==", "range_end": "AA=="});
    let url = format!("{}/v3/kv/range", etcds[0].client_url());
    let keys: Value = client().post(url).json(&all).send().unwrap().json().unwrap();
    assert_eq!(keys["kvs"], Value::Null, "{keys}");
}

/// As etcd 2, the article's, which has no v3.
#[test]
fn a_cluster_is_healthy_by_v2_and_no_key_stays() {
    let folder = TempDir::new().unwrap();
    let etcds = Etcd::cluster(folder.path(), 3, &["--enable-v2", "--enable-grpc-gateway=false"]);
    assert_healthy(&etcds);
    let keys = etcds[0].ask(&Method::GET, "/v2/keys/virtlab/check/mark").unwrap();
    assert_eq!(keys["node"]["nodes"], Value::Null, "{keys}");
}

#[test]
fn an_etcd_without_either_api_is_told_how_to_have_one() {
    let folder = TempDir::new().unwrap();
    let etcds = Etcd::cluster(folder.path(), 1, &["--enable-grpc-gateway=false"]);
    let report = wait_for("the etcd to be healthy", || {
        let report = report(&etcds);
        if report.nodes[0].healthy { Ok(report) } else { Err(report.problems().join("; ")) }
    });
    assert_eq!(
        report.problems(),
        ["n1: it has neither etcd's v3 API as JSON (enable-grpc-gateway) nor v2 (enable-v2)"]
    );
    assert!(!report.healthy);
}

#[test]
fn checks_that_run_side_by_side_do_not_disturb_each_other() {
    let folder = TempDir::new().unwrap();
    let etcds = Etcd::cluster(folder.path(), 2, &[]);
    assert_healthy(&etcds);
    let problems: Vec<String> = thread::scope(|scope| {
        let checks: Vec<_> = (0..8).map(|_| scope.spawn(|| report(&etcds).problems())).collect();
        checks.into_iter().flat_map(|check| check.join().unwrap()).collect()
    });
    assert_eq!(problems, Vec::<String>::new());
}

#[test]
fn a_member_that_is_down_is_named_and_the_others_are_asked() {
    let folder = TempDir::new().unwrap();
    let mut etcds = Etcd::cluster(folder.path(), 3, &[]);
    assert_healthy(&etcds);
    etcds[2].process.kill();
    let report = wait_for("the others to be healthy", || {
        let report = report(&etcds);
        let healthy: Vec<bool> = report.nodes.iter().map(|node| node.healthy).collect();
        // They may have to choose another leader first.
        let settled = healthy == [true, true, false] && report.leader.is_some();
        if settled { Ok(report) } else { Err(report.problems().join("; ")) }
    });
    assert_eq!(
        report.problems(),
        ["n3: etcd is not healthy: no answer: Connection refused (os error 111)"]
    );
    assert_eq!(report.members.len(), 3);
    assert!(!report.healthy);
}

#[test]
fn members_that_were_stopped_are_missed_by_nobody_as_long_as_a_majority_is_left() {
    let folder = TempDir::new().unwrap();
    let mut etcds = Etcd::cluster(folder.path(), 3, &[]);
    assert_healthy(&etcds);
    let all: Vec<Endpoint> = etcds.iter().map(endpoint).collect();
    let report = |left: usize| {
        let nodes = all[left..].iter().map(|node| (node.clone(), Power::Off)).collect();
        let away = Away { lab: "demo".to_owned(), nodes };
        examine_without(&all[..left], &away, "mark").unwrap()
    };
    etcds[2].process.kill();
    let one_is_away = wait_for("the others to be healthy", || {
        let report = report(2);
        if report.healthy { Ok(report) } else { Err(report.problems().join("; ")) }
    });
    assert_eq!((one_is_away.members.len(), one_is_away.problems()), (3, Vec::new()));
    assert!(one_is_away.away[0].name == "n3" && one_is_away.away[0].member.is_some());

    etcds[1].process.kill();
    let problems = wait_for("the last one to notice", || {
        let report = report(1);
        let noticed = !report.nodes[0].healthy && report.leader.is_none();
        if noticed { Ok(report.problems()) } else { Err(report.problems().join("; ")) }
    });
    assert_eq!(
        problems[0],
        "1 of 3 members is left, which is no majority: `n2`, `n3` are stopped; `virtlab restart demo` \
         forms a new cluster, without what the old one held"
    );
}

#[test]
fn a_client_passes_on_what_it_is_asked_and_is_told_when_it_does_not() {
    let folder = TempDir::new().unwrap();
    let etcds = Etcd::cluster(folder.path(), 2, &[]);
    assert_healthy(&etcds);
    let mut gateway = Gateway::start(folder.path(), &etcds);
    let all: Vec<Endpoint> = etcds.iter().map(endpoint).chain([gateway.endpoint()]).collect();
    let report = wait_for("the gateway", || {
        let report = examine(&all, "mark").unwrap();
        if report.healthy { Ok(report) } else { Err(report.problems().join("; ")) }
    });
    assert_eq!((report.members.len(), report.nodes[2].member.as_deref()), (2, None));
    gateway.process.kill();
    let report = wait_for("the members to be healthy", || {
        let report = examine(&all, "mark").unwrap();
        let healthy: Vec<bool> = report.nodes.iter().map(|node| node.healthy).collect();
        let settled = healthy == [true, true, false] && report.leader.is_some();
        if settled { Ok(report) } else { Err(report.problems().join("; ")) }
    });
    assert!(!report.healthy);
    assert_eq!(
        report.problems(),
        ["n3: etcd is not healthy: no answer: Connection refused (os error 111)"]
    );
}

#[track_caller]
fn assert_healthy(etcds: &[Etcd]) {
    let report = wait_for("the cluster to be healthy", || {
        let report = report(etcds);
        if report.healthy { Ok(report) } else { Err(report.problems().join("; ")) }
    });
    let mut members: Vec<&str> = report.members.iter().map(|member| member.name.as_str()).collect();
    members.sort_unstable();
    let names: Vec<&str> = etcds.iter().map(|etcd| etcd.name.as_str()).collect();
    assert_eq!(members, names);
    assert!(names.contains(&report.leader.as_deref().unwrap()));
    assert_eq!(report.problems(), Vec::<String>::new());
}

fn endpoint(etcd: &Etcd) -> Endpoint {
    Endpoint { name: etcd.name.clone(), ip: etcd.address.into(), port: CLIENT_PORT, voter: true }
}

/// An etcd that is no member, as our templates start it.
struct Gateway {
    address: Ipv4Addr,
    process: Process,
}

impl Gateway {
    fn start(folder: &Path, members: &[Etcd]) -> Self {
        let address = loopback();
        let members: Vec<String> =
            members.iter().map(|member| format!("{}:{CLIENT_PORT}", member.address)).collect();
        let mut command = Command::new("etcd");
        command.args(["gateway", "start", "--retry-delay=2s"]);
        command.arg(format!("--listen-addr={address}:{CLIENT_PORT}"));
        command.arg(format!("--endpoints={}", members.join(",")));
        let process = Process::start(&mut command, "etcd-server", folder.join("gateway.log"));
        Self { address, process }
    }

    fn endpoint(&self) -> Endpoint {
        let (name, ip) = ("n3".to_owned(), self.address.into());
        Endpoint { name, ip, port: CLIENT_PORT, voter: false }
    }
}

fn report(etcds: &[Etcd]) -> Report {
    examine(&etcds.iter().map(endpoint).collect::<Vec<_>>(), "mark").unwrap()
}
