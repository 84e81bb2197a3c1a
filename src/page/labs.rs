//! The labs of this user, as far as their boot servers run on this computer.

use std::thread;

use anyhow::Result;
use uuid::Uuid;

use crate::boot_server::client::Client;
use crate::boot_server::page::address::PageAddress;
use crate::boot_server::page::insight::OtherLab;
use crate::boot_server::process;
use crate::boot_server::stage::Stage;
use crate::lab::plan::DomainState;
use crate::state::StateDir;

/// All of them, `own` among them.
pub(super) fn labs(own: Uuid) -> Result<Vec<OtherLab>> {
    let all = StateDir::all()?;
    // Each is asked by itself: one that hangs holds up none of the others.
    Ok(thread::scope(|scope| {
        let asked: Vec<_> = all
            .iter()
            .map(|(name, folder)| scope.spawn(move || lab(name.to_string(), folder, own)))
            .collect();
        asked.into_iter().filter_map(|asked| asked.join().ok().flatten()).collect()
    }))
}

fn lab(name: String, folder: &StateDir, own: Uuid) -> Option<OtherLab> {
    if !process::is_running(folder.path()) {
        return None;
    }
    let content = folder.content().ok()?;
    let known = Client::of(&content).ok()?.status()?.timeline;
    let is_ready = |power| matches!(power, None | Some(DomainState::Running));
    let ready = known.nodes.iter().filter(|it| it.has(Stage::Ready) && is_ready(it.power));
    Some(OtherLab {
        name,
        url: PageAddress::read(folder.path()).ok().map(|address| address.url()),
        ready: ready.count(),
        nodes: known.nodes.len(),
        own: content.uuid == own,
    })
}
