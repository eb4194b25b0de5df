//! The rows that reports are made from: a [`Summary`] for each device in the order of their first presentations,
//! and a [`Slot`] for each five minutes in which something happened.
//!
//! Both are folds of the records, each row with the number of the newest record in it, so that a row that a
//! power cut has taken back is found out at a start like a device's.

use std::collections::{BTreeMap, HashMap};
use std::ops::ControlFlow;
use std::path::Path;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::guard::guarded;
use super::index::{failed, read};
use super::scan::scan;
use super::{Store, damaged, key};
use crate::device::serial::SerialNumber;
use crate::device::{Device, State};
use crate::journal::record::{decode, encode};
use crate::journal::{JournalError, Record, What};
use crate::report::slot::{self, Open, Slot};
use crate::report::source::{Head, Source};
use crate::report::summary::{Summary, is_work, to_millisecond};

/// A row and what is to stand in it.
type Row = (Vec<u8>, Option<Vec<u8>>);

/// When a batch's devices were worked on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
struct Span {
    /// The first presentation of any of them.
    #[serde(with = "jiff::fmt::serde::timestamp::millisecond::required")]
    first: Timestamp,
    /// The newest event that was work on one of them.
    #[serde(with = "jiff::fmt::serde::timestamp::millisecond::required")]
    last: Timestamp,
    /// The newest record of any of them, work or not.
    seq: u64,
}

/// The rows that records change, as they will be written.
#[derive(Debug)]
pub(super) struct Folding<'a> {
    db: &'a sled::Db,
    path: &'a Path,
    summaries: HashMap<&'a SerialNumber, Summary>,
    slots: BTreeMap<i64, Slot>,
    batches: BTreeMap<String, Span>,
    late: Vec<Row>,
    moved: Vec<Row>,
}

impl<'a> Folding<'a> {
    pub(super) fn new(db: &'a sled::Db, path: &'a Path) -> Self {
        let (summaries, slots, batches) = (HashMap::new(), BTreeMap::new(), BTreeMap::new());
        Self { db, path, summaries, slots, batches, late: Vec::new(), moved: Vec::new() }
    }

    /// Takes in a record; `device` is that after it, with its state before, `open` is what keeps the station from its
    /// work, `latest` the latest time of a record before.
    pub(super) fn take(
        &mut self,
        record: &'a Record,
        device: Option<(&Device, Option<State>)>,
        open: &mut Open,
        latest: Option<Timestamp>,
    ) -> Result<(), JournalError> {
        for (number, news) in slot::of(record, open, latest) {
            self.slot(number)?.add(&news);
        }
        let (Some((device, before)), What::Device(event), Some(serial)) =
            (device, &record.what, &record.serial)
        else {
            return Ok(());
        };
        let begun = slot::of_first(device);
        let known = match self.summaries.remove(serial) {
            None if begun.is_some() => read(self.db, self.path, &row_key(device.admitted_at, device))?,
            None if before.is_some() => read(self.db, self.path, &summary_key(device))?,
            known => known,
        };
        if let Some((number, news)) = &begun {
            self.slot(*number)?.add(news);
            // It is found by the time of its first presentation from now on.
            self.moved.push((row_key(device.admitted_at, device), None));
        }
        let had_passed = known.as_ref().is_some_and(|it: &Summary| it.passed.is_some());
        let had_batch = begun.is_none() && known.as_ref().is_some_and(|it| it.batch.is_some());
        let it = Summary::after(known, device, event, record.at);
        if let Some(batch) = it.batch.as_ref().filter(|_| it.was_presented()) {
            let is_work = !had_batch || is_work(event, before, device);
            let last = if is_work { it.updated } else { it.first };
            self.note_batch(batch, Span { first: it.first, last, seq: record.seq })?;
        }
        // Where the pass is in a later hour than the first presentation, it is found by its own time too.
        if let Some(passed) = it.passed.filter(|passed| !had_passed && hour(*passed) != hour(it.first)) {
            self.late.push((late_key(passed, device), Some(Vec::new())));
        }
        self.summaries.insert(serial, it);
        Ok(())
    }

    fn slot(&mut self, number: i64) -> Result<&mut Slot, JournalError> {
        if !self.slots.contains_key(&number) {
            let known = read(self.db, self.path, &slot_key(number))?.unwrap_or_default();
            self.slots.insert(number, known);
        }
        Ok(self.slots.entry(number).or_default())
    }

    fn note_batch(&mut self, batch: &str, news: Span) -> Result<(), JournalError> {
        let known = match self.batches.get(batch) {
            Some(it) => Some(*it),
            None => read(self.db, self.path, &key(b'y', batch))?,
        };
        let known: Span = known.unwrap_or(news);
        let (first, last) = (known.first.min(news.first), known.last.max(news.last));
        self.batches.insert(batch.to_owned(), Span { first, last, seq: news.seq });
        Ok(())
    }

    /// All rows.
    pub(super) fn rows(self) -> Result<Vec<Row>, JournalError> {
        // What goes goes first: a row may come back at the same place.
        let mut rows = self.moved;
        rows.extend(self.late);
        let path = self.path;
        for it in self.summaries.values() {
            rows.push((key_of(it), Some(bytes(path, it)?)));
        }
        for (number, it) in &self.slots {
            rows.push((slot_key(*number), Some(bytes(path, it)?)));
        }
        for (batch, it) in &self.batches {
            rows.push((key(b'y', batch), Some(bytes(path, it)?)));
        }
        Ok(rows)
    }
}

fn bytes<T: Serialize>(path: &Path, it: &T) -> Result<Vec<u8>, JournalError> {
    encode(it).map_err(|error| damaged(path, &format!("a row for reports cannot be written: {error}")))
}

fn hour(at: Timestamp) -> i64 {
    at.as_second().div_euclid(3600)
}

/// A number as it is ordered among keys.
fn ordered(number: i64) -> [u8; 8] {
    (number.cast_unsigned() ^ (1 << 63)).to_be_bytes()
}

fn time_key(letter: u8, at: Timestamp) -> Vec<u8> {
    [&[letter][..], &ordered(at.as_millisecond())].concat()
}

fn key_of(it: &Summary) -> Vec<u8> {
    [&time_key(b't', it.first)[..], it.serial.as_str().as_bytes()].concat()
}

fn summary_key(device: &Device) -> Vec<u8> {
    row_key(device.first_at(), device)
}

fn row_key(first: Timestamp, device: &Device) -> Vec<u8> {
    [&time_key(b't', to_millisecond(first))[..], device.serial.as_str().as_bytes()].concat()
}

fn late_key(passed: Timestamp, device: &Device) -> Vec<u8> {
    [&time_key(b'f', passed)[..], &summary_key(device)[1..]].concat()
}

fn slot_key(number: i64) -> Vec<u8> {
    [&[b'q'][..], &ordered(number)].concat()
}

/// Whether the index holds the newest summary of that device and what its batch has of it, and where it was first
/// presented later than it came into the journal, nothing of it at its earlier place and what that presentation counts.
pub(super) fn has_summary(db: &sled::Db, path: &Path, device: &Device) -> Result<bool, JournalError> {
    let (row, earlier) = (summary_key(device), row_key(device.admitted_at, device));
    let found: Option<Summary> = read(db, path, &row)?;
    let Some(found) = found.filter(|it| it.seqs.1 == device.last_seq) else { return Ok(false) };
    if let Some(batch) = found.batch.as_ref().filter(|_| found.was_presented()) {
        let span: Option<Span> = read(db, path, &key(b'y', batch))?;
        if span.is_none_or(|it| it.seq < device.last_seq) {
            return Ok(false);
        }
    }
    let Some(presented) = device.presented_at else { return Ok(true) };
    if row != earlier && read::<Summary>(db, path, &earlier)?.is_some() {
        return Ok(false);
    }
    // Of one that was presented again nothing tells which record was the first.
    let counted = BTreeMap::from([(slot::number(presented), device.presentation.seq)]);
    Ok(device.presentations > 1 || has_slots(db, path, &counted)?)
}

/// The slots whose rows have to hold records up to those numbers, if the index holds `record`.
pub(super) fn note_slots(record: &Record, newest: &mut BTreeMap<i64, u64>) {
    // What a hindrance has spread over earlier slots follows from the rows that are written with them.
    if let What::Device(_) = &record.what {
        for (number, it) in slot::of(record, &mut Open::new(), None) {
            newest.insert(number, it.seq);
        }
    }
}

/// Whether the index holds those slots as they were written last.
pub(super) fn has_slots(
    db: &sled::Db,
    path: &Path,
    newest: &BTreeMap<i64, u64>,
) -> Result<bool, JournalError> {
    for (number, seq) in newest {
        let found: Option<Slot> = read(db, path, &slot_key(*number))?;
        if found.is_none_or(|it| it.seq < *seq) {
            return Ok(false);
        }
    }
    Ok(true)
}

impl Source for Store {
    fn head(&self) -> Result<Head, JournalError> {
        self.caught_up()?;
        let newest = self.shared.newest();
        Ok(Head { seq: newest.seq, hash: newest.hash.to_string() })
    }

    fn summaries(
        &self,
        begin: Timestamp,
        end: Timestamp,
        each: &mut dyn FnMut(Summary) -> ControlFlow<()>,
    ) -> Result<(), JournalError> {
        self.caught_up()?;
        guarded(&self.dir, || {
            for row in scan(&self.db, time_key(b't', begin)..time_key(b't', end)) {
                let (_, value) = row.map_err(|source| failed(&self.dir, "read", source))?;
                if each(self.decode(&value)?).is_break() {
                    break;
                }
            }
            Ok(())
        })
    }

    fn passed_later(
        &self,
        begin: Timestamp,
        end: Timestamp,
        each: &mut dyn FnMut(Summary) -> ControlFlow<()>,
    ) -> Result<(), JournalError> {
        self.caught_up()?;
        // Those of the hour in which the time begins are found by their first presentations.
        let hour = Timestamp::from_second(hour(begin) * 3600).unwrap_or(begin);
        let mut enough = ControlFlow::Continue(());
        self.summaries(hour, begin, &mut |it| {
            let same_hour = it.passed.is_some_and(|at| self::hour(at) == self::hour(it.first));
            if same_hour && it.passed.is_some_and(|at| (begin..end).contains(&at)) {
                enough = each(it);
            }
            enough
        })?;
        if enough.is_break() {
            return Ok(());
        }
        guarded(&self.dir, || {
            for row in scan(&self.db, time_key(b'f', begin)..time_key(b'f', end)) {
                let (row, _) = row.map_err(|source| failed(&self.dir, "read", source))?;
                let summary = [b"t", row.get(9..).unwrap_or_default()].concat();
                let it: Option<Summary> = read(&self.db, &self.dir, &summary)?;
                let Some(it) = it else { return Err(damaged(&self.dir, "a device's summary is missing")) };
                if it.first < begin && each(it).is_break() {
                    break;
                }
            }
            Ok(())
        })
    }

    fn slots(&self, begin: Timestamp, end: Timestamp, now: Timestamp) -> Result<Slot, JournalError> {
        self.caught_up()?;
        // A slot belongs to the span in which it begins.
        let first = begin.as_second().div_euclid(slot::SECONDS)
            + i64::from(begin.as_second().rem_euclid(slot::SECONDS) > 0);
        let after = end.as_second().div_euclid(slot::SECONDS)
            + i64::from(end.as_second().rem_euclid(slot::SECONDS) > 0);
        let mut sum = Slot::default();
        guarded(&self.dir, || {
            for row in self.db.range(slot_key(first)..slot_key(after)) {
                let (_, value) = row.map_err(|source| failed(&self.dir, "read", source))?;
                let it: Slot = decode(&value)
                    .map_err(|error| damaged(&self.dir, &format!("a slot cannot be read: {error}")))?;
                sum.take_in(&it);
            }
            let open: Open = read(&self.db, &self.dir, &key(b'm', "down"))?.unwrap_or_default();
            for (number, it) in slot::so_far(&open, now) {
                if (first..after).contains(&number) {
                    sum.take_in(&it);
                }
            }
            Ok(())
        })?;
        Ok(sum)
    }

    fn batch(&self, id: &str) -> Result<Option<(Timestamp, Timestamp)>, JournalError> {
        self.caught_up()?;
        let span: Option<Span> = self.read(&key(b'y', id))?;
        Ok(span.map(|it| (it.first, it.last)))
    }

    fn summary(&self, serial: &SerialNumber) -> Result<Option<Summary>, JournalError> {
        self.caught_up()?;
        match self.stored(serial)? {
            Some(device) => self.read(&summary_key(&device)),
            None => Ok(None),
        }
    }
}
