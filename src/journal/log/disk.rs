//! What the log asks of a disk, in a few calls, so that a test can let each of them fail and a simulation
//! can be the disk.

use std::fs::{File, OpenOptions};
use std::io::{self, Read, Seek};
use std::os::unix::fs::{FileExt as _, OpenOptionsExt as _};
use std::path::Path;

use rustix::fs::{FallocateFlags, OFlags};
use rustix::io::Errno;

use crate::durable_fs::{self, FileError};

/// What is written again at a start, bytes: no less than may be written before it is seen on disk.
pub(crate) const REWRITE_BYTES: u64 = 4 << 20;

/// Writes to the newest file so that it stays.
pub(crate) trait Disk: Send + std::fmt::Debug {
    /// Makes a new file with these bytes, durable with its name; what is written from now on goes there.
    fn create(&mut self, path: &Path, bytes: &[u8]) -> io::Result<()>;

    /// Goes on with a file that is there, cut to `length` if it is longer; its name is durable then, what
    /// lies in it after the next sync, even what an earlier process has failed to sync.
    fn resume(&mut self, path: &Path, length: u64) -> io::Result<()>;

    /// Keeps the first `length` bytes of a file, or nothing and not even its name; durable.
    fn cut(&mut self, path: &Path, length: Option<u64>) -> io::Result<()>;

    /// Gives the file room for `bytes` more from `from` on, which reads as zeros. Whether there was
    /// any; that there is none is no error, but a sign of what the next write may say.
    fn reserve(&mut self, from: u64, bytes: u64) -> io::Result<bool>;

    /// Writes all the bytes at `at`, the end of what was written. After an error a part of them may be there.
    fn write(&mut self, bytes: &[u8], at: u64) -> io::Result<()>;

    /// Makes everything in the file durable, its length too where the bytes need it.
    fn sync(&mut self) -> io::Result<()>;
}

/// Reads the log's files.
pub(crate) trait Source: Send + std::fmt::Debug {
    /// The names in a directory; none if there is no such directory.
    fn names(&self, dir: &Path) -> io::Result<Vec<String>>;

    /// Opens a file for reading: itself, never what a link in its place points to.
    fn open(&self, path: &Path) -> io::Result<Box<dyn Bytes>>;
}

/// A file that is read.
pub(crate) trait Bytes: Read + Seek + Send + std::fmt::Debug {}

impl<T: Read + Seek + Send + std::fmt::Debug> Bytes for T {}

/// Zeros that are written behind what is written into room for the first time. In room that was never written a file
/// system has to note at each sync that it is now, which is a second write, or a commit of its own journal; where zeros
/// lie it has nothing to note. So one sync in some thirty pays for the others.
static ZEROS: [u8; 64 << 10] = [0; 64 << 10];

/// The disk.
#[derive(Debug, Default)]
pub(crate) struct SystemDisk {
    /// The newest file.
    file: Option<File>,
    /// Up to where it has room.
    room: u64,
    /// Up to where it was written, zeros among it.
    filled: u64,
}

impl SystemDisk {
    fn newest(&mut self) -> io::Result<&mut File> {
        self.file.as_mut().ok_or_else(|| io::Error::other("no file is open"))
    }
}

impl Disk for SystemDisk {
    fn create(&mut self, path: &Path, bytes: &[u8]) -> io::Result<()> {
        durable_fs::create_new(path, 0o600, bytes).map_err(plain)?;
        *self = Self { file: Some(open_to_write(path)?), ..Self::default() };
        Ok(())
    }

    fn resume(&mut self, path: &Path, length: u64) -> io::Result<()> {
        let file = open_to_write(path)?;
        if file.metadata()?.len() > length {
            file.set_len(length).and_then(|()| file.sync_all())?;
        }
        sync_parent(path)?;
        rewrite_end(&file, length)?;
        *self = Self { file: Some(file), ..Self::default() };
        Ok(())
    }

    fn cut(&mut self, path: &Path, length: Option<u64>) -> io::Result<()> {
        match length {
            Some(length) => {
                let file = open_to_write(path)?;
                file.set_len(length).and_then(|()| file.sync_all())
            }
            None => {
                std::fs::remove_file(path)?;
                sync_parent(path)
            }
        }
    }

    fn reserve(&mut self, from: u64, bytes: u64) -> io::Result<bool> {
        loop {
            match rustix::fs::fallocate(&*self.newest()?, FallocateFlags::empty(), from, bytes) {
                Ok(()) => {
                    self.room = from + bytes;
                    return Ok(true);
                }
                Err(Errno::INTR) => {}
                // No room for so much, or a file system that cannot: what fits is written all the same.
                Err(Errno::NOSPC | Errno::DQUOT | Errno::FBIG | Errno::OPNOTSUPP | Errno::NOSYS) => {
                    return Ok(false);
                }
                Err(error) => return Err(error.into()),
            }
        }
    }

    fn write(&mut self, bytes: &[u8], at: u64) -> io::Result<()> {
        self.newest()?.write_all_at(bytes, at)?;
        let end = at + bytes.len() as u64;
        let ahead = self.room.saturating_sub(end).min(ZEROS.len() as u64);
        if end > self.filled && ahead > 0 {
            self.newest()?.write_all_at(&ZEROS[..ahead as usize], end)?;
            self.filled = end + ahead;
        }
        Ok(())
    }

    fn sync(&mut self) -> io::Result<()> {
        self.newest()?.sync_data()
    }
}

impl Source for SystemDisk {
    fn names(&self, dir: &Path) -> io::Result<Vec<String>> {
        let entries = match dir.read_dir() {
            Ok(entries) => entries,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            Err(error) => return Err(error),
        };
        // A name that is not text is none of the log's.
        entries.filter_map(|it| it.map(|it| it.file_name().into_string().ok()).transpose()).collect()
    }

    fn open(&self, path: &Path) -> io::Result<Box<dyn Bytes>> {
        let mut options = OpenOptions::new();
        let file = options.read(true).custom_flags(OFlags::NOFOLLOW.bits().cast_signed()).open(path)?;
        Ok(Box::new(file))
    }
}

/// Writes the last bytes again as they are read. A sync that failed leaves pages that read as written and
/// that the system takes for clean: they are not on disk, and no later sync would put them there. Older
/// bytes were seen on disk before anything was written behind them.
fn rewrite_end(file: &File, length: u64) -> io::Result<()> {
    let from = length.saturating_sub(REWRITE_BYTES);
    let mut bytes = Vec::new();
    let mut reader = file;
    reader.seek(io::SeekFrom::Start(from))?;
    reader.take(length - from).read_to_end(&mut bytes)?;
    file.write_all_at(&bytes, from)
}

fn sync_parent(path: &Path) -> io::Result<()> {
    path.parent().map_or(Ok(()), |it| durable_fs::sync_dir(it).map_err(plain))
}

/// The system's own error, where there is one.
fn plain(error: FileError) -> io::Error {
    match error {
        FileError::Io { source, .. } => source,
        other => io::Error::other(other),
    }
}

/// Opens the file itself, never what a link in its place points to.
fn open_to_write(path: &Path) -> io::Result<File> {
    OpenOptions::new().read(true).write(true).custom_flags(OFlags::NOFOLLOW.bits().cast_signed()).open(path)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn zeros_are_written_behind_what_is_written_as_far_as_there_is_room() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("log");
        let mut disk = SystemDisk::default();
        disk.create(&path, b"head").unwrap();
        // Without room nothing is longer than it has to be.
        disk.write(b"first", 4).unwrap();
        assert_eq!(std::fs::read(&path).unwrap(), b"headfirst");
        assert!(disk.reserve(9, 100_000).unwrap());
        let room = 9 + 100_000;
        for (n, at) in (0..).zip((9..room - 1000).step_by(1000)) {
            disk.write(&[n; 1000], at).unwrap();
            let (end, filled) = (at + 1000, disk.filled);
            assert!(filled >= end && filled <= room && filled - end <= ZEROS.len() as u64, "{at}");
        }
        disk.sync().unwrap();
        assert_eq!(disk.filled, room, "and twice was enough");
        let bytes = std::fs::read(&path).unwrap();
        let (told, rest) = bytes[9..].split_at(99_000);
        assert!((0..).zip(told.chunks(1000)).all(|(n, it)| it.iter().all(|it| *it == n)));
        assert!(rest.iter().all(|it| *it == 0));
        disk.resume(&path, 9).unwrap();
        disk.write(b"again", 9).unwrap();
        assert_eq!(std::fs::read(&path).unwrap(), b"headfirstagain");
    }
}
