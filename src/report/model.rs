//! What a report says. Members are only ever added within a schema; every one is always there, `null` or empty
//! where it does not apply. Numbers are whole: shares are ten-thousandths, spans milliseconds where their name
//! says so, so that the same report is the same bytes everywhere.

use std::collections::BTreeMap;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

/// The schema that `docs/report.schema.json` describes.
pub const SCHEMA: &str = "linemint-report/1";

/// Devices that are listed in each list of exceptions at most; the rest by their number. Those that were presented are
/// in the CSV, and those that are missing in the batch (`linemint batch show ID --missing`).
pub const MAX_LISTED: usize = 200;

/// Devices that are named in a report at most: beyond, their serial numbers are in the CSV only.
pub const MAX_SERIALS: usize = 200_000;

/// A report.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Report {
    /// [`SCHEMA`].
    pub schema: String,
    /// 1; a correction counts on.
    pub version: u32,
    /// SHA-256 of the canonical JSON of the report that this one corrects.
    pub corrects: Option<String>,
    /// When it was made.
    pub made_at: Timestamp,
    /// Whose it is.
    pub station: StationHead,
    /// What it is about.
    pub selection: Span,
    /// The part of the journal that it was made from; empty in a merged report, since each station has its own.
    pub journal: JournalRange,
    /// Devices by product.
    pub products: BTreeMap<String, u64>,
    /// Devices by the fixture of their newest presentation.
    pub fixtures: BTreeMap<String, u64>,
    /// Devices by batch; those of none are not among them.
    pub batches: BTreeMap<String, u64>,
    /// Whether it comes out even.
    pub balance: Balance,
    /// Of a shift: devices that came between the shift before and this one, if any did. No shift's report has them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub outside: Option<Outside>,
    /// How many were good.
    pub yields: Yields,
    /// How fast it went.
    pub pace: Pace,
    /// How long a device took.
    pub times: Times,
    /// What kept the station from its work, the longest first.
    pub downtime: Vec<Downtime>,
    /// Times that the daemon ended without saying so. How long it was away then is not in the downtime.
    pub crashes: u64,
    /// Why devices failed, the most frequent reason first.
    pub failures: Vec<FailureRow>,
    /// Why devices were told `fail` while the work on them went on: they are deferred, not failed. In
    /// reports of before they are among the failures.
    #[serde(default)]
    pub deferrals: Vec<FailureRow>,
    /// Devices that somebody should know of.
    pub exceptions: Exceptions,
    /// What people have ordered the station to do against one of its rules: at most [`MAX_LISTED`], of five
    /// minutes at most 16.
    #[serde(default)]
    pub overrides: Vec<Override>,
    /// How many such orders there were; 0 in reports of before, which have none but those listed.
    #[serde(default)]
    pub overrides_count: u64,
    /// Certificates and private keys of these devices.
    pub certificates: Certificates,
    /// What the account was found to hold for them; `null` if the report was made without looking.
    #[serde(default)]
    pub cloud: Option<CloudCheck>,
    /// The limits of AWS in this time; `null` if AWS was not called in it.
    pub quota: Option<Quota>,
    /// What the next shift has to know.
    pub handover: Handover,
    /// The serial numbers of these devices, and of those that were not ordered, in the order in which they were first
    /// presented; `null` if there are more than [`MAX_SERIALS`], in a merged report, and in one of before.
    #[serde(default)]
    pub serials: Option<Vec<String>>,
    /// Of a merged report: each station's own. Else empty.
    pub stations: Vec<StationRow>,
    /// Of a merged report: serial numbers that several stations have, the first 200.
    pub twice: Vec<Twice>,
}

/// Whose a report is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct StationHead {
    /// The station's id; several with blanks between them in a merged report.
    pub id: String,
    /// linemint's version.
    pub software: String,
    /// Hash of the configuration; empty in a merged report of stations that differ in it.
    pub config: String,
}

/// What a report is about.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Span {
    /// `shift`, `time` or `batch`.
    pub kind: String,
    /// The shift as `2026-11-22/early`, or the batch.
    pub name: Option<String>,
    /// The calendar's time zone, IANA.
    pub timezone: String,
    /// The first instant.
    pub begin: Timestamp,
    /// The first instant after it.
    pub end: Timestamp,
    /// The same on the clock of the wall, with its offset.
    pub begin_local: String,
    /// Likewise.
    pub end_local: String,
    /// How long it is.
    pub minutes: i64,
    /// Minutes by which a shift is longer than its times on the wall say, since the clocks change in it.
    pub extra_minutes: i64,
    /// Days in it that have not 24 hours, with what they have.
    pub odd_days: BTreeMap<String, i64>,
    /// It was over when the report was made.
    pub over: bool,
}

/// The part of the journal that a report was made from.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct JournalRange {
    /// The journal's id.
    pub id: String,
    /// The first record of these devices; 0 if there is none.
    pub first: u64,
    /// Their newest record.
    pub last: u64,
    /// The newest record of the journal when the report was begun: all up to it is in.
    pub head: u64,
    /// Its hash in the journal's chain.
    pub head_hash: String,
}

/// Whether it comes out even: each device is in exactly one class, and the classes add up to the total.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Balance {
    /// `presented` or `ordered`.
    pub of: String,
    /// What there has to be: what a work order asks for; else the devices that the journal has counted as
    /// first presented, each when it came.
    pub total: u64,
    /// Passed in the first presentation.
    pub first_pass: u64,
    /// Passed when presented once more.
    pub after_retest: u64,
    /// Passed with a new identity, or after a release from quarantine.
    pub after_rework: u64,
    /// Given up for good.
    pub scrapped: u64,
    /// Waiting for a person.
    pub quarantined: u64,
    /// Failed, may be presented again.
    pub failed: u64,
    /// Neither passed nor failed.
    pub in_progress: u64,
    /// Of a batch: ordered and never presented in it.
    pub missing: u64,
    /// The sum of these classes.
    pub sum: u64,
    /// Sum and total are the same, and nothing else is wrong.
    pub closes: bool,
    /// Why it does not close, a sentence each.
    pub problems: Vec<String>,
    /// Of a batch: made in it and not on its list. Not in the sum.
    pub extras: u64,
    /// Times that a device was presented that had passed already. Not in the sum.
    pub duplicates: u64,
    /// How many devices these were.
    pub duplicated_devices: u64,
    /// Of a shift or time: first presented before it, first passed in it. Not in the sum.
    pub from_earlier: u64,
    /// Of those in the sum: passed after its end.
    pub passed_after: u64,
    /// Of a shift or time: things that the account held and the journal did not, and that a person had a repair
    /// delete in it. They were never presented. Not in the sum.
    #[serde(default)]
    pub extras_deleted: u64,
    /// Of a shift or time: devices that the station knows from a fixture's word alone, and that were not presented
    /// yet. Each counts from its first presentation on. Not in the sum.
    #[serde(default)]
    pub never_presented: u64,
}

/// A part of a whole.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ratio {
    /// The part.
    pub part: u64,
    /// The whole.
    pub whole: u64,
    /// The share in ten-thousandths, rounded down; `null` of nothing.
    pub share: Option<u64>,
    /// What is counted.
    pub definition: String,
}

/// How many were good. There is no standard definition: each is said.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[expect(missing_docs, reason = "each definition is in the report itself")]
pub struct Yields {
    pub first_pass: Ratio,
    pub last: Ratio,
    pub attempts: Ratio,
    pub retest: Ratio,
    pub rework: Ratio,
}

/// How fast it went.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Pace {
    /// The planned time for a device, milliseconds; `null` if there is none.
    pub takt_ms: Option<u64>,
    /// What it was: the time up to now, divided by the devices passed in it.
    pub actual_ms: Option<u64>,
    /// By the hour; by the day where it is longer than two days.
    pub hours: Vec<Hour>,
    /// The longest time between two passes, milliseconds.
    pub longest_gap_ms: u64,
    /// When that began.
    pub longest_gap_at: Option<Timestamp>,
}

/// One hour, or day.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Hour {
    /// When it begins.
    pub begin: Timestamp,
    /// On the clock of the wall: `06:00`, with the offset in an hour that comes twice; or the day.
    pub label: String,
    /// How long of it belongs to the report and is over, seconds.
    pub seconds: u64,
    /// Devices first presented in it.
    pub presented: u64,
    /// Devices first passed in it.
    pub passed: u64,
    /// What the takt asks for; `null` without one.
    pub target: Option<u64>,
    /// Presentations that ended with a failure in it.
    #[serde(default)]
    pub failed: u64,
    /// Presentations that ended with `fail` in it while the work on the device went on.
    #[serde(default)]
    pub deferred: u64,
    /// Downtime in it, milliseconds; no more than it has.
    #[serde(default)]
    pub down_ms: u64,
    /// What most of that was: cause and part of the station.
    #[serde(default)]
    pub cause: Option<String>,
}

/// How long a device took.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Times {
    /// Devices that it was measured of: those that passed.
    pub devices: u64,
    /// From the presentation in which it passed to PASS: half of them took no longer, milliseconds.
    pub p50_ms: Option<u64>,
    /// 95 of 100.
    pub p95_ms: Option<u64>,
    /// 99 of 100.
    pub p99_ms: Option<u64>,
    /// Where their time went, first presentation to first PASS, all devices together: out of the nest.
    pub operator_ms: u64,
    /// From the offer of the credentials to the fixture's answer.
    pub fixture_ms: u64,
    /// In the nest while the identity was made.
    pub making_ms: u64,
    /// Of that, waiting for AWS to answer or to be reached; `null` in reports of before.
    #[serde(default)]
    pub cloud_ms: Option<u64>,
    /// Of that, waiting for a call's turn under AWS's limits. What is left is the station's own work, and
    /// what was not recorded.
    pub quota_ms: Option<u64>,
    /// Of that, waiting for the journal's disk.
    pub journal_ms: Option<u64>,
}

/// What kept the station from its work.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Downtime {
    /// `line-stopped`, `offline`, `throttled`, `fixture-away`, `disk`, `clock` or `station-off`.
    pub cause: String,
    /// Which part of the station, where it is one.
    pub of: Option<String>,
    /// How often it began.
    pub times: u64,
    /// How long it lasted.
    pub ms: u64,
}

/// One reason of failures, or of deferrals.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct FailureRow {
    /// The code.
    pub code: String,
    /// How often.
    pub failures: u64,
    /// Of how many devices.
    pub devices: u64,
    /// Of all in its table, ten-thousandths.
    pub share: u64,
    /// That and what is above it.
    pub cumulative: u64,
    /// The first few devices.
    pub serials: Vec<String>,
    /// When first.
    #[serde(default)]
    pub first: Option<Timestamp>,
    /// When last.
    #[serde(default)]
    pub last: Option<Timestamp>,
    /// What to do about it.
    pub remedy: String,
}

/// A list that is cut after [`MAX_LISTED`].
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Listed {
    /// How many there are.
    pub count: u64,
    /// The first of them.
    pub devices: Vec<Exception>,
}

/// A device that somebody should know of.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Exception {
    /// Its serial number.
    pub serial: String,
    /// Since when, or when; `null` of one that never came.
    pub at: Option<Timestamp>,
    /// The code, where it failed.
    pub code: Option<String>,
    /// What is to be known: why, or who has ordered what.
    pub why: String,
}

/// Devices that somebody should know of.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Exceptions {
    /// Ordered and never presented.
    pub missing: Listed,
    /// Not on the order's list.
    pub extras: Listed,
    /// Waiting for a person.
    pub quarantined: Listed,
    /// Given up.
    pub scrapped: Listed,
    /// Failed.
    pub failed: Listed,
    /// Neither passed nor failed.
    pub in_progress: Listed,
    /// Failed three times or more, and passed in the end.
    pub often_retested: Listed,
    /// A person gave an order about them: retry, release, scrap, or what a reconciliation is to repair.
    pub ordered: Listed,
    /// Presented again after they had passed.
    pub duplicates: Listed,
}

/// Certificates and private keys of the devices, as they are now.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Certificates {
    /// Certificates issued for them.
    pub issued: u64,
    /// Devices whose present certificate is active in the cloud.
    pub active: u64,
    /// Certificates that were deactivated or deleted.
    pub revoked: u64,
    /// Private keys destroyed here.
    pub keys_destroyed: u64,
    /// Devices of which a private key lies sealed here.
    pub keys_waiting: u64,
    /// Devices that have passed and whose certificate is not known to be active. Those that register
    /// themselves when they first connect (JITP) are not among them: the station never hears of it.
    pub passed_without_active: u64,
    /// Devices that have not passed and whose certificate is active.
    pub active_without_pass: u64,
}

/// What a person has ordered the station to do against one of its rules.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Override {
    /// When.
    pub at: Timestamp,
    /// What.
    pub what: String,
    /// Who.
    pub who: String,
    /// Why, in that person's words.
    pub why: String,
}

/// What the account was found to hold, read by this station at that time.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct CloudCheck {
    /// When the look ended.
    pub at: Timestamp,
    /// Only existence and status were looked at, no attachments and documents.
    pub quick: bool,
    /// Devices that were selected.
    pub selected: u64,
    /// Devices that were held against the account.
    pub compared: u64,
    /// Devices that were being worked on: no finding either way.
    pub in_flight: u64,
    /// Devices of which AWS could not be asked.
    pub unread: u64,
    /// Names that the account's lists have shown; `null`: only single reads were made, and things and certificates
    /// that the journal does not know were not looked for.
    pub listed: Option<u64>,
    /// Certificates that the journal does not know and that were not looked into.
    pub unexamined: u64,
    /// All of these devices was seen and is as it should be or was put right. Extras and certificates that the journal
    /// does not know are looked for by `linemint reconcile` of everything alone.
    pub agrees: bool,
    /// Findings that were repaired.
    pub repaired: u64,
    /// Findings by class.
    pub findings: BTreeMap<String, u64>,
    /// The first 200 of them.
    pub devices: Vec<CloudFinding>,
}

/// A difference between the journal and the account.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CloudFinding {
    /// What kind, as `docs/reconcile.md` has them.
    pub class: String,
    /// Whose; `null` where the journal knows nobody.
    pub serial: Option<String>,
    /// What it is about.
    pub resource: String,
    /// What the journal says.
    pub expected: String,
    /// What the account holds.
    pub held: String,
    /// What to do about it.
    pub remedy: String,
}

/// The limits of AWS in the time of the report.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Quota {
    /// Since when.
    pub since: Option<Timestamp>,
    /// The operations that were called to make devices, `device-certificates` for those that share that limit, and
    /// `account` for all of them if a limit over all calls was found.
    pub operations: Vec<OperationRow>,
    /// The one whose limit held devices up for the longest; `account` for a limit over all calls.
    pub binding: Option<String>,
    /// The part of the time in which it did, ten-thousandths.
    pub binding_share: u64,
    /// Stations as busy as this one in its busiest five minutes that the account's tightest limit would carry besides,
    /// thousandths; none where AWS gives less than is configured, `null` if nothing is limited.
    pub more_stations_milli: Option<u64>,
    /// The operation that came nearest to its limit in its busiest five minutes.
    #[serde(default)]
    pub tightest: Option<String>,
    /// How much of its limit it used then, ten-thousandths.
    #[serde(default)]
    pub tightest_share: Option<u64>,
    /// How long any device waited for AWS, milliseconds.
    #[serde(default)]
    pub busy_ms: u64,
    /// How long the limit of `binding` did, milliseconds; missing in reports of before.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub binding_ms: Option<u64>,
}

/// One operation of AWS.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct OperationRow {
    /// Its name, kebab case.
    pub operation: String,
    /// Calls a second that are configured, thousandths; `null` is unlimited.
    pub limit_milli: Option<u64>,
    /// The most calls a second that AWS was found to allow while it gave less than is configured, thousandths; missing
    /// where it did not for most of the time that calls waited.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub learned_milli: Option<u64>,
    /// Calls made.
    pub calls: u64,
    /// Of these, throttled.
    pub throttled: u64,
    /// Of these, failed otherwise.
    pub errors: u64,
    /// The part of the time in which calls had to wait for their turn, ten-thousandths.
    pub bound_share: u64,
    /// How long that was, milliseconds; missing in reports of before.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bound_ms: Option<u64>,
    /// Calls a second in the busiest five minutes, thousandths.
    #[serde(default)]
    pub peak_milli: u64,
}

/// What the next shift has to know.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Handover {
    /// How the station does; `null` where no daemon was asked.
    pub state: Option<String>,
    /// Unfinished devices of the station.
    pub backlog: Option<u64>,
    /// The age of the oldest, seconds.
    pub oldest_s: Option<u64>,
    /// What is left to do, a sentence each.
    pub actions: Vec<String>,
}

/// Devices that were first presented outside every shift.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Outside {
    /// The end of the shift before.
    pub since: Timestamp,
    /// How many.
    pub devices: u64,
}

/// One station's part in a merged report.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct StationRow {
    /// The station.
    pub id: String,
    /// Its report: SHA-256 of its canonical JSON.
    pub report: String,
    /// Its total.
    pub total: u64,
    /// Good ones.
    pub good: u64,
    /// First passes.
    pub first_pass: u64,
    /// Given up.
    pub scrapped: u64,
    /// Waiting for a person.
    pub quarantined: u64,
    /// Failed or in progress.
    pub open: u64,
    /// Its own balance closes.
    pub closes: bool,
    /// Downtime, milliseconds.
    pub downtime_ms: u64,
    /// What its look at the account has shown; none where its report has none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cloud: Option<StationCloud>,
}

/// What one station's look at the account has shown.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct StationCloud {
    /// The account holds what it should, as far as was looked.
    pub agrees: bool,
    /// Findings that were not repaired.
    pub open: u64,
    /// The second headline of its report.
    pub headline: String,
}

/// A serial number that several stations have.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Twice {
    /// The serial number.
    pub serial: String,
    /// Where.
    pub stations: Vec<String>,
}

impl Report {
    /// How many orders of people there were against one of the station's rules, listed or not.
    #[must_use]
    pub fn overridden(&self) -> u64 {
        self.overrides_count.max(self.overrides.len() as u64)
    }
}

impl Balance {
    /// Devices that are good.
    #[must_use]
    pub fn good(&self) -> u64 {
        self.first_pass + self.after_retest + self.after_rework
    }

    /// The classes with their words, in the order of the balance.
    #[must_use]
    pub fn rows(&self) -> [(&'static str, u64); 8] {
        [
            ("passed first time", self.first_pass),
            ("passed after re-test", self.after_retest),
            ("passed after rework", self.after_rework),
            ("scrapped", self.scrapped),
            ("quarantined", self.quarantined),
            ("failed, to be presented again", self.failed),
            ("in progress", self.in_progress),
            ("missing", self.missing),
        ]
    }

    /// What came into the journal without a presentation, with its words; nothing where nothing did.
    pub fn absent(&self) -> impl Iterator<Item = (&'static str, u64)> {
        [
            ("not in the journal, deleted from the account", self.extras_deleted),
            ("known and never presented", self.never_presented),
        ]
        .into_iter()
        .filter(|(_, count)| *count > 0)
    }

    /// The headline.
    #[must_use]
    pub fn headline(&self) -> String {
        let word = &self.of;
        if self.closes {
            return format!(
                "BALANCES: {} {word}, {} good, {} not",
                self.total,
                self.good(),
                self.sum - self.good()
            );
        }
        format!(
            "DOES NOT BALANCE: {} {word}, {} accounted for. {}",
            self.total,
            self.sum,
            self.problems.join("; ")
        )
    }
}

impl Ratio {
    /// Of a part and a whole.
    #[must_use]
    pub fn new(part: u64, whole: u64, definition: &str) -> Self {
        let share = (part * 10_000).checked_div(whole);
        Self { part, whole, share, definition: definition.to_owned() }
    }
}

impl Listed {
    /// Takes one more.
    pub fn push(&mut self, it: impl FnOnce() -> Exception) {
        self.count += 1;
        if self.devices.len() < MAX_LISTED {
            self.devices.push(it());
        }
    }
}

impl Exceptions {
    /// The lists with their words, the most urgent first.
    #[must_use]
    pub fn lists(&self) -> [(&'static str, &Listed); 9] {
        [
            ("missing", &self.missing),
            ("not on the order", &self.extras),
            ("in quarantine", &self.quarantined),
            ("scrapped", &self.scrapped),
            ("failed", &self.failed),
            ("in progress", &self.in_progress),
            ("failed three times or more, then passed", &self.often_retested),
            ("ordered by a person", &self.ordered),
            ("presented again after passing", &self.duplicates),
        ]
    }
}
