//! `virtlab memory curve`: makes a lab, lets its nodes run one after the other, measures each time
//! what they take, and leaves nothing but the numbers.

use anyhow::Result;
use indicatif::ProgressBar;
use serde::Serialize;

use crate::cli::memory::CurveArgs;
use crate::error::{Interrupted, hinted};
use crate::hypervisor::Hypervisor;
use crate::ksm::claims::Claims;
use crate::lab::LabName;
use crate::lab::options::LabOptions;
use crate::memory::{Analysis, Curve, CurveFiles, End, Event, Growth, Measured, Sample};
use crate::output::Table;
use crate::provision::apply::Applier;
use crate::provision::draft::{self, Draft};
use crate::provision::growing::GrowingLab;
use crate::provision::survey::CreateMode;
use crate::provision::{discovery_url, merging, teardown};
use crate::session::Session;
use crate::units::{human_bytes, human_signed_bytes};

pub(super) fn run(session: &Session, args: &CurveArgs) -> Result<()> {
    let files = CurveFiles { svg: args.svg.as_deref(), csv: args.csv.as_deref() };
    files.require_writable()?;
    let hypervisor = session.hypervisor()?;
    draft::refuse_remote(&hypervisor, &args.name)?;
    refuse_existing(session, &hypervisor, &args.name)?;
    let options = draft::read_options(&options(args), None)?;
    // It is to find out how many nodes fit.
    let mode = CreateMode { overcommit: true, ..CreateMode::default() };
    let Draft { mut prepared, lock, .. } = draft::draft(session, &hypervisor, &options, &mode)?;
    // Until here nothing was made, and Ctrl-C just ended the program.
    session.catch_signals()?;
    discovery_url::put(&hypervisor, &mut prepared, None)?;
    let lab = &prepared.lab;
    let claims = Claims::host();
    merging::claim(session.printer, &hypervisor, lab, claims.ksm().settings_to_measure()?)?;

    let applier = Applier::new(session, &hypervisor, lab, Some(&prepared))?;
    let timeout = args.timeout.into();
    let mut growing = GrowingLab::new(&applier, lock, timeout);
    let mut progress = Progress::new(session, files);
    let measured = applier.write_configs().and_then(|()| {
        let growth = Growth::to(args.max_nodes);
        growth.measure(&mut growing, claims.ksm(), session.interrupt_flag(), |event| {
            progress.show(event);
        })
    });
    progress.bar.finish_and_clear();
    let removed = teardown::take_down(&applier);
    let Measured { curve, unsettled, end } = measured?;
    for nodes in unsettled {
        session.printer.warn(format!(
            "with {nodes} node(s) KSM was not through in time and may save more in the end"
        ));
    }
    files.write(&curve)?;
    print(session, &curve)?;
    removed?;
    match end {
        End::Complete => Ok(()),
        End::Interrupted => Err(Interrupted.into()),
        End::Failed(error) if error.is::<Interrupted>() => Err(Interrupted.into()),
        End::Failed(error) => Err(error),
    }
}

/// What the lab of the curve should be like.
fn options(args: &CurveArgs) -> LabOptions {
    LabOptions {
        name: Some(args.name.clone()),
        nodes: Some(args.max_nodes),
        memory: args.memory,
        vcpus: args.vcpus,
        image: args.image.clone(),
        config: args.config.clone(),
        virt_type: args.virt_type,
        ..LabOptions::default()
    }
}

/// A lab that is there is not one that grows, and would be destroyed at the end.
fn refuse_existing(session: &Session, hypervisor: &Hypervisor, name: &LabName) -> Result<()> {
    if session.observe(hypervisor)?.lab(name).is_none() {
        return Ok(());
    }
    Err(hinted(
        format!("lab `{name}` exists, and a curve begins with none"),
        format!("`virtlab destroy {name}` removes it; --name makes another one"),
    ))
}

/// How far it is, and what was measured until then on disk.
struct Progress<'a> {
    session: &'a Session<'a>,
    files: CurveFiles<'a>,
    curve: Curve,
    bar: ProgressBar,
}

impl<'a> Progress<'a> {
    fn new(session: &'a Session<'a>, files: CurveFiles<'a>) -> Self {
        Self { session, files, curve: Curve::default(), bar: session.printer.spinner("measuring") }
    }

    fn show(&mut self, event: &Event) {
        match event {
            Event::Growing { nodes } => self.bar.set_message(format!("node {nodes} boots")),
            Event::Scanning { nodes, done, wanted } => {
                let scan = (done + 1).min(*wanted);
                self.bar.set_message(format!("{nodes} node(s): full scan {scan} of {wanted}"));
            }
            Event::Measured { sample, .. } => {
                self.curve.add(sample.clone());
                // A kill keeps it too. Tried again at the end, where a failure is an error.
                if let Err(error) = self.files.write(&self.curve) {
                    tracing::warn!("{error:#}");
                }
                self.session.printer.note(format!(
                    "{} node(s): {} without KSM, {} with it",
                    sample.nodes,
                    human_bytes(sample.without_ksm_bytes),
                    human_bytes(sample.with_ksm_bytes)
                ));
            }
        }
    }
}

/// What `-o json` prints.
#[derive(Serialize)]
struct Report<'a> {
    samples: &'a [Sample],
    analysis: Option<Analysis>,
}

fn print(session: &Session, curve: &Curve) -> Result<()> {
    let mut table = Table::new(&["nodes", "without ksm", "with ksm", "saved"]);
    for sample in curve.samples() {
        let amounts = [sample.without_ksm_bytes, sample.with_ksm_bytes, sample.saved_bytes()];
        table.row(std::iter::once(sample.nodes.to_string()).chain(amounts.map(human_bytes)));
    }
    let analysis = curve.analysis();
    let report = Report { samples: curve.samples(), analysis: analysis.clone() };
    let names: Vec<String> = curve.samples().iter().map(|s| s.nodes.to_string()).collect();
    session.printer.listing(&report, &names, &table)?;
    if let Some(analysis) = analysis {
        session.printer.note(summary_line(&analysis));
    }
    Ok(())
}

/// What the curve says, in one line.
fn summary_line(analysis: &Analysis) -> String {
    let saved = human_bytes(analysis.saved_bytes);
    let saved = format!("{} node(s): {saved} ({} %) saved", analysis.nodes, analysis.saved_percent);
    let further =
        (analysis.per_further_node_without_ksm_bytes, analysis.per_further_node_with_ksm_bytes);
    let (Some(without), Some(with)) = further else { return saved };
    let (without, with) = (human_signed_bytes(without), human_signed_bytes(with));
    format!("{saved}; each further node takes {with} instead of {without}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_articles_curve_is_said_in_one_line() {
        let article = include_str!("../../tests/fixtures/article-memory.csv");
        let analysis = Curve::from_csv(article).unwrap().analysis().unwrap();
        assert_eq!(
            summary_line(&analysis),
            "20 node(s): 4.06 GiB (54 %) saved; each further node takes 165 MiB instead of 384 MiB"
        );
        let one = Analysis {
            nodes: 1,
            per_further_node_without_ksm_bytes: None,
            per_further_node_with_ksm_bytes: None,
            ..analysis
        };
        assert_eq!(summary_line(&one), "1 node(s): 4.06 GiB (54 %) saved");
    }
}
