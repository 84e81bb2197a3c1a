//! Members that lose their memory and come back, on real etcds.

use std::path::Path;

use serde_json::json;
use tempfile::TempDir;
use virtlab::cluster::etcd::membership::{Cluster, Outlook, initial_cluster};
use virtlab::cluster::etcd::{CLIENT_PORT, Endpoint, examine};

use crate::etcd::{Etcd, client, wait_for};

#[test]
fn a_member_that_lost_its_memory_joins_again_and_nothing_is_lost() {
    let folder = TempDir::new().unwrap();
    let mut etcds = Etcd::cluster(folder.path(), 3, &[]);
    wait_until_healthy(&etcds);
    put(&etcds[0], "testing", "testdata");
    for lost in [1, 2, 0] {
        let mut old = etcds.remove(lost);
        old.process.kill();
        forget(folder.path(), &old);
        let (node, all) = (endpoint(&old), endpoints(&etcds, &old));
        // The one that is gone may have led; etcd changes nothing within 5 s of a connection's loss.
        let peers = wait_for("the cluster to take it in", || {
            healthy(&etcds)?.readd(&node, &all).map_err(|error| format!("{error:#}"))
        });
        let peers = initial_cluster(&peers);
        let options = ["--initial-cluster", &peers, "--initial-cluster-state", "existing"];
        let new = Etcd::run(folder.path(), &old.name, old.address, &options);
        etcds.insert(lost, new);
        wait_for("it to be told as a learner", || {
            let all: Vec<Endpoint> = etcds.iter().map(endpoint).collect();
            let report = examine(&all, "mark").unwrap();
            // The others are asked who the members are, wherever the learner stands among them.
            let told = report.nodes[lost].learner && report.members.len() == 3 && !report.healthy;
            if told { Ok(()) } else { Err(report.problems().join("; ")) }
        });
        wait_for("it to become a full member", || {
            healthy(&etcds)?.promote().map_err(|error| format!("{error:#}"))?;
            let learners = healthy(&etcds)?.members.iter().filter(|m| m.learner).count();
            if learners == 0 { Ok(()) } else { Err(format!("{learners} learners")) }
        });
        wait_until_healthy(&etcds);
        assert_eq!(get(&etcds[lost], "testing").as_deref(), Some("testdata"));
    }
}

#[test]
fn a_cluster_without_a_majority_is_told_from_none_at_all() {
    let folder = TempDir::new().unwrap();
    let mut etcds = Etcd::cluster(folder.path(), 3, &[]);
    wait_until_healthy(&etcds);
    for etcd in &mut etcds[..2] {
        etcd.process.kill();
    }
    wait_for("the last one to notice", || match outlook(&etcds)? {
        Outlook::NoQuorum => Ok(()),
        other => Err(format!("{other:?}")),
    });
    etcds[2].process.kill();
    assert!(matches!(outlook(&etcds), Ok(Outlook::Silent)));
}

#[test]
fn a_member_that_leaves_is_no_member_any_more() {
    let folder = TempDir::new().unwrap();
    let mut etcds = Etcd::cluster(folder.path(), 3, &[]);
    wait_until_healthy(&etcds);
    let last = etcds.pop().unwrap();
    wait_for("the cluster to let it go", || {
        healthy(&etcds)?.remove(last.address.into()).map_err(|error| format!("{error:#}"))
    });
    drop(last);
    wait_until_healthy(&etcds);
}

fn outlook(etcds: &[Etcd]) -> Result<Outlook, String> {
    let endpoints: Vec<Endpoint> = etcds.iter().map(endpoint).collect();
    // While a leader is elected, nobody tells who the members are.
    Outlook::of(&endpoints).map_err(|error| format!("{error:#}"))
}

fn healthy(etcds: &[Etcd]) -> Result<Cluster, String> {
    match outlook(etcds)? {
        Outlook::Healthy(cluster) => Ok(cluster),
        other => Err(format!("{other:?}")),
    }
}

fn endpoint(etcd: &Etcd) -> Endpoint {
    Endpoint { name: etcd.name.clone(), ip: etcd.address.into(), port: CLIENT_PORT, voter: true }
}

fn endpoints(etcds: &[Etcd], more: &Etcd) -> Vec<Endpoint> {
    etcds.iter().chain([more]).map(endpoint).collect()
}

#[track_caller]
fn wait_until_healthy(etcds: &[Etcd]) {
    let endpoints: Vec<Endpoint> = etcds.iter().map(endpoint).collect();
    wait_for("a healthy cluster", || {
        let report = examine(&endpoints, "mark").unwrap();
        if report.healthy { Ok(()) } else { Err(report.problems().join("; ")) }
    });
}

/// As a node that boots into memory.
fn forget(folder: &Path, etcd: &Etcd) {
    std::fs::remove_dir_all(folder.join(&etcd.name)).unwrap();
}

fn put(etcd: &Etcd, key: &str, value: &str) {
    let body = json!({"key": base64(key), "value": base64(value)});
    let url = format!("{}/v3/kv/put", etcd.client_url());
    assert!(client().post(url).json(&body).send().unwrap().status().is_success());
}

fn get(etcd: &Etcd, key: &str) -> Option<String> {
    let body = json!({"key": base64(key)});
    let url = format!("{}/v3/kv/range", etcd.client_url());
    let range: serde_json::Value = client().post(url).json(&body).send().unwrap().json().unwrap();
    let value = range["kvs"][0]["value"].as_str()?.to_owned();
    let bytes = base64::Engine::decode(&base64::engine::general_purpose::STANDARD, value).unwrap();
    String::from_utf8(bytes).ok()
}

fn base64(text: &str) -> String {
    base64::Engine::encode(&base64::engine::general_purpose::STANDARD, text)
}
