//! The registry behind the discovery URLs: a state machine without clock, I/O or randomness.
//!
//! It answers as etcd's v2 store does for the few keys that discovery uses, with two differences
//! that both serve bootstrap. etcd's client takes *every* event of its long poll for one more
//! member (`waitNodes` in etcd's `v2discovery`), so a waiter here is shown creations only, and the
//! creation of a member that still exists. And since those can be read off the members, there is
//! no history that could be cleared: a waiter is never told 401.

use std::borrow::Borrow;
use std::collections::BTreeMap;
use std::str::FromStr;

use serde::Deserialize;
use serde::Serialize;

use super::protocol::Action;
use super::protocol::Code;
use super::protocol::EtcdError;
use super::protocol::Event;
use super::protocol::Node;
use crate::cluster::discovery::Registration;

/// All clusters that bootstrap here, and the index that orders every change.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Registry {
    version: u32,
    cluster_id: u64,
    index: u64,
    tokens: BTreeMap<Token, Cluster>,
}

impl Registry {
    /// An empty registry. `cluster_id` only tells it from other registries.
    pub fn new(cluster_id: u64) -> Self {
        Self { version: VERSION, cluster_id, index: 0, tokens: BTreeMap::new() }
    }

    /// Reads what [`Registry::to_json`] wrote. Fails if it is not that, or contradicts itself.
    pub fn from_json(text: &str) -> Result<Self, String> {
        let registry: Self = serde_json::from_str(text).map_err(|error| error.to_string())?;
        if registry.version != VERSION {
            return Err(format!("version {} is not known, only {VERSION}", registry.version));
        }
        for (token, cluster) in &registry.tokens {
            let mut last = cluster.created;
            for member in &cluster.members {
                if member.created <= last || member.modified < member.created {
                    return Err(format!("the members of `{}` are out of order", token.0));
                }
                last = member.created;
            }
            let newest = cluster.members.iter().map(|member| member.modified).max();
            if cluster.created == 0 || newest.unwrap_or(cluster.created) > registry.index {
                return Err(format!("an index of `{}` is out of range", token.0));
            }
        }
        Ok(registry)
    }

    /// The registry as a text that lasts.
    pub fn to_json(&self) -> String {
        serde_json::to_string_pretty(self).expect("a registry has no keys but strings")
    }

    /// The index of the last change, `X-Etcd-Index`.
    pub fn index(&self) -> u64 {
        self.index
    }

    /// What tells this registry from others, `X-Etcd-Cluster-ID`.
    pub fn cluster_id(&self) -> u64 {
        self.cluster_id
    }

    /// Starts a cluster of `size` members. Fails when there are too many.
    pub fn create(&mut self, token: Token, size: Size) -> Result<(), EtcdError> {
        if self.tokens.len() >= MOST_TOKENS {
            let cause = format!("there are {MOST_TOKENS} clusters already");
            return Err(self.error(Code::NoMorePeer, cause));
        }
        if self.tokens.contains_key(&token) {
            return Err(self.error(Code::NodeExist, token_key(&token.0)));
        }
        self.index += 1;
        let cluster = Cluster { size, created: self.index, members: Vec::new() };
        self.tokens.insert(token, cluster);
        Ok(())
    }

    /// `GET /TOKEN`: the members in the order of registration, or by key.
    pub fn list(&self, token: &str, by_key: bool) -> Result<Event, EtcdError> {
        let cluster = self.cluster(token)?;
        let mut nodes: Vec<Node> =
            cluster.members.iter().map(|member| member.node(token)).collect();
        if by_key {
            nodes.sort_by(|left, right| left.key.cmp(&right.key));
        }
        Ok(Event::get(Node::dir(token_key(token), nodes, cluster.created)))
    }

    /// `GET /TOKEN/_config`.
    pub fn config(&self, token: &str) -> Result<Event, EtcdError> {
        let cluster = self.cluster(token)?;
        let nodes = vec![cluster.size_node(token)];
        let key = format!("{}/_config", token_key(token));
        Ok(Event::get(Node::dir(key, nodes, cluster.created)))
    }

    /// `GET /TOKEN/_config/size`.
    pub fn size(&self, token: &str) -> Result<Event, EtcdError> {
        Ok(Event::get(self.cluster(token)?.size_node(token)))
    }

    /// `GET /TOKEN/ID`.
    pub fn member(&self, token: &str, id: &str) -> Result<Event, EtcdError> {
        let member = self.cluster(token)?.members.iter().find(|member| member.id == id);
        let member = member.ok_or_else(|| self.error(Code::KeyNotFound, member_key(token, id)))?;
        Ok(Event::get(member.node(token)))
    }

    /// `PUT /TOKEN/ID`. `exists` is what the caller expects of the key, etcd's `prevExist`.
    ///
    /// A member that is put again keeps its place among the others, whereas etcd's `set` would move
    /// it behind them: whoever has been counted stays counted.
    pub fn put(
        &mut self,
        token: &str,
        id: &str,
        value: &str,
        exists: Option<bool>,
    ) -> Result<Event, EtcdError> {
        let key = member_key(token, id);
        let cluster = self.cluster(token)?;
        let position = cluster.members.iter().position(|member| member.id == id);
        let action = match exists {
            Some(true) => Action::Update,
            Some(false) => Action::Create,
            None => Action::Set,
        };
        match (position, exists) {
            (Some(_), Some(false)) => return Err(self.error(Code::NodeExist, key)),
            (None, Some(true)) => return Err(self.error(Code::KeyNotFound, key)),
            _ => {}
        }
        if position.is_none() && !is_member_id(id) {
            return Err(self.error(Code::InvalidField, "the key is not a member id".to_owned()));
        }
        if value.len() > LONGEST_VALUE {
            let cause = format!("the value is longer than {LONGEST_VALUE} bytes");
            return Err(self.error(Code::InvalidField, cause));
        }
        if position.is_none() && cluster.members.len() >= cluster.most_members() {
            let cause = format!("{} members have registered", cluster.members.len());
            return Err(self.error(Code::NoMorePeer, cause));
        }

        self.index += 1;
        let index = self.index;
        let members = &mut self.tokens.get_mut(token).expect("it was found above").members;
        let (member, previous) = if let Some(position) = position {
            let member = &mut members[position];
            let previous = member.node(token);
            value.clone_into(&mut member.value);
            member.modified = index;
            (&*member, Some(previous))
        } else {
            let (id, value) = (id.to_owned(), value.to_owned());
            members.push(Member { id, value, created: index, modified: index });
            (&members[members.len() - 1], None)
        };
        Ok(Event { action, node: member.node(token), prev_node: previous })
    }

    /// `DELETE /TOKEN/ID`.
    pub fn delete(&mut self, token: &str, id: &str) -> Result<Event, EtcdError> {
        let previous = self.member(token, id)?.node;
        self.index += 1;
        let index = self.index;
        let members = &mut self.tokens.get_mut(token).expect("it was found above").members;
        members.retain(|member| member.id != id);
        let node = Node { value: None, modified_index: index, ..previous.clone() };
        Ok(Event { action: Action::Delete, node, prev_node: Some(previous) })
    }

    /// The first creation at `since` or later of a member, or of the member `id`: what a long poll
    /// with `waitIndex=since` waits for.
    pub fn creation(&self, token: &str, id: Option<&str>, since: u64) -> Option<Event> {
        let mut members = self.tokens.get(token)?.members.iter();
        let wanted =
            |member: &&Member| member.created >= since && id.is_none_or(|id| member.id == id);
        let member = members.find(wanted)?;
        // The client goes on after the `modifiedIndex` it is shown. A later change of this member
        // must not make it skip those that came in between.
        let node = Node { modified_index: member.created, ..member.node(token) };
        Some(Event { action: Action::Create, node, prev_node: None })
    }

    /// Who has registered, in that order.
    pub fn registrations(&self, token: &str) -> Result<Vec<Registration>, EtcdError> {
        let members = self.cluster(token)?.members.iter();
        Ok(members.map(|member| Registration::parse(&member.id, &member.value)).collect())
    }

    /// An error at the index the registry is at.
    pub fn error(&self, code: Code, cause: String) -> EtcdError {
        EtcdError { code, cause, index: self.index }
    }

    fn cluster(&self, token: &str) -> Result<&Cluster, EtcdError> {
        self.tokens.get(token).ok_or_else(|| self.error(Code::KeyNotFound, token_key(token)))
    }
}

/// What makes a discovery URL unguessable: 32 lower-case hexadecimal digits.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String")]
pub struct Token(String);

impl Token {
    /// The token these bytes spell.
    pub fn new(bytes: [u8; 16]) -> Self {
        Self(format!("{:032x}", u128::from_be_bytes(bytes)))
    }

    /// The 32 digits.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl Borrow<str> for Token {
    fn borrow(&self) -> &str {
        &self.0
    }
}

impl TryFrom<String> for Token {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        let is_digit = |byte: u8| matches!(byte, b'0'..=b'9' | b'a'..=b'f');
        if text.len() != 32 || !text.bytes().all(is_digit) {
            return Err(format!("a token has 32 hexadecimal digits, unlike `{text}`"));
        }
        Ok(Self(text))
    }
}

/// How many members a cluster has: 1 to 1000.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "usize")]
pub struct Size(usize);

impl TryFrom<usize> for Size {
    type Error = String;

    fn try_from(size: usize) -> Result<Self, String> {
        if !(1..=MOST_MEMBERS).contains(&size) {
            return Err(format!("the size must be 1 to {MOST_MEMBERS}, not `{size}`"));
        }
        Ok(Self(size))
    }
}

impl FromStr for Size {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let size: Option<usize> = text.parse().ok();
        let size = size.and_then(|size| Self::try_from(size).ok());
        let quoted: String = text.chars().take(LONGEST_QUOTE).collect();
        size.ok_or_else(|| format!("the size must be 1 to {MOST_MEMBERS}, not `{quoted}`"))
    }
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Cluster {
    size: Size,
    created: u64,
    /// In the order of `created`.
    members: Vec<Member>,
}

impl Cluster {
    fn size_node(&self, token: &str) -> Node {
        let key = format!("{}/_config/size", token_key(token));
        Node::file(key, self.size.0.to_string(), self.created, self.created)
    }

    /// A member that came too late is registered like any other: etcd's client finds out by
    /// itself that the cluster is full. Only a flood is stopped.
    fn most_members(&self) -> usize {
        self.size.0 + SPARE_MEMBERS
    }
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Member {
    id: String,
    value: String,
    created: u64,
    modified: u64,
}

impl Member {
    fn node(&self, token: &str) -> Node {
        Node::file(member_key(token, &self.id), self.value.clone(), self.modified, self.created)
    }
}

fn token_key(token: &str) -> String {
    format!("/_etcd/registry/{token}")
}

fn member_key(token: &str, id: &str) -> String {
    format!("/_etcd/registry/{token}/{id}")
}

/// etcd's ids are up to 16 hexadecimal digits; names that people type by hand are let in too, but
/// none that etcd would hide (`_…`).
fn is_member_id(id: &str) -> bool {
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.:".contains(&byte);
    (1..=LONGEST_ID).contains(&id.len()) && id.bytes().all(allowed) && !id.starts_with(['_', '.'])
}

/// The layout of the saved file.
const VERSION: u32 = 1;
const MOST_TOKENS: usize = 256;
const MOST_MEMBERS: usize = 1000;
const SPARE_MEMBERS: usize = 1000;
const LONGEST_ID: usize = 64;
/// A name and some twenty peer URLs.
const LONGEST_VALUE: usize = 2048;
const LONGEST_QUOTE: usize = 32;

#[cfg(test)]
mod tests {
    use super::*;

    const T: &str = "000102030405060708090a0b0c0d0e0f";

    #[test]
    fn a_token_has_32_lower_case_digits() {
        assert_eq!(token().as_str(), T);
        for wrong in ["", "0", &T.to_uppercase(), &format!("{T}0"), &T.replace('a', "g")] {
            assert!(Token::try_from(wrong.to_owned()).is_err(), "{wrong}");
        }
    }

    #[test]
    fn a_size_is_1_to_1000() {
        for (text, right) in
            [("1", true), ("1000", true), ("0", false), ("1001", false), ("-1", false), ("", false)]
        {
            assert_eq!(text.parse::<Size>().is_ok(), right, "{text}");
        }
        assert_eq!(
            "x".repeat(99).parse::<Size>().unwrap_err(),
            format!("the size must be 1 to 1000, not `{}`", "x".repeat(32))
        );
    }

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
        registry.create(Token::new([7; 16]), Size(1)).unwrap();
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
        assert_eq!(
            registry.delete(T, "a").unwrap(),
            Event { action: Action::Delete, node, prev_node }
        );
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
        assert_eq!(registry.registrations(unknown).unwrap_err(), expected);
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
            registry.create(token, Size(3)).unwrap();
        }
        let error = registry.create(token(), Size(3)).unwrap_err();
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
        assert_eq!(Registry::from_json(&registry.to_json()).unwrap(), registry);
    }

    #[test]
    fn a_text_that_is_no_registry_is_refused() {
        let mut registry = cluster_of(3);
        put(&mut registry, "a");
        let good = registry.to_json();
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

    fn cluster_of(size: usize) -> Registry {
        let mut registry = Registry::new(1);
        registry.create(token(), Size(size)).unwrap();
        registry
    }

    /// Registers a member and says at which index.
    fn put(registry: &mut Registry, id: &str) -> u64 {
        let value = format!("{id}=http://{id}:2380");
        registry.put(T, id, &value, Some(false)).unwrap().node.created_index
    }
}
