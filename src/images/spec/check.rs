//! Whether what an entry says can work.

use anyhow::{Context, Result, ensure};
use reqwest::Url;

use super::{ConfigFormat, FORMAT_VERSION, FileSpec, ImageSpec, Role, Source, Urls, is_file_name};
use crate::images::arguments::{BootVariables, UrlVariables, kernel_arguments};
use crate::images::resolve::{NO_LATEST, document_url};

impl ImageSpec {
    pub(super) fn validate(&self) -> Result<()> {
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
        ensure!(
            self.ready.is_some() || self.config == ConfigFormat::None,
            "`ready` is missing: when is a node ready, `config`, `ssh`, `etcd`, `tcp:PORT`, `http://:PORT/PATH` or `command:…`?"
        );
        ensure!(self.memory_mib > 0, "`memory_mib` is 0: how much does a node need at least?");
        match &self.source {
            Source::Urls(urls) => self.check_urls(urls)?,
            Source::Stream(stream) => {
                let url = document_url(&stream.url, first(&stream.channels));
                check_authentic("source.stream.url", &check_url("source.stream.url", url)?)?;
            }
            Source::Local(_) | Source::Recipe(_) => {}
        }
        kernel_arguments(&self.arguments, &BootVariables::sample()).context("`arguments`")?;
        Ok(())
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

    fn check_urls(&self, urls: &Urls) -> Result<()> {
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
        let channel = first(&urls.channels);
        if let Some(latest) = &urls.latest {
            check_url("source.urls.latest.url", document_url(&latest.url, channel))?;
        }
        if let Some(key) = urls.signed_by.as_ref().filter(|key| key.key.contains("://")) {
            check_url("source.urls.signed_by.key", Ok(key.key.clone()))?;
        }
        let version = urls.latest.as_ref().map(|_| "1").ok_or(NO_LATEST);
        let variables = UrlVariables { channel, version };
        let base = check_url("source.urls.base", variables.expand(&urls.base))?;
        for file in &self.files {
            for (key, path) in
                [("path", &file.path), ("digests", &file.digests), ("signature", &file.signature)]
            {
                let Some(path) = path else { continue };
                let context = || format!("file `{}`: `{key}`", file.name);
                let path = variables.expand(path).with_context(context)?;
                let url = if path.contains("://") {
                    check_url(key, Ok(path)).with_context(|| format!("file `{}`", file.name))?
                } else {
                    base.clone()
                };
                if key == "digests" && file.sha256.is_none() && file.signature.is_none() {
                    check_authentic(key, &url).with_context(|| format!("file `{}`", file.name))?;
                }
            }
        }
        Ok(())
    }
}

fn first(channels: &[String]) -> Option<&str> {
    channels.first().map(String::as_str)
}

/// A URL in which the variables are filled in already.
fn check_url(key: &str, url: Result<String>) -> Result<Url> {
    let url = url.with_context(|| format!("`{key}`"))?;
    let parsed = Url::parse(&url).ok().filter(|url| ["http", "https"].contains(&url.scheme()));
    parsed.with_context(|| {
        format!(
            "`{key}` is `{url}`: give a URL of http or https; for files of this computer there is \
             `source.local`"
        )
    })
}

/// Refuses plain http for what alone says that a file is the right one: who can change the file can change that, too.
/// This computer itself is trusted.
fn check_authentic(key: &str, url: &Url) -> Result<()> {
    let is_local =
        url.host_str().is_some_and(|host| ["localhost", "127.0.0.1", "[::1]"].contains(&host));
    ensure!(
        url.scheme() == "https" || is_local,
        "`{key}` comes over plain http, which verifies nothing: use https, or add `sha256` or `signature`"
    );
    Ok(())
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
                "mine.toml: `arguments`: `confg_url` is not defined: docs/images.md lists what ",
            ),
            ("{{ config_url", "{{ config_url | nope", "mine.toml: `arguments`: filter nope is "),
            ("512", "0", "mine.toml: `memory_mib` is 0: "),
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

    /// An entry whose source and file are these lines.
    fn network(source: &str, file: &str) -> Result<ImageSpec> {
        let source = format!("{source}\n");
        let text = GOOD.replace("source.local.folder = \".\"\n", &source);
        ImageSpec::parse(&format!("{text}{file}\n"), "mine.toml")
    }

    #[test]
    fn a_mistake_in_a_url_is_named_with_its_key() {
        const BASE: &str = "source.urls.base = 'https://example.org'";
        const LATEST: &str = "source.urls.latest = { url = 'https://example.org', variable = 'V' }";
        const WHOLE: &str =
            "sha256 = '0000000000000000000000000000000000000000000000000000000000000000'";
        for (source, file, expected) in [
            (
                "source.urls.base = 'https://example.org/{{ vesion }}'",
                WHOLE,
                "`source.urls.base`: `vesion` is not defined: a URL may use `channel` and `version`",
            ),
            (
                "source.urls.base = 'https://example.org/{{ version }}'",
                WHOLE,
                "`source.urls.base`: `version` is not defined: the source has no `latest` that \
                 says which one is the newest",
            ),
            (
                "source.urls.base = 'https://{{ channel }}.example.org'",
                WHOLE,
                "`source.urls.base`: `channel` is not defined: the source has no `channels`",
            ),
            (
                &format!("{BASE}\n{}", LATEST.replace(".org", ".org/{{ version }}")),
                WHOLE,
                "`source.urls.latest.url`: `version` is not defined: this document is what says it",
            ),
            (
                "source.stream = { url = 'https://example.org/{{ channel }}', version = '/v' }",
                "pointer = '/kernel'",
                "`source.stream.url`: `channel` is not defined: the source has no `channels`",
            ),
            (
                BASE,
                "digests = 'SUMS-{{ version }}'",
                "file `vmlinuz`: `digests`: `version` is not defined: the source has no `latest` \
                 that says which one is the newest",
            ),
            (
                BASE,
                "digests = 'SUMS'\npath = '{{ flavour }}/vmlinuz'",
                "file `vmlinuz`: `path`: `flavour` is not defined: a URL may use `channel` and \
                 `version`",
            ),
            (
                "source.urls.base = 'example.org/x'",
                WHOLE,
                "`source.urls.base` is `example.org/x`: ",
            ),
            ("source.urls.base = 'ftp://a/b'", WHOLE, "`source.urls.base` is `ftp://a/b`: give a "),
            ("source.urls.base = 'file:///a'", WHOLE, "`source.urls.base` is `file:///a`: give a "),
            (
                "source.urls.base = 'https://'",
                WHOLE,
                "`source.urls.base` is `https://`: give a URL",
            ),
            (
                BASE,
                "digests = 'ftp://a/SUMS'",
                "file `vmlinuz`: `digests` is `ftp://a/SUMS`: give a URL of http or https; for \
                 files of this computer there is `source.local`",
            ),
            (
                "source.urls.base = 'http://example.org'",
                "digests = 'SUMS'",
                "file `vmlinuz`: `digests` comes over plain http, which verifies nothing: use https, \
                 or add `sha256` or `signature`",
            ),
            (
                BASE,
                "digests = 'http://example.org/SUMS'",
                "file `vmlinuz`: `digests` comes over plain http",
            ),
            (
                "source.stream = { url = 'http://example.org/x', version = '/v' }",
                "pointer = '/kernel'",
                "`source.stream.url` comes over plain http",
            ),
        ] {
            let error = format!("{:#}", network(source, file).unwrap_err());
            let expected = format!("mine.toml: {expected}");
            assert!(error.starts_with(&expected), "{source}\n{file}\n{error}");
        }
        let versioned = BASE.replace(".org", ".org/{{ version }}");
        network(&format!("{versioned}\n{LATEST}"), WHOLE).unwrap();
        // The file itself may come as it likes.
        network("source.urls.base = 'http://example.org'", "digests = 'https://example.org/SUMS'")
            .unwrap();
        network("source.urls.base = 'http://127.0.0.1:80'", "digests = 'SUMS'").unwrap();
    }

    #[test]
    fn a_fingerprint_is_taken_as_it_is_printed() {
        let plain = "F88CFEDEFF29A5B4D9523864E25D9AED0593B34A";
        for (text, expected) in [
            (plain, Some(plain)),
            ("0xF88CFEDEFF29A5B4D9523864E25D9AED0593B34A", Some(plain)),
            ("F88C FEDE FF29 A5B4 D952  3864 E25D 9AED 0593 B34A", Some(plain)),
            ("E25D9AED0593B34A", None),
        ] {
            let source = format!(
                "source.urls.base = 'https://example.org'\n\
                 source.urls.signed_by = {{ key = 'k.asc', fingerprint = '{text}' }}"
            );
            let spec = network(&source, "signature = 'vmlinuz.sig'");
            let found = spec.ok().and_then(|spec| match spec.source {
                Source::Urls(urls) => urls.signed_by.map(|key| key.fingerprint),
                _ => None,
            });
            assert_eq!(found.as_deref(), expected, "{text}");
        }
    }
}
