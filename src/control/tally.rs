//! What the journal's newest records come to: who lies in which nest, what was said of whom, how the shift goes.
//!
//! The same records always come to the same, so that a board shows after a restart what it showed before.
//! Everything is bounded: nests, the list of the latest verdicts, and the devices of one shift.

mod judged;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;

use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};

use self::judged::{Judged, Word};
use crate::device::State;
use crate::device::event::{Admission, Event, PresentationKey};
use crate::device::serial::SerialNumber;
use crate::device::steps::Step;
use crate::fixture::FailCode;
use crate::fixture::text::Messages;
use crate::journal::{Record, What};
use crate::shift::{Calendar, Shift, ShiftSpan};

/// Verdicts that are kept to be shown.
pub const RECENT: usize = 20;

/// Whole minutes that the pace is told for.
pub const MINUTES: usize = 60;

/// Nests that are kept; more than any station has, and no bound on what a fixture may call them.
const MAX_PLACES: usize = 64;

/// How a presentation ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Ending {
    /// The device holds its identity.
    Pass {
        /// It had passed before.
        again: bool,
    },
    /// `fail` was answered.
    Fail {
        /// With which code.
        code: FailCode,
        /// What the operator was told to do.
        sentence: String,
        /// The device has not failed: the work on it goes on.
        deferred: bool,
    },
}

/// What was said of a device.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Verdict {
    /// The device.
    pub serial: String,
    /// Where it lay.
    pub fixture: String,
    /// The nest, where the fixture names them.
    pub nest: Option<String>,
    /// The batch that it belongs to, where the presentation began within what is known.
    pub batch: Option<String>,
    /// When.
    pub at: Timestamp,
    /// From its presentation on, milliseconds; none where that is not known.
    pub took_ms: Option<i64>,
    /// What was said.
    pub ending: Ending,
}

/// A device in a nest that nothing was said of yet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unit {
    /// The device.
    pub serial: String,
    /// When it was presented.
    pub since: Timestamp,
    /// Where it stands.
    pub state: State,
    /// Its batch.
    pub batch: Option<String>,
}

/// A nest, as a person sees it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Place {
    /// Who lies in it and waits, in the order in which they were presented: one, or more where a fixture does not
    /// name its nests.
    pub units: Vec<Unit>,
    /// What was said last, until the next is presented.
    pub verdict: Option<Verdict>,
}

impl Place {
    /// Who was presented last, of those that wait.
    #[must_use]
    pub fn unit(&self) -> Option<&Unit> {
        self.units.last()
    }

    fn leaves(&mut self, serial: &SerialNumber) {
        self.units.retain(|it| it.serial != serial.as_str());
    }
}

/// The shift's figures up to now.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct Today {
    /// The shift's name; `null` before the first is known.
    pub shift: Option<String>,
    /// When it began.
    #[schema(value_type = Option<String>, format = DateTime)]
    pub began: Option<Timestamp>,
    /// Devices that have passed in it.
    pub passed: u64,
    /// Those among them that passed at the first presentation of this shift.
    pub passed_at_once: u64,
    /// Devices of which the last word of this shift is `fail`, those that are deferred not among them.
    pub failed: u64,
    /// Devices that were told `fail` last while the work on them goes on: neither passed nor failed, so they are in no yield.
    #[serde(default)]
    pub deferred: u64,
    /// Devices that passed in each of the last 60 minutes, oldest first; the last is the running minute.
    pub minutes: Vec<u64>,
    /// Seconds from one device to the next, over the last 30 minutes, or since the shift or its first device
    /// where that is later; `null` with fewer than two devices.
    pub pace_s: Option<f64>,
    /// What it should be (`station.takt`); `null` where the line has none.
    pub takt_s: Option<f64>,
}

impl Today {
    /// The part of the devices that have passed or failed that have passed, 0 to 1; none before the first.
    #[must_use]
    pub fn yield_share(&self) -> Option<f64> {
        share(self.passed, self.passed + self.failed)
    }

    /// The part that passed at once.
    #[must_use]
    pub fn first_pass_share(&self) -> Option<f64> {
        share(self.passed_at_once, self.passed + self.failed)
    }
}

fn share(part: u64, whole: u64) -> Option<f64> {
    (whole > 0).then(|| part as f64 / whole as f64)
}

/// How often a step ended how, since the daemon's start.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct StepCounts {
    /// It was done.
    pub done: u64,
    /// It was done already, and is ours.
    pub adopted: u64,
    /// What it had made was gone.
    pub undone: u64,
    /// It did not go through. At most a few are journaled for each device and step.
    pub trouble: u64,
}

/// What the newest records come to.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Tally {
    /// The newest record that is in it.
    pub seq: u64,
    /// The nests by fixture and nest, an empty name where the fixture names none.
    pub places: BTreeMap<(String, String), Place>,
    /// The latest verdicts, newest first.
    pub recent: VecDeque<Verdict>,
    /// Steps since the daemon's start.
    pub steps: BTreeMap<Step, StepCounts>,
    /// The end of the life of the certificate that was issued last.
    pub certificate_not_after: Option<Timestamp>,
    span: Option<ShiftSpan>,
    passed: u64,
    passed_at_once: u64,
    failed: u64,
    deferred: u64,
    /// (minute since 1970, devices passed in it), ascending.
    minutes: VecDeque<(i64, u64)>,
}

impl Tally {
    /// The shift's figures at `now`.
    #[must_use]
    pub fn today(&self, now: Timestamp, takt: Option<std::time::Duration>) -> Today {
        let minute = now.as_second().div_euclid(60);
        let first = minute - MINUTES as i64 + 1;
        let mut minutes = vec![0; MINUTES];
        for (at, count) in &self.minutes {
            if let Some(slot) = usize::try_from(at - first).ok().and_then(|it| minutes.get_mut(it)) {
                *slot += count;
            }
        }
        Today {
            shift: self.span.as_ref().map(|it| it.name.clone()),
            began: self.span.as_ref().map(|it| it.begin),
            passed: self.passed,
            passed_at_once: self.passed_at_once,
            failed: self.failed,
            deferred: self.deferred,
            pace_s: self.pace(now),
            minutes,
            takt_s: takt.map(|it| it.as_secs_f64()),
        }
    }

    fn count(&mut self, word: Word, change: fn(u64, u64) -> u64) {
        let at_once = u64::from(word == Word::PassedAtOnce);
        self.passed_at_once = change(self.passed_at_once, at_once);
        let of = match word {
            Word::PassedAtOnce | Word::Passed => &mut self.passed,
            Word::Failed => &mut self.failed,
            Word::Deferred => &mut self.deferred,
        };
        *of = change(*of, 1);
    }

    fn pace(&self, now: Timestamp) -> Option<f64> {
        let began = self.span.as_ref().map_or(now, |it| it.begin).as_second();
        // Before the first device that is known there was no pace.
        let first = self.minutes.front().map_or(0, |(at, _)| at * 60);
        let from = began.max(now.as_second() - 30 * 60).max(first).div_euclid(60);
        let count: u64 = self.minutes.iter().filter(|(at, _)| *at >= from).map(|(_, count)| count).sum();
        let seconds = now.as_second() - (from * 60).max(began);
        (count >= 2 && seconds > 0).then(|| seconds as f64 / count as f64)
    }
}

/// The shift of `now`; in a gap between two the day.
#[must_use]
pub fn span(calendar: &Calendar, now: Timestamp) -> Option<ShiftSpan> {
    let day = || Calendar { shifts: vec![Shift::whole_day()], days_off: BTreeSet::new(), ..calendar.clone() };
    calendar.at(now).or_else(|| day().at(now))
}

/// A presentation that nothing was said of yet.
#[derive(Debug, Clone)]
struct Open {
    serial: SerialNumber,
    place: (String, String),
    batch: Option<String>,
    at: Timestamp,
}

/// What a look at the wall clock has shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Looked {
    /// It goes on.
    On,
    /// It was set back out of the shift that is counted: [`Folder::begin_again`].
    Back,
}

/// Puts records together.
#[derive(Debug)]
pub struct Folder {
    calendar: Calendar,
    tally: Tally,
    open: BTreeMap<String, Open>,
    judged: Judged,
    /// Steps count from this record on.
    steps_after: u64,
    /// Records after this one were decided while somebody looked at the clock.
    live_after: u64,
    /// What the wall clock said last.
    present: Timestamp,
    /// The time that the record before was given.
    before: Option<Timestamp>,
    messages: Arc<Messages>,
}

impl Folder {
    /// Begins after record `seq`; steps count after `steps_after`, where the daemon has started.
    #[must_use]
    pub fn new(calendar: Calendar, seq: u64, steps_after: u64, now: Timestamp) -> Self {
        let span = span(&calendar, now);
        let tally = Tally { seq, span, ..Tally::default() };
        Self {
            calendar,
            tally,
            open: BTreeMap::new(),
            judged: Judged::default(),
            steps_after,
            live_after: steps_after,
            present: now,
            before: None,
            messages: Arc::default(),
        }
    }

    /// Has it say what operators read here.
    #[must_use]
    pub fn saying(self, messages: Arc<Messages>) -> Self {
        Self { messages, ..self }
    }

    /// What it has come to.
    #[must_use]
    pub fn tally(&self) -> &Tally {
        &self.tally
    }

    /// The wall clock says `now`. Begins a new count where another shift has begun by then; between two shifts the
    /// figures of the last one stay.
    pub fn look(&mut self, now: Timestamp) -> Looked {
        self.present = now;
        if self.tally.span.as_ref().is_some_and(|it| now < it.begin) {
            return Looked::Back;
        }
        self.advance(now);
        Looked::On
    }

    /// Another calendar holds from now on: [`begin_again`](Self::begin_again) is to follow.
    pub fn follow(&mut self, calendar: Calendar) {
        self.calendar = calendar;
    }

    /// Forgets what belongs to a shift and a nest, to be told all records after `seq` once more.
    pub fn begin_again(&mut self, seq: u64) {
        self.live_after = self.live_after.max(self.tally.seq);
        self.steps_after = self.steps_after.max(self.tally.seq);
        let steps = std::mem::take(&mut self.tally.steps);
        self.tally = Tally { seq, steps, span: span(&self.calendar, self.present), ..Tally::default() };
        self.before = None;
        self.open.clear();
        self.judged.clear();
    }

    fn advance(&mut self, now: Timestamp) {
        let held = self.tally.span.as_ref();
        if held.is_some_and(|it| (it.begin..it.end).contains(&now)) {
            return;
        }
        let next = match held {
            Some(_) => self.calendar.at(now),
            None => span(&self.calendar, now),
        };
        if let Some(next) = next.filter(|it| held.is_none_or(|held| held.begin < it.begin)) {
            self.tally.span = Some(next);
            (self.tally.passed, self.tally.passed_at_once) = (0, 0);
            (self.tally.failed, self.tally.deferred) = (0, 0);
            self.judged.clear();
        }
    }

    /// When a record was decided. Its own time may be of a clock that was ahead: then it was now, or if it is an old
    /// one at the time of the one before.
    fn time_of(&mut self, record: &Record) -> Timestamp {
        let live = record.seq > self.live_after;
        let at = match record.at > self.present {
            true if live => self.present,
            true => self.before.unwrap_or(Timestamp::UNIX_EPOCH),
            false => record.at,
        };
        self.before = Some(at);
        at
    }

    /// Takes in the next record; what it says of a device, if it does.
    pub fn fold(&mut self, record: &Record) -> Option<Verdict> {
        self.tally.seq = record.seq;
        let at = self.time_of(record);
        self.advance(at);
        let (Some(serial), What::Device(event)) = (&record.serial, &record.what) else { return None };
        self.count_step(record.seq, event);
        let messages = self.messages.clone();
        let told = |code, detail: &str, deferred| Ending::Fail {
            code,
            sentence: messages.fail(code, detail),
            deferred,
        };
        match event {
            // In no nest, and no figure of the shift.
            Event::Admitted(it) if it.presentation.is_none() => {}
            Event::Admitted(it) | Event::Renewed(it) => self.admitted(at, serial, it),
            Event::Presented { presentation, nest, anew, .. } => {
                let batch = anew.as_ref().and_then(|it| it.batch.clone());
                self.opened(at, serial, presentation, (nest.as_deref(), batch));
            }
            Event::Repeated { presentation, nest, .. } => {
                self.opened(at, serial, presentation, (nest.as_deref(), None));
                return self.ended(at, serial, presentation, Ending::Pass { again: true });
            }
            Event::Passed { presentation, .. } => {
                return self.ended(at, serial, presentation, Ending::Pass { again: false });
            }
            Event::Failed { presentation, code, message }
            | Event::Quarantined { presentation: Some(presentation), code, message, .. }
                if !presentation.is_none() =>
            {
                return self.ended(at, serial, presentation, told(*code, message, false));
            }
            Event::Deferred { presentation, code, message, .. } => {
                return self.ended(at, serial, presentation, told(*code, message, true));
            }
            Event::Scrapping { presentation: Some(presentation), message, .. } if !presentation.is_none() => {
                return self.ended(at, serial, presentation, told(FailCode::Quarantined, message, false));
            }
            Event::Quarantined { .. } | Event::Scrapping { .. } | Event::KeyExpired { .. } => {
                self.given_up(serial);
            }
            Event::Closed { presentation, .. } => self.closed(serial, presentation),
            Event::Offered { .. } => self.stands(serial, State::Delivering),
            Event::Issued { certificate } => {
                self.tally.certificate_not_after = Some(certificate.not_after);
                self.stands(serial, State::Provisioning);
            }
            Event::CsrMade { .. } | Event::StepDone { .. } => {
                self.stands(serial, State::Provisioning);
            }
            _ => {}
        }
        None
    }

    fn count_step(&mut self, seq: u64, event: &Event) {
        if seq <= self.steps_after {
            return;
        }
        let step = match event {
            Event::Issued { .. } => Step::Issue,
            Event::StepDone { step, .. } | Event::StepUndone { step } | Event::Trouble { step, .. } => *step,
            _ => return,
        };
        let counts = self.tally.steps.entry(step).or_default();
        match event {
            Event::StepDone { adopted: true, .. } => counts.adopted += 1,
            Event::StepUndone { .. } => counts.undone += 1,
            Event::Trouble { .. } => counts.trouble += 1,
            _ => counts.done += 1,
        }
    }

    fn admitted(&mut self, at: Timestamp, serial: &SerialNumber, it: &Admission) {
        self.opened(at, serial, &it.presentation, (it.nest.as_deref(), it.batch.clone()));
    }

    fn opened(
        &mut self,
        at: Timestamp,
        serial: &SerialNumber,
        presentation: &PresentationKey,
        (nest, batch): (Option<&str>, Option<String>),
    ) {
        let place = (presentation.fixture.clone(), nest.unwrap_or_default().to_owned());
        if self.open.len() >= MAX_PLACES {
            let oldest = self.open.iter().min_by_key(|(_, it)| it.at).map(|(key, _)| key.clone());
            let oldest = oldest.and_then(|key| self.open.remove(&key));
            if let Some((place, it)) = oldest.and_then(|it| Some((self.tally.places.get_mut(&it.place)?, it)))
            {
                place.leaves(&it.serial);
            }
        }
        let open = Open { serial: serial.clone(), place: place.clone(), batch: batch.clone(), at };
        self.open.insert(presentation.to_string(), open);
        // A nest that has a name holds one unit.
        let mut units = if place.1.is_empty() { self.others(&place, serial) } else { Vec::new() };
        units.push(Unit { serial: serial.to_string(), since: at, state: State::Admitted, batch });
        self.put(place, Place { units, verdict: None });
    }

    /// Who else lies there.
    fn others(&self, place: &(String, String), serial: &SerialNumber) -> Vec<Unit> {
        let units = self.tally.places.get(place).into_iter().flat_map(|it| &it.units);
        units.filter(|it| it.serial != serial.as_str()).cloned().collect()
    }

    fn put(&mut self, key: (String, String), place: Place) {
        let places = &mut self.tally.places;
        if places.len() >= MAX_PLACES && !places.contains_key(&key) {
            let told = |it: &Place| it.unit().map(|it| it.since).max(it.verdict.as_ref().map(|it| it.at));
            let oldest = places.iter().min_by_key(|(_, it)| told(it)).map(|(key, _)| key.clone());
            oldest.map(|key| places.remove(&key));
        }
        places.insert(key, place);
    }

    /// The unit of that serial, wherever it lies, has come so far.
    fn stands(&mut self, serial: &SerialNumber, state: State) {
        let units = self.tally.places.values_mut().flat_map(|it| &mut it.units);
        units.filter(|it| it.serial == serial.as_str()).for_each(|it| it.state = state);
    }

    /// Nothing was said: it was taken out, or the fixture has forgotten it.
    fn closed(&mut self, serial: &SerialNumber, presentation: &PresentationKey) {
        let Some(open) = self.open.remove(&presentation.to_string()) else { return };
        let Some(place) = self.tally.places.get_mut(&open.place) else { return };
        place.leaves(serial);
    }

    fn ended(
        &mut self,
        at: Timestamp,
        serial: &SerialNumber,
        presentation: &PresentationKey,
        ending: Ending,
    ) -> Option<Verdict> {
        let open = self.open.remove(&presentation.to_string());
        let place =
            open.as_ref().map_or_else(|| self.only_place(&presentation.fixture), |it| it.place.clone());
        let took = open.as_ref().map(|it| at.duration_since(it.at)).filter(|it| *it >= SignedDuration::ZERO);
        let verdict = Verdict {
            serial: serial.to_string(),
            fixture: presentation.fixture.clone(),
            nest: Some(place.1.clone()).filter(|it| !it.is_empty()),
            batch: open.and_then(|it| it.batch),
            at,
            took_ms: took.and_then(|it| i64::try_from(it.as_millis()).ok()),
            ending,
        };
        self.judge(at, serial, &verdict.ending);
        let units = self.others(&place, serial);
        self.put(place, Place { units, verdict: Some(verdict.clone()) });
        self.tally.recent.truncate(RECENT - 1);
        self.tally.recent.push_front(verdict.clone());
        Some(verdict)
    }

    /// Where a unit must lie whose presentation began before what is known.
    fn only_place(&self, fixture: &str) -> (String, String) {
        let mut known = self.tally.places.keys().filter(|it| it.0 == fixture);
        match (known.next(), known.next()) {
            (Some(it), None) => it.clone(),
            _ => (fixture.to_owned(), String::new()),
        }
    }

    fn judge(&mut self, at: Timestamp, serial: &SerialNumber, ending: &Ending) {
        if self.tally.span.as_ref().is_some_and(|it| at < it.begin)
            || *ending == (Ending::Pass { again: true })
        {
            return;
        }
        let before = self.judged.get(serial);
        let word = match (ending, before) {
            (Ending::Fail { deferred: true, .. }, _) => Word::Deferred,
            (Ending::Fail { deferred: false, .. }, _) => Word::Failed,
            (Ending::Pass { .. }, None | Some(Word::PassedAtOnce)) => Word::PassedAtOnce,
            (Ending::Pass { .. }, Some(Word::Passed | Word::Failed | Word::Deferred)) => Word::Passed,
        };
        self.is_now(serial, before, word);
        let has_passed = |it| matches!(it, Word::Passed | Word::PassedAtOnce);
        if has_passed(word) && !before.is_some_and(has_passed) {
            self.passed_in(at.as_second().div_euclid(60));
        }
    }

    /// In no nest: of one that was deferred this is the last word.
    fn given_up(&mut self, serial: &SerialNumber) {
        let before = self.judged.get(serial).filter(|it| *it == Word::Deferred);
        if before.is_some() {
            self.is_now(serial, before, Word::Failed);
        }
    }

    fn is_now(&mut self, serial: &SerialNumber, before: Option<Word>, word: Word) {
        self.judged.insert(serial, word);
        before.into_iter().for_each(|it| self.tally.count(it, u64::wrapping_sub));
        self.tally.count(word, u64::wrapping_add);
    }

    fn passed_in(&mut self, minute: i64) {
        let minutes = &mut self.tally.minutes;
        match minutes.back_mut() {
            // A clock that was set back counts in the newest minute.
            Some((at, count)) if *at >= minute => *count += 1,
            _ => minutes.push_back((minute, 1)),
        }
        if minutes.len() > MINUTES {
            minutes.pop_front();
        }
    }
}

#[cfg(test)]
mod tests;
