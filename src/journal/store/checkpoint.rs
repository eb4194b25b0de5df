//! Syncs the index behind the log, in a thread of its own.
//!
//! sled writes as it likes between two syncs, and takes for granted what it has written; the less it
//! writes in that time the less a power cut can confuse. 2,000 writes of 1 KiB between two syncs were
//! survived by 50 of 50 crash images (`facts/rust.md` 3.2); what would not be is noticed at the next
//! start, and the index made again.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use super::Shared;
use super::files::io;
use super::guard::guarded;
use super::index::{failed, free};
use crate::journal::JournalError;
use crate::journal::log::Position;

/// Rows between two syncs, where they come fast.
const EVERY: usize = 2048;

/// Time between two syncs, where they come slowly.
const INTERVAL: Duration = Duration::from_millis(500);

/// The thread.
#[derive(Debug)]
pub(super) struct Checkpoints {
    asked: Arc<Asked>,
    thread: Option<JoinHandle<()>>,
}

/// What the thread is asked for, and what it has done.
#[derive(Debug, Default)]
struct Asked {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct State {
    /// The newest record in the index, if it may not be on disk.
    newest: Option<Position>,
    /// Rows written since the last sync began.
    rows: usize,
    /// The newest record that is known to be on disk.
    synced: Option<Position>,
    ended: bool,
}

impl Checkpoints {
    /// Starts the thread for the index in `path`. A sync that fails, fails what waits for the index.
    pub(super) fn start(db: sled::Db, path: &Path, shared: Arc<Shared>) -> Result<Self, JournalError> {
        // Opened a second time: it sees write errors that sled only logs.
        let file = path.join("db");
        let syncing = File::open(&file).map_err(|source| io("open", &file, source))?;
        let asked = Arc::new(Asked::default());
        let worker = Worker { db, path: path.to_owned(), file: syncing, asked: asked.clone(), shared };
        let thread = std::thread::Builder::new().name("checkpoint".to_owned());
        let thread = thread.spawn(move || worker.run()).map_err(|it| io("start a thread for", &file, it))?;
        Ok(Self { asked, thread: Some(thread) })
    }

    /// Says what is in the index now, and how many rows that took.
    pub(super) fn ask(&self, position: Position, rows: usize) {
        let mut state = self.asked.lock();
        state.newest = Some(position);
        state.rows += rows;
        drop(state);
        self.asked.changed.notify_one();
    }

    /// The newest record that is known to be on disk, once there is one.
    pub(super) fn synced(&self) -> Option<Position> {
        self.asked.lock().synced
    }

    /// Ends the thread.
    pub(super) fn end(&mut self) {
        self.asked.lock().ended = true;
        self.asked.changed.notify_one();
        if let Some(thread) = self.thread.take() {
            // It has told its errors; a panic was caught there.
            let _ = thread.join();
        }
    }
}

impl Asked {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits until a sync is due; up to where it will count. None at the end: whoever ends it syncs
    /// once more.
    fn due(&self) -> Option<Position> {
        let idle = |it: &mut State| it.newest.is_none() && !it.ended;
        let state = self.changed.wait_while(self.lock(), idle).unwrap_or_else(PoisonError::into_inner);
        let few = |it: &mut State| it.rows < EVERY && !it.ended;
        let waited = self.changed.wait_timeout_while(state, INTERVAL, few);
        let (mut state, _) = waited.unwrap_or_else(PoisonError::into_inner);
        state.rows = 0;
        state.newest.take().filter(|_| !state.ended)
    }
}

struct Worker {
    db: sled::Db,
    path: PathBuf,
    file: File,
    asked: Arc<Asked>,
    shared: Arc<Shared>,
}

impl Worker {
    fn run(&self) {
        while let Some(newest) = self.asked.due() {
            match guarded(&self.path, || self.sync()) {
                Ok(()) => self.asked.lock().synced = Some(newest),
                Err(error) => return self.shared.pending.fail(error),
            }
        }
    }

    fn sync(&self) -> Result<(), JournalError> {
        self.db.flush().map_err(|source| failed(&self.path, "flush", source))?;
        free();
        self.file.sync_data().map_err(|source| io("sync", &self.path.join("db"), source))
    }
}
