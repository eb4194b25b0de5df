//! What the log asks of a disk: a few calls, so that a test can let each of them fail.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::{FileExt as _, OpenOptionsExt as _};
use std::path::Path;

use rustix::fs::{FallocateFlags, OFlags};
use rustix::io::Errno;

use crate::durable_fs::{self, FileError};

/// Writes to files so that it stays.
pub(crate) trait Disk: Send + std::fmt::Debug {
    /// Makes a new file with these bytes, durable with its name, and opens it.
    fn create(&mut self, path: &Path, bytes: &[u8]) -> io::Result<File>;

    /// Gives the file room for `bytes` more from `from` on, which reads as zeros. Whether there was
    /// any; that there is none is no error, but a sign of what the next write may say.
    fn reserve(&mut self, file: &File, from: u64, bytes: u64) -> io::Result<bool>;

    /// Writes all the bytes at `at`. After an error a part of them may be there.
    fn write(&mut self, file: &File, bytes: &[u8], at: u64) -> io::Result<()>;

    /// Makes everything in the file durable, its length too where the bytes need it.
    fn sync(&mut self, file: &File) -> io::Result<()>;

    /// Cuts the file to `length`, durably.
    fn cut(&mut self, file: &File, length: u64) -> io::Result<()>;
}

/// The disk.
#[derive(Debug, Default)]
pub(crate) struct SystemDisk;

impl Disk for SystemDisk {
    fn create(&mut self, path: &Path, bytes: &[u8]) -> io::Result<File> {
        durable_fs::create_new(path, 0o600, bytes).map_err(|error| match error {
            FileError::Io { source, .. } => source,
            other => io::Error::other(other),
        })?;
        open_to_write(path)
    }

    fn reserve(&mut self, file: &File, from: u64, bytes: u64) -> io::Result<bool> {
        loop {
            match rustix::fs::fallocate(file, FallocateFlags::empty(), from, bytes) {
                Ok(()) => return Ok(true),
                Err(Errno::INTR) => {}
                // No room for so much, or a file system that cannot: what fits is written all the same.
                Err(Errno::NOSPC | Errno::DQUOT | Errno::FBIG | Errno::OPNOTSUPP | Errno::NOSYS) => {
                    return Ok(false);
                }
                Err(error) => return Err(error.into()),
            }
        }
    }

    fn write(&mut self, file: &File, bytes: &[u8], at: u64) -> io::Result<()> {
        file.write_all_at(bytes, at)
    }

    fn sync(&mut self, file: &File) -> io::Result<()> {
        file.sync_data()
    }

    fn cut(&mut self, file: &File, length: u64) -> io::Result<()> {
        file.set_len(length)?;
        file.sync_all()
    }
}

/// Opens the file itself, never what a link in its place points to.
pub(crate) fn open_to_write(path: &Path) -> io::Result<File> {
    OpenOptions::new().read(true).write(true).custom_flags(OFlags::NOFOLLOW.bits().cast_signed()).open(path)
}
