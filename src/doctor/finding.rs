//! What a check found.

use serde::Serialize;

/// How a check ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Level {
    /// It does not apply here, or cannot be told.
    Skipped,
    /// All is well.
    Ok,
    /// Labs work, but something they can do does not, or slowly.
    Warning,
    /// Labs do not work.
    Failure,
}

impl Level {
    pub(crate) fn word(self) -> &'static str {
        match self {
            Self::Skipped => "skipped",
            Self::Ok => "ok",
            Self::Warning => "warning",
            Self::Failure => "failure",
        }
    }
}

/// What a check found.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(crate) struct Finding {
    /// What was looked at; a word that stays the same.
    pub(crate) check: &'static str,
    /// How it ended.
    pub(crate) level: Level,
    /// What was found, in one line.
    pub(crate) summary: String,
    /// Why it matters.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) why: Option<String>,
    /// The command that mends it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) command: Option<String>,
}

impl Finding {
    pub(super) fn ok(check: &'static str, summary: impl Into<String>) -> Self {
        Self::new(check, Level::Ok, summary)
    }

    pub(super) fn skipped(check: &'static str, summary: impl Into<String>) -> Self {
        Self::new(check, Level::Skipped, summary)
    }

    pub(super) fn warning(check: &'static str, summary: impl Into<String>) -> Self {
        Self::new(check, Level::Warning, summary)
    }

    pub(super) fn failure(check: &'static str, summary: impl Into<String>) -> Self {
        Self::new(check, Level::Failure, summary)
    }

    pub(super) fn why(self, why: impl Into<String>) -> Self {
        Self { why: Some(why.into()), ..self }
    }

    /// The command that mends it, if there is one.
    pub(super) fn mend(self, command: impl Into<Option<String>>) -> Self {
        Self { command: command.into(), ..self }
    }

    fn new(check: &'static str, level: Level, summary: impl Into<String>) -> Self {
        Self { check, level, summary: summary.into(), why: None, command: None }
    }
}
