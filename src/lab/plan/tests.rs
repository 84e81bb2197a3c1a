use super::*;
use crate::lab::tests::lab;

pub(crate) fn complete(nodes: u32) -> Observed {
    Observed {
        network: Some(Activity::Active),
        dhcp: true,
        pool: Some(Activity::Active),
        boot_files: true,
        boot_server: true,
        domains: (1..=nodes).map(|index| (index, DomainState::Running)).collect(),
        marks: marks(1, nodes),
        in_force: BTreeMap::new(),
        changed: Changed::default(),
        reserved: Some(253),
        configs: true,
        state: true,
        autostart: Autostart { network: true, pool: true, nodes: BTreeSet::new() },
        server_unit: ServerUnit::Unavailable,
        ksm: false,
    }
}

/// The marks of a whole lab, all of this generation.
fn marks(generation: u32, nodes: u32) -> Marks {
    let mark = DomainMark { generation, desired: Power::On.into() };
    Marks { network: Some(generation), nodes: (1..=nodes).map(|index| (index, mark)).collect() }
}

fn said(lab: &Lab, goal: Goal, observed: &Observed) -> Vec<String> {
    plan(lab, goal, observed).into_iter().map(|step| step.describe(lab)).collect()
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
            LabStep::WriteConfigs.into(),
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
            LabStep::WriteConfigs.into(),
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
    assert_eq!(gone[gone.len() - 2..], [LabStep::RemoveState.into(), LabStep::ReleaseKsm.into()]);
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
    observed.marks = marks(1, 3);
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
            ..Observed::default()
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

#[test]
fn every_mark_that_is_older_is_brought_up_to_date_and_no_other() {
    let lab = lab(3).with_nodes(3).unwrap();
    for bits in 0_u32..16 {
        let is_old = |object: u32| bits & (1 << object) != 0;
        let generation = |object: u32| if is_old(object) { 1 } else { 2 };
        let mut observed = complete(3);
        observed.marks.network = Some(generation(0));
        for (index, mark) in &mut observed.marks.nodes {
            mark.generation = generation(*index);
        }
        let network = is_old(0).then_some(Step::Lab(LabStep::MarkNetwork));
        let nodes = (1..=3)
            .filter(|index| is_old(*index))
            .map(|index| NodeStep::Mark(Power::On.into()).of(index));
        let expected: Vec<Step> = network.into_iter().chain(nodes).collect();
        assert_eq!(plan(&lab, Goal::Up, &observed), expected, "{bits:04b}");
    }
}

#[test]
fn a_lab_that_gets_more_nodes_changes_its_marks_first_and_no_network() {
    let lab = lab(1).with_nodes(3).unwrap();
    let observed = Observed { configs: false, boot_files: false, ..complete(1) };
    assert_eq!(
        said(&lab, Goal::Up, &observed),
        [
            "bring the mark of network `demo` up to date",
            "bring the mark of domain `demo-1` up to date",
            "upload boot files to `virtlab-demo`",
            "stop boot server",
            "write configs",
            "start boot server at http://192.168.150.1:8470",
            "define domain `demo-2`",
            "define domain `demo-3`",
            "start domain `demo-2` paused",
            "start domain `demo-3` paused",
            "resume domain `demo-2`",
            "resume domain `demo-3`",
        ]
    );
    // A network of virtlab 0.1 has an address for each node that there was, and no more.
    let of_today = Observed { reserved: Some(1), ..complete(1) };
    assert_eq!(
        said(&lab, Goal::Up, &of_today)[2],
        "reserve addresses for 3 nodes in network `demo`"
    );
}

#[test]
fn a_lab_that_gets_fewer_nodes_loses_the_last_ones_whenever_it_is_killed() {
    let mut lab = lab(3).with_nodes(1).unwrap();
    lab.spec.hardware.disk = Some("1GiB".parse().unwrap());
    let rest = [
        "take `demo-3` out of its etcd cluster",
        "take `demo-2` out of its etcd cluster",
        "shut down domain `demo-3`",
        "shut down domain `demo-2`",
        "delete disk and console log of `demo-3`",
        "delete disk and console log of `demo-2`",
        "undefine domain `demo-3`",
        "undefine domain `demo-2`",
    ];
    let steps = said(&lab, Goal::Up, &complete(3));
    let marks = [
        "bring the mark of network `demo` up to date",
        "bring the mark of domain `demo-1` up to date",
    ];
    assert_eq!(steps, [&marks[..], &rest].concat());
    // Killed right after the first mark.
    let mut observed = complete(3);
    observed.marks.network = Some(2);
    assert_eq!(said(&lab, Goal::Up, &observed)[1..], rest);
}

#[test]
fn a_node_has_the_power_that_its_mark_says() {
    let lab = lab(3);
    let stop = |how| Goal::Stopped(BTreeSet::from([2]), how);
    let mut observed = complete(3);
    let marked = "bring the mark of domain `demo-2` up to date: it is to be off";
    for (how, step) in [
        (PowerOff::Shutdown, "shut down domain `demo-2`"),
        (PowerOff::Plug, "destroy domain `demo-2`"),
    ] {
        assert_eq!(said(&lab, stop(how), &observed), [marked, step]);
    }
    // Killed in between, or done.
    observed.marks.nodes.get_mut(&2).unwrap().desired.power = Power::Off;
    assert_eq!(said(&lab, Goal::Up, &observed), ["shut down domain `demo-2`"]);
    observed.domains.insert(2, DomainState::Off);
    assert_eq!(said(&lab, Goal::Up, &observed), Vec::<String>::new());
    assert_eq!(said(&lab, stop(PowerOff::Shutdown), &observed), Vec::<String>::new());
    assert_eq!(
        said(&lab, Goal::Started(BTreeSet::from([2])), &observed),
        [
            "bring the mark of domain `demo-2` up to date",
            "start domain `demo-2` paused",
            "resume domain `demo-2`",
        ]
    );
    // A change of the specification leaves it off.
    let grown = lab.with_nodes(3).unwrap();
    assert_eq!(said(&grown, Goal::Up, &observed)[2], marked);
}

#[test]
fn a_node_that_is_to_be_off_may_stop_whatever_has_become_of_the_lab() {
    let mut observed = complete(2);
    observed.network = Some(Activity::Inactive);
    (observed.pool, observed.boot_server, observed.configs) = (None, false, false);
    let stop = Goal::Stopped(BTreeSet::from([1]), PowerOff::Shutdown);
    assert_eq!(
        said(&lab(2), stop, &observed),
        [
            "bring the mark of domain `demo-1` up to date: it is to be off",
            "shut down domain `demo-1`",
        ]
    );
}

#[test]
fn starting_a_node_brings_back_what_it_needs_and_leaves_the_other_nodes_alone() {
    let mut observed = complete(3);
    observed.boot_server = false;
    for index in [1, 2, 3] {
        observed.domains.insert(index, DomainState::Off);
    }
    observed.marks.nodes.get_mut(&3).unwrap().desired.power = Power::Off;
    let start =
        |nodes: &[u32]| said(&lab(3), Goal::Started(nodes.iter().copied().collect()), &observed);
    let server = "start boot server at http://192.168.150.1:8470";
    assert_eq!(start(&[2]), [server, "start domain `demo-2` paused", "resume domain `demo-2`"]);
    assert_eq!(
        start(&[1, 3]),
        [
            "bring the mark of domain `demo-3` up to date",
            server,
            "start domain `demo-1` paused",
            "start domain `demo-3` paused",
            "resume domain `demo-1`",
            "resume domain `demo-3`",
        ]
    );
}

#[test]
fn a_restart_stops_what_runs_when_everything_is_there_to_start_it_again() {
    let mut observed = complete(3);
    observed.boot_server = false;
    observed.domains.insert(1, DomainState::Off);
    observed.marks.nodes.get_mut(&1).unwrap().desired.power = Power::Off;
    let nodes = BTreeSet::from([1, 2]);
    let expected = [
        "bring the mark of domain `demo-1` up to date",
        "start boot server at http://192.168.150.1:8470",
        "shut down domain `demo-2`",
        "start domain `demo-1` paused",
        "start domain `demo-2` paused",
        "resume domain `demo-1`",
        "resume domain `demo-2`",
    ];
    let restart = Goal::Restarted(nodes, PowerOff::Shutdown);
    assert_eq!(said(&lab(3), restart, &observed), expected);
    // Killed while the node was off.
    let mut killed = complete(3);
    killed.domains.insert(2, DomainState::Off);
    let expected = ["start domain `demo-2` paused", "resume domain `demo-2`"];
    assert_eq!(said(&lab(3), Goal::Up, &killed), expected);
}

#[test]
fn a_node_that_is_paused_stays_so_until_it_is_resumed_or_started() {
    let lab = lab(3);
    let mut observed = complete(3);
    observed.domains.insert(3, DomainState::Off);
    let all = || BTreeSet::from([2, 3]);
    let marked = "bring the mark of domain `demo-2` up to date: it is to be paused";
    let suspend = "suspend domain `demo-2`";
    assert_eq!(said(&lab, Goal::Paused(all()), &observed), [marked, suspend]);
    // Killed in between, or done.
    observed.marks.nodes.get_mut(&2).unwrap().desired.power = Power::Paused;
    observed.marks.nodes.get_mut(&3).unwrap().desired.power = Power::Off;
    assert_eq!(said(&lab, Goal::Up, &observed), [suspend]);
    observed.domains.insert(2, DomainState::Paused);
    for goal in [Goal::Up, Goal::Paused(all())] {
        assert_eq!(said(&lab, goal, &observed), Vec::<String>::new());
    }
    let resumed = ["bring the mark of domain `demo-2` up to date", "resume domain `demo-2`"];
    assert_eq!(said(&lab, Goal::Resumed(all()), &observed), resumed);
    assert_eq!(said(&lab, Goal::Started(BTreeSet::from([2])), &observed), resumed);
    // The host was off: it waits for `resume` before its firmware begins.
    observed.domains.insert(2, DomainState::Off);
    assert_eq!(said(&lab, Goal::Up, &observed), ["start domain `demo-2` paused"]);
}

#[test]
fn what_somebody_edited_is_defined_again_and_what_runs_goes_on() {
    let nodes = BTreeSet::from([1, 2, 4]);
    let changed = Changed { network: true, pool: true, nodes };
    let mut observed = Observed { changed, ..complete(3) };
    observed.marks.nodes.get_mut(&2).unwrap().desired.power = Power::Off;
    observed.domains.insert(2, DomainState::Off);
    let expected = [
        LabStep::RedefineNetwork.into(),
        NodeStep::Redefine(Power::On.into()).of(1),
        NodeStep::Redefine(Power::Off.into()).of(2),
        LabStep::MakePool.into(),
    ];
    assert_eq!(plan(&lab(3), Goal::Up, &observed), expected);
    // Before it is started again it is as it should be.
    observed.network = Some(Activity::Inactive);
    observed.domains.insert(1, DomainState::Off);
    let steps = plan(&lab(3), Goal::Up, &observed);
    let place = |step: Step| steps.iter().position(|it| *it == step).unwrap();
    assert!(place(LabStep::RedefineNetwork.into()) < place(LabStep::StartNetwork.into()));
    assert!(place(NodeStep::Redefine(Power::On.into()).of(1)) < place(NodeStep::Start.of(1)));
}

#[test]
fn a_lab_that_comes_back_with_the_host_is_made_so_before_it_runs() {
    let lab = lab(2).with_autostart(true);
    let nothing = Observed { server_unit: ServerUnit::Disabled, ..Observed::default() };
    let steps = said(&lab, Goal::Up, &nothing);
    assert_eq!(
        steps[5..],
        [
            "let systemd start the boot server with the host",
            "start boot server at http://192.168.150.1:8470",
            "define domain `demo-1`",
            "define domain `demo-2`",
            "let domain `demo-1` start with the host",
            "let domain `demo-2` start with the host",
            "start domain `demo-1` paused",
            "start domain `demo-2` paused",
            "resume domain `demo-1`",
            "resume domain `demo-2`",
        ]
    );
    // Without systemd libvirt does its part.
    let alone = said(&lab, Goal::Up, &Observed::default());
    assert_eq!([&steps[..5], &steps[6..]].concat(), alone);
}

/// A lab of two nodes that comes back with the host.
fn that_comes_back() -> (Lab, Observed) {
    let nodes = BTreeSet::from([1, 2]);
    let autostart = Autostart { network: true, pool: true, nodes };
    let (marks, server_unit) = (marks(2, 2), ServerUnit::Enabled);
    (lab(2).with_autostart(true), Observed { marks, autostart, server_unit, ..complete(2) })
}

#[test]
fn what_does_not_come_back_with_the_host_and_is_to_is_made_so() {
    let (lab, whole) = that_comes_back();
    let goals = [Goal::Up, Goal::Autostart];
    let steps = |change: fn(&mut Observed)| {
        let mut observed = whole.clone();
        change(&mut observed);
        let [up, autostart] = goals.clone().map(|goal| said(&lab, goal, &observed));
        assert_eq!(up, autostart);
        up
    };
    assert_eq!(steps(|_| {}), Vec::<String>::new());
    let both = "let network and pool of lab `demo` start with the host";
    assert_eq!(steps(|it| it.autostart.network = false), [both]);
    assert_eq!(steps(|it| it.autostart.pool = false), [both]);
    let domain = "let domain `demo-2` start with the host";
    assert_eq!(steps(|it| it.autostart.nodes = BTreeSet::from([1])), [domain]);
    let server = "let systemd start the boot server with the host";
    assert_eq!(steps(|it| it.server_unit = ServerUnit::Disabled), [server]);
    assert_eq!(steps(|it| it.server_unit = ServerUnit::Unavailable), Vec::<String>::new());
}

#[test]
fn a_lab_comes_back_or_not_from_now_on_whenever_it_is_killed() {
    let (on, whole) = that_comes_back();
    let off = on.with_autostart(false);
    let steps = [
        "bring the mark of network `demo` up to date",
        "bring the mark of domain `demo-1` up to date",
        "bring the mark of domain `demo-2` up to date",
        "bring the mark of the configs up to date",
        "let systemd start the boot server no more",
        "let domain `demo-1` start with the host no more",
        "let domain `demo-2` start with the host no more",
    ];
    assert_eq!(said(&off, Goal::Autostart, &whole), steps);
    // Killed after the first mark, and the next run is `create`.
    let mut observed = Observed { configs: false, ..whole.clone() };
    observed.marks.network = Some(3);
    let up = said(&off, Goal::Up, &observed);
    assert_eq!(up[..2], steps[1..3]);
    assert_eq!(
        up[2..],
        [
            "stop boot server",
            "write configs",
            steps[4],
            "start boot server at http://192.168.150.1:8470",
            steps[5],
            steps[6]
        ]
    );
    let done = Observed {
        marks: marks(3, 2),
        autostart: Autostart { nodes: BTreeSet::new(), ..whole.autostart.clone() },
        server_unit: ServerUnit::Unavailable,
        ..whole
    };
    assert_eq!(said(&off, Goal::Autostart, &done), Vec::<String>::new());
    assert_eq!(said(&off, Goal::Up, &done), Vec::<String>::new());
    assert_eq!(off.with_autostart(false), off);
}

#[test]
fn nothing_is_made_or_started_to_come_back() {
    let lab = lab(3).with_autostart(true);
    let mut observed = Observed {
        network: Some(Activity::Inactive),
        pool: None,
        boot_server: false,
        configs: false,
        server_unit: ServerUnit::Disabled,
        marks: marks(2, 3),
        ..complete(3)
    };
    observed.domains.insert(1, DomainState::Off);
    observed.domains.remove(&3);
    assert_eq!(
        said(&lab, Goal::Autostart, &observed),
        [
            "let systemd start the boot server with the host",
            "let domain `demo-1` start with the host",
            "let domain `demo-2` start with the host",
        ]
    );
}

#[test]
fn a_node_that_is_to_be_off_does_not_come_back() {
    let (lab, mut observed) = that_comes_back();
    let second = BTreeSet::from([2]);
    assert_eq!(
        said(&lab, Goal::Stopped(second.clone(), PowerOff::Plug), &observed),
        [
            "bring the mark of domain `demo-2` up to date: it is to be off",
            "let domain `demo-2` start with the host no more",
            "destroy domain `demo-2`",
        ]
    );
    observed.marks.nodes.get_mut(&2).unwrap().desired.power = Power::Off;
    observed.domains.insert(2, DomainState::Off);
    observed.autostart.nodes.remove(&2);
    assert_eq!(said(&lab, Goal::Up, &observed), Vec::<String>::new());
    assert_eq!(
        said(&lab, Goal::Started(second), &observed),
        [
            "bring the mark of domain `demo-2` up to date",
            "let domain `demo-2` start with the host",
            "start domain `demo-2` paused",
            "resume domain `demo-2`",
        ]
    );
}

#[test]
fn a_lab_that_is_gone_comes_back_no_more() {
    let (lab, whole) = that_comes_back();
    let steps = said(&lab, Goal::Gone, &whole);
    assert_eq!(steps[..2], ["stop boot server", "let systemd start the boot server no more"]);
    // systemd may be about to start it.
    let starting = Observed { boot_server: false, ..whole };
    assert_eq!(said(&lab, Goal::Gone, &starting), steps);
}

#[test]
fn a_snapshot_stops_all_nodes_before_it_saves_one_and_leaves_each_as_it_is_wanted() {
    let mut observed = complete(4);
    observed.domains.insert(2, DomainState::Off);
    observed.domains.insert(3, DomainState::Paused);
    // Left so by a run that was killed.
    observed.domains.insert(4, DomainState::Paused);
    for (index, power) in [(2, Power::Off), (3, Power::Paused)] {
        observed.marks.nodes.insert(index, DomainMark { generation: 1, desired: power.into() });
    }
    assert_eq!(
        plan(&lab(4), Goal::Saved, &observed),
        [
            NodeStep::Suspend.of(1),
            NodeStep::SaveMemory.of(1),
            NodeStep::SaveMemory.of(3),
            NodeStep::SaveMemory.of(4),
            NodeStep::Resume.of(1),
            NodeStep::Resume.of(4),
            LabStep::WriteManifest.into(),
        ]
    );
}

#[test]
fn a_restored_lab_runs_together_and_has_the_power_of_that_time() {
    let powers = BTreeMap::from([(1, Power::On), (2, Power::Off), (3, Power::Paused)]);
    let mut observed = complete(3);
    let restored = [
        NodeStep::RestoreMemory(Power::On).of(1),
        NodeStep::RestoreMemory(Power::Paused).of(3),
        NodeStep::Resume.of(1),
    ];
    let before = [
        NodeStep::Mark(Power::Off.into()).of(2),
        NodeStep::Mark(Power::Paused.into()).of(3),
        NodeStep::Stop.of(1),
        NodeStep::Stop.of(2),
        NodeStep::Stop.of(3),
    ];
    assert_eq!(
        plan(&lab(3), Goal::Restored(powers.clone()), &observed),
        [&before[..], &restored].concat()
    );
    // A run that was killed has stopped them, and has written the marks before.
    observed.domains.values_mut().for_each(|state| *state = DomainState::Off);
    for (index, power) in &powers {
        observed.marks.nodes.insert(*index, DomainMark { generation: 1, desired: (*power).into() });
    }
    assert_eq!(plan(&lab(3), Goal::Restored(powers), &observed), restored);
}
