//! The picture of a verdict while it is made, for the page of the lab: a file in the lab's folder, drawn again each second.

use std::path::PathBuf;
use std::time::{Duration, Instant};

use anyhow::Result;

use crate::files::{self, Readers};
use crate::verdict::history::History;
use crate::verdict::judge::{Moments, judge};
use crate::verdict::picture;
use crate::verdict::workload::millis;

/// Draws it.
pub(super) struct LivePicture {
    path: PathBuf,
    title: String,
    within: Duration,
    drawn: Option<Instant>,
}

impl LivePicture {
    /// Into this file; `within` is how soon all is to be well again.
    pub(super) fn new(path: PathBuf, title: &str, within: Duration) -> Self {
        Self { path, title: title.to_owned(), within, drawn: None }
    }

    /// Whether the last one is old.
    pub(super) fn is_due(&self) -> bool {
        self.drawn.is_none_or(|drawn| drawn.elapsed() >= EACH)
    }

    /// Draws what there is so far. No verdict fails because nobody can see it.
    pub(super) fn draw(&mut self, history: &History, moments: &Moments) {
        if let Err(error) = self.write(history, moments) {
            tracing::debug!("drawing for the page: {error:#}");
        }
        self.drawn = Some(Instant::now());
    }

    fn write(&self, history: &History, moments: &Moments) -> Result<()> {
        let verdict = judge(history, moments, millis(self.within));
        let svg = picture::to_svg(&self.title, history, moments, &verdict)?;
        files::replace(&self.path, svg.as_bytes(), Readers::Owner)
    }
}

const EACH: Duration = Duration::from_secs(1);
