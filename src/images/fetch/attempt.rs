//! One try of a download: what is asked for, what the answer means, and writing it down.

use std::io::{Read, Seek, Write};
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};

use anyhow::Result;
use fs_err as fs;
use indicatif::ProgressBar;
use reqwest::blocking::Response;
use reqwest::{StatusCode, header};

use super::resume::{
    Origin, content_range, length, origin_path, read_origin, retry_after, unsatisfied_length,
    validator,
};
use super::{Failure, Fetched, Fetcher};
use crate::images::digest::{Hasher, Sha256};
use crate::output::set_total;

impl Fetcher {
    pub(super) fn attempt(
        &self,
        url: &str,
        part: &Path,
        bar: &ProgressBar,
        stop: &AtomicBool,
    ) -> Result<Fetched, Failure> {
        let origin = read_origin(part).filter(|origin| origin.url == url);
        if origin.is_none() {
            Self::discard(part).map_err(Failure::Final)?;
        }
        let have = length(part);
        let validator = origin.and_then(|origin| origin.validator);
        let range = (have > 0).then_some((have, validator.as_deref()));
        let response = self.request(url, range)?;

        let start = match response.status() {
            StatusCode::PARTIAL_CONTENT => match content_range(&response) {
                Some((start, _)) if start == have => have,
                _ => {
                    Self::discard(part).map_err(Failure::Final)?;
                    return Err(Failure::Passing(
                        anyhow::anyhow!("the server sent another part than was asked for"),
                        None,
                    ));
                }
            },
            StatusCode::RANGE_NOT_SATISFIABLE => {
                // Whole already, if the server says that the file is as long as what we have.
                if unsatisfied_length(&response) == Some(have) {
                    return hash(part).map_err(Failure::Final);
                }
                Self::discard(part).map_err(Failure::Final)?;
                return Err(Failure::Passing(
                    anyhow::anyhow!("the file on the server has changed"),
                    None,
                ));
            }
            _ => 0,
        };
        set_total(bar, response.content_length().map(|length| start + length));
        receive(response, url, part, start, (bar, stop))
    }

    /// A response with a body worth reading: 200, or 206 and 416 if a range was asked for.
    pub(super) fn request(
        &self,
        url: &str,
        range: Option<(u64, Option<&str>)>,
    ) -> Result<Response, Failure> {
        let mut request = self.client.get(url);
        if let Some((start, validator)) = range {
            request = request.header(header::RANGE, format!("bytes={start}-"));
            if let Some(validator) = validator {
                request = request.header(header::IF_RANGE, validator);
            }
        }
        let response = request.send().map_err(|error| {
            let is_final = error.is_redirect() || error.is_builder();
            let error = anyhow::Error::from(error.without_url());
            if is_final { Failure::Final(error) } else { Failure::Passing(error, None) }
        })?;
        let status = response.status();
        let is_partial =
            matches!(status, StatusCode::PARTIAL_CONTENT | StatusCode::RANGE_NOT_SATISFIABLE);
        if status == StatusCode::OK || (range.is_some() && is_partial) {
            return Ok(response);
        }
        let error = anyhow::anyhow!("the server says {status}");
        if PASSING.contains(&status.as_u16()) {
            return Err(Failure::Passing(error, retry_after(&response)));
        }
        Err(Failure::Final(error))
    }
}

/// Writes the body behind what is there, and the digest of both.
fn receive(
    mut response: Response,
    url: &str,
    part: &Path,
    start: u64,
    (bar, stop): (&ProgressBar, &AtomicBool),
) -> Result<Fetched, Failure> {
    let io = |error| disk(error, part);
    let mut file = fs::OpenOptions::new()
        .create(true)
        .read(true)
        .write(true)
        .truncate(false)
        .open(part)
        .map_err(io)?;
    file.set_len(start).map_err(io)?;
    if start == 0 {
        let origin = Origin { url: url.to_owned(), validator: validator(&response) };
        let text = serde_json::to_vec(&origin).map_err(|error| Failure::Final(error.into()))?;
        fs::write(origin_path(part), text).map_err(io)?;
    }
    let mut hasher = Hasher::default();
    hasher.read_all(&mut file).map_err(io)?;
    file.seek(std::io::SeekFrom::Start(start)).map_err(io)?;
    bar.set_position(start);
    bar.reset_eta();

    let mut buffer = vec![0; BUFFER];
    loop {
        if stop.load(Ordering::Relaxed) {
            return Err(Failure::Final(anyhow::anyhow!("{STOPPED}")));
        }
        let count = match response.read(&mut buffer) {
            Ok(0) => break,
            Ok(count) => count,
            Err(error) if error.kind() == std::io::ErrorKind::Interrupted => continue,
            Err(error) => return Err(passing(error)),
        };
        file.write_all(&buffer[..count]).map_err(io)?;
        hasher.update(&buffer[..count]);
        bar.inc(count as u64);
    }
    file.sync_all().map_err(io)?;
    Ok(Fetched { size: hasher.length(), sha256: hasher.finish(), resumed: start > 0 })
}

fn hash(part: &Path) -> Result<Fetched> {
    Ok(Fetched { size: length(part), sha256: Sha256::of_file(part)?, resumed: true })
}

/// Reading the body went wrong. reqwest hides in the I/O error; its last cause says why.
pub(super) fn passing(error: std::io::Error) -> Failure {
    let inner = error.get_ref().and_then(|inner| inner.downcast_ref::<reqwest::Error>());
    let is_silent = inner.is_some_and(reqwest::Error::is_timeout);
    Failure::Passing(
        if is_silent {
            anyhow::anyhow!("the server has stopped sending")
        } else {
            let error = anyhow::Error::from(error);
            anyhow::anyhow!("the connection was cut: {}", error.root_cause())
        },
        None,
    )
}

fn disk(error: std::io::Error, part: &Path) -> Failure {
    let is_full =
        matches!(error.kind(), std::io::ErrorKind::StorageFull | std::io::ErrorKind::QuotaExceeded);
    let error = anyhow::Error::from(error);
    Failure::Final(if is_full {
        error.context(format!(
            "the disk is full; what has arrived is kept in {}, and the next run goes on there",
            part.display()
        ))
    } else {
        error
    })
}

pub(super) const STOPPED: &str = "stopped, since another file failed";
/// The answers that `curl --retry` takes for passing ones.
const PASSING: [u16; 6] = [408, 429, 500, 502, 503, 504];
const BUFFER: usize = 128 * 1024;
