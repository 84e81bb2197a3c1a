use fs_err as fs;
use tempfile::TempDir;

use super::*;
use crate::memory::tests::node;

/// A lab of nodes of 384 MiB, of which KSM finds 219 MiB the same in each.
struct Lab {
    tree: TempDir,
    nodes: u32,
    fails_at: Option<u32>,
}

impl Lab {
    fn new() -> Self {
        let tree = crate::ksm::tests::recorded_tree(&[]);
        let lab = Self { tree, nodes: 0, fails_at: None };
        lab.set("run", 1);
        lab.set("smart_scan", 0);
        lab
    }

    fn set(&self, name: &str, value: u64) {
        fs::write(self.tree.path().join(name), value.to_string()).unwrap();
    }
}

impl Growable for Lab {
    fn grow_to(&mut self, nodes: u32) -> anyhow::Result<()> {
        if self.fails_at == Some(nodes) {
            bail!("starting node lab-{nodes}");
        }
        self.nodes = nodes;
        Ok(())
    }

    fn memory(&self) -> anyhow::Result<Vec<NodeMemory>> {
        Ok((1..=self.nodes).map(|n| node(&format!("lab-{n}"), 384, Some(219))).collect())
    }
}

const QUICK: Growth =
    Growth { max_nodes: 3, scans: 2, deadline: Duration::from_secs(60), poll: Duration::ZERO };

/// Makes a scan at every look, after which all that can be is merged.
fn scanner(tree: &TempDir) -> impl FnMut(&Event) + use<> {
    let root = tree.path().to_owned();
    let mut scans = 37;
    move |event| {
        if let Event::Scanning { nodes, .. } = event {
            scans += 1;
            let page_size = Ksm::at(&root).page_size();
            let pages = 1_065_216 + u64::from(nodes - 1) * (219 << 20) / page_size;
            fs::write(root.join("full_scans"), scans.to_string()).unwrap();
            fs::write(root.join("pages_sharing"), pages.to_string()).unwrap();
        }
    }
}

fn measure(growth: Growth, lab: &mut Lab, on_event: impl FnMut(&Event)) -> Measured {
    let ksm = Ksm::at(lab.tree.path());
    growth.measure(lab, &ksm, &AtomicBool::new(false), on_event).unwrap()
}

#[test]
fn measures_node_by_node_and_counts_only_what_the_lab_saves() {
    let mut lab = Lab::new();
    let mut scan = scanner(&lab.tree);
    let mut events = Vec::new();
    let measured = measure(QUICK, &mut lab, |event| {
        scan(event);
        events.push(event.clone());
    });
    assert!(matches!(measured.end, End::Complete));
    assert_eq!(measured.unsettled, [0; 0]);
    insta::assert_snapshot!(measured.curve.to_csv(), @"
    nodes,without_ksm_bytes,with_ksm_bytes,merged_bytes,proportional_bytes,full_scans
    1,402653184,402653184,229638144,,40
    2,805306368,575668224,459276288,,43
    3,1207959552,748683264,688914432,,46
    ");
    let scanning = |done| Event::Scanning { nodes: 1, done, wanted: 2 };
    let sample = measured.curve.samples()[0].clone();
    let expected = [
        Event::Growing { nodes: 1 },
        scanning(0),
        scanning(1),
        scanning(2),
        Event::Measured { sample, settled: true },
        Event::Growing { nodes: 2 },
    ];
    assert_eq!(events[..6], expected);
}

#[test]
fn where_the_kernel_skips_pages_more_scans_are_waited_for() {
    let mut lab = Lab::new();
    lab.set("smart_scan", 1);
    let mut scan = scanner(&lab.tree);
    let mut most = 0;
    let measured = measure(QUICK, &mut lab, |event| {
        scan(event);
        if let Event::Scanning { done, wanted: 10, .. } = event {
            most = most.max(*done);
        }
    });
    assert!(matches!(measured.end, End::Complete));
    assert_eq!(most, 10);
}

#[test]
fn an_interrupt_keeps_what_was_measured() {
    let mut lab = Lab::new();
    let ksm = Ksm::at(lab.tree.path());
    let mut scan = scanner(&lab.tree);
    let stop = AtomicBool::new(false);
    let measured = QUICK.measure(&mut lab, &ksm, &stop, |event| {
        scan(event);
        if matches!(event, Event::Scanning { nodes: 3, done: 1, .. }) {
            stop.store(true, Ordering::Relaxed);
        }
    });
    let measured = measured.unwrap();
    assert!(matches!(measured.end, End::Interrupted));
    assert_eq!(measured.curve.samples().len(), 2);
}

#[test]
fn a_failure_keeps_what_was_measured() {
    let mut lab = Lab { fails_at: Some(2), ..Lab::new() };
    let scan = scanner(&lab.tree);
    let measured = measure(QUICK, &mut lab, scan);
    assert_eq!(measured.curve.samples().len(), 1);
    let End::Failed(error) = measured.end else { panic!("{:?}", measured.end) };
    assert_eq!(format!("{error:#}"), "measuring at node 2: starting node lab-2");
}

#[test]
fn a_scan_that_takes_too_long_is_noted() {
    let mut lab = Lab::new();
    let measured = measure(Growth { deadline: Duration::ZERO, ..QUICK }, &mut lab, |_| {});
    assert!(matches!(measured.end, End::Complete));
    assert_eq!(measured.unsettled, [1, 2, 3]);
    assert_eq!(measured.curve.samples().len(), 3);
}

#[test]
fn without_running_ksm_nothing_is_started_and_its_end_is_noticed() {
    let mut lab = Lab::new();
    let ksm = Ksm::at(lab.tree.path());
    lab.set("run", 0);
    let error = QUICK.measure(&mut lab, &ksm, &AtomicBool::new(false), |_| {}).unwrap_err();
    let expected = "measuring with kernel samepage merging: it is not running on this host";
    assert_eq!(error.to_string(), expected);
    assert_eq!(lab.nodes, 0);

    lab.set("run", 1);
    let root = lab.tree.path().to_owned();
    let measured = measure(QUICK, &mut lab, |_| fs::write(root.join("run"), "0").unwrap());
    let End::Failed(error) = measured.end else { panic!("{:?}", measured.end) };
    let expected = "measuring at node 1: waiting for kernel samepage merging: somebody has \
                    switched it off";
    assert_eq!(format!("{error:#}"), expected);
}

#[test]
fn a_node_whose_memory_is_unknown_is_named() {
    let nodes = [NodeMemory::unknown("lab-1", "shut off")];
    let error = sample(&nodes, 0, None).unwrap_err();
    assert_eq!(error.to_string(), "reading the memory of `lab-1`: shut off");
}

#[test]
fn what_the_nodes_say_counts_before_what_the_host_says() {
    let spared = |name: &str| NodeMemory { saved_bytes: Some(100 << 20), ..node(name, 384, None) };
    let told = sample(&[spared("lab-1"), spared("lab-2")], 1 << 30, None).unwrap();
    assert_eq!(told.saved_bytes(), 200 << 20);
    let half = sample(&[spared("lab-1"), node("lab-2", 384, None)], 300 << 20, None).unwrap();
    assert_eq!(half.saved_bytes(), 300 << 20);
}
