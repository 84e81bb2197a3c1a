//! Downloads from servers that misbehave.

use std::path::PathBuf;
use std::sync::atomic::AtomicBool;
use std::time::{Duration, Instant};

use indicatif::ProgressBar;
use tempfile::TempDir;
use virtlab::images::Sha256;
use virtlab::images::fetch::Fetched;

use crate::faulty::{Faulty, Step, answer};
use crate::support::{HASTE, bytes, fetcher, printer};

struct Target {
    folder: TempDir,
}

impl Target {
    fn new() -> Self {
        Self { folder: tempfile::tempdir().unwrap() }
    }

    fn part(&self) -> PathBuf {
        self.folder.path().join("file.part")
    }

    fn get(&self, url: &str) -> Result<Fetched, String> {
        let stop = AtomicBool::new(false);
        let bar = ProgressBar::hidden();
        fetcher().download(url, &self.part(), &bar, &stop).map_err(|error| format!("{error:#}"))
    }

    /// Fetches, and compares what is there with what should be.
    #[track_caller]
    fn gets(&self, url: &str, expected: &[u8]) {
        let fetched = self.get(url).unwrap();
        assert_eq!(std::fs::read(self.part()).unwrap(), expected);
        let (sha256, size) = (Sha256::of(expected), expected.len() as u64);
        assert_eq!(fetched, Fetched { sha256, size, resumed: fetched.resumed });
    }
}

fn length(length: usize) -> String {
    format!("Content-Length: {length}")
}

/// All of a file is promised, and the connection cut after `sent` bytes.
pub(crate) fn cut(whole: &[u8], sent: usize, headers: &[&str]) -> Vec<Step> {
    let length = length(whole.len());
    let mut all = vec![length.as_str()];
    all.extend_from_slice(headers);
    answer("200 OK", &all, &whole[..sent])
}

pub(crate) fn rest(whole: &[u8], start: usize) -> Vec<Step> {
    let range = format!("Content-Range: bytes {start}-{}/{}", whole.len() - 1, whole.len());
    let length = length(whole.len() - start);
    answer("206 Partial Content", &[&range, &length], &whole[start..])
}

pub(crate) fn whole(body: &[u8]) -> Vec<Step> {
    answer("200 OK", &[&length(body.len())], body)
}

#[test]
fn goes_on_where_a_cut_connection_ended() {
    let file = bytes(300_000, 1);
    let server = Faulty::start(vec![cut(&file, 100_000, &["ETag: \"one\""]), rest(&file, 100_000)]);
    Target::new().gets(&server.url("/f"), &file);
    let requests = server.requests();
    assert!(!requests[0].contains("range:"), "{}", requests[0]);
    assert!(requests[1].contains("range: bytes=100000-\r\n"), "{}", requests[1]);
    assert!(requests[1].contains("if-range: \"one\"\r\n"), "{}", requests[1]);
}

#[test]
fn goes_on_where_an_earlier_run_ended() {
    let file = bytes(50_000, 2);
    let first = Faulty::start(vec![cut(&file, 20_000, &["Last-Modified: x"])]);
    let target = Target::new();
    let error = target.get(&first.url("/f")).unwrap_err();
    assert!(error.contains("(3 tries): error sending request"), "{error}");
    assert_eq!(std::fs::read(target.part()).unwrap(), &file[..20_000]);

    // Another URL is another file.
    let other = bytes(30_000, 3);
    let second = Faulty::start(vec![whole(&other)]);
    target.gets(&second.url("/other"), &other);
    assert!(!second.requests()[0].contains("range:"));
}

#[test]
fn every_connection_may_be_cut_as_long_as_each_brings_something() {
    let file = bytes(10_000, 4);
    let mut answers = vec![cut(&file, 1000, &["ETag: \"a\""])];
    for start in (1000..9000).step_by(1000) {
        let range = format!("Content-Range: bytes {start}-9999/10000");
        let length = length(10_000 - start);
        answers.push(answer("206 Partial Content", &[&range, &length], &file[start..start + 1000]));
    }
    answers.push(rest(&file, 9000));
    let server = Faulty::start(answers);
    Target::new().gets(&server.url("/f"), &file);
    assert_eq!(server.requests().len(), 10);
}

#[test]
fn starts_again_where_ranges_are_refused_or_the_file_has_changed() {
    let (old, new) = (bytes(40_000, 5), bytes(35_000, 6));
    for second in [&old, &new] {
        let server = Faulty::start(vec![cut(&old, 15_000, &["ETag: \"a\""]), whole(second)]);
        Target::new().gets(&server.url("/f"), second);
        assert!(server.requests()[1].contains("range: bytes=15000-"));
    }
}

#[test]
fn a_weak_etag_is_not_asked_for() {
    let file = bytes(4000, 7);
    let headers = ["ETag: W/\"a\"", "Last-Modified: Sun, 22 Nov 2026 10:00:00 GMT"];
    let server = Faulty::start(vec![cut(&file, 1000, &headers), rest(&file, 1000)]);
    Target::new().gets(&server.url("/f"), &file);
    assert!(server.requests()[1].contains("if-range: sun, 22 nov 2026 10:00:00 gmt\r\n"));
}

#[test]
fn another_part_than_was_asked_for_is_not_glued_on() {
    let file = bytes(9000, 8);
    let server =
        Faulty::start(vec![cut(&file, 4000, &["ETag: \"a\""]), rest(&file, 2000), whole(&file)]);
    Target::new().gets(&server.url("/f"), &file);
    assert!(!server.requests()[2].contains("range:"));
}

#[test]
fn a_file_that_was_whole_already_is_recognised() {
    let file = bytes(6000, 9);
    let whole_already = answer("416 Range Not Satisfiable", &["Content-Range: bytes */6000"], b"");
    // All bytes arrive, then the promised last one does not.
    let head = ["Content-Length: 6001", "ETag: \"a\""];
    let server = Faulty::start(vec![answer("200 OK", &head, &file), whole_already]);
    Target::new().gets(&server.url("/f"), &file);

    let shorter = answer("416 Range Not Satisfiable", &["Content-Range: bytes */10"], b"");
    let small = bytes(10, 10);
    let server = Faulty::start(vec![cut(&file, 5000, &["ETag: \"a\""]), shorter, whole(&small)]);
    Target::new().gets(&server.url("/f"), &small);
}

#[test]
fn a_server_that_promises_too_much_for_ever_is_given_up() {
    let file = bytes(1000, 11);
    let lie = answer("200 OK", &["Content-Length: 2000"], &file);
    let server = Faulty::start(vec![lie.clone(), lie.clone(), lie.clone(), lie]);
    let target = Target::new();
    let error = target.get(&server.url("/f")).unwrap_err();
    let expected = format!("fetching {} (3 tries): the connection was cut: ", server.url("/f"));
    assert!(error.starts_with(&expected), "{error}");
    assert_eq!(server.requests().len(), 3);
}

#[test]
fn more_than_was_promised_is_cut_off_at_the_promise() {
    // What follows is another message to HTTP; that the file is too short shows in its digest.
    let file = bytes(1000, 12);
    let server = Faulty::start(vec![answer("200 OK", &["Content-Length: 600"], &file)]);
    Target::new().gets(&server.url("/f"), &file[..600]);
}

#[test]
fn a_server_that_falls_silent_is_left_and_asked_again() {
    let file = bytes(8000, 13);
    let mut silent = cut(&file, 3000, &["ETag: \"a\""]);
    silent.push(Step::Pause(HASTE.stall * 4));
    let server = Faulty::start(vec![silent.clone(), rest(&file, 3000)]);
    Target::new().gets(&server.url("/f"), &file);

    let server = Faulty::start(vec![silent; 3]);
    let error = Target::new().get(&server.url("/f")).unwrap_err();
    let expected =
        format!("fetching {} (3 tries): the server has stopped sending", server.url("/f"));
    assert!(error.starts_with(&expected), "{error}");
}

#[test]
fn a_slow_server_may_take_as_long_as_it_likes() {
    let file = bytes(1000, 14);
    let mut slow = answer("200 OK", &["Content-Length: 1000"], b"");
    for piece in file.chunks(100) {
        slow.push(Step::Pause(HASTE.stall / 4));
        slow.push(Step::Send(piece.to_vec()));
    }
    let server = Faulty::start(vec![slow]);
    let start = Instant::now();
    Target::new().gets(&server.url("/f"), &file);
    assert!(start.elapsed() > HASTE.stall * 2);
    assert_eq!(server.requests().len(), 1);
}

#[test]
fn what_is_not_there_is_asked_for_once() {
    for status in ["404 Not Found", "403 Forbidden", "410 Gone", "501 Not Implemented"] {
        let empty = answer(status, &["Content-Length: 0"], b"");
        let server = Faulty::start(vec![empty.clone(), empty]);
        let error = Target::new().get(&server.url("/f")).unwrap_err();
        assert_eq!(error, format!("fetching {}: the server says {status}", server.url("/f")));
        assert_eq!(server.requests().len(), 1);
    }
}

#[test]
fn a_passing_trouble_is_waited_for() {
    let file = bytes(500, 15);
    for status in ["503 Service Unavailable", "429 Too Many Requests", "502 Bad Gateway"] {
        let busy = answer(status, &["Content-Length: 0"], b"");
        let server = Faulty::start(vec![busy.clone(), busy, whole(&file)]);
        Target::new().gets(&server.url("/f"), &file);
        assert_eq!(server.requests().len(), 3);
    }
    let later = answer("503 Service Unavailable", &["Content-Length: 0", "Retry-After: 1"], b"");
    let server = Faulty::start(vec![later, whole(&file)]);
    let start = Instant::now();
    Target::new().gets(&server.url("/f"), &file);
    assert!(start.elapsed() >= Duration::from_secs(1));
}

#[test]
fn a_bar_shows_a_whole_only_where_the_server_tells_one() {
    let file = bytes(700, 21);
    for (headers, expected) in [(&["Content-Length: 700"][..], Some(700)), (&[], None)] {
        let server = Faulty::start(vec![answer("200 OK", headers, &file)]);
        let (target, bar) = (Target::new(), printer().byte_bar("f"));
        let stop = AtomicBool::new(false);
        fetcher().download(&server.url("/f"), &target.part(), &bar, &stop).unwrap();
        assert_eq!((bar.length(), bar.position()), (expected, 700));
    }
}

#[test]
fn redirects_are_followed_but_not_for_ever() {
    let file = bytes(700, 16);
    let to = |place: &str| answer("302 Found", &["Content-Length: 0", place], b"");
    let server = Faulty::start(vec![to("Location: /g"), whole(&file)]);
    Target::new().gets(&server.url("/f"), &file);
    assert!(server.requests()[1].starts_with("get /g "));

    let server = Faulty::start(vec![to("Location: /f"); 20]);
    let error = Target::new().get(&server.url("/f")).unwrap_err();
    assert!(error.ends_with("too many redirects"), "{error}");
    assert_eq!(server.requests().len(), 11);
}

#[test]
fn a_download_stops_when_it_is_told_to() {
    let file = bytes(1_000_000, 17);
    let mut slow = answer("200 OK", &[&length(file.len())], b"");
    for piece in file.chunks(100_000) {
        slow.push(Step::Pause(HASTE.stall / 4));
        slow.push(Step::Send(piece.to_vec()));
    }
    let server = Faulty::start(vec![slow]);
    let target = Target::new();
    let stop = AtomicBool::new(false);
    let error = std::thread::scope(|scope| {
        let url = server.url("/f");
        let (part, stop) = (target.part(), &stop);
        let download = scope.spawn(move || {
            fetcher().download(&url, &part, &ProgressBar::hidden(), stop).unwrap_err()
        });
        std::thread::sleep(HASTE.stall);
        stop.store(true, std::sync::atomic::Ordering::Relaxed);
        download.join().unwrap()
    });
    assert!(virtlab::images::Fetcher::was_stopped(&error), "{error:#}");
    let kept = std::fs::read(target.part()).unwrap();
    assert!(!kept.is_empty() && file.starts_with(&kept));
}
