//! The journal of the version before the log: sled alone, with the records in it.

use std::path::{Path, PathBuf};

use super::index::{failed, open_sled, read};
use super::{FORMAT, key, seq_key};
use crate::journal::log::disk::SystemDisk;
use crate::journal::log::write::LogWriter;
use crate::journal::record::decode;
use crate::journal::{JournalError, Record};

/// The format of that version.
const OLD_FORMAT: u32 = 1;

/// Records read at once.
const BATCH: usize = 512;

/// A journal of that version.
pub(super) struct Old {
    db: sled::Db,
    path: PathBuf,
    id: String,
    /// Its newest record.
    pub(super) newest: u64,
}

/// Looks at a sled without a log; none if nothing was ever written into it.
///
/// # Errors
/// It had a log, is of a later version, is not ours, or cannot be read.
pub(super) fn inspect(path: &Path) -> Result<Option<Old>, JournalError> {
    let dir = path.parent().unwrap_or(path);
    let db = open_sled(path)?;
    let id: Option<String> = read(&db, path, &key(b'm', "id"))?;
    match (read::<u32>(&db, path, &key(b'm', "format"))?, id) {
        (Some(OLD_FORMAT), Some(id)) => {
            let newest = read(&db, path, &key(b'm', "seq"))?.unwrap_or(0);
            Ok(Some(Old { db, path: path.to_owned(), id, newest }))
        }
        (Some(found), _) if (OLD_FORMAT + 1..=FORMAT).contains(&found) => {
            Err(JournalError::NoLog { dir: dir.join("log") })
        }
        (Some(found), _) if found > FORMAT => {
            Err(JournalError::Newer { dir: dir.to_owned(), found, known: FORMAT })
        }
        (None, _) if db.is_empty() => Ok(None),
        (None, _) => Err(JournalError::Foreign { path: path.to_owned() }),
        (Some(_), _) => Err(JournalError::Damaged {
            dir: dir.to_owned(),
            what: "its format or id is not known".to_owned(),
        }),
    }
}

/// Writes all its records into a new log in `log_dir`.
///
/// # Errors
/// A record is missing or cannot be read, or the log cannot be written.
pub(super) fn read_into(old: &Old, log_dir: &Path, max_file_bytes: u64) -> Result<(), JournalError> {
    let damage = |what: String| JournalError::Damaged { dir: old.path.clone(), what };
    let mut log = LogWriter::create(log_dir, &old.id, Box::<SystemDisk>::default(), max_file_bytes)?;
    let mut batch: Vec<Record> = Vec::with_capacity(BATCH);
    for row in old.db.range(seq_key(b'e', 1)..key(b'f', "")) {
        let (_, value) = row.map_err(|source| failed(&old.path, "read", source))?;
        batch.push(decode(&value).map_err(|error| damage(format!("a record cannot be read: {error}")))?);
        if batch.len() == BATCH {
            log.append(batch.iter())?;
            batch.clear();
        }
    }
    if !batch.is_empty() {
        log.append(batch.iter())?;
    }
    if log.at().seq != old.newest {
        return Err(damage(format!("record {} of {} is missing", log.at().seq + 1, old.newest)));
    }
    Ok(())
}
