//! From an entry and a pin to URLs: which version, where its files are, and what vouches for each.

use std::collections::BTreeMap;

use anyhow::{Context, Result, bail, ensure};
use serde_json::Value;

use crate::images::arguments::UrlVariables;
use crate::images::digest::Sha256;
use crate::images::fetch::Fetcher;
use crate::images::lock::Pin;
use crate::images::spec::{
    FileSpec, ImageSpec, Latest, Role, SigningKey, Source, Stream, Urls, is_file_name,
};
use crate::images::verify;

/// One version of an image, ready to be fetched.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Resolved {
    /// The channel, if the image has channels.
    pub channel: Option<String>,
    /// The version, if the image has versions.
    pub version: Option<String>,
    /// The files.
    pub files: Vec<RemoteFile>,
    /// Who signs them.
    pub signed_by: Option<SigningKey>,
}

/// A file to fetch.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RemoteFile {
    /// What it is to the boot.
    pub role: Role,
    /// The name to keep it under.
    pub name: String,
    /// Where it is.
    pub url: String,
    /// The digests it must have, each with what says so.
    pub digests: Vec<(Sha256, String)>,
    /// Where its detached signature is.
    pub signature: Option<String>,
}

/// Finds out the version and the URLs of an image that comes over the network.
///
/// # Errors
/// If there is no such channel or version, or a document that says more cannot be had or read.
pub fn resolve(spec: &ImageSpec, pin: &Pin, fetcher: &Fetcher) -> Result<Resolved> {
    let channel = channel(spec, pin)?;
    let mut resolved = match &spec.source {
        Source::Urls(urls) => resolve_urls(spec, urls, channel, pin, fetcher)?,
        Source::Stream(stream) => resolve_stream(spec, stream, channel, pin, fetcher)?,
        Source::Local(_) | Source::Recipe(_) => {
            bail!("it does not come over the network")
        }
    };
    for file in &mut resolved.files {
        if let Some(pinned) = pin.files.get(&file.name) {
            file.digests.push((pinned.sha256, "the lock file".to_owned()));
        }
    }
    if let Some(version) = &resolved.version {
        ensure!(is_file_name(version), "the version is said to be {version:?}, which is not one");
    }
    Ok(resolved)
}

/// The channel that is wanted: the pinned one or the image's first.
///
/// # Errors
/// If the image has no such channel.
pub fn channel(spec: &ImageSpec, pin: &Pin) -> Result<Option<String>> {
    let channels = spec.channels();
    let Some(wanted) = &pin.channel else { return Ok(channels.first().cloned()) };
    ensure!(!channels.is_empty(), "it has no channels, so none is `{wanted}`");
    ensure!(
        channels.contains(wanted),
        "it has no channel `{wanted}`; there are: {}",
        channels.join(", ")
    );
    Ok(Some(wanted.clone()))
}

fn resolve_urls(
    spec: &ImageSpec,
    urls: &Urls,
    channel: Option<String>,
    pin: &Pin,
    fetcher: &Fetcher,
) -> Result<Resolved> {
    let version = match (&pin.version, &urls.latest) {
        (Some(version), Some(_)) => Some(version.clone()),
        (Some(version), None) => {
            bail!("it has no versions, so none is `{version}`")
        }
        (None, Some(latest)) => Some(newest(latest, channel.as_deref(), fetcher)?),
        (None, None) => None,
    };
    let variables =
        UrlVariables { channel: channel.as_deref(), version: version.as_deref().ok_or(NO_LATEST) };
    let base = variables.expand(&urls.base)?;
    let url = |path: &str| -> Result<String> {
        let path = variables.expand(path)?;
        let is_whole = path.contains("://");
        Ok(if is_whole { path } else { format!("{}/{path}", base.trim_end_matches('/')) })
    };
    let mut documents = BTreeMap::new();
    let files = spec.files.iter().map(|file| -> Result<RemoteFile> {
        let location = url(file.path())?;
        let mut digests = literal(file);
        if let Some(path) = &file.digests {
            let from = url(path)?;
            if !documents.contains_key(&from) {
                documents.insert(from.clone(), text(&from, fetcher)?);
            }
            let digest = verify::digest_of(&documents[&from], &names_in(&from, &location))
                .with_context(|| format!("reading {from}"))?;
            digests.push((digest, from));
        }
        let signature = file.signature.as_deref().map(&url).transpose()?;
        let (role, name) = (file.role, file.name.clone());
        Ok(RemoteFile { role, name, url: location, digests, signature })
    });
    let files = files.collect::<Result<_>>()?;
    Ok(Resolved { channel, version, files, signed_by: urls.signed_by.clone() })
}

fn resolve_stream(
    spec: &ImageSpec,
    stream: &Stream,
    channel: Option<String>,
    pin: &Pin,
    fetcher: &Fetcher,
) -> Result<Resolved> {
    if let Some(files) = locked(spec, pin) {
        return Ok(Resolved { channel, version: pin.version.clone(), files, signed_by: None });
    }
    let url = document_url(&stream.url, channel.as_deref())?;
    let document: Value =
        serde_json::from_str(&text(&url, fetcher)?).with_context(|| format!("reading {url}"))?;
    let string = |pointer: &str| {
        let value = document.pointer(pointer).and_then(Value::as_str);
        value.map(str::to_owned).with_context(|| format!("{url} has no text at `{pointer}`"))
    };
    let version = string(&stream.version)?;
    if let Some(wanted) = &pin.version {
        ensure!(
            *wanted == version,
            "{url} describes only the newest version, {version}, not {wanted}: \
             an older one needs the lock file that was made with it"
        );
    }
    let files = spec.files.iter().map(|file| -> Result<RemoteFile> {
        let pointer = file.pointer.as_deref().unwrap_or_default();
        let mut digests = literal(file);
        let digest = string(&format!("{pointer}/sha256"))?;
        digests.push((digest.parse().with_context(|| format!("reading {url}"))?, url.clone()));
        let (role, name) = (file.role, file.name.clone());
        let location = string(&format!("{pointer}/location"))?;
        Ok(RemoteFile { role, name, url: location, digests, signature: None })
    });
    let files = files.collect::<Result<_>>()?;
    Ok(Resolved { channel, version: Some(version), files, signed_by: None })
}

/// The files as the lock file has them, if it has a version and a URL of each: the stream's
/// document forgets a version when the next one is out, the files stay.
fn locked(spec: &ImageSpec, pin: &Pin) -> Option<Vec<RemoteFile>> {
    pin.version.as_ref()?;
    let files = spec.files.iter().map(|file| {
        let url = pin.files.get(&file.name)?.url.clone()?;
        let (role, name, digests) = (file.role, file.name.clone(), literal(file));
        Some(RemoteFile { role, name, url, digests, signature: None })
    });
    files.collect()
}

/// What a digest file may call the file at `location`: its path from the digest file's own folder,
/// as `sha256sum` writes it, or its bare name.
fn names_in<'a>(digest_file: &str, location: &'a str) -> Vec<&'a str> {
    let location = location.split(['?', '#']).next().unwrap_or_default();
    let folder = digest_file.rsplit_once('/').map_or("", |(folder, _)| folder);
    let below = location.strip_prefix(folder).and_then(|path| path.strip_prefix('/'));
    let bare = location.rsplit('/').next();
    let mut names: Vec<&str> = below.into_iter().chain(bare).collect();
    names.dedup();
    names
}

fn literal(file: &FileSpec) -> Vec<(Sha256, String)> {
    file.sha256.map(|digest| (digest, "the image's entry".to_owned())).into_iter().collect()
}

/// The URL of a document that says which version is the newest.
pub(crate) fn document_url(url: &str, channel: Option<&str>) -> Result<String> {
    UrlVariables { channel, version: Err(NOT_YET) }.expand(url)
}

fn newest(latest: &Latest, channel: Option<&str>, fetcher: &Fetcher) -> Result<String> {
    let url = document_url(&latest.url, channel)?;
    let text = text(&url, fetcher)?;
    let version = match (&latest.variable, &latest.pointer) {
        (Some(variable), _) => text.lines().find_map(|line| {
            let (name, value) = line.trim().split_once('=')?;
            (name == variable).then(|| value.trim().trim_matches('"').to_owned())
        }),
        (None, Some(pointer)) => {
            let document: Value =
                serde_json::from_str(&text).with_context(|| format!("reading {url}"))?;
            document.pointer(pointer).and_then(Value::as_str).map(str::to_owned)
        }
        (None, None) => None,
    };
    let place = latest.variable.as_ref().or(latest.pointer.as_ref());
    version
        .with_context(|| format!("{url} says no version at `{}`", place.map_or("", String::as_str)))
}

fn text(url: &str, fetcher: &Fetcher) -> Result<String> {
    String::from_utf8(fetcher.document(url)?).with_context(|| format!("reading {url}"))
}

/// Why there is no version.
pub(crate) const NO_LATEST: &str = "the source has no `latest` that says which one is the newest";
const NOT_YET: &str = "this document is what says it";
