//! The words of etcd's v2 keys API, as far as discovery needs them.
//!
//! Codes, messages and statuses are those of etcd's `etcdserver/api/v2error`:
//! <https://github.com/etcd-io/etcd/blob/v3.5.17/server/etcdserver/api/v2error/error.go>.

use serde::Serialize;
use serde_json::json;
use thiserror::Error;

/// What happened to a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub enum Action {
    /// It was read
    Get,
    /// It did not exist before, as the request demanded
    Create,
    /// It was written, whether or not it existed
    Set,
    /// It existed before, as the request demanded
    Update,
    /// It was removed
    Delete,
}

/// The body of every answer that is not an error.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Event {
    /// What happened
    pub action: Action,
    /// The key afterwards
    pub node: Node,
    /// The key before, if it existed
    #[serde(skip_serializing_if = "Option::is_none")]
    pub prev_node: Option<Node>,
}

impl Event {
    /// The answer to a read.
    pub fn get(node: Node) -> Self {
        Self { action: Action::Get, node, prev_node: None }
    }

    /// Whether the answer has the status 201.
    pub fn is_created(&self) -> bool {
        matches!(self.action, Action::Create | Action::Set) && self.prev_node.is_none()
    }
}

/// A key, with its value or with the keys below it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Node {
    /// The whole path
    pub key: String,
    /// What a file holds
    #[serde(skip_serializing_if = "Option::is_none")]
    pub value: Option<String>,
    /// Whether it is a directory
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub dir: bool,
    /// What a directory holds
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub nodes: Vec<Node>,
    /// The index of its last change
    pub modified_index: u64,
    /// The index of its creation
    pub created_index: u64,
}

impl Node {
    /// A key with a value.
    pub fn file(key: String, value: String, modified_index: u64, created_index: u64) -> Self {
        let value = Some(value);
        Self { key, value, dir: false, nodes: Vec::new(), modified_index, created_index }
    }

    /// A key with keys below it.
    pub fn dir(key: String, nodes: Vec<Node>, index: u64) -> Self {
        Self { key, value: None, dir: true, nodes, modified_index: index, created_index: index }
    }
}

/// An answer of etcd's that is an error.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("{} ({cause})", code.message())]
pub struct EtcdError {
    /// Which error
    pub code: Code,
    /// The key, or what is wrong with the request
    pub cause: String,
    /// The index the registry was at
    pub index: u64,
}

impl EtcdError {
    /// An error in the request itself, found before any key was looked at.
    pub fn request(code: Code, cause: impl Into<String>) -> Self {
        Self { code, cause: cause.into(), index: 0 }
    }

    /// The body that goes with it.
    pub fn to_json(&self) -> String {
        format!(
            r#"{{"errorCode":{},"message":{},"cause":{},"index":{}}}"#,
            self.code as u16,
            json!(self.code.message()),
            json!(self.cause),
            self.index
        )
    }
}

/// The errors of etcd's that discovery can meet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u16)]
pub enum Code {
    /// No such token or member
    KeyNotFound = 100,
    /// A directory cannot be written like a file
    NotFile = 102,
    /// A bound of ours is reached
    NoMorePeer = 103,
    /// The member has registered before
    NodeExist = 105,
    /// `waitIndex` is not a number
    IndexNaN = 203,
    /// A parameter has a wrong value, or is not for discovery
    InvalidField = 209,
    /// The body is not a form
    InvalidForm = 210,
    /// The change could not be saved
    RaftInternal = 300,
    /// The size asked for is not possible
    InvalidActiveSize = 403,
}

impl Code {
    /// The HTTP status that goes with it.
    pub fn status(self) -> u16 {
        match self {
            Self::KeyNotFound => 404,
            Self::NotFile => 403,
            Self::NodeExist => 412,
            Self::RaftInternal => 500,
            _ => 400,
        }
    }

    /// What etcd calls it.
    pub fn message(self) -> &'static str {
        match self {
            Self::KeyNotFound => "Key not found",
            Self::NotFile => "Not a file",
            Self::NoMorePeer => "Reached the max number of peers in the cluster",
            Self::NodeExist => "Key already exists",
            Self::IndexNaN => "The given index in POST form is not a number",
            Self::InvalidField => "Invalid field",
            Self::InvalidForm => "Invalid POST form",
            Self::RaftInternal => "Raft Internal Error",
            Self::InvalidActiveSize => "Invalid active size",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_event_is_written_as_etcd_writes_it() {
        let member = Node::file("/t/1f".into(), "a=http://h:2380".into(), 4, 3);
        let event = Event {
            action: Action::Set,
            node: Node::dir("/t".into(), vec![member.clone()], 2),
            prev_node: Some(member),
        };
        assert_eq!(
            serde_json::to_string(&event).unwrap(),
            r#"{"action":"set","node":{"key":"/t","dir":true,"nodes":[{"key":"/t/1f","value":"a=http://h:2380","modifiedIndex":4,"createdIndex":3}],"modifiedIndex":2,"createdIndex":2},"prevNode":{"key":"/t/1f","value":"a=http://h:2380","modifiedIndex":4,"createdIndex":3}}"#
        );
    }

    #[test]
    fn an_error_is_written_as_etcd_writes_it() {
        let error = EtcdError { code: Code::NodeExist, cause: "/t/1f".into(), index: 7 };
        assert_eq!(
            error.to_json(),
            r#"{"errorCode":105,"message":"Key already exists","cause":"/t/1f","index":7}"#
        );
        assert_eq!(error.to_string(), "Key already exists (/t/1f)");
    }
}
