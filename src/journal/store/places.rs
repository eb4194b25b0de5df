//! Where records lie in the log: one for every 16 KiB of it, and each file's first.
//!
//! Many places are one row, which grows until it is full, and not a row each. Small rows that never change
//! again are what sled is worst at: their leaves come to lie among those that are written all the time, so
//! that nearly every segment of its file holds a few bytes that are in use, and it does not clear away as
//! many as it makes (an index of 1,000 devices in rework grew to twenty times what was in it).

use std::path::Path;

use serde::{Deserialize, Serialize};

use super::index::failed;
use super::numbers::Numbers;
use super::{damaged, key, seq_key};
use crate::journal::JournalError;
use crate::journal::log::Position;
use crate::journal::record::{decode, encode};

/// How far apart in the log the records are whose places are noted, bytes.
const EVERY_BYTES: u64 = 16 << 10;

/// Places in one row: some 3 KB at most, and eight rows for a file of the log.
const ROW: usize = 512;

/// The newest row of places, which is written again with each new one until it is full.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub(super) struct Places {
    /// The file, by its first record.
    file: u64,
    /// The records.
    seqs: Numbers,
    /// Where each begins in the file, bytes.
    starts: Numbers,
}

impl Places {
    /// The newest row of an index; an empty one if there is none.
    pub(super) fn newest(db: &sled::Db, path: &Path) -> Result<Self, JournalError> {
        Ok(before(db, path, u64::MAX)?.unwrap_or_default())
    }

    /// Takes in a record if it is the first in its file or far from the one noted last. Whether it did.
    pub(super) fn note(&mut self, at: &Position) -> bool {
        let same_file = self.file == at.file && !self.seqs.0.is_empty();
        let last = self.starts.0.last().copied().unwrap_or(0);
        if same_file && at.start < last + EVERY_BYTES {
            return false;
        }
        if !same_file || self.seqs.0.len() >= ROW {
            *self = Self { file: at.file, ..Self::default() };
        }
        self.seqs.0.push(at.seq);
        self.starts.0.push(at.start);
        true
    }

    /// The key and value of the row.
    pub(super) fn row(&self, path: &Path) -> Result<(Vec<u8>, Vec<u8>), JournalError> {
        let value =
            encode(self).map_err(|error| damaged(path, &format!("a place cannot be written: {error}")))?;
        Ok((seq_key(b'l', self.seqs.0.first().copied().unwrap_or(0)), value))
    }
}

/// The noted place at or before a record: its file, where it begins there, and its number.
pub(super) fn find(db: &sled::Db, path: &Path, seq: u64) -> Result<(u64, u64, u64), JournalError> {
    let row = before(db, path, seq)?;
    let place = row.and_then(|row| {
        let number = row.seqs.0.partition_point(|it| *it <= seq).checked_sub(1)?;
        Some((row.file, *row.starts.0.get(number)?, *row.seqs.0.get(number)?))
    });
    place.ok_or_else(|| damaged(path, "no place in the log is noted"))
}

/// The row that begins at or before a record.
fn before(db: &sled::Db, path: &Path, seq: u64) -> Result<Option<Places>, JournalError> {
    let row = db.range(key(b'l', "")..=seq_key(b'l', seq)).next_back();
    let row = row.transpose().map_err(|source| failed(path, "read", source))?;
    let places = row.map(|(_, value)| decode(&value)).transpose();
    places.map_err(|error| damaged(path, &format!("a row of places cannot be read: {error}")))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::journal::log::ChainHash;

    fn at(seq: u64, file: u64, start: u64) -> Position {
        Position { seq, file, start, end: start + 100, hash: ChainHash::genesis("00112233445566aa") }
    }

    #[test]
    fn the_place_at_or_before_each_record_is_found_across_rows_and_files() {
        let dir = tempfile::tempdir().unwrap();
        let db = super::super::index::open_sled(dir.path()).unwrap();
        let mut places = Places::newest(&db, dir.path()).unwrap();
        let mut noted = Vec::new();
        // Ten records to 16 KiB, 7,000 to a file.
        for seq in 1..=14_000 {
            let file = (seq - 1) / 7000 * 7000 + 1;
            let at = at(seq, file, 72 + (seq - file) * 1700);
            if places.note(&at) {
                noted.push(at);
                let (row, value) = places.row(dir.path()).unwrap();
                db.insert(row, value).unwrap();
            }
            let last = noted.last().unwrap();
            let found = find(&db, dir.path(), seq).unwrap();
            assert_eq!(found, (last.file, last.start, last.seq));
            assert!(last.file == file && at.start - last.start < EVERY_BYTES);
        }
        for at in &noted {
            assert_eq!(find(&db, dir.path(), at.seq).unwrap(), (at.file, at.start, at.seq));
        }
        // 700 places to a file: one full row and one that the next file has ended.
        assert_eq!((noted.len(), db.len()), (1400, 4));
        assert!(db.iter().all(|it| it.unwrap().1.len() <= super::super::device_row::MAX_VALUE));
        let again = Places::newest(&db, dir.path()).unwrap();
        assert_eq!((again.file, again.seqs, again.starts), (places.file, places.seqs, places.starts));
    }
}
