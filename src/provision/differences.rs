//! Where a lab is not as it is wanted, in words: what `create` would put right, and what runs on otherwise.

use serde::Serialize;

use super::drift::{Differences, Drift};
use crate::hypervisor::Found;
use crate::lab::fault::Limit;
use crate::lab::plan::{self, Activity, DomainState, Goal, LabStep, NodeStep, Observed, Step};
use crate::lab::{Lab, Network};

/// One thing that is not as it is wanted.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(crate) struct Difference {
    pub(crate) object: Object,
    /// The object's name; that of the lab where it has none of its own.
    pub(crate) name: String,
    /// What is the matter with it.
    pub(crate) what: &'static str,
    /// What was rendered and what libvirt has, as a unified diff.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) diff: Option<String>,
}

/// What can be otherwise.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Object {
    Network,
    StoragePool,
    Domain,
    BootServer,
    Configs,
    Ksm,
}

impl Difference {
    fn new(object: Object, name: impl Into<String>, what: &'static str) -> Self {
        Self { object, name: name.into(), what, diff: None }
    }

    fn with(self, diff: Option<&String>) -> Self {
        Self { diff: diff.cloned(), ..self }
    }

    /// A line for people.
    pub(crate) fn line(&self) -> String {
        let Self { name, what, .. } = self;
        match self.object {
            Object::Network => format!("network `{name}` {what}"),
            Object::StoragePool => format!("storage pool `{name}` {what}"),
            Object::Domain => format!("domain `{name}` {what}"),
            Object::BootServer => format!("the boot server {what}"),
            Object::Configs => format!("the configs {what}"),
            Object::Ksm => format!("kernel samepage merging {what}"),
        }
    }
}

/// All of it: what each step of the plan is for, and what goes on otherwise until it is started anew.
pub(crate) fn differences(lab: &Lab, observed: &Observed, drift: &Drift) -> Vec<Difference> {
    let steps = plan::plan(lab, Goal::Up, observed);
    let mut all: Vec<Difference> = Vec::new();
    for step in steps {
        let found = match step {
            Step::Lab(step) => of_lab(lab, step, observed, drift),
            Step::Node(index, step) => of_node(lab, index, step, observed, drift),
        };
        all.extend(found);
    }
    all.extend(outdated(lab, drift));
    all
}

/// What can be seen without the image and the configs.
pub(crate) fn of_definitions(found: &Found, drift: &Drift) -> Vec<Difference> {
    let lab = &found.lab;
    let observed = Observed {
        network: found.network,
        pool: found.pool,
        changed: drift.changed(),
        domains: found.domains.clone(),
        marks: found.marks.clone(),
        ..Observed::default()
    };
    let managed = matches!(lab.spec.network, Network::Managed(_));
    let lab_steps = [
        (managed && found.network.is_none(), LabStep::DefineNetwork),
        (observed.changed.network, LabStep::RedefineNetwork),
        (managed && found.network == Some(Activity::Inactive), LabStep::StartNetwork),
        (found.pool != Some(Activity::Active) || observed.changed.pool, LabStep::MakePool),
    ];
    let needed = lab_steps.into_iter().filter(|(needed, _)| *needed);
    let mut all: Vec<Difference> =
        needed.filter_map(|(_, step)| of_lab(lab, step, &observed, drift)).collect();
    let changed = observed.changed.nodes.iter();
    let step = |index: &u32| NodeStep::Redefine(observed.desired(*index));
    all.extend(changed.filter_map(|index| of_node(lab, *index, step(index), &observed, drift)));
    all.extend(outdated(lab, drift));
    all
}

fn of_lab(lab: &Lab, step: LabStep, observed: &Observed, drift: &Drift) -> Option<Difference> {
    let network = |what| Some(Difference::new(Object::Network, lab.name.as_str(), what));
    let pool = |what| Some(Difference::new(Object::StoragePool, lab.pool_name(), what));
    let other = |object, what| Some(Difference::new(object, lab.name.as_str(), what));
    let is_active = observed.pool == Some(Activity::Active);
    match step {
        LabStep::ClaimKsm => other(Object::Ksm, "is not switched on for the lab"),
        LabStep::DefineNetwork => network("is missing"),
        LabStep::RedefineNetwork => network(CHANGED).map(|it| it.with(drift.network.kept.as_ref())),
        LabStep::MakePool if observed.pool.is_none() => pool("is missing"),
        LabStep::MakePool if observed.changed.pool => {
            let Differences { kept, running } = &drift.pool;
            pool(CHANGED).map(|it| it.with(kept.as_ref().or(running.as_ref())))
        }
        LabStep::MakePool => pool("is inactive"),
        // What an inactive pool has is not known.
        LabStep::UploadBootFiles => is_active.then(|| pool("lacks boot files")).flatten(),
        LabStep::MarkNetwork => network("has the mark of an earlier specification"),
        LabStep::ReserveAddresses => network("has no address reserved for some nodes"),
        LabStep::Autostart => network("or its storage pool is not started with the host"),
        LabStep::EnableBootServer => other(Object::BootServer, "is not started with the host"),
        LabStep::DisableBootServer => {
            other(Object::BootServer, "is started with the host, and is not to be")
        }
        LabStep::StartNetwork => observed.network.and_then(|_| network("is inactive")),
        LabStep::RestoreDhcp => network("has no DHCP and TFTP server any more"),
        LabStep::MarkConfigs => other(Object::Configs, "have the mark of an earlier specification"),
        LabStep::WriteConfigs => {
            other(Object::Configs, "are missing on this computer, or of an earlier specification")
        }
        LabStep::StartBootServer if !observed.boot_server => {
            other(Object::BootServer, "does not run")
        }
        // One that runs is told with the configs; the others take a lab away.
        LabStep::StartBootServer
        | LabStep::StopBootServer
        | LabStep::DeletePool
        | LabStep::RemoveNetwork
        | LabStep::RemoveState
        | LabStep::ReleaseKsm
        | LabStep::WriteManifest => None,
    }
}

fn of_node(
    lab: &Lab,
    index: u32,
    step: NodeStep,
    observed: &Observed,
    drift: &Drift,
) -> Option<Difference> {
    let state = observed.domains.get(&index);
    let domain = |what| Some(Difference::new(Object::Domain, lab.name.node(index), what));
    match step {
        NodeStep::Define => domain("is missing"),
        NodeStep::Redefine(_) => {
            let kept = drift.nodes.get(&index).and_then(|node| node.kept.as_ref());
            domain(CHANGED).map(|it| it.with(kept))
        }
        NodeStep::Mark(_) => domain("has the mark of an earlier specification"),
        NodeStep::Autostart(true) => domain("is not started with the host"),
        NodeStep::Autostart(false) => domain("is started with the host, and is not to be"),
        NodeStep::Start if state == Some(&DomainState::Off) => domain("is off"),
        NodeStep::Resume if state == Some(&DomainState::Paused) => domain("is paused"),
        NodeStep::Suspend => domain("runs, and is to be paused"),
        NodeStep::Shutdown | NodeStep::Stop => domain("runs, and is to be off"),
        NodeStep::CutLink => domain("has a link, and is to be cut off"),
        NodeStep::Part(_) => domain("hears nodes that it is to be kept apart from"),
        NodeStep::RestoreLink => domain("has no link, and is to have one"),
        NodeStep::Limit(Limit::Clock(_)) => domain("has the right time, and is to have another"),
        NodeStep::Limit(_) => domain("has more than a fault is to leave to it"),
        NodeStep::SetFlaws { .. } => domain("gets better packets than a fault is to leave to it"),
        NodeStep::Undefine => domain("is none of the lab's nodes any more"),
        // The steps beside these say it.
        NodeStep::Start
        | NodeStep::Join
        | NodeStep::Unlimit(_)
        | NodeStep::Resume
        | NodeStep::Reset
        | NodeStep::DeleteVolumes
        | NodeStep::LeaveCluster
        | NodeStep::SaveMemory
        | NodeStep::RestoreMemory(_) => None,
    }
}

/// What goes on otherwise than it is defined.
fn outdated(lab: &Lab, drift: &Drift) -> Vec<Difference> {
    let network =
        drift.network.running.as_ref().map(|diff| {
            Difference::new(Object::Network, lab.name.as_str(), OUTDATED).with(Some(diff))
        });
    let node = |(index, differences): (&u32, &Differences)| {
        let diff = differences.running.as_ref()?;
        Some(Difference::new(Object::Domain, lab.name.node(*index), OUTDATED).with(Some(diff)))
    };
    let cut_off = drift.cut_off.iter();
    let cut_off =
        cut_off.map(|index| Difference::new(Object::Domain, lab.name.node(*index), CUT_OFF));
    network.into_iter().chain(drift.nodes.iter().filter_map(node)).chain(cut_off).collect()
}

const CHANGED: &str = "is defined otherwise";
const OUTDATED: &str = "runs otherwise than it is defined, until it is started anew";
const CUT_OFF: &str = "is cut off from its network, until it is started anew";

#[cfg(test)]
mod tests {
    use std::collections::{BTreeMap, BTreeSet};

    use super::*;
    use crate::lab::plan::tests::complete;
    use crate::lab::tests::lab;

    fn lines(observed: &Observed, drift: &Drift) -> Vec<String> {
        differences(&lab(3), observed, drift).iter().map(Difference::line).collect()
    }

    #[test]
    fn a_lab_that_is_up_and_unchanged_has_no_differences() {
        assert_eq!(lines(&complete(3), &Drift::default()), Vec::<String>::new());
    }

    #[test]
    fn everything_that_create_would_put_right_is_told_once() {
        let mut observed = Observed {
            network: Some(Activity::Inactive),
            pool: Some(Activity::Inactive),
            boot_server: false,
            boot_files: false,
            ..complete(3)
        };
        observed.domains = BTreeMap::from([(1, DomainState::Off), (2, DomainState::Paused)]);
        observed.changed.nodes = BTreeSet::from([1]);
        assert_eq!(
            lines(&observed, &Drift::default()),
            [
                "domain `demo-1` is defined otherwise",
                "storage pool `virtlab-demo` is inactive",
                "network `demo` is inactive",
                "the boot server does not run",
                "domain `demo-3` is missing",
                "domain `demo-1` is off",
                "domain `demo-2` is paused",
            ]
        );
    }

    #[test]
    fn whenever_there_is_something_to_do_there_is_something_to_say() {
        for bits in 0_u32..1 << 9 {
            let has = |bit: u32| bits & (1 << bit) != 0;
            let activity = |there: bool, active: bool| {
                there.then_some(if active { Activity::Active } else { Activity::Inactive })
            };
            let mut observed = Observed {
                network: activity(has(0), has(1)),
                pool: activity(has(2), has(3)),
                dhcp: has(4),
                boot_files: has(2) && has(3) && has(5),
                boot_server: has(6),
                configs: has(7),
                ..complete(3)
            };
            if !has(8) {
                observed.domains.insert(2, DomainState::Paused);
            }
            let steps = plan::plan(&lab(3), Goal::Up, &observed);
            let said = differences(&lab(3), &observed, &Drift::default());
            assert_eq!(steps.is_empty(), said.is_empty(), "{bits:b}: {steps:?} {said:?}");
        }
    }

    #[test]
    fn what_runs_otherwise_is_told_with_its_diff() {
        let running = Differences { kept: None, running: Some("-a\n+b\n".to_owned()) };
        let drift = Drift { nodes: BTreeMap::from([(2, running)]), ..Drift::default() };
        let found = differences(&lab(3), &complete(3), &drift);
        assert_eq!(found.len(), 1);
        assert_eq!(found[0].line(), format!("domain `demo-2` {OUTDATED}"));
        assert_eq!(found[0].diff.as_deref(), Some("-a\n+b\n"));
    }
}
