//! Kernel samepage merging (KSM): read, switch, report.
//!
//! Nodes that booted the same image from memory are full of identical pages, and KSM lets them
//! share one copy. It is a setting of the whole host, not of a lab, so everything here says what
//! it found, changes only what differs, and [`claims`] puts it back.
//!
//! What the files mean: <https://docs.kernel.org/admin-guide/mm/ksm.html>.

pub mod claims;
pub mod process;
mod status;

use std::io;
use std::io::ErrorKind;
use std::io::Write;
use std::path::Path;
use std::path::PathBuf;

use fs_err as fs;
use serde::Deserialize;
use serde::Serialize;
use thiserror::Error;

pub use status::KsmStatus;
pub use status::Run;

/// The KSM of one kernel, through its directory of files.
#[derive(Clone, Debug)]
pub struct Ksm {
    root: PathBuf,
    page_size: u64,
}

impl Ksm {
    /// The KSM of the host this runs on.
    pub fn host() -> Self {
        Self::at(Path::new(KSM_ROOT))
    }

    /// The KSM whose files are in `root`, with this host's page size.
    pub fn at(root: &Path) -> Self {
        Self { root: root.to_owned(), page_size: rustix::param::page_size() as u64 }
    }

    /// The directory of the files.
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// The size of a page in bytes.
    pub fn page_size(&self) -> u64 {
        self.page_size
    }

    /// Reads what KSM does and what it has brought.
    ///
    /// # Errors
    /// [`KsmError::NotInKernel`] without KSM; others if a file cannot be read or understood.
    pub fn status(&self) -> Result<KsmStatus, KsmError> {
        Ok(KsmStatus {
            run: Some(Run::try_from(self.knob(Knob::Run)?).map_err(|value| {
                let path = self.root.join(Knob::Run.file_name());
                KsmError::Unreadable { path, value: value.to_string() }
            })?),
            pages_to_scan: self.knob(Knob::PagesToScan)?,
            sleep_millisecs: self.knob(Knob::SleepMillisecs)?,
            smart_scan: optional(self.knob(Knob::SmartScan))?.map(|value| value != 0),
            pages_shared: self.number("pages_shared")?,
            pages_sharing: self.number("pages_sharing")?,
            pages_unshared: self.number("pages_unshared")?,
            zero_pages: optional(self.number("ksm_zero_pages"))?,
            full_scans: self.number("full_scans")?,
            general_profit_bytes: optional(self.number("general_profit"))?,
            page_size_bytes: self.page_size,
        })
    }

    /// Changes what differs from `settings`; a host that already is so is left untouched, so this
    /// needs no permission there.
    ///
    /// # Errors
    /// [`KsmError::NoPermission`] with the command to type, [`KsmError::NotInKernel`],
    /// [`KsmError::Refused`] if the kernel refuses a number.
    pub fn set(&self, settings: Settings) -> Result<(), KsmError> {
        for (knob, value) in settings.knobs() {
            self.set_knob(knob, value)?;
        }
        Ok(())
    }

    /// What lets a measurement see soon what KSM would find in time: merging at 2500 pages at a
    /// time or the host's speed, if that is more, and no page skipped.
    ///
    /// # Errors
    /// As [`status`](Self::status).
    pub fn settings_to_measure(&self) -> Result<Settings, KsmError> {
        let status = self.status()?;
        let advisor = fs::read_to_string(self.root.join("advisor_mode"));
        // The advisor sets the speed itself, and the kernel then refuses ours.
        let is_advised = advisor.is_ok_and(|modes| !modes.contains("[none]"));
        let pages_to_scan = status.pages_to_scan.max(MEASURING_PAGES_TO_SCAN);
        Ok(Settings {
            run: Some(Run::Running),
            pages_to_scan: (!is_advised).then_some(pages_to_scan),
            smart_scan: status.smart_scan.map(|_| false),
            ..Settings::default()
        })
    }

    /// The settings, or those of them that `settings` leaves open, are already so.
    pub(crate) fn is_set(&self, settings: Settings) -> Result<bool, KsmError> {
        for (knob, value) in settings.knobs() {
            if self.knob(knob)? != value {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// What now is, of that which `settings` names.
    pub(crate) fn current(&self, settings: Settings) -> Result<Settings, KsmError> {
        let mut current = Settings::default();
        for (knob, _) in settings.knobs() {
            let value = self.knob(knob)?;
            match knob {
                Knob::PagesToScan => current.pages_to_scan = Some(value),
                Knob::SleepMillisecs => current.sleep_millisecs = Some(value),
                Knob::SmartScan => current.smart_scan = Some(value != 0),
                Knob::Run => current.run = Run::try_from(value).ok(),
            }
        }
        Ok(current)
    }

    pub(crate) fn knob(&self, knob: Knob) -> Result<u64, KsmError> {
        self.number(knob.file_name())
    }

    pub(crate) fn set_knob(&self, knob: Knob, value: u64) -> Result<(), KsmError> {
        if matches!(self.knob(knob), Ok(current) if current == value) {
            return Ok(());
        }
        kill_point();
        let path = self.root.join(knob.file_name());
        // Never created: a file that is missing is a kernel without it.
        let file = fs::OpenOptions::new().write(true).truncate(true).open(&path);
        file.and_then(|mut file| file.write_all(value.to_string().as_bytes()))
            .map_err(|error| self.write_error(knob, value, error))
    }

    fn number<T: std::str::FromStr>(&self, name: &str) -> Result<T, KsmError> {
        let path = self.root.join(name);
        let text = fs::read_to_string(&path).map_err(|error| match error.kind() {
            ErrorKind::NotFound if !self.root.exists() => self.not_in_kernel(),
            _ => KsmError::Io(error),
        })?;
        let text = text.trim();
        text.parse().map_err(|_| KsmError::Unreadable { path, value: text.to_owned() })
    }

    fn write_error(&self, knob: Knob, value: u64, error: io::Error) -> KsmError {
        let path = self.root.join(knob.file_name());
        match error.kind() {
            ErrorKind::NotFound if !self.root.exists() => self.not_in_kernel(),
            ErrorKind::PermissionDenied => KsmError::NoPermission { path, value },
            ErrorKind::ReadOnlyFilesystem => KsmError::ReadOnly { path },
            ErrorKind::InvalidInput => KsmError::Refused { path, value },
            _ => KsmError::Io(error),
        }
    }

    fn not_in_kernel(&self) -> KsmError {
        KsmError::NotInKernel { root: self.root.clone() }
    }
}

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

/// Why KSM could not be read or set.
#[derive(Debug, Error)]
pub enum KsmError {
    /// The kernel was built without `CONFIG_KSM`.
    #[error("this kernel has no kernel samepage merging: there is no `{}`", root.display())]
    NotInKernel {
        /// The directory that is missing.
        root: PathBuf,
    },
    /// Only root may write the file.
    #[error("writing `{}`: no permission", path.display())]
    NoPermission {
        /// The file.
        path: PathBuf,
        /// What was to be written.
        value: u64,
    },
    /// The file is in a read-only file system, as in most containers.
    #[error("writing `{}`: the file system is read-only here", path.display())]
    ReadOnly {
        /// The file.
        path: PathBuf,
    },
    /// The kernel does not take the number.
    #[error("writing `{value}` to `{}`: the kernel refuses it", path.display())]
    Refused {
        /// The file.
        path: PathBuf,
        /// What was to be written.
        value: u64,
    },
    /// The file holds something else than expected.
    #[error("reading `{}`: cannot understand `{value}`", path.display())]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// What it holds.
        value: String,
    },
    /// Any other failure; the message names the file.
    #[error(transparent)]
    Io(#[from] io::Error),
}

impl KsmError {
    /// What to type next.
    pub fn hints(&self) -> Vec<String> {
        match self {
            Self::NotInKernel { .. } => vec![
                "virtlab works without it; a kernel with CONFIG_KSM=y has it, as those of all \
                 large distributions do"
                    .to_owned(),
            ],
            Self::NoPermission { path, value } => {
                vec![format!("echo {value} | sudo tee {}", path.display())]
            }
            Self::ReadOnly { .. } => {
                vec!["in a container, set it on the host: virtlab ksm on".to_owned()]
            }
            Self::Refused { path, .. } if path.ends_with(Knob::PagesToScan.file_name()) => {
                let advisor = path.with_file_name("advisor_mode");
                vec![format!(
                    "if KSM's advisor chooses the speed, switch it off first: \
                     echo none | sudo tee {}",
                    advisor.display()
                )]
            }
            Self::Refused { .. } | Self::Unreadable { .. } | Self::Io(_) => Vec::new(),
        }
    }
}

/// A file that older kernels lack is `None`.
fn optional<T>(number: Result<T, KsmError>) -> Result<Option<T>, KsmError> {
    match number {
        Err(KsmError::Io(error)) if error.kind() == ErrorKind::NotFound => Ok(None),
        other => other.map(Some),
    }
}

/// Stands before every effect. In tests a thread can be ended at any of them, as a SIGKILL would:
/// nothing runs after it but what the kernel does, which is to free the lock.
#[cfg(not(test))]
fn kill_point() {}

#[cfg(test)]
use claims::kill_point;

/// Where the kernel has the files.
pub const KSM_ROOT: &str = "/sys/kernel/mm/ksm";

/// With the kernel's pause of 20 ms this is up to 500 MB a second.
const MEASURING_PAGES_TO_SCAN: u64 = 2500;

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    /// The files of a kernel 6.18 with the numbers of the article's 20 nodes.
    pub(crate) fn recorded_tree(without: &[&str]) -> tempfile::TempDir {
        let dir = tempfile::tempdir().unwrap();
        for line in include_str!("../tests/fixtures/ksm-6.18.txt").lines() {
            let (name, value) = line.split_once(' ').unwrap();
            if !without.contains(&name) {
                fs::write(dir.path().join(name), format!("{value}\n")).unwrap();
            }
        }
        dir
    }

    pub(crate) fn file(dir: &tempfile::TempDir, name: &str) -> String {
        fs::read_to_string(dir.path().join(name)).unwrap().trim().to_owned()
    }

    #[test]
    fn reads_a_recorded_tree() {
        let tree = recorded_tree(&[]);
        let status = Ksm { root: tree.path().to_owned(), page_size: 4096 }.status().unwrap();
        insta::assert_snapshot!(serde_json::to_string_pretty(&status).unwrap(), @r#"
        {
          "run": "stopped",
          "saved_bytes": 4363124736,
          "in_use_bytes": 229638144,
          "general_profit_bytes": 4212109312,
          "pages_shared": 56064,
          "pages_sharing": 1065216,
          "pages_unshared": 840960,
          "zero_pages": 0,
          "pages_to_scan": 100,
          "sleep_millisecs": 20,
          "smart_scan": true,
          "full_scans": 37,
          "page_size_bytes": 4096
        }
        "#);
    }

    #[test]
    fn an_older_kernel_lacks_three_numbers_and_nothing_else() {
        let tree = recorded_tree(&["general_profit", "ksm_zero_pages", "smart_scan"]);
        let older = Ksm::at(tree.path()).status().unwrap();
        let tree = recorded_tree(&[]);
        let newer = Ksm::at(tree.path()).status().unwrap();
        assert_eq!(
            older,
            KsmStatus { general_profit_bytes: None, zero_pages: None, smart_scan: None, ..newer }
        );
    }

    #[test]
    fn sets_only_what_was_asked_for() {
        let tree = recorded_tree(&[]);
        let ksm = Ksm::at(tree.path());
        ksm.set(Settings::on()).unwrap();
        let now = ["run", "pages_to_scan", "sleep_millisecs"].map(|name| file(&tree, name));
        assert_eq!(now, ["1", "100", "20"]);
        ksm.set(Settings {
            run: Some(Run::Unmerged),
            pages_to_scan: Some(5000),
            sleep_millisecs: Some(10),
            smart_scan: None,
        })
        .unwrap();
        let now = ["run", "pages_to_scan", "sleep_millisecs"].map(|name| file(&tree, name));
        assert_eq!(now, ["2", "5000", "10"]);
    }

    #[test]
    fn measuring_is_faster_and_skips_nothing_where_the_kernel_lets_it() {
        let measuring = |tree: &tempfile::TempDir| {
            let settings = Ksm::at(tree.path()).settings_to_measure().unwrap();
            assert_eq!(settings.run, Some(Run::Running));
            (settings.pages_to_scan, settings.sleep_millisecs, settings.smart_scan)
        };
        let tree = recorded_tree(&[]);
        assert_eq!(measuring(&tree), (Some(2500), None, Some(false)));
        fs::write(tree.path().join("pages_to_scan"), "9000").unwrap();
        assert_eq!(measuring(&tree), (Some(9000), None, Some(false)));
        fs::write(tree.path().join("advisor_mode"), "none [scan-time]\n").unwrap();
        assert_eq!(measuring(&tree), (None, None, Some(false)));
        let older = recorded_tree(&["advisor_mode", "smart_scan"]);
        assert_eq!(measuring(&older), (Some(2500), None, None));
    }

    #[test]
    fn a_kernel_without_ksm_is_named_and_nothing_is_created() {
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path().join("ksm");
        let ksm = Ksm::at(&root);
        for error in [ksm.status().unwrap_err(), ksm.set(Settings::on()).unwrap_err()] {
            let expected = format!(
                "this kernel has no kernel samepage merging: there is no `{}`",
                root.display()
            );
            assert_eq!(error.to_string(), expected);
            assert_eq!(error.hints().len(), 1);
        }
        assert!(!root.exists());
    }

    // Sysfs refuses to open an attribute without a store function, to root as well: so this is
    // the real refusal of the kernel whoever runs the tests.
    #[test]
    fn without_permission_the_hint_is_the_command_to_type() {
        let tree = recorded_tree(&["run"]);
        let run = tree.path().join("run");
        std::os::unix::fs::symlink("/sys/kernel/uevent_seqnum", &run).unwrap();
        let error = Ksm::at(tree.path()).set(Settings::on()).unwrap_err();
        assert!(matches!(error, KsmError::NoPermission { .. }), "{error}");
        assert_eq!(error.to_string(), format!("writing `{}`: no permission", run.display()));
        assert_eq!(error.hints(), [format!("echo 1 | sudo tee {}", run.display())]);
    }

    #[test]
    fn a_host_that_already_is_so_needs_no_permission() {
        let tree = recorded_tree(&["run"]);
        let real = tree.path().join("real");
        fs::write(&real, "1\n").unwrap();
        fs::set_permissions(&real, std::os::unix::fs::PermissionsExt::from_mode(0o444)).unwrap();
        std::os::unix::fs::symlink(&real, tree.path().join("run")).unwrap();
        Ksm::at(tree.path()).set(Settings::on()).unwrap();
        assert_eq!(fs::read_to_string(&real).unwrap(), "1\n", "not written again");
    }

    #[test]
    fn each_refusal_of_the_kernel_is_told_apart() {
        let tree = recorded_tree(&[]);
        let ksm = Ksm::at(tree.path());
        let refused = |kind: ErrorKind| ksm.write_error(Knob::PagesToScan, 7, kind.into());
        let path = tree.path().join("pages_to_scan");
        let path = path.display();
        let texts = [
            (ErrorKind::PermissionDenied, format!("writing `{path}`: no permission")),
            (
                ErrorKind::ReadOnlyFilesystem,
                format!("writing `{path}`: the file system is read-only here"),
            ),
            (ErrorKind::InvalidInput, format!("writing `7` to `{path}`: the kernel refuses it")),
        ];
        for (kind, text) in texts {
            assert_eq!(refused(kind).to_string(), text);
            assert_eq!(refused(kind).hints().len(), 1, "{kind}");
        }
    }

    #[test]
    fn a_file_with_nonsense_is_named() {
        let tree = recorded_tree(&[]);
        for (name, value) in [("pages_shared", "many"), ("run", "3")] {
            let path = tree.path().join(name);
            let before = fs::read(&path).unwrap();
            fs::write(&path, value).unwrap();
            let error = Ksm::at(tree.path()).status().unwrap_err();
            let expected = format!("reading `{}`: cannot understand `{value}`", path.display());
            assert_eq!(error.to_string(), expected);
            fs::write(&path, before).unwrap();
        }
    }
}
