//! What happens to a lab's domains, as libvirt tells it: for what lives as long as the lab does. Where a driver has no
//! events, and after each new connection, the domains are looked at instead.

use std::collections::BTreeMap;
use std::sync::mpsc::{self, Receiver, RecvTimeoutError, SendError, Sender};
use std::thread;
use std::time::{Duration, Instant, SystemTime};

use anyhow::Result;
use uuid::Uuid;
use virt::error::ErrorNumber;

use super::Hypervisor;
use super::error::{Already, Doing};
use super::observe::{Found, state_of};
use super::raw::{self, EventKind, RawEvent};
use crate::lab::metadata::{Desired, Mark};
use crate::lab::plan::{DomainChange, DomainState};

/// Something that libvirt says of the domains.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum DomainNews {
    /// All domains of the lab as they are now, by their index; a missing one is not there.
    All(BTreeMap<u32, DomainState>),
    /// What is wanted of those nodes of the lab of which anything else is wanted than that they run, as their marks say it, by
    /// their index. It comes first, and before what happens to them.
    Wanted(BTreeMap<u32, Desired>),
    /// Something happened to a domain, which need not be the lab's.
    One {
        /// Its name.
        name: String,
        /// What.
        change: DomainChange,
        /// When.
        at: SystemTime,
    },
    /// libvirt cannot be reached; it is tried again.
    Silence,
}

/// What happens to the domains of the lab with this UUID, from now on and until the receiver is dropped. A connection that
/// breaks, as it does when libvirtd is restarted, is opened anew.
pub fn watch_domains(uri: Option<String>, lab: Uuid) -> Receiver<DomainNews> {
    let (news, receiver) = mpsc::channel();
    thread::spawn(move || {
        let (mut known_problem, mut wanted) = (None, None);
        loop {
            let opened = Hypervisor::open(uri.as_deref());
            let watched = opened.and_then(|hypervisor| watch(&hypervisor, lab, &news, &mut wanted));
            let problem = watched.err().map(|error| format!("{error:#}"));
            // A libvirtd that is away for long fills no log.
            if let Some(problem) = problem.as_ref().filter(|_| problem != known_problem) {
                tracing::warn!("watching the domains: {problem}");
            }
            known_problem = problem;
            if news.send(DomainNews::Silence).is_err() {
                return;
            }
            thread::sleep(RECONNECT);
        }
    });
    receiver
}

/// Watches over one connection until it breaks or nobody wants to know.
fn watch(
    hypervisor: &Hypervisor,
    lab: Uuid,
    news: &Sender<DomainNews>,
    wanted: &mut Option<BTreeMap<u32, Desired>>,
) -> Result<()> {
    // This very connection: the one that takes its place would not have been asked for events.
    let connection = hypervisor.connection()?;
    let (sender, events) = mpsc::channel();
    let tell = move |event: RawEvent| {
        let _ = sender.send((event, SystemTime::now()));
    };
    let watch = raw::watch_domains(&connection, tell).already(&[ErrorNumber::NoSupport]);
    // What happened before the first look is looked at, what happens meanwhile waits in `events`.
    let watch = watch.doing(|| "asking for events of domains".to_owned())?;
    let mut looks = Looks::new(watch.is_some());
    loop {
        if looks.is_due() {
            let found = hypervisor.observe()?.labs.remove(&lab);
            let now = found.as_ref().map(wishes).unwrap_or_default();
            let domains = found.map(|found| found.domains).unwrap_or_default();
            if tell_wanted(news, wanted, now)
                .and_then(|()| news.send(DomainNews::All(domains)))
                .is_err()
            {
                return Ok(());
            }
        }
        let told = match events.recv_timeout(CHECK) {
            Ok((event, at)) => {
                let mut now = wanted.clone().unwrap_or_default();
                // A mark is written before the power changes, but its event may be told after that.
                let may_differ = [EventKind::Marked, EventKind::Stopped, EventKind::Suspended];
                if may_differ.contains(&event.kind)
                    && let Some((node, desired)) = hypervisor.desired(&event.name, lab)?
                {
                    now.remove(&node);
                    now.extend(Some((node, desired)).filter(is_wish));
                }
                let told = tell_wanted(news, wanted, now);
                match hypervisor.understand(event, at)? {
                    Some(one) => told.and_then(|()| news.send(one)),
                    None => told,
                }
            }
            Err(problem) => {
                if problem == RecvTimeoutError::Disconnected {
                    thread::sleep(CHECK);
                }
                let alive = connection.is_alive().doing(|| "looking at the connection".to_owned());
                anyhow::ensure!(alive?, "libvirt has closed the connection");
                Ok(())
            }
        };
        if told.is_err() {
            return Ok(());
        }
    }
}

/// When all domains are looked at. Events do not tell everything: a libvirtd that was started anew takes its domains up
/// again while it answers already, and says nothing of one that it loses by that.
struct Looks {
    begun: Instant,
    /// How long after the beginning the next ones are.
    next: Duration,
    has_events: bool,
}

impl Looks {
    fn new(has_events: bool) -> Self {
        Self { begun: Instant::now(), next: Duration::ZERO, has_events }
    }

    /// Whether one is due now; the next one is later.
    fn is_due(&mut self) -> bool {
        let elapsed = self.begun.elapsed();
        let is_due = elapsed >= self.next;
        if is_due {
            let pause = if self.has_events { elapsed.clamp(CHECK, RARELY) } else { CHECK };
            self.next = elapsed + pause;
        }
        is_due
    }
}

/// What is wanted of nodes beside that they run.
fn wishes(found: &Found) -> BTreeMap<u32, Desired> {
    let wanted = found.marks.nodes.iter().map(|(index, mark)| (*index, mark.desired));
    wanted.filter(is_wish).collect()
}

fn is_wish((_, desired): &(u32, Desired)) -> bool {
    *desired != Desired::default()
}

/// Tells what is wanted of nodes, if that is news.
fn tell_wanted(
    news: &Sender<DomainNews>,
    known: &mut Option<BTreeMap<u32, Desired>>,
    now: BTreeMap<u32, Desired>,
) -> Result<(), SendError<DomainNews>> {
    if known.as_ref() == Some(&now) {
        return Ok(());
    }
    *known = Some(now.clone());
    news.send(DomainNews::Wanted(now))
}

impl Hypervisor {
    /// What an event means; `None` for those that change nothing.
    fn understand(&self, event: RawEvent, at: SystemTime) -> Result<Option<DomainNews>> {
        let RawEvent { name, kind } = event;
        let change = match kind {
            EventKind::Started => match self.domain_state(&name)? {
                Some(state) => DomainChange::Started(state),
                None => return Ok(None),
            },
            EventKind::Restored => match self.domain_state(&name)? {
                Some(state) => DomainChange::Restored(state),
                None => return Ok(None),
            },
            EventKind::Resumed => DomainChange::Is(DomainState::Running),
            EventKind::Suspended => DomainChange::Is(DomainState::Paused),
            EventKind::Stopped => DomainChange::Is(DomainState::Off),
            EventKind::Reset => DomainChange::Reset,
            EventKind::Marked => return Ok(None),
        };
        Ok(Some(DomainNews::One { name, change, at }))
    }

    /// Which node of the lab a domain is, and what is wanted of it; `None` if it is none of the lab's.
    fn desired(&self, name: &str, lab: Uuid) -> Result<Option<(u32, Desired)>> {
        let Some((_, xml)) = self.domain_named(name)? else { return Ok(None) };
        // A mark that cannot be read is somebody else's.
        let mark = Mark::from_object_xml(&xml).ok().flatten().filter(|mark| mark.lab.uuid == lab);
        Ok(mark.and_then(|mark| mark.node).map(|node| (node.index, node.desired)))
    }

    /// The event does not say whether a domain was started paused.
    fn domain_state(&self, name: &str) -> Result<Option<DomainState>> {
        let doing = || format!("looking at domain `{name}`");
        let gone = [ErrorNumber::NoDomain];
        let domain = self.connection()?.lookup_domain_by_name(name).already(&gone).doing(doing)?;
        let Some(domain) = domain else { return Ok(None) };
        Ok(domain.state().already(&gone).doing(doing)?.map(|(state, _)| state_of(state)))
    }
}

/// How often a connection is looked at, and the domains of a driver without events.
const CHECK: Duration = Duration::from_secs(1);
/// How often all domains are looked at where events tell what happens to them.
const RARELY: Duration = Duration::from_secs(30);
const RECONNECT: Duration = Duration::from_secs(1);
