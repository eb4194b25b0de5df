//! The journal's writer: one thread that commits whatever is waiting in one go.
//!
//! While one group is being synced the next one gathers, so that a slow disk makes the groups
//! larger and not the queue longer. An error is final: it is told, and the thread ends.

use std::io;

use tokio::sync::{mpsc, oneshot, watch};

use crate::journal::{Entry, Journal, JournalError};

/// Records in one group at most: bounds the memory of a batch and the time of a commit.
const GROUP: usize = 512;

/// Starts the thread. It ends when the channel is closed and everything in it is on disk; then,
/// or at an error, it says so.
pub(super) fn start(
    mut journal: impl Journal + 'static,
    mut records: mpsc::Receiver<Box<Entry>>,
    durable: watch::Sender<u64>,
) -> io::Result<oneshot::Receiver<Result<(), JournalError>>> {
    let (ended, end) = oneshot::channel();
    std::thread::Builder::new().name("journal".to_owned()).spawn(move || {
        let result = run(&mut journal, &mut records, &durable);
        // The lock is given back before anyone hears that it has ended.
        drop(journal);
        // Nobody may be listening any more, at a stop.
        let _ = ended.send(result);
    })?;
    Ok(end)
}

fn run(
    journal: &mut impl Journal,
    records: &mut mpsc::Receiver<Box<Entry>>,
    durable: &watch::Sender<u64>,
) -> Result<(), JournalError> {
    let mut group = Vec::with_capacity(GROUP);
    while let Some(first) = records.blocking_recv() {
        group.push(*first);
        while group.len() < GROUP {
            match records.try_recv() {
                Ok(next) => group.push(*next),
                Err(_) => break,
            }
        }
        journal.commit(&group)?;
        if let Some(last) = group.last() {
            durable.send_replace(last.record.seq);
        }
        group.clear();
    }
    Ok(())
}
