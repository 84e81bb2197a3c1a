//! `virtlab timeline`: the last boot of each node, stage by stage, as a picture.

use anyhow::{Context, Result};
use fs_err as fs;
use serde::Serialize;

use crate::boot_server::client::Client;
use crate::boot_server::recorder::event::NodeIdentity;
use crate::boot_server::recorder::timeline::Timeline;
use crate::boot_server::recorder::{self, now_ms};
use crate::boot_server::stage::Stage;
use crate::cli::looking::TimelineArgs;
use crate::error::hinted;
use crate::files;
use crate::hypervisor::Inventory;
use crate::lab::{Lab, LabName};
use crate::output::terminal::Size;
use crate::output::{self, Format};
use crate::session::Session;
use crate::state::StateDir;
use crate::status::no_lab;
use crate::waterfall::{Bar, Letters, Span, State, Waterfall};

/// Shows it, and draws it with `--svg`.
pub(super) fn run(session: &Session, args: &TimelineArgs) -> Result<()> {
    if let Some(path) = &args.svg {
        files::require_writable("--svg", path)?;
    }
    let hypervisor = session.hypervisor()?;
    let inventory = session.observe(&hypervisor)?;
    let shown = |name: &LabName| Shown::of(session, &inventory, name);
    let lab = shown(&args.lab)?;
    let beside: Vec<Shown> = args.beside.iter().map(shown).collect::<Result<_>>()?;
    let waterfall = Waterfall {
        beside: beside.iter().map(|lab| lab.waterfall.clone()).collect(),
        ..lab.waterfall.clone()
    };
    if let Some(path) = &args.svg {
        let context = || format!("writing `{}` (--svg)", path.display());
        fs::write(path, waterfall.to_svg()?).with_context(context)?;
    }
    let document = Document {
        schema_version: SCHEMA_VERSION,
        lab: Boots::of(&lab),
        beside: beside.iter().map(Boots::of).collect(),
    };
    print(session, &waterfall, &document)
}

fn print(session: &Session, waterfall: &Waterfall, document: &Document) -> Result<()> {
    let printer = session.printer;
    let names: Vec<&str> = waterfall.all_bars().map(|bar| bar.name.as_str()).collect();
    printer.document(document, &names, || {
        let letters = if output::is_utf8_locale() { Letters::Unicode } else { Letters::Ascii };
        waterfall.to_text(Size::of(std::io::stdout()).columns, letters)
    })?;
    if printer.format() == Format::Table {
        printer.note(waterfall.summary());
    }
    Ok(())
}

/// The boots of a lab, until when they are known, and from whom.
struct Shown {
    waterfall: Waterfall,
    as_of_ms: u64,
    source: Source,
}

impl Shown {
    fn of(session: &Session, inventory: &Inventory, name: &LabName) -> Result<Self> {
        let Some(found) = inventory.lab(name) else { return Err(no_lab(inventory, name)) };
        let (timeline, as_of_ms, source) = known(session, &found.lab)?;
        let waterfall = Waterfall::new(name.as_str(), &timeline.nodes, &found.domains, as_of_ms);
        Ok(Self { waterfall, as_of_ms, source })
    }
}

#[derive(Clone, Copy, Serialize)]
#[serde(rename_all = "kebab-case")]
enum Source {
    BootServer,
    Journal,
}

/// Asks the boot server, or reads its journal where it does not answer.
fn known(session: &Session, lab: &Lab) -> Result<(Timeline, u64, Source)> {
    if let Some(status) = Client::new(lab)?.status() {
        return Ok((status.timeline, now_ms(), Source::BootServer));
    }
    let silent = format!("the boot server at {} does not answer", lab.boot_url());
    let back = format!("`virtlab create {}` brings it back", lab.name);
    let nodes: Vec<NodeIdentity> = lab.nodes().into_iter().map(NodeIdentity::from).collect();
    let Some(timeline) = recorder::read(&StateDir::of(lab)?.journal(), &nodes)? else {
        return Err(hinted(format!("{silent}, and its journal is not on this computer"), back));
    };
    session.printer.warn(format!("{silent}; this is what it wrote down; {back}"));
    let times = timeline.nodes.iter().flat_map(|node| node.stages.values());
    let as_of_ms = times.map(|reached| reached.at_ms).max().unwrap_or(0);
    Ok((timeline, as_of_ms, Source::Journal))
}

/// What `-o json` prints.
#[derive(Serialize)]
struct Document<'a> {
    schema_version: u32,
    #[serde(flatten)]
    lab: Boots<'a>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    beside: Vec<Boots<'a>>,
}

#[derive(Serialize)]
struct Boots<'a> {
    name: &'a str,
    source: Source,
    /// Until when things are known, in milliseconds since the epoch.
    as_of_ms: u64,
    /// The stage that takes longest on the average.
    slowest: Option<Stage>,
    nodes: Vec<Node<'a>>,
}

impl<'a> Boots<'a> {
    fn of(shown: &'a Shown) -> Self {
        let Shown { waterfall, as_of_ms, source } = shown;
        Self {
            name: &waterfall.lab,
            source: *source,
            as_of_ms: *as_of_ms,
            slowest: waterfall.slowest(),
            nodes: waterfall.bars.iter().map(Node::of).collect(),
        }
    }
}

#[derive(Serialize)]
struct Node<'a> {
    name: &'a str,
    index: u32,
    state: State,
    started_at_ms: Option<u64>,
    /// Null where a node has waited for longer than it took it to reach any stage.
    slowest: Option<Stage>,
    /// How long a node that boots has been at it.
    booting_seconds: Option<f64>,
    /// From one to the next, without gaps; seconds from power-on.
    stages: Vec<Part>,
}

#[derive(Serialize)]
struct Part {
    stage: Stage,
    from_seconds: f64,
    to_seconds: f64,
}

impl<'a> Node<'a> {
    fn of(bar: &'a Bar) -> Self {
        let part = |span: &Span| Part {
            stage: span.stage,
            from_seconds: seconds(span.from_ms),
            to_seconds: seconds(span.to_ms),
        };
        Self {
            name: &bar.name,
            index: bar.index,
            state: bar.state,
            started_at_ms: bar.started_at_ms,
            slowest: bar.slowest().map(|span| span.stage),
            booting_seconds: bar.open_ms.map(seconds),
            stages: bar.spans.iter().map(part).collect(),
        }
    }
}

#[expect(clippy::cast_precision_loss, reason = "a boot takes less than 2^52 ms")]
fn seconds(ms: u64) -> f64 {
    ms as f64 / 1000.0
}

/// It grows when something that is there changes its meaning or goes.
const SCHEMA_VERSION: u32 = 1;
