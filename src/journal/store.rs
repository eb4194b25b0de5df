//! The journal in sled.
//!
//! Measured by the project (2026-11, ext4, crash images): sled's `flush` hands the bytes to the kernel and syncs a
//! range of them, not the file's new size, and after a power cut whole databases came back empty.
//! So each commit is one sled batch, sled's flush, and then an `fdatasync` of the same file through a
//! descriptor of our own (which also sees write errors that sled only logs). The files and both
//! directories are synced when the journal is made. Values stay small: sled keeps what is over 128 KiB
//! in files that it never syncs.
//!
//! Everything lies in one tree, so that one batch is all or none. Keys begin with a letter:
//!
//! | key | value |
//! |---|---|
//! | `e` seq | the record |
//! | `h` serial 0 seq | nothing: the records of a device |
//! | `d` serial | the device after its newest record |
//! | `u` serial | nothing: something is left to do for it |
//! | `p` fixture 0 boot id | the presentation |
//! | `r` hash | rules |
//! | `s` name | nothing: a shared policy that is there |
//! | `b` fixture | its last reset |
//! | `m` name | `format`, `id`, `seq`, `counts` |

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{Read as _, Seek as _, Write as _};
use std::panic::AssertUnwindSafe;
use std::path::{Path, PathBuf};

use serde::Serialize;
use serde::de::DeserializeOwned;

use super::record::{decode, encode};
use super::{
    Entry, Journal, JournalError, KnownPresentation, Record, Recovered, Shelf, StationEvent, What, is_pending,
};
use crate::device::event::PresentationKey;
use crate::device::rules::{ProductRules, RulesId};
use crate::device::serial::SerialNumber;
use crate::device::{Device, State};
use crate::durable_fs;

/// Format of the store as a whole.
pub const FORMAT: u32 = 1;

/// Most devices that one call of [`Store::devices`] looks at.
pub const MAX_SCAN: usize = 100_000;

const CACHE_BYTES: u64 = 16 << 20;

/// Holds a journal for this process alone, from before sled is opened until it is dropped.
#[derive(Debug)]
pub struct JournalLock {
    dir: PathBuf,
    _file: File,
}

impl JournalLock {
    /// Takes the lock of the journal in `dir`, making the directory if it is not there.
    ///
    /// # Errors
    /// [`JournalError::Held`] says which process has it.
    pub fn take(dir: &Path) -> Result<Self, JournalError> {
        durable_fs::create_dir(dir, 0o700)
            .map_err(|source| io("make", dir, std::io::Error::other(source)))?;
        let path = dir.join("lock");
        let mut file = File::options()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .open(&path)
            .map_err(|source| io("open", &path, source))?;
        if rustix::fs::flock(&file, rustix::fs::FlockOperation::NonBlockingLockExclusive).is_err() {
            let mut holder = String::new();
            // What cannot be read is told as unknown: the lock itself is what counts.
            let _ = file.read_to_string(&mut holder);
            let holder = if holder.trim().is_empty() {
                "unknown process".to_owned()
            } else {
                holder.trim().to_owned()
            };
            return Err(JournalError::Held { dir: dir.to_owned(), holder });
        }
        file.set_len(0)
            .and_then(|()| file.rewind())
            .and_then(|()| writeln!(file, "process {}", std::process::id()))
            .map_err(|source| io("write", &path, source))?;
        Ok(Self { dir: dir.to_owned(), _file: file })
    }
}

/// The journal's reading half. Cheap to clone; sees what was committed.
#[derive(Debug, Clone)]
pub struct Store {
    dir: PathBuf,
    db: sled::Db,
}

/// The journal's writing half: the only one.
#[derive(Debug)]
pub struct StoreWriter {
    store: Store,
    /// The database file, opened a second time: what is synced at each commit.
    file: File,
    counts: BTreeMap<State, u64>,
    _lock: JournalLock,
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

/// Opens the journal under its lock, or makes a new one.
///
/// # Errors
/// It is damaged, foreign, of a newer version, or the disk refuses.
pub fn open(lock: JournalLock) -> Result<Opened, JournalError> {
    let dir = lock.dir.clone();
    let path = dir.join("sled");
    let fresh = !path.exists();
    // sled panics on some kinds of damage (measured: a flipped byte far back): a panic while opening is an answer.
    let db = std::panic::catch_unwind(AssertUnwindSafe(|| {
        sled::Config::default().path(&path).cache_capacity(CACHE_BYTES).flush_every_ms(None).open()
    }))
    .map_err(|_| damaged(&dir, "sled cannot read it"))?
    .map_err(|source| match source {
        sled::Error::Corruption { .. } => damaged(&dir, "sled found a damaged page"),
        source => JournalError::Store { action: "open", dir: dir.clone(), source },
    })?;
    let file = File::options()
        .read(true)
        .write(true)
        .open(path.join("db"))
        .map_err(|source| io("open", &path.join("db"), source))?;
    let store = Store { dir: dir.clone(), db };
    let id = store.check_format(fresh)?;
    for name in ["conf", "db"] {
        let path = path.join(name);
        File::open(&path).and_then(|it| it.sync_all()).map_err(|source| io("sync", &path, source))?;
    }
    for path in [path.as_path(), &dir] {
        durable_fs::sync_dir(path).map_err(|source| io("sync", path, std::io::Error::other(source)))?;
    }
    let recovered = store.recover()?;
    let writer = StoreWriter { store: store.clone(), file, counts: recovered.counts.clone(), _lock: lock };
    Ok(Opened { store, writer, recovered, id })
}

impl Journal for StoreWriter {
    fn commit(&mut self, entries: &[Entry]) -> Result<(), JournalError> {
        let Some(last) = entries.last() else { return Ok(()) };
        let mut batch = sled::Batch::default();
        let mut devices = BTreeMap::new();
        let mut fresh = Vec::new();
        for entry in entries {
            self.add(&mut batch, &mut fresh, entry)?;
            if let Some((device, before)) = &entry.device {
                if let Some(before) = before {
                    let count = self.counts.entry(*before).or_default();
                    *count = count.saturating_sub(1);
                }
                *self.counts.entry(device.state).or_default() += 1;
                devices.insert(&device.serial, device);
            }
        }
        // Of several records of one device only the newest state is worth writing.
        for (serial, device) in devices {
            batch.insert(key(b'd', serial.as_str()), self.store.encode(device)?);
            if is_pending(device) {
                batch.insert(key(b'u', serial.as_str()), &[]);
            } else {
                batch.remove(key(b'u', serial.as_str()));
            }
        }
        batch.insert(key(b'm', "seq"), self.store.encode(&last.record.seq)?);
        let counts: Vec<_> = self.counts.iter().collect();
        batch.insert(key(b'm', "counts"), self.store.encode(&counts)?);
        self.store.db.apply_batch(batch).map_err(|source| self.store.failed("write", source))?;
        self.store.db.flush().map_err(|source| self.store.failed("flush", source))?;
        self.file.sync_data().map_err(|source| io("sync", &self.store.dir.join("sled/db"), source))
    }
}

impl StoreWriter {
    /// Adds a record to a batch. `fresh` are the presentations that are in the batch already: sled does
    /// not show them yet.
    fn add(
        &self,
        batch: &mut sled::Batch,
        fresh: &mut Vec<Vec<u8>>,
        entry: &Entry,
    ) -> Result<(), JournalError> {
        let Record { seq, serial, what, .. } = &entry.record;
        batch.insert(seq_key(b'e', *seq), self.store.encode(&entry.record)?);
        if let Some(serial) = serial {
            batch.insert(history_key(serial, *seq), &[]);
        }
        match what {
            What::Device(event) => {
                if let (Some((presentation, outcome)), Some(serial)) = (event.presentation(), serial) {
                    let known = KnownPresentation { serial: serial.clone(), outcome };
                    let key = presentation_key(presentation);
                    batch.insert(key.clone(), self.store.encode(&known)?);
                    fresh.push(key);
                }
            }
            What::Station(StationEvent::Rules { id, rules }) => {
                batch.insert(key(b'r', &id.to_string()), self.store.encode(rules)?);
            }
            What::Station(StationEvent::PolicyReady { name }) => batch.insert(key(b's', name), &[]),
            What::Station(StationEvent::PolicyLost { name }) => batch.remove(key(b's', name)),
            What::Station(StationEvent::FixtureReset { fixture, boot }) => {
                batch.insert(key(b'b', fixture), self.store.encode(boot)?);
                // Presentations of earlier resets can be asked for no more.
                let prefix = [&key(b'p', fixture)[..], &[0]].concat();
                fresh.iter().filter(|it| it.starts_with(&prefix)).for_each(|it| batch.remove(it.clone()));
                for row in self.store.db.scan_prefix(prefix) {
                    let (row, _) = row.map_err(|source| self.store.failed("read", source))?;
                    batch.remove(row);
                }
            }
            What::Station(_) => {}
        }
        Ok(())
    }
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
        self.db
            .range(seq_key(b'e', after.saturating_add(1))..key(b'f', ""))
            .take(limit)
            .map(|row| {
                row.map_err(|source| self.failed("read", source)).and_then(|(_, value)| self.decode(&value))
            })
            .collect()
    }

    /// The newest `limit` records of a device, oldest first.
    ///
    /// # Errors
    /// A record cannot be read.
    pub fn history(&self, serial: &SerialNumber, limit: usize) -> Result<Vec<Record>, JournalError> {
        let prefix = [&key(b'h', serial.as_str())[..], &[0]].concat();
        let mut records = Vec::new();
        for row in self.db.scan_prefix(prefix).rev().take(limit) {
            let (row, _) = row.map_err(|source| self.failed("read", source))?;
            let seq = row.get(row.len().saturating_sub(8)..).and_then(|it| it.try_into().ok());
            let Some(seq) = seq.map(u64::from_be_bytes) else { continue };
            records.extend(self.read::<Record>(&seq_key(b'e', seq))?);
        }
        records.reverse();
        Ok(records)
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

    /// Bytes on disk.
    #[must_use]
    pub fn size_on_disk(&self) -> u64 {
        self.db.size_on_disk().unwrap_or(0)
    }

    fn check_format(&self, fresh: bool) -> Result<String, JournalError> {
        let format: Option<u32> = self.read(&key(b'm', "format"))?;
        match format {
            Some(FORMAT) => {
                self.read(&key(b'm', "id"))?.ok_or_else(|| damaged(&self.dir, "its id is missing"))
            }
            Some(found) if found > FORMAT => {
                Err(JournalError::Newer { dir: self.dir.clone(), found, known: FORMAT })
            }
            Some(_) => Err(damaged(&self.dir, "its format is not known")),
            None if fresh || self.db.is_empty() => {
                let mut random = [0; 8];
                aws_lc_rs::rand::fill(&mut random).map_err(|_| damaged(&self.dir, "no random numbers"))?;
                let id = format!("{:016x}", u64::from_be_bytes(random));
                let mut batch = sled::Batch::default();
                batch.insert(key(b'm', "format"), self.encode(&FORMAT)?);
                batch.insert(key(b'm', "id"), self.encode(&id)?);
                self.db.apply_batch(batch).map_err(|source| self.failed("write", source))?;
                self.db.flush().map_err(|source| self.failed("flush", source))?;
                Ok(id)
            }
            None => Err(JournalError::Foreign { path: self.dir.join("sled") }),
        }
    }

    fn recover(&self) -> Result<Recovered, JournalError> {
        let mut recovered = Recovered {
            seq: self.read(&key(b'm', "seq"))?.unwrap_or(0),
            counts: self.read::<Vec<_>>(&key(b'm', "counts"))?.unwrap_or_default().into_iter().collect(),
            ..Recovered::default()
        };
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

    fn encode<T: Serialize>(&self, value: &T) -> Result<Vec<u8>, JournalError> {
        encode(value).map_err(|error| damaged(&self.dir, &format!("a record cannot be written: {error}")))
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

fn history_key(serial: &SerialNumber, seq: u64) -> Vec<u8> {
    [&key(b'h', serial.as_str())[..], &[0], &seq.to_be_bytes()].concat()
}

fn presentation_key(it: &PresentationKey) -> Vec<u8> {
    [&key(b'p', &it.fixture)[..], &[0], &it.boot.to_be_bytes(), &it.id.to_be_bytes()].concat()
}

fn damaged(dir: &Path, what: &str) -> JournalError {
    JournalError::Damaged { dir: dir.to_owned(), what: what.to_owned() }
}

fn io(action: &'static str, path: &Path, source: std::io::Error) -> JournalError {
    JournalError::Io { action, path: path.to_owned(), source }
}

#[cfg(test)]
mod tests;
