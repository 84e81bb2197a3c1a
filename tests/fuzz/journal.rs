//! Any file is a journal: what is no event in it is left out, and what is known is the same after a restart.

use fs_err as fs;
use virtlab::boot_server::message::{FORMAT, Status};
use virtlab::boot_server::recorder::Recorder;
use virtlab::boot_server::recorder::event::NodeIdentity;
use virtlab::boot_server::stage::Stage;

pub(crate) fn holds(data: &[u8]) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("timeline.jsonl");
    fs::write(&path, data).unwrap();
    let open =
        |nodes: &[NodeIdentity]| Recorder::open(&path, nodes).expect("it is a file").snapshot();

    let two = nodes(2);
    let (first, timeline) = open(&two);
    let known = |node: &_| two.iter().any(|it: &NodeIdentity| it.index == *node);
    assert_eq!(timeline.nodes.len(), two.len());
    assert!(timeline.nodes.iter().all(|node| known(&node.index)), "{timeline:?}");
    for node in &timeline.nodes {
        assert!(
            Stage::ALL.into_iter().filter_map(|stage| node.seconds_to(stage)).all(f64::is_finite)
        );
    }
    let (second, again) = open(&two);
    assert_eq!(again, timeline);
    assert!(second >= first);
    let (third, grown) = open(&nodes(3));
    assert!(third >= second);
    assert_eq!(grown.nodes[..2], timeline.nodes);

    let status = Status {
        format: FORMAT,
        lab: "demo".parse().unwrap(),
        uuid: uuid::Uuid::nil(),
        version: "1".to_owned(),
        id: third,
        timeline: grown,
    };
    let text = serde_json::to_string(&status).unwrap();
    let told: Status = serde_json::from_str(&text).unwrap();
    assert_eq!((told.id, told.timeline), (status.id, status.timeline));
}

fn nodes(count: u32) -> Vec<NodeIdentity> {
    let node = |index| NodeIdentity {
        index,
        name: format!("demo-{index}"),
        mac: format!("52:54:00:12:34:0{index}").parse().unwrap(),
        ip: None,
    };
    (1..=count).map(node).collect()
}
