//! How a lab is doing: what its objects, its boot server and its nodes say. Nothing here prints.

pub(crate) mod addresses;
pub(crate) mod behind;
pub(crate) mod chosen;
mod cluster;
pub(crate) mod console_log;
pub(crate) mod discovery;
pub(crate) mod faults;
pub(crate) mod first_steps;
mod leader;
pub(crate) mod logins;
pub(crate) mod memory;
pub(crate) mod missing;
mod now;
pub(crate) mod readiness;
pub(crate) mod targets;
pub(crate) mod unheard;
pub(crate) mod until;
pub(crate) mod wait;

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::time::Duration;

use anyhow::Result;
use serde::{Serialize, Serializer};

use self::discovery::DiscoveryStatus;
use self::faults::FaultNow;
pub(crate) use self::now::Asking;
use crate::boot_server::recorder::timeline::NodeTimeline;
use crate::boot_server::stage::Stage;
use crate::cluster::etcd;
use crate::error::{did_you_mean, hinted};
use crate::host::dnsmasq;
use crate::hypervisor::{Found, Hypervisor, Inventory};
use crate::lab::fault::FaultName;
use crate::lab::metadata::{Desired, Power};
use crate::lab::plan::DomainState;
use crate::lab::{LabName, MacAddr};
use crate::memory::LabMemory;

/// What `-o json` prints.
#[derive(Serialize)]
pub(crate) struct LabStatus {
    pub(crate) name: String,
    pub(crate) uuid: String,
    pub(crate) image: String,
    pub(crate) network: String,
    pub(crate) boot_server: BootServerStatus,
    /// Whether the DHCP and TFTP server of its own network runs, where that can be told.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) dhcp_running: Option<bool>,
    pub(crate) nodes: Vec<NodeStatus>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) etcd: Option<etcd::Report>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) discovery: Option<DiscoveryStatus>,
    pub(crate) memory: LabMemory,
    /// What of its network, pool and domains is not as it is wanted, beside the nodes' power.
    pub(crate) differences: Vec<String>,
}

#[derive(Serialize)]
pub(crate) struct BootServerStatus {
    pub(crate) url: String,
    pub(crate) running: bool,
}

#[derive(Serialize)]
pub(crate) struct NodeStatus {
    pub(crate) name: String,
    pub(crate) index: u32,
    pub(crate) ip: Option<IpAddr>,
    pub(crate) mac: MacAddr,
    #[serde(serialize_with = "serialize_domain")]
    pub(crate) domain: Option<DomainState>,
    /// The power that is wanted of it.
    pub(crate) wanted: Power,
    /// What is wrong with it on purpose.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(crate) faults: Vec<FaultNow>,
    pub(crate) state: String,
    pub(crate) ready: bool,
    /// Seconds from power-on to each stage.
    pub(crate) seconds: BTreeMap<&'static str, f64>,
    /// Bytes sent for each stage.
    pub(crate) bytes: BTreeMap<&'static str, u64>,
}

/// The error for a lab that is not there, with the one that may be meant.
pub(crate) fn no_lab(inventory: &Inventory, name: &LabName) -> anyhow::Error {
    let labs = targets::lab_names(inventory);
    let near = did_you_mean(name.as_str(), labs.iter().map(String::as_str));
    let guess = near.map(|near| format!(" (did you mean `{near}`?)")).unwrap_or_default();
    hinted(format!("there is no lab `{name}`{guess}"), "`virtlab list` shows the labs there are")
}

/// Looks at a lab.
pub(crate) fn look(
    hypervisor: &Hypervisor,
    found: &Found,
    timeline: Option<&[NodeTimeline]>,
    client_port: u16,
    asking: Asking,
) -> Result<LabStatus> {
    let lab = &found.lab;
    let addresses = addresses::of(hypervisor, lab, timeline.unwrap_or_default(), false);
    let seen =
        |index: u32| timeline.and_then(|nodes| nodes.iter().find(|node| node.index == index));
    let mut nodes: Vec<NodeStatus> = lab
        .nodes()
        .into_iter()
        .map(|node| {
            let domain = found.domains.get(&node.index).copied();
            let seen = seen(node.index);
            let stages = seen.map(|seen| seen.stages.clone()).unwrap_or_default();
            let seconds = |stage: &Stage| seen.and_then(|seen| seen.seconds_to(*stage));
            NodeStatus {
                ip: addresses.get(&node.index).copied(),
                name: node.name,
                index: node.index,
                mac: node.mac,
                domain,
                wanted: found.wanted(node.index),
                faults: faults::of(found, node.index),
                state: String::new(),
                ready: false,
                seconds: stages
                    .keys()
                    .filter_map(|stage| Some((stage.name(), seconds(stage)?)))
                    .collect(),
                bytes: stages
                    .iter()
                    .map(|(stage, reached)| (stage.name(), reached.bytes))
                    .collect(),
            }
        })
        .collect();
    let report = now::ask(found, &mut nodes, timeline, client_port, asking)?;
    for node in &mut nodes {
        let stage = seen(node.index).and_then(NodeTimeline::stage);
        let is_restored = seen(node.index).is_some_and(|seen| seen.restored);
        node.state = match (node.domain, node.ready, stage) {
            (Some(DomainState::Running), false, _)
                if found.faults(node.index).has(FaultName::Cut) =>
            {
                CUT_OFF.to_owned()
            }
            (Some(DomainState::Running), true, _) => "ready".to_owned(),
            (Some(DomainState::Running), false, Some(Stage::Ready)) => "not ready".to_owned(),
            (Some(DomainState::Running), false, Some(Stage::PowerOn)) if is_restored => {
                "restored".to_owned()
            }
            (Some(DomainState::Running), false, Some(stage)) => stage.name().to_owned(),
            (domain, _, _) => power_word(domain, found.desired(node.index)).to_owned(),
        };
    }
    Ok(LabStatus {
        name: lab.name.to_string(),
        uuid: lab.uuid.to_string(),
        image: lab.spec.image.to_string(),
        network: lab.spec.network.to_string(),
        boot_server: BootServerStatus { url: lab.boot_url(), running: timeline.is_some() },
        dhcp_running: dnsmasq::serves(lab),
        nodes,
        etcd: report,
        discovery: DiscoveryStatus::of(lab, PATIENCE)?,
        memory: memory::observe(hypervisor, found)?,
        differences: Vec::new(),
    })
}

/// The word for a domain of which this is wanted: one that was stopped is off, and nothing is wrong with that.
pub(crate) fn power_word(state: Option<DomainState>, wanted: impl Into<Desired>) -> &'static str {
    let wanted = wanted.into();
    match state {
        Some(DomainState::Off) if wanted.power == Power::Off => "stopped",
        Some(DomainState::Off) if wanted.is_killed() => FaultName::Kill.state(),
        _ => domain_word(state),
    }
}

pub(crate) fn domain_word(state: Option<DomainState>) -> &'static str {
    match state {
        None => "missing",
        Some(DomainState::Off) => "off",
        Some(DomainState::Paused) => "paused",
        Some(DomainState::Running) => "running",
    }
}

/// For serde, which gives fields by reference.
#[expect(clippy::ref_option, clippy::trivially_copy_pass_by_ref, reason = "serde's own form")]
pub(crate) fn serialize_domain<S: Serializer>(
    state: &Option<DomainState>,
    serializer: S,
) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(domain_word(*state))
}

/// The state of a node whose network cards have no link.
pub(crate) const CUT_OFF: &str = "cut off";
/// How long a discovery service may take; who looks at a lab is not to wait for it.
const PATIENCE: Duration = Duration::from_secs(3);
