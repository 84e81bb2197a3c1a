//! From a history to a verdict. Pure.

use std::fmt;

use serde::Serialize;

use super::history::{History, Kind, Operation, Reread, Sighting, Span};
use crate::cluster::etcd::ledger::{Leader, Outcome};

/// When something was broken, and healed.
#[derive(Clone, Debug, Serialize)]
pub struct Moments {
    /// What was broken, in the order of time.
    pub faults: Vec<Breakage>,
    /// While all of it was undone in the end; nothing where there was nothing to undo.
    pub heal: Option<Span>,
}

/// One fault.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Breakage {
    /// What was done to which nodes: `cut demo-1`.
    pub what: String,
    /// While it was made.
    #[serde(flatten)]
    pub made: Span,
    /// When it was to end by itself, if that is before the heal.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub until_ms: Option<u64>,
}

impl Moments {
    /// When the first fault was begun.
    pub fn begin_ms(&self) -> u64 {
        self.faults.first().map_or(0, |first| first.made.from_ms)
    }

    /// When the last fault was begun that was begun before a moment.
    fn begin_before_ms(&self, at_ms: u64) -> u64 {
        let begins = self.faults.iter().map(|it| it.made.from_ms);
        begins.filter(|from_ms| *from_ms < at_ms).max().unwrap_or_else(|| self.begin_ms())
    }

    /// The moment from which all may get well, and what that was.
    pub fn turn(&self) -> (u64, &'static str) {
        match self.heal {
            Some(heal) => (heal.to_ms, "heal"),
            None => (self.faults.last().map_or(0, |last| last.made.to_ms), "fault"),
        }
    }
}

/// What a fault did to a cluster. All times are in milliseconds since the history began.
#[derive(Clone, Debug, Serialize)]
pub struct Verdict {
    /// The sentence for people.
    pub summary: String,
    /// Whether it is as one may expect of an etcd.
    pub passed: bool,
    /// Why not.
    pub problems: Vec<String>,
    /// How the writes went.
    pub writes: Tally,
    /// How the reads went.
    pub reads: Tally,
    /// How each node answered what was asked instead of etcd.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub probes: Vec<Probed>,
    /// Each election since the fault.
    pub elections: Vec<Election>,
    /// When all was well again, if it was.
    pub healthy_ms: Option<u64>,
    /// How long after the heal, or after the fault where there was nothing to undo.
    pub healthy_after_ms: Option<u64>,
    /// The nodes on which all that was written could be read again in the end.
    pub reread: Vec<String>,
    /// The numbers of writes that were acknowledged and were not there in the end.
    pub lost: Vec<u64>,
    /// Reads that did not see what was acknowledged or read before they were sent.
    pub stale: Vec<Stale>,
}

/// What came of all writes, or of all reads.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Tally {
    /// That were done.
    pub acknowledged: usize,
    /// That were not done.
    pub failed: usize,
    /// Of which nobody knows.
    pub unknown: usize,
    /// From the last one that was acknowledged to the next, where that was long, since the fault.
    pub outages: Vec<Span>,
    /// The length of all outages.
    pub failed_for_ms: u64,
    /// The length of the longest.
    pub longest_ms: u64,
}

/// How a node answered a probe.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Probed {
    /// The node.
    pub node: String,
    /// What came of all probes.
    #[serde(flatten)]
    pub tally: Tally,
}

/// That a node was elected.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Election {
    /// When somebody first knew.
    pub at_ms: u64,
    /// How long after the last fault that was begun before.
    pub after_ms: u64,
    /// The leader: its node, or the id of a member that is on none.
    pub leader: String,
    /// Its term.
    pub term: u64,
}

/// A read that was not what it is to be.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Stale {
    /// When it was sent.
    pub at_ms: u64,
    /// Who answered.
    pub node: String,
    /// The revision that it found.
    pub found: u64,
    /// The revision that was known before it was sent.
    pub known: u64,
}

impl Verdict {
    /// Whether it did not pass only because nodes were not well in time: nothing is known to be wrong with the data.
    pub fn is_late_only(&self) -> bool {
        let is_data_known = !self.reread.is_empty() || !self.probes.is_empty();
        !self.passed && self.lost.is_empty() && self.stale.is_empty() && is_data_known
    }
}

/// Judges. The cluster is to be healthy again `within_ms` after the heal, or after the fault where there was none.
pub fn judge(history: &History, moments: &Moments, within_ms: u64) -> Verdict {
    let (turn_ms, _) = moments.turn();
    let healthy_ms = healthy_ms(history, turn_ms);
    let name = |it: &Reread| it.node.clone();
    let mut verdict = Verdict {
        summary: String::new(),
        passed: false,
        problems: Vec::new(),
        writes: tally(history, moments, |it| it.kind == Kind::Write),
        reads: tally(history, moments, |it| it.kind == Kind::Read),
        probes: probes(history, moments),
        elections: elections(history, moments),
        healthy_ms,
        healthy_after_ms: healthy_ms.map(|at_ms| at_ms.saturating_sub(turn_ms)),
        reread: history.rereads.iter().filter(|it| it.numbers.is_ok()).map(name).collect(),
        lost: lost(history),
        stale: stale(history),
    };
    verdict.problems = problems(&verdict, history, moments, within_ms);
    verdict.passed = verdict.problems.is_empty();
    verdict.summary = summary(&verdict, history, moments);
    verdict
}

/// When all was well again after a moment: a read on each node was done that was sent later, and all nodes call the same
/// member their leader. Where something else than etcd is probed, each node has answered.
pub fn healthy_ms(history: &History, after_ms: u64) -> Option<u64> {
    let kind = history.probe.as_ref().map_or(Kind::Read, |_| Kind::Probe);
    let first_read = |node: &String| {
        let is_first = |it: &&Operation| {
            it.kind == kind
                && it.node == *node
                && it.start_ms >= after_ms
                && it.revision().is_some()
        };
        history.operations.iter().find(is_first).map(|it| it.end_ms)
    };
    let reads = history.nodes.iter().map(first_read).collect::<Option<Vec<u64>>>()?;
    let answered_ms = reads.into_iter().max()?;
    if history.probe.is_some() {
        return Some(answered_ms);
    }
    let moments = history.sightings.iter().map(|it| it.at_ms).filter(|it| *it > answered_ms);
    std::iter::once(answered_ms).chain(moments).find(|at_ms| is_agreed(history, *at_ms))
}

/// Whether all nodes called the same member their leader.
fn is_agreed(history: &History, at_ms: u64) -> bool {
    let known = |node: &String| {
        let is_last = |it: &&Sighting| it.node == *node && it.at_ms <= at_ms;
        history.sightings.iter().rev().find(is_last)?.leader.as_ref()
    };
    let mut leaders = history.nodes.iter().map(known);
    let first = leaders.next().flatten();
    first.is_some() && leaders.all(|leader| leader == first)
}

fn probes(history: &History, moments: &Moments) -> Vec<Probed> {
    let of_node = |node: &String| {
        let is_one = |it: &Operation| it.kind == Kind::Probe && it.node == *node;
        Probed { node: node.clone(), tally: tally(history, moments, is_one) }
    };
    let nodes = history.nodes.iter().filter(|_| history.probe.is_some());
    nodes.map(of_node).collect()
}

fn tally(history: &History, moments: &Moments, is_meant: impl Fn(&Operation) -> bool) -> Tally {
    let all = || history.operations.iter().filter(|it| is_meant(it));
    let count = |outcome: Outcome| all().filter(|it| it.outcome == outcome).count();
    let mut acknowledged: Vec<u64> =
        all().filter(|it| it.revision().is_some()).map(|it| it.end_ms).collect();
    acknowledged.sort_unstable();
    let outages = outages(&acknowledged, moments.begin_ms(), history.end_ms);
    Tally {
        acknowledged: acknowledged.len(),
        failed: count(Outcome::Failed),
        unknown: count(Outcome::Unknown),
        failed_for_ms: outages.iter().map(|it| it.length_ms()).sum(),
        longest_ms: outages.iter().map(|it| it.length_ms()).max().unwrap_or_default(),
        outages,
    }
}

/// The times without an acknowledgement that are longer than [`SLACK_MS`] and end after a moment.
fn outages(acknowledged: &[u64], after_ms: u64, end_ms: u64) -> Vec<Span> {
    let begins = std::iter::once(0).chain(acknowledged.iter().copied());
    let ends = acknowledged.iter().copied().chain([end_ms]);
    let gaps = begins.zip(ends).map(|(from_ms, to_ms)| Span { from_ms, to_ms });
    gaps.filter(|gap| gap.length_ms() > SLACK_MS && gap.to_ms > after_ms).collect()
}

/// Each election has a higher term than those before it.
fn elections(history: &History, moments: &Moments) -> Vec<Election> {
    let seen = |it: &Sighting| Some((it.at_ms, it.leader.clone()?));
    let mut seen: Vec<(u64, Leader)> = history.sightings.iter().filter_map(seen).collect();
    seen.sort_by_key(|(at_ms, _)| *at_ms);
    let (mut elections, mut last) = (Vec::new(), 0);
    for (at_ms, Leader { member, term }) in seen {
        if term <= last {
            continue;
        }
        last = term;
        if at_ms > moments.begin_ms() {
            let leader = history.members.get(&member).cloned().unwrap_or(member);
            let after_ms = at_ms - moments.begin_before_ms(at_ms);
            elections.push(Election { at_ms, after_ms, leader, term });
        }
    }
    elections
}

/// A write that was acknowledged has to be there on each node that could be read.
fn lost(history: &History) -> Vec<u64> {
    let rereads = || history.rereads.iter().filter_map(|it| it.numbers.as_ref().ok());
    let writes = history.operations.iter().filter(|it| it.revision().is_some());
    let is_lost = |number: &u64| rereads().any(|numbers| !numbers.contains(number));
    let mut lost: Vec<u64> = writes.filter_map(|it| it.number).filter(is_lost).collect();
    lost.sort_unstable();
    lost
}

/// Reads that found an earlier revision than one that was known before they were sent. What happens in the same
/// millisecond has no order.
fn stale(history: &History) -> Vec<Stale> {
    let done = || history.operations.iter().filter_map(|it| Some((it, it.revision()?)));
    let mut by_end: Vec<(u64, u64)> = done().map(|(it, revision)| (it.end_ms, revision)).collect();
    by_end.sort_unstable();
    let mut reads: Vec<_> = done().filter(|(it, _)| it.kind == Kind::Read).collect();
    reads.sort_by_key(|(it, _)| it.start_ms);
    let (mut ended, mut known) = (by_end.into_iter().peekable(), 0);
    let mut stale = Vec::new();
    for (read, found) in reads {
        while let Some((_, revision)) = ended.next_if(|(end_ms, _)| *end_ms < read.start_ms) {
            known = known.max(revision);
        }
        if found < known {
            stale.push(Stale { at_ms: read.start_ms, node: read.node.clone(), found, known });
        }
    }
    stale
}

fn problems(
    verdict: &Verdict,
    history: &History,
    moments: &Moments,
    within_ms: u64,
) -> Vec<String> {
    let mut problems = Vec::new();
    if !verdict.lost.is_empty() {
        let (lost, all) = (verdict.lost.len(), verdict.writes.acknowledged);
        problems.push(format!("{lost} of {all} acknowledged writes lost"));
    }
    if !verdict.stale.is_empty() {
        problems.push(format!("{} stale reads", verdict.stale.len()));
    }
    let unread = history.rereads.iter().filter_map(|it| Some((it, it.numbers.as_ref().err()?)));
    problems.extend(
        unread.map(|(it, why)| {
            format!("{}: what was written could not be read again: {why}", it.node)
        }),
    );
    match verdict.healthy_after_ms {
        None => problems.push(format!("not {}", well(history))),
        Some(after_ms) if after_ms > within_ms => problems.push(format!(
            "{} {} after the {}, which is later than {}",
            well(history),
            Seconds(after_ms),
            moments.turn().1,
            Seconds(within_ms)
        )),
        Some(_) => {}
    }
    problems
}

fn summary(verdict: &Verdict, history: &History, moments: &Moments) -> String {
    let mut parts = match &history.probe {
        Some(probe) => silences(probe, &verdict.probes),
        None => vec![failures(&verdict.writes, &verdict.reads)],
    };
    parts.extend(verdict.elections.iter().map(|Election { leader, after_ms, .. }| {
        format!("new leader {leader} after {}", Seconds(*after_ms))
    }));
    let (turn_ms, turn) = moments.turn();
    let not = if verdict.healthy_after_ms.is_some() { "" } else { "not " };
    let waited_ms = history.end_ms.saturating_sub(turn_ms);
    let after = Seconds(verdict.healthy_after_ms.unwrap_or(waited_ms));
    parts.push(format!("{not}{} {after} after the {turn}", well(history)));
    if history.probe.is_some() {
        return parts.join("; ");
    }
    let (lost, all) = (verdict.lost.len(), verdict.writes.acknowledged);
    parts.push(if verdict.reread.is_empty() {
        format!("{all} acknowledged writes that could not be read again")
    } else {
        format!("{lost} of {all} acknowledged writes lost")
    });
    if !verdict.stale.is_empty() {
        parts.push(format!("{} stale reads", verdict.stale.len()));
    }
    parts.join("; ")
}

/// What is so when all is well.
pub(super) fn well(history: &History) -> &'static str {
    if history.probe.is_some() { "all answering again" } else { "healthy again" }
}

fn silences(probe: &str, probes: &[Probed]) -> Vec<String> {
    let silent = probes.iter().filter(|it| !it.tally.outages.is_empty());
    let said = silent.map(|Probed { node, tally }| {
        format!("{node} did not answer {probe} for {}", Seconds(tally.failed_for_ms))
    });
    let said: Vec<String> = said.collect();
    if said.is_empty() { vec![format!("all nodes answered {probe} all the time")] } else { said }
}

fn failures(writes: &Tally, reads: &Tally) -> String {
    let for_how_long = |it: &Tally| {
        let longest = format!(" ({} at a stretch)", Seconds(it.longest_ms));
        let longest = Some(longest).filter(|_| it.outages.len() > 1).unwrap_or_default();
        format!("failed for {}{longest}", Seconds(it.failed_for_ms))
    };
    match (writes.outages.is_empty(), reads.outages.is_empty()) {
        (true, true) => "writes and reads went on".to_owned(),
        (false, true) => format!("writes {}, reads went on", for_how_long(writes)),
        (true, false) => format!("writes went on, reads {}", for_how_long(reads)),
        (false, false) => {
            format!("writes {}, reads {}", for_how_long(writes), for_how_long(reads))
        }
    }
}

/// Milliseconds, as people read them.
struct Seconds(u64);

impl fmt::Display for Seconds {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let tenths = (self.0 + 50) / 100;
        write!(f, "{}.{} s", tenths / 10, tenths % 10)
    }
}

/// Something is acknowledged every 100 ms; a time without that is an outage where it is longer than this, which a busy host takes at
/// times.
const SLACK_MS: u64 = 500;

#[cfg(test)]
mod tests;
