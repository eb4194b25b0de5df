//! The lock of a journal.

use std::fs::File;
use std::io::{Read as _, Seek as _, Write as _};
use std::path::{Path, PathBuf};

use super::files::io;
use crate::durable_fs;
use crate::journal::JournalError;

/// Holds a journal for this process alone, from before it is opened until it is dropped.
#[derive(Debug)]
pub struct JournalLock {
    pub(in crate::journal) dir: PathBuf,
    _file: File,
}

impl JournalLock {
    /// Takes the lock of the journal in `dir`, making the directory if it is not there.
    ///
    /// # Errors
    /// [`JournalError::Held`] says which process has it.
    pub fn take(dir: &Path) -> Result<Self, JournalError> {
        durable_fs::create_dir(dir, 0o700)
            .map_err(|source| io("make", dir, std::io::Error::other(source)))?;
        let path = dir.join("lock");
        let mut file = File::options()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .open(&path)
            .map_err(|source| io("open", &path, source))?;
        let locked = rustix::fs::flock(&file, rustix::fs::FlockOperation::NonBlockingLockExclusive);
        if let Err(error) = locked
            && error != rustix::io::Errno::WOULDBLOCK
        {
            return Err(io("lock", &path, error.into()));
        }
        if locked.is_err() {
            let mut holder = String::new();
            // What cannot be read is told as unknown: the lock itself is what counts.
            let _ = file.read_to_string(&mut holder);
            let holder = if holder.trim().is_empty() {
                "unknown process".to_owned()
            } else {
                holder.trim().to_owned()
            };
            return Err(JournalError::Held { dir: dir.to_owned(), holder });
        }
        file.set_len(0)
            .and_then(|()| file.rewind())
            .and_then(|()| writeln!(file, "process {}", std::process::id()))
            .map_err(|source| io("write", &path, source))?;
        Ok(Self { dir: dir.to_owned(), _file: file })
    }
}
