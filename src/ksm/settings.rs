//! What can be set of KSM.

use serde::{Deserialize, Serialize};

/// What can be set; `None` leaves it as it is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Settings {
    /// Whether pages are merged.
    pub run: Option<Run>,
    /// How many pages are looked at before each pause.
    pub pages_to_scan: Option<u64>,
    /// The length of the pause in milliseconds.
    pub sleep_millisecs: Option<u64>,
    /// Whether pages that found no twin are passed over for up to eight scans (since Linux 6.7).
    pub smart_scan: Option<bool>,
}

impl Settings {
    /// Merging, at the speed the host has.
    pub fn on() -> Self {
        Self { run: Some(Run::Running), ..Self::default() }
    }

    /// The files to write and their numbers; the switch comes last, so that merging starts at
    /// the speed that was asked for.
    pub(crate) fn knobs(self) -> impl Iterator<Item = (Knob, u64)> {
        [
            (Knob::PagesToScan, self.pages_to_scan),
            (Knob::SleepMillisecs, self.sleep_millisecs),
            (Knob::SmartScan, self.smart_scan.map(u64::from)),
            (Knob::Run, self.run.map(u64::from)),
        ]
        .into_iter()
        .filter_map(|(knob, value)| Some((knob, value?)))
    }
}

/// A file of KSM that can be written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Knob {
    /// `pages_to_scan`
    PagesToScan,
    /// `sleep_millisecs`
    SleepMillisecs,
    /// `smart_scan`
    SmartScan,
    /// `run`
    Run,
}

impl Knob {
    /// The name of the file.
    pub fn file_name(self) -> &'static str {
        match self {
            Self::PagesToScan => "pages_to_scan",
            Self::SleepMillisecs => "sleep_millisecs",
            Self::SmartScan => "smart_scan",
            Self::Run => "run",
        }
    }
}

/// What the kernel's switch says.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Run {
    /// 0: nothing more is merged; what is merged stays so.
    Stopped,
    /// 1: pages are merged.
    Running,
    /// 2: nothing is merged, and what was has been separated again.
    Unmerged,
}

impl Run {
    /// The name in tables and JSON.
    pub fn name(self) -> &'static str {
        match self {
            Self::Stopped => "stopped",
            Self::Running => "running",
            Self::Unmerged => "unmerged",
        }
    }
}

impl From<Run> for u64 {
    fn from(run: Run) -> Self {
        match run {
            Run::Stopped => 0,
            Run::Running => 1,
            Run::Unmerged => 2,
        }
    }
}

impl TryFrom<u64> for Run {
    type Error = u64;

    fn try_from(value: u64) -> Result<Self, u64> {
        match value {
            0 => Ok(Self::Stopped),
            1 => Ok(Self::Running),
            2 => Ok(Self::Unmerged),
            other => Err(other),
        }
    }
}
