//! Images that are built here, by a recipe: a folder with a `build.sh` that is run as
//! `build.sh OUTPUT_DIR` and puts the image's files there.
//!
//! A built image has no version of its own; what it was built from takes that place, so that a
//! changed recipe is a new image and an unchanged one is built once.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::io::{BufRead, BufReader, Write};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Command, ExitStatus, Stdio};

use anyhow::{Context, Result, bail};
use fs_err as fs;
use fs_err::os::unix::fs::OpenOptionsExt;
use rustix::process::{Pid, Signal, kill_process_group};
use signal_hook::iterator::Signals;

use crate::error::Interrupted;
use crate::images::digest::{Hasher, Sha256};
use crate::images::spec::{ImageSpec, RecipeName};
use crate::output::{Printer, sanitize};
use crate::signals;

/// A recipe: its files by their names, all of which may be executed, and what it looks at.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Recipe {
    name: String,
    files: BTreeMap<String, Vec<u8>>,
    /// The variables that are set, and not to nothing.
    environment: BTreeMap<String, OsString>,
}

impl Recipe {
    /// The recipe of an image: a folder beside the user's entry, else one of virtlab's own.
    ///
    /// # Errors
    /// If there is none, or its folder cannot be read.
    pub fn find(spec: &ImageSpec, recipe: &RecipeName) -> Result<Self> {
        let variable = |name: &String| Some((name.clone(), std::env::var_os(name)?));
        let set = recipe.environment.iter().filter_map(variable);
        let environment = set.filter(|(_, value)| !value.is_empty()).collect();
        let name = recipe.name.as_str();
        if let Some(folder) = spec.folder.as_ref().map(|folder| folder.join(name))
            && folder.join(SCRIPT).exists()
        {
            return Ok(Self { environment, ..Self::read(name, &folder)? });
        }
        let Some((_, files)) = RECIPES.iter().find(|(known, _)| *known == name) else {
            let wanted = match &spec.folder {
                Some(folder) => {
                    format!("{} does not exist", folder.join(name).join(SCRIPT).display())
                }
                None => "it is not part of this virtlab".to_owned(),
            };
            bail!("it is built by the recipe `{name}`: {wanted}");
        };
        let files = files.iter().map(|(file, text)| ((*file).to_owned(), text.as_bytes().to_vec()));
        Ok(Self { name: name.to_owned(), files: files.collect(), environment })
    }

    /// Reads a recipe from its folder; sub-folders are not part of it.
    ///
    /// # Errors
    /// If the folder cannot be read.
    pub fn read(name: &str, folder: &Path) -> Result<Self> {
        let mut files = BTreeMap::new();
        for item in fs::read_dir(folder)? {
            let path = item?.path();
            if let (true, Some(file)) = (path.is_file(), path.file_name()) {
                files.insert(file.to_string_lossy().into_owned(), fs::read(&path)?);
            }
        }
        Ok(Self { name: name.to_owned(), files, environment: BTreeMap::new() })
    }

    /// The digest of all its files, names and contents, and of the variables.
    pub fn digest(&self) -> Sha256 {
        let mut hasher = Hasher::default();
        for (name, bytes) in &self.files {
            hasher.update(format!("{name}\0{}\0", bytes.len()).as_bytes());
            hasher.update(bytes);
        }
        for (name, value) in &self.environment {
            hasher.update(format!("${name}\0{}\0", value.len()).as_bytes());
            hasher.update(value.as_encoded_bytes());
        }
        hasher.finish()
    }

    /// Builds into the folder `output`. What the recipe prints goes to the file `log`, and to
    /// virtlab's own log under `-v`.
    ///
    /// # Errors
    /// If the recipe fails, with the end of what it printed.
    pub fn build(&self, output: &Path, log: &Path, printer: &Printer) -> Result<()> {
        let kitchen = tempfile::Builder::new().prefix("virtlab-recipe-").tempdir()?;
        for (name, bytes) in &self.files {
            let mut file = fs::OpenOptions::new()
                .create_new(true)
                .write(true)
                .mode(0o755)
                .open(kitchen.path().join(name))?;
            file.write_all(bytes)?;
        }
        let context = || format!("building by the recipe `{}`", self.name);
        let spinner = printer.spinner(&context());
        let mut file = fs::File::create(log)?;
        let mut command = Command::new(kitchen.path().join(SCRIPT));
        command.envs(&self.environment);
        let status = run(command, output, kitchen.path(), |line| {
            file.write_all(line)?;
            file.write_all(b"\n")?;
            let line = sanitize(String::from_utf8_lossy(line).trim_end());
            tracing::info!("{}: {line}", self.name);
            spinner.set_message(line);
            Ok(())
        });
        spinner.finish_and_clear();
        let status = status.with_context(context)?;
        if !status.success() {
            let text = fs::read(log)?;
            let text = String::from_utf8_lossy(&text).into_owned();
            let lines: Vec<&str> = text.lines().collect();
            let end: Vec<String> = lines[lines.len().saturating_sub(SHOWN_LINES)..]
                .iter()
                .map(|line| format!("\n  {}", sanitize(line)))
                .collect();
            bail!(
                "{}: {SCRIPT}: {status}; all of its output is in {}{}",
                context(),
                log.display(),
                end.concat()
            );
        }
        Ok(())
    }
}

/// Runs a command in a process group of its own and gives each line of its output to `line`. A
/// signal that asks us to end goes to all of the group, and a second one is not to be refused.
fn run(
    mut command: Command,
    output: &Path,
    folder: &Path,
    mut line: impl FnMut(&[u8]) -> Result<()>,
) -> Result<ExitStatus> {
    let (reader, writer) = std::io::pipe()?;
    let _held = signals::defer_signals()?;
    let mut caught = Signals::new(signals::ALL).context("catching signals")?;
    command
        .arg(output)
        .current_dir(folder)
        .process_group(0)
        .stdin(Stdio::null())
        .stdout(writer.try_clone()?)
        .stderr(writer);
    let mut child = command.spawn().with_context(|| format!("running {SCRIPT}"))?;
    // It holds the pipe's other end, and would keep it open.
    drop(command);
    let group = Pid::from_child(&child);
    let handle = caught.handle();
    let (status, was_interrupted) = std::thread::scope(|scope| {
        let watch = scope.spawn(move || {
            let mut signal = Signal::TERM;
            for _ in caught.forever() {
                let _ = kill_process_group(group, signal); // gone already
                signal = Signal::KILL;
            }
            signal == Signal::KILL
        });
        let mut lines = BufReader::new(reader).split(b'\n');
        let status = lines.try_for_each(|text| line(&text?)).and_then(|()| Ok(child.wait()?));
        if status.is_err() {
            let _ = kill_process_group(group, Signal::KILL);
            let _ = child.wait();
        }
        handle.close();
        (status, watch.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)))
    });
    if was_interrupted {
        return Err(Interrupted.into());
    }
    status
}

const SCRIPT: &str = "build.sh";
/// A screen's worth: the cause is usually in it.
const SHOWN_LINES: usize = 15;

/// The files of a recipe: name and text.
type Files = &'static [(&'static str, &'static str)];

/// The recipes that are part of virtlab, `images/NAME/`.
const RECIPES: &[(&str, Files)] = &[
    (
        "debian",
        &[
            ("apt-mirror", include_str!("../../images/debian/apt-mirror")),
            ("build.sh", include_str!("../../images/debian/build.sh")),
            ("customize", include_str!("../../images/debian/customize")),
            ("initramfs-hook", include_str!("../../images/debian/initramfs-hook")),
            ("initramfs.conf", include_str!("../../images/debian/initramfs.conf")),
        ],
    ),
    (
        "micro",
        &[
            ("build.sh", include_str!("../../images/micro/build.sh")),
            ("init", include_str!("../../images/micro/init")),
        ],
    ),
];
