//! Errors that every room may give: one with a way out, a wait that timed out, an interruption, and
//! several errors at once.

use anyhow::{Result, bail};

/// An error that knows the way out of it.
#[derive(Debug, thiserror::Error)]
#[error("{message}")]
pub struct Hinted {
    message: String,
    hint: String,
}

impl Hinted {
    /// A full sentence or a command to type.
    pub fn hint(&self) -> &str {
        &self.hint
    }
}

/// An error with a hint: `hint` is a full sentence or a command to type.
pub fn hinted(message: impl Into<String>, hint: impl Into<String>) -> anyhow::Error {
    Hinted { message: message.into(), hint: hint.into() }.into()
}

/// A wait that came to its end before what was waited for; the exit status tells it apart.
#[derive(Debug, thiserror::Error)]
#[error("{message}")]
pub struct TimedOut {
    /// What was waited for, and what is missing.
    pub message: String,
    /// A full sentence or a command to type.
    pub hint: Option<String>,
}

/// A command on a node ended so; that is our own exit status, and the command has said why.
#[derive(Debug, thiserror::Error)]
#[error("a command ended with status {0}")]
pub struct RemoteStatus(pub u8);

/// What was compared differs; how was said.
#[derive(Debug, thiserror::Error)]
#[error("the lab is not as it is wanted")]
pub struct Differs;

/// What was done was stopped by a signal.
#[derive(Debug, thiserror::Error)]
#[error("interrupted")]
pub struct Interrupted;

/// The known name that somebody may have meant who typed another one.
pub(crate) fn did_you_mean<'a>(
    typed: &str,
    known: impl Iterator<Item = &'a str>,
) -> Option<&'a str> {
    let distance = |name: &str| strsim::levenshtein(name, typed);
    // Of two letters everything is near.
    let allowed = MAX_TYPOS.min(typed.chars().count() / 2);
    known.min_by_key(|name| distance(name)).filter(|name| distance(name) <= allowed)
}

const MAX_TYPOS: usize = 2;

/// All that went wrong, not the first of it.
pub(crate) fn all_errors(results: Vec<Result<()>>) -> Result<()> {
    let mut errors: Vec<anyhow::Error> = results.into_iter().filter_map(Result::err).collect();
    if let Some(interrupted) = errors.iter().position(anyhow::Error::is::<Interrupted>) {
        return Err(errors.swap_remove(interrupted));
    }
    match errors.len() {
        0 => Ok(()),
        1 => Err(errors.remove(0)),
        count => {
            let all: Vec<String> = errors.iter().map(|error| format!("  {error:#}")).collect();
            let message = format!("{count} things went wrong:\n{}", all.join("\n"));
            if errors.iter().all(anyhow::Error::is::<TimedOut>) {
                return Err(TimedOut { message, hint: None }.into());
            }
            bail!(message)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_error_is_told() {
        assert!(all_errors(vec![Ok(()), Ok(())]).is_ok());
        let one = all_errors(vec![Ok(()), Err(anyhow::anyhow!("a"))]).unwrap_err();
        assert_eq!(one.to_string(), "a");
        let two =
            all_errors(vec![Err(anyhow::anyhow!("a")), Err(anyhow::anyhow!("b"))]).unwrap_err();
        assert_eq!(two.to_string(), "2 things went wrong:\n  a\n  b");
        assert!(!two.is::<TimedOut>());
    }

    #[test]
    fn several_waits_that_timed_out_are_a_time_out_and_an_interruption_is_one() {
        let timed_out = || Err(TimedOut { message: "slow".to_owned(), hint: None }.into());
        let both = all_errors(vec![timed_out(), timed_out()]).unwrap_err();
        assert!(both.is::<TimedOut>());
        assert_eq!(both.to_string(), "2 things went wrong:\n  slow\n  slow");
        let stopped = all_errors(vec![timed_out(), Err(Interrupted.into())]).unwrap_err();
        assert!(stopped.is::<Interrupted>());
    }
}
