//! When a node is asked, and what becomes of the answer.

use std::collections::BTreeMap;

use super::*;
use crate::boot_server::content::{ServedFile, ServedNode};
use crate::boot_server::recorder::event::{Event, PowerChanged};

const CONFIG: ReadyWhen = ReadyWhen {
    criterion: Readiness::Config,
    user: None,
    after: LastSeen::Config,
    maybe_elsewhere: false,
};

fn content(when: ReadyWhen, files: &[(&str, Stage)]) -> Content {
    let file = |(name, stage): &(&str, Stage)| {
        ((*name).to_owned(), ServedFile { path: (*name).into(), stage: *stage })
    };
    Content {
        lab: "demo".parse().unwrap(),
        uuid: uuid::Uuid::nil(),
        address: "127.0.0.1".parse().unwrap(),
        port: 1,
        nodes: vec![ServedNode {
            index: 1,
            name: "demo-1".to_owned(),
            mac: "52:54:00:12:34:01".parse().unwrap(),
            ip: Some("127.0.0.9".parse().unwrap()),
            voter: true,
            arguments: None,
            script: String::new(),
            config: String::new(),
        }],
        files: files.iter().map(file).collect::<BTreeMap<_, _>>(),
        config_type: String::new(),
        ssh_keys: Vec::new(),
        discovery_url: None,
        ready_when: Some(when),
        interface: None,
        trust_claimed_mac: false,
        knock: false,
    }
}

fn got(stage: Stage, file: Option<&str>) -> Event {
    let file = file.map(ToOwned::to_owned);
    let what = StageReached { file, ..StageReached::unasked(1, stage) };
    Event { id: 1, at_ms: 1, what: Happening::Stage(what) }
}

/// After which of these a node is asked whether it is ready.
fn asked_after(content: &Content, events: &[Event]) -> Vec<usize> {
    let mut known = Timeline::new(&content.identities());
    let mut asked = Vec::new();
    for (place, event) in events.iter().enumerate() {
        known.apply(event);
        if may_be_ready(content, content.ready_when.as_ref().unwrap(), &known.nodes[0]) {
            asked.push(place);
        }
    }
    asked
}

#[test]
fn an_image_without_a_config_is_ready_by_its_last_file_and_not_by_its_kernel() {
    let when = ReadyWhen { after: LastSeen::Files, ..CONFIG };
    let boot = [
        got(Stage::PowerOn, None),
        got(Stage::Script, None),
        got(Stage::Kernel, Some("vmlinuz")),
        got(Stage::Initrd, Some("initrd.img")),
        got(Stage::Initrd, Some("more.img")),
        got(Stage::Rootfs, Some("root.squashfs")),
    ];
    let kernel = ("vmlinuz", Stage::Kernel);
    let (initrd, more) = (("initrd.img", Stage::Initrd), ("more.img", Stage::Initrd));
    let (root, other) = (("root.squashfs", Stage::Rootfs), ("other.squashfs", Stage::Rootfs));
    for (files, after) in [
        (&[kernel][..], &[2, 3, 4, 5][..]),
        (&[kernel, initrd], &[3, 4, 5]),
        (&[kernel, initrd, more], &[4, 5]),
        (&[kernel, initrd, more, root], &[5]),
        // What the initrd fetches may be one of several.
        (&[kernel, initrd, more, root, other], &[5]),
    ] {
        assert_eq!(asked_after(&content(when.clone(), files), &boot), after, "{files:?}");
    }
}

#[test]
fn a_journal_that_named_no_files_is_enough() {
    let when = ReadyWhen { after: LastSeen::Files, ..CONFIG };
    let boot = [got(Stage::Kernel, None), got(Stage::Initrd, None)];
    let files = [("vmlinuz", Stage::Kernel), ("initrd.img", Stage::Initrd)];
    assert_eq!(asked_after(&content(when, &files), &boot), [1]);
}

#[test]
fn a_node_that_is_off_is_not_asked() {
    let off = PowerChanged::to(1, DomainState::Off);
    let off = Event { id: 1, at_ms: 1, what: Happening::Power(off) };
    let events = [got(Stage::PowerOn, None), got(Stage::Config, None), off];
    assert_eq!(asked_after(&content(CONFIG, &[]), &events), [1]);
}

#[test]
fn a_lab_becomes_ready_though_nobody_waits_for_it() {
    let folder = tempfile::tempdir().unwrap();
    let server = Server::new(content(CONFIG, &[]), &folder.path().join("journal")).unwrap();
    let mut prober = Prober::new(Arc::new(server));
    let ready = |prober: &Prober| prober.known().nodes[0].has(Stage::Ready);
    prober.round();
    assert!(!ready(&prober));
    prober.record(got(Stage::Config, None).what);
    assert_eq!(prober.round(), LONGEST);
    assert!(ready(&prober));
    // A new boot is a new question.
    prober.record(got(Stage::Script, None).what);
    assert!(prober.round() < LONGEST);
    assert!(!ready(&prober));
}

#[test]
fn a_node_is_ready_when_it_meets_the_users_own_criterion() {
    let listener = std::net::TcpListener::bind("127.0.0.9:0").unwrap();
    let criterion = format!("tcp:{}", listener.local_addr().unwrap().port()).parse().unwrap();
    let folder = tempfile::tempdir().unwrap();
    let content = content(ReadyWhen { criterion, ..CONFIG }, &[]);
    let server = Server::new(content, &folder.path().join("journal")).unwrap();
    let mut prober = Prober::new(Arc::new(server));
    let ready = |prober: &Prober| prober.known().nodes[0].has(Stage::Ready);
    prober.round();
    assert!(!ready(&prober), "it has not booted yet");
    prober.record(got(Stage::Config, None).what);
    prober.round();
    assert!(ready(&prober));
    drop(listener);
    prober.record(got(Stage::PowerOn, None).what);
    prober.record(got(Stage::Config, None).what);
    prober.round();
    assert!(!ready(&prober));
}

#[test]
fn what_is_asked_again_and_again_is_asked_more_seldom() {
    let mut known = Timeline::new(&content(CONFIG, &[]).identities());
    assert_eq!(pause(&known, true), LONGEST);
    let mut event = got(Stage::Script, None);
    event.at_ms = now_ms();
    known.apply(&event);
    assert_eq!(pause(&known, false), SHORTEST);
    event.at_ms = now_ms() - 40_000;
    known.apply(&event);
    let pause = pause(&known, false);
    assert!(pause >= Duration::from_secs(1) && pause < Duration::from_secs(2), "{pause:?}");
}

#[test]
fn who_was_stopped_is_told_and_a_node_that_went_off_by_itself_is_none_of_them() {
    let folder = tempfile::tempdir().unwrap();
    let content = content(ReadyWhen { criterion: Readiness::Etcd, ..CONFIG }, &[]);
    let server = Arc::new(Server::new(content, &folder.path().join("journal")).unwrap());
    let mut prober = Prober::new(Arc::clone(&server));
    let off = || Happening::Power(PowerChanged::to(1, DomainState::Off));
    let told = |prober: &Prober| prober.known().etcd.map(|etcd| etcd.summary());
    prober.record(got(Stage::Ready, None).what);
    prober.record(off());
    prober.round();
    let by_itself = told(&prober).unwrap();
    assert_eq!(by_itself, "etcd: not healthy: demo-1: etcd is not healthy: the node is off");

    server.set_wanted(&BTreeMap::from([(1, Power::Off)]));
    prober.round();
    let stopped = "etcd: not healthy: no member is left: `demo-1` is stopped; `virtlab start demo` forms a new cluster";
    assert_eq!(told(&prober).as_deref(), Some(stopped));

    // It boots, whatever was wanted of it.
    let running = PowerChanged { new_boot: true, ..PowerChanged::to(1, DomainState::Running) };
    prober.record(Happening::Power(running));
    prober.round();
    let silent = told(&prober).unwrap();
    assert!(
        silent.starts_with("etcd: not healthy: demo-1: etcd is not healthy: no answer"),
        "{silent}"
    );

    // It is ready, and then it is shut down: its etcd ends first.
    server.set_wanted(&BTreeMap::new());
    prober.record(got(Stage::Ready, None).what);
    prober.round();
    assert_eq!(told(&prober), Some(silent));
    server.set_wanted(&BTreeMap::from([(1, Power::Off)]));
    prober.round();
    assert_eq!(told(&prober).as_deref(), Some(stopped));
}
