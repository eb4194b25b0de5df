//! Opening a journal: which of its parts is there, in what state, and what is to be done.

use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::files::{create_dir, io, remove, rename};
use super::fold::catch_up;
use super::guard::guarded;
use super::index::Index;
use super::indexer::Indexer;
use super::{JournalLock, Opened, Shared, Store, StoreWriter, migrate};
use crate::durable_fs;
use crate::error::Chain;
use crate::journal::JournalError;
use crate::journal::log::disk::{Disk, SystemDisk};
use crate::journal::log::read::{Walk, files, repair, total_bytes};
use crate::journal::log::write::LogWriter;
use crate::journal::log::{self, MAX_FILE_BYTES};

/// What the names of indexes that are kept aside begin with.
const ASIDE: &str = "sled.damaged-";

/// Indexes that are kept aside at most.
const MAX_ASIDE: u32 = 1000;

/// Opens the journal under its lock, or makes a new one.
///
/// # Errors
/// It is damaged, foreign, of a newer version, or the disk refuses.
pub fn open(lock: JournalLock) -> Result<Opened, JournalError> {
    open_on(lock, Box::<SystemDisk>::default(), MAX_FILE_BYTES)
}

/// As [`open`], on a disk and with log files of at least a size (bytes) of one's own.
pub(crate) fn open_on(
    lock: JournalLock,
    mut disk: Box<dyn Disk>,
    max_file_bytes: u64,
) -> Result<Opened, JournalError> {
    let dir = lock.dir.clone();
    let (log_dir, sled_dir) = (log::dir_of(&dir), dir.join("sled"));
    // What a start before this one did not finish.
    for unfinished in [log_dir.with_extension("new"), sled_dir.with_extension("new")] {
        remove(&unfinished)?;
    }
    if files(&log_dir)?.is_empty() {
        begin(&dir, &log_dir, &sled_dir, max_file_bytes)?;
    }
    let (index, walk) = match known(&dir, &log_dir, &sled_dir)? {
        Some(known) => known,
        None => rebuild(&dir, &log_dir, &sled_dir)?,
    };
    let dropped = repair(&mut *disk, &walk)?;
    if dropped > 0 {
        tracing::warn!(
            bytes = dropped,
            "a write that a crash cut off is taken out of the log: nothing of it was promised"
        );
    }
    let sizes = (max_file_bytes, total_bytes(&log_dir)?);
    let writer = LogWriter::resume(&log_dir, walk.id(), disk, walk.at(), sizes)?;
    let shared = Arc::new(Shared::at(&dir, index.position, writer.total_bytes()));
    let store = Store { dir, db: index.db.clone(), shared: shared.clone() };
    let recovered = store.recover()?;
    let id = index.id.clone();
    let indexer = Indexer::start(index, sled_dir, shared.clone())?;
    let writer = StoreWriter::new(writer, indexer, shared, lock);
    Ok(Opened { store, writer, recovered, id })
}

/// Whether a journal may be begun in `dir`, if there is none: not if something beside it shows that there was one. Its
/// devices would be made twice. Private keys in `keys` show it, as many as `count` says, and so does a file of slots
/// without one; an index that was kept aside; and a journal that was moved aside, `journal.damaged`.
///
/// # Errors
/// [`JournalError::Gone`] says how many keys there are, [`JournalError::MovedAway`] what else shows it.
pub fn refuse_if_gone(
    dir: &Path,
    keys: &Path,
    count: impl FnOnce(&Path) -> std::io::Result<usize>,
) -> Result<(), JournalError> {
    if !files(&log::dir_of(dir))?.is_empty() || dir.join("sled").exists() {
        return Ok(());
    }
    let count = count(keys).map_err(|source| io("read", keys, source))?;
    if count > 0 {
        return Err(JournalError::Gone { dir: dir.to_owned(), keys: keys.to_owned(), count });
    }
    match trace(dir, keys)? {
        Some(trace) => Err(JournalError::MovedAway { dir: dir.to_owned(), trace }),
        None => Ok(()),
    }
}

/// What a journal that was in `dir` has left, if anything: the first by name.
fn trace(dir: &Path, keys: &Path) -> Result<Option<PathBuf>, JournalError> {
    let name = dir.file_name().unwrap_or_default().to_string_lossy();
    let aside = |it: &str| it.strip_prefix(&*name).is_some_and(|rest| rest.starts_with('.'));
    // Not any directory of such a name: one in which a journal's log or index lies.
    let held = |it: &PathBuf| log::dir_of(it).exists() || it.join("sled").exists();
    let above = durable_fs::parent(dir);
    let traces = [
        entries(keys, |_| true)?,
        entries(dir, |it| it.starts_with(ASIDE))?,
        entries(above, aside)?.into_iter().filter(held).collect(),
    ];
    Ok(traces.into_iter().flatten().next())
}

/// What is in a directory under such names, in their order; nothing where there is no such directory, or it may not be read.
fn entries(dir: &Path, wanted: impl Fn(&str) -> bool) -> Result<Vec<PathBuf>, JournalError> {
    let found = match dir.read_dir() {
        Err(error) if matches!(error.kind(), ErrorKind::NotFound | ErrorKind::PermissionDenied) => {
            return Ok(Vec::new());
        }
        found => found.and_then(|it| it.collect::<Result<Vec<_>, _>>()),
    };
    let found = found.map_err(|source| io("read", dir, source))?;
    let mut found: Vec<_> = found.into_iter().map(|it| it.path()).collect();
    found.retain(|it| it.file_name().is_some_and(|it| wanted(&it.to_string_lossy())));
    found.sort();
    Ok(found)
}

/// There is no log: makes the first file of a new journal, or reads into a log what the version
/// before the log had in sled.
fn begin(dir: &Path, log_dir: &Path, sled_dir: &Path, max_file_bytes: u64) -> Result<(), JournalError> {
    let new = log_dir.with_extension("new");
    create_dir(&new)?;
    let sled = if sled_dir.exists() { guarded(dir, || migrate::inspect(sled_dir))? } else { None };
    match sled {
        Some(old) => {
            tracing::info!(records = old.newest, "the journal of an earlier version is read into a log");
            guarded(dir, || migrate::read_into(&old, &new, max_file_bytes))?;
        }
        None => {
            let id = new_id(dir)?;
            LogWriter::create(&new, &id, Box::<SystemDisk>::default(), max_file_bytes)?;
        }
    }
    // An empty directory may be there; a log is not, and would not be replaced.
    match std::fs::remove_dir(log_dir) {
        Err(error) if error.kind() != ErrorKind::NotFound => {
            return Err(io("replace the empty", log_dir, error));
        }
        _ => {}
    }
    rename(&new, log_dir)
}

/// The index that is there, caught up, with the log's end; none if it has to be made.
fn known(dir: &Path, log_dir: &Path, sled_dir: &Path) -> Result<Option<(Index, Walk)>, JournalError> {
    if !sled_dir.exists() {
        return Ok(None);
    }
    let result = guarded(dir, || {
        let mut index = Index::open(sled_dir)?;
        let id = Walk::from_start(log_dir)?.id().to_owned();
        if index.id != id {
            let what = format!("the index is of the journal {}, the log of {id}", index.id);
            return Err(JournalError::Damaged { dir: dir.to_owned(), what });
        }
        let walk = catch_up(&mut index, dir, log_dir)?;
        // What a restart needs is read now, where a panic can still be caught.
        let shared = Arc::new(Shared::at(dir, index.position, 0));
        Store { dir: dir.to_owned(), db: index.db.clone(), shared }.recover()?;
        index.note_vocabulary()?;
        Ok((index, walk))
    });
    match result {
        Ok(known) => Ok(Some(known)),
        Err(error) if is_of_no_use(&error) => {
            set_aside(dir, sled_dir, &error)?;
            Ok(None)
        }
        Err(error) => Err(locate(log_dir, error)),
    }
}

/// Makes the index from the whole log. It gets its name when it is complete and on disk.
fn rebuild(dir: &Path, log_dir: &Path, sled_dir: &Path) -> Result<(Index, Walk), JournalError> {
    let new = sled_dir.with_extension("new");
    let id = Walk::from_start(log_dir)?.id().to_owned();
    let mut index = Index::create(&new, &id)?;
    let walk = catch_up(&mut index, dir, log_dir)?;
    index.sync()?;
    // A new journal has none, and nothing to tell.
    if index.position.seq > 0 {
        tracing::info!(records = index.position.seq, "the journal's index is made again from the log");
    }
    drop(index);
    rename(&new, sled_dir)?;
    Ok((Index::open(sled_dir)?, walk))
}

/// Whether the error is about the index, and not about the log or the disk.
fn is_of_no_use(error: &JournalError) -> bool {
    match error {
        JournalError::Damaged { .. } | JournalError::Foreign { .. } => true,
        // A full, read-only or failing disk says so with a number, which sled may have put into words:
        // that is nothing to rebuild for. Neither is a lock that somebody keeps.
        JournalError::Store { source: sled::Error::Io(error), .. } => {
            let text = error.to_string();
            error.raw_os_error().is_none()
                && !["Os { code: ", "could not acquire lock"].iter().any(|it| text.contains(it))
        }
        JournalError::Store { .. } => true,
        _ => false,
    }
}

/// If the log is damaged, looks for the first place where it is.
fn locate(log_dir: &Path, error: JournalError) -> JournalError {
    if !matches!(error, JournalError::Log(_)) {
        return error;
    }
    let found = |walk: Result<Walk, JournalError>| {
        let mut walk = walk?;
        while walk.next_commit()?.is_some() {}
        Ok(())
    };
    match found(Walk::from_start(log_dir)) {
        Err(found @ JournalError::Log(_)) => found,
        _ => error,
    }
}

fn set_aside(dir: &Path, sled_dir: &Path, why: &JournalError) -> Result<(), JournalError> {
    let aside = (1..=MAX_ASIDE)
        .map(|number| dir.join(format!("{ASIDE}{number}")))
        .find(|it| !it.exists())
        .ok_or_else(|| JournalError::InTheWay { path: dir.join(format!("{ASIDE}1")) })?;
    rename(sled_dir, &aside)?;
    tracing::error!(why = %Chain(why), kept = %aside.display(), "the journal's index is of no use; it is kept aside and made again from the log, which may take minutes");
    Ok(())
}

fn new_id(dir: &Path) -> Result<String, JournalError> {
    let mut random = [0; 8];
    aws_lc_rs::rand::fill(&mut random)
        .map_err(|_| io("make an id for", dir, std::io::Error::other("no random numbers")))?;
    Ok(format!("{:016x}", u64::from_be_bytes(random)))
}
