//! A discovery URL takes each node once. So where the whole lab was off, the nodes get a new URL and found a new cluster by it.

use std::sync::Arc;

use anyhow::{Context, Result};
use tokio::task::spawn_blocking;

use super::asking::Asking;
use super::membership::Applicant;
use super::server::{Claimed, Server};
use crate::cluster::discovery;
use crate::files::{self, Readers};

impl Server {
    /// The node's config with a discovery URL by which it can find the others.
    ///
    /// # Errors
    /// If a new URL is needed and cannot be had.
    pub(super) async fn config_with_fresh_url(
        self: &Arc<Self>,
        asking: &Asking,
        node: &Claimed,
    ) -> Result<String> {
        let uses = |url: &String| node.config.contains(url);
        let uses_url = node.content.discovery_url.as_ref().is_some_and(uses);
        // Who only looks uses up nothing.
        let applicant = self.applicant(node.index, asking.ip).filter(|_| uses_url && asking.is_get);
        let Some(applicant) = applicant else { return Ok(node.config.clone()) };
        let server = Arc::clone(self);
        spawn_blocking(move || server.renew_url_if_spent(&applicant)).await??;
        // Another node may have been the first one.
        let content = self.content();
        Ok(content.config_of(node.index).unwrap_or(&node.config).to_owned())
    }

    fn renew_url_if_spent(&self, node: &Applicant) -> Result<()> {
        self.membership.if_all_were_off(node, || {
            let mut content = (*self.content()).clone();
            let old = content.discovery_url.clone().unwrap_or_default();
            let voters = content.nodes.iter().filter(|node| node.voter).count();
            let url = discovery::request_token(service_of(&old), voters, discovery::TIMEOUT)?;
            tracing::info!("the whole lab was off: its nodes found a new cluster by {url}");
            content.change_discovery_url(&url);
            let text = serde_json::to_vec(&content).context("writing the new discovery URL")?;
            files::replace(&self.content_file, &text, Readers::Owner)?;
            self.replace_content(content);
            Ok(())
        })
    }
}

/// The service that gave a discovery URL: what comes before the token.
fn service_of(url: &str) -> &str {
    let url = url.trim_end_matches('/');
    url.rsplit_once('/').map_or(url, |(service, _)| service)
}
