//! Where the daemon's socket and its journal are: all that a command has to know of a configuration to speak to the
//! one or to read the other. The rest may be half edited, or name files that only the daemon may read.

use std::io;
use std::path::{Path, PathBuf};

/// Where the daemon's socket is unless the configuration says otherwise.
pub const DEFAULT_SOCKET: &str = "/run/linemint/linemint.sock";

/// Largest file that is read, bytes.
const MAX_FILE: u64 = 1 << 20;

/// Why a configuration does not say where something is.
#[derive(Debug, thiserror::Error)]
pub enum PlaceError {
    /// It is not there, or not for this user to read.
    #[error("failed to read the file")]
    Read(#[source] io::Error),
    /// It is no TOML.
    #[error("the file is not valid TOML (linemint check-config tells more)")]
    Syntax(#[source] Box<toml::de::Error>),
    /// What says it is not a text.
    #[error("{0} is not a text")]
    NotAText(&'static str),
    /// Nothing says it.
    #[error("the file has no {0}")]
    Missing(&'static str),
}

/// `api.socket` of the file at `path`, from its directory on; the default where it names none.
///
/// # Errors
/// As [`PlaceError`]. Nothing else in the file is looked at.
pub fn socket_in(path: &Path) -> Result<PathBuf, PlaceError> {
    let found = place_in(path, ("api", "socket"), "api.socket")?;
    Ok(found.unwrap_or_else(|| PathBuf::from(DEFAULT_SOCKET)))
}

/// `journal.dir` of the file at `path`, from its directory on.
///
/// # Errors
/// As [`PlaceError`]. Nothing else in the file is looked at.
pub fn journal_in(path: &Path) -> Result<PathBuf, PlaceError> {
    place_in(path, ("journal", "dir"), "journal.dir")?.ok_or(PlaceError::Missing("journal.dir"))
}

fn place_in(
    path: &Path,
    (table, key): (&str, &str),
    name: &'static str,
) -> Result<Option<PathBuf>, PlaceError> {
    let text = read(path).map_err(PlaceError::Read)?;
    let all: toml::Table = text.parse().map_err(|it| PlaceError::Syntax(Box::new(it)))?;
    match all.get(table).and_then(|it| it.get(key)) {
        None => Ok(None),
        Some(toml::Value::String(it)) => Ok(Some(path.parent().unwrap_or(Path::new("")).join(it))),
        Some(_) => Err(PlaceError::NotAText(name)),
    }
}

fn read(path: &Path) -> io::Result<String> {
    use std::io::Read as _;
    if !std::fs::metadata(path)?.is_file() {
        // Opening a FIFO would wait for ever.
        return Err(io::Error::other("not a regular file"));
    }
    let mut text = String::new();
    std::fs::File::open(path)?.take(MAX_FILE).read_to_string(&mut text)?;
    Ok(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_that_key_is_looked_at() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("f.toml");
        let put = |text: &str| {
            let _ = std::fs::remove_file(&file);
            crate::durable_fs::create_new(&file, 0o600, text.as_bytes()).unwrap();
        };
        let with = |text: &str| {
            put(text);
            socket_in(&file)
        };
        assert_eq!(with("[api]\nsocket = \"a.sock\"\n[nonsense]\n").unwrap(), dir.path().join("a.sock"));
        assert_eq!(with("[api]\nsocket = \"/run/b.sock\"").unwrap(), Path::new("/run/b.sock"));
        assert_eq!(with("[station]\nid = 7").unwrap(), Path::new(DEFAULT_SOCKET));
        assert!(matches!(with("[api]\nsocket = 7"), Err(PlaceError::NotAText("api.socket"))));
        assert!(matches!(with("[api"), Err(PlaceError::Syntax(_))));
        assert!(matches!(journal_in(&file), Err(PlaceError::Syntax(_))));
        put("[pki]\nca_certificate = \"/nowhere\"\n[journal]\ndir = \"j\"\n");
        assert_eq!(journal_in(&file).unwrap(), dir.path().join("j"));
        put("[api]\n");
        assert!(matches!(journal_in(&file), Err(PlaceError::Missing("journal.dir"))));
        assert!(matches!(socket_in(&dir.path().join("none")), Err(PlaceError::Read(_))));
    }
}
