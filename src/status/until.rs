//! Waits for one thing of nodes that can be asked for by itself, whatever their image calls ready.

use std::net::IpAddr;
use std::time::Duration;

use anyhow::{Result, bail};

use super::missing;
use super::readiness::endpoints;
use super::{addresses, domain_word, faults};
use crate::boot_server::client::Client;
use crate::boot_server::stage::Stage;
use crate::cluster::{etcd, ssh};
use crate::deadline::Deadline;
use crate::error::{TimedOut, hinted};
use crate::hypervisor::{Found, Hypervisor, is_connection_lost};
use crate::lab::plan::DomainState;
use crate::lab::{Lab, Node};
use crate::output::{sanitize, seconds};
use crate::session::Session;

/// What can be asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Until {
    /// They have fetched their config.
    Config,
    /// Their sshd greets.
    Ssh,
    /// They are healthy members of one etcd cluster, or clients that reach it.
    Etcd,
    /// They are off.
    Off,
}

/// Waits until it is so with all of these nodes of a lab.
///
/// # Errors
/// [`TimedOut`] after `timeout`, with each node that did not get there; at once if a node is off that has to run.
pub(crate) fn until(
    session: &Session,
    hypervisor: &Hypervisor,
    lab: &Lab,
    nodes: &[Node],
    condition: Until,
    timeout: Duration,
) -> Result<()> {
    let (mut lacking, mut faulty) = (Vec::new(), Vec::new());
    let met = Deadline::after(timeout).wait_for(PAUSE, || {
        session.refuse_interrupt()?;
        let inventory = match hypervisor.observe() {
            // The next look tells.
            Err(error) if is_connection_lost(&error) => {
                session.warn_of_lost_connection(&error);
                return Ok(None);
            }
            other => other?,
        };
        let Some(found) = inventory.labs.get(&lab.uuid) else {
            // Nothing is as off as what is gone.
            if condition == Until::Off {
                return Ok(Some(()));
            }
            bail!("lab `{}` was removed while it was waited for", lab.name);
        };
        lacking = look(hypervisor, found, nodes, condition)?;
        faulty = faults::lines(found);
        Ok(lacking.is_empty().then_some(()))
    })?;
    if met.is_some() {
        return Ok(());
    }
    let all = faulty.iter().chain(&lacking);
    let lines: Vec<String> = all.map(|line| format!("  {}", sanitize(line))).collect();
    let message = format!(
        "nodes of lab `{}` did not get there within {} (--timeout)\n{}",
        lab.name,
        seconds(timeout),
        lines.join("\n")
    );
    Err(TimedOut { message, hint: None }.into())
}

/// What is missing, a line for each node that lacks something.
fn look(
    hypervisor: &Hypervisor,
    found: &Found,
    nodes: &[Node],
    condition: Until,
) -> Result<Vec<String>> {
    let lab = &found.lab;
    let state = |node: &Node| found.domains.get(&node.index).copied();
    let is_off = |node: &&Node| matches!(state(node), None | Some(DomainState::Off));
    if condition == Until::Off {
        let on = nodes.iter().filter(|node| !is_off(node));
        return Ok(on.map(|node| format!("{}: {}", node.name, domain_word(state(node)))).collect());
    }
    let killed = nodes.iter().filter(is_off).filter(|node| found.desired(node.index).is_killed());
    let killed: Vec<String> = killed.map(|node| format!("{}: killed", node.name)).collect();
    if !killed.is_empty() {
        return Ok(killed);
    }
    if let Some(node) = nodes.iter().find(is_off) {
        return Err(hinted(
            format!("node `{}` is off, so there is nothing to wait for", node.name),
            format!("`virtlab start {}` starts it", node.name),
        ));
    }
    if condition == Until::Config {
        return lack_config(lab, nodes);
    }
    let addresses = addresses::find(hypervisor, lab, true)?;
    let mut lacking = Vec::new();
    let mut asked: Vec<(u32, IpAddr)> = Vec::new();
    for node in nodes {
        match addresses.get(&node.index) {
            Some(ip) => asked.push((node.index, *ip)),
            None => lacking.push(format!("{}: its address is not known", node.name)),
        }
    }
    if condition == Until::Ssh {
        let ips: Vec<IpAddr> = asked.iter().map(|(_, ip)| *ip).collect();
        let silent = asked.iter().zip(ssh::answer(&ips)).filter(|(_, answers)| !answers);
        let name = |index: u32| lab.name.node(index);
        lacking
            .extend(silent.map(|((index, _), _)| format!("{}: ssh does not answer", name(*index))));
        return Ok(lacking);
    }
    // All say whether they are healthy, and one of them who the members are.
    let report = etcd::glance(&endpoints(lab, &asked, etcd::CLIENT_PORT))?;
    for node in report.nodes {
        match (&node.problem, &node.member) {
            (None, Some(_)) => {}
            (None, None) if node.client => {}
            (Some(problem), _) => lacking.push(format!("{}: {problem}", node.name)),
            (None, None) => lacking.push(format!("{}: it is no member of the cluster", node.name)),
        }
    }
    Ok(lacking)
}

fn lack_config(lab: &Lab, nodes: &[Node]) -> Result<Vec<String>> {
    let Some(status) = Client::new(lab)?.status() else {
        return Ok(vec![format!("the boot server at {} does not answer", lab.boot_url())]);
    };
    let lacks = |node: &Node| {
        let seen = status.timeline.node(node.index);
        if seen.is_some_and(|seen| seen.has(Stage::Config)) {
            return None;
        }
        let missing = seen.and_then(|seen| missing::of_node(lab, seen));
        let missing =
            missing.map_or_else(|| "no config was fetched".to_owned(), |it| it.to_string());
        Some(format!("{}: {missing}", node.name))
    };
    Ok(nodes.iter().filter_map(lacks).collect())
}

const PAUSE: Duration = Duration::from_millis(500);
