//! The Unix socket's place in the file system.

use std::fs::{DirBuilder, Permissions};
use std::io;
use std::net::SocketAddr;
use std::os::fd::{AsRawFd as _, OwnedFd};
use std::os::unix::fs::{DirBuilderExt as _, FileTypeExt as _, MetadataExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;
use rustix::net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType};
use tokio::net::UnixListener;

use super::{ADMIN_GROUP, access};

/// Longest path of a Unix socket, bytes: `sun_path` has 108 with the final NUL (unix(7)).
pub const MAX_PATH_BYTES: usize = 107;

/// Connections that the kernel keeps until they are accepted; `net.core.somaxconn` may cut it.
const BACKLOG: i32 = 1024;

/// The socket's mode: its group may open it; what a caller may change is decided by who it is.
const MODE: u32 = 0o660;

/// Why the local API's socket could not be made.
#[derive(Debug, thiserror::Error)]
#[expect(missing_docs, reason = "each text says it")]
pub enum ApiError {
    #[error("{} is no path for a socket: it has {length} bytes, and {MAX_PATH_BYTES} is the limit", path.display())]
    PathTooLong { path: PathBuf, length: usize },
    #[error("{} is no path for a socket: it names no file in a directory", path.display())]
    NoName { path: PathBuf },
    #[error("{} is there and is no socket; it is left as it is", path.display())]
    NotASocket { path: PathBuf },
    #[error("another process listens at {}: is linemint running already?", path.display())]
    InUse { path: PathBuf },
    #[error("the service manager has handed over no listening socket for the local API")]
    Passed(#[source] io::Error),
    #[error("the system gives no thread to serve the local API with")]
    Thread(#[source] io::Error),
    #[error("the board cannot be served at {address} (api.board)")]
    Board { address: SocketAddr, source: io::Error },
    #[error("failed to {attempt} {}", path.display())]
    Io { attempt: &'static str, path: PathBuf, source: io::Error },
}

impl ApiError {
    fn io<E: Into<io::Error>>(attempt: &'static str, path: &Path) -> impl FnOnce(E) -> Self {
        let path = path.to_owned();
        move |source| Self::Io { attempt, path, source: source.into() }
    }
}

/// Listens at `path`, with mode 0660 and the group [`ADMIN_GROUP`] from the first instant at which anyone can see
/// it. Where this system does not have that group, or this process may not give it, it stays with its maker's.
/// Its directory is made (0755) if it is not there. A socket that nobody listens at any more is replaced, a live one
/// never. Two processes that start at the same instant are kept apart by the journal's lock, not here.
///
/// Has to be called in a tokio runtime.
///
/// # Errors
/// The path is too long or taken, or the system refuses.
pub fn bind(path: &Path) -> Result<UnixListener, ApiError> {
    bind_for(path, Path::new("/etc"))
}

/// The same, where the groups are those of `etc`.
fn bind_for(path: &Path, etc: &Path) -> Result<UnixListener, ApiError> {
    let length = path.as_os_str().len();
    if length > MAX_PATH_BYTES {
        return Err(ApiError::PathTooLong { path: path.to_owned(), length });
    }
    let (Some(parent), Some(_)) = (path.parent(), path.file_name()) else {
        return Err(ApiError::NoName { path: path.to_owned() });
    };
    let parent = if parent.as_os_str().is_empty() { Path::new(".") } else { parent };
    DirBuilder::new()
        .recursive(true)
        .mode(0o755)
        .create(parent)
        .map_err(ApiError::io("make the directory", parent))?;
    check_free(path)?;
    // In a directory that only we can enter the mode can be set before anyone can connect.
    let private = tempfile::Builder::new()
        .prefix(".linemint-")
        .permissions(Permissions::from_mode(0o700))
        .tempdir_in(parent)
        .map_err(ApiError::io("make a temporary directory in", parent))?;
    let socket = listen_in(private.path()).map_err(ApiError::io("listen at", path))?;
    let temporary = private.path().join(NAME);
    give_to_admins(&temporary, etc);
    std::fs::set_permissions(&temporary, Permissions::from_mode(MODE))
        .and_then(|()| std::fs::rename(&temporary, path))
        .map_err(ApiError::io("make the socket", path))?;
    adopt(socket.into()).map_err(ApiError::io("listen at", path))
}

/// Gives a file to the group of those who may change something, if there is one.
fn give_to_admins(file: &Path, etc: &Path) {
    let Some(group) = access::admin_group(etc) else {
        tracing::info!(
            group = ADMIN_GROUP,
            "there is no such group here: the local API is for root and the daemon's own user and group"
        );
        return;
    };
    // Under the unit it has it from the beginning, and nothing may be given to anybody.
    if std::fs::symlink_metadata(file).is_ok_and(|it| it.gid() == group) {
        return;
    }
    if let Err(error) = std::os::unix::fs::chown(file, None, Some(group)) {
        tracing::warn!(
            %error,
            group = ADMIN_GROUP,
            "the local API's socket cannot be given to its group, whose members cannot open it: \
             run the daemon as root, or as a member of the group"
        );
    }
}

/// Takes a socket that the service manager has made and listens at. Has to be called in a tokio runtime.
///
/// # Errors
/// It is none that tokio can use.
pub fn adopt(listener: std::os::unix::net::UnixListener) -> io::Result<UnixListener> {
    listener.set_nonblocking(true)?;
    UnixListener::from_std(listener)
}

const NAME: &str = "s";

/// Binds through the directory's descriptor, so that the temporary name cannot be too long where the
/// final one is not.
fn listen_in(dir: &Path) -> rustix::io::Result<OwnedFd> {
    let dir = rustix::fs::open(dir, OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())?;
    let address = SocketAddrUnix::new(format!("/proc/self/fd/{}/{NAME}", dir.as_raw_fd()))?;
    let socket = stream_socket()?;
    rustix::net::bind(&socket, &address)?;
    rustix::net::listen(&socket, BACKLOG)?;
    Ok(socket)
}

fn stream_socket() -> rustix::io::Result<OwnedFd> {
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    rustix::net::socket_with(AddressFamily::UNIX, SocketType::STREAM, flags, None)
}

fn check_free(path: &Path) -> Result<(), ApiError> {
    match std::fs::symlink_metadata(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(ApiError::io("examine", path)(error)),
        Ok(it) if it.file_type().is_socket() => {}
        Ok(_) => return Err(ApiError::NotASocket { path: path.to_owned() }),
    }
    // Without blocking: a listener whose backlog is full is as live as one that accepts.
    let connected = SocketAddrUnix::new(path)
        .and_then(|address| stream_socket().and_then(|it| rustix::net::connect(&it, &address)));
    match connected {
        Ok(()) | Err(Errno::AGAIN | Errno::INPROGRESS) => Err(ApiError::InUse { path: path.to_owned() }),
        Err(Errno::CONNREFUSED | Errno::NOENT) => Ok(()),
        Err(error) => Err(ApiError::io("connect to", path)(error)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mode(path: &Path) -> u32 {
        std::fs::symlink_metadata(path).unwrap().permissions().mode() & 0o7777
    }

    #[tokio::test]
    async fn the_socket_has_its_mode_and_nothing_is_left_beside_it() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("run/linemint/api.sock");
        let _listener = bind(&path).unwrap();
        assert_eq!(mode(&path), 0o660);
        assert_eq!(std::fs::read_dir(path.parent().unwrap()).unwrap().count(), 1);
    }

    /// A group that is not the one that new files have: any for root, for others one that they are in besides.
    fn other_group() -> Option<u32> {
        if rustix::process::geteuid().is_root() {
            return Some(54_321);
        }
        let own = rustix::process::getegid();
        let groups = rustix::process::getgroups().unwrap();
        groups.into_iter().find(|it| *it != own).map(rustix::process::Gid::as_raw)
    }

    #[tokio::test]
    async fn the_socket_is_its_groups_where_there_is_one() {
        let dir = tempfile::tempdir().unwrap();
        let bound = |name: &str, groups: &str| {
            let etc = dir.path().join(name);
            std::fs::create_dir(&etc).unwrap();
            crate::durable_fs::replace(&etc.join("group"), 0o644, groups.as_bytes()).unwrap();
            let path = etc.join("api.sock");
            let _listener = bind_for(&path, &etc).unwrap();
            assert_eq!(mode(&path), 0o660);
            std::fs::symlink_metadata(&path).unwrap().gid()
        };
        let own = bound("without", "root:x:0:\n");
        assert_eq!(own, rustix::process::getegid().as_raw(), "it stays with its maker's");
        let Some(other) = other_group() else { return };
        assert_eq!(bound("with", &format!("root:x:0:\n{ADMIN_GROUP}:x:{other}:ada\n")), other);
        if !rustix::process::geteuid().is_root() {
            // Not ours to give: it is served all the same.
            assert_eq!(bound("foreign", &format!("{ADMIN_GROUP}:x:54321:\n")), own);
        }
    }

    #[tokio::test]
    async fn a_live_socket_is_left_alone_and_a_dead_one_replaced() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("api.sock");
        let first = bind(&path).unwrap();
        assert!(matches!(bind(&path), Err(ApiError::InUse { .. })));
        let client = tokio::net::UnixStream::connect(&path).await;
        assert!(client.is_ok(), "the first one still listens");
        drop(first);
        let _second = bind(&path).unwrap();
        assert!(tokio::net::UnixStream::connect(&path).await.is_ok());
    }

    #[tokio::test]
    async fn a_live_socket_with_a_full_backlog_is_not_taken_for_dead() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("api.sock");
        let socket = stream_socket().unwrap();
        rustix::net::bind(&socket, &SocketAddrUnix::new(&path).unwrap()).unwrap();
        rustix::net::listen(&socket, 0).unwrap();
        let waiting = std::os::unix::net::UnixStream::connect(&path).unwrap();
        assert!(matches!(bind(&path), Err(ApiError::InUse { .. })));
        drop(waiting);
    }

    #[tokio::test]
    async fn what_is_no_socket_is_never_replaced() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("file");
        std::fs::File::create(&path).unwrap();
        assert!(matches!(bind(&path), Err(ApiError::NotASocket { .. })));
        assert!(path.is_file());
        assert!(matches!(bind(dir.path()), Err(ApiError::NotASocket { .. })));
        assert!(matches!(bind(Path::new("/")), Err(ApiError::NoName { .. })));
        let link = dir.path().join("link");
        std::os::unix::fs::symlink(dir.path().join("gone"), &link).unwrap();
        assert!(matches!(bind(&link), Err(ApiError::NotASocket { .. })));
    }

    #[tokio::test]
    async fn a_path_may_have_107_bytes_and_not_108() {
        let dir = tempfile::tempdir().unwrap();
        let room = MAX_PATH_BYTES - dir.path().as_os_str().len() - 1;
        let path = dir.path().join("x".repeat(room));
        let _listener = bind(&path).unwrap();
        assert!(tokio::net::UnixStream::connect(&path).await.is_ok());
        let error = bind(&dir.path().join("x".repeat(room + 1))).unwrap_err();
        assert!(error.to_string().contains("it has 108 bytes, and 107 is the limit"), "{error}");
    }
}
