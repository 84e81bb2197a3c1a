//! Waits until a lab is ready. It listens to the boot server, which knows, and calls back with what is known each time it
//! changes.

use std::collections::BTreeMap;
use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::time::{Duration, Instant};

use anyhow::{Result, bail};

use super::cluster::Cluster;
use super::faults;
use super::first_steps;
use super::missing::{self, Awaited, Problem};
use super::unheard::{self, Unheard};
use crate::boot_server::client::{Client, Heard};
use crate::boot_server::message::Message;
use crate::boot_server::recorder::timeline::{NodeTimeline, Timeline};
use crate::boot_server::stage::Stage;
use crate::deadline::Deadline;
use crate::error::TimedOut;
use crate::hypervisor::{Found, Hypervisor, is_connection_lost};
use crate::images::Readiness;
use crate::lab::plan::DomainState;
use crate::lab::spec::ConfigSource;
use crate::lab::{Lab, Node};
use crate::output::{console_text, sanitize, seconds};
use crate::session::Session;

/// What is told while one waits.
#[derive(Debug)]
pub(crate) enum News<'a> {
    /// What is known of the lab now.
    Known(&'a Timeline),
    /// The boot server of the lab has not answered for some time.
    Silent(&'a Lab),
    /// Why nothing may be heard of a node.
    Unheard(&'a Unheard),
    /// Why a node does not get its config.
    Held(&'a str),
    /// What is wrong with a node on purpose.
    Faulty(&'a str),
}

/// Waits until the nodes are ready and their etcd is healthy, and tells what it hears. Nodes that are wanted off or
/// paused need not be healthy members.
///
/// # Errors
/// [`TimedOut`] after the time, with what is missing on each node; at once if a node went down.
pub(crate) fn until_ready(
    session: &Session,
    hypervisor: &Hypervisor,
    found: &Found,
    awaited: &Awaited,
    timeout: Duration,
    tell: &mut dyn FnMut(News),
) -> Result<()> {
    let lab = &found.lab;
    let mut patience = unheard::Patience::new();
    let (mut reported, mut is_silent) = (None, false);
    let mut ear = Ear::new(session, hypervisor, lab, awaited.nodes.clone())?;
    let mut cluster = Cluster::of(found, awaited);
    let (mut problems, mut held) = (Vec::new(), Held::default());
    let mut faulty = Faulty::new(hypervisor, found, awaited);
    faulty.lines.iter().for_each(|line| tell(News::Faulty(line)));
    let ready = Deadline::after(timeout).wait_for(Duration::ZERO, || {
        ear.listen(tell)?;
        if !is_silent && ear.is_silent_for(SILENCE) {
            is_silent = true;
            tell(News::Silent(lab));
            // It cannot tell any more which nodes are unheard.
            let lost = ear.first_behind().and_then(|it| unheard::without_dhcp(hypervisor, lab, it));
            if let Some(report) = lost {
                tell(News::Unheard(&report));
                reported = Some(report);
            }
        }
        if let Some(known) = &ear.known {
            held.look(missing::held(awaited, known), tell);
        }
        let known = ear.known.as_ref().filter(|_| reported.is_none());
        if let Some(report) = known.and_then(|known| patience.look(hypervisor, lab, known)) {
            tell(News::Unheard(&report));
            reported = Some(report);
        }
        problems = ear.problems(|known| missing::of_nodes(lab, awaited, known));
        if let Some(known) = ear.known.as_ref().filter(|_| problems.is_empty()) {
            problems = cluster.problems(known)?;
        }
        Ok((!faulty.is_in_the_way(problems.is_empty())? && problems.is_empty()).then_some(()))
    })?;
    if ready.is_some() {
        return Ok(());
    }
    let known = faulty.lines.iter().chain(&held.lines).map(|line| format!("  {line}"));
    let lines = known.chain(ear.explain(&problems)).collect::<Vec<_>>().join("\n");
    let message = format!("lab `{}` is not ready after {}\n{lines}", lab.name, seconds(timeout));
    let hint = reported.map(|it| it.hint).or_else(|| hint(lab, ear.known.as_ref()));
    let hint = hint.filter(|_| faulty.lines.is_empty());
    Err(TimedOut { message, hint }.into())
}

/// Waits until a node has fetched its config: its system is up then, whatever that waits for.
///
/// # Errors
/// [`TimedOut`] after `timeout`; at once if the node went down.
pub(crate) fn until_configured(
    session: &Session,
    hypervisor: &Hypervisor,
    lab: &Lab,
    node: &Node,
    timeout: Duration,
) -> Result<()> {
    let mut ear = Ear::new(session, hypervisor, lab, vec![node.clone()])?;
    let problems = |ear: &Ear| {
        ear.problems(|known| {
            let Some(seen) = known.node(node.index) else { return Vec::new() };
            let missing = missing::of_node(lab, seen).filter(|_| !seen.has(Stage::Config));
            let name = node.name.clone();
            missing
                .map(|missing| Problem::Node { node: node.index, name, missing })
                .into_iter()
                .collect()
        })
    };
    let configured = Deadline::after(timeout).wait_for(Duration::ZERO, || {
        ear.listen(&mut |_| {})?;
        Ok(problems(&ear).is_empty().then_some(()))
    })?;
    if configured.is_some() {
        return Ok(());
    }
    let lines = ear.explain(&problems(&ear)).join("\n");
    let message = format!("node `{}` is not up after {}\n{lines}", node.name, seconds(timeout));
    Err(TimedOut { message, hint: None }.into())
}

/// Why nodes do not get their configs, which is told where it lasts.
#[derive(Default)]
struct Held {
    /// Since when, and whether it was told.
    reasons: BTreeMap<String, (Instant, bool)>,
    lines: Vec<String>,
}

impl Held {
    /// `now` has a line for each reason.
    fn look(&mut self, now: BTreeMap<String, String>, tell: &mut dyn FnMut(News)) {
        self.reasons.retain(|reason, _| now.contains_key(reason));
        for (reason, line) in &now {
            let known = self.reasons.entry(reason.clone());
            let (since, is_told) = known.or_insert_with(|| (Instant::now(), false));
            if !*is_told && since.elapsed() >= HELD_FOR {
                *is_told = true;
                tell(News::Held(line));
            }
        }
        self.lines = now.into_values().collect();
    }
}

/// What is wrong with a lab's nodes on purpose, which libvirt alone knows. It may come and go while one waits.
struct Faulty<'a> {
    hypervisor: &'a Hypervisor,
    lab: &'a Lab,
    awaited: &'a Awaited,
    looked: Option<Instant>,
    /// For each node that has faults.
    lines: Vec<String>,
    /// Whether one of them is waited for.
    keeps: bool,
}

impl<'a> Faulty<'a> {
    fn new(hypervisor: &'a Hypervisor, found: &'a Found, awaited: &'a Awaited) -> Self {
        let mut faulty = Self {
            hypervisor,
            lab: &found.lab,
            awaited,
            looked: None,
            lines: vec![],
            keeps: false,
        };
        faulty.take_in(found);
        faulty
    }

    fn take_in(&mut self, found: &Found) {
        self.lines = faults::lines(found);
        self.keeps = found.faulty().any(|index| self.awaited.has(index));
    }

    /// Whether a node that is waited for has a fault. It is looked at again where there was one, and before all is well.
    fn is_in_the_way(&mut self, is_rest_ready: bool) -> Result<bool> {
        let is_old = self.looked.is_none_or(|looked| looked.elapsed() >= SECOND_LOOK);
        if is_old && (is_rest_ready || !self.lines.is_empty()) {
            self.looked = Some(Instant::now());
            match self.hypervisor.observe() {
                // The next look tells.
                Err(error) if is_connection_lost(&error) => return Ok(true),
                other => {
                    if let Some(found) = other?.labs.get(&self.lab.uuid) {
                        self.take_in(found);
                    }
                }
            }
        }
        Ok(self.keeps)
    }
}

/// Listens to the boot server of a lab for some of its nodes.
struct Ear<'a> {
    session: &'a Session<'a>,
    hypervisor: &'a Hypervisor,
    lab: &'a Lab,
    nodes: Vec<Node>,
    heard: Receiver<Heard>,
    known: Option<Timeline>,
    /// Since when the boot server does not answer.
    silent: Option<Instant>,
    looked: Instant,
}

impl<'a> Ear<'a> {
    fn new(
        session: &'a Session<'a>,
        hypervisor: &'a Hypervisor,
        lab: &'a Lab,
        nodes: Vec<Node>,
    ) -> Result<Self> {
        let heard = Client::new(lab)?.listen()?;
        let looked = Instant::now();
        Ok(Self { session, hypervisor, lab, nodes, heard, known: None, silent: None, looked })
    }

    /// Takes in what is said, or returns after a moment in which nothing was.
    fn listen(&mut self, tell: &mut dyn FnMut(News)) -> Result<()> {
        self.session.refuse_interrupt()?;
        match self.heard.recv_timeout(MOMENT) {
            Ok(heard) => self.take_in(heard),
            Err(RecvTimeoutError::Timeout) => return self.refuse_dead_nodes(),
            Err(RecvTimeoutError::Disconnected) => bail!("nobody listens to the boot server"),
        }
        while let Ok(heard) = self.heard.try_recv() {
            self.take_in(heard);
        }
        if let Some(known) = &self.known {
            tell(News::Known(known));
        }
        self.refuse_dead_nodes()
    }

    fn take_in(&mut self, heard: Heard) {
        self.silent = match heard {
            Heard::Silence => self.silent.or_else(|| Some(Instant::now())),
            Heard::Message(_) => None,
        };
        match (heard, &mut self.known) {
            (Heard::Message(Message::Snapshot(status)), known) => *known = Some(status.timeline),
            (Heard::Message(Message::Change(event)), Some(known)) => known.apply(&event),
            (Heard::Message(Message::Change(_)), None) | (Heard::Silence, _) => {}
        }
    }

    /// The first node that has asked the boot server for nothing, as far as was heard.
    fn first_behind(&self) -> Option<u32> {
        let is_behind = |index: &u32| {
            let seen = self.known.as_ref().and_then(|known| known.node(*index));
            seen.and_then(NodeTimeline::stage).is_none_or(|stage| stage == Stage::PowerOn)
        };
        self.nodes.iter().map(|node| node.index).find(is_behind)
    }

    fn is_silent_for(&self, time: Duration) -> bool {
        self.silent.is_some_and(|since| since.elapsed() >= time)
    }

    fn problems(&self, find: impl FnOnce(&Timeline) -> Vec<Problem>) -> Vec<Problem> {
        match &self.known {
            Some(known) if self.silent.is_none() => find(known),
            _ => vec![Problem::Silence { url: self.lab.boot_url() }],
        }
    }

    /// What is said of a node that is off, or of a server that is silent, is looked at more closely: a node may have been
    /// started a moment ago, and a server ends with its lab.
    fn refuse_dead_nodes(&mut self) -> Result<()> {
        let is_off = |node: &Node| {
            let seen = self.known.as_ref().and_then(|known| known.node(node.index));
            seen.is_some_and(|seen| seen.power == Some(DomainState::Off))
        };
        let is_suspicious = self.silent.is_some() || self.nodes.iter().any(is_off);
        if !is_suspicious || self.looked.elapsed() < SECOND_LOOK {
            return Ok(());
        }
        self.looked = Instant::now();
        let inventory = match self.hypervisor.observe() {
            // The nodes may well be running: the next look tells.
            Err(error) if is_connection_lost(&error) => {
                self.session.warn_of_lost_connection(&error);
                return Ok(());
            }
            other => other?,
        };
        let Some(found) = inventory.labs.get(&self.lab.uuid) else {
            bail!("lab `{}` was removed while it was waited for", self.lab.name);
        };
        // One that was killed on purpose may be healed while it is waited for.
        for node in self.nodes.iter().filter(|node| !found.desired(node.index).is_killed()) {
            if matches!(found.domains.get(&node.index), None | Some(DomainState::Off)) {
                let tail = self.hypervisor.console_tail(self.lab, node, CONSOLE_TAIL);
                let mut lines =
                    vec![format!("node `{}` went down while it was waited for", node.name)];
                let tail = tail.unwrap_or_default();
                lines.extend(last_lines(&tail).map(|line| format!("  | {line}")));
                bail!(lines.join("\n"));
            }
        }
        Ok(())
    }

    /// The problems, each with the end of its node's console.
    fn explain(&self, problems: &[Problem]) -> Vec<String> {
        let mut blocks: Vec<Block> = Vec::new();
        for problem in problems {
            let Problem::Node { node: index, missing, .. } = problem else {
                blocks.push(Block { text: problem.to_string(), ..Block::default() });
                continue;
            };
            let node = self.lab.node(*index);
            let seen = self.known.as_ref().and_then(|known| known.node(*index));
            let problem = if seen.is_some_and(unheard::is_unheard) {
                first_steps::of(self.hypervisor, self.lab, &node).describe(self.lab)
            } else {
                missing.to_string()
            };
            let console = match self.hypervisor.console_tail(self.lab, &node, CONSOLE_TAIL) {
                Ok(text) => last_lines(&text).map(|line| format!("    | {line}")).collect(),
                Err(error) => vec![format!("    (no console: {error:#})")],
            };
            // Nodes that hang at the same place are told together.
            let same = |block: &&mut Block| {
                (&block.text, numberless(&block.console)) == (&problem, numberless(&console))
            };
            match blocks.iter_mut().find(same) {
                Some(block) => block.nodes.push(node.name),
                None => blocks.push(Block { nodes: vec![node.name], text: problem, console }),
            }
        }
        blocks.into_iter().flat_map(Block::lines).collect()
    }
}

/// A problem, and the nodes that have it.
#[derive(Default)]
struct Block {
    nodes: Vec<String>,
    text: String,
    /// The end of the first node's console.
    console: Vec<String>,
}

impl Block {
    fn lines(self) -> Vec<String> {
        let text = sanitize(&self.text);
        let first = match self.nodes.as_slice() {
            [] => format!("  {text}"),
            nodes => format!("  {}: {text}", nodes.join(", ")),
        };
        [vec![first], self.console].concat()
    }
}

/// What two consoles have in common that differ in addresses, times and numbers of nodes only.
fn numberless(console: &[String]) -> String {
    let text = console.join("\n");
    text.chars().filter(|character| !character.is_ascii_hexdigit()).collect()
}

/// The image's own config starts an etcd; somebody else's may have no such thing in mind.
fn hint(lab: &Lab, known: Option<&Timeline>) -> Option<String> {
    let is_up = known.is_some_and(|known| known.nodes.iter().any(|node| node.has(Stage::Config)));
    let foreign =
        lab.spec.ready == Readiness::Etcd && matches!(lab.spec.config, ConfigSource::File(_));
    (is_up && foreign).then(|| {
        format!(
            "if `{}` starts no etcd, say when a node is ready: `virtlab create {} --recreate --ready ssh …`, \
             or `config`",
            lab.spec.config, lab.name
        )
    })
}

/// The last lines of a console that say something.
fn last_lines(text: &str) -> impl Iterator<Item = String> {
    let lines: Vec<String> = console_text(text)
        .lines()
        .map(|line| sanitize(line.trim_end()))
        .filter(|line| !line.is_empty())
        .collect();
    let skip = lines.len().saturating_sub(CONSOLE_LINES);
    lines.into_iter().skip(skip)
}

/// How long one listens before one looks whether somebody pressed Ctrl-C.
const MOMENT: Duration = Duration::from_millis(100);
/// How long the boot server may be silent before it is told: longer than it takes to start it anew.
const SILENCE: Duration = Duration::from_secs(5);
/// How long something suspicious may last before libvirt is asked.
const SECOND_LOOK: Duration = Duration::from_secs(2);
/// How long a node may have to ask again for its config: etcd takes no member in right after it has lost one.
const HELD_FOR: Duration = Duration::from_secs(10);
const CONSOLE_TAIL: u64 = 4096;
const CONSOLE_LINES: usize = 5;
