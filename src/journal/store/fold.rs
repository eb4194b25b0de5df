//! Catching up: what the log holds and the index does not.

use std::collections::{BTreeMap, HashMap};
use std::path::Path;

use super::batches::Said;
use super::index::Index;
use super::summaries::{has_slots, has_summary, note_slots};
use super::{device_row, unfit};
use crate::device::Device;
use crate::device::serial::SerialNumber;
use crate::journal::fold::device_after;
use crate::journal::log::Position;
use crate::journal::log::read::Walk;
use crate::journal::{Entry, JournalError, Record, What};

/// Records taken into the index at once.
const BATCH: usize = 512;

/// Reads the log from where the index is known to be on disk, checks that the index holds what it
/// says it holds, and gives it what it has not. Returns the walk at its end.
///
/// A power cut may take from sled rows that were written since its last sync, one by one; whoever
/// changed in that time is looked up.
///
/// # Errors
/// The log is damaged or ends before the index does; or ([`JournalError::Damaged`],
/// [`JournalError::Store`]) the index is of no use.
pub(super) fn catch_up(index: &mut Index, journal_dir: &Path, log_dir: &Path) -> Result<Walk, JournalError> {
    let mut walk = Walk::from(log_dir, &index.id, index.synced)?;
    let known = index.position;
    let mut same = known.seq == index.synced.seq;
    let mut newest = Newest::default();
    let mut said = Said::default();
    let mut batch = Batch::default();
    let mut checked = false;
    while let Some(commit) = walk.next_commit()? {
        for found in commit {
            if found.at.seq > known.seq {
                if !std::mem::replace(&mut checked, true) {
                    check(index, journal_dir, &newest, &mut said)?;
                }
                batch.take(index, journal_dir, found.record, found.at)?;
                continue;
            }
            same |= found.at == known;
            said.note(&found.record);
            note_slots(&found.record, &mut newest.slots);
            newest.devices.extend(found.record.serial.map(|it| (it, found.at.seq)));
        }
        if batch.entries.len() >= BATCH {
            batch.give(index)?;
        }
    }
    let lost = |what| JournalError::Lost { dir: journal_dir.to_owned(), what };
    let end = walk.at().seq;
    if end < known.seq {
        return Err(lost(format!("its log ends with record {end}, but record {} was on disk", known.seq)));
    }
    if !same {
        return Err(lost(format!("record {} of its log is not the one that was on disk", known.seq)));
    }
    if !checked {
        check(index, journal_dir, &newest, &mut said)?;
    }
    batch.give(index)?;
    Ok(walk)
}

/// The newest records that the index has and that may not be on disk in it, by what they are about.
#[derive(Default)]
struct Newest {
    devices: HashMap<SerialNumber, u64>,
    slots: BTreeMap<i64, u64>,
}

/// Whether the index holds the newest state of those, and of what was `said` of batches.
fn check(index: &Index, dir: &Path, newest: &Newest, said: &mut Said) -> Result<(), JournalError> {
    let old = |what: String| JournalError::Damaged { dir: dir.to_owned(), what };
    if !has_slots(&index.db, dir, &newest.slots)? {
        return Err(old("the index has lost what reports count".to_owned()));
    }
    for (serial, seq) in &newest.devices {
        let device = device_row::read(&index.db, dir, serial)?;
        let counted = device.as_ref().filter(|it| it.was_presented());
        said.note_device(counted.and_then(|it| it.batch.as_deref()), *seq);
        let Some(device) = device.filter(|it| it.last_seq == *seq) else {
            return Err(old(format!("the index holds an old state of device {serial}")));
        };
        if !device_row::has_history(&index.db, dir, serial)? {
            return Err(old(format!("the index has lost records of the history of device {serial}")));
        }
        if !has_summary(&index.db, dir, &device)? {
            return Err(old(format!("the index holds an old summary of device {serial}")));
        }
    }
    said.check(&index.db, dir)
}

/// Records on their way into the index.
#[derive(Default)]
struct Batch {
    entries: Vec<Entry>,
    placed: Vec<Position>,
    devices: BTreeMap<SerialNumber, Device>,
}

impl Batch {
    fn take(&mut self, index: &Index, dir: &Path, record: Record, at: Position) -> Result<(), JournalError> {
        let device = match (&record.serial, &record.what) {
            (Some(serial), What::Device(_)) => {
                let before = match self.devices.remove(serial) {
                    Some(device) => Some(device),
                    None => device_row::read(&index.db, dir, serial)?,
                };
                let state = before.as_ref().map(|it: &Device| it.state);
                let after = device_after(before, &record).map_err(|it| unfit(dir, &record, &it))?;
                self.devices.extend(after.clone().map(|it| (serial.clone(), it)));
                after.map(|it| (Box::new(it), state))
            }
            _ => None,
        };
        self.entries.push(Entry { record, device });
        self.placed.push(at);
        Ok(())
    }

    fn give(&mut self, index: &mut Index) -> Result<(), JournalError> {
        let records: Vec<_> = self.entries.iter().zip(&self.placed).collect();
        index.apply(&records)?;
        *self = Self::default();
        Ok(())
    }
}
