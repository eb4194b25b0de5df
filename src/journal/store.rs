//! The journal's store: the [`log`], and sled as its index and working state.
//!
//! # Who holds what
//!
//! The log holds every record and is synced at each promise. sled holds what is looked up and what a
//! restart begins with, and could be made again from the log at any time: a store that cannot tell a
//! cut tail from one never written, and panics on a flipped byte, is nothing to promise on. A record
//! is applied to sled when the log's sync has been seen through, and sled is synced behind that by a
//! thread of its own, so that sled is never ahead of the log, and costs a promise no sync.
//!
//! # Opening
//!
//! | sled | is |
//! |---|---|
//! | behind the log | caught up, by the same fold that made it |
//! | ahead of the log, or disagreeing with it | believed: the log has lost something, and opening is refused |
//! | damaged, of an earlier format, somebody else's, or stale after a power cut | kept aside as `sled.damaged-N`, told at error level, and made again from the log |
//! | of a later format | refused |
//! | there without a log, made by the version before the log | read whole into a new log, kept as `sled.damaged-N`, and made again |
//!
//! A start reads the log only from where sled was last known to be synced; `linemint journal verify`
//! reads all of it. sled is opened where it lies and not as a copy: opening may spoil a damaged one
//! further, but nothing in it is needed.
//!
//! # Keys
//!
//! Everything lies in one tree, so that one batch is all or none. Values are small (sled keeps what is
//! over 128 KiB in files that it never syncs): records stay in the log, and `l` says where. Keys
//! begin with a letter:
//!
//! | key | value |
//! |---|---|
//! | `l` seq | where that record lies: file, offset; one for every 16 KiB and each file's first |
//! | `h` serial 0 n | the numbers of a device's records, 64 in a row |
//! | `d` serial | the device after its newest record |
//! | `u` serial | nothing: something is left to do for it |
//! | `p` fixture 0 boot id | the presentation |
//! | `r` hash | rules |
//! | `s` name | nothing: a shared policy that is there |
//! | `b` fixture | its last reset |
//! | `m` name | `format`, `id`, `counts`, `latest` (the latest time that a record bears), `position` (the newest record in sled), `synced` (one that is known to be on disk) |

mod checkpoint;
pub(crate) mod files;
mod fold;
mod index;
mod lock;
mod migrate;
mod open;
mod writer;

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use serde::de::DeserializeOwned;

use super::log::read::Walk;
use super::record::decode;
use super::{JournalError, KnownPresentation, Record, Recovered, Shelf, log};
use crate::device::Device;
use crate::device::event::PresentationKey;
use crate::device::rules::{ProductRules, RulesId};
use crate::device::serial::SerialNumber;

pub use self::lock::JournalLock;
pub use self::open::open;
pub use self::writer::StoreWriter;

/// Format of the index; 1 was sled alone.
pub const FORMAT: u32 = 2;

/// Most devices that one call of [`Store::devices`] looks at.
pub const MAX_SCAN: usize = 100_000;

/// The journal's reading half. Cheap to clone; sees what was committed.
#[derive(Debug, Clone)]
pub struct Store {
    dir: PathBuf,
    db: sled::Db,
    shared: Arc<Shared>,
}

/// What the writing half tells the reading half.
#[derive(Debug, Default)]
struct Shared {
    /// The newest record that is on disk and in the index.
    committed: AtomicU64,
    /// Bytes of the log.
    log_bytes: AtomicU64,
}

/// An opened journal.
#[derive(Debug)]
pub struct Opened {
    /// Its reading half.
    pub store: Store,
    /// Its writing half.
    pub writer: StoreWriter,
    /// What a restart begins with.
    pub recovered: Recovered,
    /// The journal's own id, 16 hex digits, made with it.
    pub id: String,
}

impl Shelf for Store {
    fn device(&self, serial: &SerialNumber) -> Result<Option<Device>, JournalError> {
        self.read(&key(b'd', serial.as_str()))
    }

    fn presentation(&self, key: &PresentationKey) -> Result<Option<KnownPresentation>, JournalError> {
        self.read(&presentation_key(key))
    }
}

impl Store {
    /// The records after `after`, at most `limit`, oldest first.
    ///
    /// # Errors
    /// A record cannot be read.
    pub fn events(&self, after: u64, limit: usize) -> Result<Vec<Record>, JournalError> {
        let newest = self.shared.committed.load(Ordering::Acquire);
        let mut records = Vec::new();
        if after >= newest || limit == 0 {
            return Ok(records);
        }
        let mut walk = self.walk_from(after + 1)?;
        while let Some(commit) = walk.next_commit()? {
            for found in commit {
                if found.at.seq > newest || records.len() == limit {
                    return Ok(records);
                }
                if found.at.seq > after {
                    records.push(found.record);
                }
            }
            if records.len() == limit || walk.at().seq >= newest {
                break;
            }
        }
        Ok(records)
    }

    /// The newest `limit` records of a device, oldest first.
    ///
    /// # Errors
    /// A record cannot be read.
    pub fn history(&self, serial: &SerialNumber, limit: usize) -> Result<Vec<Record>, JournalError> {
        let mut seqs: Vec<u64> = Vec::new();
        for row in self.db.scan_prefix(history_prefix(serial)).rev() {
            let (_, value) = row.map_err(|source| self.failed("read", source))?;
            let row: Vec<u64> = self.decode(&value)?;
            seqs.extend(row.iter().rev());
            if seqs.len() >= limit {
                break;
            }
        }
        seqs.truncate(limit);
        let mut records = Vec::with_capacity(seqs.len());
        for seq in seqs.into_iter().rev() {
            records.extend(self.events(seq - 1, 1)?);
        }
        Ok(records)
    }

    /// The log, from at or shortly before a record.
    fn walk_from(&self, seq: u64) -> Result<Walk, JournalError> {
        let noted = self.db.range(key(b'l', "")..=seq_key(b'l', seq)).next_back();
        let (row, place) = noted
            .ok_or_else(|| damaged(&self.dir, "no place in the log is noted"))?
            .map_err(|source| self.failed("read", source))?;
        let (file, offset): (u64, u64) = self.decode(&place)?;
        let first = row.get(1..).and_then(|it| it.try_into().ok()).map_or(0, u64::from_be_bytes);
        Walk::unchecked(&log::dir_of(&self.dir), file, offset, first)
    }

    /// Devices in the order of their serials, beginning after `after`: at most `limit` for which
    /// `wanted` holds, looking at no more than [`MAX_SCAN`].
    ///
    /// # Errors
    /// A record cannot be read.
    pub fn devices(
        &self,
        after: Option<&str>,
        limit: usize,
        wanted: impl Fn(&Device) -> bool,
    ) -> Result<Vec<Device>, JournalError> {
        let begin = match after {
            Some(after) => [&key(b'd', after)[..], &[0]].concat(),
            None => key(b'd', ""),
        };
        let mut devices = Vec::new();
        for row in self.db.range(begin..key(b'e', "")).take(MAX_SCAN) {
            let (_, value) = row.map_err(|source| self.failed("read", source))?;
            let device: Device = self.decode(&value)?;
            if wanted(&device) {
                devices.push(device);
                if devices.len() == limit {
                    break;
                }
            }
        }
        Ok(devices)
    }

    /// The rules of that hash.
    ///
    /// # Errors
    /// The record cannot be read.
    pub fn rules(&self, id: &RulesId) -> Result<Option<ProductRules>, JournalError> {
        self.read(&key(b'r', &id.to_string()))
    }

    /// Bytes on disk, log and index.
    #[must_use]
    pub fn size_on_disk(&self) -> u64 {
        self.db.size_on_disk().unwrap_or(0) + self.shared.log_bytes.load(Ordering::Relaxed)
    }

    fn recover(&self) -> Result<Recovered, JournalError> {
        let mut recovered = Recovered {
            seq: self.shared.committed.load(Ordering::Acquire),
            counts: self.read::<Vec<_>>(&key(b'm', "counts"))?.unwrap_or_default().into_iter().collect(),
            ..Recovered::default()
        };
        recovered.at = self.read(&key(b'm', "latest"))?;
        if recovered.at.is_none() {
            recovered.at = self.events(recovered.seq.saturating_sub(1), 1)?.last().map(|it| it.at);
        }
        for name in self.names(b'u')? {
            match self.read(&key(b'd', &name))? {
                Some(device) => recovered.pending.push(device),
                None => return Err(damaged(&self.dir, &format!("device {name} has no record"))),
            }
        }
        for name in self.names(b'r')? {
            let id =
                name.parse().map_err(|_| damaged(&self.dir, "the hash of a product's rules is wrong"))?;
            recovered.rules.extend(self.read(&key(b'r', &name))?.map(|rules| (id, rules)));
        }
        recovered.policies = self.names(b's')?;
        for name in self.names(b'b')? {
            let boot = self.read(&key(b'b', &name))?;
            recovered.boots.extend(boot.map(|boot| (name, boot)));
        }
        Ok(recovered)
    }

    fn names(&self, letter: u8) -> Result<Vec<String>, JournalError> {
        self.db
            .scan_prefix([letter])
            .keys()
            .map(|row| {
                let row = row.map_err(|source| self.failed("read", source))?;
                String::from_utf8(row[1..].to_vec()).map_err(|_| damaged(&self.dir, "a name is not text"))
            })
            .collect()
    }

    fn read<T: DeserializeOwned>(&self, key: &[u8]) -> Result<Option<T>, JournalError> {
        let value = self.db.get(key).map_err(|source| self.failed("read", source))?;
        value.map(|it| self.decode(&it)).transpose()
    }

    fn decode<T: DeserializeOwned>(&self, bytes: &[u8]) -> Result<T, JournalError> {
        decode(bytes).map_err(|error| damaged(&self.dir, &format!("a record cannot be read: {error}")))
    }

    fn failed(&self, action: &'static str, source: sled::Error) -> JournalError {
        JournalError::Store { action, dir: self.dir.clone(), source }
    }
}

fn key(letter: u8, name: &str) -> Vec<u8> {
    [&[letter], name.as_bytes()].concat()
}

fn seq_key(letter: u8, seq: u64) -> Vec<u8> {
    [&[letter][..], &seq.to_be_bytes()].concat()
}

fn history_prefix(serial: &SerialNumber) -> Vec<u8> {
    [&key(b'h', serial.as_str())[..], &[0]].concat()
}

fn presentation_key(it: &PresentationKey) -> Vec<u8> {
    [&key(b'p', &it.fixture)[..], &[0], &it.boot.to_be_bytes(), &it.id.to_be_bytes()].concat()
}

fn damaged(dir: &Path, what: &str) -> JournalError {
    JournalError::Damaged { dir: dir.to_owned(), what: what.to_owned() }
}

#[cfg(test)]
mod tests;
