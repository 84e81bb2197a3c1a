//! The etcd discovery URL of a lab whose configs have a place for one.

use anyhow::Result;

use super::prepare::Prepared;
use crate::boot_server::Discovery;
use crate::cluster::discovery;
use crate::hypervisor::Hypervisor;
use crate::lab::options::LabOptions;
use crate::state::{Origin, StateDir};

/// A discovery URL that no lab had before, of the service that was named; `None` if that is the lab's
/// own one, or if no config lacks a URL.
pub(crate) fn outside(options: &LabOptions, prepared: &Prepared) -> Result<Option<String>> {
    let service = options.discovery.as_ref().filter(|_| prepared.content.wants_discovery());
    let size = prepared.lab.voters() as usize;
    service.map(|it| discovery::request_token(it, size, discovery::TIMEOUT)).transpose()
}

/// Puts a discovery URL where a config lacks one: the one from `outside`, or else a new one of the
/// lab's own discovery.
pub(crate) fn put(
    hypervisor: &Hypervisor,
    prepared: &mut Prepared,
    outside: Option<String>,
) -> Result<()> {
    let (lab, content) = (&prepared.lab, &mut prepared.content);
    if !content.wants_discovery() {
        return Ok(());
    }
    let url = if let Some(url) = outside {
        url
    } else {
        let state = StateDir::of(lab)?;
        state.claim(lab, &Origin::of(hypervisor)?)?;
        // The boot server finds the token when it starts.
        let discovery = Discovery::open(&state.discovery(), &content.discovery_base())?;
        discovery.new_token(lab.voters() as usize)?
    };
    content.put_discovery_url(url);
    Ok(())
}
