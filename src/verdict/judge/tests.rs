use std::collections::BTreeSet;

use super::*;

/// Two nodes; the fault is from 1 s on, the heal from 5 s on, each takes 0.1 s.
fn moments() -> Moments {
    let heal = Some(Span { from_ms: 5000, to_ms: 5100 });
    Moments { faults: vec![broken_at(1000)], heal }
}

fn broken_at(from_ms: u64) -> Breakage {
    let made = Span { from_ms, to_ms: from_ms + 100 };
    Breakage { what: "cut a".to_owned(), made, until_ms: None }
}

/// A history: each 100 ms a write on `a` and a read on each node, all of which take 10 ms and are acknowledged, except for those
/// that are sent in `writes_fail` or `reads_fail`. `a` leads in term 2.
struct Recorded {
    history: History,
    revision: u64,
}

impl Recorded {
    fn with_outages(writes_fail: Span, reads_fail: Span) -> Self {
        let mut recorded = Self { history: History::default(), revision: 1 };
        recorded.history.nodes = vec!["a".to_owned(), "b".to_owned()];
        recorded.history.members =
            [("1a", "a"), ("1b", "b")].map(|(id, name)| (id.to_owned(), name.to_owned())).into();
        recorded.history.end_ms = 10_000;
        for start_ms in (0..9900).step_by(100) {
            recorded.write(start_ms, within(start_ms, writes_fail));
            for node in ["a", "b"] {
                recorded.read(start_ms + 50, node, within(start_ms, reads_fail));
            }
        }
        for node in ["a", "b"] {
            recorded.sees(5, node, Some(("1a", 2)));
        }
        let numbers = recorded.acknowledged();
        recorded.reread("a", &numbers);
        recorded.reread("b", &numbers);
        recorded
    }

    fn whole() -> Self {
        Self::with_outages(NEVER, NEVER)
    }

    fn write(&mut self, start_ms: u64, fails: bool) {
        let outcome = if fails {
            Outcome::Unknown
        } else {
            self.revision += 1;
            Outcome::Acknowledged { revision: self.revision }
        };
        let number = Some(start_ms / 100 + 1);
        self.operation(Operation {
            kind: Kind::Write,
            node: "a".to_owned(),
            start_ms,
            end_ms: start_ms + 10,
            number,
            outcome,
        });
    }

    fn read(&mut self, start_ms: u64, node: &str, fails: bool) {
        let outcome =
            if fails { Outcome::Failed } else { Outcome::Acknowledged { revision: self.revision } };
        let (node, end_ms) = (node.to_owned(), start_ms + 10);
        let kind = Kind::Read;
        self.operation(Operation { kind, node, start_ms, end_ms, number: None, outcome });
    }

    fn operation(&mut self, operation: Operation) {
        self.history.operations.push(operation);
    }

    fn sees(&mut self, at_ms: u64, node: &str, leader: Option<(&str, u64)>) {
        let leader = leader.map(|(member, term)| Leader { member: member.to_owned(), term });
        self.history.sightings.push(Sighting { at_ms, node: node.to_owned(), leader });
    }

    fn acknowledged(&self) -> BTreeSet<u64> {
        let done = self.history.operations.iter().filter(|it| it.revision().is_some());
        done.filter_map(|it| it.number).collect()
    }

    fn reread(&mut self, node: &str, numbers: &BTreeSet<u64>) {
        let numbers = Ok(numbers.clone());
        self.history.rereads.push(Reread { node: node.to_owned(), numbers });
    }

    fn judged(&self) -> Verdict {
        judge(&self.history, &moments(), 5000)
    }
}

fn within(at_ms: u64, Span { from_ms, to_ms }: Span) -> bool {
    (from_ms..to_ms).contains(&at_ms)
}

const NEVER: Span = Span { from_ms: 0, to_ms: 0 };

#[test]
fn a_cluster_that_goes_on_passes() {
    let verdict = Recorded::whole().judged();
    assert_eq!(
        verdict.summary,
        "writes and reads went on; healthy again 0.1 s after the heal; 0 of 99 acknowledged writes lost"
    );
    assert!(verdict.passed && verdict.problems.is_empty(), "{verdict:#?}");
    let unhealed = Moments { heal: None, ..moments() };
    let verdict = judge(&Recorded::whole().history, &unhealed, 0);
    assert_eq!((verdict.healthy_ms, verdict.healthy_after_ms), (Some(1160), Some(60)));
    assert_eq!(
        verdict.problems,
        ["healthy again 0.1 s after the fault, which is later than 0.0 s"]
    );
}

#[test]
fn a_new_leader_and_the_time_without_are_told() {
    let no_writes = Span { from_ms: 1000, to_ms: 2800 };
    let no_reads = Span { from_ms: 1000, to_ms: 2400 };
    let mut recorded = Recorded::with_outages(no_writes, no_reads);
    recorded.sees(1300, "b", None);
    recorded.sees(2200, "b", Some(("1b", 3)));
    recorded.sees(3000, "a", None);
    recorded.sees(8500, "a", Some(("1b", 3)));
    let verdict = recorded.judged();
    assert_eq!(
        verdict.summary,
        "writes failed for 1.9 s, reads failed for 1.5 s; new leader b after 1.2 s; \
         healthy again 3.4 s after the heal; 0 of 81 acknowledged writes lost"
    );
    assert_eq!(verdict.writes.outages, [Span { from_ms: 910, to_ms: 2810 }]);
    assert_eq!((verdict.writes.unknown, verdict.reads.failed), (18, 28));
    assert_eq!(verdict.healthy_ms, Some(8500));
    assert!(verdict.passed, "{verdict:#?}");
}

#[test]
fn what_was_so_before_the_fault_and_what_is_short_is_no_outage() {
    let early = Span { from_ms: 200, to_ms: 900 };
    let short = Span { from_ms: 2000, to_ms: 2400 };
    let verdict = Recorded::with_outages(early, short).judged();
    assert_eq!((verdict.writes.outages, verdict.reads.outages), (vec![], vec![]));
    // Of two, the longest is told as well.
    let mut recorded = Recorded::with_outages(Span { from_ms: 1500, to_ms: 2500 }, NEVER);
    recorded.history.operations.retain(|it| {
        it.kind == Kind::Read || !within(it.start_ms, Span { from_ms: 6000, to_ms: 9900 })
    });
    let summary = recorded.judged().summary;
    assert!(
        summary.starts_with("writes failed for 5.2 s (4.1 s at a stretch), reads went on"),
        "{summary}"
    );
}

#[test]
fn a_write_that_was_acknowledged_and_is_gone_fails_also_where_one_node_alone_lacks_it() {
    let mut recorded = Recorded::whole();
    let numbers: BTreeSet<u64> =
        recorded.acknowledged().into_iter().filter(|it| ![7, 40].contains(it)).collect();
    recorded.history.rereads[1].numbers = Ok(numbers);
    let verdict = recorded.judged();
    assert_eq!(verdict.lost, [7, 40]);
    assert_eq!(verdict.problems, ["2 of 99 acknowledged writes lost"]);
    assert!(!verdict.passed && verdict.summary.ends_with("2 of 99 acknowledged writes lost"));
}

#[test]
fn a_write_of_which_nobody_knows_is_lost_by_nobody_whether_it_is_there_or_not() {
    let unknown = Span { from_ms: 2000, to_ms: 2200 };
    let mut recorded = Recorded::with_outages(unknown, NEVER);
    assert!(recorded.judged().passed);
    for reread in &mut recorded.history.rereads {
        reread.numbers.as_mut().unwrap().insert(21);
    }
    let verdict = recorded.judged();
    assert!(verdict.passed && verdict.writes.unknown == 2, "{verdict:#?}");
}

#[test]
fn a_read_that_goes_back_is_stale_and_one_beside_a_write_is_not() {
    let mut recorded = Recorded::whole();
    let read = |start_ms: u64, end_ms: u64, revision: u64| Operation {
        kind: Kind::Read,
        node: "b".to_owned(),
        start_ms,
        end_ms,
        number: None,
        outcome: Outcome::Acknowledged { revision },
    };
    // The write with revision 32 is from 3000 to 3010.
    recorded.operation(read(3005, 3020, 31));
    recorded.operation(read(3010, 3020, 31));
    assert_eq!(recorded.judged().stale, []);
    recorded.operation(read(3011, 3020, 31));
    // After a read that saw more than was acknowledged.
    recorded.operation(read(3102, 3104, 33));
    recorded.operation(read(3105, 3109, 32));
    let stale = |at_ms, found, known| Stale { at_ms, node: "b".to_owned(), found, known };
    let verdict = recorded.judged();
    assert_eq!(verdict.stale, [stale(3011, 31, 32), stale(3105, 32, 33)]);
    assert_eq!(verdict.problems, ["2 stale reads"]);
    assert!(verdict.summary.ends_with("; 2 stale reads"), "{}", verdict.summary);
}

#[test]
fn a_cluster_that_is_not_healthy_or_too_late_or_cannot_be_read_again_fails() {
    let mut recorded = Recorded::whole();
    recorded.sees(6000, "b", None);
    recorded.sees(7000, "a", Some(("1b", 3)));
    let agreed = recorded.judged();
    assert_eq!(agreed.healthy_ms, Some(5160));
    recorded.sees(4000, "b", None);
    recorded.history.sightings.sort_by_key(|it| it.at_ms);
    let verdict = recorded.judged();
    assert_eq!(
        (verdict.healthy_ms, verdict.problems),
        (None, vec!["not healthy again".to_owned()])
    );
    assert!(verdict.summary.contains("not healthy again 4.9 s after the heal"));
    assert!(recorded.judged().is_late_only() && !agreed.is_late_only());

    let mut recorded = Recorded::with_outages(NEVER, Span { from_ms: 2000, to_ms: 8000 });
    assert!(judge(&recorded.history, &moments(), 2960).passed);
    let late = judge(&recorded.history, &moments(), 2900);
    assert_eq!(late.problems, ["healthy again 3.0 s after the heal, which is later than 2.9 s"]);
    assert!(late.is_late_only());
    recorded.history.rereads[0].numbers = Err("no answer".to_owned());
    recorded.history.rereads[1].numbers = Err("no answer".to_owned());
    let unread = recorded.judged();
    assert!(!unread.passed && !unread.is_late_only());
    assert_eq!(unread.problems[0], "a: what was written could not be read again: no answer");
    assert!(unread.summary.ends_with("99 acknowledged writes that could not be read again"));
}

#[test]
fn each_election_is_counted_from_the_last_fault_before_it_and_failures_from_the_first() {
    let mut recorded = Recorded::with_outages(Span { from_ms: 1200, to_ms: 2000 }, NEVER);
    recorded.sees(1900, "a", Some(("1b", 3)));
    recorded.sees(4200, "a", Some(("1a", 4)));
    let faults = vec![broken_at(1000), broken_at(4000)];
    let verdict = judge(&recorded.history, &Moments { faults, ..moments() }, 5000);
    let elected: Vec<_> = verdict.elections.iter().map(|it| (it.at_ms, it.after_ms)).collect();
    assert_eq!(elected, [(1900, 900), (4200, 200)]);
    assert_eq!(verdict.writes.outages, [Span { from_ms: 1110, to_ms: 2010 }]);
}

/// Two nodes that are asked each 100 ms; `a` does not answer from 1.2 s until this moment.
fn probed(until_ms: u64) -> History {
    let mut history = History { end_ms: 10_000, ..History::default() };
    history.probe = Some("tcp:22".to_owned());
    history.nodes = vec!["a".to_owned(), "b".to_owned()];
    for start_ms in (0..9900).step_by(100) {
        for node in ["a", "b"] {
            let is_silent = node == "a" && (1200..until_ms).contains(&start_ms);
            let acknowledged = Outcome::Acknowledged { revision: 0 };
            history.operations.push(Operation {
                kind: Kind::Probe,
                node: node.to_owned(),
                start_ms,
                end_ms: start_ms + 10,
                number: None,
                outcome: if is_silent { Outcome::Failed } else { acknowledged },
            });
        }
    }
    history
}

#[test]
fn nodes_that_are_probed_are_judged_by_their_answers_alone() {
    let verdict = judge(&probed(6000), &moments(), 1000);
    let expected = "a did not answer tcp:22 for 4.9 s; all answering again 0.9 s after the heal";
    assert_eq!((verdict.summary.as_str(), verdict.passed), (expected, true));
    let silent: Vec<_> = verdict.probes.iter().map(|it| it.tally.failed_for_ms).collect();
    assert_eq!(silent, [4900, 0]);
    let late = judge(&probed(7000), &moments(), 1000);
    let problem = "all answering again 1.9 s after the heal, which is later than 1.0 s";
    assert_eq!((late.problems, verdict.is_late_only()), (vec![problem.to_owned()], false));
    let never = judge(&probed(u64::MAX), &moments(), 1000);
    assert_eq!(never.problems, ["not all answering again"]);
    assert!(never.is_late_only() && never.summary.contains("; not all answering again 4.9 s"));
    let calm = judge(&probed(0), &moments(), 1000);
    assert!(calm.summary.starts_with("all nodes answered tcp:22 all the time; all answering"));
}
