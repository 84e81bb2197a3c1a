//! The files that a curve is kept in: its numbers and its picture.

use std::path::Path;

use anyhow::{Context, Result};
use fs_err as fs;

use super::{Chart, Curve};
use crate::files;

/// Where a curve is kept.
#[derive(Clone, Copy, Debug)]
pub(crate) struct CurveFiles<'a> {
    pub(crate) svg: Option<&'a Path>,
    pub(crate) csv: Option<&'a Path>,
}

impl CurveFiles<'_> {
    pub(crate) fn are_wanted(self) -> bool {
        self.svg.is_some() || self.csv.is_some()
    }

    /// Measuring takes long: that the files cannot be written is told before.
    pub(crate) fn require_writable(self) -> Result<()> {
        for (flag, path) in [("--svg", self.svg), ("--csv", self.csv)] {
            if let Some(path) = path {
                files::require_writable(flag, path)?;
            }
        }
        Ok(())
    }

    /// What the CSV file has already.
    pub(crate) fn read(self) -> Result<Curve> {
        let Some(path) = self.csv.filter(|path| path.exists()) else {
            return Ok(Curve::default());
        };
        let curve = Curve::from_csv(&fs::read_to_string(path)?);
        curve.with_context(|| format!("reading `{}` (--csv)", path.display()))
    }

    /// Writes both; without samples there is nothing to draw.
    pub(crate) fn write(self, curve: &Curve) -> Result<()> {
        if let Some(path) = self.csv {
            fs::write(path, curve.to_csv())?;
        }
        if let Some(path) = self.svg.filter(|_| !curve.samples().is_empty()) {
            fs::write(path, Chart::of(curve).to_svg()?)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::memory::Sample;

    #[test]
    fn a_file_that_cannot_be_written_is_told_before_anything() {
        let files = CurveFiles { svg: None, csv: Some(Path::new("no/such/folder/a.csv")) };
        let error = files.require_writable().unwrap_err();
        assert_eq!(error.to_string(), "writing to the folder of `no/such/folder/a.csv` (--csv)");
    }

    #[test]
    fn what_a_file_has_is_kept_and_the_chart_shows_all_of_it() {
        let dir = tempfile::tempdir().unwrap();
        let (svg, csv) = (dir.path().join("a.svg"), dir.path().join("a.csv"));
        let files = CurveFiles { svg: Some(&svg), csv: Some(&csv) };
        files.require_writable().unwrap();
        files.write(&files.read().unwrap()).unwrap();
        assert!(!svg.exists(), "there is nothing to draw");
        let sample = |nodes| Sample { nodes, without_ksm_bytes: 1 << 30, ..Sample::default() };
        for nodes in [1, 3] {
            let mut curve = files.read().unwrap();
            curve.add(sample(nodes));
            files.write(&curve).unwrap();
        }
        let expected = Curve::new([sample(1), sample(3)]);
        assert_eq!(files.read().unwrap(), expected);
        let drawn = fs::read_to_string(&svg).unwrap();
        assert_eq!(drawn, Chart::of(&expected).to_svg().unwrap());
    }
}
