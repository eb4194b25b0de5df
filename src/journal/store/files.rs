//! Files and directories, with the journal's errors.

use std::path::{Path, PathBuf};

use crate::durable_fs;
use crate::journal::JournalError;

/// An error of the system's, with what was tried.
pub(crate) fn io(action: &'static str, path: &Path, source: std::io::Error) -> JournalError {
    JournalError::Io { action, path: path.to_owned(), source }
}

/// Makes a directory and those above it, durably.
pub(crate) fn create_dir(path: &Path) -> Result<(), JournalError> {
    durable_fs::create_dir(path, 0o700).map_err(|it| io("make", path, std::io::Error::other(it)))
}

/// Makes the names in a directory durable.
pub(crate) fn sync_dir(path: &Path) -> Result<(), JournalError> {
    durable_fs::sync_dir(path).map_err(|it| io("sync", path, std::io::Error::other(it)))
}

/// Renames within one directory, durably.
pub(crate) fn rename(from: &Path, to: &Path) -> Result<(), JournalError> {
    std::fs::rename(from, to).map_err(|source| io("rename", from, source))?;
    sync_dir(&to.parent().map_or_else(|| PathBuf::from("."), Path::to_owned))
}

/// Removes a directory with what is in it, if it is there.
pub(crate) fn remove(path: &Path) -> Result<(), JournalError> {
    match std::fs::remove_dir_all(path) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(io("remove", path, error)),
        _ => Ok(()),
    }
}
