//! The thread that gives the index what the log holds.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::thread::JoinHandle;

use super::Shared;
use super::checkpoint::Checkpoints;
use super::files::io;
use super::guard::guarded;
use super::index::Index;
use crate::error::Chain;
use crate::journal::JournalError;

/// The thread. It ends when its queue is closed and empty, or at an error.
#[derive(Debug)]
pub(super) struct Indexer {
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
}

impl Indexer {
    /// Starts it for the index in `path`.
    pub(super) fn start(index: Index, path: PathBuf, shared: Arc<Shared>) -> Result<Self, JournalError> {
        let checkpoints = Checkpoints::start(index.db.clone(), &path, shared.clone())?;
        let (queue, dir) = (shared.clone(), path.clone());
        let thread = std::thread::Builder::new().name("index".to_owned());
        let thread = thread
            .spawn(move || run(index, checkpoints, &dir, &queue))
            .map_err(|it| io("start a thread for", &path, it))?;
        Ok(Self { shared, thread: Some(thread) })
    }

    /// Lets it take in what is left, and sync it; returns when that is done.
    pub(super) fn end(&mut self) {
        self.shared.pending.close();
        if let Some(thread) = self.thread.take() {
            // Its errors are told where they occur; a panic was caught there.
            let _ = thread.join();
        }
    }
}

fn run(mut index: Index, mut checkpoints: Checkpoints, dir: &Path, shared: &Shared) {
    let taken_in = guarded(dir, || take_in(&mut index, &checkpoints, shared));
    checkpoints.end();
    let ended = taken_in.and_then(|()| {
        let synced = checkpoints.synced().unwrap_or(index.synced);
        let done = shared.pending.has_failed() || synced == index.position;
        if done { Ok(()) } else { guarded(dir, || index.sync()) }
    });
    if let Err(error) = ended {
        shared.pending.fail(error);
    }
    // sled writes what it has left, and may panic at that too.
    if let Err(error) = guarded(dir, || {
        drop(index);
        Ok(())
    }) {
        tracing::error!(error = %Chain(&error), "the journal's index is not closed in good order");
    }
}

fn take_in(index: &mut Index, checkpoints: &Checkpoints, shared: &Shared) -> Result<(), JournalError> {
    loop {
        let groups = shared.pending.oldest();
        // A sync that failed is final here too; why, is for whoever wants a promise.
        if groups.is_empty() || shared.pending.has_failed() {
            return Ok(());
        }
        if let Some(position) = checkpoints.synced() {
            index.synced = position;
        }
        let records: Vec<_> = groups.iter().flat_map(|it| it.entries.iter().zip(&it.placed)).collect();
        let rows = index.apply(&records)?;
        shared.pending.applied(groups.len());
        checkpoints.ask(index.position, rows);
    }
}
