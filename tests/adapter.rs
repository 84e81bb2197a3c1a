//! The hypervisor adapter over libvirt's test driver: a libvirt of each test's own, in this process.
//!
//! The driver cannot start a domain paused, upload a file or tell leases, and every connection to a
//! file is a libvirt of its own; what needs these is tested with real guests.

mod shared;

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, SystemTime};

use anyhow::Result;
use fs_err as fs;
use tempfile::TempDir;
use uuid::Uuid;
use virt::error::ErrorNumber;
use virtlab::hint::hints;
use virtlab::hypervisor::{
    DomainNews, Foreign, Found, Hypervisor, Inventory, LibvirtError, watch_domains,
};
use virtlab::lab::metadata::Power;
use virtlab::lab::plan::{
    self, Activity, Autostart, DomainChange, DomainMark, DomainState, Goal, LabStep, Marks,
    NodeStep, Observed, PowerOff, Step,
};
use virtlab::lab::spec::VirtType;
use virtlab::lab::{Lab, LibvirtVersion};
use virtlab::render::xml;
use virtlab::template::Templates;

#[test]
fn a_lab_is_given_back_with_its_states() {
    let libvirt = Libvirt::new(FOREIGN);
    let lab = lab();
    libvirt.make_all(&lab);
    let inventory = libvirt.observe();
    let found = &inventory.labs[&lab.uuid];
    assert_eq!(found.lab, lab);
    assert_eq!((found.network, found.pool), (Some(Activity::Active), Some(Activity::Active)));
    let states = [(1, DomainState::Running), (2, DomainState::Running), (3, DomainState::Off)];
    assert_eq!(found.domains, BTreeMap::from(states));
    assert_eq!(inventory.labs.len(), 1);
    assert_eq!(inventory.lab(&lab.name).map(|found| &found.lab), Some(&lab));
    assert_foreign(&inventory.foreign);
}

#[test]
fn making_what_is_there_changes_nothing() {
    let libvirt = Libvirt::new("");
    let lab = lab();
    libvirt.make_all(&lab);
    let before = format!("{:?}", libvirt.observe());
    let hypervisor = &libvirt.hypervisor;
    hypervisor.start_network(&lab).unwrap();
    hypervisor.make_pool(&lab).unwrap();
    libvirt.node(1, |connection| Hypervisor::start_domain_paused(connection, &lab, 1)).unwrap();
    libvirt.node(1, |connection| Hypervisor::resume_domain(connection, &lab, 1)).unwrap();
    assert_eq!(format!("{:?}", libvirt.observe()), before);
}

#[test]
fn every_part_of_a_lab_is_taken_down_and_nothing_else() {
    let lab = lab();
    let activities = [None, Some(Activity::Inactive), Some(Activity::Active)];
    let states = [None, Some(DomainState::Off), Some(DomainState::Running)];
    for network in activities {
        for pool in activities {
            for (first, second) in states.iter().flat_map(|a| states.iter().map(move |b| (a, b))) {
                let case = format!("{network:?} {pool:?} {first:?} {second:?}");
                let libvirt = Libvirt::new(FOREIGN);
                libvirt.make_network(&lab, network);
                libvirt.make_pool(&lab, pool);
                libvirt.make_node(&lab, 1, *first);
                libvirt.make_node(&lab, 2, *second);
                // A pool leads nowhere by itself, so it is made after and removed before the rest.
                let orphan = network.is_none() && first.is_none() && second.is_none();
                assert_eq!(libvirt.observe().labs.is_empty(), orphan, "{case}");
                for round in ["first", "second"] {
                    libvirt.take_down(&lab).unwrap_or_else(|e| panic!("{case}, {round}: {e:#}"));
                }
                if orphan {
                    libvirt.hypervisor.delete_pool(&lab).unwrap();
                }
                let inventory = libvirt.observe();
                assert!(inventory.labs.is_empty(), "{case}: {inventory:?}");
                assert_foreign(&inventory.foreign);
            }
        }
    }
}

#[test]
fn what_libvirt_starts_with_the_host_is_given_back() {
    let libvirt = Libvirt::new(FOREIGN);
    let lab = lab().with_autostart(true);
    libvirt.make_network(&lab, Some(Activity::Inactive));
    libvirt.make_node(&lab, 1, Some(DomainState::Off));
    libvirt.make_node(&lab, 2, Some(DomainState::Running));
    let flags = || libvirt.observe().labs[&lab.uuid].autostart.clone();
    assert_eq!(flags(), Autostart::default());
    let found = || observed(&libvirt.observe().labs[&lab.uuid]);
    for step in plan::plan(&lab, Goal::Autostart, &found()) {
        libvirt.apply(&lab, step).unwrap();
    }
    let nodes = BTreeSet::from([1, 2]);
    assert_eq!(flags(), Autostart { network: true, pool: false, nodes });
    assert_eq!(plan::plan(&lab, Goal::Autostart, &found()), []);
    let error = libvirt.apply(&lab, NodeStep::Autostart(true).of(3)).unwrap_err();
    assert_eq!(
        error.to_string(),
        "changing whether domain `demo-3` starts with the host: it is not there any more"
    );
    libvirt.make_pool(&lab, Some(Activity::Active));
    assert!(flags().pool);
    libvirt.apply(&lab, NodeStep::Autostart(false).of(1)).unwrap();
    assert_eq!(flags().nodes, BTreeSet::from([2]));
}

#[test]
fn removing_what_is_gone_is_fine() {
    let libvirt = Libvirt::new(FOREIGN);
    let lab = lab();
    let all = [LabStep::DeletePool.into(), LabStep::RemoveNetwork.into()];
    let all = [&[NodeStep::Stop.of(1), NodeStep::Undefine.of(1)][..], &all].concat();
    for step in all {
        libvirt.apply(&lab, step).unwrap();
    }
    assert_foreign(&libvirt.observe().foreign);
}

#[test]
fn what_is_gone_cannot_be_started() {
    let libvirt = Libvirt::new("");
    let lab = lab();
    let message = |result: Result<()>| format!("{:#}", result.unwrap_err());
    assert_eq!(
        message(libvirt.hypervisor.start_network(&lab)),
        "starting network `demo`: it is not there any more"
    );
    assert_eq!(
        message(libvirt.node(1, |c| Hypervisor::start_domain_paused(c, &lab, 1))),
        "starting domain `demo-1`: it is not there any more"
    );
    assert_eq!(
        message(libvirt.node(1, |c| Hypervisor::resume_domain(c, &lab, 1))),
        "resuming domain `demo-1`: it is not there any more"
    );
}

#[test]
fn what_is_off_is_not_taken_for_what_runs_already() {
    let libvirt = Libvirt::new("");
    let lab = lab();
    libvirt.make_node(&lab, 1, Some(DomainState::Off));
    // As it is left by a libvirtd that was killed while it started the domain.
    libvirt.apply(&lab, NodeStep::Resume.of(1)).unwrap();
    assert_eq!(libvirt.observe().labs[&lab.uuid].domains[&1], DomainState::Running);
}

#[test]
fn nodes_are_paused_and_shut_down_whatever_they_do_and_as_often_as_one_likes() {
    let libvirt = Libvirt::new("");
    let lab = lab();
    libvirt.make_all(&lab);
    let state = |index: u32| libvirt.observe().labs[&lab.uuid].domains[&index];
    for _ in 0..2 {
        libvirt.apply(&lab, NodeStep::Suspend.of(1)).unwrap();
        assert_eq!(state(1), DomainState::Paused);
    }
    // One that is off is not started by it.
    libvirt.apply(&lab, NodeStep::Suspend.of(3)).unwrap();
    for index in [1, 2, 3, 1] {
        libvirt.apply(&lab, NodeStep::Shutdown.of(index)).unwrap();
        assert_eq!(state(index), DomainState::Off);
    }
}

#[test]
fn power_goals_are_reached_whenever_a_run_is_killed() {
    let lab = lab();
    let nodes = || BTreeSet::from([1, 3]);
    let mut points = 0;
    for goal in [
        Goal::Stopped(nodes(), PowerOff::Shutdown),
        Goal::Stopped(nodes(), PowerOff::Plug),
        Goal::Started(nodes()),
        Goal::Restarted(nodes(), PowerOff::Shutdown),
        Goal::Paused(nodes()),
    ] {
        // The run is killed after so many steps.
        for done in 0.. {
            let libvirt = Libvirt::new("");
            libvirt.make_all(&lab);
            let steps = || {
                let inventory = libvirt.observe();
                let found = &inventory.labs[&lab.uuid];
                plan::plan(&lab, goal.clone(), &ready(found))
            };
            let first = steps();
            first.iter().take(done).try_for_each(|step| libvirt.apply(&lab, *step)).unwrap();
            steps().iter().try_for_each(|step| libvirt.apply(&lab, *step)).unwrap();
            let inventory = libvirt.observe();
            let found = &inventory.labs[&lab.uuid];
            let states: Vec<DomainState> = found.domains.values().copied().collect();
            let (on, off, paused) = (DomainState::Running, DomainState::Off, DomainState::Paused);
            let expected = match goal {
                Goal::Stopped(..) => [off, on, off],
                Goal::Paused(..) => [paused, on, off],
                _ => [on, on, on],
            };
            assert_eq!(states, expected, "{goal:?} after {done} of {first:?}");
            // `create` leaves it so; the third node of `make_all` is off, which nobody wants.
            let rest = plan::plan(&lab, Goal::Up, &ready(found));
            let is_undone = matches!(goal, Goal::Paused(_));
            let expected = [NodeStep::Start.of(3), NodeStep::Resume.of(3)];
            assert_eq!(rest, if is_undone { &expected[..] } else { &[] }, "{goal:?} after {done}");
            points += 1;
            if done >= first.len() {
                break;
            }
        }
    }
    // Each goal whole, and killed before each of its steps.
    assert_eq!(points, 20);
}

#[test]
fn a_node_that_runs_keeps_its_mark() {
    let libvirt = Libvirt::new("");
    let lab = lab();
    libvirt.make_node(&lab, 1, Some(DomainState::Running));
    let error = libvirt.apply(&lab, NodeStep::Undefine.of(1)).unwrap_err();
    assert_eq!(error.to_string(), "undefining domain `demo-1`: it still runs");
    let domains = &libvirt.observe().labs[&lab.uuid].domains;
    assert_eq!(domains, &BTreeMap::from([(1, DomainState::Running)]));
}

#[test]
fn a_domain_without_our_mark_is_left_alone_whatever_its_name() {
    let libvirt = Libvirt::new(
        "<domain type='test'><name>demo-1</name><memory>65536</memory>\
         <os><type>hvm</type></os></domain>",
    );
    let lab = lab();
    let refusal = "domain `demo-1` does not carry the lab's metadata any more; it is left alone";
    for step in [
        NodeStep::Stop.of(1),
        NodeStep::Shutdown.of(1),
        NodeStep::Suspend.of(1),
        NodeStep::Undefine.of(1),
        NodeStep::Start.of(1),
        NodeStep::Resume.of(1),
        NodeStep::Mark(Power::Off.into()).of(1),
    ] {
        assert_eq!(libvirt.apply(&lab, step).unwrap_err().to_string(), refusal, "{step:?}");
    }
    let error = libvirt.apply(&lab, NodeStep::Define.of(1)).unwrap_err();
    assert!(format!("{error:#}").starts_with("defining domain `demo-1`: "), "{error:#}");
    let inventory = libvirt.observe();
    assert!(inventory.labs.is_empty());
    assert_eq!(inventory.foreign.domains, ["demo-1"]);
}

#[test]
fn a_domain_of_another_lab_of_the_same_name_is_left_alone() {
    let libvirt = Libvirt::new("");
    let lab = lab();
    let other = Lab { uuid: Uuid::from_u128(7), ..lab.clone() };
    libvirt.make_node(&other, 1, Some(DomainState::Running));
    assert!(libvirt.apply(&lab, NodeStep::Stop.of(1)).is_err());
    assert!(libvirt.apply(&lab, NodeStep::Undefine.of(1)).is_err());
    assert_eq!(
        libvirt.observe().labs[&other.uuid].domains,
        BTreeMap::from([(1, DomainState::Running)])
    );
}

#[test]
fn a_network_or_pool_without_our_mark_is_left_alone_whatever_its_name() {
    let libvirt = Libvirt::new(
        "<network><name>demo</name><bridge name='virbr7'/></network>\
         <pool type='dir'><name>virtlab-demo</name><target><path>/x</path></target></pool>",
    );
    let lab = lab();
    libvirt.apply(&lab, LabStep::RemoveNetwork).unwrap();
    libvirt.apply(&lab, LabStep::DeletePool).unwrap();
    for step in [LabStep::DefineNetwork, LabStep::MakePool] {
        assert!(libvirt.apply(&lab, step).is_err(), "{step:?}");
    }
    let inventory = libvirt.observe();
    assert_eq!(inventory.foreign.networks, ["demo"]);
    assert_eq!(inventory.foreign.pools, ["virtlab-demo"]);
}

#[test]
fn a_network_that_lost_our_mark_is_left_alone() {
    let lab = lab();
    let network = format!("<network><name>demo</name><uuid>{}</uuid></network>", lab.uuid);
    let libvirt = Libvirt::new(&network);
    assert_eq!(
        libvirt.apply(&lab, LabStep::RemoveNetwork).unwrap_err().to_string(),
        "network `demo` does not carry the lab's metadata any more; it is left alone"
    );
}

#[test]
fn a_domain_has_the_uuid_that_follows_from_lab_and_index_and_one_of_today_keeps_its_own() {
    let lab = lab();
    let old = Uuid::from_u128(9);
    let of_today = domain_xml(&lab, 2).replace(&lab.node(2).uuid.to_string(), &old.to_string());
    let libvirt = Libvirt::new(&of_today);
    for index in [1, 2] {
        // Twice, as two runs at the same time would.
        libvirt.apply(&lab, NodeStep::Define.of(index)).unwrap();
        libvirt.apply(&lab, NodeStep::Define.of(index)).unwrap();
    }
    for (name, uuid) in [("demo-1", lab.node(1).uuid), ("demo-2", old)] {
        let found = |c: &virt::connect::Connect| Ok(c.lookup_domain_by_name(name)?.uuid()?);
        let found = libvirt.hypervisor.in_parallel(&[()], |c, ()| found(c)).remove(0);
        assert_eq!(found.unwrap(), uuid, "{name}");
    }
    assert_eq!(libvirt.observe().labs[&lab.uuid].domains.len(), 2);
}

#[test]
fn whatever_objects_carry_an_older_mark_the_next_run_brings_them_up_to_date() {
    let old = lab();
    let new = old.with_nodes(2).unwrap();
    let steps = [
        Step::Lab(LabStep::MarkNetwork),
        NodeStep::Mark(Power::On.into()).of(1),
        NodeStep::Mark(Power::Off.into()).of(2),
    ];
    // A run that was killed has written some of the marks, in whatever order.
    for bits in 1_u32..8 {
        let libvirt = Libvirt::new("");
        libvirt.make_all(&old);
        libvirt.show_what_is_kept_of_the_network(&old);
        for (bit, step) in steps.into_iter().enumerate() {
            if bits & (1 << bit) != 0 {
                libvirt.apply(&new, step).unwrap();
            }
        }
        let inventory = libvirt.observe();
        let found = &inventory.labs[&old.uuid];
        assert_eq!(found.lab, new, "{bits:03b}");
        assert_eq!(found.domains.len(), 3, "{bits:03b}");
        let repaired = plan::plan(&found.lab, Goal::Up, &ready(found));
        repaired.iter().try_for_each(|step| libvirt.apply(&new, *step)).unwrap();
        let inventory = libvirt.observe();
        let found = &inventory.labs[&old.uuid];
        assert_eq!(plan::plan(&found.lab, Goal::Up, &ready(found)), [], "{bits:03b}");
        let power = if bits & 4 == 0 { Power::On } else { Power::Off };
        let marks = [(1, Power::On), (2, power)];
        let marks = marks
            .map(|(index, power)| (index, DomainMark { generation: 2, desired: power.into() }));
        assert_eq!(found.marks, Marks { network: Some(2), nodes: BTreeMap::from(marks) });
        assert_eq!(inventory.foreign.unreadable, Vec::<String>::new());
    }
}

#[test]
fn addresses_that_a_network_lacks_are_reserved_once() {
    let old = shared::lab("nodes = 2\nsubnet = '192.168.150.0/24'", VirtType::Test);
    let xml = network_xml(&old);
    let only_two: Vec<&str> = xml.lines().filter(|line| !is_reserved_from(3, line)).collect();
    let libvirt = Libvirt::new(&only_two.join("\n"));
    assert_eq!(libvirt.observe().labs[&old.uuid].reserved, Some(2));
    let new = old.with_nodes(5).unwrap();
    for _ in 0..2 {
        libvirt.apply(&new, LabStep::ReserveAddresses).unwrap();
        assert_eq!(libvirt.observe().labs[&old.uuid].reserved, Some(5));
    }
}

#[test]
fn an_object_that_is_defined_again_keeps_who_it_is_and_what_others_say_of_it() {
    let lab = lab();
    let uuid = Uuid::from_u128(9);
    let note = "<other:note xmlns:other='https://example.org'>mine &amp; yours</other:note>";
    let edited = |xml: String| {
        xml.replace("</metadata>", &format!("{note}</metadata>"))
            .replace("1024</memory>", "2048</memory>")
    };
    let domain =
        edited(domain_xml(&lab, 1)).replace(&lab.node(1).uuid.to_string(), &uuid.to_string());
    let network = edited(network_xml(&lab)).replace("localOnly='yes'", "localOnly='no'");
    let libvirt = Libvirt::new(&format!("{domain}{network}"));
    // The driver shows what it keeps of a network only if that does not run.
    let stop = |c: &virt::connect::Connect| Ok(c.lookup_network_by_name("demo")?.destroy()?);
    libvirt.node(0, stop).unwrap();
    libvirt.apply(&lab, NodeStep::Redefine(Power::On.into()).of(1)).unwrap();
    libvirt.apply(&lab, LabStep::RedefineNetwork).unwrap();
    let read = |c: &virt::connect::Connect, (): &()| {
        let domain = c.lookup_domain_by_name("demo-1")?;
        let network = c.lookup_network_by_name("demo")?;
        let kept = virt::sys::VIR_DOMAIN_XML_INACTIVE;
        Ok((domain.uuid()?, domain.xml_desc(kept)?, network.xml_desc(0)?))
    };
    let (has, domain, network) = libvirt.hypervisor.in_parallel(&[()], read).remove(0).unwrap();
    assert_eq!(has, uuid);
    assert!(domain.contains("<memory unit='KiB'>1048576</memory>"), "{domain}");
    for xml in [&domain, &network] {
        assert!(xml.contains("mine &amp; yours</other:note>"), "{xml}");
        assert_eq!(xml.matches("<virtlab:lab ").count(), 1, "{xml}");
    }
    assert!(network.contains("localOnly='yes'"), "{network}");
    let error = libvirt.apply(&lab, NodeStep::Redefine(Power::On.into()).of(2)).unwrap_err();
    assert_eq!(error.to_string(), "defining domain `demo-2`: it is not there any more");
}

/// Whether a line of a network's XML reserves an address for a node from this one on.
fn is_reserved_from(first: u32, line: &str) -> bool {
    let index = line.split_once("name='demo-").and_then(|(_, rest)| rest.split_once('\''));
    line.contains("<host mac")
        && index.is_some_and(|(index, _)| index.parse::<u32>().unwrap() >= first)
}

/// All that is not libvirt's is as it should be.
fn ready(found: &Found) -> Observed {
    let pool = Some(Activity::Active);
    Observed {
        dhcp: true,
        boot_files: true,
        boot_server: true,
        configs: true,
        pool,
        ..observed(found)
    }
}

#[test]
fn a_node_under_another_name_goes_with_its_lab() {
    let libvirt = Libvirt::new("");
    let lab = lab();
    libvirt.make_network(&lab, Some(Activity::Active));
    let renamed = domain_xml(&lab, 1).replace("<name>demo-1</name>", "<name>mine</name>");
    libvirt.node(1, |c| Hypervisor::define_domain(c, &lab, 1, &renamed)).unwrap();
    let inventory = libvirt.observe();
    let found = &inventory.labs[&lab.uuid];
    assert_eq!(found.domains, BTreeMap::from([(1, DomainState::Off)]));
    assert_eq!(found.renamed, BTreeMap::from([(1, "mine".to_owned())]));
    libvirt.take_down(&lab).unwrap();
    let inventory = libvirt.observe();
    assert!(inventory.labs.is_empty() && inventory.foreign.domains.is_empty(), "{inventory:?}");
}

#[test]
fn copies_that_somebody_made_of_our_objects_are_theirs() {
    let libvirt = Libvirt::new("");
    let lab = lab();
    libvirt.make_all(&lab);
    // As virt-clone does it.
    let copy = domain_xml(&lab, 1)
        .replace("<name>demo-1</name>", "<name>demo-1-clone</name>")
        .replace(&lab.node(1).uuid.to_string(), &Uuid::from_u128(5).to_string());
    libvirt.node(1, |c| Hypervisor::define_domain(c, &lab, 1, &copy)).unwrap();
    let inventory = libvirt.observe();
    // The clone is off; the node itself runs.
    assert_eq!(inventory.labs[&lab.uuid].domains[&1], DomainState::Running);
    assert_eq!(inventory.foreign.domains, ["demo-1-clone"]);
    libvirt.take_down(&lab).unwrap();
    assert_eq!(libvirt.observe().foreign.domains, ["demo-1-clone"]);
}

#[test]
fn subnets_are_told_with_their_owner() {
    let libvirt = Libvirt::new(FOREIGN);
    let lab = lab();
    libvirt.make_network(&lab, Some(Activity::Inactive));
    let mut subnets: Vec<String> = libvirt
        .observe()
        .subnets()
        .into_iter()
        .map(|(subnet, owner)| format!("{subnet} {owner}"))
        .collect();
    subnets.sort();
    assert_eq!(
        subnets,
        ["192.168.122.0/24 libvirt network `default`", "192.168.150.0/24 libvirt network `demo`",]
    );
}

#[test]
fn the_connection_is_known() {
    let libvirt = Libvirt::new(FOREIGN);
    let hypervisor = &libvirt.hypervisor;
    assert!(hypervisor.is_local().unwrap());
    assert_eq!(hypervisor.probe_virt_type("x86_64").unwrap().virt_type, VirtType::Test);
    assert_eq!(hypervisor.network_is_active("default").unwrap(), Some(true));
    assert_eq!(hypervisor.network_is_active("none").unwrap(), None);
    let results = hypervisor.in_parallel(&[1, 2, 3, 4], |_, number| Ok(number * number));
    let results: Vec<i32> = results.into_iter().map(Result::unwrap).collect();
    assert_eq!(results, [1, 4, 9, 16]);
}

#[test]
fn what_happens_to_a_domain_is_told_after_what_there_was() {
    let libvirt = Libvirt::shared();
    let lab = lab();
    libvirt.make_node(&lab, 1, Some(DomainState::Running));
    libvirt.make_node(&lab, 2, Some(DomainState::Off));
    let news = watch_domains(Some(SHARED.to_owned()), lab.uuid);
    let next = || news.recv_timeout(Duration::from_secs(20)).unwrap();
    let states = [(1, DomainState::Running), (2, DomainState::Off)];
    assert_eq!(next(), DomainNews::Wanted(BTreeMap::new()));
    assert_eq!(next(), DomainNews::All(BTreeMap::from(states)));

    let started = SystemTime::now();
    libvirt.apply(&lab, NodeStep::Start.of(2)).unwrap();
    libvirt.node(1, |c| Ok(c.lookup_domain_by_name(&lab.name.node(1))?.suspend()?)).unwrap();
    libvirt.apply(&lab, NodeStep::Resume.of(1)).unwrap();
    libvirt.apply(&lab, NodeStep::Stop.of(1)).unwrap();
    for (node, expected) in [
        (2, DomainChange::Started(DomainState::Running)),
        (1, DomainChange::Is(DomainState::Paused)),
        (1, DomainChange::Is(DomainState::Running)),
        (1, DomainChange::Is(DomainState::Off)),
    ] {
        let DomainNews::One { name, change, at } = next() else { panic!("not an event") };
        assert_eq!((name, change), (lab.name.node(node), expected));
        assert!(at >= started && at <= SystemTime::now());
    }

    // That it is wanted off is told before it is, and that it is not wanted any more though it stays as it is.
    libvirt.apply(&lab, NodeStep::Mark(Power::Off.into()).of(2)).unwrap();
    libvirt.apply(&lab, NodeStep::Stop.of(2)).unwrap();
    // Now and then all of them are looked at.
    let next =
        || std::iter::repeat_with(next).find(|it| !matches!(it, DomainNews::All(_))).unwrap();
    assert_eq!(next(), DomainNews::Wanted(BTreeMap::from([(2, Power::Off.into())])));
    let DomainNews::One { name, change, .. } = next() else { panic!("not an event") };
    assert_eq!((name, change), (lab.name.node(2), DomainChange::Is(DomainState::Off)));
    libvirt.apply(&lab, NodeStep::Mark(Power::On.into()).of(2)).unwrap();
    assert_eq!(next(), DomainNews::Wanted(BTreeMap::new()));
    libvirt.take_down(&lab).unwrap();
}

#[test]
fn errors_are_told_apart_by_code() {
    let nobody = Hypervisor::open(Some("qemu+unix:///system?socket=/nonexistent")).unwrap_err();
    let cause = libvirt_error(&nobody);
    assert!(cause.is_any(&[ErrorNumber::SystemError]) && cause.is_from_transport());
    assert!(hints(&nobody)[0].starts_with("libvirt does not run here"), "{:?}", hints(&nobody));

    let libvirt = Libvirt::new("");
    let lab = lab();
    let nonsense = libvirt.node(1, |c| Hypervisor::define_domain(c, &lab, 1, "<domain/>"));
    let nonsense = nonsense.unwrap_err();
    assert!(nonsense.to_string() == "defining domain `demo-1`", "{nonsense:#}");
    assert!(!libvirt_error(&nonsense).is_from_transport());
    assert_eq!(hints(&nonsense), Vec::<String>::new());

    // The driver has no streams.
    libvirt.make_pool(&lab, Some(Activity::Active));
    let unsupported = libvirt.hypervisor.upload(&lab, "boot.ipxe", 3, &b"abc"[..]).unwrap_err();
    assert!(libvirt_error(&unsupported).is_any(&[ErrorNumber::NoSupport]), "{unsupported:#}");
    assert!(hints(&unsupported)[0].contains("qemu:///system"));
}

/// A libvirt that ends with the test.
struct Libvirt {
    hypervisor: Hypervisor,
    _folder: TempDir,
}

impl Libvirt {
    fn new(objects: &str) -> Self {
        let folder = TempDir::new().unwrap();
        let path = folder.path().join("node.xml");
        fs::write(&path, format!("<node>{objects}</node>")).unwrap();
        let hypervisor = Hypervisor::open(Some(&format!("test://{}", path.display()))).unwrap();
        Self { hypervisor, _folder: folder }
    }

    /// One that all connections of this process share.
    fn shared() -> Self {
        let hypervisor = Hypervisor::open(Some(SHARED)).unwrap();
        Self { hypervisor, _folder: TempDir::new().unwrap() }
    }

    fn observe(&self) -> Inventory {
        self.hypervisor.observe().unwrap()
    }

    /// Network, pool, and three nodes, the last of which does not run.
    fn make_all(&self, lab: &Lab) {
        self.make_network(lab, Some(Activity::Active));
        self.make_pool(lab, Some(Activity::Active));
        for (index, state) in
            [(1, DomainState::Running), (2, DomainState::Running), (3, DomainState::Off)]
        {
            self.make_node(lab, index, Some(state));
        }
    }

    fn make_network(&self, lab: &Lab, activity: Option<Activity>) {
        if activity.is_some() {
            self.apply(lab, LabStep::DefineNetwork).unwrap();
        }
        if activity == Some(Activity::Active) {
            self.apply(lab, LabStep::StartNetwork).unwrap();
        }
    }

    /// Before 9.7 a mark is written by defining the network anew. libvirtd then shows what it keeps of a
    /// network that runs, the test driver only of one that does not.
    fn show_what_is_kept_of_the_network(&self, lab: &Lab) {
        let stop = |connection: &virt::connect::Connect| {
            if connection.lib_version()? < 9_007_000 {
                connection.lookup_network_by_name(lab.name.as_str())?.destroy()?;
            }
            Ok(())
        };
        self.hypervisor.in_parallel(&[()], |connection, ()| stop(connection)).remove(0).unwrap();
    }

    fn make_pool(&self, lab: &Lab, activity: Option<Activity>) {
        if activity.is_some() {
            self.apply(lab, LabStep::MakePool).unwrap();
        }
        if activity == Some(Activity::Inactive) {
            let stop = |connection: &virt::connect::Connect| {
                Ok(connection.lookup_storage_pool_by_name(&lab.pool_name())?.destroy()?)
            };
            self.node(0, stop).unwrap();
        }
    }

    fn make_node(&self, lab: &Lab, index: u32, state: Option<DomainState>) {
        if state.is_some() {
            self.apply(lab, NodeStep::Define.of(index)).unwrap();
        }
        if state == Some(DomainState::Running) {
            self.apply(lab, NodeStep::Start.of(index)).unwrap();
            self.apply(lab, NodeStep::Resume.of(index)).unwrap();
        }
    }

    fn take_down(&self, lab: &Lab) -> Result<()> {
        let inventory = self.observe();
        let observed = inventory.labs.get(&lab.uuid).map(observed).unwrap_or_default();
        plan::plan(lab, Goal::Gone, &observed)
            .into_iter()
            .try_for_each(|step| self.apply(lab, step))
    }

    fn apply(&self, lab: &Lab, step: impl Into<Step>) -> Result<()> {
        match step.into() {
            Step::Lab(step) => self.apply_to_lab(lab, step),
            Step::Node(index, step) => self.node(index, |c| match step {
                NodeStep::Define => {
                    Hypervisor::define_domain(c, lab, index, &domain_xml(lab, index))
                }
                NodeStep::Redefine(_) => {
                    Hypervisor::redefine_domain(c, lab, index, &domain_xml(lab, index))
                }
                NodeStep::Autostart(autostart) => {
                    Hypervisor::autostart_domain(c, lab, index, autostart)
                }
                NodeStep::Start => Hypervisor::start_domain_paused(c, lab, index),
                NodeStep::Resume => Hypervisor::resume_domain(c, lab, index),
                NodeStep::Suspend => Hypervisor::suspend_domain(c, lab, index),
                NodeStep::Shutdown => {
                    let is_off = Hypervisor::ask_to_shut_down(c, lab, index)?;
                    assert!(is_off, "the driver has no system that could refuse");
                    Ok(())
                }
                NodeStep::Reset => Hypervisor::reset_domain(c, lab, index),
                NodeStep::Stop => Hypervisor::stop_domain(c, lab, index),
                NodeStep::Undefine => Hypervisor::undefine_domain(c, lab, index),
                NodeStep::DeleteVolumes => Hypervisor::delete_volumes(c, lab, &lab.node(index)),
                NodeStep::LeaveCluster => Ok(()),
                NodeStep::Mark(desired) => Hypervisor::mark_domain(c, lab, index, desired),
                NodeStep::CutLink => Hypervisor::set_link(c, lab, index, false),
                NodeStep::Part(from) => Hypervisor::part(c, lab, index, from),
                NodeStep::Join => Hypervisor::join(c, lab, index),
                NodeStep::RestoreLink => Hypervisor::set_link(c, lab, index, true),
                NodeStep::Limit(limit) => Hypervisor::limit(c, lab, index, limit),
                NodeStep::Unlimit(limit) => Hypervisor::unlimit(c, lab, index, limit),
                NodeStep::SetFlaws { .. } => {
                    unreachable!("the driver's network cards have no devices")
                }
                NodeStep::SaveMemory | NodeStep::RestoreMemory(_) => {
                    panic!("the driver saves no memory beside a domain that goes on")
                }
            }),
        }
    }

    fn apply_to_lab(&self, lab: &Lab, step: LabStep) -> Result<()> {
        let hypervisor = &self.hypervisor;
        match step {
            LabStep::DefineNetwork => hypervisor.define_network(lab, &network_xml(lab)),
            LabStep::RedefineNetwork => hypervisor.redefine_network(lab, &network_xml(lab)),
            LabStep::StartNetwork => hypervisor.start_network(lab),
            LabStep::MakePool => hypervisor.make_pool(lab),
            LabStep::DeletePool => hypervisor.delete_pool(lab),
            LabStep::RemoveNetwork => hypervisor.remove_network(lab),
            LabStep::Autostart => hypervisor.autostart(lab),
            LabStep::MarkNetwork => hypervisor.mark_network(lab),
            LabStep::ReserveAddresses => hypervisor.reserve_addresses(lab),
            other => panic!("{other:?} has nothing to do with libvirt"),
        }
    }

    fn node(
        &self,
        index: u32,
        work: impl Fn(&virt::connect::Connect) -> Result<()> + Sync,
    ) -> Result<()> {
        self.hypervisor.in_parallel(&[index], |connection, _| work(connection)).remove(0)
    }
}

const SHARED: &str = "test:///default";

fn observed(found: &Found) -> Observed {
    Observed {
        network: found.network,
        pool: found.pool,
        domains: found.domains.clone(),
        marks: found.marks.clone(),
        reserved: found.reserved,
        in_force: found.in_force.clone(),
        autostart: found.autostart.clone(),
        ..Observed::default()
    }
}

fn lab() -> Lab {
    shared::lab("nodes = 3\nsubnet = '192.168.150.0/24'", VirtType::Test)
}

fn domain_xml(lab: &Lab, index: u32) -> String {
    xml::domain(&Templates::new(Vec::new()), lab, &lab.node(index)).unwrap()
}

fn network_xml(lab: &Lab) -> String {
    let network = lab.spec.network.managed().unwrap();
    xml::network(&Templates::new(Vec::new()), lab, network, true, LibvirtVersion::OLDEST).unwrap()
}

fn libvirt_error(error: &anyhow::Error) -> &LibvirtError {
    let cause = error.chain().find_map(|cause| cause.downcast_ref());
    cause.unwrap_or_else(|| panic!("not libvirt's: {error:#}"))
}

fn assert_foreign(foreign: &Foreign) {
    assert_eq!(foreign.domains, ["windows"]);
    assert_eq!(foreign.networks, ["default"]);
    assert_eq!(foreign.pools, ["images"]);
    assert_eq!(foreign.unreadable, Vec::<String>::new());
}

const FOREIGN: &str = "\
    <network><name>default</name><bridge name='virbr0'/>\
    <ip address='192.168.122.1' netmask='255.255.255.0'/></network>\
    <domain type='test'><name>windows</name><memory>65536</memory>\
    <metadata><lab xmlns='https://example.org' name='demo'/></metadata>\
    <os><type>hvm</type></os></domain>\
    <pool type='dir'><name>images</name><target><path>/var/lib/libvirt/images</path></target></pool>";
