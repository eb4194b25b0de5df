//! The local API's wire types, version 1: what the daemon says on its socket and its commands read.
//!
//! Members are only ever added. Every member is always there; what is unknown or does not apply is
//! `null`, so that a script can tell "none" from "misspelt". Times are RFC 3339 in UTC, spans are whole
//! seconds and say so in their name.

mod access;
pub mod aside;
mod backup;
pub mod batch;
mod batches;
mod board;
pub mod client;
mod commands;
mod connection;
mod devices;
mod door;
mod events;
mod farewell;
pub mod figures;
mod guard;
pub mod last_words;
mod listening;
mod metrics;
mod numbers;
mod openapi;
mod orders;
mod problem;
mod query;
mod reading;
mod reconcile;
pub mod report;
pub mod server;
pub mod sight;
mod socket;
mod status;
pub mod tally;
pub mod tap;
#[cfg(test)]
pub(crate) mod tests;
pub mod traffic;
mod view;

use std::collections::BTreeMap;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use utoipa::ToSchema;

use self::tally::Today;
use crate::device::{KeyState, State};
use crate::fixture::FailCode;
use crate::journal::Called;

/// The group whose members may change something.
pub const ADMIN_GROUP: &str = "linemint-admin";

/// The header that says whether a report's balance `closes` or `does-not-close`.
pub const REPORT_BALANCE: &str = "linemint-balance";

/// Elements of a page when the request does not say.
pub const DEFAULT_LIMIT: usize = 100;

/// Most elements of a page.
pub const MAX_LIMIT: usize = 1000;

/// Most records of one device's history in an answer: the newest ones.
pub const MAX_HISTORY: usize = 1000;

/// What the daemon is doing: `GET /v1/status`.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Status {
    /// The station's id.
    pub station: String,
    /// linemint's version.
    pub version: String,
    /// How it is doing.
    pub state: StationState,
    /// Why it is not `ready`, a sentence each; empty when it is.
    pub reasons: Vec<String>,
    /// Seconds since it started.
    pub uptime_s: u64,
    /// The fixtures, in the order of the configuration.
    pub fixtures: Vec<FixtureStatus>,
    /// The open batch; where several products have one, the one that was opened last.
    pub batch: Option<String>,
    /// The open batches, the one that was opened last at the end.
    #[serde(default)]
    pub batches: Vec<OpenBatch>,
    /// The products of this station.
    #[serde(default)]
    pub products: Vec<ProductStatus>,
    /// Devices by state.
    pub counts: Counts,
    /// The pace of each AWS operation in use.
    pub operations: Vec<OperationStatus>,
    /// The limits that operations share, of those in use: `device-certificates` for all calls that register one, and
    /// `account` for all calls.
    #[serde(default)]
    pub shared_limits: Vec<SharedLimitStatus>,
    /// The journal.
    pub journal: JournalStatus,
    /// Devices that are not finished.
    pub backlog: Backlog,
    /// The limit that held devices up for the longest; `null` if none did.
    #[serde(default)]
    pub binding: Option<Binding>,
    /// The station's CA certificate, where it has one.
    pub ca: Option<CaStatus>,
    /// The running shift.
    #[serde(default)]
    pub today: Today,
    /// What AWS was called for, as far as it is not journaled yet: for reports that are made here.
    #[serde(skip)]
    #[schema(ignore)]
    pub calls: Option<Called>,
}

/// An open batch.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct OpenBatch {
    /// Its id.
    pub id: String,
    /// What is made.
    pub product: String,
}

/// A product of this station.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ProductStatus {
    /// Its name.
    pub name: String,
    /// The regular expression that its serial numbers match.
    pub serial: String,
}

/// How a station is doing.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum StationState {
    /// It is not there yet.
    #[default]
    Starting,
    /// All is well.
    Ready,
    /// It works, but something is slow or away.
    Degraded,
    /// Nothing goes through until a person has changed something.
    Stopped,
    /// It takes no new units.
    Draining,
}

impl StationState {
    /// The word used on the wire.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Starting => "starting",
            Self::Ready => "ready",
            Self::Degraded => "degraded",
            Self::Stopped => "stopped",
            Self::Draining => "draining",
        }
    }
}

/// A fixture and its serial line. Counters begin at the daemon's start.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct FixtureStatus {
    /// Its name.
    pub name: String,
    /// `closed`, `waiting for hello`, `ready`, or the code with which it is refused.
    pub state: String,
    /// Its serial port: a path, or the USB adapter that it is on.
    pub port: String,
    /// What it presents now.
    #[serde(default)]
    pub product: String,
    /// The batch that its devices come into.
    #[serde(default)]
    pub batch: Option<String>,
    /// Its firmware, where it has told one.
    pub firmware: Option<String>,
    /// Units in its nests.
    pub nests: Vec<NestStatus>,
    /// Good frames received.
    pub frames_in: u64,
    /// Frames sent.
    pub frames_out: u64,
    /// Frames dropped for a wrong checksum, form or length.
    pub bad_frames: u64,
    /// Own frames that came back.
    pub echoes: u64,
    /// The same serial number once more within a scanner's window.
    #[serde(default)]
    pub duplicates: u64,
    /// `nak` answers.
    pub naks: u64,
    /// The same by code: every code has its number.
    #[serde(default)]
    pub naks_by_code: BTreeMap<String, u64>,
    /// Units that were answered `nak`: the newest of each nest, until another unit is taken there or the daemon ends.
    #[serde(default)]
    pub refused: Vec<RefusedUnit>,
    /// How often the port was opened again.
    pub reopens: u64,
    /// How often the port was away or could not be opened, the present time among them.
    #[serde(default)]
    pub outages: u64,
    /// How long that took together, seconds, up to now.
    #[serde(default)]
    pub outage_s: u64,
    /// Since when the port is away; `null` if it is there.
    #[serde(default)]
    #[schema(value_type = Option<String>, format = DateTime)]
    pub down_since: Option<Timestamp>,
    /// The newest verdict: serial, and `pass` or the code.
    pub last_verdict: Option<String>,
}

/// A unit that was not taken.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct RefusedUnit {
    /// The nest, where the fixture has named one.
    pub nest: Option<String>,
    /// The serial number as it was told; of what is none of the fixture's product the first bytes, escaped.
    pub serial: String,
    /// Why: a `nak` code of the fixture protocol.
    pub code: String,
    /// What the operator was told to do.
    pub message: String,
    /// Whether that is the last word on it. If not, the fixture presents it again by itself.
    pub is_final: bool,
    /// When it was refused for this reason first.
    #[schema(value_type = String, format = DateTime)]
    pub since: Timestamp,
    /// When it was refused last.
    #[schema(value_type = String, format = DateTime)]
    pub at: Timestamp,
}

/// A unit in a nest.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct NestStatus {
    /// The nest, where the fixture names them.
    pub nest: Option<String>,
    /// The unit.
    pub serial: String,
    /// Where it stands.
    pub state: State,
    /// How long it has been there.
    pub seconds: u64,
}

/// Devices by state: every state has its number.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(default)]
#[expect(missing_docs, reason = "each is the number of devices in the state of that name")]
pub struct Counts {
    pub admitted: u64,
    pub provisioning: u64,
    pub delivering: u64,
    pub passed: u64,
    pub failed: u64,
    pub quarantined: u64,
    pub scrapped: u64,
}

impl Counts {
    /// The number of devices in `state`.
    #[must_use]
    pub const fn of(&self, state: State) -> u64 {
        match state {
            State::Admitted => self.admitted,
            State::Provisioning => self.provisioning,
            State::Delivering => self.delivering,
            State::Passed => self.passed,
            State::Failed => self.failed,
            State::Quarantined => self.quarantined,
            State::Scrapped => self.scrapped,
        }
    }
}

impl From<&BTreeMap<State, u64>> for Counts {
    fn from(counts: &BTreeMap<State, u64>) -> Self {
        let of = |state| counts.get(&state).copied().unwrap_or(0);
        Self {
            admitted: of(State::Admitted),
            provisioning: of(State::Provisioning),
            delivering: of(State::Delivering),
            passed: of(State::Passed),
            failed: of(State::Failed),
            quarantined: of(State::Quarantined),
            scrapped: of(State::Scrapped),
        }
    }
}

/// The pace of an AWS operation. Counters begin at the daemon's start.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct OperationStatus {
    /// Its name in kebab case.
    pub operation: String,
    /// Calls a second that are allowed now, less than the ceiling while AWS throttles; `null` is unlimited.
    pub limit: Option<f64>,
    /// Calls a second that the configuration allows; `null` is unlimited.
    #[serde(default)]
    pub ceiling: Option<f64>,
    /// Calls a second that were made lately.
    pub rate: f64,
    /// Calls made.
    pub calls: u64,
    /// Calls that went through.
    pub ok: u64,
    /// Calls that AWS throttled.
    pub throttled: u64,
    /// The throttled part of all calls, 0 to 1.
    #[serde(default)]
    pub throttled_share: f64,
    /// Calls that failed in another way.
    pub errors: u64,
    /// Calls that wait for their turn.
    pub waiting: u64,
    /// Devices that wait for this operation, those whose call is under way among them.
    #[serde(default)]
    pub waiting_devices: u64,
    /// The part of the daemon's time in which calls had to wait for their turn, 0 to 1.
    #[serde(default)]
    pub bound_share: f64,
    /// Half of the calls took at most so long, milliseconds.
    pub p50_ms: Option<f64>,
    /// 99 of 100 calls took at most so long, milliseconds.
    pub p99_ms: Option<f64>,
}

/// A limit that several operations share.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct SharedLimitStatus {
    /// Its name: `device-certificates`, or `account`.
    pub name: String,
    /// Calls a second that are allowed now; `null` is unlimited. For the account there is one only while AWS is found to
    /// throttle whatever is called.
    pub limit: Option<f64>,
    /// Calls a second that the configuration allows; `null` if it names no such limit.
    pub ceiling: Option<f64>,
    /// Whether `limit` was learned from what AWS throttles: it gives less than is configured.
    pub learned: bool,
    /// Calls a second that were made lately of all operations under it.
    pub rate: f64,
    /// Calls that wait for their turn because of it.
    pub waiting: u64,
    /// Devices that wait for an operation which it holds back, those whose call is under way among them.
    pub waiting_devices: u64,
    /// The part of the daemon's time in which calls had to wait because of it, 0 to 1.
    pub bound_share: f64,
}

/// The limit that bound this station since the daemon's start.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Binding {
    /// The operation, in kebab case; `device-certificates` or `account` for a limit that operations share.
    pub operation: String,
    /// The part of the daemon's time in which its calls had to wait for their turn, 0 to 1.
    pub share: f64,
    /// Calls a second that were made of it while there was something to do, on average.
    pub mean_rate: f64,
    /// Stations as busy as this one that the account's configured rate (`aws.quota` by its `share`) would carry besides
    /// this one, none where AWS gives less than that; `null` if it is unlimited.
    pub more_stations: Option<f64>,
    /// Whether AWS was found to give less than is configured, for most of the time that it held devices up or when
    /// it did so last.
    #[serde(default)]
    pub learned: bool,
}

/// The journal.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct JournalStatus {
    /// Newest sequence number decided.
    pub seq: u64,
    /// Newest sequence number on disk.
    pub durable: u64,
    /// Bytes on disk.
    pub bytes: u64,
    /// The journal's own id, 16 hex digits.
    pub id: String,
}

/// Devices that are not finished.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Backlog {
    /// All of them.
    pub devices: u64,
    /// Those that are in no nest any more and that the cloud still owes something.
    pub buffered: u64,
    /// Age of the oldest that the cloud still owes something, seconds; `null` if there is none.
    pub oldest_s: Option<u64>,
}

/// The station's CA certificate.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct CaStatus {
    /// Its subject.
    pub subject: String,
    /// When it can issue no more: its end, or that of a certificate above it in its file if that is earlier.
    #[schema(value_type = String, format = DateTime)]
    pub not_after: Timestamp,
    /// What has to be done about it, in one sentence; `null` while there is time.
    #[serde(default)]
    pub warning: Option<String>,
}

/// A device as it stands.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Device {
    /// Its serial number.
    pub serial: String,
    /// What it is.
    pub product: String,
    /// The batch that was open when it was admitted.
    pub batch: Option<String>,
    /// It is not on the list of that batch.
    #[serde(default)]
    pub extra: bool,
    /// Its MAC address, 12 lower-case hex digits.
    pub mac: Option<String>,
    /// Where it stands.
    pub state: State,
    /// 1 for the first identity, one more with each rework.
    pub generation: u32,
    /// When it was first presented.
    #[schema(value_type = String, format = DateTime)]
    pub admitted_at: Timestamp,
    /// When its newest event was decided.
    #[schema(value_type = String, format = DateTime)]
    pub updated_at: Timestamp,
    /// When it passed last.
    #[schema(value_type = Option<String>, format = DateTime)]
    pub passed_at: Option<Timestamp>,
    /// How often it has been presented.
    pub presentations: u32,
    /// Its newest presentation.
    pub presentation: Presentation,
    /// Its present certificate.
    pub certificate: Option<Certificate>,
    /// Name of its thing, once it is there.
    pub thing: Option<String>,
    /// Name of its policy, once it is there.
    pub policy: Option<String>,
    /// Id of its credential locker, once it is there.
    pub locker_id: Option<String>,
    /// Why it failed or is in quarantine.
    pub failure: Option<Failure>,
    /// How many certificates were issued for it.
    pub certificates_issued: u32,
}

/// One time in a nest.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Presentation {
    /// The fixture's name.
    pub fixture: String,
    /// The fixture's number of its last reset.
    pub boot: u64,
    /// The fixture's number for the presentation.
    pub id: u64,
    /// The nest, where the fixture names them.
    pub nest: Option<String>,
    /// `passed`, `failed`, `deferred` (`fail` was answered, and the work on the device goes on) or `closed`; `null`
    /// while it is open.
    pub outcome: Option<String>,
}

/// A certificate, without its bytes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Certificate {
    /// SHA-256 of its DER, lower-case hex; its id in AWS IoT.
    pub fingerprint: String,
    /// Serial number, lower-case hex.
    pub serial_number: String,
    /// End of its life.
    #[schema(value_type = String, format = DateTime)]
    pub not_after: Timestamp,
    /// Its ARN, once AWS has it.
    pub arn: Option<String>,
    /// Where its private key is.
    pub key: KeyState,
}

/// Why a device failed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Failure {
    /// The code told to the fixture.
    #[schema(value_type = String)]
    pub code: FailCode,
    /// The sentence told to the operator.
    pub message: String,
}

/// A page of devices in the order of their serials: `GET /v1/devices`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct DevicePage {
    /// The devices. May be fewer than were asked for, even none, where more follow.
    pub devices: Vec<Device>,
    /// What the next page is to begin `after`; `null` if this is the last.
    pub next: Option<String>,
}

/// A device with what happened to it: `GET /v1/devices/{serial}`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct DeviceStory {
    /// The device as it stands.
    #[serde(flatten)]
    pub device: Device,
    /// Its newest records, at most [`MAX_HISTORY`], oldest first.
    pub history: Vec<Event>,
    /// Whether it has older records than these.
    pub history_cut: bool,
}

/// A record of the journal.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Event {
    /// Gapless, from 1.
    pub seq: u64,
    /// When it was decided.
    #[schema(value_type = String, format = DateTime)]
    pub at: Timestamp,
    /// The device that it is about; left out where it is about none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub serial: Option<String>,
    /// What happened, in kebab case.
    pub event: String,
    /// The event's own members, as they are in the journal, but for a certificate's bytes.
    #[serde(flatten)]
    #[schema(value_type = HashMap<String, Value>)]
    pub members: Map<String, Value>,
}

/// A page of events: `GET /v1/events`.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct EventPage {
    /// The events, oldest first. May be fewer than were asked for where more follow.
    pub events: Vec<Event>,
    /// What the next page is to begin `after`; `null` if there is no newer event yet.
    pub next: Option<u64>,
}

/// Whether new units are taken: the answer to `POST /v1/drain` and `POST /v1/resume`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Draining {
    /// New units are refused.
    pub draining: bool,
}

/// What is logged: the body of `PUT /v1/log-level`, and its answer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct LogLevel {
    /// `error`, `warn`, `info`, `debug` or `trace`.
    #[schema(pattern = "^(error|warn|info|debug|trace)$")]
    pub level: String,
    /// Why, in one line: kept in the journal.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(
        max_length = 200,
        pattern = "^[^\\x00-\\x1f\\x7f-\\x9f]*[^\\x00-\\x20\\x7f-\\xa0\\u1680\\u2000-\\u200a\\u2028\\u2029\\u202f\\u205f\\u3000][^\\x00-\\x1f\\x7f-\\x9f]*$"
    )]
    pub reason: Option<String>,
}

/// Why something is done with a device: the body of `POST /v1/devices/{serial}/retry` and the like.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Reason {
    /// One line of 1 to 200 characters, for the records.
    #[schema(
        max_length = 200,
        pattern = "^[^\\x00-\\x1f\\x7f-\\x9f]*[^\\x00-\\x20\\x7f-\\xa0\\u1680\\u2000-\\u200a\\u2028\\u2029\\u202f\\u205f\\u3000][^\\x00-\\x1f\\x7f-\\x9f]*$"
    )]
    pub reason: String,
}

/// The body of `POST /v1/drain`; an empty one is `{}`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(default)]
pub struct Telling {
    /// Why, in one line: kept in the journal.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(
        max_length = 200,
        pattern = "^[^\\x00-\\x1f\\x7f-\\x9f]*[^\\x00-\\x20\\x7f-\\xa0\\u1680\\u2000-\\u200a\\u2028\\u2029\\u202f\\u205f\\u3000][^\\x00-\\x1f\\x7f-\\x9f]*$"
    )]
    pub reason: Option<String>,
}

/// The body of `POST /v1/resume`; an empty one is `{}`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(default)]
pub struct Resuming {
    /// Go on although the clock is doubted, until the doubt is another or the daemon is started again.
    pub clock: bool,
    /// Why, in one line: kept in the journal. Has to be said with `clock`.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(
        max_length = 200,
        pattern = "^[^\\x00-\\x1f\\x7f-\\x9f]*[^\\x00-\\x20\\x7f-\\xa0\\u1680\\u2000-\\u200a\\u2028\\u2029\\u202f\\u205f\\u3000][^\\x00-\\x1f\\x7f-\\x9f]*$"
    )]
    pub reason: Option<String>,
}

/// Why a request was refused: RFC 9457, `application/problem+json`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Problem {
    /// What kind of problem, a stable relative reference: `/problems/not-found`.
    #[serde(rename = "type")]
    pub kind: String,
    /// The kind in words.
    pub title: String,
    /// The HTTP status.
    pub status: u16,
    /// What was wrong this time, a sentence.
    pub detail: String,
    /// What to do about it, where there is something.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hint: Option<String>,
}
