//! Where the daemon's socket is: all that a command has to know of a configuration to speak to it.
//! The rest may be half edited, or name files that only the daemon may read.

use std::io;
use std::path::{Path, PathBuf};

/// Where the daemon's socket is unless the configuration says otherwise.
pub const DEFAULT_SOCKET: &str = "/run/linemint/linemint.sock";

/// Largest file that is read, bytes.
const MAX_FILE: u64 = 1 << 20;

/// Why a configuration does not say where the socket is.
#[derive(Debug, thiserror::Error)]
pub enum SocketError {
    /// It is not there, or not for this user to read.
    #[error("failed to read the file")]
    Read(#[source] io::Error),
    /// It is no TOML.
    #[error("the file is not valid TOML (linemint check-config tells more)")]
    Syntax(#[source] Box<toml::de::Error>),
    /// `api.socket` is not a text.
    #[error("api.socket is not a text")]
    NotAText,
}

/// `api.socket` of the file at `path`, from its directory on; the default where it names none.
///
/// # Errors
/// As [`SocketError`]. Nothing else in the file is looked at.
pub fn socket_in(path: &Path) -> Result<PathBuf, SocketError> {
    let text = read(path).map_err(SocketError::Read)?;
    let table: toml::Table = text.parse().map_err(|it| SocketError::Syntax(Box::new(it)))?;
    match table.get("api").and_then(|it| it.get("socket")) {
        None => Ok(PathBuf::from(DEFAULT_SOCKET)),
        Some(toml::Value::String(socket)) => Ok(path.parent().unwrap_or(Path::new("")).join(socket)),
        Some(_) => Err(SocketError::NotAText),
    }
}

fn read(path: &Path) -> io::Result<String> {
    use std::io::Read as _;
    let mut text = String::new();
    std::fs::File::open(path)?.take(MAX_FILE).read_to_string(&mut text)?;
    Ok(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_sockets_key_is_looked_at() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("f.toml");
        let with = |text: &str| {
            let _ = std::fs::remove_file(&file);
            crate::durable_fs::create_new(&file, 0o600, text.as_bytes()).unwrap();
            socket_in(&file)
        };
        assert_eq!(with("[api]\nsocket = \"a.sock\"\n[nonsense]\n").unwrap(), dir.path().join("a.sock"));
        assert_eq!(with("[api]\nsocket = \"/run/b.sock\"").unwrap(), Path::new("/run/b.sock"));
        assert_eq!(with("[station]\nid = 7").unwrap(), Path::new(DEFAULT_SOCKET));
        assert!(matches!(with("[api]\nsocket = 7"), Err(SocketError::NotAText)));
        assert!(matches!(with("[api"), Err(SocketError::Syntax(_))));
        assert!(matches!(socket_in(&dir.path().join("none")), Err(SocketError::Read(_))));
    }
}
