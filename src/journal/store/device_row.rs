//! A device's row: the device, and the numbers of its newest records, so that a finished device is one
//! row and not two. Numbers that are older move, 64 at a time, into rows of their own, 512 in each. There
//! are three of those, used again in turn: what is written over need not be cleared away (`places`).
//!
//! sled puts a leaf of its tree, at most some twenty rows, that is over a quarter of a segment (64 KiB) into a
//! file that it never syncs (`facts/rust.md` 3.3). Nearly every device is well below a kilobyte ([`packed`]); one
//! that had hundreds of certificates is not. What is longer than [`MAX_VALUE`] is stored as
//!
//! ```text
//! d serial            byte 0      2
//!                     bytes 1..5  CRC-32 (IEEE) of the rest
//!                     bytes 5..9  how many pieces there are
//!                     bytes 9..17 the device's newest record
//! x serial 0 seq n    the n-th piece, from 0, of what would else stand in the `d` row
//! ```
//! The record's number is in the key, so that a reader that comes between two states finds a piece
//! missing, and reads again, but never pieces of both.

use std::path::Path;

use serde::{Deserialize, Serialize};

use super::index::failed;
use super::numbers::Numbers;
use super::{damaged, history_prefix, key, packed};
use crate::device::Device;
use crate::device::serial::SerialNumber;
use crate::journal::JournalError;
use crate::journal::record::{decode, encode};

/// Longest value of a device's row and of a piece, bytes.
pub(super) const MAX_VALUE: usize = 3000;

/// What the row of a device in pieces begins with; that of a whole one begins with 3.
const IN_PIECES: u8 = 2;

const NOTE_BYTES: usize = 17;

/// Numbers of records in the device's own row, which are put away together.
const NEWEST: usize = 64;

/// How often numbers are put away into one row of their own.
const TIMES: u64 = 8;

/// Rows of numbers of one device, so that one that comes back for ever does not fill the index: at least the
/// 1,024 newest records, also when one of them has just been begun anew. All of them are in the log.
const HISTORY_ROWS: u64 = 3;

/// How often a reader that came between two states reads again: each time the device had another event.
const TRIES: usize = 100;

/// What stands for a device: its bytes, with the note of their pieces if they are in some.
type Found = (Option<Note>, Vec<u8>);

/// A row and what is to stand in it; none if it is to go.
type Row = (Vec<u8>, Option<Vec<u8>>);

/// How many pieces, and of which state.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Note {
    pieces: u32,
    seq: u64,
}

impl Note {
    fn encode(self) -> Vec<u8> {
        let mut bytes = vec![IN_PIECES, 0, 0, 0, 0];
        bytes.extend_from_slice(&self.pieces.to_be_bytes());
        bytes.extend_from_slice(&self.seq.to_be_bytes());
        let checksum = crc32fast::hash(&bytes[5..]);
        bytes[1..5].copy_from_slice(&checksum.to_be_bytes());
        bytes
    }

    /// What the row says; none if the device stands in it whole.
    fn decode(path: &Path, row: &[u8]) -> Result<Option<Self>, JournalError> {
        if row.first() != Some(&IN_PIECES) {
            return Ok(None);
        }
        if row.len() != NOTE_BYTES || row[1..5] != crc32fast::hash(&row[5..]).to_be_bytes() {
            return Err(damaged(path, "a note of a device's pieces is wrong"));
        }
        let number = |bytes: &[u8]| bytes.iter().fold(0, |number, byte| number << 8 | u64::from(*byte));
        let pieces = u32::try_from(number(&row[5..9])).unwrap_or(u32::MAX);
        Ok(Some(Self { pieces, seq: number(&row[9..]) }))
    }

    fn keys(self, serial: &SerialNumber) -> impl Iterator<Item = Vec<u8>> {
        let begin = [&key(b'x', serial.as_str())[..], &[0], &self.seq.to_be_bytes()].concat();
        (0..self.pieces).map(move |number| [&begin[..], &number.to_be_bytes()].concat())
    }
}

/// What is stored.
#[derive(Serialize)]
struct Stored<'a> {
    #[serde(flatten)]
    device: &'a Device,
    /// Its newest records, oldest first.
    records: &'a Numbers,
    /// How often such were put away, which says into which row they go.
    put_away: u64,
}

/// That part of it.
#[derive(Default, Deserialize)]
struct Newest {
    records: Numbers,
    put_away: u64,
}

/// The rows of a device as it is now, after its records `news`, and those that go because of it. One that is new with
/// those records has none yet.
pub(super) fn rows(
    db: &sled::Db,
    path: &Path,
    device: &Device,
    is_new: bool,
    news: &[u64],
) -> Result<Vec<Row>, JournalError> {
    let serial = &device.serial;
    let mut rows = Vec::with_capacity(1);
    let mut known = Newest::default();
    let found = if is_new { None } else { stored(db, path, serial)? };
    if let Some((note, bytes)) = found {
        rows.extend(note.iter().flat_map(|it| it.keys(serial)).map(|key| (key, None)));
        known = newest(path, &bytes)?;
    }
    for seq in news {
        if known.records.0.len() >= NEWEST {
            put_away(db, path, serial, &mut known, &mut rows)?;
        }
        known.records.0.push(*seq);
    }
    let Newest { records, put_away } = known;
    let whole = packed::encode(&Stored { device, records: &records, put_away })
        .map_err(|error| damaged(path, &format!("device {serial} cannot be written: {error}")))?;
    let row = key(b'd', serial.as_str());
    if whole.len() <= MAX_VALUE {
        rows.push((row, Some(whole)));
        return Ok(rows);
    }
    let pieces = whole.chunks(MAX_VALUE);
    // A device is far below 16 TiB.
    let note = Note { pieces: u32::try_from(pieces.len()).unwrap_or(u32::MAX), seq: device.last_seq };
    rows.extend(note.keys(serial).zip(pieces).map(|(key, piece)| (key, Some(piece.to_vec()))));
    rows.push((row, Some(note.encode())));
    Ok(rows)
}

/// Puts a device's newest numbers away: behind those in the row that was begun last, or, if it has been
/// filled, into the next one, in the place of what was there.
fn put_away(
    db: &sled::Db,
    path: &Path,
    serial: &SerialNumber,
    known: &mut Newest,
    rows: &mut Vec<Row>,
) -> Result<(), JournalError> {
    let row = history_key(serial, known.put_away / TIMES);
    let mut numbers = std::mem::take(&mut known.records);
    if !known.put_away.is_multiple_of(TIMES) {
        // It may be about to be written, by the same batch.
        let written = match rows.iter().rev().find(|(it, _)| *it == row) {
            Some((_, value)) => value.clone(),
            None => db.get(&row).map_err(|source| failed(path, "read", source))?.map(|it| it.to_vec()),
        };
        let mut older = written.map(|it| numbers_of(path, serial, &it)).transpose()?.unwrap_or_default();
        if older.0.len() != numbers_put_away(known.put_away) {
            return Err(damaged(path, &format!("the history of {serial} has lost records")));
        }
        older.0.append(&mut numbers.0);
        numbers = older;
    }
    let value =
        encode(&numbers).map_err(|error| damaged(path, &format!("a row cannot be written: {error}")))?;
    rows.push((row, Some(value)));
    known.put_away += 1;
    Ok(())
}

/// How many numbers are in the row that was begun last, after that many times; 0 where the next one is due.
fn numbers_put_away(times: u64) -> usize {
    NEWEST * usize::from((times % TIMES).to_le_bytes()[0])
}

/// Whether the row that a device's numbers were last put into is as it was left: a power cut may have
/// taken it back.
pub(super) fn has_history(db: &sled::Db, path: &Path, serial: &SerialNumber) -> Result<bool, JournalError> {
    let Some((_, bytes)) = stored(db, path, serial)? else { return Ok(true) };
    let Newest { records, put_away } = newest(path, &bytes)?;
    let Some(last) = put_away.checked_sub(1) else { return Ok(true) };
    let row = db.get(history_key(serial, last / TIMES)).map_err(|source| failed(path, "read", source))?;
    let row = row.map(|value| numbers_of(path, serial, &value)).transpose()?.unwrap_or_default();
    Ok(row.0.len() == numbers_put_away(last) + NEWEST && row.0.last() < records.0.first())
}

/// The key of a device's n-th row of numbers, which was also that of an earlier one.
fn history_key(serial: &SerialNumber, number: u64) -> Vec<u8> {
    let place = (number % HISTORY_ROWS).to_be_bytes()[7];
    [&history_prefix(serial)[..], &[place]].concat()
}

fn numbers_of(path: &Path, serial: &SerialNumber, value: &[u8]) -> Result<Numbers, JournalError> {
    decode(value).map_err(|error| damaged(path, &format!("the history of {serial} cannot be read: {error}")))
}

/// The device of that serial.
pub(super) fn read(
    db: &sled::Db,
    path: &Path,
    serial: &SerialNumber,
) -> Result<Option<Device>, JournalError> {
    stored(db, path, serial)?.map(|(_, bytes)| whole(path, &bytes)).transpose()
}

/// The numbers of its newest records, newest first, at most `limit`.
pub(super) fn history(
    db: &sled::Db,
    path: &Path,
    serial: &SerialNumber,
    limit: usize,
) -> Result<Vec<u64>, JournalError> {
    let Some((_, bytes)) = stored(db, path, serial)? else { return Ok(Vec::new()) };
    let Newest { records, put_away } = newest(path, &bytes)?;
    let mut seqs = records.0;
    seqs.reverse();
    let begun = put_away.div_ceil(TIMES);
    for number in (begun.saturating_sub(HISTORY_ROWS)..begun).rev() {
        if seqs.len() >= limit {
            break;
        }
        let row = db.get(history_key(serial, number)).map_err(|source| failed(path, "read", source))?;
        let row = row.map(|value| numbers_of(path, serial, &value)).transpose()?.unwrap_or_default();
        // Some of them may have been put away since the device's row was read, and the oldest row begun
        // anew with what is newer than all that.
        let oldest = seqs.last().copied().unwrap_or(u64::MAX);
        seqs.extend(row.0.into_iter().rev().filter(|it| *it < oldest));
    }
    seqs.truncate(limit);
    Ok(seqs)
}

/// What stands in a device's row, or in its pieces, with the note of them.
fn stored(db: &sled::Db, path: &Path, serial: &SerialNumber) -> Result<Option<Found>, JournalError> {
    let row = key(b'd', serial.as_str());
    for _ in 0..TRIES {
        let Some(value) = db.get(&row).map_err(|source| failed(path, "read", source))? else {
            return Ok(None);
        };
        let Some(note) = Note::decode(path, &value)? else { return Ok(Some((None, value.to_vec()))) };
        let mut bytes = Vec::new();
        let mut found = 0;
        for key in note.keys(serial) {
            let Some(piece) = db.get(key).map_err(|source| failed(path, "read", source))? else { break };
            bytes.extend_from_slice(&piece);
            found += 1;
        }
        if found == note.pieces {
            return Ok(Some((Some(note), bytes)));
        }
    }
    Err(damaged(path, &format!("a piece of device {serial} is missing")))
}

/// The device of a `d` row that a scan has found; none if it has gone since.
pub(super) fn read_row(
    db: &sled::Db,
    path: &Path,
    row: &[u8],
    value: &[u8],
) -> Result<Option<Device>, JournalError> {
    if Note::decode(path, value)?.is_none() {
        return whole(path, value).map(Some);
    }
    let name = std::str::from_utf8(row.get(1..).unwrap_or_default()).unwrap_or_default();
    let serial = SerialNumber::parse(name).map_err(|_| damaged(path, "a serial in a row is none"))?;
    read(db, path, &serial)
}

fn whole(path: &Path, bytes: &[u8]) -> Result<Device, JournalError> {
    packed::decode(bytes).map_err(|error| damaged(path, &format!("a device cannot be read: {error}")))
}

fn newest(path: &Path, bytes: &[u8]) -> Result<Newest, JournalError> {
    packed::decode(bytes)
        .map_err(|error| damaged(path, &format!("the records of a device cannot be read: {error}")))
}
