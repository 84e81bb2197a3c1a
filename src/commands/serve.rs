//! `virtlab serve`: the boot server of a lab, in the foreground.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::mpsc::Receiver;
use std::thread;
use std::time::{Duration, UNIX_EPOCH};

use anyhow::Result;
use uuid::Uuid;

use crate::boot_server::{self, Content, Discovery, Server, process};
use crate::cli::ServeArgs;
use crate::error::hinted;
use crate::hypervisor::{DomainNews, watch_domains};
use crate::lab::LabName;
use crate::lab::metadata::{Desired, Power};
use crate::lab::plan::DomainState;
use crate::lab::readiness::ReadyWhen;
use crate::page::HostInsight;
use crate::provision::flapping::Flapper;
use crate::provision::healing::Healer;
use crate::provision::knocking::Knocker;
use crate::session::Session;
use crate::state::StateDir;

pub(super) fn run(session: &Session, args: &ServeArgs) -> Result<()> {
    let name = &args.lab.name;
    let state = folder(name, args.uuid.or(args.lab.uuid))?;
    let mut content = state.content().map_err(|error| {
        hinted(
            format!("serving lab `{name}`: {error:#}"),
            format!("`virtlab create {name}` makes what the boot server needs"),
        )
    })?;
    if content.ready_when.is_none() {
        content.ready_when = ready_when(session, &content);
    }
    let address = SocketAddr::new(content.address, content.port);
    let discovery = Discovery::open(&state.discovery(), &content.discovery_base())?;
    // systemd names no connection.
    let uri = session.uri.clone().or_else(|| state.origin().map(|origin| origin.uri));
    let news = watch_domains(uri.clone(), content.uuid);
    let server = Arc::new(Server::new(content, &state.journal())?);
    let knocker = Knocker::new(uri.clone(), Arc::clone(&server));
    let mender = Mender::new(uri.clone(), server.content().uuid);
    if process::host_was_off(state.path()) {
        server.host_was_off();
    }
    // Who starts us lets the nodes run as soon as we answer, and that must not be missed.
    while let Ok(first) = news.recv_timeout(FIRST_LOOK) {
        let more_follows = matches!(first, DomainNews::Wanted(_));
        take_in(&server, &mender, first);
        if !more_follows {
            break;
        }
    }
    knocker.look();
    follow(Arc::clone(&server), news, knocker, mender);
    let insight = Arc::new(HostInsight::new(uri, server.content().uuid));
    boot_server::serve(server, discovery, address, state.folder(), insight)
}

/// What virtlab 0.1 kept only in libvirt. Without libvirt nodes are served all the same.
fn ready_when(session: &Session, content: &Content) -> Option<ReadyWhen> {
    let observed = session.hypervisor().and_then(|hypervisor| hypervisor.observe());
    match observed {
        Ok(inventory) => inventory.labs.get(&content.uuid).map(|found| ReadyWhen::of(&found.lab)),
        Err(error) => {
            tracing::warn!("looking for the lab in libvirt: {error:#}");
            None
        }
    }
}

/// What is done here about faults that are wanted.
struct Mender {
    healer: Healer,
    flapper: Flapper,
}

impl Mender {
    fn new(uri: Option<String>, lab: Uuid) -> Self {
        Self { healer: Healer::new(uri.clone(), lab), flapper: Flapper::new(uri, lab) }
    }

    fn take_in(&self, wishes: &BTreeMap<u32, Desired>) {
        self.healer.next_ends_at(wishes.values().filter_map(|it| it.faults.first_end_ms()).min());
        self.flapper.wanted(wishes);
    }
}

/// Notes what libvirt says of the domains for as long as the process lives.
fn follow(server: Arc<Server>, news: Receiver<DomainNews>, knocker: Knocker, mender: Mender) {
    thread::spawn(move || {
        for news in news {
            take_in(&server, &mender, news);
            knocker.look();
        }
    });
}

fn take_in(server: &Server, mender: &Mender, news: DomainNews) {
    match news {
        DomainNews::All(states) => {
            for node in &server.content().nodes {
                let state = states.get(&node.index).copied().unwrap_or(DomainState::Off);
                server.domain_is(node.index, state);
            }
        }
        DomainNews::One { name, change, at } => {
            let at = at.duration_since(UNIX_EPOCH).unwrap_or_default();
            server.domain(&name, change, u64::try_from(at.as_millis()).unwrap_or(u64::MAX));
        }
        DomainNews::Wanted(wishes) => {
            let powers = wishes.iter().map(|(index, desired)| (*index, desired.power));
            server.set_wanted(&powers.filter(|(_, power)| *power != Power::On).collect());
            mender.take_in(&wishes);
        }
        DomainNews::Silence => {}
    }
}

/// How long libvirt may take for its first answer.
const FIRST_LOOK: Duration = Duration::from_secs(3);
/// The folder of the lab that is meant.
fn folder(name: &LabName, uuid: Option<Uuid>) -> Result<StateDir> {
    let mut folders = StateDir::all_of(name)?;
    if let Some(uuid) = uuid {
        folders.retain(|folder| folder.uuid() == Some(uuid));
    }
    if folders.len() > 1 {
        let candidates: Vec<String> = folders.iter().map(candidate).collect();
        let choice = folders.iter().find_map(StateDir::uuid).unwrap_or_default();
        return Err(hinted(
            format!("several labs are called `{name}`:\n{}", candidates.join("\n")),
            format!("`virtlab serve {name} --uuid {choice}` says which one"),
        ));
    }
    folders.pop().ok_or_else(|| {
        hinted(
            format!("there is nothing of lab `{name}` on this computer"),
            format!("`virtlab create {name}` makes what the boot server needs"),
        )
    })
}

fn candidate(folder: &StateDir) -> String {
    let uuid = folder.uuid().map_or_else(|| "unreadable".to_owned(), |uuid| uuid.to_string());
    let place = match folder.origin() {
        Some(origin) => format!("{} on {}", origin.uri, origin.host),
        None => "a libvirt that is not known".to_owned(),
    };
    format!("  {uuid}, at {place}")
}
