//! What a report needs to know of one device: a fold of its events, one small row for each device in the
//! journal's index, so that a shift of a hundred thousand devices is told without reading their records.

use std::collections::BTreeMap;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::device::event::{Event, Waited};
use crate::device::operator::Operator;
use crate::device::serial::SerialNumber;
use crate::device::{Certificate, Device, KeyState, State};
use crate::fixture::FailCode;

/// Characters that are kept of a sentence.
const MAX_TEXT: usize = 160;

/// One device, as the reports see it. Times are kept to the millisecond.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Summary {
    /// Its serial number.
    pub serial: SerialNumber,
    /// What it is.
    pub product: String,
    /// The batch that it belongs to: the one that it was admitted in, or came into later.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub batch: Option<String>,
    /// Sequence number of the record by which it came into its batch, or by which a device of the batch was first
    /// presented; 0 if that was its first.
    #[serde(default, skip_serializing_if = "is_zero_u64")]
    pub joined: u64,
    /// The fixture of its newest presentation.
    pub fixture: String,
    /// When it was first presented: that decides which shift it belongs to. Of one that never was, when it came into
    /// the journal.
    #[serde(with = "jiff::fmt::serde::timestamp::millisecond::required")]
    pub first: Timestamp,
    /// Sequence numbers of its first and its newest record.
    pub seqs: (u64, u64),
    /// Where it stands.
    pub state: State,
    /// It is given up, whether all of it is cleared away or not.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub given_up: bool,
    /// The account held it and the journal did not: it came into that only to be deleted.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub extra: bool,
    /// How often it was presented.
    pub presentations: u32,
    /// How often of those it had passed already.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub repeats: u32,
    /// In which presentation it first passed, counted from 1; 0 if it has not.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub passed_in: u32,
    /// When it first passed.
    #[serde(
        default,
        skip_serializing_if = "Option::is_none",
        with = "jiff::fmt::serde::timestamp::millisecond::optional"
    )]
    pub passed: Option<Timestamp>,
    /// When it was presented last.
    #[serde(with = "jiff::fmt::serde::timestamp::millisecond::required")]
    pub came: Timestamp,
    /// When its newest event was decided.
    #[serde(with = "jiff::fmt::serde::timestamp::millisecond::required")]
    pub updated: Timestamp,
    /// New identities that it was given after it had passed, and times that a person let it out of quarantine.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub reworks: u32,
    /// How often it failed, by code.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub failures: Vec<Fails>,
    /// How often it was deferred, by code: told `fail` while the work on it went on. Not among the failures.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub deferrals: Vec<Fails>,
    /// Why it failed or is in quarantine, while it is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub why: Option<(FailCode, String)>,
    /// What its fixture knew of it besides, when it presented it last.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub attributes: BTreeMap<String, String>,
    /// Certificates: issued, and of those no longer valid in the cloud.
    #[serde(default)]
    pub certificates: (u32, u32),
    /// Its present certificate is active in the cloud, as far as is recorded.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub active: bool,
    /// It has passed with a certificate that AWS registers when the device first connects (JITP): the station
    /// never hears whether it is active.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub by_device: bool,
    /// Private keys that were destroyed here.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub destroyed: u32,
    /// A private key of it lies sealed here.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub sealed: bool,
    /// The newest order that a person gave about it, who and why.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ordered: Option<(String, Operator)>,
    /// From the presentation in which it first passed to PASS, milliseconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pass_ms: Option<u64>,
    /// Where the time went from its first presentation until it first passed.
    #[serde(default)]
    pub spent: Spent,
    /// What it is at, until it has first passed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    phase: Option<Phase>,
}

/// Failures of one code.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Fails {
    /// The code.
    #[serde(rename = "c")]
    pub code: FailCode,
    /// How often.
    #[serde(rename = "n")]
    pub times: u32,
    /// When first.
    #[serde(rename = "f", with = "jiff::fmt::serde::timestamp::millisecond::required")]
    pub first: Timestamp,
    /// When last.
    #[serde(rename = "l", with = "jiff::fmt::serde::timestamp::millisecond::required")]
    pub last: Timestamp,
}

/// Where a device's time went, milliseconds.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Spent {
    /// Between two presentations: somebody had to put it into a nest again.
    #[serde(rename = "o", default, skip_serializing_if = "is_zero_u64")]
    pub operator: u64,
    /// From the offer of its credentials to the fixture's answer.
    #[serde(rename = "f", default, skip_serializing_if = "is_zero_u64")]
    pub fixture: u64,
    /// In a nest, while its identity was made.
    #[serde(rename = "c", default, skip_serializing_if = "is_zero_u64")]
    pub making: u64,
    /// Of that, what was recorded that it waited for.
    #[serde(rename = "w", default, skip_serializing_if = "Waited::is_nothing")]
    pub waited: Waited,
}

/// What a device that has not passed is waiting for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
enum Phase {
    #[serde(rename = "o")]
    Operator,
    #[serde(rename = "f")]
    Fixture,
    #[serde(rename = "c")]
    Making,
}

/// Where a device ends up in the balance: in exactly one of these.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Class {
    /// It passed in its first presentation.
    FirstPass,
    /// It passed when it was presented once more.
    AfterRetest,
    /// It passed with a new identity, or after a person had let it out of quarantine.
    AfterRework,
    /// It is given up for good.
    Scrapped,
    /// A person has to look at it.
    Quarantined,
    /// It failed, and may be presented again.
    Failed,
    /// It is neither passed nor failed.
    InProgress,
}

impl Class {
    /// All of them, in the order of the balance.
    pub const ALL: [Self; 7] = [
        Self::FirstPass,
        Self::AfterRetest,
        Self::AfterRework,
        Self::Scrapped,
        Self::Quarantined,
        Self::Failed,
        Self::InProgress,
    ];

    /// Its name in JSON and CSV.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::FirstPass => "first-pass",
            Self::AfterRetest => "after-retest",
            Self::AfterRework => "after-rework",
            Self::Scrapped => "scrapped",
            Self::Quarantined => "quarantined",
            Self::Failed => "failed",
            Self::InProgress => "in-progress",
        }
    }

    /// Whether it stands for a device that is good.
    #[must_use]
    pub const fn is_good(self) -> bool {
        matches!(self, Self::FirstPass | Self::AfterRetest | Self::AfterRework)
    }
}

impl Summary {
    /// The class of the device.
    #[must_use]
    pub fn class(&self) -> Class {
        match self.state {
            _ if self.given_up => Class::Scrapped,
            State::Scrapped => Class::Scrapped,
            State::Quarantined => Class::Quarantined,
            State::Failed => Class::Failed,
            State::Admitted | State::Provisioning | State::Delivering => Class::InProgress,
            State::Passed if self.reworks > 0 => Class::AfterRework,
            State::Passed if self.passed_in > 1 => Class::AfterRetest,
            State::Passed => Class::FirstPass,
        }
    }

    /// The summary after one more record of the device; `before` is the one so far, `device` the device after it.
    #[must_use]
    pub fn after(before: Option<Self>, device: &Device, event: &Event, at: Timestamp) -> Self {
        let at = to_millisecond(at);
        let mut it = before.unwrap_or_else(|| Self::new(device, at));
        it.clock(event, at);
        it.count(event, at);
        it.seqs.1 = device.last_seq;
        if it.batch != device.batch {
            it.batch.clone_from(&device.batch);
            it.joined = device.last_seq;
        }
        it.state = device.state;
        it.given_up = device.scrap.is_some();
        if it.presentations == 0 && device.presentations > 0 {
            it.begin(device, event);
        }
        it.presentations = device.presentations;
        if device.presentation.key.fixture != it.fixture {
            it.fixture.clone_from(&device.presentation.key.fixture);
        }
        it.came = to_millisecond(device.presentation.at);
        if device.attributes != it.attributes {
            it.attributes.clone_from(&device.attributes);
        }
        it.updated = at;
        it.why = device.failure.as_ref().map(|it| (it.code, it.message.chars().take(MAX_TEXT).collect()));
        let gone = device.superseded.iter().filter(|it| it.retired.is_some()).count();
        let present = device.certificate.as_ref();
        it.certificates = (device.certificates_issued, u32::try_from(gone).unwrap_or(u32::MAX));
        // What AWS has issued is inactive at first; what the station registers is not.
        let active = |it: &Certificate| it.arn.is_some() && (it.public_key.is_none() || device.done.active);
        it.active = present.is_some_and(active) && !it.given_up;
        it.by_device = device.state == State::Passed && present.is_some_and(|it| it.arn.is_none());
        let sealed = present.map(|it| it.key).into_iter().chain(device.superseded.iter().map(|it| it.key));
        it.sealed = sealed.chain(device.request.iter().map(|it| it.key)).any(|it| it == KeyState::Sealed);
        it
    }

    fn new(device: &Device, at: Timestamp) -> Self {
        Self {
            serial: device.serial.clone(),
            product: device.product.clone(),
            batch: device.batch.clone(),
            joined: 0,
            fixture: device.presentation.key.fixture.clone(),
            first: to_millisecond(device.admitted_at),
            seqs: (device.last_seq, device.last_seq),
            state: device.state,
            given_up: false,
            extra: false,
            presentations: 0,
            repeats: 0,
            passed_in: 0,
            passed: None,
            came: at,
            updated: at,
            reworks: 0,
            failures: Vec::new(),
            deferrals: Vec::new(),
            why: None,
            attributes: BTreeMap::new(),
            certificates: (0, 0),
            active: false,
            by_device: false,
            destroyed: 0,
            sealed: false,
            ordered: None,
            pass_ms: None,
            spent: Spent::default(),
            phase: Some(Phase::Making),
        }
    }

    /// Its first presentation: what was before it belongs to no shift, and is no failure and no rework of the device.
    fn begin(&mut self, device: &Device, event: &Event) {
        let Some(at) = device.presented_at.map(to_millisecond) else { return };
        (self.first, self.spent, self.joined) = (at, Spent::default(), device.last_seq);
        self.failures.clear();
        self.deferrals.clear();
        self.reworks = u32::from(matches!(event, Event::Renewed(_)));
        self.phase = Some(Phase::Making);
        // It was made and put into its directory while nobody had it in hand.
        if device.state == State::Passed {
            (self.passed, self.passed_in, self.phase) = (Some(at), 1, None);
        }
    }

    /// Books the time since the event before, while the device has not passed yet.
    fn clock(&mut self, event: &Event, at: Timestamp) {
        // What it waits for after the offer runs beside the fixture, whose time that is.
        let making = matches!(self.phase, Some(Phase::Making));
        if let Some(waited) = event.waited().filter(|_| making) {
            self.spent.waited.add(waited);
        }
        let next = match event {
            Event::Admitted(_) | Event::Presented { .. } => Phase::Making,
            Event::Offered { .. } => Phase::Fixture,
            Event::Failed { .. } | Event::Deferred { .. } | Event::Closed { .. } => Phase::Operator,
            Event::Quarantined { .. } | Event::Scrapping { .. } => Phase::Operator,
            Event::Passed { .. } => {
                self.book(at);
                self.phase = None;
                return;
            }
            _ => return self.book(at),
        };
        self.book(at);
        self.phase = self.phase.map(|_| next);
    }

    fn book(&mut self, at: Timestamp) {
        // A clock that was set back takes nothing away.
        let span = u64::try_from(at.as_millisecond() - self.updated.as_millisecond()).unwrap_or(0);
        match self.phase {
            Some(Phase::Operator) => self.spent.operator += span,
            Some(Phase::Fixture) => self.spent.fixture += span,
            Some(Phase::Making) => self.spent.making += span,
            None => {}
        }
    }

    fn count(&mut self, event: &Event, at: Timestamp) {
        match event {
            Event::Repeated { .. } if self.passed.is_some() => self.repeats += 1,
            Event::Renewed(_) => self.reworks += 1,
            Event::KeyDestroyed { .. } => self.destroyed += 1,
            Event::Passed { .. } if self.passed.is_none() && self.was_presented() => {
                self.passed = Some(at);
                self.passed_in = self.presentations;
                let ms = at.as_millisecond() - self.came.as_millisecond();
                self.pass_ms = Some(u64::try_from(ms).unwrap_or(0));
            }
            Event::Failed { code, .. } | Event::Quarantined { code, .. } => {
                once_more(&mut self.failures, *code, at);
            }
            Event::Deferred { code, .. } => once_more(&mut self.deferrals, *code, at),
            Event::Retried { by } => self.ordered = Some(("retry".to_owned(), by.clone())),
            Event::Released { by } => {
                self.reworks += 1;
                self.ordered = Some(("release".to_owned(), by.clone()));
            }
            Event::Mending { by, .. } => self.ordered = Some(("make again".to_owned(), by.clone())),
            Event::OrphanFound { by, .. } => {
                self.ordered = Some(("delete an orphaned certificate".to_owned(), by.clone()));
            }
            // A person who scraps what is in no nest names none: only a repair gives the key of no presentation.
            Event::Scrapping { by, presentation: Some(key), .. } if key.is_none() => {
                self.extra = true;
                self.ordered = Some(("delete what the journal did not know".to_owned(), by.clone()));
            }
            Event::Scrapping { by, .. } => self.ordered = Some(("scrap".to_owned(), by.clone())),
            _ => {}
        }
    }

    /// Whether it was ever presented. Before that it is in no figure.
    #[must_use]
    pub fn was_presented(&self) -> bool {
        self.presentations > 0
    }

    /// Whether it was presented and belonged to a batch when the given record was the newest.
    #[must_use]
    pub fn is_in(&self, batch: &str, head: u64) -> bool {
        self.was_presented() && self.batch.as_deref() == Some(batch) && self.seqs.0.max(self.joined) <= head
    }

    /// In how many presentations it has not passed yet, or passed first.
    #[must_use]
    pub fn presentations_to_pass(&self) -> u32 {
        if self.passed.is_some() { self.passed_in } else { self.presentations }
    }

    /// How often it failed.
    #[must_use]
    pub fn failed_times(&self) -> u32 {
        self.failures.iter().map(|it| it.times).sum()
    }

    /// How often it was deferred.
    #[must_use]
    pub fn deferred_times(&self) -> u32 {
        self.deferrals.iter().map(|it| it.times).sum()
    }
}

/// Whether an event is of the work that a batch's time is made of. What is done with a device that is done with is not:
/// a key's end, a deletion, a repair in the account may be years later.
#[must_use]
pub fn is_work(event: &Event, before: Option<State>, after: &Device) -> bool {
    let is_done = |it: State| matches!(it, State::Passed | State::Scrapped);
    match event {
        Event::Repeated { .. } | Event::Retried { .. } | Event::Released { .. } => false,
        Event::KeyDestroyed { .. } | Event::KeyLost { .. } | Event::KeyExpired { .. } => false,
        Event::Scrapping { .. } | Event::Scrapped => false,
        Event::Mending { .. } | Event::MendFailed { .. } | Event::OrphanFound { .. } => false,
        _ => after.scrap.is_none() && !(before.is_some_and(is_done) && is_done(after.state)),
    }
}

fn once_more(all: &mut Vec<Fails>, code: FailCode, at: Timestamp) {
    match all.iter_mut().find(|it| it.code == code) {
        Some(it) => (it.times, it.last) = (it.times + 1, at),
        None => all.push(Fails { code, times: 1, first: at, last: at }),
    }
}

/// For serde: what is zero is left out.
#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde wants a reference")]
fn is_zero(number: &u32) -> bool {
    *number == 0
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde wants a reference")]
fn is_zero_u64(number: &u64) -> bool {
    *number == 0
}

/// The time cut to its millisecond, as it is kept.
#[must_use]
pub fn to_millisecond(at: Timestamp) -> Timestamp {
    Timestamp::from_millisecond(at.as_millisecond()).unwrap_or(at)
}
