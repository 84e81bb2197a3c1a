//! The registry as a whole: each test is one rule of it.

use super::*;

const T: &str = "000102030405060708090a0b0c0d0e0f";

#[test]
fn a_new_cluster_has_a_size_and_no_members() {
    let registry = cluster_of(3);
    let key = format!("/_etcd/registry/{T}");
    assert_eq!(
        registry.size(T).unwrap(),
        Event::get(Node::file(format!("{key}/_config/size"), "3".into(), 1, 1))
    );
    assert_eq!(registry.list(T, false).unwrap(), Event::get(Node::dir(key, vec![], 1)));
}

#[test]
fn every_change_has_the_next_index_and_a_failure_has_none() {
    let mut registry = cluster_of(3);
    assert_eq!(put(&mut registry, "b"), 2);
    assert_eq!(
        registry.put(T, "b", "again", Some(false)).unwrap_err(),
        EtcdError { code: Code::NodeExist, cause: format!("/_etcd/registry/{T}/b"), index: 2 }
    );
    assert_eq!(put(&mut registry, "a"), 3);
    assert_eq!(registry.delete(T, "b").unwrap().node.modified_index, 4);
    assert_eq!(registry.index(), 4);
}

#[test]
fn members_are_listed_in_the_order_of_registration_or_by_key() {
    let mut registry = cluster_of(3);
    put(&mut registry, "b");
    put(&mut registry, "a");
    let ids = |by_key| -> Vec<String> {
        let nodes = registry.list(T, by_key).unwrap().node.nodes;
        nodes.iter().map(|node| node.key.rsplit('/').next().unwrap().to_owned()).collect()
    };
    assert_eq!(ids(false), ["b", "a"]);
    assert_eq!(ids(true), ["a", "b"]);
}

#[test]
fn a_waiter_sees_each_creation_once_and_in_order() {
    let mut registry = cluster_of(3);
    let mut since = registry.index() + 1;
    assert_eq!(registry.creation(T, None, since), None);
    for id in ["c", "a", "b"] {
        put(&mut registry, id);
    }
    let mut seen = Vec::new();
    while let Some(event) = registry.creation(T, None, since) {
        since = event.node.modified_index + 1;
        seen.push((event.action, event.node.key.rsplit('/').next().unwrap().to_owned()));
    }
    let created = |id: &str| (Action::Create, id.to_owned());
    assert_eq!(seen, [created("c"), created("a"), created("b")]);
}

#[test]
fn a_waiter_is_not_shown_changes_deletions_or_other_clusters() {
    let mut registry = cluster_of(3);
    put(&mut registry, "a");
    put(&mut registry, "b");
    let since = registry.index() + 1;
    registry.put(T, "a", "changed", None).unwrap();
    registry.delete(T, "b").unwrap();
    registry.create(Token::new([7; 16]), sized(1)).unwrap();
    registry.put(Token::new([7; 16]).as_str(), "x", "v", None).unwrap();
    assert_eq!(registry.creation(T, None, since), None);
    // Who comes late is shown what is still there, with the index of its creation.
    let event = registry.creation(T, None, 1).unwrap();
    let node = Node::file(format!("/_etcd/registry/{T}/a"), "changed".into(), 2, 2);
    assert_eq!(event, Event { action: Action::Create, node, prev_node: None });
    assert_eq!(registry.creation(T, None, 3), None);
}

#[test]
fn a_waiter_for_one_member_is_not_shown_others() {
    let mut registry = cluster_of(3);
    put(&mut registry, "a");
    assert_eq!(registry.creation(T, Some("b"), 1), None);
    put(&mut registry, "b");
    let event = registry.creation(T, Some("b"), 1).unwrap();
    assert_eq!(event.node.created_index, 3);
}

#[test]
fn a_member_put_again_keeps_its_place() {
    let mut registry = cluster_of(3);
    put(&mut registry, "a");
    let event = registry.put(T, "a", "new", None).unwrap();
    let key = format!("/_etcd/registry/{T}/a");
    assert_eq!(
        event,
        Event {
            action: Action::Set,
            node: Node::file(key.clone(), "new".into(), 3, 2),
            prev_node: Some(Node::file(key, "a=http://a:2380".into(), 2, 2)),
        }
    );
    assert_eq!(registry.put(T, "a", "x", Some(true)).unwrap().action, Action::Update);
    assert_eq!(registry.put(T, "b", "x", Some(true)).unwrap_err().code, Code::KeyNotFound);
}

#[test]
fn a_deleted_member_is_gone_and_may_come_back() {
    let mut registry = cluster_of(3);
    put(&mut registry, "a");
    let key = format!("/_etcd/registry/{T}/a");
    let node =
        Node { modified_index: 3, value: None, ..Node::file(key.clone(), String::new(), 2, 2) };
    let prev_node = Some(Node::file(key.clone(), "a=http://a:2380".into(), 2, 2));
    assert_eq!(registry.delete(T, "a").unwrap(), Event { action: Action::Delete, node, prev_node });
    let missing = EtcdError { code: Code::KeyNotFound, cause: key, index: 3 };
    assert_eq!(registry.delete(T, "a").unwrap_err(), missing);
    assert_eq!(registry.member(T, "a").unwrap_err(), missing);
    assert_eq!(put(&mut registry, "a"), 4);
}

#[test]
fn an_unknown_token_is_a_key_that_is_not_found() {
    let mut registry = cluster_of(3);
    let unknown = "ffffffffffffffffffffffffffffffff";
    let expected = EtcdError {
        code: Code::KeyNotFound,
        cause: format!("/_etcd/registry/{unknown}"),
        index: 1,
    };
    assert_eq!(registry.list(unknown, false).unwrap_err(), expected);
    assert_eq!(registry.size(unknown).unwrap_err(), expected);
    assert_eq!(registry.config(unknown).unwrap_err(), expected);
    assert_eq!(registry.member(unknown, "a").unwrap_err(), expected);
    assert_eq!(registry.put(unknown, "a", "v", Some(false)).unwrap_err(), expected);
    assert_eq!(registry.delete(unknown, "a").unwrap_err(), expected);
}

#[test]
fn members_beyond_the_size_are_registered_but_a_flood_is_stopped() {
    let mut registry = cluster_of(1);
    for n in 0..=SPARE_MEMBERS {
        put(&mut registry, &n.to_string());
    }
    let error = registry.put(T, "one-more", "v", Some(false)).unwrap_err();
    assert_eq!(
        (error.code, error.cause.as_str()),
        (Code::NoMorePeer, "1001 members have registered")
    );
}

#[test]
fn the_number_of_clusters_is_bounded() {
    let mut registry = Registry::new(1);
    for n in 0..MOST_TOKENS {
        let token = Token::new((n as u128).to_be_bytes());
        registry.create(token, sized(3)).unwrap();
    }
    let error = registry.create(token(), sized(3)).unwrap_err();
    assert_eq!(error.cause, "there are 256 clusters already");
}

#[test]
fn keys_and_values_that_no_etcd_sends_are_refused() {
    let mut registry = cluster_of(3);
    for id in ["_config", "_x", "", "a b", "é", ".", "..", &"a".repeat(65)] {
        let error = registry.put(T, id, "v", Some(false)).unwrap_err();
        assert_eq!(error.code, Code::InvalidField, "{id}");
    }
    let error = registry.put(T, "a", &"v".repeat(2049), Some(false)).unwrap_err();
    assert_eq!(error.cause, "the value is longer than 2048 bytes");
    assert_eq!(registry.index(), 1);
}

#[test]
fn what_is_written_is_read_back() {
    let mut registry = cluster_of(3);
    put(&mut registry, "a");
    put(&mut registry, "b");
    registry.put(T, "a", "changed", None).unwrap();
    registry.delete(T, "b").unwrap();
    assert_eq!(Registry::from_json(&registry.to_json().unwrap()).unwrap(), registry);
}

#[test]
fn a_text_that_is_no_registry_is_refused() {
    let mut registry = cluster_of(3);
    put(&mut registry, "a");
    let good = registry.to_json().unwrap();
    let table = [
        (String::new(), "EOF while parsing a value at line 1 column 0".to_owned()),
        (
            good.replace("\"version\": 1", "\"version\": 2"),
            "version 2 is not known, only 1".to_owned(),
        ),
        (
            good.replace("\"index\": 2", "\"index\": 1"),
            format!("an index of `{T}` is out of range"),
        ),
        (
            good.replace("\"created\": 2", "\"created\": 1"),
            format!("the members of `{T}` are out of order"),
        ),
        (
            good.replace("\"index\": 2", &format!("\"index\": {}", u64::MAX)),
            "the index 18446744073709551615 leaves no room for another".to_owned(),
        ),
    ];
    for (text, expected) in table {
        assert_eq!(Registry::from_json(&text).unwrap_err(), expected);
    }
    let size = Registry::from_json(&good.replace("\"size\": 3", "\"size\": 0")).unwrap_err();
    assert!(size.starts_with("the size must be 1 to 1000, not `0`"), "{size}");
    let cut = Registry::from_json(&good[..good.len() / 2]).unwrap_err();
    assert!(cut.starts_with("EOF"), "{cut}");
}

fn token() -> Token {
    Token::new(std::array::from_fn(|n| u8::try_from(n).unwrap()))
}

fn sized(members: usize) -> Size {
    Size::try_from(members).unwrap()
}

fn cluster_of(size: usize) -> Registry {
    let mut registry = Registry::new(1);
    registry.create(token(), sized(size)).unwrap();
    registry
}

/// Registers a member and says at which index.
fn put(registry: &mut Registry, id: &str) -> u64 {
    let value = format!("{id}=http://{id}:2380");
    registry.put(T, id, &value, Some(false)).unwrap().node.created_index
}
