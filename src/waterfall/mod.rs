//! The last boot of each node of a lab, side by side: how long each stage took. As values here, for the terminal in [`text`],
//! as a drawing in [`picture`].

mod axis;
mod picture;
mod text;

use std::collections::BTreeMap;
use std::time::Duration;

use serde::Serialize;

pub(crate) use self::text::Letters;
use crate::boot_server::recorder::timeline::NodeTimeline;
use crate::boot_server::stage::Stage;
use crate::lab::plan::DomainState;

/// The boots of a lab's nodes.
#[derive(Clone, Debug)]
pub(crate) struct Waterfall {
    pub(crate) lab: String,
    /// In the order of their index.
    pub(crate) bars: Vec<Bar>,
    /// Other labs, whose bars are below.
    pub(crate) beside: Vec<Waterfall>,
}

/// The last boot of a node. Times count from its own power-on.
#[derive(Clone, Debug)]
pub(crate) struct Bar {
    pub(crate) name: String,
    pub(crate) index: u32,
    pub(crate) state: State,
    /// When it was powered on, in milliseconds since the epoch; `None` if no boot was seen.
    pub(crate) started_at_ms: Option<u64>,
    /// One after the other, without gaps.
    pub(crate) spans: Vec<Span>,
    /// How long a node that boots has been at it.
    pub(crate) open_ms: Option<u64>,
}

/// What became of a boot.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum State {
    Ready,
    Booting,
    Paused,
    Off,
    Missing,
}

/// The time that it took to reach a stage from the one before it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Span {
    pub(crate) stage: Stage,
    pub(crate) from_ms: u64,
    pub(crate) to_ms: u64,
}

impl Waterfall {
    /// What `nodes` tell of their last boots, with what their domains are now. Bars that are open end at `now_ms`.
    pub(crate) fn new(
        lab: &str,
        nodes: &[NodeTimeline],
        domains: &BTreeMap<u32, DomainState>,
        now_ms: u64,
    ) -> Self {
        let bar = |node: &NodeTimeline| Bar::new(node, domains.get(&node.index).copied(), now_ms);
        Self { lab: lab.to_owned(), bars: nodes.iter().map(bar).collect(), beside: Vec::new() }
    }

    /// The bars of all labs, in the order in which they are shown.
    pub(crate) fn all_bars(&self) -> impl Iterator<Item = &Bar> + Clone {
        self.bars.iter().chain(self.beside.iter().flat_map(|lab| &lab.bars))
    }

    /// `Last boot of demo`, with all labs.
    fn title(&self) -> String {
        let labs: Vec<&str> = self.labs().map(|lab| lab.lab.as_str()).collect();
        match labs[..] {
            [ref before @ .., last] if !before.is_empty() => {
                format!("Last boots of {} and {last}", before.join(", "))
            }
            _ => format!("Last boot of {}", self.lab),
        }
    }

    fn labs(&self) -> impl Iterator<Item = &Self> {
        std::iter::once(self).chain(&self.beside)
    }

    /// The stage that takes longest on the average of the nodes that reached it, the first one of several.
    pub(crate) fn slowest(&self) -> Option<Stage> {
        let mean = |stage: &Stage| {
            let lengths = self.lengths_ms(*stage);
            lengths.clone().sum::<u64>() / lengths.count().max(1) as u64
        };
        self.stages().into_iter().rev().max_by_key(mean)
    }

    fn lengths_ms(&self, stage: Stage) -> impl Iterator<Item = u64> + Clone {
        let spans = self.all_bars().flat_map(|bar| &bar.spans);
        spans.filter(move |span| span.stage == stage).map(Span::length_ms)
    }

    /// The stages that some node went through, in order.
    fn stages(&self) -> Vec<Stage> {
        let has = |stage: &Stage| self.lengths_ms(*stage).next().is_some();
        Stage::ALL.into_iter().filter(has).collect()
    }

    /// How the nodes are, of each lab, and what took longest, in one line.
    pub(crate) fn summary(&self) -> String {
        if self.beside.is_empty() {
            let slowest = self.slowest().map(|stage| {
                let lengths = range(self.lengths_ms(stage)).unwrap_or_default();
                format!("; slowest: {}, {lengths}", stage.name())
            });
            return self.states() + &slowest.unwrap_or_default();
        }
        let labs: Vec<String> =
            self.labs().map(|lab| format!("{}: {}", lab.lab, lab.states())).collect();
        labs.join("; ")
    }

    fn states(&self) -> String {
        let mut counts: BTreeMap<State, usize> = BTreeMap::new();
        for bar in &self.bars {
            *counts.entry(bar.state).or_default() += 1;
        }
        let is_ready = |bar: &&Bar| bar.state == State::Ready;
        let ready = range(self.bars.iter().filter(is_ready).map(Bar::closed_ms));
        let states = counts.iter().map(|(state, count)| match (state, &ready) {
            (State::Ready, Some(ready)) => format!("{count} ready after {ready}"),
            _ => format!("{count} {}", state.name()),
        });
        states.collect::<Vec<_>>().join(", ")
    }

    fn is_open(&self) -> bool {
        self.all_bars().any(|bar| bar.open_ms.is_some())
    }
}

impl Bar {
    fn new(node: &NodeTimeline, domain: Option<DomainState>, now_ms: u64) -> Self {
        let (started_at_ms, spans) = spans(node);
        let is_ready = spans.last().is_some_and(|span| span.stage == Stage::Ready);
        let state = match domain {
            None => State::Missing,
            Some(DomainState::Off) => State::Off,
            Some(DomainState::Paused) => State::Paused,
            Some(DomainState::Running) if is_ready => State::Ready,
            Some(DomainState::Running) => State::Booting,
        };
        let closed_ms = spans.last().map_or(0, |span| span.to_ms);
        let open_ms = started_at_ms
            .filter(|_| state == State::Booting)
            .map(|start| now_ms.saturating_sub(start).max(closed_ms));
        let name = node.name.clone();
        Self { name, index: node.index, state, started_at_ms, spans, open_ms }
    }

    /// From power-on to the last stage that was reached.
    fn closed_ms(&self) -> u64 {
        self.spans.last().map_or(0, |span| span.to_ms)
    }

    /// The span that took longest, the first one of several; `None` if the node has waited for longer than that.
    pub(crate) fn slowest(&self) -> Option<Span> {
        let longest = self.spans.iter().rev().max_by_key(|span| span.length_ms()).copied()?;
        (self.waiting_ms() <= Some(longest.length_ms())).then_some(longest)
    }

    /// How long a node that boots has been after the last stage that it reached.
    fn waiting_ms(&self) -> Option<u64> {
        self.open_ms.map(|ms| ms - self.closed_ms())
    }

    /// `ready 19.0s`, `initrd 5.2s` for a node that is after its initrd for so long, `off`.
    fn state_text(&self) -> String {
        match (self.state, self.open_ms) {
            (State::Ready, _) => format!("ready {}", short(self.closed_ms())),
            (State::Booting, Some(ms)) => {
                let stage = self.spans.last().map_or(Stage::PowerOn, |span| span.stage);
                format!("{} {}", stage.name(), short(ms))
            }
            (State::Booting, None) => "no boot seen".to_owned(),
            (state, _) => state.name().to_owned(),
        }
    }

    /// `config 8.4s`, `waiting 9.1s`
    fn slowest_text(&self) -> String {
        match (self.slowest(), self.waiting_ms()) {
            (Some(span), _) => format!("{} {}", span.stage.name(), short(span.length_ms())),
            (None, Some(ms)) => format!("waiting {}", short(ms)),
            (None, None) => String::new(),
        }
    }
}

impl State {
    fn name(self) -> &'static str {
        match self {
            Self::Ready => "ready",
            Self::Booting => "booting",
            Self::Paused => "paused",
            Self::Off => "off",
            Self::Missing => "missing",
        }
    }
}

impl Span {
    pub(crate) fn length_ms(&self) -> u64 {
        self.to_ms - self.from_ms
    }
}

/// When a boot began and what it is made of. It ends when the node is ready: what it asks for later is no part of it.
fn spans(node: &NodeTimeline) -> (Option<u64>, Vec<Span>) {
    let mut reached: Vec<(u64, Stage)> =
        node.stages.iter().map(|(stage, reached)| (reached.at_ms, *stage)).collect();
    reached.sort_unstable();
    let Some(&(start, _)) = reached.first() else { return (None, Vec::new()) };
    if let Some(end) = reached.iter().position(|(_, stage)| *stage == Stage::Ready) {
        reached.truncate(end + 1);
    }
    let span = |pair: &[(u64, Stage)]| Span {
        stage: pair[1].1,
        from_ms: pair[0].0 - start,
        to_ms: pair[1].0 - start,
    };
    (Some(start), reached.windows(2).map(span).collect())
}

/// `7.8s to 9.2s`, or one of them if they read the same.
fn range(lengths_ms: impl Iterator<Item = u64> + Clone) -> Option<String> {
    let (least, most) = (short(lengths_ms.clone().min()?), short(lengths_ms.max()?));
    Some(if least == most { least } else { format!("{least} to {most}") })
}

/// A time that is never long to read: `0.4s`, `3m07s`, `17h03m`, `5d`.
fn short(ms: u64) -> String {
    let minutes = ms / 60_000;
    match minutes {
        0..1000 => crate::output::seconds(Duration::from_millis(ms)),
        1000..6000 => format!("{}h{:02}m", minutes / 60, minutes % 60),
        _ => format!("{}d", minutes / 60 / 24),
    }
}

#[cfg(test)]
mod tests;
