//! `start`, `stop`, `restart`, `pause`, `resume`, `wait`. libvirt's test driver begins anew with each run.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpListener;
use std::sync::mpsc::{self, Receiver};
use std::thread;

use serde_json::json;

use crate::support::{FOREIGN, PAUSED, RUNNING, SHUT_OFF, User, assert_transcript};

#[test]
fn nodes_and_labs_are_stopped_together_and_nothing_else_is_touched() {
    let user = User::new();
    let labs = [user.lab("demo", &[RUNNING, RUNNING, SHUT_OFF]), user.lab("web", &[PAUSED])];
    user.seed(&format!("{}{FOREIGN}", labs.concat()));
    assert_transcript!(
        "stop",
        user.session(&[
            &["stop", "demo-2"],
            &["stop", "demo", "web", "demo-1"],
            &["stop", "demo", "web", "-o", "json"],
            &["stop", "demo", "--force", "-o", "name"],
            &["stop", "demo", "web-1", "--dry-run"],
            &["stop", "demo-1", "demo-3", "--force", "--dry-run"],
            &["stop", "demo-1", "--no-wait", "-q"],
            &["stop", "demo-9", "web", "nope"],
            &["stop", "demo", "--force", "--timeout", "5s"],
        ])
    );
}

#[test]
fn what_is_stopped_already_stays_so_without_a_step() {
    let user = User::new();
    let lab = user.lab("demo", &[SHUT_OFF, PAUSED, RUNNING]);
    user.seed(&User::wanting(&User::wanting(&lab, 1, "off"), 2, "paused"));
    assert_transcript!(
        "power-idempotent",
        user.session(&[
            &["stop", "demo-1", "--dry-run"],
            &["stop", "demo-1"],
            &["pause", "demo-2", "--dry-run"],
            &["resume", "demo-3", "--dry-run"],
            // Of a lab, those are meant that run.
            &["pause", "demo", "--dry-run"],
            &["resume", "demo", "--dry-run"],
        ])
    );
}

#[test]
fn nodes_are_paused_and_resumed() {
    let user = User::new();
    let lab = user.lab("demo", &[RUNNING, PAUSED, SHUT_OFF]);
    let stopped = user.lab("idle", &[SHUT_OFF]);
    user.seed(&format!("{lab}{stopped}"));
    assert_transcript!(
        "pause",
        user.session(&[
            &["pause", "demo"],
            &["resume", "demo"],
            &["pause", "demo-1", "demo-3"],
            &["resume", "demo-3"],
            &["pause", "idle"],
            &["pause", "nope"],
        ])
    );
}

#[test]
fn a_start_brings_back_what_the_nodes_need() {
    let user = User::new();
    let lab = user.lab("demo", &[RUNNING, PAUSED, SHUT_OFF, SHUT_OFF]);
    let lab = User::wanting(&User::wanting(&lab, 2, "paused"), 3, "off");
    // Nobody listens there, and nothing leaves this computer.
    let here = lab.replace("10.201.0.1\",\"boot_port\":8470", "127.0.0.1\",\"boot_port\":1");
    user.seed_with_image(&here);
    assert_transcript!(
        "start",
        user.session(&[
            &["start", "demo", "--dry-run"],
            &["start", "demo-3", "--dry-run"],
            &["restart", "demo-1", "demo-3", "--dry-run"],
            &["restart", "demo-1", "--force", "--dry-run"],
            &["start", "nope"],
        ])
    );
}

#[test]
fn a_wait_ends_when_it_is_so_or_says_why_it_never_will_be() {
    let user = User::new();
    let lab = user.lab("demo", &[RUNNING, SHUT_OFF]);
    let stopped = User::wanting(&user.lab("idle", &[SHUT_OFF]), 1, "off");
    let here = format!("{lab}{stopped}");
    user.seed(&here.replace("10.201.0.1\",\"boot_port\":8470", "127.0.0.1\",\"boot_port\":1"));
    assert_transcript!(
        "wait",
        user.session(&[
            &["wait", "idle", "demo-2", "--for", "off", "-o", "json"],
            &["wait", "demo", "--for", "off", "--timeout", "0s"],
            &["wait", "demo-1", "--for", "config", "--timeout", "0s"],
            &["wait", "demo", "--for", "config"],
            &["wait", "idle"],
            &["wait", "idle-1", "--for", "ssh"],
            &["wait", "nope", "--for", "off"],
        ])
    );
}

#[test]
fn who_takes_a_cluster_its_majority_is_told_so_and_how_it_comes_back() {
    let user = User::new();
    let pair = user.lab("pair", &[RUNNING, RUNNING]);
    let three = user.lab("three", &[RUNNING, RUNNING, PAUSED]).replace("10.201.0.", "10.202.0.");
    let labs = format!("{pair}{three}").replace("\"ready\":\"config\"", "\"ready\":\"etcd\"");
    user.seed_with_image(&labs.replace(".0.1\",\"boot_port\":8470", ".0.1\",\"boot_port\":1"));
    assert_transcript!(
        "stop-majority",
        user.session(&[
            &["stop", "pair-2"],
            &["stop", "pair-2", "--dry-run"],
            &["pause", "pair-1"],
            &["pause", "three-1"],
            &["restart", "pair-1", "--dry-run"],
            // Nothing of the cluster is to stay.
            &["stop", "pair"],
            // The third is paused, so it takes both others.
            &["stop", "three-3"],
            &["stop", "three-2", "three-3"],
        ])
    );
}

#[test]
fn nodes_that_found_each_other_by_discovery_are_told_not_to_join_again() {
    let user = User::new();
    let lab = user.lab("demo", &[RUNNING, SHUT_OFF]);
    let uuid = lab.split("\" uuid=\"").nth(1).unwrap().split('"').next().unwrap().to_owned();
    let url = "http://192.0.2.1:8087/9e0aeb71f9b477f38e953f0050478666";
    let content = json!({
        "lab": "demo", "uuid": uuid, "address": "127.0.0.1", "port": 1, "nodes": [], "files": {},
        "config_type": "", "discovery_url": url,
    });
    user.write(&format!(".local/state/virtlab/demo.{uuid}/content.json"), &content.to_string());
    let lab = lab.replace("10.201.0.1\",\"boot_port\":8470", "127.0.0.1\",\"boot_port\":1");
    let warning =
        format!("the nodes of lab `demo` find each other by {url}, which takes each of them once");
    // Where etcd is looked at, a lab of which all nodes boot anew gets another URL.
    for (ready, whole, way_out) in [
        ("config", 1, "`virtlab create demo --recreate …` makes a new lab"),
        ("etcd", 0, "`virtlab restart demo` forms a new cluster"),
    ] {
        user.seed_with_image(
            &lab.replace("\"ready\":\"config\"", &format!("\"ready\":\"{ready}\"")),
        );
        for (args, times) in [
            (&["start", "demo", "--dry-run"][..], 1),
            (&["restart", "demo", "--dry-run"], whole),
            (&["start", "demo-1", "--dry-run"], 0),
            (&["stop", "demo", "--dry-run"], 0),
        ] {
            let said = user.says(args);
            assert_eq!(said.matches(&warning).count(), times, "{ready}: {said}");
            assert_eq!(said.matches(way_out).count(), times, "{ready}: {said}");
        }
    }
}

#[test]
fn an_etcd_without_the_v3_api_is_told_as_such_before_a_lab_is_scaled() {
    let user = User::new();
    let lab = user.lab("demo", &[RUNNING]).replace("\"ready\":\"config\"", "\"ready\":\"etcd\"");
    let lab = lab.replace("10.201.0.1\",\"boot_port\":8470", "127.203.0.1\",\"boot_port\":1");
    user.seed_with_image(&lab.replace("10.201.0.", "127.203.0."));
    let asked = old_etcd("127.203.0.2:2379");
    assert_transcript!("scale-v2", user.says(&["scale", "demo", "2", "--dry-run"]));
    let asked: Vec<String> = asked.try_iter().collect();
    assert_eq!(asked.last().map(String::as_str), Some("get /v2/members http/1.1"), "{asked:?}");
}

/// Answers as an etcd does that knows v2 and no v3, until the test ends, and says what it was asked for.
fn old_etcd(address: &str) -> Receiver<String> {
    let listener = TcpListener::bind(address).unwrap();
    let (sender, receiver) = mpsc::channel();
    thread::spawn(move || {
        for mut stream in listener.incoming().map_while(Result::ok) {
            let mut reader = BufReader::new(stream.try_clone().unwrap());
            let mut line = || {
                let mut line = String::new();
                let _ = reader.read_line(&mut line);
                line.trim_end().to_lowercase()
            };
            let request = line();
            let mut length = 0;
            loop {
                let line = line();
                if line.is_empty() {
                    break;
                }
                if let Some(value) = line.strip_prefix("content-length: ") {
                    length = value.parse().unwrap();
                }
            }
            // A body that nobody reads ends the connection before the answer.
            let _ = reader.take(length).read_to_end(&mut Vec::new());
            let (status, body) = match request.as_str() {
                "get /health http/1.1" => ("200 OK", r#"{"health": "true"}"#),
                "get /v2/members http/1.1" => ("200 OK", r#"{"members": []}"#),
                _ => ("404 Not Found", "404 page not found"),
            };
            let head =
                format!("HTTP/1.1 {status}\r\nConnection: close\r\nContent-Length: {}", body.len());
            let _ = write!(stream, "{head}\r\n\r\n{body}");
            let _ = sender.send(request);
        }
    });
    receiver
}

#[test]
fn a_lab_that_was_stopped_is_no_healthy_cluster_and_says_who_was_stopped() {
    let user = User::new();
    let lab = user.lab("demo", &[SHUT_OFF, SHUT_OFF, PAUSED]);
    let lab = (1..=2).fold(lab, |lab, node| User::wanting(&lab, node, "off"));
    let lab = User::wanting(&lab, 3, "paused");
    user.seed(&lab.replace("\"ready\":\"config\"", "\"ready\":\"etcd\""));
    assert_transcript!(
        "verify-stopped",
        user.session(&[&["verify", "demo"], &["verify", "demo", "-o", "json"]])
    );
}
