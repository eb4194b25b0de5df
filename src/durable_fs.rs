//! Files that are there after a power cut.
//!
//! A file is durable when its bytes *and* the directory that names it have been synced.
//! Each function here returns only then, except where it says otherwise.

use std::fs::{DirBuilder, File, OpenOptions, Permissions};
use std::io::{self, Read as _, Write as _};
use std::os::fd::AsRawFd as _;
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

use rustix::fs::{AtFlags, CWD, Mode, OFlags};
use zeroize::Zeroizing;

/// Why a file or directory could not be made, read or synced.
#[derive(Debug, thiserror::Error)]
#[expect(missing_docs, reason = "each text says it")]
pub enum FileError {
    #[error("{} exists already", path.display())]
    Exists { path: PathBuf },
    #[error("failed to {attempt} {}", path.display())]
    Io { attempt: &'static str, path: PathBuf, source: io::Error },
    #[error("{} is a secret, but its mode {mode:04o} lets others read it: chmod 600 it", path.display())]
    Exposed { path: PathBuf, mode: u32 },
    #[error("{} is longer than {max_bytes} bytes", path.display())]
    TooLong { path: PathBuf, max_bytes: usize },
}

impl FileError {
    pub(crate) fn io(attempt: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Self {
        let path = path.to_owned();
        move |source| Self::Io { attempt, path, source }
    }

    /// What the system said, if it was asked.
    #[must_use]
    pub fn io_kind(&self) -> Option<io::ErrorKind> {
        match self {
            Self::Io { source, .. } => Some(source.kind()),
            _ => None,
        }
    }
}

/// Makes a new file with exactly this content and `mode`, durably. Never replaces one.
///
/// # Errors
/// [`FileError::Exists`] if the name is taken by anything at all; else the attempt that failed.
pub fn create_new(path: &Path, mode: u32, bytes: &[u8]) -> Result<(), FileError> {
    write_new(path, mode, bytes)?;
    sync_dir(parent(path))
}

/// As [`create_new`], but without syncing the directory: for many files in one directory,
/// after which one [`sync_dir`] makes them all durable.
///
/// Where the file system can, the file gets its name only when its bytes are on disk, so
/// that a crash leaves all of it or nothing. Elsewhere it may leave the name with a part.
///
/// # Errors
/// As for [`create_new`].
pub fn write_new(path: &Path, mode: u32, bytes: &[u8]) -> Result<(), FileError> {
    match write_unnamed(parent(path), mode, bytes).and_then(|file| name(&file, path)) {
        Ok(()) => Ok(()),
        Err(rustix::io::Errno::EXIST) => Err(FileError::Exists { path: path.to_owned() }),
        // Nothing has a name yet: no O_TMPFILE on this file system, no /proc, or a true error
        // that will show itself again.
        Err(_) => write_named(path, mode, bytes),
    }
}

/// Replaces a file's content, or makes it, durably: at every instant the name holds the
/// old content or the new.
///
/// # Errors
/// The attempt that failed; the old content is then still there, or, if only the last sync
/// failed, one of both.
pub fn replace(path: &Path, mode: u32, bytes: &[u8]) -> Result<(), FileError> {
    let directory = parent(path);
    let mut temporary = tempfile::Builder::new()
        .prefix(".")
        .suffix(".tmp")
        .permissions(Permissions::from_mode(mode))
        .tempfile_in(directory)
        .map_err(FileError::io("make a temporary file in", directory))?;
    fill(temporary.as_file_mut(), mode, bytes).map_err(FileError::io("write", path))?;
    temporary.persist(path).map_err(|it| FileError::io("replace", path)(it.error))?;
    sync_dir(directory)
}

/// Makes the names in a directory durable: those added, and the absence of those removed.
///
/// # Errors
/// The directory cannot be opened or synced.
pub fn sync_dir(path: &Path) -> Result<(), FileError> {
    File::open(path).and_then(|it| it.sync_all()).map_err(FileError::io("sync the directory", path))
}

/// Makes a directory, and those above it that are missing, each with `mode`, durably.
/// A directory that exists keeps its mode.
///
/// # Errors
/// The attempt that failed; something that is not a directory is in the way.
pub fn create_dir(path: &Path, mode: u32) -> Result<(), FileError> {
    let missing: Vec<&Path> =
        path.ancestors().take_while(|it| !it.as_os_str().is_empty() && !it.is_dir()).collect();
    for directory in missing.into_iter().rev() {
        match DirBuilder::new().mode(mode).create(directory) {
            // Someone else was faster.
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists && directory.is_dir() => {}
            made => made.map_err(FileError::io("make the directory", directory))?,
        }
        sync_dir(parent(directory))?;
    }
    Ok(())
}

/// Opens a file that somebody has named for reading, if it is a regular one: to open a FIFO would wait for a writer for
/// ever, and to open a device may do anything. A symbolic link is followed.
///
/// # Errors
/// It cannot be opened, or is something else.
pub fn open_regular(path: &Path) -> io::Result<File> {
    let other = || io::Error::other("it is not a regular file");
    if !std::fs::metadata(path)?.is_file() {
        return Err(other());
    }
    // It may have become another by now.
    let flags = (OFlags::NONBLOCK | OFlags::NOCTTY).bits().cast_signed();
    let file = OpenOptions::new().read(true).custom_flags(flags).open(path)?;
    if file.metadata()?.is_file() { Ok(file) } else { Err(other()) }
}

/// Reads a regular file that somebody has named, at most `max_bytes` long.
///
/// # Errors
/// As for [`open_regular`]; it is longer, or cannot be read.
pub fn read_regular(path: &Path, max_bytes: u64) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    open_regular(path)?.take(max_bytes.saturating_add(1)).read_to_end(&mut bytes)?;
    match bytes.len() as u64 > max_bytes {
        true => {
            Err(io::Error::new(io::ErrorKind::FileTooLarge, format!("it is longer than {max_bytes} bytes")))
        }
        false => Ok(bytes),
    }
}

/// As [`read_regular`], of a text.
///
/// # Errors
/// Likewise; it is not UTF-8.
pub fn read_regular_text(path: &Path, max_bytes: u64) -> io::Result<String> {
    String::from_utf8(read_regular(path, max_bytes)?)
        .map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error))
}

/// Reads a small secret, at most `max_bytes` long. One that others than its owner may read
/// is refused, unless systemd handed it over: below `$CREDENTIALS_DIRECTORY`, which is closed to others, access is
/// granted by ACL, which shows as group permissions. Whose it is does not matter: root looks at the keys of the daemon's user.
///
/// # Errors
/// It cannot be read, is no regular file, is too long, or is exposed.
pub fn read_secret(path: &Path, max_bytes: usize) -> Result<Zeroizing<Vec<u8>>, FileError> {
    let credentials = std::env::var_os("CREDENTIALS_DIRECTORY").map(PathBuf::from);
    read_secret_beside(path, max_bytes, credentials.as_deref())
}

fn read_secret_beside(
    path: &Path,
    max_bytes: usize,
    credentials: Option<&Path>,
) -> Result<Zeroizing<Vec<u8>>, FileError> {
    let file = open_regular(path).map_err(FileError::io("open", path))?;
    let mode = file.metadata().map_err(FileError::io("examine", path))?.permissions().mode() & 0o7777;
    let is_credential = credentials
        .is_some_and(|it| !it.as_os_str().is_empty() && path.parent() == Some(it) && is_closed_to_others(it));
    if mode & 0o077 != 0 && !is_credential {
        return Err(FileError::Exposed { path: path.to_owned(), mode });
    }
    // One byte of room more than is allowed, and reserved whole: a vector that grows leaves copies.
    let mut secret = Zeroizing::new(vec![0; max_bytes + 1]);
    let mut length = 0;
    let mut reader = file.take(secret.len() as u64);
    loop {
        match reader.read(&mut secret[length..]) {
            Ok(0) => break,
            Ok(read) => length += read,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(FileError::io("read", path)(error)),
        }
    }
    if length > max_bytes {
        return Err(FileError::TooLong { path: path.to_owned(), max_bytes });
    }
    secret.truncate(length);
    Ok(secret)
}

/// As systemd's directories of credentials are: nobody but its owner, and whom an ACL names, gets at what is in it.
fn is_closed_to_others(dir: &Path) -> bool {
    std::fs::metadata(dir).is_ok_and(|it| it.permissions().mode() & 0o007 == 0)
}

/// Bytes that are free on the disk of `path` for somebody who is not root.
///
/// # Errors
/// The file system cannot be asked.
pub(crate) fn free_bytes(path: &Path) -> io::Result<u64> {
    let stat = rustix::fs::statvfs(path)?;
    Ok(stat.f_bavail.saturating_mul(stat.f_frsize))
}

/// The directory that names `path`: `.` for a bare name.
pub(crate) fn parent(path: &Path) -> &Path {
    match path.parent() {
        Some(it) if !it.as_os_str().is_empty() => it,
        Some(_) => Path::new("."),
        None => path,
    }
}

fn write_unnamed(directory: &Path, mode: u32, bytes: &[u8]) -> rustix::io::Result<File> {
    let flags = OFlags::TMPFILE | OFlags::WRONLY | OFlags::CLOEXEC;
    let mut file = File::from(rustix::fs::open(directory, flags, Mode::from_raw_mode(mode))?);
    fill(&mut file, mode, bytes)
        .map_err(|it| rustix::io::Errno::from_io_error(&it).unwrap_or(rustix::io::Errno::IO))?;
    Ok(file)
}

fn name(file: &File, path: &Path) -> rustix::io::Result<()> {
    let unnamed = format!("/proc/self/fd/{}", file.as_raw_fd());
    rustix::fs::linkat(CWD, unnamed, CWD, path, AtFlags::SYMLINK_FOLLOW)
}

fn write_named(path: &Path, mode: u32, bytes: &[u8]) -> Result<(), FileError> {
    let mut file = match OpenOptions::new().write(true).create_new(true).mode(mode).open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
            return Err(FileError::Exists { path: path.to_owned() });
        }
        Err(error) => return Err(FileError::io("make", path)(error)),
    };
    fill(&mut file, mode, bytes).map_err(|error| {
        // A part of a file is of no use to anyone; if it stays, the reader's checks find it.
        let _ = std::fs::remove_file(path);
        FileError::io("write", path)(error)
    })
}

/// Writes and syncs the content, and gives the file its mode whatever the umask is.
fn fill(file: &mut File, mode: u32, bytes: &[u8]) -> io::Result<()> {
    file.write_all(bytes)?;
    file.set_permissions(Permissions::from_mode(mode))?;
    file.sync_all()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mode(path: &Path) -> u32 {
        path.metadata().unwrap().permissions().mode() & 0o7777
    }

    type Writer = fn(&Path, u32, &[u8]) -> Result<(), FileError>;

    #[test]
    fn a_new_file_has_its_content_and_mode_and_leaves_nothing_beside_it() {
        let dir = tempfile::tempdir().unwrap();
        let ways: [(&str, Writer); 2] = [("create_new", create_new), ("write_named", write_named)];
        for (name, write) in ways {
            let path = dir.path().join(name);
            write(&path, 0o640, b"content").unwrap();
            assert_eq!(std::fs::read(&path).unwrap(), b"content");
            assert_eq!(mode(&path), 0o640);
        }
        assert_eq!(dir.path().read_dir().unwrap().count(), 2);
    }

    #[test]
    fn a_name_that_is_taken_is_never_overwritten() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("file");
        create_new(&file, 0o600, b"first").unwrap();
        let dangling = dir.path().join("link");
        std::os::unix::fs::symlink(dir.path().join("nowhere"), &dangling).unwrap();
        for write in [create_new, write_named] {
            for path in [&file, &dangling] {
                assert!(matches!(write(path, 0o600, b"second"), Err(FileError::Exists { .. })));
            }
        }
        assert_eq!(std::fs::read(&file).unwrap(), b"first");
        assert!(!dir.path().join("nowhere").exists());
    }

    #[test]
    fn replacing_changes_content_and_mode_and_leaves_nothing_beside_it() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("file");
        replace(&path, 0o600, b"first").unwrap();
        replace(&path, 0o644, b"second").unwrap();
        assert_eq!(std::fs::read(&path).unwrap(), b"second");
        assert_eq!(mode(&path), 0o644);
        assert_eq!(dir.path().read_dir().unwrap().count(), 1);
    }

    #[test]
    fn a_replacement_that_fails_leaves_the_old_and_no_temporary_file() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("directory-in-the-way");
        std::fs::create_dir(&path).unwrap();
        assert!(matches!(replace(&path, 0o600, b"x"), Err(FileError::Io { attempt: "replace", .. })));
        assert!(path.is_dir());
        assert_eq!(dir.path().read_dir().unwrap().count(), 1);
    }

    #[test]
    fn directories_are_made_with_those_above_them_and_kept_if_there() {
        let dir = tempfile::tempdir().unwrap();
        let deep = dir.path().join("a/b");
        create_dir(&deep, 0o700).unwrap();
        assert_eq!((mode(&deep), mode(&dir.path().join("a"))), (0o700, 0o700));
        create_dir(&deep, 0o755).unwrap();
        assert_eq!(mode(&deep), 0o700);
        let file = dir.path().join("file");
        create_new(&file, 0o600, b"").unwrap();
        assert!(create_dir(&file, 0o700).is_err());
        assert!(create_dir(&file.join("below"), 0o700).is_err());
    }

    #[test]
    fn an_error_names_the_attempt_and_the_path() {
        let path = Path::new("/nonexistent-linemint/file");
        let error = create_new(path, 0o600, b"").unwrap_err();
        assert_eq!(error.to_string(), "failed to make /nonexistent-linemint/file");
        assert_eq!(error.io_kind(), Some(io::ErrorKind::NotFound));
        assert_eq!(parent(Path::new("ca.pem")), Path::new("."));
    }

    /// A start that hangs says nothing of why.
    #[test]
    fn what_is_no_regular_file_is_refused_at_once() {
        use rustix::fs::{FileType, mknodat};
        let dir = tempfile::tempdir().unwrap();
        let pipe = dir.path().join("pipe");
        mknodat(CWD, &pipe, FileType::Fifo, Mode::from_raw_mode(0o600), 0).unwrap();
        let linked = dir.path().join("linked");
        std::os::unix::fs::symlink(&pipe, &linked).unwrap();
        for path in [&*pipe, &*linked, dir.path(), Path::new("/dev/null")] {
            let error = read_secret(path, 6).unwrap_err();
            let said = crate::error::Chain(&error).to_string();
            assert_eq!(said, format!("failed to open {}: it is not a regular file", path.display()));
            assert!(read_regular_text(path, 6).is_err());
        }
        let file = dir.path().join("file");
        create_new(&file, 0o600, b"text").unwrap();
        std::fs::remove_file(&linked).unwrap();
        std::os::unix::fs::symlink(&file, &linked).unwrap();
        assert_eq!(read_regular_text(&linked, 4).unwrap(), "text", "a link to a file is a file");
        assert_eq!(read_regular(&file, 3).unwrap_err().kind(), io::ErrorKind::FileTooLarge);
    }

    #[test]
    fn a_secret_that_others_may_read_is_refused_unless_it_is_a_credential() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("key");
        std::fs::set_permissions(dir.path(), Permissions::from_mode(0o700)).unwrap();
        create_new(&path, 0o440, b"secret").unwrap();
        for elsewhere in [None, Some(Path::new("")), Some(Path::new("/run/credentials"))] {
            let error = read_secret_beside(&path, 6, elsewhere).unwrap_err();
            assert!(matches!(error, FileError::Exposed { mode: 0o440, .. }), "{error}");
        }
        assert_eq!(read_secret_beside(&path, 6, Some(dir.path())).unwrap().as_slice(), b"secret");
        // Whoever calls a directory that one's does not close it by that.
        std::fs::set_permissions(dir.path(), Permissions::from_mode(0o755)).unwrap();
        let open = read_secret_beside(&path, 6, Some(dir.path())).unwrap_err();
        assert!(matches!(open, FileError::Exposed { mode: 0o440, .. }), "{open}");
        std::fs::set_permissions(&path, Permissions::from_mode(0o400)).unwrap();
        assert_eq!(read_secret(&path, 6).unwrap().as_slice(), b"secret");
        assert!(matches!(read_secret(&path, 5), Err(FileError::TooLong { max_bytes: 5, .. })));
    }
}
