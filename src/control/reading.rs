//! Reading the journal for the API: on threads that may block, a few at a time, and never ahead of
//! the disk.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};

use super::problem::{Refused, internal, unavailable};
use super::view;
use crate::device::rules::{ProductRules, RulesId};
use crate::journal::JournalError;
use crate::journal::store::Store;

/// Reads at the same time: the line's own have to get through beside them.
const READERS: usize = 4;

/// Lines of reports read at the same time.
const LISTS: usize = 2;

/// Longest wait for the disk: far beyond any commit, and within a request's deadline.
const DURABLE_WITHIN: Duration = Duration::from_secs(10);

/// The journal as the API reads it. Cheap to clone.
#[derive(Debug, Clone)]
pub(super) struct Reading {
    store: Store,
    durable: watch::Receiver<u64>,
    readers: Arc<Semaphore>,
    backups: Arc<Semaphore>,
    lists: Arc<Semaphore>,
}

impl Reading {
    pub(super) fn new(store: Store, durable: watch::Receiver<u64>) -> Self {
        let [readers, backups, lists] = [READERS, 1, LISTS].map(|it| Arc::new(Semaphore::new(it)));
        Self { store, durable, readers, backups, lists }
    }

    /// Newest sequence number on disk, as it changes.
    pub(super) fn durable(&self) -> watch::Receiver<u64> {
        self.durable.clone()
    }

    /// Runs `read` on a thread that may block. `doing` says what failed, if it does. A read that is no
    /// longer waited for still counts until it has ended.
    pub(super) async fn read<T: Send + 'static>(
        &self,
        doing: &'static str,
        read: impl FnOnce(&Store) -> Result<T, JournalError> + Send + 'static,
    ) -> Result<T, Refused> {
        let permit = self.readers.clone().acquire_owned().await.map_err(|error| internal(doing, &error))?;
        let store = self.store.clone();
        let running = tokio::task::spawn_blocking(move || {
            let _permit = permit;
            read(&store)
        });
        let result = running.await.map_err(|error| internal(doing, &error))?;
        result.map_err(|error| internal(doing, &error))
    }

    /// Runs `read` on a thread that may block, beside all other readers and for as long as it holds the
    /// permit; `false` if one runs already.
    pub(super) fn back_up(&self, read: impl FnOnce(&Store, OwnedSemaphorePermit) + Send + 'static) -> bool {
        self.beside(&self.backups, read)
    }

    /// The same for the lines of a report.
    pub(super) fn list(&self, read: impl FnOnce(&Store, OwnedSemaphorePermit) + Send + 'static) -> bool {
        self.beside(&self.lists, read)
    }

    fn beside(
        &self,
        permits: &Arc<Semaphore>,
        read: impl FnOnce(&Store, OwnedSemaphorePermit) + Send + 'static,
    ) -> bool {
        let Ok(permit) = permits.clone().try_acquire_owned() else { return false };
        let store = self.store.clone();
        // It ends when nobody takes any more what it reads.
        drop(tokio::task::spawn_blocking(move || read(&store, permit)));
        true
    }

    /// Waits until record `seq` is on disk: what a power cut could take back is told to nobody.
    pub(super) async fn on_disk(&self, seq: u64) -> Result<(), Refused> {
        let mut durable = self.durable.clone();
        let waiting = durable.wait_for(|it| *it >= seq);
        match tokio::time::timeout(DURABLE_WITHIN, waiting).await {
            Ok(Ok(_)) => Ok(()),
            Ok(Err(_)) => Err(unavailable("the station is stopping")),
            Err(_) => Err(unavailable("the journal's disk does not keep up")),
        }
    }
}

/// Rules as they are needed for a page of devices, each read once.
pub(super) struct RulesOnce<'a> {
    store: &'a Store,
    known: BTreeMap<RulesId, Option<ProductRules>>,
}

impl<'a> RulesOnce<'a> {
    pub(super) fn of(store: &'a Store) -> Self {
        Self { store, known: BTreeMap::new() }
    }

    /// The wire's view of a device.
    pub(super) fn view(&mut self, device: &crate::device::Device) -> Result<super::Device, JournalError> {
        if !self.known.contains_key(&device.rules) {
            self.known.insert(device.rules, self.store.rules(&device.rules)?);
        }
        let rules = self.known.get(&device.rules).and_then(Option::as_ref);
        Ok(view::device(device, rules))
    }
}
