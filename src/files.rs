//! Files that several runs share: locked while they are used, and replaced in one step.

use std::fs::{File, TryLockError};
use std::io::{Read, Seek, Write};
use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use fs_err as fs;

/// How a lock is held.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Hold {
    Shared,
    Exclusive,
}

/// Locks a file, which is made if need be with its folder, until the value that is returned is dropped. `waits` is
/// called if somebody else has it.
pub(crate) fn lock(path: &Path, hold: Hold, waits: impl FnOnce()) -> Result<File> {
    let context = || format!("locking {}", path.display());
    fs::create_dir_all(folder_of(path))?;
    let file = File::create(path).with_context(context)?;
    let tried = match hold {
        Hold::Shared => file.try_lock_shared(),
        Hold::Exclusive => file.try_lock(),
    };
    match tried {
        Ok(()) => return Ok(file),
        Err(TryLockError::WouldBlock) => waits(),
        Err(TryLockError::Error(error)) => return Err(error).with_context(context),
    }
    let locked = match hold {
        Hold::Shared => file.lock_shared(),
        Hold::Exclusive => file.lock(),
    };
    locked.with_context(context)?;
    Ok(file)
}

/// Locks a file for us alone, for which it waits for `patience` at the most. `waits` is called once with what the file
/// says if somebody else has it, who writes that right after locking it. `None`: somebody still has it.
pub(crate) fn lock_within(
    path: &Path,
    patience: Option<Duration>,
    waits: impl FnOnce(String),
) -> Result<Option<File>> {
    let context = || format!("locking {}", path.display());
    fs::create_dir_all(folder_of(path))?;
    let mut options = File::options();
    let options = options.read(true).write(true).create(true).truncate(false);
    let mut file = options.open(path).with_context(context)?;
    let started = Instant::now();
    let mut waits = Some(waits);
    loop {
        match file.try_lock() {
            Ok(()) => return Ok(Some(file)),
            Err(TryLockError::Error(error)) => return Err(error).with_context(context),
            Err(TryLockError::WouldBlock) => {}
        }
        let is_over = patience.is_some_and(|patience| started.elapsed() >= patience);
        if waits.is_some() {
            let mut text = String::new();
            file.rewind().with_context(context)?;
            file.read_to_string(&mut text).with_context(context)?;
            let is_told = !text.is_empty() || is_over || started.elapsed() >= INTRODUCTION;
            if let Some(waits) = waits.take_if(|_| is_told) {
                waits(text);
            }
        }
        if is_over {
            return Ok(None);
        }
        thread::sleep(POLL);
    }
}

/// Who may read a file that is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Readers {
    Everybody,
    Owner,
}

/// Writes a file beside `path`, to the disk, and renames it: a reader, or the next run after a kill or a power
/// cut, finds the old one or the new one.
pub(crate) fn replace(path: &Path, bytes: &[u8], readers: Readers) -> Result<()> {
    let context = || format!("writing `{}`", path.display());
    let mode = match readers {
        Readers::Everybody => 0o644,
        Readers::Owner => 0o600,
    };
    let folder = folder_of(path);
    let write = || -> std::io::Result<()> {
        let permissions = std::os::unix::fs::PermissionsExt::from_mode(mode);
        let mut file = tempfile::Builder::new().permissions(permissions).tempfile_in(folder)?;
        file.write_all(bytes)?;
        file.as_file().sync_all()?;
        file.persist(path)?;
        File::open(folder)?.sync_all()
    };
    write().with_context(context)
}

/// The folder that a file is in.
pub(crate) fn folder_of(path: &Path) -> &Path {
    path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."))
}

/// Fails if no file can be written where `flag` wants one: what comes before the writing may take long.
///
/// # Errors
/// With the path and the flag.
pub(crate) fn require_writable(flag: &str, path: &Path) -> Result<()> {
    if path.is_dir() {
        bail!("`{}` ({flag}) is a folder", path.display());
    }
    let tried = tempfile::tempfile_in(folder_of(path));
    tried.with_context(|| format!("writing to the folder of `{}` ({flag})", path.display()))?;
    Ok(())
}

const POLL: Duration = Duration::from_millis(50);
/// How long whoever has a lock may take to write who it is.
const INTRODUCTION: Duration = Duration::from_millis(500);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_has_a_lock_is_known_by_what_it_writes_a_moment_later() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("lock");
        let mut first = lock_within(&path, None, |_| panic!("nobody has it")).unwrap().unwrap();
        let mut told = Vec::new();
        thread::scope(|scope| {
            scope.spawn(move || {
                thread::sleep(Duration::from_millis(120));
                first.write_all(b"the first\n").unwrap();
                thread::sleep(Duration::from_millis(120));
            });
            let second = lock_within(&path, None, |text| told.push(text)).unwrap();
            assert!(second.is_some());
        });
        assert_eq!(told, ["the first\n"]);
    }

    #[test]
    fn somebody_who_says_nothing_has_it_all_the_same() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("lock");
        let _first = lock_within(&path, None, |_| panic!("nobody has it")).unwrap();
        let mut told = Vec::new();
        let second = lock_within(&path, Some(Duration::ZERO), |text| told.push(text)).unwrap();
        assert!(second.is_none());
        assert_eq!(told, [""]);
    }
}
