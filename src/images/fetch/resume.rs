//! Going on where a download ended: what is remembered beside a `.part` file, and what a server's
//! header lines say about ranges (RFC 9110, section 14).

use std::path::{Path, PathBuf};
use std::time::Duration;

use fs_err as fs;
use reqwest::blocking::Response;
use reqwest::header;
use serde::{Deserialize, Serialize};

/// What the next try must know about a `.part` file.
#[derive(Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
pub(crate) struct Origin {
    pub(crate) url: String,
    /// A strong `ETag` or a `Last-Modified`, for `If-Range`.
    pub(crate) validator: Option<String>,
}

/// The start and the whole length of `Content-Range: bytes 10-99/100`.
pub(crate) fn content_range(response: &Response) -> Option<(u64, Option<u64>)> {
    let value = response.headers().get(header::CONTENT_RANGE)?.to_str().ok()?;
    let (range, whole) = value.strip_prefix("bytes ")?.split_once('/')?;
    let (start, _) = range.split_once('-')?;
    Some((start.trim().parse().ok()?, whole.parse().ok()))
}

/// The length in `Content-Range: bytes */100`.
pub(crate) fn unsatisfied_length(response: &Response) -> Option<u64> {
    let value = response.headers().get(header::CONTENT_RANGE)?.to_str().ok()?;
    value.strip_prefix("bytes */")?.parse().ok()
}

/// A weak `ETag` may not be used for ranges (RFC 9110, section 13.1.5).
pub(crate) fn validator(response: &Response) -> Option<String> {
    let text = |name| response.headers().get(name)?.to_str().ok().map(str::to_owned);
    let etag = text(header::ETAG).filter(|etag| !etag.starts_with("W/"));
    etag.or_else(|| text(header::LAST_MODIFIED))
}

/// `Retry-After` in seconds; its other form, a date, is not worth a parser.
pub(crate) fn retry_after(response: &Response) -> Option<Duration> {
    let value = response.headers().get(header::RETRY_AFTER)?.to_str().ok()?;
    value.trim().parse().ok().map(Duration::from_secs)
}

pub(crate) fn length(path: &Path) -> u64 {
    fs::metadata(path).map_or(0, |metadata| metadata.len())
}

pub(crate) fn origin_path(part: &Path) -> PathBuf {
    let mut path = part.as_os_str().to_owned();
    path.push(".origin");
    path.into()
}

pub(crate) fn read_origin(part: &Path) -> Option<Origin> {
    serde_json::from_slice(&fs::read(origin_path(part)).ok()?).ok()
}
