//! What a lab took of memory while somebody looked, kept beside its journal, so that neither a reload of the page nor a new
//! server loses it.

use std::collections::VecDeque;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use anyhow::Result;
use fs_err as fs;

use super::insight::MemoryNow;
use crate::files::{self, Readers};

/// The samples, oldest first.
#[derive(Debug)]
pub(super) struct Samples {
    path: PathBuf,
    kept: Mutex<VecDeque<MemoryNow>>,
}

impl Samples {
    /// Goes on with those that the lab's folder has. What cannot be read is left out.
    pub(super) fn open(folder: &Path) -> Self {
        let path = folder.join(FILE);
        let text = fs::read_to_string(&path).unwrap_or_default();
        let mut kept: VecDeque<MemoryNow> =
            text.lines().filter_map(|line| serde_json::from_str(line).ok()).collect();
        kept.drain(..kept.len().saturating_sub(MOST));
        let samples = Self { path, kept: Mutex::new(kept) };
        if text.lines().count() > MOST {
            samples.note(samples.rewrite());
        }
        samples
    }

    /// Keeps one, if the last one is not a moment ago.
    pub(super) fn add(&self, sample: MemoryNow) {
        let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        if kept.back().is_some_and(|last| sample.at_ms < last.at_ms.saturating_add(APART_MS)) {
            return;
        }
        kept.push_back(sample);
        let is_full = kept.len() > 2 * MOST;
        if is_full {
            kept.drain(..MOST);
        }
        drop(kept);
        self.note(if is_full { self.rewrite() } else { self.append(sample) });
    }

    /// The newest of them.
    pub(super) fn all(&self) -> Vec<MemoryNow> {
        let kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        kept.iter().skip(kept.len().saturating_sub(MOST)).copied().collect()
    }

    fn append(&self, sample: MemoryNow) -> Result<()> {
        let mut options = std::fs::OpenOptions::new();
        std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
        let mut file = options.create(true).append(true).open(&self.path)?;
        // In one piece: a line that is cut off is left out, with the next one.
        file.write_all(format!("{}\n", serde_json::to_string(&sample)?).as_bytes())?;
        Ok(())
    }

    fn rewrite(&self) -> Result<()> {
        let lines = self.all().iter().map(serde_json::to_string).collect::<Result<Vec<_>, _>>()?;
        files::replace(&self.path, (lines.join("\n") + "\n").as_bytes(), Readers::Owner)
    }

    /// It is no reason to show nothing.
    fn note(&self, written: Result<()>) {
        if let Err(error) = written {
            tracing::debug!("writing `{}`: {error:#}", self.path.display());
        }
    }
}

const FILE: &str = "memory.jsonl";
/// An hour.
const MOST: usize = 720;
const APART_MS: u64 = 5000;

#[cfg(test)]
mod tests {
    use super::*;

    fn sample(at_ms: u64) -> MemoryNow {
        MemoryNow {
            at_ms,
            resident_bytes: Some(at_ms),
            merged_bytes: None,
            saved_bytes: None,
            ksm_runs: None,
        }
    }

    #[test]
    fn samples_outlive_their_server_and_are_not_more_than_enough() {
        let folder = tempfile::tempdir().unwrap();
        let samples = Samples::open(folder.path());
        for at_ms in [5000, 6000, 10_000] {
            samples.add(sample(at_ms));
        }
        assert_eq!(samples.all(), [sample(5000), sample(10_000)]);
        let again = Samples::open(folder.path());
        assert_eq!(again.all(), samples.all());
        let many = 3 * MOST as u64;
        (0..many).for_each(|index| again.add(sample(20_000 + index * APART_MS)));
        let kept = again.all();
        assert_eq!(kept.len(), MOST);
        assert_eq!(kept.last(), Some(&sample(20_000 + (many - 1) * APART_MS)));
        assert_eq!(Samples::open(folder.path()).all(), kept);
    }
}
