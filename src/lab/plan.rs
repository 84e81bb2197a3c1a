//! From what is wanted and what is there to what must be done. Pure: a half-made lab, a lab that
//! is up and no lab at all are just three observations, and `create`, `destroy` and `--dry-run`
//! are the same machinery.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::{Lab, Network};

/// What was found of a lab.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[expect(clippy::struct_excessive_bools, reason = "each is there or not by itself")]
pub struct Observed {
    /// The lab's own network.
    pub network: Option<Activity>,
    /// Whether the DHCP and TFTP server of its network serves.
    pub dhcp: bool,
    /// The lab's storage pool.
    pub pool: Option<Activity>,
    /// Whether all boot files lie in the pool.
    pub boot_files: bool,
    /// Whether its boot server answers.
    pub boot_server: bool,
    /// Its domains by node index.
    pub domains: BTreeMap<u32, DomainState>,
    /// Whether there is a state folder of the lab on this machine.
    pub state: bool,
    /// Whether the lab is among those that the host's KSM was switched on for.
    pub ksm: bool,
}

/// Whether an object of libvirt's is only defined or also active.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Activity {
    /// Defined only.
    Inactive,
    /// Started.
    Active,
}

/// The states of a domain that make a difference to what must be done.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum DomainState {
    /// Defined only, shut off or crashed.
    Off,
    /// Made, with its processors stopped.
    Paused,
    /// Running, or on its way out of it.
    Running,
}

/// What libvirt says of a domain while a lab lives.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DomainChange {
    /// It is like this now, whatever it was before.
    Is(DomainState),
    /// It was started, and is like this now.
    Started(DomainState),
    /// It was reset while it ran, and boots again.
    Reset,
}

/// What is wanted of a lab.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Goal {
    /// All of it is there and runs.
    Up,
    /// All of it is there, and so many nodes, from the first on, run.
    Grown(u32),
    /// Nothing of it is there.
    Gone,
}

/// One thing to do. Each is idempotent: it succeeds where it was done already.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
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
    /// Define, build and start the lab's storage pool.
    MakePool,
    /// Put the boot files into the pool.
    UploadBootFiles,
    /// Start the lab's network.
    StartNetwork,
    /// Bring back the DHCP and TFTP server of the lab's network.
    RestoreDhcp,
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
}

/// What is done for a node.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NodeStep {
    /// Define its domain.
    Define,
    /// Start it with its processors stopped.
    Start,
    /// Let it run.
    Resume,
    /// Take its power away.
    Stop,
    /// Remove its domain with all that libvirt keeps of it.
    Undefine,
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
            Self::Lab(LabStep::DeletePool) => 1,
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
            Self::MakePool => {
                format!("make storage pool `{}` at {}", lab.pool_name(), lab.pool_path())
            }
            Self::UploadBootFiles => format!("upload boot files to `{}`", lab.pool_name()),
            Self::StartNetwork => format!("start network `{}`", lab.name),
            Self::RestoreDhcp => format!("bring back DHCP and TFTP of network `{}`", lab.name),
            Self::StartBootServer => format!("start boot server at {}", lab.boot_url()),
            Self::StopBootServer => "stop boot server".to_owned(),
            Self::DeletePool => format!("delete storage pool `{}`", lab.pool_name()),
            Self::RemoveNetwork => format!("remove network `{}`", lab.name),
            Self::RemoveState => "remove configs and logs".to_owned(),
            Self::ReleaseKsm => "give up kernel samepage merging".to_owned(),
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
            Self::Start => format!("start domain `{domain}` paused"),
            Self::Resume => format!("resume domain `{domain}`"),
            Self::Stop => format!("destroy domain `{domain}`"),
            Self::Undefine => format!("undefine domain `{domain}`"),
        }
    }
}

/// What must be done to get from `observed` to `goal`, in order.
///
/// An object that carries our mark is made first and removed last, so that a run that was killed
/// anywhere leaves something that leads to all the rest.
pub fn plan(lab: &Lab, goal: Goal, observed: &Observed) -> Vec<Step> {
    match goal {
        Goal::Up => plan_up(lab, lab.spec.nodes, observed),
        Goal::Grown(nodes) => plan_up(lab, nodes.min(lab.spec.nodes), observed),
        Goal::Gone => plan_gone(observed),
    }
}

fn plan_up(lab: &Lab, running: u32, observed: &Observed) -> Vec<Step> {
    let managed = matches!(lab.spec.network, Network::Managed(_));
    let mut steps = Vec::new();
    let mut add = |needed: bool, step: Step| {
        if needed {
            steps.push(step);
        }
    };
    let state = |index: u32| observed.domains.get(&index);
    let nodes = || 1..=lab.spec.nodes;

    // Before anything is made, since it may not be permitted.
    add(lab.spec.ksm && !observed.ksm, LabStep::ClaimKsm.into());
    add(managed && observed.network.is_none(), LabStep::DefineNetwork.into());
    // Without a network of ours the domains are what leads to the pool.
    nodes().for_each(|index| add(!managed && state(index).is_none(), NodeStep::Define.of(index)));
    add(observed.pool != Some(Activity::Active), LabStep::MakePool.into());
    add(managed && !observed.boot_files, LabStep::UploadBootFiles.into());
    add(managed && observed.network != Some(Activity::Active), LabStep::StartNetwork.into());
    let is_mute = observed.network == Some(Activity::Active) && !observed.dhcp;
    add(managed && is_mute, LabStep::RestoreDhcp.into());
    add(!observed.boot_server, LabStep::StartBootServer.into());
    nodes().for_each(|index| add(managed && state(index).is_none(), NodeStep::Define.of(index)));
    (1..=running).for_each(|index| {
        add(matches!(state(index), None | Some(DomainState::Off)), NodeStep::Start.of(index));
    });
    (1..=running).for_each(|index| {
        add(state(index) != Some(&DomainState::Running), NodeStep::Resume.of(index));
    });
    steps
}

fn plan_gone(observed: &Observed) -> Vec<Step> {
    let mut steps = Vec::new();
    if observed.boot_server {
        steps.push(LabStep::StopBootServer.into());
    }
    let active = observed.domains.iter().filter(|(_, state)| **state != DomainState::Off);
    steps.extend(active.map(|(index, _)| NodeStep::Stop.of(*index)));
    if observed.pool.is_some() {
        steps.push(LabStep::DeletePool.into());
    }
    steps.extend(observed.domains.keys().map(|index| NodeStep::Undefine.of(*index)));
    if observed.network.is_some() {
        steps.push(LabStep::RemoveNetwork.into());
    }
    if observed.state {
        steps.push(LabStep::RemoveState.into());
    }
    if observed.ksm {
        steps.push(LabStep::ReleaseKsm.into());
    }
    steps
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::lab::tests::lab;

    fn complete(nodes: u32) -> Observed {
        Observed {
            network: Some(Activity::Active),
            dhcp: true,
            pool: Some(Activity::Active),
            boot_files: true,
            boot_server: true,
            domains: (1..=nodes).map(|index| (index, DomainState::Running)).collect(),
            state: true,
            ksm: false,
        }
    }

    #[test]
    fn a_lab_is_made_from_nothing_in_order() {
        assert_eq!(
            plan(&lab(2), Goal::Up, &Observed::default()),
            [
                LabStep::DefineNetwork.into(),
                LabStep::MakePool.into(),
                LabStep::UploadBootFiles.into(),
                LabStep::StartNetwork.into(),
                LabStep::StartBootServer.into(),
                NodeStep::Define.of(1),
                NodeStep::Define.of(2),
                NodeStep::Start.of(1),
                NodeStep::Start.of(2),
                NodeStep::Resume.of(1),
                NodeStep::Resume.of(2),
            ]
        );
    }

    #[test]
    fn on_a_bridge_nothing_but_domains_pool_and_boot_server_is_made() {
        let mut lab = lab(1);
        lab.spec.network = Network::Bridge("br0".to_owned());
        assert_eq!(
            plan(&lab, Goal::Up, &Observed::default()),
            [
                NodeStep::Define.of(1),
                LabStep::MakePool.into(),
                LabStep::StartBootServer.into(),
                NodeStep::Start.of(1),
                NodeStep::Resume.of(1),
            ]
        );
    }

    #[test]
    fn a_network_that_lost_its_server_gets_it_back_and_nothing_else_is_done() {
        let mute = Observed { dhcp: false, ..complete(2) };
        assert_eq!(plan(&lab(2), Goal::Up, &mute), [LabStep::RestoreDhcp.into()]);
        let inactive = Observed { network: Some(Activity::Inactive), ..mute };
        assert_eq!(plan(&lab(2), Goal::Up, &inactive), [LabStep::StartNetwork.into()]);
    }

    #[test]
    fn what_leads_to_something_waits_for_it_to_be_gone() {
        let steps = plan(&lab(2), Goal::Gone, &complete(2));
        let left = |failed: Step| -> Vec<Step> {
            steps.iter().copied().filter(|step| step.waits_for(failed)).collect()
        };
        let marks = [
            NodeStep::Undefine.of(1),
            NodeStep::Undefine.of(2),
            LabStep::RemoveNetwork.into(),
            LabStep::RemoveState.into(),
        ];
        for failed in [LabStep::StopBootServer.into(), NodeStep::Stop.of(1)] {
            let pool = Step::from(LabStep::DeletePool);
            assert_eq!(left(failed), [&[pool], &marks[..]].concat(), "{failed:?}");
        }
        assert_eq!(left(LabStep::DeletePool.into()), marks);
        assert_eq!(left(NodeStep::Undefine.of(2)), marks[2..]);
        assert_eq!(left(LabStep::RemoveNetwork.into()), marks[3..]);
    }

    #[test]
    fn a_complete_lab_needs_nothing_and_no_lab_needs_no_removal() {
        assert_eq!(plan(&lab(3), Goal::Up, &complete(3)), []);
        assert_eq!(plan(&lab(3), Goal::Gone, &Observed::default()), []);
    }

    #[test]
    fn a_half_made_lab_is_completed() {
        let mut observed = complete(3);
        observed.boot_server = false;
        observed.domains.insert(1, DomainState::Off);
        observed.domains.insert(2, DomainState::Paused);
        observed.domains.remove(&3);
        assert_eq!(
            plan(&lab(3), Goal::Up, &observed),
            [
                LabStep::StartBootServer.into(),
                NodeStep::Define.of(3),
                NodeStep::Start.of(1),
                NodeStep::Start.of(3),
                NodeStep::Resume.of(1),
                NodeStep::Resume.of(2),
                NodeStep::Resume.of(3),
            ]
        );
    }

    #[test]
    fn removal_ends_with_what_leads_to_the_rest() {
        assert_eq!(
            plan(&lab(1), Goal::Gone, &complete(1)),
            [
                LabStep::StopBootServer.into(),
                NodeStep::Stop.of(1),
                LabStep::DeletePool.into(),
                NodeStep::Undefine.of(1),
                LabStep::RemoveNetwork.into(),
                LabStep::RemoveState.into(),
            ]
        );
    }

    #[test]
    fn merging_comes_before_everything_and_is_given_up_last() {
        let mut lab = lab(1);
        lab.spec.ksm = true;
        let first = plan(&lab, Goal::Up, &Observed::default())[0];
        assert_eq!(first, LabStep::ClaimKsm.into());
        let claimed = Observed { ksm: true, ..complete(1) };
        assert_eq!(plan(&lab, Goal::Up, &claimed), []);
        assert_eq!(plan(&lab, Goal::Up, &complete(1)), [LabStep::ClaimKsm.into()]);
        let gone = plan(&lab, Goal::Gone, &claimed);
        assert_eq!(
            gone[gone.len() - 2..],
            [LabStep::RemoveState.into(), LabStep::ReleaseKsm.into()]
        );
    }

    #[test]
    fn a_lab_that_grows_is_all_defined_and_partly_started() {
        let mut observed = complete(1);
        assert_eq!(
            plan(&lab(3), Goal::Grown(2), &observed),
            [
                NodeStep::Define.of(2),
                NodeStep::Define.of(3),
                NodeStep::Start.of(2),
                NodeStep::Resume.of(2)
            ]
        );
        observed.domains.insert(2, DomainState::Running);
        observed.domains.insert(3, DomainState::Off);
        assert_eq!(plan(&lab(3), Goal::Grown(2), &observed), []);
        assert_eq!(plan(&lab(3), Goal::Grown(9), &observed), plan(&lab(3), Goal::Up, &observed));
    }

    #[test]
    fn every_subset_of_a_lab_is_completed_and_removed() {
        for bits in 0_u32..256 {
            let has = |bit: u32| bits & (1 << bit) != 0;
            let activity = |there: bool, active: bool| {
                there.then_some(if active { Activity::Active } else { Activity::Inactive })
            };
            let mut observed = Observed {
                network: activity(has(0), has(1)),
                dhcp: has(7),
                pool: activity(has(2), has(3)),
                boot_files: has(2) && has(4),
                boot_server: has(5),
                domains: BTreeMap::new(),
                state: has(6),
                ksm: false,
            };
            for (index, state) in [(1, DomainState::Off), (2, DomainState::Paused)] {
                if has(index + 2) {
                    observed.domains.insert(index, state);
                }
            }
            let up = plan(&lab(2), Goal::Up, &observed);
            assert_eq!(
                up.contains(&LabStep::StartNetwork.into()),
                observed.network != Some(Activity::Active)
            );
            assert_eq!(
                up.iter().filter(|step| matches!(step, Step::Node(_, NodeStep::Resume))).count(),
                2
            );
            let gone = plan(&lab(2), Goal::Gone, &observed);
            assert_eq!(gone.contains(&LabStep::RemoveNetwork.into()), observed.network.is_some());
            assert_eq!(gone.contains(&LabStep::DeletePool.into()), observed.pool.is_some());
            let undefined =
                gone.iter().filter(|step| matches!(step, Step::Node(_, NodeStep::Undefine)));
            assert_eq!(undefined.count(), observed.domains.len());
        }
    }
}
