//! Reports of histories that are told here, and a journal in memory to read them from.

mod absent;
pub(crate) mod batches;
mod calls;
mod golden;
mod property;
pub(crate) mod shifts;
mod waits;

use std::cell::Cell;
use std::collections::{BTreeMap, BTreeSet};
use std::ops::ControlFlow;

use jiff::tz::TimeZone;
use jiff::{SignedDuration, Timestamp};

use super::fold::{Context, Live};
use super::limits::{CERTIFICATES, Limits};
use super::model::StationHead;
use super::slot::{self, Open, Slot};
use super::source::{Expected, Head, Source};
use super::summary::{Summary, is_work, to_millisecond};
use crate::device::event::{Admission, CloseReason, Event, Output, PresentationKey, Waited};
use crate::device::operator::Operator;
use crate::device::serial::SerialNumber;
use crate::device::steps::Step;
use crate::device::{Certificate, Device, KeyState};
use crate::fixture::FailCode;
use crate::journal::fold::device_after;
use crate::journal::{Entry, JournalError, Record, StationEvent, What};
use crate::pki::Fingerprint;
use crate::shift::{Calendar, Days, Shift, parse_time};

/// A history, and the journal that it makes.
#[derive(Default)]
pub(crate) struct History {
    pub(crate) entries: Vec<Entry>,
    pub(crate) devices: BTreeMap<SerialNumber, Device>,
    summaries: BTreeMap<(Timestamp, SerialNumber), Summary>,
    slots: BTreeMap<i64, Slot>,
    open: Open,
    /// When each batch's first device came, and any was worked on last.
    batches: BTreeMap<String, (Timestamp, Timestamp)>,
    /// What the next device to be offered has waited for.
    pub(crate) waited: Waited,
}

pub(crate) fn at(text: &str) -> Timestamp {
    text.parse().unwrap()
}

pub(crate) fn serial(text: &str) -> SerialNumber {
    SerialNumber::parse(text).unwrap()
}

pub(crate) fn seconds(at: Timestamp, by: i64) -> Timestamp {
    at.checked_add(SignedDuration::from_secs(by)).unwrap()
}

pub(crate) fn admission(batch: Option<&str>, fixture: &str, id: u64) -> Admission {
    Admission {
        batch: batch.map(str::to_owned),
        ..Admission::of("thermostat", Fingerprint::of(b"rules"), presentation(fixture, id))
    }
}

pub(crate) fn presentation(fixture: &str, id: u64) -> PresentationKey {
    PresentationKey { fixture: fixture.to_owned(), boot: 1, id }
}

pub(crate) fn certificate(name: &str) -> Certificate {
    Certificate {
        fingerprint: Fingerprint::of(name.as_bytes()),
        der: vec![1],
        serial_number: "01".to_owned(),
        not_after: at("2036-01-01T00:00:00Z"),
        key: KeyState::Sealed,
        arn: None,
        public_key: None,
        issuer: None,
    }
}

pub(crate) fn operator(reason: &str) -> Operator {
    Operator { uid: 1000, name: "ada".to_owned(), reason: reason.to_owned() }
}

impl History {
    /// An event of a device, if it can follow; whether it could.
    pub(crate) fn try_device(&mut self, at: Timestamp, serial: &SerialNumber, event: Event) -> bool {
        let record = self.record(at, Some(serial.clone()), What::Device(event.clone()));
        let before = self.devices.get(serial);
        let state = before.map(|it| it.state);
        let Ok(Some(after)) = device_after(before.cloned(), &record) else { return false };
        let begun = slot::of_first(&after);
        if let Some((number, news)) = &begun {
            self.slots.entry(*number).or_default().add(news);
        }
        let row = |first| (to_millisecond(first), serial.clone());
        let known =
            self.summaries.remove(&row(begun.as_ref().map_or(after.first_at(), |_| after.admitted_at)));
        let key = row(after.first_at());
        let had_batch = begun.is_none() && known.as_ref().is_some_and(|it| it.batch.is_some());
        let it = Summary::after(known, &after, &event, at);
        if let Some(batch) = it.batch.as_ref().filter(|_| it.was_presented()) {
            let last = if !had_batch || is_work(&event, state, &after) { it.updated } else { it.first };
            let (first, last_of) = self.batches.entry(batch.clone()).or_insert((it.first, last));
            (*first, *last_of) = (it.first.min(*first), last.max(*last_of));
        }
        self.summaries.insert(key, it);
        self.devices.insert(serial.clone(), after.clone());
        self.take(Entry { record, device: Some((Box::new(after), state)) });
        true
    }

    pub(crate) fn device(&mut self, at: Timestamp, serial: &SerialNumber, event: Event) {
        let name = event.name();
        assert!(self.try_device(at, serial, event), "{name} of {serial}");
    }

    pub(crate) fn station(&mut self, at: Timestamp, event: StationEvent) {
        let record = self.record(at, None, What::Station(event));
        self.take(Entry { record, device: None });
    }

    fn record(&self, at: Timestamp, serial: Option<SerialNumber>, what: What) -> Record {
        Record { seq: self.entries.len() as u64 + 1, at, serial, what }
    }

    fn take(&mut self, entry: Entry) {
        let latest = self.entries.iter().map(|it| it.record.at).max();
        for (number, news) in slot::of(&entry.record, &mut self.open, latest) {
            self.slots.entry(number).or_default().add(&news);
        }
        self.entries.push(entry);
    }

    /// Its identity is made from `at` on, and offered after `making` seconds.
    pub(crate) fn make(&mut self, at: Timestamp, serial: &SerialNumber, making: i64) {
        let done = |step, output| Event::StepDone { step, output, adopted: false, request_id: None };
        self.device(
            seconds(at, making / 2),
            serial,
            Event::Issued { certificate: certificate(serial.as_str()) },
        );
        let arn = format!("arn:{serial}");
        self.device(seconds(at, making / 2), serial, done(Step::Certificate, Output::Certificate { arn }));
        self.device(seconds(at, making), serial, done(Step::Thing, Output::Nothing));
    }

    /// The credentials are offered in a presentation, and stored and read back within some seconds.
    pub(crate) fn pass(&mut self, at: Timestamp, serial: &SerialNumber, storing: i64) {
        let presentation = self.devices[serial].presentation.key.clone();
        self.device(at, serial, Event::Offered { presentation: presentation.clone(), waited: self.waited });
        self.device(
            seconds(at, storing),
            serial,
            Event::Passed { presentation, directory: None, label: false, waited: Waited::default() },
        );
        let fingerprint = self.devices[serial].certificate.as_ref().unwrap().fingerprint;
        self.device(seconds(at, storing + 1), serial, Event::KeyDestroyed { fingerprint });
    }

    pub(crate) fn fail(&mut self, at: Timestamp, serial: &SerialNumber, code: FailCode, message: &str) {
        let presentation = self.devices[serial].presentation.key.clone();
        self.device(at, serial, Event::Failed { presentation, code, message: message.to_owned() });
    }

    pub(crate) fn present(&mut self, at: Timestamp, serial: &SerialNumber, id: u64) {
        let presentation = presentation("nest-1", id);
        self.device(
            at,
            serial,
            Event::Presented {
                presentation,
                nest: None,
                mac: None,
                anew: None,
                attributes: Default::default(),
            },
        );
    }
}

impl Source for History {
    fn head(&self) -> Result<Head, JournalError> {
        Ok(Head { seq: self.entries.len() as u64, hash: "5".repeat(64) })
    }

    fn summaries(
        &self,
        begin: Timestamp,
        end: Timestamp,
        each: &mut dyn FnMut(Summary) -> ControlFlow<()>,
    ) -> Result<(), JournalError> {
        let mut all: Vec<_> = self.summaries.values().filter(|it| (begin..end).contains(&it.first)).collect();
        all.sort_by_key(|it| (it.first, &it.serial));
        let _ = all.into_iter().try_for_each(|it| each(it.clone()));
        Ok(())
    }

    fn passed_later(
        &self,
        begin: Timestamp,
        end: Timestamp,
        each: &mut dyn FnMut(Summary) -> ControlFlow<()>,
    ) -> Result<(), JournalError> {
        let here = |it: &&Summary| it.first < begin && it.passed.is_some_and(|at| (begin..end).contains(&at));
        let _ = self.summaries.values().filter(here).try_for_each(|it| each(it.clone()));
        Ok(())
    }

    fn slots(&self, begin: Timestamp, end: Timestamp, now: Timestamp) -> Result<Slot, JournalError> {
        let mut slots = self.slots.clone();
        for (number, news) in slot::so_far(&self.open, now) {
            slots.entry(number).or_default().add(&news);
        }
        let mut sum = Slot::default();
        slots
            .iter()
            .filter(|(number, _)| (begin..end).contains(&slot::begin(**number)))
            .for_each(|(_, it)| sum.take_in(it));
        Ok(sum)
    }

    fn batch(&self, id: &str) -> Result<Option<(Timestamp, Timestamp)>, JournalError> {
        Ok(self.batches.get(id).copied())
    }

    fn summary(&self, serial: &SerialNumber) -> Result<Option<Summary>, JournalError> {
        Ok(self.summaries.values().find(|it| it.serial == *serial).cloned())
    }
}

/// The journal as a report reads it while devices are coming: `then` is what it has seen of the devices when it
/// has told its newest record and has been gone through, `now` what it says of a single one after that.
struct Coming<'a> {
    then: &'a History,
    passed_by: &'a History,
    now: &'a History,
    /// How many reads of the slots still see what was there then.
    slots_then: Cell<usize>,
}

impl<'a> Coming<'a> {
    fn new(then: &'a History, passed_by: &'a History, now: &'a History) -> Self {
        Self { then, passed_by, now, slots_then: Cell::new(0) }
    }
}

impl Source for Coming<'_> {
    fn head(&self) -> Result<Head, JournalError> {
        self.then.head()
    }

    fn summaries(
        &self,
        begin: Timestamp,
        end: Timestamp,
        each: &mut dyn FnMut(Summary) -> ControlFlow<()>,
    ) -> Result<(), JournalError> {
        self.passed_by.summaries(begin, end, each)
    }

    fn passed_later(
        &self,
        begin: Timestamp,
        end: Timestamp,
        each: &mut dyn FnMut(Summary) -> ControlFlow<()>,
    ) -> Result<(), JournalError> {
        self.passed_by.passed_later(begin, end, each)
    }

    fn slots(&self, begin: Timestamp, end: Timestamp, now: Timestamp) -> Result<Slot, JournalError> {
        let left = self.slots_then.get();
        self.slots_then.set(left.saturating_sub(1));
        if left > 0 { self.then.slots(begin, end, now) } else { self.now.slots(begin, end, now) }
    }

    fn batch(&self, id: &str) -> Result<Option<(Timestamp, Timestamp)>, JournalError> {
        self.passed_by.batch(id)
    }

    fn summary(&self, serial: &SerialNumber) -> Result<Option<Summary>, JournalError> {
        self.now.summary(serial)
    }
}

/// A work order with a list.
pub(crate) struct Order(pub(crate) BTreeSet<SerialNumber>);

impl Expected for Order {
    fn count(&self) -> u64 {
        self.0.len() as u64
    }

    fn is_listed(&self) -> bool {
        true
    }

    fn contains(&self, serial: &SerialNumber) -> Result<bool, JournalError> {
        Ok(self.0.contains(serial))
    }

    fn missing(
        &self,
        made: &dyn Fn(&SerialNumber) -> Result<bool, JournalError>,
        each: &mut dyn FnMut(&SerialNumber),
    ) -> Result<(), JournalError> {
        for serial in &self.0 {
            if !made(serial)? {
                each(serial);
            }
        }
        Ok(())
    }
}

/// A work order of which only the number is known.
pub(crate) struct Count(pub(crate) u64);

impl Expected for Count {
    fn count(&self) -> u64 {
        self.0
    }

    fn is_listed(&self) -> bool {
        false
    }

    fn contains(&self, _: &SerialNumber) -> Result<bool, JournalError> {
        Ok(true)
    }

    fn missing(
        &self,
        _: &dyn Fn(&SerialNumber) -> Result<bool, JournalError>,
        _: &mut dyn FnMut(&SerialNumber),
    ) -> Result<(), JournalError> {
        Ok(())
    }
}

/// Three shifts in Vienna.
pub(crate) fn calendar() -> Calendar {
    let shift = |name: &str, start, end| Shift {
        name: name.to_owned(),
        start: parse_time(start).unwrap(),
        end: parse_time(end).unwrap(),
        days: Days::ALL,
    };
    Calendar {
        shifts: vec![
            shift("early", "06:00", "14:00"),
            shift("late", "14:00", "22:00"),
            shift("night", "22:00", "06:00"),
        ],
        timezone: TimeZone::get("Europe/Vienna").unwrap(),
        days_off: BTreeSet::new(),
    }
}

pub(crate) fn context(now: Timestamp) -> Context {
    Context {
        station: StationHead {
            id: "L3-S07".to_owned(),
            software: "0.1.0".to_owned(),
            config: Fingerprint::of(b"configuration").to_string(),
        },
        journal_id: "0123456789abcdef".to_owned(),
        calendar: calendar(),
        takt_ms: Some(600_000),
        now,
        limits: Limits::from([
            ("create-policy".to_owned(), 10_000),
            ("create-thing".to_owned(), 100_000),
            ("register-certificate-without-ca".to_owned(), 10_000),
            (CERTIFICATES.to_owned(), 15_000),
        ]),
        live: Live::default(),
    }
}

/// Closes the open presentation.
pub(crate) fn closed(presentation: PresentationKey) -> Event {
    Event::Closed { presentation, why: CloseReason::NewUnit, waited: Waited::default() }
}
