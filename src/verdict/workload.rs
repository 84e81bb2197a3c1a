//! The clients: for each node one that writes, one that reads and one that asks who leads; or one that asks whether the node
//! answers at all.
//!
//! A write and a read are due every [`TICK`], on one node after the other, a probe is on each node. Each node has clients of its own, so one that does
//! not answer keeps no other waiting; what it has missed meanwhile is not made up for.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant, SystemTime};

use anyhow::Result;
use uuid::Uuid;

use super::history::{History, Kind, Operation, Reread, Sighting};
use super::judge;
use crate::cluster::etcd::Endpoint;
use crate::cluster::etcd::ledger::{self, Ledger, Outcome};
use crate::cluster::readiness::Probe;
use crate::images::Readiness;

/// Clients at work, until they are ended or dropped.
#[derive(Debug)]
pub struct Workload {
    shared: Arc<Shared>,
    threads: Vec<JoinHandle<()>>,
}

#[derive(Debug)]
struct Shared {
    subject: Subject,
    endpoints: Vec<Endpoint>,
    begun: Instant,
    is_over: AtomicBool,
    next_number: AtomicU64,
    history: Mutex<History>,
}

/// What the clients ask.
#[derive(Debug)]
enum Subject {
    /// The etcds of the nodes.
    Etcd(Ledger),
    /// Something else that they have.
    Service(Probe),
}

impl Workload {
    /// Lets clients loose on a healthy cluster.
    ///
    /// # Errors
    /// If the first etcd does not answer, or has no v3 API.
    pub fn start(endpoints: &[Endpoint]) -> Result<Self> {
        let ledger = Ledger::open(endpoints, &Uuid::new_v4().to_string(), KEPT)?;
        let history = History { members: ledger::nodes(endpoints)?, ..begun(endpoints) };
        let clients = [Client::Writer, Client::Reader, Client::Watcher];
        Ok(Self::of(Subject::Etcd(ledger), &clients, endpoints, history))
    }

    /// Lets clients loose that ask nodes for something else than etcd.
    ///
    /// # Errors
    /// If it is no port and no URL that is asked for.
    pub fn probing(criterion: &Readiness, endpoints: &[Endpoint]) -> Result<Self> {
        let history = History { probe: Some(criterion.to_string()), ..begun(endpoints) };
        let subject = Subject::Service(Probe::new(criterion)?);
        Ok(Self::of(subject, &[Client::Prober], endpoints, history))
    }

    fn of(subject: Subject, clients: &[Client], endpoints: &[Endpoint], history: History) -> Self {
        let shared = Arc::new(Shared {
            subject,
            endpoints: endpoints.to_vec(),
            begun: Instant::now(),
            is_over: AtomicBool::new(false),
            next_number: AtomicU64::new(1),
            history: Mutex::new(history),
        });
        let clients =
            (0..endpoints.len()).flat_map(|node| clients.iter().map(move |it| (node, *it)));
        let threads = clients.map(|(node, client)| {
            let shared = Arc::clone(&shared);
            thread::spawn(move || shared.run(client, node))
        });
        Self { threads: threads.collect(), shared }
    }

    /// How long it has run, in milliseconds.
    pub fn now_ms(&self) -> u64 {
        self.shared.now_ms()
    }

    /// When all was well again after a moment, if it is: see [`judge::healthy_ms`].
    pub fn healthy_ms(&self, after_ms: u64) -> Option<u64> {
        judge::healthy_ms(&self.shared.history(), after_ms)
    }

    /// What they did and saw so far.
    pub(crate) fn so_far(&self) -> History {
        let history = self.shared.history().clone();
        History { end_ms: self.now_ms(), ..history }
    }

    /// Ends the clients, and reads on each node all that was written.
    ///
    /// # Errors
    /// If there can be no HTTP client, which is a bug.
    pub fn finish(mut self) -> Result<History> {
        self.stop();
        let Shared { subject, endpoints, .. } = &*self.shared;
        let mut history = self.shared.history().clone();
        history.end_ms = self.now_ms();
        let Subject::Etcd(ledger) = subject else { return Ok(history) };
        let rereads = endpoints.iter().zip(ledger.numbers(endpoints));
        let rereads =
            rereads.map(|(endpoint, numbers)| Reread { node: endpoint.name.clone(), numbers });
        history.rereads = rereads.collect();
        // Who is gone has no name any more, and who came has one now.
        history.members.extend(ledger::nodes(endpoints).unwrap_or_default());
        Ok(history)
    }

    fn stop(&mut self) {
        self.shared.is_over.store(true, Ordering::Relaxed);
        for thread in self.threads.drain(..) {
            // One that panicked has said so.
            let _ = thread.join();
        }
    }
}

/// What was written is removed, where etcd does it.
impl Drop for Workload {
    fn drop(&mut self) {
        self.stop();
        let Shared { subject, endpoints, .. } = &*self.shared;
        let Subject::Etcd(ledger) = subject else { return };
        if let Err(error) = ledger.close(endpoints) {
            tracing::debug!("{error:#}");
        }
    }
}

#[derive(Clone, Copy)]
enum Client {
    Writer,
    Reader,
    Watcher,
    Prober,
}

/// What a history begins with.
fn begun(endpoints: &[Endpoint]) -> History {
    let epoch = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    let nodes = endpoints.iter().map(|endpoint| endpoint.name.clone()).collect();
    History { began_ms: millis(epoch), nodes, ..History::default() }
}

impl Shared {
    /// The turns of a client on the node of this index.
    fn run(&self, client: Client, node: usize) {
        let endpoint = &self.endpoints[node];
        let (first, between) = match client {
            Client::Writer | Client::Reader => (node, self.endpoints.len()),
            Client::Watcher | Client::Prober => (0, 1),
        };
        let tick = |count: usize| TICK * u32::try_from(count).unwrap_or(u32::MAX);
        let mut due = tick(first);
        while self.wait_until(due) {
            match client {
                Client::Writer => self.operate(Kind::Write, endpoint),
                Client::Reader => self.operate(Kind::Read, endpoint),
                Client::Watcher => self.look(endpoint),
                Client::Prober => self.operate(Kind::Probe, endpoint),
            }
            while due <= self.begun.elapsed() {
                due += tick(between);
            }
        }
    }

    /// Whether it goes on then.
    fn wait_until(&self, due: Duration) -> bool {
        loop {
            let left = due.saturating_sub(self.begun.elapsed());
            if self.is_over.load(Ordering::Relaxed) || left.is_zero() {
                return !self.is_over.load(Ordering::Relaxed);
            }
            thread::sleep(left.min(TICK));
        }
    }

    fn operate(&self, kind: Kind, endpoint: &Endpoint) {
        let number =
            (kind == Kind::Write).then(|| self.next_number.fetch_add(1, Ordering::Relaxed));
        let start_ms = self.now_ms();
        let outcome = match (&self.subject, number) {
            (Subject::Etcd(ledger), Some(number)) => ledger.write(endpoint, number),
            (Subject::Etcd(ledger), None) => ledger.read(endpoint),
            (Subject::Service(probe), _) if probe.is_answered(endpoint.ip) => {
                Outcome::Acknowledged { revision: 0 }
            }
            (Subject::Service(_), _) => Outcome::Failed,
        };
        let (node, end_ms) = (endpoint.name.clone(), self.now_ms());
        let operation = Operation { kind, node, start_ms, end_ms, number, outcome };
        self.history().operations.push(operation);
    }

    fn look(&self, endpoint: &Endpoint) {
        let Subject::Etcd(ledger) = &self.subject else { return };
        let leader = ledger.leader(endpoint).ok();
        let (at_ms, node) = (self.now_ms(), &endpoint.name);
        let mut history = self.history();
        let last = history.sightings.iter().rev().find(|it| it.node == *node);
        if last.is_none_or(|last| last.leader != leader) {
            history.sightings.push(Sighting { at_ms, node: node.clone(), leader });
        }
    }

    fn now_ms(&self) -> u64 {
        millis(self.begun.elapsed())
    }

    fn history(&self) -> MutexGuard<'_, History> {
        self.history.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Whole milliseconds.
pub(crate) fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

/// How often something is written, and something read.
pub const TICK: Duration = Duration::from_millis(100);
/// How long what was written stays where nobody removes it. Longer than a fault lasts.
const KEPT: Duration = Duration::from_secs(24 * 60 * 60);
