//! A mark that is read is written as it was, and is that of a lab whose nodes have names and addresses of their own.

use std::collections::BTreeSet;

use virtlab::lab::metadata::Mark;

pub(crate) fn holds(data: &[u8]) {
    let Ok(xml) = std::str::from_utf8(data) else { return };
    let Ok(Some(mark)) = Mark::from_object_xml(xml) else { return };
    let written = mark.to_xml().expect("a mark that was read can be written");
    let object = format!("<domain><metadata>{written}</metadata></domain>");
    assert_eq!(
        Mark::from_object_xml(&object).expect("what was written can be read"),
        Some(mark.clone())
    );

    let Mark { lab, node } = mark;
    let nodes = lab.nodes();
    let distinct = |count: usize| assert_eq!(count, nodes.len());
    distinct(nodes.iter().map(|node| node.mac).collect::<BTreeSet<_>>().len());
    if let Some(network) = lab.spec.network.managed() {
        let ips: BTreeSet<_> = nodes.iter().filter_map(|node| node.ip).collect();
        distinct(ips.len());
        assert!(ips.iter().all(|ip| network.subnet.contains(ip)), "{ips:?}");
    }
    if let Some(node) = node {
        let node = lab.node(node.index);
        assert_eq!(lab.name.node(node.index), node.name);
    }
    if let Ok(larger) = lab.with_nodes(lab.spec.nodes + 1) {
        assert!(larger.generation > lab.generation);
    }
}
