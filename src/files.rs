//! Files that several runs share: locked while they are used, and replaced in one step.

use std::fs::{File, TryLockError};
use std::io::Write;
use std::path::Path;

use anyhow::{Context, Result};
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

/// Writes a file beside `path` and renames it.
pub(crate) fn write_atomically(folder: &Path, path: &Path, bytes: &[u8]) -> Result<()> {
    let context = || format!("writing {}", path.display());
    let mut file = tempfile::Builder::new()
        .permissions(std::os::unix::fs::PermissionsExt::from_mode(0o644))
        .tempfile_in(folder)
        .with_context(context)?;
    file.write_all(bytes).with_context(context)?;
    file.persist(path).with_context(context)?;
    Ok(())
}

/// The folder that a file is in.
pub(crate) fn folder_of(path: &Path) -> &Path {
    path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."))
}
