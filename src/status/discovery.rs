//! Who has registered with a lab's discovery URL.

use std::net::IpAddr;
use std::time::Duration;

use anyhow::Result;
use serde::Serialize;

use crate::cluster::discovery::{self, Registration};
use crate::cluster::etcd;
use crate::lab::Lab;
use crate::state::StateDir;

/// Who has registered with the lab's discovery URL.
#[derive(Serialize)]
pub(crate) struct DiscoveryStatus {
    pub(crate) url: String,
    pub(crate) registrations: Vec<Registration>,
    /// Why they could not be asked for.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) problem: Option<String>,
}

impl DiscoveryStatus {
    /// The discovery URL that the lab was given and who has registered there; `None` if it uses none.
    pub(crate) fn of(lab: &Lab, timeout: Duration) -> Result<Option<Self>> {
        let content = StateDir::of(lab)?.content().ok();
        let own = content.filter(|content| content.uuid == lab.uuid);
        let Some(url) = own.and_then(|own| own.discovery_url) else { return Ok(None) };
        Ok(Some(match discovery::registrations(&url, timeout) {
            Ok(registrations) => Self { url, registrations, problem: None },
            Err(error) => {
                Self { url, registrations: Vec::new(), problem: Some(format!("{error:#}")) }
            }
        }))
    }

    /// As whom a node has registered.
    pub(crate) fn registration(&self, ip: IpAddr) -> Option<&Registration> {
        let is_at = |one: &&Registration| one.peer_urls.iter().any(|url| etcd::is_at(url, ip));
        self.registrations.iter().find(is_at)
    }
}
