//! One look at a lab: what `status` finds, as the page has it.

use anyhow::Result;

use super::wrong::Watch;
use crate::boot_server::page::insight::{EtcdMember, EtcdNow, Look, MemoryNow, NodeNow, Wrong};
use crate::boot_server::recorder::now_ms;
use crate::boot_server::recorder::timeline::Timeline;
use crate::cluster::etcd::{self, Report};
use crate::hypervisor::{Found, Hypervisor};
use crate::ksm::KsmStatus;
use crate::lab::fault::Link;
use crate::lab::plan::DomainState;
use crate::memory::LabMemory;
use crate::output::sanitize;
use crate::render::links;
use crate::status::{self, Asking, CUT_OFF, LabStatus};

/// Looks.
pub(super) fn look(
    hypervisor: &Hypervisor,
    found: &Found,
    known: &Timeline,
    watch: &mut Watch,
) -> Result<Look> {
    let at_ms = now_ms();
    let nodes = Some(known.nodes.as_slice());
    let port = etcd::CLIENT_PORT;
    let mut status = status::look(hypervisor, found, nodes, port, Asking::InPassing)?;
    mark_cut_off(hypervisor, found, &mut status)?;
    let wrong = watch.wrong(hypervisor, found, known, &status);
    let memory = |index: usize| status.memory.nodes.get(index)?.resident_bytes;
    let node = |(place, node): (usize, &status::NodeStatus)| NodeNow {
        index: node.index,
        state: node.state.clone(),
        ready: node.ready,
        ip: node.ip,
        resident_bytes: memory(place),
    };
    Ok(Look {
        at_ms,
        nodes: status.nodes.iter().enumerate().map(node).collect(),
        etcd: status.etcd.as_ref().filter(|_| known.etcd.is_some()).map(members),
        memory: Some(memory_now(at_ms, &status.memory)),
        wrong,
        verdict_ms: None,
    })
}

/// What is shown where libvirt cannot be asked.
pub(super) fn without_libvirt(error: &anyhow::Error) -> Look {
    let text = sanitize(&format!("asking libvirt: {error:#}"));
    let wrong = vec![Wrong { text, command: Some("virtlab doctor".to_owned()) }];
    Look { at_ms: now_ms(), wrong, ..Look::default() }
}

/// A node that does not answer may have no link.
fn mark_cut_off(hypervisor: &Hypervisor, found: &Found, status: &mut LabStatus) -> Result<()> {
    let is_silent =
        |node: &status::NodeStatus| !node.ready && node.domain == Some(DomainState::Running);
    if !status.nodes.iter().any(is_silent) {
        return Ok(());
    }
    let definitions = hypervisor.definitions(found)?;
    for node in status.nodes.iter_mut().filter(|node| is_silent(node)) {
        let running = definitions.domains.get(&node.index).and_then(|it| it.running.as_deref());
        if running.is_some_and(|xml| links::of(xml) == Link::Down) {
            CUT_OFF.clone_into(&mut node.state);
        }
    }
    Ok(())
}

/// The members, with those nodes that should be some and are none.
fn members(report: &Report) -> EtcdNow {
    let node = |node: &etcd::NodeReport| EtcdMember {
        name: node.name.clone(),
        id: node.member.clone(),
        leader: node.leader,
        client: node.client,
        healthy: node.healthy && (node.client || node.member.is_some()),
        problem: node.problem.clone(),
    };
    let mut members: Vec<EtcdMember> = report.nodes.iter().map(node).collect();
    for member in &report.members {
        if !members.iter().any(|it| it.id.as_ref() == Some(&member.id)) {
            members.push(EtcdMember {
                name: sanitize(&member.name),
                id: Some(member.id.clone()),
                leader: false,
                client: false,
                healthy: false,
                problem: Some("no node of the lab that is wanted to run".to_owned()),
            });
        }
    }
    EtcdNow { healthy: report.healthy, members }
}

fn memory_now(at_ms: u64, memory: &LabMemory) -> MemoryNow {
    MemoryNow {
        at_ms,
        resident_bytes: memory.resident_bytes,
        merged_bytes: memory.merged_bytes,
        saved_bytes: memory.ksm.as_ref().map(KsmStatus::saved_bytes),
        ksm_runs: memory.ksm.as_ref().map(KsmStatus::is_running),
    }
}
