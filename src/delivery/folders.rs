//! The file system as deliveries use it, behind a trait: the simulation has another one, whose power goes.

use std::fs::{self, DirBuilder};
use std::io::{self, Read as _};
use std::os::unix::fs::DirBuilderExt as _;
use std::path::Path;

use super::{Content, DIR_MODE, FILE_MODE, MAX_FILE};
use crate::durable_fs::{self, FileError};

/// Folders and files.
pub(crate) trait Folders {
    /// Whether it is a directory.
    fn is_dir(&self, path: &Path) -> bool;

    /// Whether something has this name, whatever it is.
    fn is_taken(&self, path: &Path) -> bool;

    /// The names in a directory.
    fn names(&self, directory: &Path) -> io::Result<Vec<String>>;

    /// A file's content, as far as a delivered one may be long.
    fn read(&self, path: &Path) -> io::Result<Content>;

    /// Makes a directory. Its name is on disk when the one above it is synced.
    fn make(&self, directory: &Path) -> io::Result<()>;

    /// Makes a file whose content is on disk; its name is when its directory is synced.
    fn write(&self, path: &Path, content: &[u8]) -> Result<(), FileError>;

    /// Replaces a file's content, durably: its name holds the old one or the new.
    fn replace(&self, path: &Path, content: &[u8]) -> Result<(), FileError>;

    /// Gives another name, also in another directory of the same file system. It is on disk when that is synced.
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()>;

    /// Has the names in a directory on disk.
    fn sync(&self, directory: &Path) -> Result<(), FileError>;

    /// Removes a directory with all that is in it.
    fn remove(&self, directory: &Path) -> io::Result<()>;
}

/// The system's.
#[derive(Debug, Clone, Copy)]
pub(crate) struct SystemFolders;

impl Folders for SystemFolders {
    fn is_dir(&self, path: &Path) -> bool {
        path.is_dir()
    }

    fn is_taken(&self, path: &Path) -> bool {
        // What cannot be told is taken.
        !fs::symlink_metadata(path).is_err_and(|it| it.kind() == io::ErrorKind::NotFound)
    }

    fn names(&self, directory: &Path) -> io::Result<Vec<String>> {
        let entries = fs::read_dir(directory)?.flatten();
        Ok(entries.map(|it| it.file_name().to_string_lossy().into_owned()).collect())
    }

    fn read(&self, path: &Path) -> io::Result<Content> {
        // Reserved whole: a vector that grows leaves copies.
        let mut content = Content::new(Vec::with_capacity(MAX_FILE as usize));
        fs::File::open(path)?.take(MAX_FILE).read_to_end(&mut content)?;
        Ok(content)
    }

    fn make(&self, directory: &Path) -> io::Result<()> {
        DirBuilder::new().mode(DIR_MODE).create(directory)
    }

    fn write(&self, path: &Path, content: &[u8]) -> Result<(), FileError> {
        durable_fs::write_new(path, FILE_MODE, content)
    }

    fn replace(&self, path: &Path, content: &[u8]) -> Result<(), FileError> {
        durable_fs::replace(path, FILE_MODE, content)
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        fs::rename(from, to)
    }

    fn sync(&self, directory: &Path) -> Result<(), FileError> {
        durable_fs::sync_dir(directory)
    }

    fn remove(&self, directory: &Path) -> io::Result<()> {
        fs::remove_dir_all(directory)
    }
}
