//! Whether a lab can get another number of nodes now.

use anyhow::{Result, bail};

use crate::cluster::etcd::membership::{Cluster, Outlook};
use crate::cluster::etcd::{self, Endpoint};
use crate::error::hinted;
use crate::hypervisor::{Found, Hypervisor};
use crate::images::Readiness;
use crate::lab::Lab;
use crate::lab::plan::DomainState;
use crate::state::StateDir;
use crate::status::addresses;
use crate::status::readiness::endpoint;

/// Refuses what the lab's etcd cluster would not survive, or could not follow. A change that was begun and not done
/// goes on whatever becomes of it.
///
/// # Errors
/// Why not, and what to do.
pub(crate) fn refuse_impossible(
    hypervisor: &Hypervisor,
    found: &Found,
    wanted: &Lab,
) -> Result<()> {
    let lab = &found.lab;
    let name = &lab.name;
    if wanted.generation == lab.generation {
        return Ok(());
    }
    let grows = wanted.spec.nodes > lab.spec.nodes;
    let url = StateDir::of(lab)?.content().ok().and_then(|content| content.discovery_url);
    if let Some(url) = url.filter(|_| grows) {
        return Err(hinted(
            format!(
                "lab `{name}` formed its cluster by {url} for {} nodes, which takes no more",
                lab.spec.nodes
            ),
            "a config template with `$etcd_initial_cluster` makes a lab that can grow; see docs/configs.md",
        ));
    }
    let runs = found.domains.values().any(|state| *state == DomainState::Running);
    if lab.spec.ready != Readiness::Etcd || !runs {
        return Ok(());
    }
    let addresses = addresses::find(hypervisor, lab, false)?;
    let endpoint = |(index, ip): (&u32, &_)| endpoint(lab, *index, *ip, etcd::CLIENT_PORT);
    let nodes: Vec<Endpoint> = addresses.range(..=lab.voters()).map(endpoint).collect();
    let staying = addresses.range(..=wanted.voters()).map(endpoint).collect::<Vec<_>>();
    let Outlook::Healthy(cluster) = Outlook::of(&nodes)? else {
        return Err(hinted(
            format!(
                "the etcd cluster of lab `{name}` is not healthy, so its members cannot change"
            ),
            format!(
                "`virtlab create {name}` waits until it is; `virtlab status {name}` shows how far it is"
            ),
        ));
    };
    if !cluster.can_change() {
        bail!("the etcd of lab `{name}` has no v3 API, by which its members could change");
    }
    if grows { Ok(()) } else { refuse_lost_majority(lab, &staying, &cluster) }
}

/// Of the members that stay a majority has to be healthy.
fn refuse_lost_majority(lab: &Lab, staying: &[Endpoint], cluster: &Cluster) -> Result<()> {
    let voters = staying
        .iter()
        .filter(|node| cluster.member_on(node.ip).is_some_and(|member| !member.learner));
    let voters: Vec<Endpoint> = voters.cloned().collect();
    let healthy = etcd::health(&voters)?.iter().filter(|node| node.healthy).count();
    if healthy * 2 > voters.len() {
        return Ok(());
    }
    Err(hinted(
        format!(
            "of the nodes of lab `{}` that would stay only {healthy} of {} are healthy members of its etcd \
             cluster, too few to go on",
            lab.name,
            voters.len()
        ),
        format!("`virtlab status {}` shows which are not", lab.name),
    ))
}
