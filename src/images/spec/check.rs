//! Whether what an entry says can work.

use anyhow::Context;
use anyhow::Result;
use anyhow::ensure;

use super::FORMAT_VERSION;
use super::FileSpec;
use super::ImageSpec;
use super::Role;
use super::Source;
use super::Urls;
use super::is_file_name;
use crate::images::arguments::BootVariables;
use crate::images::arguments::expand;

impl ImageSpec {
    pub(super) fn check(&self) -> Result<()> {
        ensure!(
            self.version == FORMAT_VERSION,
            "`version` is {}, this virtlab reads version {FORMAT_VERSION}",
            self.version
        );
        ensure!(
            is_file_name(&self.name) && !self.name.chars().any(|c| c.is_ascii_uppercase()),
            "`name` is `{}`: use lower-case letters, digits, `-`, `_` and `.`",
            self.name
        );
        let kernels = self.files.iter().filter(|file| file.role == Role::Kernel).count();
        ensure!(kernels == 1, "{kernels} files have the role `kernel`, an image has exactly one");
        for (index, file) in self.files.iter().enumerate() {
            ensure!(
                is_file_name(&file.name),
                "file name `{}`: use letters, digits, `-`, `_` and `.`, and no folder",
                file.name
            );
            ensure!(
                !self.files[..index].iter().any(|other| other.name == file.name),
                "two files are named `{}`",
                file.name
            );
            self.check_file(file).with_context(|| format!("file `{}`", file.name))?;
        }
        if let Source::Urls(urls) = &self.source {
            Self::check_urls(urls)?;
        }
        self.kernel_arguments(&BootVariables::sample()).map(drop)
    }

    /// A key that its source does not look at would be a check that is never made.
    fn check_file(&self, file: &FileSpec) -> Result<()> {
        let unused = |key: &str, is_set: bool| {
            ensure!(!is_set, "`{key}` has no meaning with this kind of source");
            Ok(())
        };
        match &self.source {
            Source::Urls(urls) => {
                unused("pointer", file.pointer.is_some())?;
                ensure!(
                    file.sha256.is_some() || file.digests.is_some() || file.signature.is_some(),
                    "it comes over the network and nothing verifies it: \
                     add `sha256`, `digests` or `signature`"
                );
                ensure!(
                    file.signature.is_none() || urls.signed_by.is_some(),
                    "it has a `signature`, but the source does not say who it is `signed_by`"
                );
            }
            Source::Stream(_) => {
                unused("path", file.path.is_some())?;
                unused("digests", file.digests.is_some())?;
                unused("signature", file.signature.is_some())?;
                ensure!(file.pointer.is_some(), "the stream needs a `pointer` to it");
            }
            Source::Local(_) | Source::Recipe(_) => {
                unused("pointer", file.pointer.is_some())?;
                unused("digests", file.digests.is_some())?;
                unused("signature", file.signature.is_some())?;
            }
        }
        Ok(())
    }

    fn check_urls(urls: &Urls) -> Result<()> {
        if let Some(latest) = &urls.latest {
            ensure!(
                latest.variable.is_some() != latest.pointer.is_some(),
                "`source.urls.latest` needs either `variable` or `pointer`"
            );
        }
        if let Some(key) = &urls.signed_by {
            let fingerprint = &key.fingerprint;
            ensure!(
                fingerprint.len() == 40 && fingerprint.chars().all(|c| c.is_ascii_hexdigit()),
                "`fingerprint` is `{fingerprint}`: give the 40 hexadecimal digits of the primary key"
            );
        }
        let channel = urls.channels.first().map_or("", String::as_str);
        expand(&urls.base, channel, "1").context("`source.urls.base`")?;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::GOOD;
    use super::*;

    #[test]
    fn a_mistake_is_named_with_its_place() {
        let network = "[source.urls]\nbase = \"https://example.org/{{ version }}\"\n";
        for (from, to, expected) in [
            ("memory_mib", "memory", "mine.toml:5:1: unknown field `memory`, expected one of "),
            ("512", "\"512\"", "mine.toml:5:14: invalid type: string \"512\", expected u32"),
            ("\"ignition\"", "\"ignitoin\"", "mine.toml:6:10: unknown variant `ignitoin`, "),
            ("role = \"kernel\"", "rôle = 1", "mine.toml:10:2: "),
            (
                "version = 1",
                "version = 2",
                "mine.toml: `version` is 2, this virtlab reads version 1",
            ),
            ("\"mine\"", "\"../up\"", "mine.toml: `name` is `../up`: use lower-case letters, "),
            ("\"vmlinuz\"", "\"a/b\"", "mine.toml: file name `a/b`: use letters, digits, "),
            ("\"kernel\"", "\"initrd\"", "mine.toml: 0 files have the role `kernel`, an image "),
            (
                "config_url",
                "confg_url",
                "mine.toml: rendering the kernel arguments of image `mine`",
            ),
            (
                "source.local.folder = \".\"\n",
                network,
                "mine.toml: file `vmlinuz`: it comes over the network and nothing verifies it: \
              add `sha256`, `digests` or `signature`",
            ),
            (
                "\"vmlinuz\"\n",
                "\"vmlinuz\"\nsignature = \"x.sig\"\n",
                "mine.toml: file `vmlinuz`: `signature` has no meaning with this kind of source",
            ),
            (
                "\"vmlinuz\"\n",
                "\"vmlinuz\"\nsha256 = \"abc\"\n",
                "mine.toml:12:10: `abc` is not a SHA-256 ",
            ),
        ] {
            assert!(GOOD.contains(from), "{from}");
            let error = format!(
                "{:#}",
                ImageSpec::parse(&GOOD.replace(from, to), "mine.toml").unwrap_err()
            );
            assert!(error.starts_with(expected), "{from} → {to}: {error}");
        }
    }
}
