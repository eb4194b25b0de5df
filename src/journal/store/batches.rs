//! Batches in the index: a row for each, and one for each part of a list.
//!
//! A part's row has the list's number and the part's first serial number in its key, so that a serial number can be
//! only in the last part that does not begin behind it.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use super::guard::guarded;
use super::index::{Rows, failed, read};
use super::scan::scan;
use super::{Store, damaged, device_row, key, seq_key};
use crate::batch::{Batch, BatchId};
use crate::device::serial::SerialNumber;
use crate::device::{Device, State};
use crate::journal::fold::{Change, batch_after, change, moved};
use crate::journal::record::{decode, encode};
use crate::journal::{JournalError, Record};

/// Serial numbers of a list that one call of [`Store::listed`] looks at, at most.
pub const MAX_LISTED_SCAN: usize = 10_000;

/// Batches that records change, on their way into the index.
pub(super) struct Changes<'a> {
    db: &'a sled::Db,
    path: &'a Path,
    batches: BTreeMap<BatchId, Option<Batch>>,
}

impl<'a> Changes<'a> {
    pub(super) fn new(db: &'a sled::Db, path: &'a Path) -> Self {
        Self { db, path, batches: BTreeMap::new() }
    }

    /// Takes in what a record changes; `device` is that after it, with its state before.
    pub(super) fn take(
        &mut self,
        rows: &mut Rows,
        record: &Record,
        device: Option<(&Device, Option<State>)>,
    ) -> Result<(), JournalError> {
        match change(record) {
            Some(Change::ListBegun(id)) => {
                rows.insert(seq_key(b'o', record.seq), Some(encoded(self.path, id)?));
            }
            Some(Change::ListPart(list, serials)) => {
                if let Some(first) = serials.first() {
                    rows.insert(part_key(list, first.as_str()), Some(encoded(self.path, &serials)?));
                }
            }
            Some(Change::ListDropped(list)) => self.drop_list(rows, list)?,
            Some(Change::Batch(id, list)) => {
                if let Some(list) = list {
                    rows.insert(seq_key(b'o', list), None);
                }
                let before = self.find(id)?.take();
                *self.find(id)? = batch_after(before, record);
            }
            _ => {}
        }
        if let Some((device, before)) = device
            && let Some(it) = moved(record, device, before)
            && let Ok(id) = BatchId::parse(it.batch)
            && let Some(batch) = self.find(&id)?
        {
            batch.moves(record.seq, it.extra, it.before, it.after);
        }
        Ok(())
    }

    /// The rows of the batches that were changed.
    pub(super) fn finish(self, rows: &mut Rows) -> Result<(), JournalError> {
        for (id, batch) in self.batches {
            if let Some(batch) = batch {
                rows.insert(key(b'w', id.as_str()), Some(encoded(self.path, &batch)?));
            }
        }
        Ok(())
    }

    fn find(&mut self, id: &BatchId) -> Result<&mut Option<Batch>, JournalError> {
        if !self.batches.contains_key(id) {
            self.batches.insert(id.clone(), read(self.db, self.path, &key(b'w', id.as_str()))?);
        }
        Ok(self.batches.entry(id.clone()).or_default())
    }

    /// All parts of a list, whether written or about to be.
    fn drop_list(&self, rows: &mut Rows, list: u64) -> Result<(), JournalError> {
        let prefix = seq_key(b'e', list);
        for row in self.db.scan_prefix(&prefix) {
            let (row, _) = row.map_err(|source| failed(self.path, "read", source))?;
            rows.insert(row.to_vec(), None);
        }
        for (_, row) in rows.range_mut(prefix.clone()..).take_while(|(row, _)| row.starts_with(&prefix)) {
            *row = None;
        }
        rows.insert(seq_key(b'o', list), None);
        Ok(())
    }
}

/// What records that the index should hold say of batches.
#[derive(Debug, Default)]
pub(super) struct Said {
    batches: BTreeMap<BatchId, u64>,
    /// Rows that have to be there, by their list.
    rows: BTreeMap<u64, BTreeSet<Vec<u8>>>,
}

impl Said {
    pub(super) fn note(&mut self, record: &Record) {
        match change(record) {
            Some(Change::ListBegun(_)) => {
                self.rows.entry(record.seq).or_default().insert(seq_key(b'o', record.seq));
            }
            Some(Change::ListPart(list, serials)) => {
                let first = serials.first().map(|it| part_key(list, it.as_str()));
                self.rows.entry(list).or_default().extend(first);
            }
            Some(Change::ListDropped(list)) => drop(self.rows.remove(&list)),
            Some(Change::Batch(id, list)) => {
                if let Some(rows) = list.and_then(|it| self.rows.get_mut(&it)) {
                    rows.retain(|it| it[0] != b'o');
                }
                self.batches.insert(id.clone(), record.seq);
            }
            _ => {}
        }
    }

    /// A device with its newest record, which may have changed its batch.
    pub(super) fn note_device(&mut self, batch: Option<&str>, seq: u64) {
        if let Some(id) = batch.and_then(|it| BatchId::parse(it).ok()) {
            let newest = self.batches.entry(id).or_default();
            *newest = seq.max(*newest);
        }
    }

    /// Whether the index holds it all.
    pub(super) fn check(&self, db: &sled::Db, dir: &Path) -> Result<(), JournalError> {
        for row in self.rows.values().flatten() {
            if !db.contains_key(row).map_err(|source| failed(dir, "read", source))? {
                return Err(damaged(dir, "the index has lost a part of a list of serial numbers"));
            }
        }
        for (id, seq) in &self.batches {
            let batch: Option<Batch> = read(db, dir, &key(b'w', id.as_str()))?;
            // A device may name a batch that was never opened here.
            if batch.is_some_and(|it| it.last_seq < *seq) {
                return Err(damaged(dir, &format!("the index holds an old state of batch {id}")));
            }
        }
        Ok(())
    }
}

fn part_key(list: u64, first: &str) -> Vec<u8> {
    [&seq_key(b'e', list)[..], first.as_bytes()].concat()
}

fn encoded<T: serde::Serialize>(path: &Path, value: &T) -> Result<Vec<u8>, JournalError> {
    encode(value).map_err(|error| damaged(path, &format!("a row cannot be written: {error}")))
}

/// A part of a list.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ListedPage {
    /// What was looked for, in ascending order.
    pub found: Vec<Listed>,
    /// Behind which serial number the next part begins; none if this is the last.
    pub next: Option<SerialNumber>,
}

/// A device of a batch, by its serial number.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Listed {
    /// The serial number.
    pub serial: SerialNumber,
    /// Where its device stands, if it was ever presented.
    pub state: Option<State>,
    /// Whether that device belongs to this batch: it may have come with another, or without one.
    pub here: bool,
}

impl Store {
    /// The batch of that id.
    ///
    /// # Errors
    /// The record cannot be read.
    pub fn find_batch(&self, id: &BatchId) -> Result<Option<Batch>, JournalError> {
        self.caught_up()?;
        self.read(&key(b'w', id.as_str()))
    }

    /// Batches in the order of their ids, beginning behind `after`, at most `limit` of those for which `wanted`
    /// holds.
    ///
    /// # Errors
    /// A record cannot be read.
    pub fn batches(
        &self,
        after: Option<&BatchId>,
        limit: usize,
        wanted: impl Fn(&Batch) -> bool,
    ) -> Result<Vec<Batch>, JournalError> {
        self.caught_up()?;
        self.batch_rows(after, limit, wanted)
    }

    pub(super) fn batch_rows(
        &self,
        after: Option<&BatchId>,
        limit: usize,
        wanted: impl Fn(&Batch) -> bool,
    ) -> Result<Vec<Batch>, JournalError> {
        let begin = after.map_or(key(b'w', ""), |it| [&key(b'w', it.as_str())[..], &[0]].concat());
        guarded(&self.dir, || {
            let mut batches = Vec::new();
            for row in self.db.range(begin..key(b'x', "")) {
                let (_, value) = row.map_err(|source| self.failed("read", source))?;
                let batch: Batch = self.decode(&value)?;
                if wanted(&batch) {
                    batches.push(batch);
                    if batches.len() == limit {
                        break;
                    }
                }
            }
            Ok(batches)
        })
    }

    /// The serial numbers on a batch's list in ascending order, beginning behind `after`, with what the journal
    /// knows of each: at most `limit` for which `wanted` holds, looking at no more than [`MAX_LISTED_SCAN`]. A
    /// batch without a list has none.
    ///
    /// # Errors
    /// A record cannot be read.
    pub fn listed(
        &self,
        batch: &Batch,
        after: Option<&SerialNumber>,
        limit: usize,
        wanted: impl Fn(&Listed) -> bool,
    ) -> Result<ListedPage, JournalError> {
        let Some(list) = batch.list else { return Ok(ListedPage::default()) };
        self.caught_up()?;
        let after = after.map_or("", SerialNumber::as_str);
        guarded(&self.dir, || {
            let (mut page, mut looked_at) = (ListedPage::default(), 0);
            // The part in which `after` is, and those behind it.
            let begin = self.part_of(list, after)?.unwrap_or_else(|| part_key(list, ""));
            for row in scan(&self.db, begin..seq_key(b'e', list + 1)) {
                let (_, value) = row.map_err(|source| self.failed("read", source))?;
                for serial in self.decode::<Vec<SerialNumber>>(&value)? {
                    if serial.as_str() <= after {
                        continue;
                    }
                    if page.found.len() == limit || looked_at == MAX_LISTED_SCAN {
                        return Ok(page);
                    }
                    looked_at += 1;
                    let device = device_row::read(&self.db, &self.dir, &serial)?;
                    let device = device.filter(|it| it.was_presented());
                    let here =
                        device.as_ref().is_some_and(|it| it.batch.as_deref() == Some(batch.id().as_str()));
                    page.next = Some(serial.clone());
                    let it = Listed { serial, state: device.map(|it| it.state), here };
                    if wanted(&it) {
                        page.found.push(it);
                    }
                }
            }
            Ok(ListedPage { next: None, ..page })
        })
    }

    /// As [`crate::journal::Shelf::batch`].
    pub(super) fn batch_since(&self, id: &BatchId, since: u64) -> Result<Option<Batch>, JournalError> {
        self.shared.pending.wait_for(since)?;
        self.read(&key(b'w', id.as_str()))
    }

    /// As [`crate::journal::Shelf::is_listed`]: the index has had the whole list since record `since`.
    pub(super) fn listed_since(
        &self,
        list: u64,
        since: u64,
        serial: &SerialNumber,
    ) -> Result<bool, JournalError> {
        self.shared.pending.wait_for(since)?;
        guarded(&self.dir, || {
            let Some(part) = self.part_of(list, serial.as_str())? else { return Ok(false) };
            let value = self.db.get(part).map_err(|source| self.failed("read", source))?;
            let serials: Vec<SerialNumber> = value.map_or(Ok(Vec::new()), |it| self.decode(&it))?;
            Ok(serials.binary_search(serial).is_ok())
        })
    }

    /// The key of the last part of a list that does not begin behind `serial`.
    fn part_of(&self, list: u64, serial: &str) -> Result<Option<Vec<u8>>, JournalError> {
        let last = self.db.range(seq_key(b'e', list)..=part_key(list, serial)).next_back();
        let row = last.transpose().map_err(|source| self.failed("read", source))?;
        Ok(row.map(|(row, _)| row.to_vec()))
    }

    /// Lists that have not come to their end.
    pub(super) fn unfinished_lists(&self) -> Result<Vec<(u64, BatchId)>, JournalError> {
        let mut lists = Vec::new();
        for row in self.db.scan_prefix([b'o']) {
            let (row, value) = row.map_err(|source| self.failed("read", source))?;
            let number = row.get(1..).and_then(|it| it.try_into().ok()).map(u64::from_be_bytes);
            let number = number.ok_or_else(|| damaged(&self.dir, "the number of a list is wrong"))?;
            let id = decode(&value)
                .map_err(|error| damaged(&self.dir, &format!("a list cannot be read: {error}")))?;
            lists.push((number, id));
        }
        Ok(lists)
    }
}
