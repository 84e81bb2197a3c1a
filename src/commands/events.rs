//! `virtlab events`: what the boot server knows of a lab, and what happens to it.

use std::sync::mpsc::RecvTimeoutError;
use std::time::Duration;

use anyhow::{Result, bail};

use crate::boot_server::client::{Client, Heard};
use crate::boot_server::message::{Message, Status};
use crate::boot_server::recorder::event::{
    AddressFound, ClusterHealth, Event, Happening, NodeHeld, NodeIdentity, PowerChanged,
    StageReached, WantedChanged,
};
use crate::boot_server::recorder::now_ms;
use crate::boot_server::recorder::timeline::NodeTimeline;
use crate::cli::looking::EventsArgs;
use crate::error::hinted;
use crate::hypervisor::{Hypervisor, is_connection_lost};
use crate::lab::Lab;
use crate::output::{Format, sanitize};
use crate::session::Session;
use crate::status::{domain_word, no_lab, power_word};
use crate::units::human_bytes;

/// Prints what is known now, and with `--follow` each change.
pub(super) fn run(session: &Session, args: &EventsArgs) -> Result<()> {
    let hypervisor = session.hypervisor()?;
    let inventory = session.observe(&hypervisor)?;
    let Some(found) = inventory.lab(&args.lab) else { return Err(no_lab(&inventory, &args.lab)) };
    let lab = &found.lab;
    let client = Client::new(lab)?;
    if args.follow {
        return follow(session, &hypervisor, lab, &client);
    }
    let Some(status) = client.status() else {
        return Err(hinted(
            format!("the boot server at {} does not answer", lab.boot_url()),
            format!("`virtlab create {}` brings it back", lab.name),
        ));
    };
    Teller::new(session, lab).tell(&Message::Snapshot(status))?;
    Ok(())
}

/// Goes on until the reader goes away, the lab is gone, or Ctrl-C ends us.
fn follow(session: &Session, hypervisor: &Hypervisor, lab: &Lab, client: &Client) -> Result<()> {
    let heard = client.listen()?;
    let mut teller = Teller::new(session, lab);
    loop {
        match heard.recv_timeout(PATIENCE) {
            Ok(Heard::Message(message)) => {
                if !teller.tell(&message)? {
                    return Ok(());
                }
                continue;
            }
            Ok(Heard::Silence) | Err(RecvTimeoutError::Timeout) => {}
            Err(RecvTimeoutError::Disconnected) => bail!("nobody listens to the boot server"),
        }
        // A lab that is quiet, or whose server does not answer, may have been removed.
        match hypervisor.observe() {
            Ok(inventory) if !inventory.labs.contains_key(&lab.uuid) => {
                session.printer.note("there is nothing left to follow: the lab is gone");
                return Ok(());
            }
            Err(error) if !is_connection_lost(&error) => return Err(error),
            _ => {}
        }
    }
}

/// Puts messages into lines: JSON, or words.
struct Teller<'a> {
    session: &'a Session<'a>,
    names: Vec<(u32, String)>,
}

impl<'a> Teller<'a> {
    fn new(session: &'a Session, lab: &Lab) -> Self {
        let names = lab.nodes().into_iter().map(|node| (node.index, node.name)).collect();
        Self { session, names }
    }

    /// Whether somebody still reads.
    fn tell(&mut self, message: &Message) -> Result<bool> {
        let printer = self.session.printer;
        let lines = match (printer.format(), message) {
            (Format::Json, _) => vec![message.json()],
            (Format::Yaml, _) => {
                let value: serde_json::Value = serde_json::from_str(&message.json())?;
                vec![format!("---\n{}", serde_saphyr::to_string(&value)?.trim_end())]
            }
            (Format::Table | Format::Name, Message::Snapshot(status)) => known(status),
            (Format::Table | Format::Name, Message::Change(event)) => {
                if let Happening::Nodes(change) = &event.what {
                    let name = |node: &NodeIdentity| (node.index, node.name.clone());
                    self.names = change.nodes.iter().map(name).collect();
                }
                vec![format!("{}  {}", clock(event.at_ms), self.sentence(event))]
            }
        };
        Ok(lines.iter().all(|line| printer.data_if_read(line)))
    }

    fn sentence(&self, event: &Event) -> String {
        let name = |index: u32| match self.names.iter().find(|(other, _)| *other == index) {
            Some((_, name)) => name.clone(),
            None => format!("node {index}"),
        };
        let text = match &event.what {
            Happening::Stage(StageReached { node, stage, file, bytes, .. }) => {
                let file = file.as_ref().map(|file| format!(" {file}")).unwrap_or_default();
                let size = (*bytes > 0).then(|| format!(", {}", human_bytes(*bytes)));
                format!("{}: {}{file}{}", name(*node), stage.name(), size.unwrap_or_default())
            }
            Happening::Power(PowerChanged { node, power, new_boot, restored }) => {
                let how = match (restored, new_boot) {
                    (true, _) => ", restored",
                    (false, true) => ", boots",
                    (false, false) => "",
                };
                format!("{}: {}{how}", name(*node), domain_word(Some(*power)))
            }
            Happening::Wanted(WantedChanged { node, wanted }) => {
                format!("{}: wanted {}", name(*node), wanted.name())
            }
            Happening::Held(NodeHeld { node, held }) => {
                format!("{}: gets no config: {held}", name(*node))
            }
            Happening::Address(AddressFound { node, ip }) => format!("{}: has {ip}", name(*node)),
            Happening::Etcd(change) => change.etcd.summary(),
            Happening::Nodes(change) => format!("the lab has {} nodes", change.nodes.len()),
        };
        sanitize(&text)
    }
}

/// A line for each node, and one for etcd.
fn known(status: &Status) -> Vec<String> {
    let at = clock(now_ms());
    let node = |node: &NodeTimeline| {
        let power = node.power.map_or("not seen yet", |it| power_word(Some(it), node.wanted));
        let stage = node.stage().map(|stage| format!(", {}", stage.name())).unwrap_or_default();
        let ip = node.ip.map(|ip| format!(", {ip}")).unwrap_or_default();
        format!("{at}  {}: {power}{stage}{ip}", sanitize(&node.name))
    };
    let mut lines: Vec<String> = status.timeline.nodes.iter().map(node).collect();
    let etcd = status.timeline.etcd.iter().map(ClusterHealth::summary);
    lines.extend(etcd.map(|summary| format!("{at}  {}", sanitize(&summary))));
    lines
}

/// The time of day, in UTC, as `13:05:09.120Z`: what a boot is about is seconds.
fn clock(at_ms: u64) -> String {
    let (ms, seconds) = (at_ms % 1000, at_ms / 1000 % 86400);
    format!("{:02}:{:02}:{:02}.{ms:03}Z", seconds / 3600, seconds / 60 % 60, seconds % 60)
}

/// How long a lab may be quiet until one looks whether it is there at all.
const PATIENCE: Duration = Duration::from_secs(10);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_clock_shows_the_time_of_day() {
        assert_eq!(clock(0), "00:00:00.000Z");
        assert_eq!(clock(1_764_000_309_120), "16:05:09.120Z");
        assert_eq!(clock(86_399_999), "23:59:59.999Z");
    }
}
