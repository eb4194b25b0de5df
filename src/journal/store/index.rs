//! sled as the log's index: what the records make of each device, and where they lie.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::collections::btree_map::Entry as Slot;
use std::fs::File;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::Serialize;
use serde::de::DeserializeOwned;

use super::batches::Changes;
use super::files::io;
use super::places::Places;
use super::summaries::Folding;
use super::{FORMAT, device_row, key, presentations, unfit};
use crate::device::serial::SerialNumber;
use crate::device::{Device, IllegalTransition, State};
use crate::durable_fs;
use crate::journal::fold::{Change, change, told_key};
use crate::journal::log::Position;
use crate::journal::record::{decode, encode};
use crate::journal::{Entry, JournalError, VOCABULARY, What, is_pending};
use crate::report::slot::Open;

const CACHE_BYTES: u64 = 1 << 20;

/// What sled writes at once, and so the size of its buffers. No smaller than what the allocator gives a mapping of its
/// own (`crate::os`), and no smaller than four leaves of the longest rows (`device_row`).
const SEGMENT_BYTES: usize = 256 << 10;

/// What earlier versions had, sled's own among them.
const EARLIER_SEGMENT_BYTES: [usize; 2] = [512 << 10, 128 << 10];

/// How often some of the rows that were written are asked for again. sled lets go of pages where it has counted 64
/// accesses to one of 256 parts of its cache, and each serial number that is new reads a page of ten devices in which it is
/// not: a fast station had 22 MiB of such pages after 36,000 devices. So many times one after the other, the page stays at
/// hand, and all others of its part go.
const ASKED_TIMES: usize = 65;

/// Rows of a write that are asked for so, at most.
const ASKED_ROWS: usize = 256;

/// Rows to be written together; none is to be removed.
pub(super) type Rows = BTreeMap<Vec<u8>, Option<Vec<u8>>>;

/// The index, open for writing.
#[derive(Debug)]
pub(super) struct Index {
    pub(super) db: sled::Db,
    path: PathBuf,
    /// The journal's id.
    pub(super) id: String,
    pub(super) counts: BTreeMap<State, u64>,
    /// The newest record in it.
    pub(super) position: Position,
    /// A record up to which it is known to be on disk.
    pub(super) synced: Position,
    /// The newest places in the log that are noted.
    places: Places,
    /// The latest time that a record bears; none where an earlier version has not noted it.
    latest: Option<jiff::Timestamp>,
    /// What keeps the station from its work, by the newest record.
    down: Open,
}

/// How long sled's own lock is waited for. The journal's lock is held, so whoever has sled's is on
/// its way out: threads of a handle that was just dropped, or a process that was just killed.
const LOCK_PAUSE: Duration = Duration::from_millis(10);
const LOCK_TRIES: u32 = 500;

/// Opens sled; its panics are not caught here. One that an earlier version made has segments of another size, and keeps
/// them.
pub(super) fn open_sled(path: &Path) -> Result<sled::Db, JournalError> {
    let config = sled::Config::default().path(path).cache_capacity(CACHE_BYTES).flush_every_ms(None);
    let mut opened = open_when_free(&config.clone().segment_size(SEGMENT_BYTES));
    for earlier in EARLIER_SEGMENT_BYTES {
        if !matches!(opened, Err(sled::Error::Unsupported(_))) {
            break;
        }
        opened = open_when_free(&config.clone().segment_size(earlier));
    }
    opened.map_err(|source| JournalError::Store { action: "open", dir: path.to_owned(), source })
}

fn open_when_free(config: &sled::Config) -> sled::Result<sled::Db> {
    for _ in 0..LOCK_TRIES {
        match config.open() {
            Err(error) if is_locked(&error) => std::thread::park_timeout(LOCK_PAUSE),
            opened => return opened,
        }
    }
    config.open()
}

/// sled tells a lock that somebody has by its words alone.
fn is_locked(error: &sled::Error) -> bool {
    matches!(error, sled::Error::Io(it) if it.to_string().contains("could not acquire lock"))
}

impl Index {
    /// Makes an empty one in `path`, where nothing is yet.
    pub(super) fn create(path: &Path, id: &str) -> Result<Self, JournalError> {
        let db = open_sled(path)?;
        let position = Position::genesis(id);
        let it = Self {
            db,
            path: path.to_owned(),
            id: id.to_owned(),
            counts: BTreeMap::new(),
            position,
            synced: position,
            places: Places::default(),
            latest: None,
            down: Open::new(),
        };
        let mut rows = Rows::new();
        rows.insert(key(b'm', "format"), Some(it.encode(&FORMAT)?));
        rows.insert(key(b'm', "vocabulary"), Some(it.encode(&VOCABULARY)?));
        rows.insert(key(b'm', "id"), Some(it.encode(&id)?));
        rows.insert(key(b'm', "position"), Some(it.encode(&position)?));
        rows.insert(key(b'm', "synced"), Some(it.encode(&position)?));
        it.write(rows)?;
        Ok(it)
    }

    /// Opens the one in `path`.
    ///
    /// # Errors
    /// [`JournalError::Newer`] or [`JournalError::NewerVocabulary`] if a later version has written it;
    /// anything else that is no error of the system means that it is of no use.
    pub(super) fn open(path: &Path) -> Result<Self, JournalError> {
        let db = open_sled(path)?;
        let damage = |what: &str| JournalError::Damaged { dir: path.to_owned(), what: what.to_owned() };
        match read::<u32>(&db, path, &key(b'm', "format"))? {
            Some(FORMAT) => {}
            Some(found) if found > FORMAT => {
                return Err(JournalError::Newer { dir: path.to_owned(), found, known: FORMAT });
            }
            Some(_) => return Err(damage("an earlier version made it")),
            None => return Err(JournalError::Foreign { path: path.to_owned() }),
        }
        let found = read::<u32>(&db, path, &key(b'm', "vocabulary"))?;
        if let Some(found) = found.filter(|it| *it > VOCABULARY) {
            let dir = path.parent().unwrap_or(path).to_owned();
            return Err(JournalError::NewerVocabulary { dir, found, known: VOCABULARY });
        }
        let missing = || damage("its own place in the log is missing");
        let id = read(&db, path, &key(b'm', "id"))?.ok_or_else(missing)?;
        let position = read(&db, path, &key(b'm', "position"))?.ok_or_else(missing)?;
        let synced = read(&db, path, &key(b'm', "synced"))?.ok_or_else(missing)?;
        let counts = read::<Vec<_>>(&db, path, &key(b'm', "counts"))?.unwrap_or_default();
        let latest = read(&db, path, &key(b'm', "latest"))?;
        let down = read(&db, path, &key(b'm', "down"))?.unwrap_or_default();
        let places = Places::newest(&db, path)?;
        Ok(Self {
            db,
            path: path.to_owned(),
            id,
            counts: counts.into_iter().collect(),
            position,
            synced,
            places,
            latest,
            down,
        })
    }

    /// Takes in records that the log holds, with their places, all or none; says how many rows that
    /// took. It is not on disk then: see `checkpoint`. Records that it has already must not come again.
    pub(super) fn apply(&mut self, records: &[(&Entry, &Position)]) -> Result<usize, JournalError> {
        let Some((_, last)) = records.last() else { return Ok(0) };
        let mut rows = Rows::new();
        let mut devices = Devices::default();
        let mut batches = Changes::new(&self.db, &self.path);
        let (db, path) = (self.db.clone(), self.path.clone());
        let mut folding = Folding::new(&db, &path);
        for (entry, at) in records {
            let record = &entry.record;
            let device = devices.take(entry).map_err(|it| unfit(&self.path, record, &it))?;
            folding.take(record, device, &mut self.down, self.latest)?;
            self.latest = self.latest.max(Some(record.at));
            self.add(&mut rows, entry)?;
            batches.take(&mut rows, record, device)?;
            if self.places.note(at) {
                let (row, value) = self.places.row(&self.path)?;
                rows.insert(row, Some(value));
            }
            if let Some((device, before)) = device {
                if let Some(before) = before {
                    let count = self.counts.entry(before).or_default();
                    *count = count.saturating_sub(1);
                }
                *self.counts.entry(device.state).or_default() += 1;
            }
        }
        // Of several records of one device only the newest state is worth writing.
        for (serial, Told { device, is_new, news }) in &devices.0 {
            rows.extend(device_row::rows(&self.db, &self.path, device, *is_new, news)?);
            // Nothing is removed that was never there: it would cost as much as a row.
            if is_pending(device) || !is_new {
                rows.insert(key(b'u', serial.as_str()), is_pending(device).then(Vec::new));
            }
        }
        batches.finish(&mut rows)?;
        rows.extend(folding.rows()?);
        rows.insert(key(b'm', "down"), Some(self.encode(&self.down)?));
        let counts: Vec<_> = self.counts.iter().filter(|(_, count)| **count > 0).collect();
        rows.insert(key(b'm', "counts"), Some(self.encode(&counts)?));
        rows.insert(key(b'm', "latest"), Some(self.encode(&self.latest)?));
        rows.insert(key(b'm', "position"), Some(self.encode(last)?));
        rows.insert(key(b'm', "synced"), Some(self.encode(&self.synced)?));
        let count = rows.len();
        let written = rows.iter().filter(|it| it.1.is_some()).step_by(count.div_ceil(ASKED_ROWS));
        let some: Vec<_> = written.map(|it| it.0.clone()).collect();
        self.write(rows)?;
        self.let_go(&some)?;
        self.position = **last;
        Ok(count)
    }

    /// Notes, on disk before anything of it is written, that what only this version knows may be in it from now on.
    pub(super) fn note_vocabulary(&self) -> Result<(), JournalError> {
        // An earlier version has not noted any, or a lower one: a higher one is refused before.
        if read(&self.db, &self.path, &key(b'm', "vocabulary"))? != Some(VOCABULARY) {
            self.write(Rows::from([(key(b'm', "vocabulary"), Some(self.encode(&VOCABULARY)?))]))?;
            self.flush()?;
        }
        Ok(())
    }

    /// Puts all of it on disk, and notes that.
    pub(super) fn sync(&mut self) -> Result<(), JournalError> {
        // First what it holds, then the note that it does.
        self.flush()?;
        self.synced = self.position;
        self.write(Rows::from([(key(b'm', "synced"), Some(self.encode(&self.synced)?))]))?;
        self.flush()?;
        let conf = self.path.join("conf");
        File::open(&conf).and_then(|it| it.sync_all()).map_err(|source| io("sync", &conf, source))?;
        durable_fs::sync_dir(&self.path).map_err(|it| io("sync", &self.path, std::io::Error::other(it)))
    }

    fn flush(&self) -> Result<(), JournalError> {
        self.db.flush().map_err(|source| failed(&self.path, "flush", source))?;
        let path = self.path.join("db");
        let file = File::open(&path).map_err(|source| io("open", &path, source))?;
        file.sync_data().map_err(|source| io("sync", &path, source))
    }

    fn add(&self, rows: &mut Rows, entry: &Entry) -> Result<(), JournalError> {
        match change(&entry.record) {
            Some(Change::Presentation(presentation, known)) => {
                presentations::note(&self.db, &self.path, rows, presentation, known)?;
            }
            Some(Change::Rules(id, rules)) => {
                rows.insert(key(b'r', &id.to_string()), Some(self.encode(rules)?));
            }
            Some(Change::Policy(name, is_there)) => {
                rows.insert(key(b's', name), is_there.then(Vec::new));
            }
            Some(Change::Locker(name, locker)) => {
                rows.insert(key(b'g', name), Some(self.encode(&locker)?));
            }
            Some(Change::Reset(fixture, boot)) => {
                presentations::forget(&self.db, &self.path, rows, fixture)?;
                rows.insert(key(b'b', fixture), Some(self.encode(&boot)?));
            }
            // What changes a batch: see `batches`.
            Some(
                Change::ListBegun(..) | Change::ListPart(..) | Change::ListDropped(..) | Change::Batch(..),
            )
            | None => {}
        }
        if let Some((told, serial)) = told_key(&entry.record) {
            let row = key(b'k', &told.to_string());
            // Whoever told it first keeps it.
            let is_new = self.db.get(&row).map_err(|source| failed(&self.path, "read", source))?.is_none();
            if is_new && !rows.contains_key(&row) {
                rows.insert(row, Some(self.encode(serial)?));
            }
        }
        Ok(())
    }

    fn write(&self, rows: Rows) -> Result<(), JournalError> {
        let mut batch = sled::Batch::default();
        for (row, value) in rows {
            match value {
                Some(value) => batch.insert(row, value),
                None => batch.remove(row),
            }
        }
        self.db.apply_batch(batch).map_err(|source| failed(&self.path, "write", source))
    }

    /// Has sled let go of pages, by asking for these rows, which were written just now.
    fn let_go(&self, rows: &[Vec<u8>]) -> Result<(), JournalError> {
        for row in rows.iter().flat_map(|it| std::iter::repeat_n(it, ASKED_TIMES)) {
            self.db.contains_key(row).map_err(|source| failed(&self.path, "read", source))?;
        }
        free();
        Ok(())
    }

    fn encode<T: Serialize>(&self, value: &T) -> Result<Vec<u8>, JournalError> {
        encode(value).map_err(|error| JournalError::Damaged {
            dir: self.path.clone(),
            what: format!("a row cannot be written: {error}"),
        })
    }
}

/// Frees what this thread has let go of in sled. What a thread lets go of waits until it has 64 of a kind together, and a
/// thread that only syncs comes to one in a second: a buffer of [`SEGMENT_BYTES`] each, 8 MiB of them.
pub(super) fn free() {
    crossbeam_epoch::pin().flush();
}

/// Devices as they are after the records so far.
#[derive(Default)]
struct Devices<'a>(BTreeMap<&'a SerialNumber, Told<'a>>);

/// What the records so far tell of a device.
struct Told<'a> {
    device: Cow<'a, Device>,
    /// It was not there before them.
    is_new: bool,
    /// Their numbers.
    news: Vec<u64>,
}

impl<'a> Devices<'a> {
    /// The device after a record, and its state before. Where the record comes without, it follows from the one before.
    fn take(&mut self, entry: &'a Entry) -> Result<Option<(&Device, Option<State>)>, IllegalTransition> {
        let record = &entry.record;
        let (What::Device(event), Some(serial)) = (&record.what, &record.serial) else { return Ok(None) };
        let (told, before) = match (&entry.device, self.0.entry(serial)) {
            (Some((device, before)), Slot::Vacant(slot)) => {
                let (device, is_new) = (Cow::Borrowed(&**device), before.is_none());
                (slot.insert(Told { device, is_new, news: Vec::new() }), *before)
            }
            (Some((device, before)), Slot::Occupied(slot)) => {
                let it = slot.into_mut();
                it.device = Cow::Borrowed(&**device);
                (it, *before)
            }
            (None, Slot::Occupied(slot)) => {
                let it = slot.into_mut();
                let before = it.device.state;
                it.device.to_mut().apply(record.seq, record.at, event)?;
                (it, Some(before))
            }
            // The first of those that are given at once always comes with it.
            (None, Slot::Vacant(_)) => {
                return Err(IllegalTransition {
                    event: event.name(),
                    serial: serial.clone(),
                    state: "unknown",
                });
            }
        };
        told.news.push(record.seq);
        Ok(Some((&told.device, before)))
    }
}

pub(super) fn read<T: DeserializeOwned>(
    db: &sled::Db,
    path: &Path,
    key: &[u8],
) -> Result<Option<T>, JournalError> {
    let value = db.get(key).map_err(|source| failed(path, "read", source))?;
    value.map(|it| decode(&it)).transpose().map_err(|error| JournalError::Damaged {
        dir: path.to_owned(),
        what: format!("a row cannot be read: {error}"),
    })
}

pub(super) fn failed(path: &Path, action: &'static str, source: sled::Error) -> JournalError {
    JournalError::Store { action, dir: path.to_owned(), source }
}
