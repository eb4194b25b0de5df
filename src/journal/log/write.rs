//! The log's writing half.

use std::io;
use std::path::{Path, PathBuf};

use super::disk::{Disk, REWRITE_BYTES};
use super::frame::{FRAME_BYTES, HEADER_BYTES, Header, MAX_BODY_BYTES, MAX_COMMIT, push};
use super::read::file_path;
use super::{ChainHash, Position};
use crate::journal::{JournalError, Record};
use crate::sabotage::sabotaged;

/// Room that a file is given ahead, bytes: a sync within it has no new length to make durable. It is
/// also what a start reads at most behind the last record.
pub(crate) const RESERVE_BYTES: u64 = 4 << 20;

/// The largest buffer that is kept from one commit to the next, bytes.
const KEEP_BYTES: usize = 1 << 20;

/// Bytes that are written before the next sync.
const UNSEEN_BYTES: usize = REWRITE_BYTES as usize / 2;

/// Appends commits to the newest file. Holds nothing that was not asked to be on disk.
#[derive(Debug)]
pub(crate) struct LogWriter {
    dir: PathBuf,
    id: String,
    disk: Box<dyn Disk>,
    at: Position,
    /// Size after which a new file is begun, bytes.
    max_file_bytes: u64,
    /// Bytes of all the files, without the room that was given ahead.
    total_bytes: u64,
    /// Up to where the newest file has been given room, or would have been if there were any.
    reserved: u64,
    /// A write or a sync has failed: nothing is known of what the disk holds.
    failed: bool,
    buffer: Vec<u8>,
}

impl LogWriter {
    /// Begins a journal's log in `dir`, which is there and empty.
    pub(crate) fn create(
        dir: &Path,
        id: &str,
        mut disk: Box<dyn Disk>,
        max_file_bytes: u64,
    ) -> Result<Self, JournalError> {
        let at = Position::genesis(id);
        let header = Header { id: id.to_owned(), first: 1, previous: at.hash };
        let path = file_path(dir, 1);
        disk.create(&path, &header.encode()).map_err(|source| failed("make", &path, source))?;
        Ok(Self::new(dir, id, disk, (at, max_file_bytes, HEADER_BYTES as u64)))
    }

    /// Goes on at `at`, the end of the newest file. What lies there is synced: it was read, and
    /// will be acted upon, but nobody knows whether a sync was seen through before.
    pub(crate) fn resume(
        dir: &Path,
        id: &str,
        mut disk: Box<dyn Disk>,
        at: Position,
        sizes: (u64, u64),
    ) -> Result<Self, JournalError> {
        let (max_file_bytes, total_bytes) = sizes;
        let path = file_path(dir, at.file);
        disk.resume(&path, at.end).map_err(|source| failed("open", &path, source))?;
        if !sabotaged!(ResumeUnsynced) {
            disk.sync().map_err(|source| failed("sync", &path, source))?;
        }
        Ok(Self::new(dir, id, disk, (at, max_file_bytes, total_bytes)))
    }

    fn new(dir: &Path, id: &str, disk: Box<dyn Disk>, sizes: (Position, u64, u64)) -> Self {
        let (at, max_file_bytes, total_bytes) = sizes;
        let (dir, id) = (dir.to_owned(), id.to_owned());
        Self {
            dir,
            id,
            disk,
            at,
            max_file_bytes,
            total_bytes,
            reserved: 0,
            failed: false,
            buffer: Vec::new(),
        }
    }

    /// Its directory.
    pub(crate) fn dir(&self) -> &Path {
        &self.dir
    }

    /// The end of the log.
    pub(crate) fn at(&self) -> Position {
        self.at
    }

    /// Bytes of all its files.
    pub(crate) fn total_bytes(&self) -> u64 {
        self.total_bytes
    }

    /// Puts a commit on disk: one write, one sync. Says where each record is.
    ///
    /// # Errors
    /// The disk refused: then this and every later call fails. A record that does not fit the log
    /// is refused before anything is written.
    pub(crate) fn append<'a>(
        &mut self,
        records: impl ExactSizeIterator<Item = &'a Record>,
    ) -> Result<Vec<Position>, JournalError> {
        if self.failed {
            return Err(JournalError::Final { dir: self.dir.clone() });
        }
        self.buffer.clear();
        let relative = self.encode(records)?;
        // Until the sync below has been seen through, nothing may follow.
        self.failed = true;
        // An empty file would be begun again under its own name.
        if self.at.has_frame() && self.at.end > self.max_file_bytes {
            self.rotate()?;
        }
        self.write()?;
        self.failed = false;
        let (file, base) = (self.at.file, self.at.end);
        let placed: Vec<Position> = relative
            .into_iter()
            .map(|it| Position { file, start: base + it.start, end: base + it.end, ..it })
            .collect();
        self.total_bytes += self.buffer.len() as u64;
        self.at = placed.last().copied().unwrap_or(self.at);
        if self.buffer.capacity() > KEEP_BYTES {
            self.buffer = Vec::new();
        }
        Ok(placed)
    }

    /// Gives back the room that is not used, at an end in good order.
    pub(crate) fn close(&mut self) {
        if self.failed || self.reserved == 0 {
            return;
        }
        // Nothing more is asked of the disk, whatever it says: the next start cuts the file itself.
        self.failed = true;
        if let Err(error) = self.disk.cut(&file_path(&self.dir, self.at.file), Some(self.at.end)) {
            tracing::warn!(%error, "the log's unused room is not given back; the next start does it");
        }
    }

    /// Puts the buffer behind the last record, on disk.
    fn write(&mut self) -> Result<(), JournalError> {
        let path = file_path(&self.dir, self.at.file);
        let end = self.at.end + self.buffer.len() as u64;
        if end > self.reserved {
            let from = self.at.end.max(self.reserved);
            let until = end + RESERVE_BYTES;
            self.disk.reserve(from, until - from).map_err(|source| failed("make room in", &path, source))?;
            // Where there was none it is asked for again only after as much has been written.
            self.reserved = until;
        }
        // A longer commit goes to disk in parts: a start writes only so much of the end again, and what a
        // failed sync has left unwritten before that would read as if it were there.
        let mut at = self.at.end;
        for part in self.buffer.chunks(UNSEEN_BYTES) {
            self.disk.write(part, at).map_err(|source| failed("write", &path, source))?;
            if !sabotaged!(SyncSkipped) {
                self.disk.sync().map_err(|source| failed("sync", &path, source))?;
            }
            at += part.len() as u64;
        }
        Ok(())
    }

    /// Fills the buffer; positions in it.
    fn encode<'a>(
        &mut self,
        records: impl ExactSizeIterator<Item = &'a Record>,
    ) -> Result<Vec<Position>, JournalError> {
        let count = records.len();
        let mut hash = self.at.hash;
        let mut placed = Vec::with_capacity(count);
        for (number, record) in records.enumerate() {
            let expected = self.at.seq + number as u64 + 1;
            let body = serde_json::to_vec(record).unwrap_or_default();
            let unfit = if record.seq != expected {
                Some(format!("record {expected} is next"))
            } else if body.is_empty() || body.len() > MAX_BODY_BYTES || count > MAX_COMMIT {
                Some("it does not fit into the log".to_owned())
            } else {
                None
            };
            if let Some(what) = unfit {
                return Err(JournalError::Unfit { seq: record.seq, what });
            }
            let start = self.buffer.len() as u64;
            // Both are below MAX_COMMIT, which fits.
            let place = u32::try_from(number).unwrap_or(u32::MAX);
            let left = u32::try_from(count - number - 1).unwrap_or(u32::MAX);
            hash = push(&mut self.buffer, &hash, &body, place, left);
            let end = self.buffer.len() as u64;
            debug_assert_eq!(end - start, (FRAME_BYTES + body.len()) as u64);
            placed.push(Position { seq: expected, file: 0, start, end, hash });
        }
        Ok(placed)
    }

    fn rotate(&mut self) -> Result<(), JournalError> {
        let first = self.at.seq + 1;
        let hash: ChainHash = self.at.hash;
        let header = Header { id: self.id.clone(), first, previous: hash };
        let full = file_path(&self.dir, self.at.file);
        // Only the newest file may have room behind its last record.
        self.disk.cut(&full, Some(self.at.end)).map_err(|source| failed("cut", &full, source))?;
        let path = file_path(&self.dir, first);
        self.disk.create(&path, &header.encode()).map_err(|source| failed("make", &path, source))?;
        self.reserved = 0;
        let end = HEADER_BYTES as u64;
        self.total_bytes += end;
        self.at = Position { seq: self.at.seq, file: first, start: end, end, hash };
        Ok(())
    }
}

fn failed(action: &'static str, path: &Path, source: io::Error) -> JournalError {
    JournalError::Io { action, path: path.to_owned(), source }
}
