//! Batches and their lists in memory, for tests: the same fold as the index's.

use std::collections::{BTreeMap, BTreeSet};

use super::fold::{Change, batch_after, change, moved};
use super::{Record, Recovered};
use crate::batch::{Batch, BatchId};
use crate::device::serial::SerialNumber;
use crate::device::{Device, State};

/// What the records so far have made.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct Book {
    pub(crate) batches: BTreeMap<BatchId, Batch>,
    pub(crate) lists: BTreeMap<u64, BTreeSet<SerialNumber>>,
    pub(crate) unfinished: BTreeMap<u64, BatchId>,
}

impl Book {
    /// Takes a record; its device after it, and that one's state before.
    pub(crate) fn take(&mut self, record: &Record, device: Option<(&Device, Option<State>)>) {
        match change(record) {
            Some(Change::ListBegun(id)) => drop(self.unfinished.insert(record.seq, id.clone())),
            Some(Change::ListPart(list, serials)) => {
                self.lists.entry(list).or_default().extend(serials.iter().cloned());
            }
            Some(Change::ListDropped(list)) => {
                self.lists.remove(&list);
                self.unfinished.remove(&list);
            }
            Some(Change::Batch(id, list)) => {
                list.map(|it| self.unfinished.remove(&it));
                let after = batch_after(self.batches.remove(id), record);
                self.batches.extend(after.map(|it| (id.clone(), it)));
            }
            _ => {}
        }
        if let Some((device, before)) = device
            && let Some(it) = moved(record, device, before)
            && let Some(batch) = self.batches.get_mut(&BatchId::parse(it.batch).unwrap())
        {
            batch.moves(record.seq, it.extra, it.before, it.after);
        }
    }

    pub(crate) fn is_listed(&self, list: u64, serial: &SerialNumber) -> bool {
        self.lists.get(&list).is_some_and(|it| it.contains(serial))
    }

    /// What a restart is told of it.
    pub(crate) fn recovered(&self) -> Recovered {
        Recovered {
            batches: self.batches.values().filter(|it| it.is_open()).cloned().collect(),
            lists: self.unfinished.clone().into_iter().collect(),
            ..Recovered::default()
        }
    }
}
