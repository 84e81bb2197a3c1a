//! Waits until a lab is ready and shows how far each node is: live on a terminal, a line for each
//! stage elsewhere.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Result, bail};
use indicatif::ProgressBar;

use super::addresses;
use super::first_steps::{self, FirstStep};
use super::readiness::{self, endpoints, last_seen_stage};
use crate::boot_server::process::Client;
use crate::boot_server::timeline::{NodeTimeline, Stage};
use crate::cluster::etcd;
use crate::error::TimedOut;
use crate::hypervisor::{Hypervisor, is_connection_lost};
use crate::images::Readiness;
use crate::lab::boot::Transport;
use crate::lab::plan::DomainState;
use crate::lab::spec::ConfigSource;
use crate::lab::{Lab, Node};
use crate::output::{sanitize, seconds};
use crate::session::Session;

/// How to wait.
#[derive(Debug)]
pub(crate) struct Wait {
    /// For how long at the most.
    pub(crate) timeout: Duration,
    /// The lab was complete before: what its nodes did then is no news.
    pub(crate) was_up: bool,
}

/// Waits until every node of the lab is ready.
///
/// # Errors
/// [`TimedOut`] after the time, with what is missing on each node; at once if a node went down.
pub(crate) fn until_ready(
    session: &Session,
    hypervisor: &Hypervisor,
    lab: &Lab,
    wait: &Wait,
) -> Result<()> {
    let deadline = Instant::now() + wait.timeout;
    let client = Client::new(lab)?;
    let mut progress = Progress::new(session, lab);
    if wait.was_up
        && let Some(status) = client.status()
    {
        progress.skip(&status.timeline.nodes);
    }
    let mut next_look = Instant::now() + DOMAIN_CHECK;
    let mut next_search = Instant::now() + SEARCH;
    let mut problems = Vec::new();
    let mut patience = Patience::new();
    loop {
        session.refuse_interrupt()?;
        let timeline = client.status().map(|status| status.timeline.nodes);
        if let Some(nodes) = &timeline {
            progress.show(nodes);
            let search = Instant::now() >= next_search;
            if search {
                next_search = Instant::now() + SEARCH;
            }
            let addresses = addresses::of(hypervisor, lab, nodes, search);
            problems = check(lab, &client, nodes, &addresses)?;
            if problems.is_empty() {
                break;
            }
            patience.report_unheard(session, hypervisor, lab, nodes);
        }
        if Instant::now() >= deadline {
            progress.finish();
            let lines = missing(hypervisor, lab, timeline.as_deref(), &problems);
            let message = format!(
                "lab `{}` is not ready after {}\n{}",
                lab.name,
                seconds(wait.timeout),
                lines.join("\n")
            );
            let hint = patience.hint.or_else(|| hint(lab, timeline.as_deref()));
            return Err(TimedOut { message, hint }.into());
        }
        if Instant::now() >= next_look {
            next_look = Instant::now() + DOMAIN_CHECK;
            refuse_dead_nodes(session, hypervisor, lab, &lab.nodes())?;
        }
        thread::sleep(POLL);
    }
    if let Some(status) = client.status() {
        progress.show(&status.timeline.nodes);
    }
    progress.finish();
    Ok(())
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
    let deadline = Instant::now() + timeout;
    let client = Client::new(lab)?;
    let mut next_look = Instant::now() + DOMAIN_CHECK;
    loop {
        session.refuse_interrupt()?;
        let timeline = client.status().map(|status| status.timeline.nodes);
        let seen = timeline.iter().flatten().find(|seen| seen.index == node.index);
        if seen.is_some_and(|seen| seen.stages.contains_key(&Stage::Config)) {
            return Ok(());
        }
        if Instant::now() >= deadline {
            let problem = seen.map(|seen| format!("{}: {}", node.name, waiting_for(lab, seen)));
            let problems: Vec<String> = problem.into_iter().collect();
            let lines = missing(hypervisor, lab, timeline.as_deref(), &problems).join("\n");
            let waited = seconds(timeout);
            let message = format!("node `{}` is not up after {waited}\n{lines}", node.name);
            return Err(TimedOut { message, hint: None }.into());
        }
        if Instant::now() >= next_look {
            next_look = Instant::now() + DOMAIN_CHECK;
            refuse_dead_nodes(session, hypervisor, lab, std::slice::from_ref(node))?;
        }
        thread::sleep(POLL);
    }
}

/// What is missing for the lab to be ready; tells the boot server of nodes that have become so.
fn check(
    lab: &Lab,
    client: &Client,
    nodes: &[NodeTimeline],
    addresses: &BTreeMap<u32, IpAddr>,
) -> Result<Vec<String>> {
    let mut problems = Vec::new();
    let mut candidates = Vec::new();
    for node in nodes {
        let fetched = node.stages.contains_key(&last_seen_stage(lab));
        // Other servers gave it everything, as far as we can tell.
        let elsewhere = lab.spec.network.managed().is_none()
            && lab.spec.ready != Readiness::Config
            && node.stage().is_none_or(|stage| matches!(stage, Stage::PowerOn | Stage::Ready));
        match addresses.get(&node.index) {
            Some(ip) if fetched || elsewhere => candidates.push((node, *ip)),
            _ => problems.push(format!("{}: {}", node.name, waiting_for(lab, node))),
        }
    }
    let asked: Vec<(&str, IpAddr)> =
        candidates.iter().map(|(node, ip)| (node.name.as_str(), *ip)).collect();
    for ((node, ip), ready) in candidates.iter().zip(readiness::are_ready(lab, &asked)?) {
        if !ready {
            problems.push(format!("{}: {}", node.name, not_ready(lab, node, *ip)));
        } else if !node.stages.contains_key(&Stage::Ready) {
            client.reach(node.index, Stage::Ready)?;
        }
    }
    if problems.is_empty() && lab.spec.ready == Readiness::Etcd {
        let endpoints = endpoints(&asked, etcd::CLIENT_PORT);
        problems = etcd::check(&endpoints, &lab.uuid.to_string())?.problems();
    }
    Ok(problems)
}

/// What a node did last, when it is the node's own turn.
fn not_ready(lab: &Lab, node: &NodeTimeline, ip: IpAddr) -> String {
    let what = match lab.spec.ready {
        Readiness::Ssh => "ssh does not answer",
        Readiness::Config | Readiness::Etcd => "etcd is not healthy",
    };
    let last = last_seen_stage(lab);
    let done = match last {
        Stage::PowerOn => "powered on".to_owned(),
        _ if !node.stages.contains_key(&last) => format!("has address {ip}"),
        Stage::Kernel => "kernel fetched".to_owned(),
        _ => "config fetched".to_owned(),
    };
    format!("{done}, {what} yet")
}

/// What a node did last, and what it has not done yet.
fn waiting_for(lab: &Lab, node: &NodeTimeline) -> &'static str {
    match node.stage() {
        None => "not powered on",
        Some(Stage::PowerOn) if lab.spec.boot.transport == Transport::Tftp => {
            "no config was asked for yet; what goes by TFTP before it is not seen"
        }
        Some(Stage::PowerOn) => "no boot script was asked for yet",
        Some(Stage::Script) => "boot script fetched, kernel not",
        Some(Stage::Kernel) => "kernel fetched, initrd not",
        Some(Stage::Initrd | Stage::Rootfs) => "kernel and initrd fetched, config not",
        Some(Stage::Config | Stage::Ready) => "config fetched",
    }
}

/// The image's own config starts an etcd; somebody else's may have no such thing in mind.
fn hint(lab: &Lab, timeline: Option<&[NodeTimeline]>) -> Option<String> {
    let has_config = |node: &NodeTimeline| node.stages.contains_key(&Stage::Config);
    let is_up = timeline.is_some_and(|nodes| nodes.iter().any(has_config));
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

fn missing(
    hypervisor: &Hypervisor,
    lab: &Lab,
    timeline: Option<&[NodeTimeline]>,
    problems: &[String],
) -> Vec<String> {
    if timeline.is_none() {
        return vec![format!("  the boot server at {} does not answer", lab.boot_url())];
    }
    let mut lines = Vec::new();
    for problem in problems {
        let node =
            lab.nodes().into_iter().find(|node| problem.starts_with(&format!("{}:", node.name)));
        let unheard = node.as_ref().filter(|node| is_unheard(timeline.unwrap_or_default(), node));
        let problem = match unheard {
            Some(node) => {
                let step = first_steps::of(hypervisor, lab, node);
                format!("{}: {}", node.name, step.describe(lab))
            }
            None => problem.clone(),
        };
        lines.push(format!("  {}", sanitize(&problem)));
        let Some(node) = node else { continue };
        match hypervisor.console_tail(lab, &node, CONSOLE_TAIL) {
            Ok(text) => lines.extend(last_lines(&text).map(|line| format!("    | {line}"))),
            Err(error) => lines.push(format!("    (no console: {error:#})")),
        }
    }
    lines
}

/// Whether a node is on and has asked the boot server for nothing yet.
fn is_unheard(timeline: &[NodeTimeline], node: &Node) -> bool {
    let seen = timeline.iter().find(|seen| seen.index == node.index);
    seen.and_then(NodeTimeline::stage) == Some(Stage::PowerOn)
}

/// Looks, after some time, why the boot server hears nothing of a node.
struct Patience {
    next_look: Instant,
    asked_before: BTreeSet<u32>,
    /// The way out, once it is known.
    hint: Option<String>,
}

impl Patience {
    fn new() -> Self {
        let next_look = Instant::now() + UNHEARD;
        Self { next_look, asked_before: BTreeSet::new(), hint: None }
    }

    /// Warns, once, of a firewall that keeps nodes from the boot server. Whoever asks at two looks does not
    /// just ask at this moment.
    fn report_unheard(
        &mut self,
        session: &Session,
        hypervisor: &Hypervisor,
        lab: &Lab,
        timeline: &[NodeTimeline],
    ) {
        if self.hint.is_some() || Instant::now() < self.next_look {
            return;
        }
        self.next_look = Instant::now() + UNHEARD_AGAIN;
        let unheard = lab.nodes().into_iter().filter(|node| is_unheard(timeline, node));
        let Some((node, step)) = unheard
            .map(|node| (first_steps::of(hypervisor, lab, &node), node))
            .max_by_key(|(step, _)| *step)
            .map(|(step, node)| (node, step))
        else {
            return;
        };
        if self.asked_before.insert(node.index) {
            return;
        }
        let suspect = first_steps::suspect(hypervisor, lab, step);
        let what = step.describe(lab);
        let (reason, hint) = match (suspect, step) {
            (Some(verdict), _) => (
                format!(
                    "this host's firewall ({}) may keep it from {}",
                    verdict.firewall, verdict.ports
                ),
                format!("`{}` opens it for good, and the nodes go on", verdict.command),
            ),
            (None, FirstStep::Asking) => (
                "a firewall on this host?".to_owned(),
                format!(
                    "`sudo nft list ruleset` shows what keeps nodes from port {}",
                    lab.spec.boot_port
                ),
            ),
            (None, _) => return,
        };
        session.printer.warn(format!("{}: {what}: {reason}; {hint}", node.name));
        self.hint = Some(hint);
    }
}

/// The last lines of a console that say something.
fn last_lines(text: &str) -> impl Iterator<Item = String> {
    let lines: Vec<String> = text
        .lines()
        .map(|line| sanitize(line.trim_end()))
        .filter(|line| !line.is_empty())
        .collect();
    let skip = lines.len().saturating_sub(CONSOLE_LINES);
    lines.into_iter().skip(skip)
}

fn refuse_dead_nodes(
    session: &Session,
    hypervisor: &Hypervisor,
    lab: &Lab,
    nodes: &[Node],
) -> Result<()> {
    let inventory = match hypervisor.observe() {
        // The nodes may well be running: the next look tells.
        Err(error) if is_connection_lost(&error) => {
            session.warn_of_lost_connection(&error);
            return Ok(());
        }
        other => other?,
    };
    let Some(found) = inventory.labs.get(&lab.uuid) else {
        bail!("lab `{}` was removed while it was waited for", lab.name);
    };
    for node in nodes {
        let state = found.domains.get(&node.index);
        if matches!(state, None | Some(DomainState::Off)) {
            let tail = hypervisor.console_tail(lab, node, CONSOLE_TAIL).unwrap_or_default();
            let mut lines = vec![format!("node `{}` went down while it was waited for", node.name)];
            lines.extend(last_lines(&tail).map(|line| format!("  | {line}")));
            bail!(lines.join("\n"));
        }
    }
    Ok(())
}

/// The stages as they are reached.
struct Progress<'a> {
    session: &'a Session<'a>,
    bars: Vec<ProgressBar>,
    told: BTreeSet<(u32, Stage)>,
}

impl<'a> Progress<'a> {
    fn new(session: &'a Session<'a>, lab: &Lab) -> Self {
        let live = session.printer.is_live() && lab.spec.nodes <= MAX_BARS;
        let nodes = if live { lab.nodes() } else { Vec::new() };
        let bars = nodes.iter().map(|node| session.printer.spinner(&node.name)).collect();
        Self { session, bars, told: BTreeSet::new() }
    }

    /// What was reached already is not told.
    fn skip(&mut self, nodes: &[NodeTimeline]) {
        let reached = |node: &NodeTimeline| {
            let index = node.index;
            node.stages.keys().map(move |stage| (index, *stage)).collect::<Vec<_>>()
        };
        self.told.extend(nodes.iter().flat_map(reached));
    }

    fn show(&mut self, nodes: &[NodeTimeline]) {
        for node in nodes {
            if let Some(bar) = self.bars.get(node.index as usize - 1) {
                bar.set_message(stages(node));
                continue;
            }
            for stage in node.stages.keys() {
                if self.told.insert((node.index, *stage)) && *stage != Stage::PowerOn {
                    let after = node.seconds_to(*stage).unwrap_or_default();
                    self.session.printer.note(format!(
                        "{}: {} after {after:.1} s",
                        node.name,
                        stage.name()
                    ));
                }
            }
        }
    }

    fn finish(&self) {
        self.bars.iter().for_each(ProgressBar::finish_and_clear);
    }
}

/// `script 2.5s  kernel 2.8s  …`
fn stages(node: &NodeTimeline) -> String {
    let stages = node.stages.keys().filter(|stage| **stage != Stage::PowerOn);
    let stages: Vec<String> = stages
        .map(|stage| {
            format!("{} {:.1}s", stage.name(), node.seconds_to(*stage).unwrap_or_default())
        })
        .collect();
    if stages.is_empty() { "starting".to_owned() } else { stages.join("  ") }
}

const POLL: Duration = Duration::from_millis(250);
/// After this time nodes have asked for their script, unless they are emulated on a busy host.
const UNHEARD: Duration = Duration::from_secs(15);
const UNHEARD_AGAIN: Duration = Duration::from_secs(5);
const DOMAIN_CHECK: Duration = Duration::from_secs(5);
/// How often all addresses of a foreign network are asked for nodes.
const SEARCH: Duration = Duration::from_secs(5);
const CONSOLE_TAIL: u64 = 4096;
const CONSOLE_LINES: usize = 5;
/// More lines than this do not fit on a terminal.
const MAX_BARS: u32 = 30;
