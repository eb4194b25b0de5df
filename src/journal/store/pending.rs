//! What is in the log and not yet in the index: the index's queue, and what readers look into first.
//!
//! A promise does not wait for sled: it is durable by the log alone. So that everybody still reads
//! what was promised, what waits here is looked through before sled is asked, newest first; whoever
//! needs more than one device or presentation waits until sled has all that was promised by then.

use std::collections::VecDeque;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use crate::device::Device;
use crate::device::event::PresentationKey;
use crate::device::serial::SerialNumber;
use crate::journal::fold::told_key;
use crate::journal::log::Position;
use crate::journal::{Entry, JournalError, KnownPresentation, StationEvent, What};
use crate::pki::Fingerprint;

/// Records that wait at most: bounds their memory, what a reader looks through, and how far the index
/// can be behind the log. A commit beyond it waits.
const MAX_RECORDS: usize = 4096;

/// How long the index waits for more, where it could begin with less than [`ENOUGH`] records: a device
/// with several of them is written once. A reader that waits is not kept waiting by that.
const GATHER: Duration = Duration::from_millis(20);

/// Records that are worth beginning with at once.
const ENOUGH: usize = 512;

/// Longest wait of a reader for the index: far beyond what the most records take.
const CAUGHT_UP_WITHIN: Duration = Duration::from_secs(10);

/// The records of one commit, and where they lie.
#[derive(Debug)]
pub(super) struct Group {
    pub(super) entries: Vec<Entry>,
    pub(super) placed: Vec<Position>,
}

/// The queue.
#[derive(Debug)]
pub(super) struct Pending {
    dir: PathBuf,
    state: Mutex<State>,
    /// There is something for the index to do.
    filled: Condvar,
    /// The index has done something.
    drained: Condvar,
}

#[derive(Debug)]
struct State {
    /// Oldest first; the ones being applied are still here.
    groups: VecDeque<Arc<Group>>,
    records: usize,
    /// The newest record in the index.
    applied: u64,
    /// The newest record that a reader waits for.
    wanted: u64,
    /// No more will come.
    closed: bool,
    /// The index has failed: final.
    failed: bool,
    /// Why, until somebody has been told.
    why: Option<JournalError>,
}

impl Pending {
    /// An empty one, for an index that holds everything up to record `applied`.
    pub(super) fn new(dir: &Path, applied: u64) -> Self {
        let state = State {
            groups: VecDeque::new(),
            records: 0,
            applied,
            wanted: 0,
            closed: false,
            failed: false,
            why: None,
        };
        Self {
            dir: dir.to_owned(),
            state: Mutex::new(state),
            filled: Condvar::new(),
            drained: Condvar::new(),
        }
    }

    /// Puts in what the log holds now. Waits where too much is in it already.
    pub(super) fn push(&self, group: Group) {
        let full = |state: &mut State| state.records >= MAX_RECORDS && !state.failed;
        let mut state = self.drained.wait_while(self.lock(), full).unwrap_or_else(PoisonError::into_inner);
        let begins = state.groups.is_empty();
        state.records += group.entries.len();
        state.groups.push_back(Arc::new(group));
        let wakes = begins || state.records >= ENOUGH;
        drop(state);
        if wakes {
            self.filled.notify_one();
        }
    }

    /// The oldest groups, at least one, more while they have less than `records` records together;
    /// none when no more will come. They stay here until [`Self::applied`].
    pub(super) fn oldest(&self, records: usize) -> Vec<Arc<Group>> {
        let none = |state: &mut State| state.groups.is_empty() && !state.closed && !state.failed;
        let state = self.filled.wait_while(self.lock(), none).unwrap_or_else(PoisonError::into_inner);
        let few = |state: &mut State| {
            state.records < ENOUGH && state.wanted <= state.applied && !state.closed && !state.failed
        };
        let gathered = self.filled.wait_timeout_while(state, GATHER, few);
        let (state, _) = gathered.unwrap_or_else(PoisonError::into_inner);
        let mut taken = 0;
        let more = |it: &&Arc<Group>| {
            let first = taken == 0;
            taken += it.entries.len();
            first || taken <= records
        };
        state.groups.iter().take_while(more).cloned().collect()
    }

    /// The index holds the oldest `groups` now.
    pub(super) fn applied(&self, groups: usize) {
        let mut state = self.lock();
        for group in state.groups.drain(..groups).collect::<Vec<_>>() {
            state.records = state.records.saturating_sub(group.entries.len());
            state.applied = group.placed.last().map_or(state.applied, |it| it.seq);
        }
        drop(state);
        self.drained.notify_all();
    }

    /// The index has failed, and is not asked again.
    pub(super) fn fail(&self, why: JournalError) {
        tracing::error!(error = %crate::error::Chain(&why), "the journal's index has failed; nothing more is promised");
        let mut state = self.lock();
        if !state.failed {
            state.failed = true;
            state.why = Some(why);
        }
        drop(state);
        self.filled.notify_one();
        self.drained.notify_all();
    }

    /// No more will come.
    pub(super) fn close(&self) {
        self.lock().closed = true;
        self.filled.notify_one();
    }

    /// Whether the index is in order.
    ///
    /// # Errors
    /// Why it is not; to whoever asks first, [`JournalError::Final`] to all others.
    pub(super) fn check(&self) -> Result<(), JournalError> {
        self.checked().map(drop)
    }

    /// The same, without taking the reason from whoever is to tell it.
    pub(super) fn has_failed(&self) -> bool {
        self.lock().failed
    }

    /// Waits until the index holds record `seq`.
    ///
    /// # Errors
    /// As [`Self::check`]; it takes too long.
    pub(super) fn wait_for(&self, seq: u64) -> Result<(), JournalError> {
        let mut state = self.checked()?;
        if state.applied < seq {
            state.wanted = state.wanted.max(seq);
            self.filled.notify_one();
        }
        let behind = |state: &mut State| state.applied < seq && !state.failed;
        let waited = self.drained.wait_timeout_while(state, CAUGHT_UP_WITHIN, behind);
        let (state, _) = waited.unwrap_or_else(PoisonError::into_inner);
        match (state.applied < seq, state.failed) {
            (_, true) => Err(self.failure(state)),
            (true, _) => Err(JournalError::Behind { dir: self.dir.clone() }),
            _ => Ok(()),
        }
    }

    /// What waits here says of that device; none if it says nothing.
    ///
    /// # Errors
    /// As [`Self::check`].
    pub(super) fn device(&self, serial: &SerialNumber) -> Result<Option<Device>, JournalError> {
        let state = self.checked()?;
        let devices = newest_first(&state).filter_map(|it| it.device.as_ref());
        let mut found = devices.filter(|(device, _)| device.serial == *serial);
        Ok(found.next().map(|(device, _)| (**device).clone()))
    }

    /// What waits here says of that presentation: none if nothing, else what is known of it.
    ///
    /// # Errors
    /// As [`Self::check`].
    pub(super) fn presentation(
        &self,
        key: &PresentationKey,
    ) -> Result<Option<Option<KnownPresentation>>, JournalError> {
        let state = self.checked()?;
        for Entry { record, .. } in newest_first(&state) {
            match (&record.what, &record.serial) {
                (What::Device(event), Some(serial)) => {
                    let Some((presentation, outcome)) = event.presentation() else { continue };
                    if presentation == key {
                        return Ok(Some(Some(KnownPresentation { serial: serial.clone(), outcome })));
                    }
                }
                // A reset makes all presentations before it forgotten.
                (What::Station(StationEvent::FixtureReset { fixture, .. }), _) if *fixture == key.fixture => {
                    return Ok(Some(None));
                }
                _ => {}
            }
        }
        Ok(None)
    }

    /// Who tells that public key, in what waits here; none if nobody does.
    ///
    /// # Errors
    /// As [`Self::check`].
    pub(super) fn holder_of_key(&self, key: &Fingerprint) -> Result<Option<SerialNumber>, JournalError> {
        let state = self.checked()?;
        let mut told = newest_first(&state).filter_map(|it| told_key(&it.record));
        Ok(told.find(|(it, _)| it == key).map(|(_, serial)| serial.clone()))
    }

    fn checked(&self) -> Result<MutexGuard<'_, State>, JournalError> {
        let state = self.lock();
        if state.failed { Err(self.failure(state)) } else { Ok(state) }
    }

    fn failure(&self, mut state: MutexGuard<'_, State>) -> JournalError {
        state.why.take().unwrap_or_else(|| JournalError::Final { dir: self.dir.clone() })
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // Whoever panicked with it left nothing half done: each change is one statement.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn newest_first(state: &State) -> impl Iterator<Item = &Entry> {
    state.groups.iter().rev().flat_map(|it| it.entries.iter().rev())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::journal::store::tests::{admission, entries, key, quarantine, station};

    fn group(entries: Vec<Entry>) -> Group {
        let at = Position::genesis("00112233445566aa");
        let placed = entries.iter().map(|it| Position { seq: it.record.seq, ..at }).collect();
        Group { entries, placed }
    }

    fn seqs(groups: &[Arc<Group>]) -> Vec<u64> {
        groups.iter().flat_map(|it| &it.placed).map(|it| it.seq).collect()
    }

    #[test]
    fn the_newest_of_what_waits_is_read_until_the_index_has_it() {
        let pending = Pending::new(Path::new("journal"), 0);
        let a1 = SerialNumber::parse("A1").unwrap();
        let all = entries("A1", 1, &[admission(1), quarantine(1)]);
        pending.push(group(all[..1].to_vec()));
        assert_eq!(pending.device(&a1).unwrap().unwrap().last_seq, 1);
        assert_eq!(pending.presentation(&key(1)).unwrap().unwrap().unwrap().outcome, None);
        pending.push(group(all[1..].to_vec()));
        assert_eq!(pending.device(&a1).unwrap().unwrap().last_seq, 2);
        assert!(pending.presentation(&key(1)).unwrap().unwrap().unwrap().outcome.is_some());
        assert!(pending.presentation(&key(2)).unwrap().is_none());
        let reset = StationEvent::FixtureReset { fixture: "nest-1".to_owned(), boot: 8 };
        pending.push(group(vec![station(3, reset)]));
        assert_eq!(pending.presentation(&key(1)).unwrap(), Some(None), "forgotten, not unknown");
        assert_eq!(seqs(&pending.oldest(2)), [1, 2]);
        assert_eq!(seqs(&pending.oldest(1)), [1], "what is being applied is still there");
        pending.applied(2);
        assert!(pending.device(&a1).unwrap().is_none(), "sled says it now");
        pending.wait_for(2).unwrap();
        pending.applied(1);
        pending.close();
        assert!(pending.oldest(100).is_empty());
    }

    #[test]
    fn a_commit_waits_where_too_much_waits_already_and_a_failure_lets_it_go() {
        for fails in [false, true] {
            let pending = Arc::new(Pending::new(Path::new("journal"), 0));
            for n in 1..=MAX_RECORDS as u64 {
                pending.push(group(entries("A1", n, &[admission(n)])));
            }
            let (waiting, next) = (pending.clone(), MAX_RECORDS as u64 + 1);
            let pushing =
                std::thread::spawn(move || waiting.push(group(entries("B2", next, &[admission(next)]))));
            assert_eq!(pending.lock().groups.len(), MAX_RECORDS, "no more are taken");
            if fails {
                pending.fail(JournalError::Behind { dir: PathBuf::new() });
                assert!(matches!(pending.check(), Err(JournalError::Behind { .. })));
                assert!(matches!(pending.wait_for(next), Err(JournalError::Final { .. })));
            } else {
                pending.applied(1);
            }
            pushing.join().unwrap();
            let left = if fails { MAX_RECORDS + 1 } else { MAX_RECORDS };
            assert_eq!(pending.lock().records, left);
        }
    }
}
