//! The recorder with a journal on disk.

use fs_err as fs;

use super::event::StageReached;
use super::*;
use crate::boot_server::stage::Stage;
use crate::lab::plan::DomainState;

struct Bench {
    recorder: Recorder,
    folder: tempfile::TempDir,
}

fn nodes(count: u32) -> Vec<NodeIdentity> {
    let node = |index| NodeIdentity {
        index,
        name: format!("demo-{index}"),
        mac: format!("52:54:00:12:34:0{index}").parse().unwrap(),
        ip: None,
    };
    (1..=count).map(node).collect()
}

fn bench() -> Bench {
    let folder = tempfile::tempdir().unwrap();
    let recorder = Recorder::open(&folder.path().join("journal"), &nodes(2)).unwrap();
    Bench { recorder, folder }
}

impl Bench {
    fn journal(&self) -> std::path::PathBuf {
        self.folder.path().join("journal")
    }

    fn restarted(self) -> Self {
        let recorder = Recorder::open(&self.journal(), &nodes(2)).unwrap();
        Self { recorder, folder: self.folder }
    }

    fn reach(&self, node: u32, stage: Stage) {
        self.recorder.record(Happening::Stage(StageReached::unasked(node, stage)));
    }
}

#[test]
fn events_are_numbered_on_across_a_restart_and_none_is_lost_or_told_twice() {
    let bench = bench();
    let (start, _) = bench.recorder.snapshot();
    bench.reach(1, Stage::Script);
    bench.reach(1, Stage::Kernel);
    let seen = bench.recorder.after(start).unwrap();
    assert_eq!(seen.len(), 2);
    let bench = bench.restarted();
    bench.reach(2, Stage::Script);
    let later = bench.recorder.after(seen[1].id).unwrap();
    assert_eq!(later.len(), 1);
    assert_eq!(later[0].id, seen[1].id + 1);
    let all: Vec<u64> =
        bench.recorder.after(seen[0].id - 1).unwrap().iter().map(|event| event.id).collect();
    assert_eq!(all, [seen[0].id, seen[1].id, later[0].id]);
}

#[test]
fn who_has_an_event_that_never_was_is_told_everything_anew() {
    let bench = bench();
    bench.reach(1, Stage::Script);
    let (newest, _) = bench.recorder.snapshot();
    assert_eq!(bench.recorder.after(newest), Some(Vec::new()));
    assert_eq!(bench.recorder.after(newest + 1), None);
    assert_eq!(bench.recorder.after(7), None);
    // A journal that was lost is begun with larger numbers.
    fs::remove_file(bench.journal()).unwrap();
    std::thread::sleep(Duration::from_millis(2));
    let bench = bench.restarted();
    bench.reach(1, Stage::Script);
    assert_eq!(bench.recorder.after(newest), None);
}

#[test]
fn a_journal_does_not_grow_without_end_and_keeps_what_counts() {
    let bench = bench();
    bench.reach(1, Stage::Config);
    let mut longest = 0;
    for round in 0..30_000_u32 {
        bench.reach(2, Stage::Script);
        if round % 1000 == 0 {
            longest = longest.max(fs::metadata(bench.journal()).unwrap().len());
        }
    }
    assert!(longest < 2 * journal::LONGEST as u64, "{longest}");
    let length = fs::metadata(bench.journal()).unwrap().len();
    assert!(length <= 1024 + journal::LONGEST as u64, "{length}");
    let before = bench.recorder.snapshot();
    let last = bench.recorder.after(before.0 - 3).unwrap();
    let bench = bench.restarted();
    assert_eq!(bench.recorder.snapshot(), before);
    assert_eq!(bench.recorder.after(before.0 - 3).unwrap(), last);
    assert!(before.1.nodes[0].has(Stage::Config));
}

#[test]
fn a_torn_last_line_costs_no_other() {
    let bench = bench();
    bench.reach(1, Stage::Script);
    let mut text = fs::read_to_string(bench.journal()).unwrap();
    text.push_str("{\"node\":1,\"sta");
    fs::write(bench.journal(), text).unwrap();
    let bench = bench.restarted();
    bench.reach(2, Stage::Script);
    let (_, timeline) = bench.restarted().recorder.snapshot();
    assert!(timeline.nodes.iter().all(|node| node.has(Stage::Script)), "{timeline:?}");
}

#[test]
fn a_journal_of_virtlab_0_1_goes_on() {
    let folder = tempfile::tempdir().unwrap();
    let journal = folder.path().join("journal");
    let lines = [
        r#"{"node":1,"stage":"power-on","at_ms":1795509862286,"from":"10.201.0.1","bytes":0}"#,
        r#"{"node":1,"stage":"kernel","file":"vmlinuz","at_ms":1795509864742,"from":"10.201.0.2","bytes":6}"#,
    ];
    fs::write(&journal, lines.join("\n")).unwrap();
    let recorder = Recorder::open(&journal, &nodes(2)).unwrap();
    let (newest, timeline) = recorder.snapshot();
    assert_eq!(newest, 1_795_509_862_287);
    assert_eq!(timeline.nodes[0].seconds_to(Stage::Kernel), Some(2.456));
    recorder.domain(1, DomainChange::Is(DomainState::Running), 5);
    let told = recorder.after(newest).unwrap();
    assert_eq!(told.len(), 1, "{told:?}");
    assert_eq!(told[0].id, newest + 1);
}

#[test]
fn numbers_that_no_journal_can_have_are_left_out_or_put_in_order() {
    let folder = tempfile::tempdir().unwrap();
    let journal = folder.path().join("journal");
    let line = |id: u64, at_ms: u64, stage: &str, bytes: u64| {
        format!(
            r#"{{"id":{id},"at_ms":{at_ms},"node":1,"stage":"{stage}","file":"{stage}{id}","bytes":{bytes}}}"#
        )
    };
    let lines = [
        line(0, 0, "power-on", 0),
        line(u64::MAX, 1, "ready", 0),
        format!(r#"{{"id":{},"checkpoint":{{"nodes":[]}}}}"#, u64::MAX),
        line(9, 1, "initrd", u64::MAX),
        line(8, 1, "initrd", 3),
    ];
    fs::write(&journal, lines.join("\n")).unwrap();
    let recorder = Recorder::open(&journal, &nodes(1)).unwrap();
    let events = recorder.after(0).unwrap();
    assert_eq!(events.iter().map(|event| event.id).collect::<Vec<_>>(), [1, 9, 10]);
    let (_, timeline) = recorder.snapshot();
    assert_eq!(timeline.nodes[0].stage(), Some(Stage::Initrd));
    assert_eq!(timeline.nodes[0].stages[&Stage::Initrd].bytes, u64::MAX);
}

#[test]
fn a_power_on_at_the_end_of_time_is_followed_by_a_reset() {
    let folder = tempfile::tempdir().unwrap();
    let journal = folder.path().join("journal");
    let line = format!(r#"{{"id":7,"at_ms":{},"node":1,"stage":"power-on"}}"#, u64::MAX);
    fs::write(&journal, line).unwrap();
    let recorder = Recorder::open(&journal, &nodes(1)).unwrap();
    recorder.domain(1, DomainChange::Reset, 5);
    assert_eq!(recorder.snapshot().0, 7);
}

#[tokio::test]
async fn listeners_are_woken_by_each_event() {
    let bench = bench();
    let mut listener = bench.recorder.listen();
    listener.borrow_and_update();
    bench.reach(1, Stage::Script);
    listener.changed().await.unwrap();
    assert_eq!(*listener.borrow_and_update(), bench.recorder.snapshot().0);
}

#[test]
fn a_journal_is_read_without_a_server_and_without_a_change() {
    let bench = bench();
    bench.reach(1, Stage::Script);
    bench.reach(2, Stage::Ready);
    let before = fs::read(bench.journal()).unwrap();
    let (_, known) = bench.recorder.snapshot();
    assert_eq!(read(&bench.journal(), &nodes(2)).unwrap(), Some(known));
    assert_eq!(fs::read(bench.journal()).unwrap(), before);
    assert_eq!(read(&bench.folder.path().join("none"), &nodes(2)).unwrap(), None);
    assert!(!bench.folder.path().join("none").exists());
}
