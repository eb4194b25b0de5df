//! What a device in a nest waits for while its identity is made, and what AWS is called for: for the reports.
//!
//! Steps run side by side, so their waits do not add up to the device's time. At each instant one thing counts:
//! while a call of the device is with AWS the cloud, else while one waits for its turn AWS's limits, else
//! while one waits for a record to be on disk the journal. What is left is the station's own work.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use jiff::Timestamp;

use super::Line;
use super::running::Running;
use super::throttle::Throttles;
use crate::cloud::{Answer, CloudError, FailureKind, HeldBack, Operation};
use crate::device::event::Waited;
use crate::device::serial::SerialNumber;
use crate::device::steps::Step;
use crate::journal::{CallCount, Called, LearnedLimit, StationEvent};
use crate::report::slot;

/// Spans that are kept of a device: then those so far are summed up. Only a step that pauses has one that is not over.
const MAX_SPANS: usize = 64;

/// Times at which records came to disk that are remembered.
const MAX_ON_DISK: usize = 4096;

/// A call is with AWS for no longer than this, unless the configuration says so (`aws.call_timeout`). One that
/// is out for longer has waited for its turn before.
const ANSWERED_WITHIN: Duration = Duration::from_secs(10);

/// What is waited for. What comes first counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum For {
    /// AWS's answer, or that AWS can be reached.
    Cloud,
    /// A call's turn.
    Turn,
    /// A record on disk.
    Disk,
}

/// What one device has waited for since it was presented; times are monotonic.
#[derive(Debug, Default)]
pub(super) struct Waits {
    since: Option<Duration>,
    spans: Vec<(Duration, Duration, For)>,
    sum: [Duration; 3],
}

impl Waits {
    /// Counts from `now` on.
    pub(super) fn begin(&mut self, now: Duration) {
        *self = Self { since: Some(now), ..Self::default() };
    }

    /// It waited from `begin` to `end`, or will have: that may lie behind `now`.
    pub(super) fn note(&mut self, (begin, end): (Duration, Duration), what: For, now: Duration) {
        let since = *self.since.get_or_insert(begin);
        if end > begin.max(since) {
            self.spans.push((begin.max(since), end, what));
        }
        if self.spans.len() >= MAX_SPANS {
            self.sum_up(now);
        }
    }

    /// All of it up to `now` that was not told before.
    pub(super) fn told(&mut self, now: Duration) -> Waited {
        self.sum_up(now);
        let sum = std::mem::take(&mut self.sum);
        let [cloud, quota, journal] = sum.map(|it| u64::try_from(it.as_millis()).unwrap_or(u64::MAX));
        Waited { cloud, quota, journal }
    }

    /// Adds the spans up to `now`; what is noted later counts from there on.
    fn sum_up(&mut self, now: Duration) {
        let mut borders: Vec<_> = self.spans.iter().flat_map(|it| [it.0, it.1]).collect();
        borders.retain(|it| *it < now);
        borders.push(now);
        borders.sort_unstable();
        borders.dedup();
        for part in borders.windows(2) {
            let covers = |it: &&(Duration, Duration, For)| it.0 <= part[0] && part[1] <= it.1;
            if let Some(what) = self.spans.iter().filter(covers).map(|it| it.2).min() {
                self.sum[what as usize] += part[1] - part[0];
            }
        }
        // A pause that is not over yet goes on.
        self.spans.retain_mut(|it| {
            it.0 = it.0.max(now);
            it.1 > now
        });
        self.since = Some(now);
    }
}

/// A call that is out: when it was asked for, and what had to be on disk first.
#[derive(Debug, Clone, Copy)]
pub(super) struct Asked {
    pub(super) at: Duration,
    pub(super) after: u64,
}

/// What AWS was called for since it was journaled last.
#[derive(Debug, Default)]
pub(super) struct Calls {
    /// None while there was nothing.
    made: Option<Called>,
    /// Up to when calls of an operation are known to have waited for their turn.
    bound_until: BTreeMap<Operation, Duration>,
    /// When it was looked last whether a call is out.
    looked: Option<Duration>,
    /// When which record came to disk, the newest at the end.
    on_disk: VecDeque<(u64, Duration)>,
    /// What calls wait for although the configuration allows more, as of the last look.
    held_back: Vec<HeldBack>,
    /// Up to which record that is not remembered any more, or was before the start.
    forgotten: u64,
    /// When AWS said last that it is called too often.
    pub(super) throttled: Option<Duration>,
    /// What of that holds the line up.
    pub(super) throttles: Throttles,
}

impl Calls {
    /// None yet; `seq` is the newest record of before the start.
    pub(super) fn since(seq: u64) -> Self {
        Self { forgotten: seq, ..Self::default() }
    }

    /// Everything up to `seq` has come to disk.
    fn came_to_disk(&mut self, seq: u64, at: Duration) {
        if self.on_disk.len() == MAX_ON_DISK
            && let Some((seq, _)) = self.on_disk.pop_front()
        {
            self.forgotten = seq;
        }
        self.on_disk.push_back((seq, at));
    }

    /// What is to be journaled; begun now if nothing was since.
    fn made(&mut self, now: Timestamp) -> &mut Called {
        self.made.get_or_insert_with(|| Called {
            since: now,
            busy_ms: 0,
            operations: BTreeMap::new(),
            learned: BTreeMap::new(),
        })
    }

    /// What is not journaled yet.
    pub(super) fn told(&self) -> Option<Called> {
        self.made.clone()
    }

    /// When what had to be was on disk for a call that is asked for. Of what was on disk too long ago it is not known
    /// when; the call has waited for other things since.
    fn released(&self, asked: Asked) -> Duration {
        if asked.after <= self.forgotten {
            return asked.at;
        }
        let place = self.on_disk.partition_point(|(seq, _)| *seq < asked.after);
        self.on_disk.get(place).map_or(asked.at, |(_, at)| (*at).max(asked.at))
    }
}

impl Line {
    /// Everything up to `seq` is on disk.
    pub(super) fn note_on_disk(&mut self, seq: u64) {
        if seq <= self.durable {
            return;
        }
        self.durable = seq;
        self.calls.came_to_disk(seq, self.now.mono);
    }

    /// What a device in a nest has waited for since that was told last, with what it waits for now.
    pub(super) fn waited(&mut self, serial: &SerialNumber) -> Waited {
        let now = self.now.mono;
        let Some(work) = self.works.get_mut(serial).filter(|it| it.device.is_open()) else {
            return Waited::default();
        };
        for it in work.running.values() {
            if it.parked().is_some() {
                work.waits.note((it.parked_at, now), For::Cloud, now);
            }
            if let Some(asked) = it.asked.filter(|_| it.call().is_some()) {
                let on_disk = asked.after <= self.durable;
                let released = if on_disk { self.calls.released(asked).min(now) } else { now };
                let sent = now.saturating_sub(ANSWERED_WITHIN).max(released);
                work.waits.note((asked.at, released), For::Disk, now);
                work.waits.note((released, sent), For::Turn, now);
                work.waits.note((sent, now), For::Cloud, now);
            }
        }
        work.waits.told(now)
    }

    /// A device's call was answered, having waited for its turn as long as that.
    pub(super) fn note_answer(
        &mut self,
        (serial, step): (&SerialNumber, Step),
        operation: Operation,
        (result, waited): (&Result<Answer, CloudError>, Duration),
    ) {
        let now = self.now.mono;
        let Some(work) = self.works.get_mut(serial) else { return };
        let asked = work.running.get_mut(&step).and_then(|it| it.asked.take());
        let asked = asked.unwrap_or(Asked { at: now.saturating_sub(waited), after: 0 });
        let released = self.calls.released(asked).min(now);
        let sent = (released + waited).min(now);
        work.waits.note((asked.at, released), For::Disk, now);
        work.waits.note((released, sent), For::Turn, now);
        work.waits.note((sent, now), For::Cloud, now);
        self.count_call(operation, result, (released, sent));
    }

    /// A device waits until its step is tried again.
    pub(super) fn note_pause(&mut self, serial: &SerialNumber, kind: FailureKind, wait: Duration) {
        let now = self.now.mono;
        let what = if kind == FailureKind::Throttled { For::Turn } else { For::Cloud };
        if let Some(work) = self.works.get_mut(serial) {
            work.waits.note((now, now + wait), what, now);
        }
    }

    /// Counts a call that was answered; it waited for its turn in that span.
    pub(super) fn count_call(
        &mut self,
        operation: Operation,
        result: &Result<Answer, CloudError>,
        (from, to): (Duration, Duration),
    ) {
        let throttled = matches!(result, Err(error) if error.kind == FailureKind::Throttled);
        if throttled {
            self.calls.throttled = Some(self.now.mono);
        }
        let until = self.calls.bound_until.entry(operation).or_default();
        let bound = to.saturating_sub(from.max(*until));
        *until = to.max(*until);
        let news = CallCount {
            calls: 1,
            throttled: u64::from(throttled),
            errors: u64::from(result.is_err() && !throttled),
            bound_ms: u64::try_from(bound.as_millis()).unwrap_or(0),
        };
        let made = self.calls.made(self.now.wall);
        made.operations.entry(operation.kebab().to_owned()).or_default().add(&news);
    }

    /// The limits that calls wait for until it is looked next, although the configuration allows more.
    pub(super) fn note_held_back(&mut self, limits: Vec<HeldBack>) {
        self.calls.throttles.note(&limits, self.now);
        self.calls.held_back = limits;
    }

    /// Looks whether devices wait for AWS, and journals what was called once its five minutes are over; to be
    /// called some times a second.
    pub(super) fn note_calls(&mut self) {
        let now = self.now.mono;
        let gap = self.calls.looked.replace(now).map_or(Duration::ZERO, |it| now.saturating_sub(it));
        // What the station's own CA is asked for is not AWS's; what is held back because AWS is away is.
        let waits = |it: &Running| it.call().is_some() || it.parked().is_some();
        let busy = self.works.values().any(|it| it.running.values().any(waits));
        let held_back = std::mem::take(&mut self.calls.held_back);
        if busy {
            // Also where nothing is called: while AWS is away devices wait for it all the same.
            let gap_ms = u64::try_from(gap.as_millis()).unwrap_or(0);
            let made = self.calls.made(self.now.wall);
            made.busy_ms += gap_ms;
            for (it, rate) in held_back.iter().filter_map(|it| Some((it, it.rate?))) {
                // From a float it is cut to what fits.
                let news = LearnedLimit { bound_ms: gap_ms, limit_milli: (rate * 1000.0).round() as u64 };
                made.learned.entry(it.limit.to_owned()).or_default().add(&news);
            }
        }
        let over = |it: &Called| slot::number(it.since) != slot::number(self.now.wall);
        if self.calls.made.as_ref().is_some_and(over) {
            self.journal_calls();
        }
    }

    /// Journals what was called, if anything was.
    pub(super) fn journal_calls(&mut self) {
        if let Some(made) = self.calls.made.take() {
            self.station_event(StationEvent::Called(Box::new(made)));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(millis: u64) -> Duration {
        Duration::from_millis(millis)
    }

    #[test]
    fn of_what_is_waited_for_at_the_same_time_one_counts_and_nothing_counts_twice() {
        let mut waits = Waits::default();
        waits.begin(at(1_000));
        // The locker's call: on disk after 10 ms, its turn after 300 ms more, answered 90 ms later.
        waits.note((at(1_000), at(1_010)), For::Disk, at(1_010));
        waits.note((at(1_010), at(1_310)), For::Turn, at(1_310));
        waits.note((at(1_310), at(1_400)), For::Cloud, at(1_400));
        // The thing's beside it: its turn at once, and 100 ms.
        waits.note((at(1_010), at(1_110)), For::Cloud, at(1_110));
        // Asked for before the device was presented: counts from there on.
        waits.note((at(200), at(1_004)), For::Cloud, at(1_004));
        // And 50 ms in which the station issues a certificate.
        assert_eq!(waits.told(at(1_450)), Waited { cloud: 90 + 100 + 4, quota: 200, journal: 6 });
        assert_eq!(waits.told(at(1_450)), Waited::default(), "once");
        waits.note((at(1_400), at(1_470)), For::Cloud, at(1_470));
        assert_eq!(
            waits.told(at(1_500)),
            Waited { cloud: 20, quota: 0, journal: 0 },
            "and goes on from there"
        );
    }

    #[test]
    fn a_pause_that_is_not_over_is_told_as_far_as_it_has_gone_and_the_rest_later() {
        let mut waits = Waits::default();
        waits.begin(at(0));
        waits.note((at(100), at(10_100)), For::Turn, at(100));
        assert_eq!(waits.told(at(600)), Waited { cloud: 0, quota: 500, journal: 0 });
        // Beside it another step's calls, more than are kept.
        for number in 0..100 {
            let (begin, end) = (at(1_000 + 10 * number), at(1_005 + 10 * number));
            waits.note((begin, end), For::Cloud, end);
        }
        assert_eq!(waits.told(at(3_000)), Waited { cloud: 500, quota: 1_900, journal: 0 });
        assert_eq!(waits.told(at(20_000)), Waited { cloud: 0, quota: 7_100, journal: 0 });
        assert!(waits.spans.is_empty());
    }

    #[test]
    fn very_many_tries_take_no_more_memory_and_lose_no_time() {
        let mut waits = Waits::default();
        waits.begin(at(0));
        for number in 0..1_000 {
            waits.note((at(10 * number), at(10 * number + 4)), For::Cloud, at(10 * number + 4));
            waits.note((at(10 * number + 4), at(10 * number + 10)), For::Turn, at(10 * number + 10));
            assert!(waits.spans.len() <= MAX_SPANS);
        }
        assert_eq!(waits.told(at(10_000)), Waited { cloud: 4_000, quota: 6_000, journal: 0 });
    }

    #[test]
    fn a_call_whose_record_was_on_disk_long_ago_has_not_waited_for_that() {
        let mut calls = Calls::default();
        let newest = MAX_ON_DISK as u64 + 10;
        (1..=newest).for_each(|seq| calls.came_to_disk(seq, at(100 * seq)));
        assert_eq!((calls.on_disk.len(), calls.forgotten), (MAX_ON_DISK, 10));
        let released = |after, asked| calls.released(Asked { at: at(asked), after });
        assert_eq!(released(3, 250), at(250), "nobody knows any more that it was for 50 ms");
        assert_eq!(released(10, 1_000), at(1_000));
        assert_eq!(released(11, 1_000), at(1_100));
        assert_eq!(released(newest, 5_000), at(100 * newest));
        // What an earlier process has written was on disk before anything was asked for.
        let mut calls = Calls::since(7);
        calls.came_to_disk(9, at(500));
        assert_eq!(calls.released(Asked { at: at(20), after: 7 }), at(20));
        assert_eq!(calls.released(Asked { at: at(20), after: 8 }), at(500));
    }
}
