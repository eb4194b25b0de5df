//! What the log asks of a disk: three calls, so that a test can let each of them fail.

use std::fs::{File, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;

use rustix::fs::OFlags;

use crate::durable_fs::{self, FileError};

/// Appends to files so that they stay.
pub(crate) trait Disk: Send + std::fmt::Debug {
    /// Makes a new file with these bytes, durable with its name, and opens it for appending.
    fn create(&mut self, path: &Path, bytes: &[u8]) -> io::Result<File>;

    /// Appends all the bytes. After an error a part of them may be there.
    fn append(&mut self, file: &mut File, bytes: &[u8]) -> io::Result<()>;

    /// Makes everything in the file durable.
    fn sync(&mut self, file: &File) -> io::Result<()>;
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
        open_to_append(path)
    }

    fn append(&mut self, file: &mut File, bytes: &[u8]) -> io::Result<()> {
        file.write_all(bytes)
    }

    fn sync(&mut self, file: &File) -> io::Result<()> {
        file.sync_data()
    }
}

/// Opens the file itself, never what a link in its place points to.
pub(crate) fn open_to_append(path: &Path) -> io::Result<File> {
    OpenOptions::new().read(true).append(true).custom_flags(OFlags::NOFOLLOW.bits().cast_signed()).open(path)
}
