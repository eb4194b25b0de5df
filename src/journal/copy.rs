//! Checking, exporting, backing up and restoring a journal: what `linemint journal` does.
//!
//! All but restoring only read, and work beside a running station: they see every commit that was
//! whole when they came to it. A backup is the log's files in a directory laid out like a journal's.
//! Private keys are never in it: they lie elsewhere, and a restored station issues anew for whoever
//! had not got theirs. A running station also gives its backup out as one [`stream`].

pub mod stream;

use std::fs::File;
use std::io::{self, Read as _, Write};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;

use serde_json::json;

use super::log::read::{Found, Walk, file_path, files};
use super::log::{self, ChainHash, Position};
use super::store::{self, JournalLock};
use super::{JournalError, store::files as store_files};

/// Name and version of what [`export`] writes; described in `docs/journal.md`.
pub const EXPORT_SCHEMA: &str = "linemint-journal/1";

/// What a whole log was found to be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Summary {
    /// The journal's id.
    pub id: String,
    /// Its newest record.
    pub records: u64,
    /// That record's chain hash.
    pub last_hash: ChainHash,
    /// The log's files.
    pub files: usize,
    /// Bytes after the last whole commit: one that is being written, or that a crash cut off.
    pub unfinished_bytes: u64,
}

/// Why an export ended early.
#[derive(Debug, thiserror::Error)]
#[expect(missing_docs, reason = "each text says it")]
pub enum ExportError {
    #[error(transparent)]
    Journal(#[from] JournalError),
    #[error("failed to write the export")]
    Output(#[from] io::Error),
}

/// Reads all of the log of the journal (or backup) in `dir`.
///
/// # Errors
/// The first place where it is not what it should be, or it cannot be read.
pub fn verify(dir: &Path) -> Result<Summary, JournalError> {
    let (summary, _) = walk(dir, |_| Ok(()))?;
    Ok(summary)
}

/// Writes every record as a line of JSON, after a line that says what it is.
///
/// # Errors
/// The log is damaged (the records before are written), or the output takes nothing more.
pub fn export(dir: &Path, out: &mut impl Write) -> Result<Summary, ExportError> {
    let id = Walk::from_start(&log::dir_of(dir))?.id().to_owned();
    writeln!(out, "{}", json!({ "schema": EXPORT_SCHEMA, "journal": id }))?;
    let (summary, _) = walk(dir, |found| {
        out.write_all(&found.body)?;
        out.write_all(b"\n")?;
        Ok::<(), ExportError>(())
    })?;
    out.flush()?;
    Ok(summary)
}

/// Copies the log of the journal in `dir` to the directory `to`, which holds no journal yet, up to a
/// record that is on disk; then reads all of the copy.
///
/// # Errors
/// The log is damaged, the copy cannot be written, or `to` holds a journal.
pub fn backup(dir: &Path, to: &Path) -> Result<Summary, JournalError> {
    store_files::create_dir(to)?;
    copy(dir, to)
}

/// Copies a backup, a directory or the file of a [`stream`], into the directory that `lock` holds, and
/// makes a journal of it.
///
/// # Errors
/// The backup is damaged, the directory holds a journal already, or the disk refuses.
pub fn restore(from: &Path, lock: JournalLock) -> Result<Summary, JournalError> {
    let copied = if from.is_dir() { copy(from, &lock.dir) } else { stream::unpack(from, &lock.dir) };
    let summary = copied.map_err(|error| match error {
        JournalError::NoLog { .. } => {
            JournalError::BadBackup { path: from.to_owned(), what: "no journal's log lies in it".to_owned() }
        }
        error => error,
    })?;
    drop(store::open(lock)?);
    Ok(summary)
}

/// Calls `each` with every record. Says where the last whole commit ends.
fn walk<E: From<JournalError>>(
    dir: &Path,
    each: impl FnMut(&Found) -> Result<(), E>,
) -> Result<(Summary, Position), E> {
    walk_log(&log::dir_of(dir), each)
}

/// As [`walk`], of the log in `log_dir`.
fn walk_log<E: From<JournalError>>(
    log_dir: &Path,
    mut each: impl FnMut(&Found) -> Result<(), E>,
) -> Result<(Summary, Position), E> {
    let mut walk = Walk::from_start(log_dir)?;
    let mut files = 1;
    let mut file = walk.at().file;
    while let Some(commit) = walk.next_commit()? {
        for found in &commit {
            each(found)?;
        }
        files += usize::from(walk.at().file != file);
        file = walk.at().file;
    }
    files += usize::from(walk.at().file != file);
    let at = walk.at();
    let summary = Summary {
        id: walk.id().to_owned(),
        records: at.seq,
        last_hash: at.hash,
        files,
        unfinished_bytes: walk.torn().map_or(0, |it| it.dropped),
    };
    Ok((summary, at))
}

fn copy(from: &Path, to: &Path) -> Result<Summary, JournalError> {
    let (source_dir, target_dir) = (log::dir_of(from), log::dir_of(to));
    nothing_in(to)?;
    let (summary, end) = walk(from, |_| Ok::<(), JournalError>(()))?;
    let unfinished = target_dir.with_extension("new");
    store_files::remove(&unfinished)?;
    store_files::create_dir(&unfinished)?;
    for first in files(&source_dir)?.into_iter().filter(|it| *it <= end.file) {
        let (source, target) = (file_path(&source_dir, first), file_path(&unfinished, first));
        let length = (first == end.file).then_some(end.end);
        copy_file(&source, &target, length).map_err(|error| store_files::io("copy", &source, error))?;
    }
    store_files::sync_dir(&unfinished)?;
    store_files::rename(&unfinished, &target_dir)?;
    let (copied, copied_end) = walk(to, |_| Ok::<(), JournalError>(()))?;
    if copied_end != end {
        return Err(JournalError::Damaged {
            dir: to.to_owned(),
            what: format!("the copy ends with record {} instead of {}", copied.records, summary.records),
        });
    }
    Ok(copied)
}

/// Whether there is room for a journal.
fn nothing_in(dir: &Path) -> Result<(), JournalError> {
    match [log::dir_of(dir), dir.join("sled")].into_iter().find(|it| it.exists()) {
        Some(path) => Err(JournalError::InTheWay { path }),
        None => Ok(()),
    }
}

/// Copies the first `length` bytes of a file, or all, durably. The source is synced first, so that no
/// record is copied that its station could still lose.
fn copy_file(source: &Path, target: &Path, length: Option<u64>) -> io::Result<()> {
    let source = File::open(source)?;
    source.sync_data()?;
    let length = length.map_or_else(|| source.metadata().map(|it| it.len()), Ok)?;
    let mut target = File::options().write(true).create_new(true).mode(0o600).open(target)?;
    let copied = io::copy(&mut source.take(length), &mut target)?;
    if copied < length {
        return Err(io::ErrorKind::UnexpectedEof.into());
    }
    target.sync_all()
}
