//! Nodes that leave their lab's etcd cluster before they go: a member that is lost counts for the majority all the
//! same, one that left does not.

use std::net::IpAddr;
use std::time::Duration;

use anyhow::{Context, Result, bail};

use crate::cluster::etcd::membership::Outlook;
use crate::cluster::etcd::{self, Endpoint};
use crate::deadline::Deadline;
use crate::hypervisor::Hypervisor;
use crate::images::Readiness;
use crate::lab::Lab;
use crate::session::Session;
use crate::status::addresses;
use crate::status::readiness::endpoint;

/// Takes nodes that `lab` has no place for any more out of the cluster of those that stay, one after the other. A
/// member that was taken out already, and nodes that are no etcd at all, are left alone.
///
/// # Errors
/// If the cluster cannot be changed, so that it would lose its majority with the nodes.
pub(super) fn leave(
    session: &Session,
    hypervisor: &Hypervisor,
    lab: &Lab,
    nodes: &[u32],
) -> Result<()> {
    let highest = nodes.iter().copied().max().unwrap_or_default().max(lab.spec.nodes);
    let addresses = addresses::find(hypervisor, &lab.with_nodes(highest)?, false)?;
    let endpoint = |(index, ip): (&u32, &_)| endpoint(lab, *index, *ip, etcd::CLIENT_PORT);
    let staying: Vec<Endpoint> = addresses.range(..=lab.voters()).map(endpoint).collect();
    // A client has no place in the cluster that it could leave.
    for index in nodes.iter().filter(|index| lab.is_voter(**index)) {
        let name = lab.name.node(*index);
        let ip = addresses.get(index).copied();
        // etcd changes nothing while it chooses a leader, and within 5 s of the loss of a connection.
        let left = Deadline::after(PATIENCE).retry(
            PAUSE,
            |_| !session.is_interrupted(),
            || take_out(lab, &staying, &name, ip),
        );
        left.with_context(|| format!("taking `{name}` out of its etcd cluster"))?;
    }
    Ok(())
}

fn take_out(lab: &Lab, staying: &[Endpoint], name: &str, ip: Option<IpAddr>) -> Result<()> {
    match Outlook::of(staying)? {
        Outlook::Healthy(mut cluster) => cluster.remove_node(name, ip),
        Outlook::NoQuorum if lab.spec.ready == Readiness::Etcd => {
            bail!("too few of its members answer")
        }
        // There is no cluster that could be the worse for it.
        Outlook::NoQuorum | Outlook::Silent => Ok(()),
    }
}

const PATIENCE: Duration = Duration::from_secs(30);
const PAUSE: Duration = Duration::from_millis(500);
