//! From the journal to the report: one look at each device of the selection, none of them kept.

use std::collections::BTreeMap;
use std::ops::ControlFlow;
use std::sync::Arc;

use jiff::{Timestamp, ToSpan as _};

use super::hours::{hour_of, hours, span};
use super::limits::{Limits, quota};
use super::model::{
    Balance, Certificates, Exception, Exceptions, Handover, Hour, JournalRange, MAX_SERIALS, Pace, Ratio,
    Report, SCHEMA, Span, StationHead, Times, Yields,
};
use super::rows::{Reasons, downtime, losses, outside, overrides, take_live};
use super::selection::Selection;
use super::sign::Signer;
use super::slot::Slot;
use super::source::{Expected, Orders, Source};
use super::summary::{Class, Spent, Summary};
use crate::device::serial::SerialNumber;
use crate::journal::{Called, JournalError};
use crate::reconcile::newest::Newest;
use crate::shift::Calendar;

/// Failures from which on a device that passed is an exception.
const OFTEN: u32 = 3;

/// What a report says beside the journal.
#[derive(Debug, Clone)]
pub struct Context {
    /// The station.
    pub station: StationHead,
    /// The journal's id.
    pub journal_id: String,
    /// The shift calendar.
    pub calendar: Calendar,
    /// The planned time for a device.
    pub takt_ms: Option<u64>,
    /// When it is made.
    pub now: Timestamp,
    /// The limits of AWS that are configured.
    pub limits: Limits,
    /// What the daemon says of itself.
    pub live: Live,
}

/// What the daemon says of itself; nothing where none was asked.
#[derive(Debug, Clone, Default)]
pub struct Live {
    /// What AWS was called for, as far as it is not journaled yet.
    pub calls: Option<Called>,
    /// How it does.
    pub handover: Handover,
}

/// What all reports of a station have in common.
#[derive(Debug, Clone)]
pub struct Maker {
    /// The station.
    pub station: StationHead,
    /// The journal's id.
    pub journal_id: String,
    /// The shift calendar.
    pub calendar: Calendar,
    /// The planned time for a device.
    pub takt_ms: Option<u64>,
    /// The limits of AWS that are configured.
    pub limits: Limits,
    /// The newest look at the account.
    pub looks: Newest,
    /// The work orders; none where the station has none.
    pub orders: Option<Arc<dyn Orders>>,
    /// Signs what is made.
    pub signer: Option<Arc<Signer>>,
}

impl Maker {
    /// Makes a report now.
    ///
    /// # Errors
    /// The journal or the order cannot be read.
    pub fn make(
        &self,
        source: &dyn Source,
        selection: &Selection,
        now: Timestamp,
        live: Live,
    ) -> Result<Report, JournalError> {
        let context = Context {
            station: self.station.clone(),
            journal_id: self.journal_id.clone(),
            calendar: self.calendar.clone(),
            takt_ms: self.takt_ms,
            limits: self.limits.clone(),
            now,
            live,
        };
        let order = match (selection, &self.orders) {
            (Selection::Batch(id), Some(orders)) => orders.order(id)?,
            _ => None,
        };
        make(source, selection, &context, order.as_deref())
    }

    /// The report as JSON, signed if there is a key.
    #[must_use]
    pub fn json(&self, report: &Report) -> String {
        match &self.signer {
            Some(signer) => signer.signed(report) + "\n",
            None => super::render::json::render(report),
        }
    }
}

/// Makes the report of a selection.
///
/// # Errors
/// The journal or the order cannot be read.
pub fn make(
    source: &dyn Source,
    selection: &Selection,
    context: &Context,
    expected: Option<&dyn Expected>,
) -> Result<Report, JournalError> {
    let head = source.head()?;
    let (begin, end) = span_of(source, selection, context)?;
    let counted = counted_from(selection, begin);
    let admitted_before = source.slots(counted, end, context.now)?.admitted;
    let mut tally = Tally::new(begin, end, context);
    let batch = match selection {
        Selection::Batch(id) => Some(id.as_str()),
        _ => None,
    };
    let mut failed = None;
    // Of an order by number so many are the ordered ones, as they came.
    let mut room = expected.filter(|it| !it.is_listed()).map_or(u64::MAX, Expected::count);
    source.summaries(begin, end, &mut |it| {
        // An order is weighed as of one record: devices may be coming while they are counted.
        if batch.is_some_and(|id| !it.is_in(id, head.seq)) {
            return ControlFlow::Continue(());
        }
        if !it.was_presented() {
            tally.take_absent(&it);
            return ControlFlow::Continue(());
        }
        match expected.map_or(Ok(true), |order| order.contains(&it.serial)) {
            Ok(true) if room > 0 => {
                room -= 1;
                tally.take(&it);
            }
            Ok(true) => tally.take_extra(&it, "beyond the number that was ordered"),
            Ok(false) => tally.take_extra(&it, "not on the order"),
            Err(error) => failed = Some(error),
        }
        if failed.is_some() { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    })?;
    if let Some(error) = failed {
        return Err(error);
    }
    if batch.is_none() {
        source.passed_later(begin, end, &mut |it| {
            tally.take_earlier(&it);
            ControlFlow::Continue(())
        })?;
    }
    let mut slot = source.slots(counted, end, context.now)?;
    if let Some(called) = &context.live.calls {
        take_live(source, &mut slot, called, (counted, end, context.now))?;
    }
    losses(source, &mut tally.hours, (counted, end, context.now))?;
    match (batch, expected) {
        (Some(id), Some(order)) => tally.weigh_order(source, (id, head.seq), order)?,
        (Some(_), None) => tally.weigh_alone(),
        (None, _) => tally.weigh_counted(admitted_before, slot.admitted),
    }
    let journal = JournalRange {
        id: context.journal_id.clone(),
        first: tally.seqs.0,
        last: tally.seqs.1,
        head: head.seq,
        head_hash: head.hash,
    };
    let span = span(selection, begin, end, context);
    let outside = outside(source, selection, &context.calendar)?;
    Ok(Report { outside, ..tally.finish(span, journal, &slot, context) })
}

/// The first instant and the first one after it.
fn span_of(
    source: &dyn Source,
    selection: &Selection,
    context: &Context,
) -> Result<(Timestamp, Timestamp), JournalError> {
    Ok(match selection {
        Selection::Shift(it) => (it.begin, it.end),
        Selection::Time { begin, end } => (*begin, *end),
        Selection::Batch(id) => match source.batch(id)? {
            Some((first, last)) => (first, last.checked_add(1.millisecond()).unwrap_or(last)),
            None => (context.now, context.now),
        },
    })
}

/// From when on what is counted by time belongs to it: a batch may begin at any instant, and has the five minutes in
/// which it does, as it has those in which it ends.
fn counted_from(selection: &Selection, begin: Timestamp) -> Timestamp {
    match selection {
        Selection::Batch(_) => super::slot::begin(super::slot::number(begin)),
        _ => begin,
    }
}

/// What is counted.
struct Tally {
    begin: Timestamp,
    end: Timestamp,
    seqs: (u64, u64),
    products: BTreeMap<String, u64>,
    fixtures: BTreeMap<String, u64>,
    batches: BTreeMap<String, u64>,
    balance: Balance,
    certificates: Certificates,
    exceptions: Exceptions,
    failures: Reasons,
    deferrals: Reasons,
    retested: u64,
    reworked: u64,
    pass_ms: Vec<u32>,
    spent: Spent,
    /// When devices passed, within the time.
    passes: Vec<i64>,
    hours: Vec<Hour>,
    serials: Option<Vec<String>>,
}

impl Tally {
    fn new(begin: Timestamp, end: Timestamp, context: &Context) -> Self {
        Self {
            begin,
            end,
            seqs: (0, 0),
            products: BTreeMap::new(),
            fixtures: BTreeMap::new(),
            batches: BTreeMap::new(),
            balance: Balance::default(),
            certificates: Certificates::default(),
            exceptions: Exceptions::default(),
            failures: Reasons::default(),
            deferrals: Reasons::default(),
            retested: 0,
            reworked: 0,
            pass_ms: Vec::new(),
            spent: Spent::default(),
            passes: Vec::new(),
            hours: hours(begin, end, context),
            serials: Some(Vec::new()),
        }
    }

    fn take(&mut self, it: &Summary) {
        let class = it.class();
        *match class {
            Class::FirstPass => &mut self.balance.first_pass,
            Class::AfterRetest => &mut self.balance.after_retest,
            Class::AfterRework => &mut self.balance.after_rework,
            Class::Scrapped => &mut self.balance.scrapped,
            Class::Quarantined => &mut self.balance.quarantined,
            Class::Failed => &mut self.balance.failed,
            Class::InProgress => &mut self.balance.in_progress,
        } += 1;
        let first = if self.seqs.0 == 0 { it.seqs.0 } else { self.seqs.0.min(it.seqs.0) };
        self.seqs = (first, self.seqs.1.max(it.seqs.1));
        count(&mut self.products, &it.product);
        count(&mut self.fixtures, &it.fixture);
        it.batch.iter().for_each(|batch| count(&mut self.batches, batch));
        self.name(it);
        self.failures.take(&it.serial, &it.failures);
        self.deferrals.take(&it.serial, &it.deferrals);
        self.time(it);
        self.certify(it, class);
        self.except(it, class);
        if let Some(hour) = hour_of(&mut self.hours, it.first) {
            hour.presented += 1;
        }
    }

    fn name(&mut self, it: &Summary) {
        match &mut self.serials {
            Some(all) if all.len() < MAX_SERIALS => all.push(it.serial.to_string()),
            all => *all = None,
        }
    }

    /// One that was never presented: it is in no figure of the devices.
    fn take_absent(&mut self, it: &Summary) {
        match it.extra {
            true => self.balance.extras_deleted += 1,
            false if it.given_up => {}
            false => self.balance.never_presented += 1,
        }
        if let Some(ordered) = &it.ordered {
            self.exceptions.ordered.push(|| exception(it, told(ordered)));
        }
        if it.class() == Class::Quarantined {
            let why = it.why.as_ref().map_or_else(|| it.state.as_str(), |(_, why)| why);
            self.exceptions.quarantined.push(|| exception(it, format!("never presented; {why}")));
        }
    }

    /// One of the batch that was not ordered.
    fn take_extra(&mut self, it: &Summary, why: &str) {
        self.balance.extras += 1;
        self.name(it);
        self.exceptions.extras.push(|| exception(it, format!("{}, but {why}", it.class().as_str())));
    }

    /// One that was first presented before the time and first passed in it.
    fn take_earlier(&mut self, it: &Summary) {
        self.balance.from_earlier += 1;
        self.passed_at(it);
    }

    fn passed_at(&mut self, it: &Summary) {
        let Some(passed) = it.passed.filter(|at| (self.begin..self.end).contains(at)) else { return };
        self.passes.push(passed.as_millisecond());
        if let Some(hour) = hour_of(&mut self.hours, passed) {
            hour.passed += 1;
        }
    }

    fn time(&mut self, it: &Summary) {
        self.retested += u64::from(it.presentations_to_pass() > 1);
        self.reworked += u64::from(it.reworks > 0);
        if it.passed.is_some_and(|at| at >= self.end) && it.class().is_good() {
            self.balance.passed_after += 1;
        }
        if let Some(ms) = it.pass_ms {
            self.pass_ms.push(u32::try_from(ms).unwrap_or(u32::MAX));
            self.spent.operator += it.spent.operator;
            self.spent.fixture += it.spent.fixture;
            self.spent.making += it.spent.making;
            self.spent.waited.add(&it.spent.waited);
        }
        self.passed_at(it);
    }

    fn certify(&mut self, it: &Summary, class: Class) {
        let all = &mut self.certificates;
        all.issued += u64::from(it.certificates.0);
        all.revoked += u64::from(it.certificates.1);
        all.active += u64::from(it.active);
        all.keys_destroyed += u64::from(it.destroyed);
        all.keys_waiting += u64::from(it.sealed);
        all.passed_without_active += u64::from(class.is_good() && !it.active && !it.by_device);
        all.active_without_pass += u64::from(!class.is_good() && it.active);
    }

    fn except(&mut self, it: &Summary, class: Class) {
        let all = &mut self.exceptions;
        let why = || it.why.as_ref().map_or_else(|| it.state.as_str().to_owned(), |(_, why)| why.clone());
        match class {
            Class::Quarantined => all.quarantined.push(|| exception(it, why())),
            Class::Scrapped => all.scrapped.push(|| {
                let active = if it.active { "; its certificate is still active" } else { "" };
                exception(it, format!("{}{active}", it.ordered.as_ref().map_or_else(why, told)))
            }),
            Class::Failed => all.failed.push(|| exception(it, why())),
            Class::InProgress => all.in_progress.push(|| exception(it, it.state.as_str().to_owned())),
            _ if it.failed_times() >= OFTEN => {
                let codes: Vec<_> =
                    it.failures.iter().map(|it| format!("{} {}", it.code, it.times)).collect();
                all.often_retested.push(|| exception(it, codes.join(", ")));
            }
            _ => {}
        }
        if let Some(ordered) = &it.ordered {
            all.ordered.push(|| exception(it, told(ordered)));
        }
        if it.repeats > 0 {
            self.balance.duplicates += u64::from(it.repeats);
            self.balance.duplicated_devices += 1;
            all.duplicates.push(|| exception(it, format!("{} times more", it.repeats)));
        }
    }

    fn sum(&mut self) -> u64 {
        let balance = &mut self.balance;
        balance.sum = balance.rows().iter().map(|(_, count)| count).sum();
        balance.sum
    }

    /// A work order: what it asks for is the total.
    fn weigh_order(
        &mut self,
        source: &dyn Source,
        (id, head): (&str, u64),
        order: &dyn Expected,
    ) -> Result<(), JournalError> {
        self.balance.of = "ordered".to_owned();
        self.balance.total = order.count();
        let made = |serial: &SerialNumber| Ok(source.summary(serial)?.is_some_and(|it| it.is_in(id, head)));
        if order.is_listed() {
            let missing = &mut self.exceptions.missing;
            order.missing(&made, &mut |serial| {
                let serial = serial.to_string();
                let why = "ordered and never presented in this batch".to_owned();
                missing.push(|| Exception { serial, at: None, code: None, why });
            })?;
            self.balance.missing = self.exceptions.missing.count;
        } else {
            self.balance.missing = order.count().saturating_sub(self.sum());
        }
        let (sum, total) = (self.sum(), self.balance.total);
        if sum != total {
            self.balance.problems.push(format!("{sum} are accounted for, but {total} were ordered"));
        }
        self.balance.closes = self.balance.problems.is_empty();
        Ok(())
    }

    /// A batch of which nobody knows what was ordered.
    fn weigh_alone(&mut self) {
        self.balance.of = "presented".to_owned();
        self.balance.total = self.sum();
        self.balance.closes = true;
    }

    /// A time: the total is what was counted as it came, apart from the devices. While devices are still
    /// coming it is counted before and after they are looked at.
    fn weigh_counted(&mut self, before: u64, after: u64) {
        self.balance.of = "presented".to_owned();
        let sum = self.sum();
        self.balance.total = sum.clamp(before, after.max(before));
        // What is counted is counted in steps of five minutes.
        let countable = |at: Timestamp| at.as_second().rem_euclid(super::slot::SECONDS) == 0;
        if !countable(self.begin) || !countable(self.end) {
            self.balance.total = sum;
        }
        if self.balance.total != sum {
            let message = format!(
                "the journal has counted {} first presentations, but holds {sum} devices of them",
                self.balance.total
            );
            self.balance.problems.push(message);
        }
        self.balance.closes = self.balance.problems.is_empty();
    }

    fn yields(&self) -> Yields {
        let balance = &self.balance;
        let (all, good) = (balance.sum - balance.missing, balance.good());
        Yields {
            first_pass: Ratio::new(
                balance.first_pass,
                all,
                "devices that passed in their very first presentation, of all presented",
            ),
            last: Ratio::new(good, all, "devices that have passed, whatever it took, of all presented"),
            attempts: Ratio::new(
                good,
                good + self.failures.sum(),
                "passes of passes and failures; a deferral is neither",
            ),
            retest: Ratio::new(
                self.retested,
                all,
                "devices presented more than once before they passed, of all presented",
            ),
            rework: Ratio::new(
                balance.after_rework,
                self.reworked,
                "devices good after a new identity or a release from quarantine, of those that had one",
            ),
        }
    }

    fn pace(&mut self, context: &Context) -> Pace {
        self.passes.sort_unstable();
        let gaps = self.passes.windows(2).map(|it| (it[1] - it[0], it[0]));
        let (gap, at) = gaps.max_by_key(|(gap, at)| (*gap, std::cmp::Reverse(*at))).unwrap_or((0, 0));
        let up_to = self.end.min(context.now.max(self.begin));
        let ms = u64::try_from(up_to.as_millisecond() - self.begin.as_millisecond()).unwrap_or(0);
        for hour in &mut self.hours {
            hour.target = context.takt_ms.and_then(|takt| (hour.seconds * 1000).checked_div(takt));
        }
        Pace {
            takt_ms: context.takt_ms,
            actual_ms: ms.checked_div(self.passes.len() as u64),
            hours: std::mem::take(&mut self.hours),
            longest_gap_ms: u64::try_from(gap).unwrap_or(0),
            longest_gap_at: if gap > 0 { Timestamp::from_millisecond(at).ok() } else { None },
        }
    }

    fn times(&mut self) -> Times {
        self.pass_ms.sort_unstable();
        let all = &self.pass_ms;
        // The smallest time that so many of them did not exceed.
        let at = |percent: usize| {
            let rank = (all.len() * percent).div_ceil(100).max(1);
            all.get(rank - 1).map(|it| u64::from(*it))
        };
        Times {
            devices: all.len() as u64,
            p50_ms: at(50),
            p95_ms: at(95),
            p99_ms: at(99),
            operator_ms: self.spent.operator,
            fixture_ms: self.spent.fixture,
            making_ms: self.spent.making,
            cloud_ms: Some(self.spent.waited.cloud),
            quota_ms: Some(self.spent.waited.quota),
            journal_ms: Some(self.spent.waited.journal),
        }
    }

    fn finish(mut self, span: Span, journal: JournalRange, slot: &Slot, context: &Context) -> Report {
        let (yields, failures, deferrals) = (self.yields(), self.failures.rows(), self.deferrals.rows());
        let (pace, times) = (self.pace(context), self.times());
        let up_to = self.end.min(context.now.max(self.begin));
        let ms = u64::try_from(up_to.as_millisecond() - self.begin.as_millisecond()).unwrap_or(0);
        let quota = quota(slot, (self.begin, ms), &context.limits);
        let handover =
            super::handover::with_actions(context.live.handover.clone(), &self.balance, &self.certificates);
        Report {
            schema: SCHEMA.to_owned(),
            version: 1,
            corrects: None,
            made_at: context.now,
            station: context.station.clone(),
            selection: span,
            journal,
            products: self.products,
            fixtures: self.fixtures,
            batches: self.batches,
            balance: self.balance,
            outside: None,
            yields,
            pace,
            times,
            downtime: downtime(slot),
            crashes: slot.crashes,
            failures,
            deferrals,
            exceptions: self.exceptions,
            certificates: self.certificates,
            overrides: overrides(slot),
            overrides_count: slot.said.len() as u64 + slot.unkept,
            cloud: None,
            quota,
            handover,
            serials: self.serials,
            stations: Vec::new(),
            twice: Vec::new(),
        }
    }
}

fn count(counts: &mut BTreeMap<String, u64>, name: &str) {
    match counts.get_mut(name) {
        Some(count) => *count += 1,
        None => {
            counts.insert(name.to_owned(), 1);
        }
    }
}

fn exception(it: &Summary, why: String) -> Exception {
    let code = it.why.as_ref().map(|(code, _)| code.to_string());
    Exception { serial: it.serial.to_string(), at: Some(it.updated), code, why }
}

/// Who has ordered what, and why.
fn told((order, by): &(String, crate::device::operator::Operator)) -> String {
    format!("{order} by {}: {}", by.name, by.reason)
}
