//! `virtlab wait`: until nodes are ready, or off, or whatever else one waits for.

use anyhow::{Result, bail};

use super::node_states::{self, NodeState};
use super::progress;
use crate::cli::power::{Condition, WaitArgs};
use crate::error::{all_errors, hinted};
use crate::hypervisor::Hypervisor;
use crate::lab::Node;
use crate::lab::metadata::Power;
use crate::lab::spec::ConfigSource;
use crate::session::Session;
use crate::status::missing::Awaited;
use crate::status::targets::{Target, targets};
use crate::status::until::{Until, until};

pub(super) fn run(session: &Session, args: &WaitArgs) -> Result<()> {
    let hypervisor = session.hypervisor()?;
    let inventory = session.observe(&hypervisor)?;
    let targets = targets(&inventory, &args.names)?;
    let awaited = targets.iter().map(|target| nodes_of(target, args.condition));
    let awaited = awaited.collect::<Result<Vec<_>>>()?;
    session.catch_signals()?;
    let both = targets.iter().zip(&awaited);
    let results = both.map(|(target, nodes)| wait_for(session, &hypervisor, args, target, nodes));
    all_errors(results.collect())?;
    // A lab that is gone is off, and has no nodes to be shown.
    let after = session.observe(&hypervisor)?;
    let is_ready = (args.condition == Condition::Ready).then_some(true);
    let states = targets.iter().zip(awaited).filter_map(|(target, nodes)| {
        let found = after.labs.get(&target.lab().uuid)?;
        let state = |node: &Node| NodeState::of(found, node.index, is_ready);
        Some(nodes.iter().map(state).collect::<Vec<_>>())
    });
    node_states::print(session.printer, states.flatten().collect())
}

/// The nodes that are waited for: those that were named, or all of a lab that are wanted to run.
fn nodes_of(target: &Target, condition: Condition) -> Result<Vec<Node>> {
    if condition == Condition::Off {
        return Ok(target.nodes.clone());
    }
    let lab = target.lab();
    if condition == Condition::Config && lab.spec.config == ConfigSource::None {
        bail!("nodes of lab `{}` fetch no config (--for config)", lab.name);
    }
    let (on, off): (Vec<Node>, Vec<Node>) =
        target.nodes.iter().cloned().partition(|node| target.found.wanted(node.index) == Power::On);
    let names = |nodes: &[Node], gap: &str| {
        nodes.iter().map(|node| node.name.as_str()).collect::<Vec<_>>().join(gap)
    };
    if target.is_whole && on.is_empty() {
        return Err(hinted(
            format!("all nodes of lab `{}` are stopped or paused", lab.name),
            format!("`virtlab start {}` starts them", lab.name),
        ));
    }
    if !target.is_whole && !off.is_empty() {
        return Err(hinted(
            format!("stopped or paused: `{}`", names(&off, "`, `")),
            format!("`virtlab start {}` lets them run", names(&off, " ")),
        ));
    }
    Ok(on)
}

fn wait_for(
    session: &Session,
    hypervisor: &Hypervisor,
    args: &WaitArgs,
    target: &Target,
    nodes: &[Node],
) -> Result<()> {
    let timeout = args.timeout.into();
    let condition = match args.condition {
        Condition::Config => Until::Config,
        Condition::Ssh => Until::Ssh,
        Condition::Etcd => Until::Etcd,
        Condition::Off => Until::Off,
        Condition::Ready => {
            let awaited = Awaited::whenever_booted(nodes.to_vec());
            let found = target.found;
            return progress::until_ready(session, hypervisor, found, &awaited, true, timeout);
        }
    };
    until(session, hypervisor, target.lab(), nodes, condition, timeout)
}
