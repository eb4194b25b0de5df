//! The journal: what has happened, on disk before it is promised.
//!
//! # The durability contract
//!
//! 1. [`Journal::commit`] returns `Ok` only when every entry that it was given is on disk, so
//!    that a power cut in the next instant cannot take it back. Whatever the station promises
//!    (`ack`, `pass`, `fail`) waits for that.
//! 2. Entries are committed in the order of their sequence numbers, without gaps, all of a call
//!    or (after a crash) none.
//! 3. A commit that failed is final: nothing is known of what the disk holds, so the process makes
//!    no further promise and stops. It never tries the same sync again.
//! 4. What [`Shelf`] reads is what was committed, all of it and nothing else, from the moment that
//!    [`Journal::commit`] returns.
//!
//! A device's record is the fold of its events ([`Device::apply`](crate::device::Device::apply)). The
//! events are the truth, and they lie in the [`log`]; the folds lie in sled ([`store`]), so that a
//! restart is quick. What sled holds can be made again from the log at any time, and is.

#[cfg(test)]
pub(crate) mod book;
pub mod copy;
pub mod fold;
pub mod keys;
pub mod log;
pub mod record;
pub mod store;

use std::collections::BTreeMap;
use std::path::PathBuf;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::batch::{Batch, BatchId, Terms};
use crate::device::event::{Event, Outcome, PresentationKey};
use crate::device::operator::Operator;
use crate::device::rules::{ProductRules, RulesId};
use crate::device::serial::SerialNumber;
use crate::device::{Device, KeyState, State};
use crate::pki::Fingerprint;

/// What this version knows of what records tell: raised with each event, value or member that an earlier one does not know.
/// An index bears the highest of all that have written it, and a version that knows less refuses it: it reads
/// only the newest records at a start, and would take a device for what is left of it without those members. An index that
/// is made again from the log bears what its maker knows: there, what is refused is a record that cannot be read.
pub const VOCABULARY: u32 = 1;

/// One record of the journal.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Record {
    /// Gapless, from 1.
    pub seq: u64,
    /// When it was decided, UTC.
    pub at: Timestamp,
    /// The device it is about, if any.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub serial: Option<SerialNumber>,
    /// What happened.
    #[serde(flatten)]
    pub what: What,
}

/// What a record tells.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum What {
    /// Something happened to a device.
    Device(Event),
    /// Something happened to the station.
    Station(StationEvent),
}

/// Something that happened to the station.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "event", rename_all = "kebab-case")]
pub enum StationEvent {
    /// The daemon has started.
    Started {
        /// Its version.
        version: String,
        /// Hash of the configuration.
        config: String,
    },
    /// The daemon has stopped in good order.
    Stopped,
    /// Another configuration has taken effect while it works.
    Reconfigured {
        /// Its hash.
        config: String,
        /// What it changes.
        changed: Vec<String>,
    },
    /// Rules that devices are admitted by from now on.
    Rules {
        /// Their hash.
        id: RulesId,
        /// The rules.
        rules: Box<ProductRules>,
    },
    /// A policy shared by a product's devices is there.
    PolicyReady {
        /// Its name.
        name: String,
    },
    /// A policy shared by a product's devices is not to be found any more.
    PolicyLost {
        /// Its name.
        name: String,
    },
    /// A locker that a batch's devices share is there.
    LockerReady {
        /// Its name.
        name: String,
        /// Its id.
        id: String,
        /// Its ARN.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        arn: Option<String>,
    },
    /// A fixture was reset, or is new.
    FixtureReset {
        /// Its name.
        fixture: String,
        /// Its number of the reset.
        boot: u64,
    },
    /// Nothing will go through until a person has changed something.
    LineStopped {
        /// What and why, in one sentence.
        message: String,
    },
    /// It goes on.
    LineResumed,
    /// The clock cannot be right: no certificate is issued and no new device taken in.
    ClockDoubted {
        /// Why, in one sentence.
        message: String,
    },
    /// There is no such reason any more.
    ClockTrusted,
    /// A person has told the station to go on by the clock all the same, until the reason changes or
    /// the daemon is started again.
    ClockOverridden {
        /// What was doubted.
        message: String,
        /// Who, and why.
        by: Operator,
    },
    /// A person has told the station to take no new units. It does so until it is told otherwise or started again.
    Drained {
        /// Who, and why.
        by: Operator,
    },
    /// A person has told it to take new units again.
    Resumed {
        /// Who, and why.
        by: Operator,
    },
    /// A person has said from which level on is logged, until the next start.
    LogLevel {
        /// `error`, `warn`, `info`, `debug` or `trace`.
        level: String,
        /// Who, and why.
        by: Operator,
    },
    /// A batch is about to be opened with a list of serial numbers. The record's number is the list's.
    BatchOpening {
        /// Its id.
        batch: BatchId,
        /// What is made.
        product: String,
    },
    /// A part of a list.
    BatchSerials {
        /// The list.
        list: u64,
        /// In ascending order, behind those of the parts before.
        serials: Vec<SerialNumber>,
    },
    /// A list has not come to its end: it is forgotten, and its batch is not open.
    BatchDropped {
        /// The batch that was to be opened.
        batch: BatchId,
        /// The list.
        list: u64,
    },
    /// A batch is open.
    BatchOpened(Box<Opened>),
    /// It is closed. Its devices keep it.
    BatchClosed {
        /// Its id.
        batch: BatchId,
        /// Who, and why.
        by: Operator,
    },
    /// It is open again.
    BatchReopened {
        /// Its id.
        batch: BatchId,
        /// Who, and why.
        by: Operator,
    },
    /// Something has kept the station, or a part of it, from its work for some seconds.
    Hindered {
        /// What.
        cause: Cause,
        /// The part of the station: a fixture's name, or `CA` where that does not issue.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        of: Option<String>,
        /// Since when.
        since: Timestamp,
        /// A sentence.
        message: String,
    },
    /// What AWS was called for, told every five minutes in which it was or a device waited for it, and at a stop.
    Called(Box<Called>),
    /// It does so no more.
    Unhindered {
        /// What.
        cause: Cause,
        /// The part of the station.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        of: Option<String>,
    },
}

/// What AWS was called for to make devices, in some minutes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Called {
    /// Since when.
    pub since: Timestamp,
    /// How long any device waited for AWS, milliseconds.
    pub busy_ms: u64,
    /// By operation, in kebab case.
    pub operations: BTreeMap<String, CallCount>,
    /// The limits that calls waited for while AWS gave less than is configured: operations, `device-certificates`, and
    /// `account` for one over all calls.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub learned: BTreeMap<String, LearnedLimit>,
}

/// A limit below what is configured.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct LearnedLimit {
    /// How long calls waited for it, milliseconds.
    pub bound_ms: u64,
    /// The most that it was found to allow meanwhile, thousandths of a call a second.
    pub limit_milli: u64,
}

impl LearnedLimit {
    /// Adds what was found besides.
    pub fn add(&mut self, other: &Self) {
        self.bound_ms += other.bound_ms;
        self.limit_milli = self.limit_milli.max(other.limit_milli);
    }
}

/// How often an operation was called.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct CallCount {
    /// Calls.
    pub calls: u64,
    /// Calls of these that AWS throttled.
    #[serde(skip_serializing_if = "is_zero")]
    pub throttled: u64,
    /// Calls of these that failed otherwise.
    #[serde(skip_serializing_if = "is_zero")]
    pub errors: u64,
    /// How long calls waited for their turn, milliseconds; what several waited at the same time counts once.
    #[serde(skip_serializing_if = "is_zero")]
    pub bound_ms: u64,
}

impl CallCount {
    /// Adds what was called besides.
    pub fn add(&mut self, other: &Self) {
        self.calls += other.calls;
        self.throttled += other.throttled;
        self.errors += other.errors;
        self.bound_ms += other.bound_ms;
    }
}

/// For serde: what is zero is left out.
#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde wants a reference")]
fn is_zero(number: &u64) -> bool {
    *number == 0
}

/// How a batch was opened.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Opened {
    /// What with.
    #[serde(flatten)]
    pub terms: Terms,
    /// Its list, if it has one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub list: Option<u64>,
    /// Who, and why; an empty reason where none was given.
    pub by: Operator,
}

/// What keeps a station from its work.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Cause {
    /// Nothing goes through until a person has changed something.
    LineStopped,
    /// AWS does not answer.
    Offline,
    /// AWS answers that it is called too often.
    Throttled,
    /// A fixture is not there.
    FixtureAway,
    /// The disk is nearly full.
    Disk,
    /// The clock cannot be right.
    Clock,
    /// The daemon does not run.
    StationOff,
}

impl Cause {
    /// The word used everywhere outside.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::LineStopped => "line-stopped",
            Self::Offline => "offline",
            Self::Throttled => "throttled",
            Self::FixtureAway => "fixture-away",
            Self::Disk => "disk",
            Self::Clock => "clock",
            Self::StationOff => "station-off",
        }
    }
}

/// A record with the device as it is after it.
#[derive(Debug, Clone, PartialEq)]
pub struct Entry {
    /// The record.
    pub record: Record,
    /// The device after it, and its state before (none if it is new).
    pub device: Option<(Box<Device>, Option<State>)>,
}

/// A presentation that the journal knows.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct KnownPresentation {
    /// The unit.
    pub serial: SerialNumber,
    /// How it ended; none while it is open.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub outcome: Option<Outcome>,
}

/// Why the journal cannot be written or read.
#[derive(Debug, thiserror::Error)]
#[expect(missing_docs, reason = "each text says it")]
pub enum JournalError {
    #[error("another instance holds the journal in {dir}: {holder}")]
    Held { dir: PathBuf, holder: String },
    #[error("failed to {action} {path}")]
    Io {
        action: &'static str,
        path: PathBuf,
        #[source]
        source: std::io::Error,
    },
    #[error("failed to {action} the journal in {dir}")]
    Store {
        action: &'static str,
        dir: PathBuf,
        #[source]
        source: sled::Error,
    },
    #[error(
        "the journal in {dir} is damaged ({what}); it is left as it is: restore a backup, or call the line engineer"
    )]
    Damaged { dir: PathBuf, what: String },
    #[error(
        "the journal in {dir} was written by a newer linemint (format {found}, this one knows {known}); install that version"
    )]
    Newer { dir: PathBuf, found: u32, known: u32 },
    #[error(
        "record {seq} of the journal's log {path} was written by a newer linemint than this one ({version}); it is left as it is: install that version",
        version = env!("CARGO_PKG_VERSION")
    )]
    NewerRecord { path: PathBuf, seq: u64 },
    #[error(
        "the journal in {dir} was last at work with a newer linemint than this one ({version}), whose records tell more (vocabulary {found}, this one knows {known}); it is left as it is: install that version",
        version = env!("CARGO_PKG_VERSION")
    )]
    NewerVocabulary { dir: PathBuf, found: u32, known: u32 },
    #[error("{path} is not a journal of linemint's; point journal.dir at an empty directory")]
    Foreign { path: PathBuf },
    #[error(
        "the journal's log is damaged: {0}; it is left as it is: restore a backup with `linemint journal restore`, or call the line engineer"
    )]
    Log(Box<log::Damage>),
    #[error(
        "the journal's log {dir} is missing, and without it nothing can be promised; put it back, or move what is left of the journal aside, whole, and restore a backup with `linemint journal restore`"
    )]
    NoLog { dir: PathBuf },
    #[error(
        "there is no journal in {dir}, but {count} undelivered private keys of one in {keys}: put it back, or restore a backup with `linemint journal restore`; only if it is gone for good, or if they are another journal's, move the keys away"
    )]
    Gone { dir: PathBuf, keys: PathBuf, count: usize },
    #[error(
        "there is no journal in {dir}, but {trace} shows that there was one, and in a new one all devices would be new: put it back, or restore a backup with `linemint journal restore`; only to begin anew on purpose move that into another directory"
    )]
    MovedAway { dir: PathBuf, trace: PathBuf },
    #[error(
        "the journal in {dir} has lost records: {what}; it is left as it is: restore a backup with `linemint journal restore`, or call the line engineer"
    )]
    Lost { dir: PathBuf, what: String },
    #[error("the journal in {dir} takes nothing more: an earlier write or sync has failed")]
    Final { dir: PathBuf },
    #[error("the index of the journal in {dir} does not keep up with its log; ask again later")]
    Behind { dir: PathBuf },
    #[error("record {seq} cannot be journaled: {what}")]
    Unfit { seq: u64, what: String },
    #[error("the backup {path} cannot be restored: {what}; take another one")]
    BadBackup { path: PathBuf, what: String },
    #[error(
        "{path} is in the way: a journal is only restored, and a backup only made, where there is none: move the directory that it lies in aside, whole"
    )]
    InTheWay { path: PathBuf },
}

/// Writes the journal. One thread at a time calls it.
pub trait Journal: Send {
    /// Puts `entries` on disk, in order, all or none.
    ///
    /// # Errors
    /// They may or may not be on disk; nothing more may be promised by this process.
    fn commit(&mut self, entries: Vec<Entry>) -> Result<(), JournalError>;
}

/// Reads what was committed.
pub trait Shelf: Send + Sync {
    /// The device of that serial.
    ///
    /// # Errors
    /// The record cannot be read.
    fn device(&self, serial: &SerialNumber) -> Result<Option<Device>, JournalError>;

    /// The presentation of that key.
    ///
    /// # Errors
    /// The record cannot be read.
    fn presentation(&self, key: &PresentationKey) -> Result<Option<KnownPresentation>, JournalError>;

    /// The batch of that id. Of records after `since` nobody needs to know.
    ///
    /// # Errors
    /// The record cannot be read.
    fn batch(&self, id: &BatchId, since: u64) -> Result<Option<Batch>, JournalError>;

    /// Whether a serial number is on a list that was complete with record `since`.
    ///
    /// # Errors
    /// The record cannot be read.
    fn is_listed(&self, list: u64, since: u64, serial: &SerialNumber) -> Result<bool, JournalError>;

    /// The device that was the first to tell this public key (SHA-256 of its SubjectPublicKeyInfo) as its own.
    ///
    /// # Errors
    /// The record cannot be read.
    fn holder_of_key(&self, key: &Fingerprint) -> Result<Option<SerialNumber>, JournalError>;
}

/// What a restart begins with.
#[derive(Debug, Default)]
pub struct Recovered {
    /// Sequence number of the newest record; 0 for a new journal.
    pub seq: u64,
    /// The latest time that a record bears: that of the newest, unless the clock was set back.
    pub at: Option<Timestamp>,
    /// Devices for which something is left to do: unfinished ones, keys to destroy, old
    /// certificates to retire.
    pub pending: Vec<Device>,
    /// All rules that devices were admitted by.
    pub rules: BTreeMap<RulesId, ProductRules>,
    /// Shared policies that are there.
    pub policies: Vec<String>,
    /// Lockers that batches' devices share, by name.
    pub lockers: BTreeMap<String, SharedLocker>,
    /// The last reset of each fixture.
    pub boots: BTreeMap<String, u64>,
    /// Devices by state.
    pub counts: BTreeMap<State, u64>,
    /// The batches that are open.
    pub batches: Vec<Batch>,
    /// Lists that have not come to their end, and the batches that they were for.
    pub lists: Vec<(u64, BatchId)>,
}

/// A locker that several devices share.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SharedLocker {
    /// Its id.
    pub id: String,
    /// Its ARN.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub arn: Option<String>,
}

/// Whether a restart has to take the device up again: something is left to do for it, or a private
/// key of it is still sealed here (a failed device gets the same one when it is presented again).
#[must_use]
pub fn is_pending(device: &Device) -> bool {
    if device.is_scrapping() {
        return true;
    }
    let sealed = device.certificate.as_ref().is_some_and(|it| it.key == KeyState::Sealed)
        || device.request.as_ref().is_some_and(|it| it.key == KeyState::Sealed);
    device.state.is_unfinished()
        || sealed
        || device.to_retire().is_some()
        || device.state == State::Passed && device.owes_look()
        || device.mend.is_some()
        || device.needs_sweep()
        || device.label_due.is_some()
        || device.keys_to_destroy().next().is_some()
}
