//! What a drill's file says: which faults a lab gets, and when.

use std::path::Path;

use anyhow::{Context, Result, bail};
use fs_err as fs;
use serde::Deserialize;

use crate::cli::fault::FaultCommand;
use crate::error::hinted;
use crate::images::{Readiness, located};
use crate::lab::LabName;
use crate::lab::options::Span;

/// A drill.
#[derive(Clone, Debug)]
pub(crate) struct Drill {
    /// The lab that gets the faults.
    pub(crate) lab: LabName,
    /// How soon after the last heal its etcd has to be healthy again.
    pub(crate) within: Option<Span>,
    /// What nodes are asked for instead of their etcd.
    pub(crate) probe: Option<Readiness>,
    /// What draws nodes.
    pub(crate) seed: Option<u64>,
    /// The faults, in the order of time.
    pub(crate) faults: Vec<Planned>,
}

/// A fault and its time.
#[derive(Clone, Debug)]
pub(crate) struct Planned {
    /// How long after the drill began.
    pub(crate) at: Span,
    /// As it would stand after `virtlab fault`.
    pub(crate) words: String,
    /// What that is.
    pub(crate) command: FaultCommand,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    lab: Option<LabName>,
    within: Option<Span>,
    probe: Option<Readiness>,
    seed: Option<u64>,
    #[serde(default)]
    fault: Vec<Entry>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Entry {
    at: Span,
    run: String,
}

impl Drill {
    /// The one in this file, for a lab that is named instead of the file's.
    ///
    /// # Errors
    /// If it cannot be read or is no drill; the message names the file and the place.
    pub(crate) fn read(path: &Path, lab: Option<&LabName>) -> Result<Self> {
        let text = fs::read_to_string(path)?;
        Self::parse(&text, &path.display().to_string(), lab)
    }

    fn parse(text: &str, file: &str, lab: Option<&LabName>) -> Result<Self> {
        let File { lab: own, within, probe, seed, fault } =
            toml::from_str(text).map_err(|error| located(&error, text, file))?;
        let lab = lab.cloned().or(own).ok_or_else(|| {
            hinted(
                format!("{file}: no lab is named"),
                format!("`lab = \"NAME\"` in the file, or `virtlab drill {file} NAME`"),
            )
        })?;
        if fault.is_empty() {
            let example =
                "`[[fault]]` with `at = \"3s\"` and `run = \"cut $lab leader --for 10s\"`";
            return Err(hinted(format!("{file}: it has no faults"), example));
        }
        let planned = |(place, Entry { at, run }): (usize, Entry)| {
            let words = run.replace(LAB, &lab.to_string());
            let command =
                command(&words).with_context(|| format!("{file}: fault {}", place + 1))?;
            Ok(Planned { at, words, command })
        };
        let mut faults = fault.into_iter().enumerate().map(planned).collect::<Result<Vec<_>>>()?;
        faults.sort_by_key(|planned| planned.at.0);
        Ok(Self { lab, within, probe, seed, faults })
    }
}

/// Only what breaks something, without what is said of the whole drill.
fn command(words: &str) -> Result<FaultCommand> {
    let mut parts = words.split_whitespace();
    if let Some(part) = parts.find(|part| OF_THE_DRILL.iter().any(|flag| part.starts_with(flag))) {
        bail!("`{words}`: `{part}` cannot be said of one fault of a drill");
    }
    let command = FaultCommand::of_words(words).map_err(|error| {
        let said = error.render().to_string();
        let said = said.lines().next().unwrap_or_default().trim_start_matches("error: ").to_owned();
        hinted(format!("`{words}`: {said}"), "`virtlab fault --help` shows what can be said")
    })?;
    if matches!(command, FaultCommand::List(_)) {
        bail!("`{words}` breaks nothing");
    }
    Ok(command)
}

/// Stands for the name of the lab.
const LAB: &str = "$lab";
const OF_THE_DRILL: [&str; 7] =
    ["--verdict", "--probe", "--within", "--svg", "--dry-run", "--wait-lock", "--help"];

#[cfg(test)]
mod tests {
    use super::*;

    fn said(text: &str, lab: Option<&str>) -> Result<Vec<String>, String> {
        let lab = lab.map(|lab| lab.parse::<LabName>().unwrap());
        let drill = Drill::parse(text, "drill.toml", lab.as_ref());
        let line = |it: &Planned| format!("{} {}", it.at, it.words);
        drill
            .map(|drill| drill.faults.iter().map(line).collect())
            .map_err(|error| format!("{error:#}"))
    }

    #[test]
    fn faults_come_in_the_order_of_time_and_name_the_lab() {
        let text = "lab = \"demo\"\nseed = 7\n\
            [[fault]]\nat = \"20s\"\nrun = \"partition $lab leader others --for 5s\"\n\
            [[fault]]\nat = \"1.5s\"\nrun = \"cut $lab one\"\n";
        let expected = ["1500ms cut demo one", "20s partition demo leader others --for 5s"];
        assert_eq!(said(text, None).unwrap(), expected);
        let other = said(text, Some("other")).unwrap();
        assert_eq!(other, expected.map(|it| it.replace("demo", "other")));
    }

    #[test]
    fn the_drill_of_the_docs_is_one() {
        let drill =
            Drill::parse(include_str!("../../docs/drill.toml"), "drill.toml", None).unwrap();
        assert_eq!(drill.faults.len(), 4);
        let turns = include_str!("../../docs/drill-isolate.toml");
        assert_eq!(Drill::parse(turns, "drill.toml", None).unwrap().faults.len(), 3);
        let docs = include_str!("../../docs/faults.md");
        assert!(docs.contains(include_str!("../../docs/drill.toml")));
    }

    #[test]
    fn what_is_no_drill_is_refused_with_its_place() {
        let fault =
            |run: &str| format!("lab = \"demo\"\n[[fault]]\nat = \"1s\"\nrun = \"{run}\"\n");
        for (text, expected) in [
            (String::new(), "drill.toml: no lab is named"),
            ("lab = \"demo\"".to_owned(), "drill.toml: it has no faults"),
            ("lab = \"a b\"".to_owned(), "drill.toml:1:7: "),
            ("lab = \"demo\"\nlad = 1".to_owned(), "drill.toml:2:1: unknown field `lad`"),
            (fault("cut demo").replace("1s", "soon"), "drill.toml:3:6: `soon` is no span of time"),
            (fault("cat demo"), "drill.toml: fault 1: `cat demo`: unrecognized subcommand 'cat'"),
            (fault("cut"), "drill.toml: fault 1: `cut`: the following required arguments"),
            (fault("list demo"), "drill.toml: fault 1: `list demo` breaks nothing"),
            (
                fault("cut demo --within=3s"),
                "drill.toml: fault 1: `cut demo --within=3s`: `--within=3s` cannot be said of one",
            ),
            (fault("cut demo --for x"), "drill.toml: fault 1: `cut demo --for x`: invalid value"),
            (fault("--help"), "drill.toml: fault 1: `--help`: `--help` cannot be said of one"),
        ] {
            let said = said(&text, None).unwrap_err();
            assert!(said.starts_with(expected), "{text}: {said}");
        }
    }
}
