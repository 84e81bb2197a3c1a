//! The registry behind the discovery URLs: a state machine without clock, I/O or randomness.
//!
//! It answers as etcd's v2 store does for the few keys that discovery uses, with two differences
//! that both serve bootstrap. etcd's client takes *every* event of its long poll for one more
//! member (`waitNodes` in etcd's `v2discovery`), so a waiter here is shown creations only, and the
//! creation of a member that still exists, always as `create`. And since those can be read off the
//! members, there is no history that could be cleared: a waiter is never told 401.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::protocol::{Action, Code, EtcdError, Event, Node};
use super::token::{Size, Token};

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
        if registry.index > LARGEST_INDEX {
            return Err(format!("the index {} leaves no room for another", registry.index));
        }
        for (token, cluster) in &registry.tokens {
            let mut last = cluster.created;
            for member in &cluster.members {
                if member.created <= last || member.modified < member.created {
                    return Err(format!("the members of `{}` are out of order", token.as_str()));
                }
                last = member.created;
            }
            let newest = cluster.members.iter().map(|member| member.modified).max();
            if cluster.created == 0 || newest.unwrap_or(cluster.created) > registry.index {
                return Err(format!("an index of `{}` is out of range", token.as_str()));
            }
        }
        Ok(registry)
    }

    /// The registry as a text that lasts.
    pub fn to_json(&self) -> serde_json::Result<String> {
        serde_json::to_string_pretty(self)
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
            return Err(self.error(Code::NodeExist, token_key(token.as_str())));
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

        let index = self.index + 1;
        let members = &mut self.cluster_mut(token)?.members;
        let event = if let Some(position) = position {
            let member = &mut members[position];
            let prev_node = Some(member.node(token));
            value.clone_into(&mut member.value);
            member.modified = index;
            Event { action, node: member.node(token), prev_node }
        } else {
            let (id, value) = (id.to_owned(), value.to_owned());
            let member = Member { id, value, created: index, modified: index };
            let node = member.node(token);
            members.push(member);
            Event { action, node, prev_node: None }
        };
        self.index = index;
        Ok(event)
    }

    /// `DELETE /TOKEN/ID`.
    pub fn delete(&mut self, token: &str, id: &str) -> Result<Event, EtcdError> {
        let previous = self.member(token, id)?.node;
        let index = self.index + 1;
        self.cluster_mut(token)?.members.retain(|member| member.id != id);
        self.index = index;
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

    /// An error at the index the registry is at.
    pub fn error(&self, code: Code, cause: String) -> EtcdError {
        EtcdError { code, cause, index: self.index }
    }

    fn cluster(&self, token: &str) -> Result<&Cluster, EtcdError> {
        self.tokens.get(token).ok_or_else(|| self.error(Code::KeyNotFound, token_key(token)))
    }

    fn cluster_mut(&mut self, token: &str) -> Result<&mut Cluster, EtcdError> {
        let error = self.error(Code::KeyNotFound, token_key(token));
        self.tokens.get_mut(token).ok_or(error)
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
        Node::file(key, self.size.members().to_string(), self.created, self.created)
    }

    /// A member that came too late is registered like any other: etcd's client finds out by
    /// itself that the cluster is full. Only a flood is stopped.
    fn most_members(&self) -> usize {
        self.size.members() + SPARE_MEMBERS
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
/// There is room for all changes that come after.
const LARGEST_INDEX: u64 = u64::MAX / 2;
const MOST_TOKENS: usize = 256;
const SPARE_MEMBERS: usize = 1000;
const LONGEST_ID: usize = 64;
/// A name and some twenty peer URLs.
const LONGEST_VALUE: usize = 2048;

#[cfg(test)]
mod tests;
