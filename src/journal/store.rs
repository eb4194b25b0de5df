//! The journal's store: the [`log`], and sled as its index and working state.
//!
//! # Who holds what
//!
//! The log holds every record and is synced at each promise. sled holds what is looked up and what a
//! restart begins with, and could be made again from the log at any time: a store that cannot tell a
//! cut tail from one never written, and panics on a flipped byte, is nothing to promise on.
//!
//! ```text
//!  commit ──> log: write, fdatasync ──> promised
//!                     └──> pending (at most 4,096 records) ──> index thread: sled ──> checkpoint: sync
//! ```
//! A record goes to sled when the log's sync has been seen through, at most a second later unless a reader waits, by a
//! thread of its own, and sled is synced behind that by another, so that sled is never ahead of the log, and
//! costs a promise neither a write nor a sync. What sled does not have yet is read from the records that wait for it
//! (`pending`): what was promised is read, whether sled has it or not. A failure of either
//! thread, a panic of sled's among them, is final like one of the log's: nothing more is promised, and
//! nothing more is read.
//!
//! # Opening
//!
//! | sled | is |
//! |---|---|
//! | behind the log | caught up, by the same fold that made it |
//! | ahead of the log, or disagreeing with it | believed: the log has lost something, and opening is refused |
//! | damaged, of an earlier format, somebody else's, or stale after a power cut | kept aside as `sled.damaged-N`, told at error level, and made again from the log |
//! | of a later format, or written by a version that tells more in its records | refused |
//! | there without a log, made by the version before the log | read whole into a new log, kept as `sled.damaged-N`, and made again |
//!
//! A start reads the log only from where sled was last known to be synced; `linemint journal verify`
//! reads all of it. sled is opened where it lies and not as a copy: opening may spoil a damaged one
//! further, but nothing in it is needed.
//!
//! # Keys
//!
//! Everything lies in one tree, so that one batch is all or none. Values are small (a leaf of sled's that is
//! over 64 KiB goes to a file that it never syncs): records stay in the log, and `l` says where; a device
//! that is longer than 3 KB is cut into pieces (`device_row`). Nor are they many where they never change
//! again: sled's file would grow without end (`places`). Keys begin with a letter:
//!
//! | key | value |
//! |---|---|
//! | `l` seq | where that record and the 511 places noted after it lie in one file: numbers, offsets; one for every 16 KiB and each file's first |
//! | `h` serial 0 n | the numbers of a device's records before the newest 64: at least 1,024, 512 in a row, the rows used again in turn |
//! | `d` serial | the device after its newest record with the numbers of the newest 64 and how many were put away, or how many pieces it is in |
//! | `x` serial 0 seq n | a piece of such a device |
//! | `u` serial | nothing: something is left to do for it |
//! | `t` time serial | what reports tell of a device, by its first presentation, or until then by when it came into the journal (ms since 1970, as all times here) |
//! | `f` time time serial | nothing: that device first passed then, in a later hour than it was first presented |
//! | `q` number | what happened in those five minutes |
//! | `y` batch | when its first device was first presented, when any was worked on last, and the newest record of any |
//! | `p` fixture 0 boot n | the presentations whose numbers are 8 n to 8 n + 7 |
//! | `r` hash | rules |
//! | `s` name | nothing: a shared policy that is there |
//! | `g` name | the id and ARN of a locker that a batch's devices share |
//! | `b` fixture | its last reset |
//! | `k` hash | the serial of the device that was the first to tell this public key as its own |
//! | `w` id | a batch, with the numbers of its devices by state |
//! | `e` list serial | a part of a list of serial numbers, by its first one |
//! | `o` list | the batch of a list that has not come to its end |
//! | `m` name | `format`, `vocabulary` (what those that have written it knew of what records tell), `id`, `counts`, `latest` (the latest time that a record bears), `down` (what keeps the station from its work), `position` (the newest record in sled), `synced` (one that is known to be on disk) |

mod batches;
mod checkpoint;
mod device_row;
pub(crate) mod files;
mod fold;
mod guard;
mod index;
mod indexer;
mod lock;
mod migrate;
mod newest;
mod numbers;
mod open;
mod packed;
mod pending;
mod places;
mod presentations;
mod scan;
mod summaries;
mod writer;

use std::collections::{BTreeMap, VecDeque};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use jiff::Timestamp;
use serde::de::DeserializeOwned;

use self::guard::guarded;
use self::pending::Pending;
use self::scan::scan;
use super::log::Position;
use super::log::read::{Found, Walk};
use super::record::decode;
use super::{JournalError, KnownPresentation, Record, Recovered, SharedLocker, Shelf, copy, log};
use crate::batch::{Batch, BatchId};
use crate::device::event::PresentationKey;
use crate::device::rules::{ProductRules, RulesId};
use crate::device::serial::SerialNumber;
use crate::device::{Device, IllegalTransition};
use crate::pki::Fingerprint;

pub use self::batches::{Listed, ListedPage, MAX_LISTED_SCAN};
pub use self::lock::JournalLock;
pub use self::open::{open, refuse_if_gone};
pub use self::writer::StoreWriter;

/// Format of the index; 1 was sled alone, 2 had a row for each place in the log, 3 no rows of batches, reports and
/// keys, 4 a row for each presentation, 5 deferrals among the failures, 6 of a batch's time only first presentations
/// and no downtime before a crash, 7 devices as plain JSON.
pub const FORMAT: u32 = 8;

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
#[derive(Debug)]
struct Shared {
    /// The newest record that is on disk.
    newest: Mutex<Position>,
    /// Bytes of the log.
    log_bytes: AtomicU64,
    /// What of it is not in the index yet.
    pending: Pending,
}

impl Shared {
    /// For an index that holds everything up to `newest`.
    fn at(dir: &Path, newest: Position, log_bytes: u64) -> Self {
        Self {
            newest: Mutex::new(newest),
            log_bytes: AtomicU64::new(log_bytes),
            pending: Pending::new(dir, newest.seq),
        }
    }

    fn newest(&self) -> Position {
        *self.newest.lock().unwrap_or_else(PoisonError::into_inner)
    }
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
        match self.shared.pending.device(serial)? {
            Some(device) => Ok(Some(device)),
            None => self.stored(serial),
        }
    }

    fn presentation(&self, key: &PresentationKey) -> Result<Option<KnownPresentation>, JournalError> {
        match self.shared.pending.presentation(key)? {
            Some(known) => Ok(known),
            None => guarded(&self.dir, || presentations::find(&self.db, &self.dir, key)),
        }
    }

    fn batch(&self, id: &BatchId, since: u64) -> Result<Option<Batch>, JournalError> {
        self.batch_since(id, since)
    }

    fn is_listed(&self, list: u64, since: u64, serial: &SerialNumber) -> Result<bool, JournalError> {
        self.listed_since(list, since, serial)
    }

    fn holder_of_key(&self, told: &Fingerprint) -> Result<Option<SerialNumber>, JournalError> {
        let waiting = self.shared.pending.holder_of_key(told)?;
        // Whoever is in the index came before. Asked last, since what waits may be there by now.
        Ok(self.read(&key(b'k', &told.to_string()))?.or(waiting))
    }
}

impl Store {
    /// The records after `after`, at most `limit`, oldest first.
    ///
    /// # Errors
    /// A record cannot be read.
    pub fn events(&self, after: u64, limit: usize) -> Result<Vec<Record>, JournalError> {
        let newest = self.shared.newest().seq;
        let mut records = Vec::new();
        if after >= newest || limit == 0 {
            self.shared.pending.check()?;
            return Ok(records);
        }
        // The newest are still in memory, and the index need not be hurried for whoever follows.
        if let Some(records) = self.shared.pending.since(after, newest, limit)? {
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
        self.caught_up()?;
        let seqs = guarded(&self.dir, || device_row::history(&self.db, &self.dir, serial, limit))?;
        let mut records = Vec::with_capacity(seqs.len());
        let mut picker = Picker { store: self, walk: None, commit: VecDeque::new() };
        for seq in seqs.into_iter().rev() {
            records.push(picker.pick(seq)?);
        }
        Ok(records)
    }

    /// The log, from at or shortly before a record.
    fn walk_from(&self, seq: u64) -> Result<Walk, JournalError> {
        let (file, start, first) = guarded(&self.dir, || places::find(&self.db, &self.dir, seq))?;
        Walk::unchecked(&log::dir_of(&self.dir), file, start, first)
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
        self.caught_up()?;
        guarded(&self.dir, || {
            let mut devices = Vec::new();
            for row in scan(&self.db, begin..key(b'e', "")).take(MAX_SCAN) {
                let (row, value) = row.map_err(|source| self.failed("read", source))?;
                let Some(device) = device_row::read_row(&self.db, &self.dir, &row, &value)? else { continue };
                if wanted(&device) {
                    devices.push(device);
                    if devices.len() == limit {
                        break;
                    }
                }
            }
            Ok(devices)
        })
    }

    /// The rules of that hash.
    ///
    /// # Errors
    /// The record cannot be read.
    pub fn rules(&self, id: &RulesId) -> Result<Option<ProductRules>, JournalError> {
        self.caught_up()?;
        self.read(&key(b'r', &id.to_string()))
    }

    /// The lockers that batches' devices share, by name.
    ///
    /// # Errors
    /// A record cannot be read.
    pub fn lockers(&self) -> Result<BTreeMap<String, SharedLocker>, JournalError> {
        self.caught_up()?;
        guarded(&self.dir, || self.locker_rows())
    }

    /// The first record up to `newest` that is not before `begin`; `newest + 1` if there is none. It is looked for
    /// by halves: records are in the order of time, as far as the clock was not set back.
    ///
    /// # Errors
    /// A record cannot be read.
    pub fn first_since(&self, begin: Timestamp, newest: u64) -> Result<u64, JournalError> {
        let (mut low, mut high) = (1, newest + 1);
        while low < high {
            let middle = low + (high - low) / 2;
            let record = self.events(middle - 1, 1)?;
            if record.first().is_some_and(|it| it.at < begin) {
                low = middle + 1;
            } else {
                high = middle;
            }
        }
        Ok(low)
    }

    /// Writes a backup of the journal as it is now: what is on disk, and nothing that comes after. It is
    /// what `linemint journal restore` reads, and described in [`copy::stream`].
    ///
    /// # Errors
    /// The log cannot be read, or `out` takes nothing more.
    pub fn backup(&self, out: &mut impl io::Write) -> Result<(), copy::ExportError> {
        copy::stream::write(&self.dir, &self.shared.newest(), out)
    }

    /// Bytes of the log, without the room that its newest file was given ahead.
    #[must_use]
    pub fn log_bytes(&self) -> u64 {
        self.shared.log_bytes.load(Ordering::Relaxed)
    }

    /// Bytes on disk, log and index.
    #[must_use]
    pub fn size_on_disk(&self) -> u64 {
        self.db.size_on_disk().unwrap_or(0) + self.log_bytes()
    }

    /// Waits until the index holds all that is on disk now; up to which record that is.
    fn caught_up(&self) -> Result<u64, JournalError> {
        let newest = self.shared.newest().seq;
        self.shared.pending.wait_for(newest)?;
        Ok(newest)
    }

    fn recover(&self) -> Result<Recovered, JournalError> {
        let mut recovered = Recovered {
            seq: self.shared.newest().seq,
            counts: self.read::<Vec<_>>(&key(b'm', "counts"))?.unwrap_or_default().into_iter().collect(),
            ..Recovered::default()
        };
        recovered.at = self.read(&key(b'm', "latest"))?;
        if recovered.at.is_none() {
            recovered.at = self.events(recovered.seq.saturating_sub(1), 1)?.last().map(|it| it.at);
        }
        for name in self.names(b'u')? {
            let serial = SerialNumber::parse(&name);
            match serial.ok().map_or(Ok(None), |it| self.stored(&it))? {
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
        recovered.lockers = self.locker_rows()?;
        recovered.batches = self.batch_rows(None, usize::MAX, crate::batch::Batch::is_open)?;
        recovered.lists = self.unfinished_lists()?;
        for name in self.names(b'b')? {
            let boot = self.read(&key(b'b', &name))?;
            recovered.boots.extend(boot.map(|boot| (name, boot)));
        }
        Ok(recovered)
    }

    fn locker_rows(&self) -> Result<BTreeMap<String, SharedLocker>, JournalError> {
        let mut lockers = BTreeMap::new();
        for name in self.names(b'g')? {
            let locker = self.read(&key(b'g', &name))?;
            lockers.extend(locker.map(|locker| (name, locker)));
        }
        Ok(lockers)
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

    /// The device as the index has it.
    fn stored(&self, serial: &SerialNumber) -> Result<Option<Device>, JournalError> {
        guarded(&self.dir, || device_row::read(&self.db, &self.dir, serial))
    }

    fn read<T: DeserializeOwned>(&self, key: &[u8]) -> Result<Option<T>, JournalError> {
        let value = guarded(&self.dir, || self.db.get(key).map_err(|source| self.failed("read", source)))?;
        value.map(|it| self.decode(&it)).transpose()
    }

    fn decode<T: DeserializeOwned>(&self, bytes: &[u8]) -> Result<T, JournalError> {
        decode(bytes).map_err(|error| damaged(&self.dir, &format!("a record cannot be read: {error}")))
    }

    fn failed(&self, action: &'static str, source: sled::Error) -> JournalError {
        JournalError::Store { action, dir: self.dir.clone(), source }
    }
}

/// Picks single records out of the log, in order.
struct Picker<'a> {
    store: &'a Store,
    walk: Option<Walk>,
    /// What is left of the commit that was read last.
    commit: VecDeque<Found>,
}

/// Records that are rather read over than looked up: about what lies between two noted places.
const NEAR: u64 = 64;

impl Picker<'_> {
    fn pick(&mut self, seq: u64) -> Result<Record, JournalError> {
        if let Some(record) = self.left(seq) {
            return Ok(record);
        }
        let near = |it: &Walk| (it.at().seq..it.at().seq + NEAR).contains(&(seq - 1));
        if !self.walk.as_ref().is_some_and(near) {
            self.walk = Some(self.store.walk_from(seq)?);
        }
        while let Some(walk) = self.walk.as_mut().filter(|it| it.at().seq < seq) {
            let Some(commit) = walk.next_commit()? else { break };
            self.commit = commit.into();
            if let Some(record) = self.left(seq) {
                return Ok(record);
            }
        }
        Err(damaged(&self.store.dir, &format!("record {seq} is not in the log")))
    }

    /// That record, if it is among what is left.
    fn left(&mut self, seq: u64) -> Option<Record> {
        while let Some(found) = self.commit.pop_front() {
            if found.at.seq == seq {
                return Some(found.record);
            }
        }
        None
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

/// A record that cannot follow those before it.
fn unfit(dir: &Path, record: &Record, why: &IllegalTransition) -> JournalError {
    damaged(dir, &format!("record {} does not fit: {why}", record.seq))
}

fn damaged(dir: &Path, what: &str) -> JournalError {
    JournalError::Damaged { dir: dir.to_owned(), what: what.to_owned() }
}

#[cfg(test)]
mod tests;
