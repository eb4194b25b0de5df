//! What is in the log and not yet in the index: the index's queue, and what readers look into first.
//!
//! A promise does not wait for sled: it is durable by the log alone. So that everybody still reads
//! what was promised, what waits here is asked before sled; whoever needs more than one device or
//! presentation waits until sled has all that was promised by then. Whoever follows the records reads
//! from here what is not yet in the index, and hurries nobody.

use std::collections::VecDeque;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use crate::device::Device;
use crate::device::event::PresentationKey;
use crate::device::serial::SerialNumber;
use crate::journal::log::Position;
use crate::journal::{Entry, JournalError, KnownPresentation, Record, What};
use crate::pki::Fingerprint;

use super::newest::{Newest, Said};

/// Records that wait at most: bounds their memory, and how far the index can be behind the log. A commit beyond it
/// waits.
const MAX_RECORDS: usize = 4096;

/// How long the index waits for more, where it could begin with less than [`ENOUGH`] records: longer than a device is
/// under way, so that most are written once, when they are done: each time costs sled processor time, and memory for a
/// piece of a page. A reader that waits is not kept waiting by that.
const GATHER: Duration = Duration::from_secs(1);

/// Records that are worth beginning with at once: what sled holds while it writes them is some megabytes.
const ENOUGH: usize = 2048;

/// Longest wait of a reader for the index: far beyond what the most records take.
const CAUGHT_UP_WITHIN: Duration = Duration::from_secs(10);

/// The records of one commit, and where they lie.
#[derive(Debug)]
pub(super) struct Group {
    /// Those of a device between its first and its newest are without the device as it was after them, which follows
    /// from the first: it is several times larger than the record.
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
    /// Which of them are the newest.
    newest: Newest,
    /// The newest record with which the index has begun.
    taken: u64,
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
            newest: Newest::default(),
            taken: applied,
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
        let State { newest, taken, groups, .. } = &mut *state;
        let between: Vec<_> = group.entries.iter().filter_map(|it| newest.take(it, *taken)).collect();
        groups.push_back(Arc::new(group));
        for seq in between {
            state.let_go(seq);
        }
        let wakes = begins || state.records >= ENOUGH;
        drop(state);
        if wakes {
            self.filled.notify_one();
        }
    }

    /// All that waits, at least one group; none when no more will come. They stay here until [`Self::applied`].
    pub(super) fn oldest(&self) -> Vec<Arc<Group>> {
        let none = |state: &mut State| state.groups.is_empty() && !state.closed && !state.failed;
        let state = self.filled.wait_while(self.lock(), none).unwrap_or_else(PoisonError::into_inner);
        let few = |state: &mut State| {
            state.records < ENOUGH && state.wanted <= state.applied && !state.closed && !state.failed
        };
        let gathered = self.filled.wait_timeout_while(state, GATHER, few);
        let (mut state, _) = gathered.unwrap_or_else(PoisonError::into_inner);
        let newest = state.groups.back().and_then(|it| it.placed.last());
        state.taken = newest.map_or(state.taken, |it| it.seq);
        state.groups.iter().cloned().collect()
    }

    /// The index holds the oldest `groups` now.
    pub(super) fn applied(&self, groups: usize) {
        let mut state = self.lock();
        let gone: Vec<_> = state.groups.drain(..groups).collect();
        for group in &gone {
            state.records = state.records.saturating_sub(group.entries.len());
            state.applied = group.placed.last().map_or(state.applied, |it| it.seq);
            for entry in &group.entries {
                state.newest.forget(entry);
            }
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
        let found = state.newest.of_device(serial).and_then(|it| state.entry(it));
        Ok(found.and_then(|it| it.device.as_ref()).map(|(device, _)| (**device).clone()))
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
        let record = match state.newest.of_presentation(key) {
            None => return Ok(None),
            Some(Said::Forgotten) => return Ok(Some(None)),
            Some(Said::Record(seq)) => state.entry(seq).map(|it| &it.record),
        };
        let Some(Record { serial: Some(serial), what: What::Device(event), .. }) = record else {
            return Ok(None);
        };
        let outcome = event.presentation().and_then(|(_, outcome)| outcome);
        Ok(Some(Some(KnownPresentation { serial: serial.clone(), outcome })))
    }

    /// Who tells that public key first, in what waits here; none if nobody does.
    ///
    /// # Errors
    /// As [`Self::check`].
    pub(super) fn holder_of_key(&self, key: &Fingerprint) -> Result<Option<SerialNumber>, JournalError> {
        let state = self.checked()?;
        let found = state.newest.of_key(key).and_then(|it| state.entry(it));
        Ok(found.and_then(|it| it.record.serial.clone()))
    }

    /// The records after `after` up to `newest`, at most `limit`, oldest first; none if the first of them waits no
    /// longer: then the log has to be read, and the index knows where.
    ///
    /// # Errors
    /// As [`Self::check`].
    pub(super) fn since(
        &self,
        after: u64,
        newest: u64,
        limit: usize,
    ) -> Result<Option<Vec<Record>>, JournalError> {
        let state = self.checked()?;
        if state.entry(after + 1).is_none() {
            return Ok(None);
        }
        let last = newest.min(after.saturating_add(limit as u64));
        let begins = |it: &&Arc<Group>| it.placed.first().is_some_and(|first| first.seq <= last);
        let groups = state.groups.range(state.group_of(after + 1)..).take_while(begins);
        let groups: Vec<_> = groups.cloned().collect();
        // Nobody waits while they are copied.
        drop(state);
        let records = groups.iter().flat_map(|it| &it.entries).map(|it| &it.record);
        let is_wanted = |it: &&Record| it.seq > after && it.seq <= last;
        Ok(Some(records.filter(is_wanted).cloned().collect()))
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

impl State {
    /// The place of the group that record `seq` would be in.
    fn group_of(&self, seq: u64) -> usize {
        let before = |it: &Arc<Group>| it.placed.last().is_some_and(|last| last.seq < seq);
        self.groups.partition_point(before)
    }

    /// Lets go of the device as it was after a record, unless somebody reads it just now.
    fn let_go(&mut self, seq: u64) {
        let at = self.group_of(seq);
        let Some(group) = self.groups.get_mut(at).and_then(Arc::get_mut) else { return };
        if let Ok(at) = group.placed.binary_search_by_key(&seq, |it| it.seq)
            && let Some(entry) = group.entries.get_mut(at)
        {
            entry.device = None;
        }
    }

    /// The record of that number, if it waits.
    fn entry(&self, seq: u64) -> Option<&Entry> {
        let group = self.groups.get(self.group_of(seq))?;
        let at = group.placed.binary_search_by_key(&seq, |it| it.seq).ok()?;
        group.entries.get(at)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::journal::StationEvent;
    use crate::journal::store::tests::{admission, entries, key, presented, quarantine, station};

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
        pending.lock().wanted = 3;
        assert_eq!(seqs(&pending.oldest()), [1, 2, 3]);
        assert_eq!(seqs(&pending.oldest()), [1, 2, 3], "what is being applied is still there");
        pending.applied(2);
        assert!(pending.device(&a1).unwrap().is_none(), "sled says it now");
        pending.wait_for(2).unwrap();
        pending.applied(1);
        pending.close();
        assert!(pending.oldest().is_empty());
    }

    /// Against a look at all that waits, newest first.
    #[test]
    fn whatever_waits_its_newest_record_is_found_and_nothing_is_kept_of_what_does_not() {
        let mut random = fastrand::Rng::with_seed(7);
        let pending = Pending::new(Path::new("journal"), 0);
        let mut seq = 0;
        for _ in 0..400 {
            let made = match random.u8(..8) {
                0 => vec![station(
                    seq + 1,
                    StationEvent::FixtureReset { fixture: "nest-1".to_owned(), boot: 8 },
                )],
                1 => vec![station(seq + 1, StationEvent::LineResumed)],
                _ => {
                    let (serial, id) = (format!("A{}", random.u8(..5)), random.u64(..6));
                    entries(&serial, seq + 1, &[admission(id), quarantine(id)][..random.usize(1..=2)])
                }
            };
            seq += made.len() as u64;
            pending.push(group(made));
            let waiting = pending.lock().groups.len();
            if waiting > random.usize(4..40) {
                pending.applied(random.usize(1..=waiting));
            }
            for n in 0..6 {
                let serial = SerialNumber::parse(&format!("A{n}")).unwrap();
                assert_eq!(pending.device(&serial).unwrap(), looked_for(&pending, &serial));
                assert_eq!(
                    pending.presentation(&key(n)).unwrap(),
                    looked_for_presentation(&pending, &key(n))
                );
            }
        }
        let waiting = pending.lock().groups.len();
        pending.applied(waiting);
        let state = pending.lock();
        assert!(state.newest.is_empty() && state.records == 0 && state.applied == seq);
    }

    fn newest_first(pending: &Pending) -> Vec<Entry> {
        pending.lock().groups.iter().rev().flat_map(|it| it.entries.iter().rev().cloned()).collect()
    }

    fn looked_for(pending: &Pending, serial: &SerialNumber) -> Option<Device> {
        let found = newest_first(pending).into_iter().filter_map(|it| it.device);
        found.map(|it| *it.0).find(|it| it.serial == *serial)
    }

    fn looked_for_presentation(
        pending: &Pending,
        key: &PresentationKey,
    ) -> Option<Option<KnownPresentation>> {
        newest_first(pending).into_iter().find_map(|it| match (it.record.what, it.record.serial) {
            (What::Device(event), Some(serial)) => {
                let (_, outcome) = event.presentation().filter(|it| it.0 == key)?;
                Some(Some(KnownPresentation { serial, outcome }))
            }
            (What::Station(StationEvent::FixtureReset { .. }), _) => Some(None),
            _ => None,
        })
    }

    #[test]
    fn between_the_first_and_the_newest_of_a_devices_records_it_is_kept_no_more() {
        let pending = Pending::new(Path::new("journal"), 0);
        let story = |from: u64, ids: std::ops::Range<u64>| {
            let events = std::iter::once(admission(from)).chain(ids.map(presented));
            entries("A1", from, &events.collect::<Vec<_>>())
        };
        let all = story(1, 2..9);
        pending.push(group(all[..1].to_vec()));
        pending.push(group(all[1..5].to_vec()));
        pending.push(group(entries("B2", 6, &[admission(6)])));
        let kept = || {
            let state = pending.lock();
            let kept = state.groups.iter().flat_map(|it| &it.entries).filter(|it| it.device.is_some());
            kept.map(|it| it.record.seq).collect::<Vec<_>>()
        };
        assert_eq!(kept(), [1, 5, 6]);
        pending.lock().wanted = 6;
        let begun_with = pending.oldest();
        // What comes now comes without what the index has begun with.
        let more = entries("A1", 7, &[admission(7), presented(8), presented(9)]);
        more.into_iter().for_each(|it| pending.push(group(vec![it])));
        assert_eq!(kept(), [1, 5, 6, 7, 9]);
        pending.applied(begun_with.len());
        assert_eq!(kept(), [7, 9]);
        assert_eq!(pending.device(&SerialNumber::parse("A1").unwrap()).unwrap().unwrap().last_seq, 9);
    }

    #[test]
    fn the_records_since_one_are_told_as_long_as_all_of_them_wait() {
        let pending = Pending::new(Path::new("journal"), 0);
        for n in 0..10 {
            let three = (1..=3).map(|it| station(3 * n + it, StationEvent::LineResumed)).collect();
            pending.push(group(three));
        }
        let since = |after, newest, limit| {
            let records = pending.since(after, newest, limit).unwrap();
            records.map(|it| it.iter().map(|it| it.seq).collect::<Vec<_>>())
        };
        pending.applied(2);
        assert_eq!(since(5, 30, 100), None, "the first of them is in the index");
        assert_eq!(since(6, 30, 100), Some((7..=30).collect()));
        assert_eq!(since(6, 30, 4), Some(vec![7, 8, 9, 10]));
        assert_eq!(since(7, 29, 100), Some((8..=29).collect()), "no further than what is promised");
        assert_eq!(since(29, 30, 1), Some(vec![30]));
        assert_eq!(since(30, 30, 1), None);
        pending.applied(8);
        assert_eq!(since(6, 30, 100), None);
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
