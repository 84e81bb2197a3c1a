//! `virtlab status --watch`: the table of a lab's nodes, live. It listens to the boot server, which knows all that
//! happens.

use std::sync::mpsc::{Receiver, TryRecvError};
use std::time::{Duration, Instant};

use anyhow::{Result, bail};

use super::node_table::{HEADS, row};
use crate::boot_server::client::{Client, Heard};
use crate::boot_server::message::Message;
use crate::boot_server::recorder::event::ClusterHealth;
use crate::boot_server::recorder::timeline::{NodeTimeline, Timeline};
use crate::boot_server::stage::Stage;
use crate::error::hinted;
use crate::hypervisor::{Found, Hypervisor, is_connection_lost};
use crate::lab::Lab;
use crate::lab::plan::DomainState;
use crate::output::raw_terminal::{RawTerminal, Typed};
use crate::output::screen::{Line, Screen, wrapped};
use crate::output::terminal::Size;
use crate::output::{Format, Table, sanitize};
use crate::session::Session;
use crate::status::{behind, power_word};

/// Goes on until `q`, Ctrl-C or a signal, or until the lab is gone.
pub(super) fn run(session: &Session, hypervisor: &Hypervisor, found: &Found) -> Result<()> {
    let lab = &found.lab;
    if session.printer.format() != Format::Table || !RawTerminal::is_there() {
        return Err(hinted(
            "`--watch` draws a table on a terminal, and this is none",
            format!("`virtlab events --follow {}` prints a line for each change", lab.name),
        ));
    }
    session.catch_signals()?;
    let heard = Client::new(lab)?.listen()?;
    let mut view = View { lab, known: None, silent: false, heard };
    let screen = Screen::enter()?;
    let gone = watch(session, hypervisor, &mut view, &screen);
    drop(screen);
    if gone? {
        session.printer.note(format!("lab `{}` is gone", lab.name));
    }
    Ok(())
}

/// Whether it ended since the lab is gone.
fn watch(
    session: &Session,
    hypervisor: &Hypervisor,
    view: &mut View,
    screen: &Screen,
) -> Result<bool> {
    let (mut drawn, mut looked) = (None, Instant::now());
    while !session.is_interrupted() {
        let news = view.listen()?;
        let size = Size::of(std::io::stdout());
        if news || drawn != Some(size) {
            screen.draw(&view.lines(size), size)?;
            drawn = Some(size);
        }
        match screen.typed(MOMENT)? {
            Typed::Keys(keys) if keys.iter().any(|key| LEAVE.contains(key)) => break,
            Typed::Ended => break,
            Typed::Keys(_) | Typed::Nothing => {}
        }
        // A server ends with its lab.
        if view.silent && looked.elapsed() >= SECOND_LOOK {
            looked = Instant::now();
            match hypervisor.observe() {
                Ok(inventory) if !inventory.labs.contains_key(&view.lab.uuid) => return Ok(true),
                Err(error) if !is_connection_lost(&error) => return Err(error),
                _ => {}
            }
        }
    }
    Ok(false)
}

/// What is known of a lab, as lines of a screen.
struct View<'a> {
    lab: &'a Lab,
    known: Option<Timeline>,
    silent: bool,
    heard: Receiver<Heard>,
}

impl View<'_> {
    /// Takes in what the boot server said meanwhile; whether it said anything.
    fn listen(&mut self) -> Result<bool> {
        let mut news = false;
        loop {
            let heard = match self.heard.try_recv() {
                Ok(heard) => heard,
                Err(TryRecvError::Empty) => return Ok(news),
                Err(TryRecvError::Disconnected) => bail!("nobody listens to the boot server"),
            };
            let silent = matches!(heard, Heard::Silence);
            news |= !silent || silent != self.silent;
            self.silent = silent;
            match (heard, &mut self.known) {
                (Heard::Message(Message::Snapshot(status)), known) => {
                    *known = Some(status.timeline);
                }
                (Heard::Message(Message::Change(event)), Some(known)) => known.apply(&event),
                (Heard::Message(Message::Change(_)), None) | (Heard::Silence, _) => {}
            }
        }
    }

    fn lines(&self, size: Size) -> Vec<Line> {
        let silence = format!("the boot server at {} does not answer", self.lab.boot_url());
        let silence = self.silent.then_some(silence.as_str());
        lines(self.lab.name.as_str(), self.known.as_ref(), silence, size)
    }
}

/// A head, the table, and what is wrong; the nodes that have no room are counted.
fn lines(lab: &str, known: Option<&Timeline>, silence: Option<&str>, size: Size) -> Vec<Line> {
    let plain = |text: String| Line { text: sanitize(&text), bold: false };
    let Some(known) = known else {
        let text = silence.unwrap_or("asking the boot server …");
        return vec![plain(format!("{lab}: {text} (q leaves)"))];
    };
    let ready = known.nodes.iter().filter(|node| is_ready(node)).count();
    let all = known.nodes.len();
    let mut lines = vec![plain(format!("{lab}: {ready} of {all} nodes ready (q leaves)"))];
    let etcd = known.etcd.as_ref().map(ClusterHealth::summary);
    // What is wrong may be long, and is not to take the place of the nodes.
    let most = (size.rows / 6).max(1);
    let below: Vec<String> = silence
        .map(ToOwned::to_owned)
        .into_iter()
        .chain(etcd)
        .flat_map(|text| wrapped(&sanitize(&text), size.columns, most))
        .collect();
    // The head, and that of the table.
    let room = size.rows.saturating_sub(2 + below.len());
    let shown = behind::in_room(known.nodes.iter().collect(), room);
    let mut table = Table::new(&HEADS);
    for node in shown.nodes {
        table.row(row(&node.name, node.ip, state(node), |stage| node.seconds_to(stage)));
    }
    let table = anstream::adapter::strip_str(&table.to_string()).to_string();
    let rows = table.lines().enumerate();
    lines.extend(rows.map(|(index, row)| Line { text: row.to_owned(), bold: index == 0 }));
    if shown.others > 0 {
        lines.push(plain(format!("and {} more, at least as far", shown.others)));
    }
    lines.extend(below.into_iter().map(plain));
    lines
}

fn is_ready(node: &NodeTimeline) -> bool {
    node.has(Stage::Ready) && matches!(node.power, None | Some(DomainState::Running))
}

/// The word for a node, the same as `status` has for it.
fn state(node: &NodeTimeline) -> &'static str {
    match (node.power, node.stage()) {
        (Some(DomainState::Off | DomainState::Paused), _) | (Some(_), None) => {
            power_word(node.power, node.wanted)
        }
        (_, Some(stage)) => stage.name(),
        (None, None) => "-",
    }
}

/// `q` and Ctrl-C, which is a key as others on a raw terminal.
const LEAVE: [u8; 2] = [b'q', 0x03];
/// How often one looks for news; a key is noticed at once.
const MOMENT: Duration = Duration::from_millis(100);
/// How long a server may be silent until libvirt is asked whether the lab is there.
const SECOND_LOOK: Duration = Duration::from_secs(2);

#[cfg(test)]
mod tests {
    use super::*;
    use crate::boot_server::recorder::event::{
        Event, Happening, NodeIdentity, PowerChanged, StageReached, WantedChanged,
    };
    use crate::lab::metadata::Power;

    fn lab(nodes: u8) -> Timeline {
        let node = |index: u8| NodeIdentity {
            index: index.into(),
            name: format!("demo-{index}"),
            mac: format!("52:54:00:12:34:{index:02x}").parse().unwrap(),
            ip: Some(std::net::Ipv4Addr::new(192, 168, 144, index + 1).into()),
        };
        let mut lab = Timeline::new(&(1..=nodes).map(node).collect::<Vec<_>>());
        let mut reach = |index: u8, stage: Stage, at_ms| {
            let what = Happening::Stage(StageReached::unasked(index.into(), stage));
            lab.apply(&Event { id: 1, at_ms, what });
        };
        for index in 2..=nodes {
            reach(index, Stage::PowerOn, 0);
            reach(index, Stage::Script, 2600);
            if index > 3 {
                reach(index, Stage::Config, 13_000);
                reach(index, Stage::Ready, 99_000);
            }
        }
        lab
    }

    fn shown(known: &Timeline, silence: Option<&str>, rows: usize) -> String {
        let lines = lines("demo", Some(known), silence, Size { rows, columns: 80 });
        let fits = |line: &Line| line.text.chars().count() <= 80;
        assert!(lines.len() <= rows && lines.iter().all(fits), "{lines:#?}");
        lines.into_iter().map(|line| line.text).collect::<Vec<_>>().join("\n")
    }

    #[test]
    fn twenty_nodes_fit_a_terminal_of_80_by_24() {
        let mut known = lab(20);
        let etcd = ClusterHealth {
            healthy: true,
            members: 20,
            leader: Some("demo-7".to_owned()),
            away: Vec::new(),
            problems: Vec::new(),
        };
        known.etcd = Some(etcd);
        let shown = shown(&known, None, 24);
        assert_eq!(shown.matches("\ndemo-").count(), 20, "{shown}");
        assert!(shown.ends_with("\netcd: healthy, 20 members, leader demo-7"), "{shown}");
    }

    #[test]
    fn what_is_most_behind_comes_first_and_the_rest_is_counted() {
        insta::assert_snapshot!(shown(&lab(20), Some("the boot server does not answer"), 8), @"
        demo: 17 of 20 nodes ready (q leaves)
        NODE    IP             STATE   SCRIPT  KERNEL  INITRD  CONFIG  READY
        demo-1  192.168.144.2  -       -       -       -       -       -
        demo-2  192.168.144.3  script  2.6s    -       -       -       -
        demo-3  192.168.144.4  script  2.6s    -       -       -       -
        demo-4  192.168.144.5  ready   2.6s    -       -       13.0s   99.0s
        and 16 more, at least as far
        the boot server does not answer
        ");
    }

    #[test]
    fn a_node_that_was_stopped_is_called_as_status_calls_it() {
        let mut known = lab(2);
        for node in [1, 2] {
            let off = PowerChanged::to(node, DomainState::Off);
            known.apply(&Event { id: 1, at_ms: 1, what: Happening::Power(off) });
        }
        // Also one that was off already.
        let stopped = Happening::Wanted(WantedChanged { node: 1, wanted: Power::Off });
        known.apply(&Event { id: 1, at_ms: 1, what: stopped });
        insta::assert_snapshot!(shown(&known, None, 8), @"
        demo: 0 of 2 nodes ready (q leaves)
        NODE    IP             STATE    SCRIPT  KERNEL  INITRD  CONFIG  READY
        demo-1  192.168.144.2  stopped  -       -       -       -       -
        demo-2  192.168.144.3  off      2.6s    -       -       -       -
        ");
    }

    #[test]
    fn a_long_line_about_etcd_is_wrapped_within_the_screen_and_leaves_room_for_nodes() {
        let problem =
            |node| format!("demo-{node}: asking 192.168.144.{node}:2379: connection refused");
        let mut known = lab(20);
        known.etcd = Some(ClusterHealth {
            healthy: false,
            members: 20,
            leader: None,
            away: Vec::new(),
            problems: (1..=20).map(problem).collect(),
        });
        insta::assert_snapshot!(shown(&known, Some("the boot server does not answer"), 12), @"
        demo: 17 of 20 nodes ready (q leaves)
        NODE    IP             STATE   SCRIPT  KERNEL  INITRD  CONFIG  READY
        demo-1  192.168.144.2  -       -       -       -       -       -
        demo-2  192.168.144.3  script  2.6s    -       -       -       -
        demo-3  192.168.144.4  script  2.6s    -       -       -       -
        demo-4  192.168.144.5  ready   2.6s    -       -       13.0s   99.0s
        demo-5  192.168.144.6  ready   2.6s    -       -       13.0s   99.0s
        demo-6  192.168.144.7  ready   2.6s    -       -       13.0s   99.0s
        and 14 more, at least as far
        the boot server does not answer
        etcd: not healthy: demo-1: asking 192.168.144.1:2379: connection refused;
        demo-2: asking 192.168.144.2:2379: connection refused; demo-3: asking …
        ");
        insta::assert_snapshot!(shown(&known, None, 4), @"
        demo: 17 of 20 nodes ready (q leaves)
        NODE  IP  STATE  SCRIPT  KERNEL  INITRD  CONFIG  READY
        and 20 more, at least as far
        etcd: not healthy: demo-1: asking 192.168.144.1:2379: connection refused; …
        ");
    }
}
