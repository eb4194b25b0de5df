//! The journal's writer: one thread that commits whatever is waiting in one go.
//!
//! While one group is being synced the next one gathers, so that a slow disk makes the groups
//! larger and not the queue longer. An error is final: it is told, and the thread ends.
//!
//! What is promised nearly always brings the next record within microseconds. To put the thread to sleep
//! and wake it again takes some ten of them, where a fast disk syncs in a hundred, so after a commit of one
//! record it looks for a moment before it sleeps, as long as that pays. After a larger one it does not:
//! the longer it takes to wake the more records gather.

use std::io;

use tokio::sync::mpsc::error::TryRecvError;
use tokio::sync::{mpsc, oneshot, watch};

use crate::journal::{Entry, Journal, JournalError};

/// Records in one group at most: bounds the memory of a batch and the time of a commit.
const GROUP: usize = 512;

/// Looks for the next record before the thread sleeps: some tens of microseconds.
const LOOKS: usize = 1000;

/// Commits after which it looks again at the latest, where looking has been in vain: a line that is slow
/// by itself, or a processor that is somebody else's meanwhile.
const MOST_WITHOUT_LOOKING: usize = 64;

/// Starts the thread. It ends when the channel is closed and everything in it is on disk; then,
/// or at an error, it says so. `durable` holds the number of the newest record on disk.
///
/// # Errors
/// The system has no thread for it.
pub fn start(
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
    let (mut alone, mut patience) = (true, Patience::default());
    while let Some(first) = if alone { patience.next(records) } else { records.blocking_recv() } {
        let group = gather(*first, records);
        alone = group.len() == 1;
        let newest = group.last().map(|it| it.record.seq);
        #[cfg(debug_assertions)]
        stall(newest);
        journal.commit(group)?;
        durable.send_replace(newest.unwrap_or_default());
    }
    Ok(())
}

/// Hangs for ever from the record on that a test names: a disk that does not answer, for the watchdog.
#[cfg(debug_assertions)]
fn stall(newest: Option<u64>) {
    let at = std::env::var("LINEMINT_DEBUG_STALL_JOURNAL_AT").ok().and_then(|it| it.parse::<u64>().ok());
    if at.is_some_and(|at| newest >= Some(at)) {
        tracing::warn!("the journal hangs, as this test build was told");
        loop {
            std::thread::park();
        }
    }
}

/// What waits.
fn gather(first: Entry, records: &mut mpsc::Receiver<Box<Entry>>) -> Vec<Entry> {
    let mut group = vec![first];
    while group.len() < GROUP {
        match records.try_recv() {
            Ok(next) => group.push(*next),
            Err(_) => break,
        }
    }
    group
}

/// Whether looking pays.
#[derive(Debug, Default)]
struct Patience {
    /// Records that are waited for asleep before it looks again.
    skips: usize,
    /// How many those were the last time.
    skipped: usize,
}

impl Patience {
    /// The next record; none when no more will come.
    fn next(&mut self, records: &mut mpsc::Receiver<Box<Entry>>) -> Option<Box<Entry>> {
        let looks = self.looks();
        for _ in 0..looks {
            match records.try_recv() {
                Ok(next) => {
                    self.learn(looks, true);
                    return Some(next);
                }
                Err(TryRecvError::Disconnected) => return None,
                Err(TryRecvError::Empty) => std::hint::spin_loop(),
            }
        }
        self.learn(looks, false);
        records.blocking_recv()
    }

    /// How often to look for the next record.
    fn looks(&mut self) -> usize {
        match self.skips.checked_sub(1) {
            Some(left) => {
                self.skips = left;
                1
            }
            None => LOOKS,
        }
    }

    /// One look more or less says nothing of all of them.
    fn learn(&mut self, looks: usize, found: bool) {
        if looks == LOOKS {
            self.skipped = if found { 0 } else { (self.skipped * 2 + 1).min(MOST_WITHOUT_LOOKING) };
            self.skips = self.skipped;
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};

    use super::*;
    use crate::journal::store::{JournalLock, StoreWriter, open};
    use crate::journal::{Record, StationEvent, What};

    fn entry(seq: u64) -> Box<Entry> {
        let what = What::Station(StationEvent::LineResumed);
        let at = "2026-11-21T12:00:00Z".parse().unwrap();
        Box::new(Entry { record: Record { seq, at, serial: None, what }, device: None })
    }

    /// The journal, with a list of how much it was given at once.
    struct Counting {
        journal: StoreWriter,
        groups: Arc<Mutex<Vec<usize>>>,
    }

    impl Journal for Counting {
        fn commit(&mut self, entries: Vec<Entry>) -> Result<(), JournalError> {
            self.groups.lock().unwrap().push(entries.len());
            self.journal.commit(entries)
        }
    }

    #[test]
    fn whatever_waits_is_one_commit_and_all_of_it_is_on_disk_at_the_end() {
        let dir = tempfile::tempdir().unwrap();
        let opened = open(JournalLock::take(dir.path()).unwrap()).unwrap();
        let groups = Arc::new(Mutex::new(Vec::new()));
        let journal = Counting { journal: opened.writer, groups: groups.clone() };
        let (records, waiting) = mpsc::channel(1024);
        for seq in 1..=64 + 600 {
            records.try_send(entry(seq)).unwrap();
        }
        drop(records);
        let (durable, newest) = watch::channel(0);
        start(journal, waiting, durable).unwrap().blocking_recv().unwrap().unwrap();
        assert_eq!(*newest.borrow(), 664);
        assert_eq!(*groups.lock().unwrap(), [GROUP, 664 - GROUP]);
        assert_eq!(opened.store.events(0, 1000).unwrap().len(), 664);
    }

    #[test]
    fn looking_finds_what_waits_and_the_end_and_sleeps_until_something_comes() {
        let (records, mut waiting) = mpsc::channel(1024);
        let mut patience = Patience::default();
        records.try_send(entry(1)).unwrap();
        assert_eq!(patience.next(&mut waiting).map(|it| it.record.seq), Some(1));
        // Whether it still looks or sleeps by then, it is told.
        let later = std::thread::spawn(move || {
            records.blocking_send(entry(2)).unwrap();
            records
        });
        assert_eq!(patience.next(&mut waiting).map(|it| it.record.seq), Some(2));
        drop(later.join().unwrap());
        assert!(patience.next(&mut waiting).is_none(), "closed and empty");
    }

    #[test]
    fn what_does_not_pay_is_tried_less_and_less_often_and_what_pays_again_each_time() {
        let mut patience = Patience::default();
        let mut looked_at = Vec::new();
        for record in 0..200 {
            let looks = patience.looks();
            if looks == LOOKS {
                looked_at.push(record);
            }
            patience.learn(looks, false);
        }
        assert_eq!(looked_at, [0, 2, 6, 14, 30, 62, 126, 191]);
        while patience.looks() != LOOKS {}
        patience.learn(LOOKS, true);
        for _ in 0..10 {
            assert_eq!(patience.looks(), LOOKS);
            patience.learn(LOOKS, true);
        }
    }

    #[test]
    fn an_error_of_the_journals_is_told_and_the_newest_number_stays_what_it_was() {
        let dir = tempfile::tempdir().unwrap();
        let opened = open(JournalLock::take(dir.path()).unwrap()).unwrap();
        let (records, waiting) = mpsc::channel(16);
        records.try_send(entry(2)).unwrap();
        let (durable, newest) = watch::channel(0);
        let ended = start(opened.writer, waiting, durable).unwrap().blocking_recv().unwrap();
        assert!(matches!(ended, Err(JournalError::Unfit { seq: 2, .. })), "{ended:?}");
        assert_eq!(*newest.borrow(), 0);
        // The lock was given back before anyone heard of it.
        drop(opened.store);
        open(JournalLock::take(dir.path()).unwrap()).unwrap();
    }
}
