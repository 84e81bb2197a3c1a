//! A part of a file as the body of an answer, in a fraction of the time that tokio's own files take:
//! those read on another thread, and copy what was read once more.
//!
//! What nodes boot is read by all of them and so is nearly always in the page cache. It is read from
//! there at once (`RWF_NOWAIT`, preadv2(2)), into a buffer small enough to be in the processor's cache
//! still when it is written to the socket. Only what the disk has to be waited for is read elsewhere.

use std::fs::File;
use std::io::IoSliceMut;
use std::ops::Range;
use std::os::unix::fs::FileExt;
use std::path::PathBuf;
use std::sync::{Arc, Mutex};

use axum::body::{Body, Bytes};
use futures_util::stream;
use rustix::io::{ReadWriteFlags, preadv2};
use tokio::task::spawn_blocking;

/// Opens a file where waiting for the disk stops nobody else.
///
/// # Errors
/// If it cannot be opened.
pub(super) async fn open(path: PathBuf) -> std::io::Result<File> {
    spawn_blocking(move || File::open(path)).await?
}

/// The bytes of this range of the file, which must have them: what goes wrong cuts the connection.
pub(super) fn file_body(file: File, range: Range<u64>) -> Body {
    let file = Arc::new(file);
    let chunks = stream::try_unfold(range, move |rest| {
        let file = Arc::clone(&file);
        async move {
            if rest.is_empty() {
                return Ok::<_, std::io::Error>(None);
            }
            let wanted = usize::try_from(rest.end - rest.start).map_or(CHUNK, |n| n.min(CHUNK));
            let chunk = read(file, rest.start, wanted).await?;
            let rest = rest.start + chunk.len() as u64..rest.end;
            Ok(Some((chunk, rest)))
        }
    });
    Body::from_stream(chunks)
}

/// Up to `wanted` bytes, at least one.
async fn read(file: Arc<File>, at: u64, wanted: usize) -> std::io::Result<Bytes> {
    let mut buffer = Buffer::take();
    let cached = {
        let mut target = [IoSliceMut::new(&mut buffer.bytes[..wanted])];
        preadv2(&file, &mut target, at, ReadWriteFlags::NOWAIT)
    };
    // File systems that know no RWF_NOWAIT say so, and 0 is the end of a file that has shrunk.
    if let Ok(length @ 1..) = cached {
        buffer.length = length;
        return Ok(Bytes::from_owner(buffer));
    }
    spawn_blocking(move || {
        file.read_exact_at(&mut buffer.bytes[..wanted], at)?;
        buffer.length = wanted;
        Ok(Bytes::from_owner(buffer))
    })
    .await?
}

/// Memory that is used again: fresh memory has to be cleared by the kernel, page by page, which takes
/// as long as reading into it.
struct Buffer {
    bytes: Vec<u8>,
    length: usize,
}

impl Buffer {
    fn take() -> Self {
        let kept = KEPT.lock().expect("nobody panics with it").pop();
        Self { bytes: kept.unwrap_or_else(|| vec![0; CHUNK]), length: 0 }
    }
}

impl AsRef<[u8]> for Buffer {
    fn as_ref(&self) -> &[u8] {
        &self.bytes[..self.length]
    }
}

impl Drop for Buffer {
    fn drop(&mut self) {
        let mut kept = KEPT.lock().expect("nobody panics with it");
        if kept.len() < MOST_KEPT {
            kept.push(std::mem::take(&mut self.bytes));
        }
    }
}

static KEPT: Mutex<Vec<Vec<u8>>> = Mutex::new(Vec::new());
/// Measured by `scripts/bench/http.sh`.
const CHUNK: usize = 256 << 10;
/// As many as a few dozen nodes use at once: 16 MiB.
const MOST_KEPT: usize = 64;

#[cfg(test)]
mod tests {
    use axum::body::to_bytes;
    use fs_err as fs;

    use super::*;

    #[tokio::test]
    async fn any_range_of_a_file_comes_whole_and_in_order() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("file");
        let bytes: Vec<u8> = (0_u32..300_000).flat_map(u32::to_le_bytes).collect();
        fs::write(&path, &bytes).unwrap();
        let (length, chunk) = (bytes.len() as u64, CHUNK as u64);
        for range in [0..length, 5..5, 1..2, chunk - 1..3 * chunk + 1] {
            let body = file_body(open(path.clone()).await.unwrap(), range.clone());
            let read = to_bytes(body, usize::MAX).await.unwrap();
            let position = |at: u64| usize::try_from(at).unwrap();
            assert!(read == bytes[position(range.start)..position(range.end)], "{range:?}");
        }
    }

    #[tokio::test]
    async fn a_file_that_has_shrunk_is_an_error_and_not_a_short_answer() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("file");
        fs::write(&path, b"12345").unwrap();
        let body = file_body(open(path.clone()).await.unwrap(), 0..9);
        assert!(to_bytes(body, usize::MAX).await.is_err());
        assert!(open(folder.path().join("none")).await.is_err());
    }
}
