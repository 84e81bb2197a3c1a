//! A small tree laid out as Flatcar's, signed with a test key, and Flatcar's entry for it.

use std::path::Path;

use tempfile::TempDir;
use virtlab::images::{Image, ImageSpec, Pin};

use crate::nginx::Nginx;
use crate::signer::Signer;
use crate::support::{bytes, printer, redirected, store};

pub(crate) const KERNEL: &str = "flatcar_production_pxe.vmlinuz";
pub(crate) const INITRD: &str = "flatcar_production_pxe_image.cpio.gz";
pub(crate) const PINNED: &str = "F88CFEDEFF29A5B4D9523864E25D9AED0593B34A";

pub(crate) struct Flatcar {
    pub(crate) nginx: Nginx,
    pub(crate) signer: Signer,
    pub(crate) folder: TempDir,
}

impl Flatcar {
    pub(crate) fn new(signer: Signer) -> Self {
        let flatcar = Self { nginx: Nginx::start(), signer, folder: tempfile::tempdir().unwrap() };
        flatcar.nginx.put("key.asc", &flatcar.signer.public_key());
        flatcar.publish("stable", "4230.2.1", 1);
        flatcar
    }

    /// Puts a version there, and makes it the current one.
    pub(crate) fn publish(&self, channel: &str, version: &str, seed: u32) {
        for (name, length) in [(KERNEL, 40_000), (INITRD, 900_000)] {
            let file = bytes(length, seed);
            let path = format!("{channel}/amd64-usr/{version}/{name}");
            self.nginx.put(&path, &file);
            self.nginx.put(&format!("{path}.sig"), &self.signer.sign(&file));
        }
        let text = format!(
            "FLATCAR_BUILD=4230\nFLATCAR_VERSION={version}\nFLATCAR_VERSION_ID={version}\n\
             FLATCAR_BUILD_ID=\"2026-01-01-0000\"\n"
        );
        self.nginx.put(&format!("{channel}/amd64-usr/current/version.txt"), text.as_bytes());
    }

    pub(crate) fn spec(&self) -> ImageSpec {
        let base = format!("{}/{{{{ channel }}}}", self.nginx.http());
        let key = format!("{}/key.asc", self.nginx.http());
        redirected(
            self.folder.path(),
            "flatcar",
            &[
                ("https://{{ channel }}.release.flatcar-linux.net", &base),
                (
                    "https://www.flatcar.org/security/image-signing-key/\
                     Flatcar_Image_Signing_Key.asc",
                    &key,
                ),
                (PINNED, &self.signer.fingerprint),
            ],
        )
    }

    pub(crate) fn pull(&self, pin: &Pin) -> Result<Image, String> {
        let store = store(self.folder.path());
        store.pull(&self.spec(), pin, &printer()).map_err(|error| format!("{error:#}"))
    }

    /// Nothing of a refused image may be left to be taken for a good one.
    #[track_caller]
    pub(crate) fn has_nothing(&self) {
        let store = store(self.folder.path());
        assert_eq!(store.records().unwrap(), []);
        let left: Vec<String> = walk(&self.folder.path().join("cache"))
            .into_iter()
            .filter(|path| !path.contains("/locks/"))
            .collect();
        let bad = |path: &String| path.contains(KERNEL);
        assert!(!left.iter().any(bad), "{left:?}");
    }
}

fn walk(folder: &Path) -> Vec<String> {
    let mut paths = Vec::new();
    for item in std::fs::read_dir(folder).unwrap() {
        let path = item.unwrap().path();
        if path.is_dir() {
            paths.extend(walk(&path));
        } else {
            paths.push(path.display().to_string());
        }
    }
    paths
}

pub(crate) fn version(version: &str) -> Pin {
    Pin { version: Some(version.to_owned()), ..Pin::default() }
}
