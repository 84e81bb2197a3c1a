//! Images that are built here, by a recipe: a folder with a `build.sh` that is run as
//! `build.sh OUTPUT_DIR` and puts the image's files there.
//!
//! A built image has no version of its own; what it was built from takes that place, so that a
//! changed recipe is a new image and an unchanged one is built once.

use std::collections::BTreeMap;
use std::io::BufRead;
use std::io::BufReader;
use std::io::Write;
use std::path::Path;
use std::process::Command;
use std::process::Stdio;

use anyhow::Context;
use anyhow::Result;
use anyhow::bail;
use fs_err as fs;
use fs_err::os::unix::fs::OpenOptionsExt;

use crate::images::digest::Hasher;
use crate::images::digest::Sha256;
use crate::images::spec::ImageSpec;
use crate::output::Printer;
use crate::output::sanitize;

/// A recipe: its files by their names. All of them may be executed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Recipe {
    name: String,
    files: BTreeMap<String, Vec<u8>>,
}

impl Recipe {
    /// The recipe `name` of an image: a folder beside the user's entry, else one of virtlab's own.
    ///
    /// # Errors
    /// If there is none, or its folder cannot be read.
    pub fn find(spec: &ImageSpec, name: &str) -> Result<Self> {
        if let Some(folder) = spec.folder.as_ref().map(|folder| folder.join(name))
            && folder.join(SCRIPT).exists()
        {
            return Self::read(name, &folder);
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
        Ok(Self { name: name.to_owned(), files: files.collect() })
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
        Ok(Self { name: name.to_owned(), files })
    }

    /// The digest of all its files, names and contents.
    pub fn digest(&self) -> Sha256 {
        let mut hasher = Hasher::default();
        for (name, bytes) in &self.files {
            hasher.update(format!("{name}\0{}\0", bytes.len()).as_bytes());
            hasher.update(bytes);
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
        let (reader, writer) = std::io::pipe().with_context(context)?;
        // The command is dropped at once: it holds the pipe's other end, and would keep it open.
        let mut child = Command::new(kitchen.path().join(SCRIPT))
            .arg(output)
            .current_dir(kitchen.path())
            .stdin(Stdio::null())
            .stdout(writer.try_clone().with_context(context)?)
            .stderr(writer)
            .spawn()
            .with_context(|| format!("running {SCRIPT} of the recipe `{}`", self.name))?;
        let spinner = printer.spinner(&context());
        let mut file = fs::File::create(log)?;
        for line in BufReader::new(reader).split(b'\n') {
            let line = line.with_context(context)?;
            file.write_all(&line)?;
            file.write_all(b"\n")?;
            let line = sanitize(String::from_utf8_lossy(&line).trim_end());
            tracing::info!("{}: {line}", self.name);
            spinner.set_message(line);
        }
        let status = child.wait().with_context(context)?;
        spinner.finish_and_clear();
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
