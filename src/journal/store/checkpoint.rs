//! Syncs the index behind the log, in a thread of its own.
//!
//! sled writes as it likes between two syncs, and takes for granted what it has written; the less it
//! writes in that time the less a power cut can confuse. 2,000 writes of 1 KiB between two syncs were
//! survived by 50 of 50 crash images (`facts/rust.md` 3.2); what would not be is noticed at the next
//! start, and the index made again.

use std::fs::File;
use std::path::PathBuf;
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use super::files::io;
use super::index::failed;
use crate::journal::JournalError;
use crate::journal::log::Position;

/// Records between two syncs, where they come fast: four rows each.
const EVERY: u64 = 512;

/// Time between two syncs, where they come slowly.
const INTERVAL: Duration = Duration::from_millis(500);

/// Positions that may wait for the thread; what does not fit is covered by a later one.
const QUEUE: usize = 512;

/// What the thread has done.
type Done = Arc<Mutex<Result<Option<Position>, JournalError>>>;

/// The thread.
#[derive(Debug)]
pub(super) struct Checkpoints {
    positions: Option<SyncSender<Position>>,
    done: Done,
    thread: Option<JoinHandle<()>>,
}

impl Checkpoints {
    /// Starts the thread for the index in `path`.
    pub(super) fn start(db: sled::Db, path: PathBuf) -> Result<Self, JournalError> {
        let (positions, asked) = sync_channel(QUEUE);
        let done: Done = Arc::new(Mutex::new(Ok(None)));
        // Opened a second time: it sees write errors that sled only logs.
        let file = path.join("db");
        let syncing = File::open(&file).map_err(|source| io("open", &file, source))?;
        let worker = Worker { db, path, file: syncing, done: done.clone() };
        let thread = std::thread::Builder::new().name("checkpoint".to_owned());
        let thread =
            thread.spawn(move || worker.run(&asked)).map_err(|it| io("start a thread for", &file, it))?;
        Ok(Self { positions: Some(positions), done, thread: Some(thread) })
    }

    /// Says what is in the index now.
    pub(super) fn ask(&self, position: Position) {
        if let Some(positions) = &self.positions {
            // Full: the thread is at work, and the next position says more.
            let _ = positions.try_send(position);
        }
    }

    /// The newest record that is known to be on disk, since this was asked last.
    ///
    /// # Errors
    /// A sync has failed; the thread has ended.
    pub(super) fn synced(&self) -> Result<Option<Position>, JournalError> {
        let mut done = self.done.lock().unwrap_or_else(PoisonError::into_inner);
        std::mem::replace(&mut *done, Ok(None))
    }

    /// Ends the thread.
    pub(super) fn end(&mut self) {
        self.positions = None;
        if let Some(thread) = self.thread.take() {
            // It has caught its errors; a panic of sled's in it says no more than that.
            let _ = thread.join();
        }
    }
}

struct Worker {
    db: sled::Db,
    path: PathBuf,
    file: File,
    done: Done,
}

impl Worker {
    fn run(&self, asked: &Receiver<Position>) {
        while let Ok(first) = asked.recv() {
            let mut newest = first;
            let mut ended = false;
            while !ended && newest.seq - first.seq < EVERY {
                match asked.recv_timeout(INTERVAL) {
                    Ok(position) => newest = position,
                    Err(RecvTimeoutError::Timeout) => break,
                    Err(RecvTimeoutError::Disconnected) => ended = true,
                }
            }
            if ended {
                // Whoever ends it syncs once more.
                return;
            }
            let result = self.sync().map(|()| Some(newest));
            let failed = result.is_err();
            *self.done.lock().unwrap_or_else(PoisonError::into_inner) = result;
            if failed {
                return;
            }
        }
    }

    fn sync(&self) -> Result<(), JournalError> {
        self.db.flush().map_err(|source| failed(&self.path, "flush", source))?;
        self.file.sync_data().map_err(|source| io("sync", &self.path.join("db"), source))
    }
}
