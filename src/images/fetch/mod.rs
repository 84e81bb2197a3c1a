//! Downloads that survive what networks do.
//!
//! A download goes to a `.part` file and stays there when the connection is cut, the disk fills up
//! or the user presses Ctrl-C; the next try goes on where it ended, if the server can (RFC 9110,
//! section 14) and says that the file is still the same one (`If-Range`). Nothing is believed
//! because it arrived: the digest is computed over all of the file and judged by the caller.

mod attempt;
mod resume;

use std::io::Read;
use std::path::Path;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use anyhow::{Context, Result};
use fs_err as fs;
use indicatif::ProgressBar;
use reqwest::blocking::Client;
use reqwest::redirect;

use self::attempt::{STOPPED, passing};
use self::resume::{length, origin_path};
use crate::http;
use crate::images::digest::Sha256;
use crate::output::{Printer, seconds};

/// How patient a [`Fetcher`] is.
#[derive(Clone, Copy, Debug)]
pub struct Patience {
    /// How long a connection may take to be made.
    pub connect: Duration,
    /// How long a server may send nothing; there is no limit on the whole.
    pub stall: Duration,
    /// How many tries may bring nothing new, one after the other.
    pub attempts: u32,
    /// The pause before the second try; it doubles with each.
    pub pause: Duration,
}

/// Fetches files and small documents. Proxies come from the environment (`https_proxy`, `no_proxy`),
/// further certificate authorities from `SSL_CERT_FILE` and `SSL_CERT_DIR`.
#[derive(Clone, Debug)]
pub struct Fetcher {
    client: Client,
    patience: Patience,
    printer: Option<Printer>,
}

/// What is fetched, whole.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Fetched {
    /// The digest of all of it.
    pub sha256: Sha256,
    /// Its length in bytes.
    pub size: u64,
    /// Whether a part of it came by an earlier try: if the file has changed since and the server
    /// does not notice, it is neither the old nor the new one.
    pub resumed: bool,
}

/// Why one try ended, and whether another may help.
#[derive(Debug)]
enum Failure {
    Passing(anyhow::Error, Option<Duration>),
    Final(anyhow::Error),
}

impl Default for Patience {
    fn default() -> Self {
        Self { connect: CONNECT, stall: STALL, attempts: ATTEMPTS, pause: PAUSE }
    }
}

impl Fetcher {
    /// A fetcher.
    ///
    /// # Errors
    /// If the TLS library cannot be set up.
    pub fn new(patience: Patience) -> Result<Self> {
        // A redirect from https to http would give away what https was for.
        let careful = redirect::Policy::custom(|attempt| {
            let was_tls = attempt.previous().last().is_some_and(|url| url.scheme() == "https");
            if was_tls && attempt.url().scheme() != "https" {
                attempt.error("redirected from https to http")
            } else if attempt.previous().len() > MAX_REDIRECTS {
                attempt.error("too many redirects")
            } else {
                attempt.follow()
            }
        });
        let client = http::client()
            .user_agent(concat!("virtlab/", env!("CARGO_PKG_VERSION")))
            .redirect(careful)
            .connect_timeout(patience.connect)
            .timeout(patience.stall) // of the blocking client: of each read
            .build()
            .context("setting up the HTTP client")?;
        Ok(Self { client, patience, printer: None })
    }

    /// The same, but it says when it has to try again.
    #[must_use]
    pub fn with_printer(&self, printer: &Printer) -> Self {
        Self { printer: Some(printer.clone()), ..self.clone() }
    }

    /// Fetches a small document.
    ///
    /// # Errors
    /// If it cannot be had, or is larger than 16 MiB.
    pub fn document(&self, url: &str) -> Result<Vec<u8>> {
        self.persist(
            url,
            || 0,
            || {
                let response = self.request(url, None)?;
                let mut bytes = Vec::new();
                let limit = MAX_DOCUMENT + 1;
                response.take(limit).read_to_end(&mut bytes).map_err(passing)?;
                if bytes.len() as u64 == limit {
                    return Err(Failure::Final(anyhow::anyhow!("it is larger than 16 MiB")));
                }
                Ok(bytes)
            },
        )
    }

    /// Fetches a file into `part`, going on where an earlier try ended, until `stop` is set. The bar
    /// gets its length and its position.
    ///
    /// # Errors
    /// If the server refuses (404), stays away for too many tries, or the disk is full. The `.part`
    /// file is kept; the error says so where it helps.
    pub fn download(
        &self,
        url: &str,
        part: &Path,
        bar: &ProgressBar,
        stop: &AtomicBool,
    ) -> Result<Fetched> {
        self.persist(url, || length(part), || self.attempt(url, part, bar, stop))
    }

    /// Whether a download ended because it was told to.
    pub fn was_stopped(error: &anyhow::Error) -> bool {
        error.root_cause().to_string() == STOPPED
    }

    /// Throws away what was fetched into `part`.
    ///
    /// # Errors
    /// If it cannot be removed.
    pub fn discard(part: &Path) -> Result<()> {
        for path in [part.to_owned(), origin_path(part)] {
            match fs::remove_file(path) {
                Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                    return Err(error.into());
                }
                _ => {}
            }
        }
        Ok(())
    }

    /// Tries until it works, fails for good, or brings nothing new `attempts` times in a row.
    fn persist<T>(
        &self,
        url: &str,
        progress: impl Fn() -> u64,
        mut attempt: impl FnMut() -> Result<T, Failure>,
    ) -> Result<T> {
        let mut failed = 0;
        let mut best = progress();
        loop {
            let (error, wait) = match attempt() {
                Ok(value) => return Ok(value),
                Err(Failure::Final(error)) => {
                    return Err(error.context(format!("fetching {url}")));
                }
                Err(Failure::Passing(error, wait)) => (error, wait),
            };
            failed = if progress() > best { 1 } else { failed + 1 };
            best = best.max(progress());
            if failed >= self.patience.attempts {
                let tries = format!("fetching {url} ({failed} tries)");
                return Err(error.context(tries));
            }
            let pause = self.patience.pause * 2_u32.saturating_pow(failed - 1);
            let pause = wait.unwrap_or(pause).min(MAX_PAUSE);
            if let Some(printer) = &self.printer {
                let pause = seconds(pause);
                printer.note(format!("fetching {url}: {error:#}; trying again in {pause}"));
            }
            std::thread::sleep(pause);
        }
    }
}

const CONNECT: Duration = Duration::from_secs(15);
/// Mirrors pause for seconds; a minute of silence is a dead connection.
const STALL: Duration = Duration::from_secs(60);
const ATTEMPTS: u32 = 5;
const PAUSE: Duration = Duration::from_secs(1);
const MAX_PAUSE: Duration = Duration::from_secs(60);
const MAX_REDIRECTS: usize = 10;
const MAX_DOCUMENT: u64 = 16 << 20;
