//! The steps that a plan consists of, and how they are said.

use crate::lab::Lab;
use crate::lab::fault::{Flaws, Limit, LimitName};
use crate::lab::metadata::{Desired, Power};
use crate::lab::node_set::NodeSet;

/// One thing to do. Each is idempotent: it succeeds where it was done already.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(clippy::large_enum_variant, reason = "a plan is short, and a step is copied as a value")]
pub enum Step {
    /// Something that is done once for the lab.
    Lab(LabStep),
    /// Something that is done for the node with this index, at the same time as for the others.
    Node(u32, NodeStep),
}

/// What is done once for the lab.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LabStep {
    /// Switch the host's kernel samepage merging on for the lab.
    ClaimKsm,
    /// Define the lab's network.
    DefineNetwork,
    /// Define the lab's network again as it is wanted. One that is active goes on as it was started.
    RedefineNetwork,
    /// Define, build and start the lab's storage pool.
    MakePool,
    /// Put the boot files into the pool.
    UploadBootFiles,
    /// Write the lab's specification into the mark of its network.
    MarkNetwork,
    /// Reserve addresses in the lab's network for nodes that it has none for.
    ReserveAddresses,
    /// Make libvirt start network and pool with the host.
    Autostart,
    /// Start the lab's network.
    StartNetwork,
    /// Bring back the DHCP and TFTP server of the lab's network.
    RestoreDhcp,
    /// Write what the boot server gives out into the lab's folder on this machine.
    WriteConfigs,
    /// Note that what the boot server gives out is still that of the specification, which has changed elsewhere.
    MarkConfigs,
    /// Make systemd start the boot server with the host.
    EnableBootServer,
    /// Make systemd start the boot server no more.
    DisableBootServer,
    /// Start the lab's boot server.
    StartBootServer,
    /// End the lab's boot server.
    StopBootServer,
    /// Delete the pool with all its volumes.
    DeletePool,
    /// Stop and undefine the lab's network.
    RemoveNetwork,
    /// Delete the lab's folder of configs and logs on this machine.
    RemoveState,
    /// Put the host's kernel samepage merging back as it was, if no other lab has a claim on it.
    ReleaseKsm,
    /// Write the manifest that makes a snapshot of what was saved of the nodes.
    WriteManifest,
}

/// What is done for a node.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NodeStep {
    /// Define its domain.
    Define,
    /// Define its domain again as it is wanted, with this in its mark. One that runs goes on as it was
    /// started.
    Redefine(Desired),
    /// Write the lab's specification and what is wanted of the node into its domain's mark.
    Mark(Desired),
    /// Take the link of its network cards away, also for its next start.
    CutLink,
    /// Give its network cards their link again.
    RestoreLink,
    /// Let it hear nothing of these nodes, and them nothing of it, also after its next start.
    Part(NodeSet),
    /// Let it hear all nodes again.
    Join,
    /// Hold it to a limit, also after its next start.
    Limit(Limit),
    /// Let it have all that it has of this again.
    Unlimit(LimitName),
    /// Bring what is wrong with its packets from this to that, as long as it runs.
    SetFlaws {
        /// What may be in force.
        from: Flaws,
        /// What is to be; it may be none.
        to: Flaws,
    },
    /// Make libvirt start it with the host, or no more.
    Autostart(bool),
    /// Start it with its processors stopped.
    Start,
    /// Let it run.
    Resume,
    /// Stop its processors; it goes on later where it was.
    Suspend,
    /// Ask its system to shut down, and take its power away if it does not in time.
    Shutdown,
    /// Take its power away.
    Stop,
    /// Press its reset button: it boots anew at once.
    Reset,
    /// Remove its domain with all that libvirt keeps of it.
    Undefine,
    /// Delete its disk and its console's log.
    DeleteVolumes,
    /// Take it out of the etcd cluster that it may be a member of.
    LeaveCluster,
    /// Save its memory for a snapshot; its processors stand still.
    SaveMemory,
    /// Start it, with its processors stopped, where it was when its memory was saved. This power is wanted of it then.
    RestoreMemory(Power),
}

impl Step {
    /// Whether this step is left undone where `failed` failed. No mark goes while something that it leads to is left,
    /// and no disk is deleted under a guest that runs.
    pub fn waits_for(self, failed: Self) -> bool {
        self.rank() > failed.rank()
    }

    /// What is taken away needs all of a lower rank to be gone.
    fn rank(self) -> u8 {
        match self {
            Self::Lab(LabStep::DeletePool)
            | Self::Node(_, NodeStep::DeleteVolumes | NodeStep::Join | NodeStep::SetFlaws { .. }) => {
                1
            }
            Self::Node(_, NodeStep::Undefine) => 2,
            Self::Lab(LabStep::RemoveNetwork) => 3,
            Self::Lab(LabStep::RemoveState) => 4,
            Self::Lab(LabStep::ReleaseKsm) => 5,
            _ => 0,
        }
    }

    /// The step as a person would say it.
    pub fn describe(self, lab: &Lab) -> String {
        match self {
            Self::Lab(step) => step.describe(lab),
            Self::Node(index, step) => step.describe(&lab.name.node(index)),
        }
    }
}

impl From<LabStep> for Step {
    fn from(step: LabStep) -> Self {
        Self::Lab(step)
    }
}

impl LabStep {
    fn describe(self, lab: &Lab) -> String {
        match self {
            Self::ClaimKsm => "switch on the host's kernel samepage merging".to_owned(),
            Self::DefineNetwork => format!("define network `{}` ({})", lab.name, lab.spec.network),
            Self::RedefineNetwork => format!("define network `{}` anew", lab.name),
            Self::MakePool => {
                format!("make storage pool `{}` at {}", lab.pool_name(), lab.pool_path())
            }
            Self::UploadBootFiles => format!("upload boot files to `{}`", lab.pool_name()),
            Self::MarkNetwork => format!("bring the mark of network `{}` up to date", lab.name),
            Self::ReserveAddresses => {
                format!("reserve addresses for {} nodes in network `{}`", lab.spec.nodes, lab.name)
            }
            Self::Autostart => {
                format!("let network and pool of lab `{}` start with the host", lab.name)
            }
            Self::StartNetwork => format!("start network `{}`", lab.name),
            Self::RestoreDhcp => format!("bring back DHCP and TFTP of network `{}`", lab.name),
            Self::WriteConfigs => "write configs".to_owned(),
            Self::MarkConfigs => "bring the mark of the configs up to date".to_owned(),
            Self::EnableBootServer => "let systemd start the boot server with the host".to_owned(),
            Self::DisableBootServer => "let systemd start the boot server no more".to_owned(),
            Self::StartBootServer => format!("start boot server at {}", lab.boot_url()),
            Self::StopBootServer => "stop boot server".to_owned(),
            Self::DeletePool => format!("delete storage pool `{}`", lab.pool_name()),
            Self::RemoveNetwork => format!("remove network `{}`", lab.name),
            Self::RemoveState => "remove configs and logs".to_owned(),
            Self::ReleaseKsm => "give up kernel samepage merging".to_owned(),
            Self::WriteManifest => "write the snapshot's manifest".to_owned(),
        }
    }
}

impl NodeStep {
    /// The step for the node with this index.
    pub fn of(self, index: u32) -> Step {
        Step::Node(index, self)
    }

    fn describe(self, domain: &str) -> String {
        match self {
            Self::Define => format!("define domain `{domain}`"),
            Self::Redefine(_) => format!("define domain `{domain}` anew"),
            Self::Mark(desired) => {
                format!("bring the mark of domain `{domain}` up to date{}", wish(desired))
            }
            Self::CutLink => format!("take the link of domain `{domain}` away"),
            Self::Part(from) => {
                format!("keep domain `{domain}` apart from nodes {from}")
            }
            Self::Join => format!("let domain `{domain}` hear all nodes again"),
            Self::Limit(limit) => format!("hold domain `{domain}` to {limit}"),
            Self::Unlimit(LimitName::Clock) => {
                format!("let domain `{domain}` have the right time from its next power-on")
            }
            Self::Unlimit(limit) => {
                format!("let domain `{domain}` have all of its {} again", limit.what())
            }
            Self::SetFlaws { to, .. } if to.is_empty() => {
                format!("let the packets of domain `{domain}` pass as they are again")
            }
            Self::SetFlaws { to, .. } => {
                format!("spoil the packets of domain `{domain}`: {to}")
            }
            Self::RestoreLink => format!("give domain `{domain}` its link again"),
            Self::Autostart(true) => format!("let domain `{domain}` start with the host"),
            Self::Autostart(false) => format!("let domain `{domain}` start with the host no more"),
            Self::Start => format!("start domain `{domain}` paused"),
            Self::Resume => format!("resume domain `{domain}`"),
            Self::Suspend => format!("suspend domain `{domain}`"),
            Self::Shutdown => format!("shut down domain `{domain}`"),
            Self::Stop => format!("destroy domain `{domain}`"),
            Self::Reset => format!("reset domain `{domain}`"),
            Self::Undefine => format!("undefine domain `{domain}`"),
            Self::DeleteVolumes => format!("delete disk and console log of `{domain}`"),
            Self::LeaveCluster => format!("take `{domain}` out of its etcd cluster"),
            Self::SaveMemory => format!("save the memory of domain `{domain}`"),
            Self::RestoreMemory(_) => format!("restore the memory of domain `{domain}`, paused"),
        }
    }
}

/// What is wanted of a node, if that is anything else than that it runs.
fn wish(Desired { power, faults }: Desired) -> String {
    let power = (power != Power::On).then(|| power.name());
    let faults = faults.iter().map(|fault| fault.kind.name().state());
    let mut all: Vec<&str> = power.into_iter().chain(faults).collect();
    all.dedup();
    if all.is_empty() { String::new() } else { format!(": it is to be {}", all.join(" and ")) }
}
