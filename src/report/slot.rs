//! What happened at the station in five minutes: counted as it is journaled, in rows of the journal's index that
//! grow with the time and not with the devices.

use std::collections::BTreeMap;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::model::MAX_LISTED;
use crate::device::Device;
use crate::device::event::Event;
use crate::device::operator::Operator;
use crate::journal::{CallCount, Called, Cause, LearnedLimit, Record, StationEvent, What};

/// How long one is, seconds.
pub const SECONDS: i64 = 300;

/// Slots over which one hindrance is spread at most: a month. A station that was off for longer was not down.
const MAX_SPREAD: i64 = 31 * 86_400 / SECONDS;

/// Orders of people to the station that are kept of one slot; further ones are counted.
const MAX_SAID: usize = 16;

/// What happened in one slot.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
#[expect(missing_docs, reason = "each is the number of events of that name")]
pub struct Slot {
    #[serde(skip_serializing_if = "is_zero")]
    pub admitted: u64,
    #[serde(skip_serializing_if = "is_zero")]
    pub repeated: u64,
    #[serde(skip_serializing_if = "is_zero")]
    pub issued: u64,
    #[serde(skip_serializing_if = "is_zero")]
    pub destroyed: u64,
    /// Presentations that ended with a failure.
    #[serde(skip_serializing_if = "is_zero")]
    pub failed: u64,
    /// Presentations that ended with `fail` while the work on the device went on.
    #[serde(skip_serializing_if = "is_zero")]
    pub deferred: u64,
    /// Starts of a daemon that had not said before that it stopped.
    #[serde(skip_serializing_if = "is_zero")]
    pub crashes: u64,
    /// What kept the station from its work, and which part of it: how often it began and how long it lasted.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub down: BTreeMap<String, Down>,
    /// What AWS was called for, by operation.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub calls: BTreeMap<String, Calls>,
    /// The limits of AWS that calls waited for while it gave less than was configured.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub learned: BTreeMap<String, LearnedLimit>,
    /// Since when the newest of these calls were counted.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub calls_since: Option<Timestamp>,
    /// How long any device waited for AWS, milliseconds.
    #[serde(skip_serializing_if = "is_zero")]
    pub busy_ms: u64,
    /// What people ordered that was against a rule of the station's.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub said: Vec<Said>,
    /// Such orders that are not kept, since there were too many.
    #[serde(skip_serializing_if = "is_zero")]
    pub unkept: u64,
    /// The newest record that counts here.
    pub seq: u64,
}

/// What an operation was called for, in one slot or in several.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Calls {
    /// All of them.
    #[serde(flatten)]
    pub count: CallCount,
    /// Most calls in one slot.
    #[serde(skip)]
    pub most: u64,
}

/// What a person has ordered the station to do all the same.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Said {
    /// When.
    pub at: Timestamp,
    /// What.
    pub what: String,
    /// Who, and why.
    pub by: Operator,
}

/// How often and how long.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Down {
    /// How often it began.
    #[serde(rename = "n")]
    pub times: u64,
    /// How long it lasted, milliseconds.
    pub ms: u64,
}

/// What keeps the station from its work now: cause and part, and since when, milliseconds since 1970.
pub type Open = BTreeMap<String, i64>;

/// The number of the slot that a time lies in.
#[must_use]
pub fn number(at: Timestamp) -> i64 {
    at.as_second().div_euclid(SECONDS)
}

/// The instant at which a slot begins.
#[must_use]
pub fn begin(number: i64) -> Timestamp {
    Timestamp::from_second(number.saturating_mul(SECONDS)).unwrap_or(Timestamp::MAX)
}

impl Slot {
    /// Adds another slot's, for the sum of several: what people ordered is bounded as a report's lists are.
    pub fn take_in(&mut self, other: &Self) {
        self.add_within(other, MAX_LISTED);
        for (operation, it) in &other.calls {
            if let Some(calls) = self.calls.get_mut(operation) {
                calls.most = calls.most.max(it.count.calls);
            }
        }
    }

    /// Adds what else happened in it.
    pub fn add(&mut self, other: &Self) {
        self.add_within(other, MAX_SAID);
    }

    fn add_within(&mut self, other: &Self, max_said: usize) {
        self.admitted += other.admitted;
        self.repeated += other.repeated;
        self.issued += other.issued;
        self.destroyed += other.destroyed;
        self.crashes += other.crashes;
        self.failed += other.failed;
        self.deferred += other.deferred;
        self.busy_ms += other.busy_ms;
        for (operation, it) in &other.calls {
            self.calls.entry(operation.clone()).or_default().count.add(&it.count);
        }
        for (limit, it) in &other.learned {
            self.learned.entry(limit.clone()).or_default().add(it);
        }
        self.calls_since = self.calls_since.max(other.calls_since);
        let kept = other.said.len().min(max_said.saturating_sub(self.said.len()));
        self.said.extend(other.said.iter().take(kept).cloned());
        self.unkept += other.unkept + (other.said.len() - kept) as u64;
        for (what, it) in &other.down {
            let down = self.down.entry(what.clone()).or_default();
            down.times += it.times;
            down.ms += it.ms;
        }
        self.seq = self.seq.max(other.seq);
    }
}

/// How a cause and the part of the station that it is about are written as one.
#[must_use]
pub fn key(cause: Cause, of: Option<&str>) -> String {
    match of {
        Some(of) => format!("{} {of}", cause.as_str()),
        None => cause.as_str().to_owned(),
    }
}

/// What the first presentation of a device adds that the journal had without one: it belongs to the time of that.
#[must_use]
pub fn of_first(device: &Device) -> Option<(i64, Slot)> {
    let at = device.presented_at.filter(|_| device.comes_late())?;
    Some((number(at), Slot { admitted: 1, seq: device.last_seq, ..Slot::default() }))
}

/// What a record adds to which slots. `open` is what keeps the station from its work, before and after it; `latest` the
/// latest time that a record before it bears.
#[must_use]
pub fn of(record: &Record, open: &mut Open, latest: Option<Timestamp>) -> Vec<(i64, Slot)> {
    let mut slot = Slot { seq: record.seq, ..Slot::default() };
    match &record.what {
        What::Device(event) => {
            match event {
                Event::Admitted(it) if !it.presentation.is_none() => slot.admitted = 1,
                Event::Repeated { .. } => slot.repeated = 1,
                Event::Issued { .. } => slot.issued = 1,
                Event::KeyDestroyed { .. } => slot.destroyed = 1,
                Event::Failed { .. } => slot.failed = 1,
                Event::Deferred { .. } => slot.deferred = 1,
                Event::Quarantined { presentation: Some(key), .. } if !key.is_none() => slot.failed = 1,
                _ => return Vec::new(),
            }
            vec![(number(record.at), slot)]
        }
        What::Station(event) => of_station(event, record, (open, latest), slot),
    }
}

fn of_station(
    event: &StationEvent,
    record: &Record,
    (open, latest): (&mut Open, Option<Timestamp>),
    mut slot: Slot,
) -> Vec<(i64, Slot)> {
    let now = record.at.as_millisecond();
    let mut all = Vec::new();
    match event {
        StationEvent::LineStopped { .. } => begin_one(open, key(Cause::LineStopped, None), now),
        StationEvent::LineResumed => end_one(open, &key(Cause::LineStopped, None), record, &mut all),
        StationEvent::ClockDoubted { .. } => begin_one(open, key(Cause::Clock, None), now),
        StationEvent::ClockTrusted => end_one(open, &key(Cause::Clock, None), record, &mut all),
        StationEvent::ClockOverridden { message, by } => {
            end_one(open, &key(Cause::Clock, None), record, &mut all);
            let what = format!("go on by the clock, of which it was said: {message}");
            all.push((number(record.at), said(slot, record, what, by)));
        }
        StationEvent::BatchReopened { batch, by } => {
            all.push((number(record.at), said(slot, record, format!("open batch {batch} again"), by)));
        }
        StationEvent::Called(called) => all.push(of_calls(called, slot)),
        StationEvent::Hindered { cause, of, since, .. } => {
            begin_one(open, key(*cause, of.as_deref()), since.as_millisecond().min(now));
        }
        StationEvent::Unhindered { cause, of } => {
            end_one(open, &key(*cause, of.as_deref()), record, &mut all)
        }
        StationEvent::Stopped => {
            // From now on the station itself is what is missing.
            for what in open.keys().cloned().collect::<Vec<_>>() {
                end_one(open, &what, record, &mut all);
            }
            begin_one(open, key(Cause::StationOff, None), now);
        }
        StationEvent::Started { .. } => {
            let off = key(Cause::StationOff, None);
            if open.contains_key(&off) {
                end_one(open, &off, record, &mut all);
            } else if record.seq > 1 {
                // Nobody knows when it ended: what was open is counted as far as there are records, no further.
                let known = latest.unwrap_or(record.at).min(record.at).as_millisecond();
                for (what, since) in std::mem::take(open) {
                    spread(&what, since, known.max(since), record.seq, &mut all);
                }
                slot.crashes = 1;
                all.push((number(record.at), slot));
            }
        }
        _ => {}
    }
    all
}

fn said(mut slot: Slot, record: &Record, what: String, by: &Operator) -> Slot {
    slot.said.push(Said { at: record.at, what, by: by.clone() });
    slot
}

/// Calls belong to the slot in which they began to be counted.
pub(super) fn of_calls(called: &Called, mut slot: Slot) -> (i64, Slot) {
    let calls = called.operations.iter().map(|(name, it)| (name.clone(), Calls { count: *it, most: 0 }));
    (slot.calls, slot.busy_ms) = (calls.collect(), called.busy_ms);
    slot.learned.clone_from(&called.learned);
    slot.calls_since = Some(called.since);
    (number(called.since), slot)
}

fn begin_one(open: &mut Open, what: String, since: i64) {
    open.entry(what).or_insert(since);
}

fn end_one(open: &mut Open, what: &str, record: &Record, all: &mut Vec<(i64, Slot)>) {
    if let Some(since) = open.remove(what) {
        spread(what, since, record.at.as_millisecond(), record.seq, all);
    }
}

/// Books a hindrance in the slots that it lasted through.
fn spread(what: &str, since: i64, until: i64, seq: u64, all: &mut Vec<(i64, Slot)>) {
    let length = SECONDS * 1000;
    let last = until.div_euclid(length);
    let first = since.div_euclid(length);
    for at in first.max(last - MAX_SPREAD)..=last {
        let ms = until.min((at + 1) * length) - since.max(at * length);
        let down = Down { times: u64::from(at == first), ms: u64::try_from(ms).unwrap_or(0) };
        let down = BTreeMap::from([(what.to_owned(), down)]);
        all.push((at, Slot { seq, down, ..Slot::default() }));
    }
}

/// What is open at `now`, as if it ended then: for a report that is made while it lasts.
#[must_use]
pub fn so_far(open: &Open, now: Timestamp) -> Vec<(i64, Slot)> {
    let mut all = Vec::new();
    for (what, since) in open {
        spread(what, *since, now.as_millisecond(), 0, &mut all);
    }
    all
}

/// For serde: what is zero is left out.
#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde wants a reference")]
fn is_zero(number: &u64) -> bool {
    *number == 0
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(seq: u64, second: i64, event: StationEvent) -> Record {
        let at = Timestamp::from_second(1_800_000_000 + second).unwrap();
        Record { seq, at, serial: None, what: What::Station(event) }
    }

    fn fold(records: Vec<Record>) -> (BTreeMap<i64, Slot>, Open) {
        let (mut slots, mut open) = (BTreeMap::<i64, Slot>::new(), Open::new());
        let mut latest = None;
        for it in records {
            for (number, slot) in of(&it, &mut open, latest) {
                slots.entry(number - 6_000_000).or_default().add(&slot);
            }
            latest = latest.max(Some(it.at));
        }
        (slots, open)
    }

    #[test]
    fn downtime_is_split_at_the_borders_and_a_stop_ends_all_else() {
        let started = StationEvent::Started { version: String::new(), config: String::new() };
        let (slots, open) = fold(vec![
            record(1, 0, started.clone()),
            record(2, 290, StationEvent::LineStopped { message: String::new() }),
            record(3, 291, StationEvent::LineStopped { message: "said again".into() }),
            record(4, 610, StationEvent::Stopped),
            record(5, 620, started.clone()),
            record(
                6,
                700,
                StationEvent::Hindered {
                    cause: Cause::FixtureAway,
                    of: Some("nest-1".into()),
                    since: Timestamp::from_second(1_800_000_690).unwrap(),
                    message: String::new(),
                },
            ),
            record(7, 710, started),
        ]);
        let line: Vec<_> =
            slots.iter().filter_map(|(at, it)| Some((*at, it.down.get("line-stopped")?.ms))).collect();
        assert_eq!(line, [(0, 10_000), (1, 300_000), (2, 10_000)]);
        assert_eq!(
            slots.values().filter_map(|it| it.down.get("line-stopped")).map(|it| it.times).sum::<u64>(),
            1
        );
        assert_eq!(slots[&2].down["station-off"], Down { times: 1, ms: 10_000 });
        // The daemon was killed: whether the fixture was away after the newest record nobody knows.
        assert_eq!(slots[&2].down["fixture-away nest-1"], Down { times: 1, ms: 10_000 });
        assert_eq!((slots[&2].crashes, slots[&2].down.len(), open.len()), (1, 3, 0));
    }

    #[test]
    fn what_was_away_counts_up_to_the_last_record_before_a_kill() {
        let started = StationEvent::Started { version: String::new(), config: String::new() };
        let hindered = StationEvent::Hindered {
            cause: Cause::Offline,
            of: Some("iot".into()),
            since: Timestamp::from_second(1_800_000_010).unwrap(),
            message: String::new(),
        };
        let by = Operator { uid: 1, name: "ada".to_owned(), reason: "it is right".to_owned() };
        let begin = |last: i64, again: i64| {
            let (slots, open) = fold(vec![
                record(1, 0, started.clone()),
                record(2, 20, hindered.clone()),
                record(3, last, StationEvent::Resumed { by: by.clone() }),
                record(4, again, started.clone()),
            ]);
            assert!(open.is_empty());
            let down = slots.values().filter_map(|it| it.down.get("offline iot"));
            let (times, ms) = down.fold((0, 0), |sum, it| (sum.0 + it.times, sum.1 + it.ms));
            (times, ms, slots.values().map(|it| it.crashes).sum::<u64>())
        };
        assert_eq!(begin(3_610, 7_200), (1, 3_600_000, 1), "an hour is known, and the other not");
        // The clock was ahead when the newest record was written, and is not when the station starts.
        assert_eq!(begin(9_000, 110), (1, 100_000, 1));
        assert_eq!(begin(9_000, 5), (1, 0, 1));
    }

    #[test]
    fn no_order_of_a_person_is_dropped_without_being_counted() {
        let order = |seq: u64, second| {
            let by = Operator { uid: 1, name: "ada".to_owned(), reason: "it is right".to_owned() };
            record(seq, second, StationEvent::ClockOverridden { message: seq.to_string(), by })
        };
        // Twenty in the first five minutes, one in each of the next three hundred.
        let many = (0..20).map(|it| order(it + 1, 1)).collect::<Vec<_>>();
        let later = (1..=300_u64).map(|it| order(it + 20, i64::try_from(it).unwrap() * SECONDS));
        let (slots, _) = fold(many.into_iter().chain(later).collect());
        assert_eq!((slots[&0].said.len(), slots[&0].unkept), (MAX_SAID, 4), "a row is bounded");
        assert_eq!((slots[&1].said.len(), slots[&1].unkept), (1, 0));
        let sum = |slots: usize, of: &BTreeMap<i64, Slot>| {
            let mut sum = Slot::default();
            of.values().take(slots).for_each(|it| sum.take_in(it));
            (sum.said.len(), sum.unkept)
        };
        assert_eq!(sum(100, &slots), (16 + 99, 4), "the bound of one row is not that of a report");
        assert_eq!(sum(301, &slots), (MAX_LISTED, 320 - 200));
        // Rows of before have not counted.
        let row = serde_json::to_value(&slots[&1]).unwrap();
        assert!(row.get("unkept").is_none(), "{row}");
        assert_eq!(serde_json::from_value::<Slot>(row).unwrap().said, slots[&1].said);
    }

    #[test]
    fn what_lasts_counts_up_to_now() {
        let open = Open::from([("offline iot".to_owned(), 1_800_000_000_500)]);
        let all = so_far(&open, Timestamp::from_second(1_800_000_301).unwrap());
        let ms: Vec<_> = all.iter().map(|(_, it)| it.down["offline iot"].ms).collect();
        assert_eq!(ms, [299_500, 1_000]);
    }
}
