//! Which images there are: the ones that are part of virtlab, and the user's own.
//!
//! A file of a user's folder replaces the entry of the same name, so that an entry can be repaired
//! (a moved URL, a new signing key) without waiting for a release.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail, ensure};
use fs_err as fs;

use crate::error::did_you_mean;
use crate::images::spec::{ImageSpec, Source};

/// The images that `--image` can name.
#[derive(Clone, Debug)]
pub struct Catalogue {
    entries: BTreeMap<String, Entry>,
}

/// Entries are parsed when they are asked for: a mistake in one file must not hide the others.
#[derive(Clone, Debug)]
enum Entry {
    Embedded(&'static str),
    File(PathBuf),
}

impl Catalogue {
    /// The embedded entries, overridden by the `*.toml` files of `folders`; a later folder wins.
    /// A folder that does not exist is an empty one.
    ///
    /// # Errors
    /// If a folder cannot be read.
    pub fn new(folders: &[PathBuf]) -> Result<Self> {
        let embedded =
            EMBEDDED.iter().map(|(name, text)| ((*name).to_owned(), Entry::Embedded(text)));
        let mut entries: BTreeMap<String, Entry> = embedded.collect();
        for folder in folders.iter().filter(|folder| folder.is_dir()) {
            for item in fs::read_dir(folder)? {
                let path = item?.path();
                let is_entry = path.extension().is_some_and(|extension| extension == "toml");
                if let (true, Some(name)) = (is_entry, path.file_stem().and_then(|s| s.to_str())) {
                    entries.insert(name.to_owned(), Entry::File(path));
                }
            }
        }
        Ok(Self { entries })
    }

    /// The image that a user named: `NAME`, `NAME:FOLDER` for files the user keeps in a folder, or
    /// the path of an entry, which ends in `.toml`.
    ///
    /// # Errors
    /// If there is no such image, naming those there are, or if its entry is wrong.
    pub fn find(&self, reference: &str) -> Result<ImageSpec> {
        if is_path(reference) {
            return ImageSpec::read(Path::new(reference));
        }
        let (name, folder) = match reference.split_once(':') {
            Some((name, folder)) => (name, Some(folder)),
            None => (reference, None),
        };
        let entry = self.entries.get(name).with_context(|| self.unknown(name))?;
        let mut spec = entry.parse(name)?;
        if let Some(folder) = folder {
            let Source::Local(local) = &mut spec.source else {
                bail!("image `{name}` has a source of its own, it takes no folder (`{reference}`)");
            };
            ensure!(!folder.is_empty(), "`{reference}` names no folder: use `{name}:FOLDER`");
            local.folder = Some(std::path::absolute(folder)?);
        }
        Ok(spec)
    }

    /// Whether this is neither an entry's name nor `NAME@VERSION`, but something that only
    /// [`Catalogue::find`] understands: a path, or a name with a folder.
    pub fn is_place(reference: &str) -> bool {
        is_path(reference) || reference.contains(':')
    }

    /// All images in the order of their names, those with a broken entry as the error.
    pub fn list(&self) -> Vec<(String, Result<ImageSpec>)> {
        self.entries.iter().map(|(name, entry)| (name.clone(), entry.parse(name))).collect()
    }

    fn unknown(&self, name: &str) -> String {
        let names: Vec<&str> = self.entries.keys().map(String::as_str).collect();
        let nearest = did_you_mean(name, names.iter().copied());
        let guess = nearest.map(|known| format!(" (did you mean `{known}`?)")).unwrap_or_default();
        format!("there is no image `{name}`{guess}; there are: {}", names.join(", "))
    }
}

impl Entry {
    fn parse(&self, name: &str) -> Result<ImageSpec> {
        let (spec, file) = match self {
            Self::Embedded(text) => {
                let file = format!("images/{name}.toml");
                (ImageSpec::parse(text, &file)?, file)
            }
            Self::File(path) => (ImageSpec::read(path)?, path.display().to_string()),
        };
        ensure!(
            spec.name == name,
            "{file}: `name` is `{}`, the file's own name says `{name}`",
            spec.name
        );
        Ok(spec)
    }
}

/// Whether a reference is the path of an entry, and not a name.
pub(crate) fn is_path(reference: &str) -> bool {
    Path::new(reference).extension().is_some_and(|extension| extension == "toml")
}

/// The catalogue that is part of virtlab, `images/*.toml`.
const EMBEDDED: &[(&str, &str)] = &[
    ("coreos", include_str!("../../images/coreos.toml")),
    ("debian", include_str!("../../images/debian.toml")),
    ("fedora-coreos", include_str!("../../images/fedora-coreos.toml")),
    ("flatcar", include_str!("../../images/flatcar.toml")),
    ("micro", include_str!("../../images/micro.toml")),
    ("talos", include_str!("../../images/talos.toml")),
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_embedded_entry_is_right() {
        let catalogue = Catalogue::new(&[]).unwrap();
        let names: Vec<String> = catalogue
            .list()
            .into_iter()
            .map(|(name, spec)| {
                assert_eq!(spec.unwrap().name, name);
                name
            })
            .collect();
        assert_eq!(names, ["coreos", "debian", "fedora-coreos", "flatcar", "micro", "talos"]);
    }

    #[test]
    fn an_unknown_name_lists_the_known_ones() {
        let catalogue = Catalogue::new(&[]).unwrap();
        let known = "there are: coreos, debian, fedora-coreos, flatcar, micro, talos";
        for (name, guess) in [
            ("flatcr", " (did you mean `flatcar`?)"),
            ("windows", ""),
            ("Debian", " (did you mean `debian`?)"),
        ] {
            let error = catalogue.find(name).unwrap_err().to_string();
            assert_eq!(error, format!("there is no image `{name}`{guess}; {known}"));
        }
    }

    #[test]
    fn only_an_image_of_kept_files_takes_a_folder() {
        let catalogue = Catalogue::new(&[]).unwrap();
        let Source::Local(local) = catalogue.find("coreos:/srv/coreos").unwrap().source else {
            panic!("the source changed");
        };
        assert_eq!(local.folder.as_deref(), Some(Path::new("/srv/coreos")));
        assert_eq!(
            catalogue.find("flatcar:/srv").unwrap_err().to_string(),
            "image `flatcar` has a source of its own, it takes no folder (`flatcar:/srv`)"
        );
        assert_eq!(
            catalogue.find("coreos:").unwrap_err().to_string(),
            "`coreos:` names no folder: use `coreos:FOLDER`"
        );
    }

    #[test]
    fn a_file_of_the_user_replaces_the_entry_of_that_name_and_adds_new_ones() {
        let folder = tempfile::tempdir().unwrap();
        let text = include_str!("../../images/micro.toml").replace("512", "700");
        fs::write(folder.path().join("micro.toml"), &text).unwrap();
        let mine = text.replace("name = \"micro\"", "name = \"mine\"");
        fs::write(folder.path().join("mine.toml"), &mine).unwrap();
        let missing = folder.path().join("missing");
        let catalogue = Catalogue::new(&[folder.path().into(), missing]).unwrap();
        assert_eq!(catalogue.find("micro").unwrap().memory_mib, 700);
        assert_eq!(catalogue.find("mine").unwrap().folder.as_deref(), Some(folder.path()));
        assert_eq!(catalogue.list().len(), 7);
        let path = folder.path().join("mine.toml").display().to_string();
        assert_eq!(catalogue.find(&path).unwrap().name, "mine");
    }

    #[test]
    fn an_entry_under_another_name_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("tiny.toml");
        fs::write(&path, include_str!("../../images/micro.toml")).unwrap();
        let catalogue = Catalogue::new(&[folder.path().into()]).unwrap();
        assert_eq!(
            catalogue.find("tiny").unwrap_err().to_string(),
            format!("{}: `name` is `micro`, the file's own name says `tiny`", path.display())
        );
    }
}
