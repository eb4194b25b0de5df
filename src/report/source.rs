//! Where a report's facts come from.

use std::ops::ControlFlow;

use jiff::Timestamp;

use super::slot::Slot;
use super::summary::Summary;
use crate::device::serial::SerialNumber;
use crate::journal::JournalError;

/// Where the journal ends.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Head {
    /// The newest record that is on disk.
    pub seq: u64,
    /// Its hash in the journal's chain, 64 hex digits.
    pub hash: String,
}

/// The journal, as reports read it. Nothing here waits for the journal's writer or keeps it waiting.
pub trait Source {
    /// The newest record; all up to it is read by what follows.
    ///
    /// # Errors
    /// The journal cannot be read; likewise below.
    fn head(&self) -> Result<Head, JournalError>;

    /// The devices that were first presented from `begin` up to but without `end`, in the order of that time; until
    /// `each` says that it is enough.
    ///
    /// # Errors
    /// As above.
    fn summaries(
        &self,
        begin: Timestamp,
        end: Timestamp,
        each: &mut dyn FnMut(Summary) -> ControlFlow<()>,
    ) -> Result<(), JournalError>;

    /// The devices that first passed in that time, and were first presented before it; likewise.
    ///
    /// # Errors
    /// As above.
    fn passed_later(
        &self,
        begin: Timestamp,
        end: Timestamp,
        each: &mut dyn FnMut(Summary) -> ControlFlow<()>,
    ) -> Result<(), JournalError>;

    /// What happened in that time, of which `now` is the newest instant.
    ///
    /// # Errors
    /// As above.
    fn slots(&self, begin: Timestamp, end: Timestamp, now: Timestamp) -> Result<Slot, JournalError>;

    /// When the first device of a batch was first presented, and when any of them was worked on last
    /// ([`super::summary::is_work`]); none if none was presented.
    ///
    /// # Errors
    /// As above.
    fn batch(&self, id: &str) -> Result<Option<(Timestamp, Timestamp)>, JournalError>;

    /// One device.
    ///
    /// # Errors
    /// As above.
    fn summary(&self, serial: &SerialNumber) -> Result<Option<Summary>, JournalError>;
}

/// The work orders that are known.
pub trait Orders: Send + Sync + std::fmt::Debug {
    /// The order of that id; none if there is none.
    ///
    /// # Errors
    /// It cannot be read.
    fn order(&self, id: &str) -> Result<Option<Box<dyn Expected>>, JournalError>;
}

/// What a work order asks for. Its list may have a million lines: it is never held in memory here.
pub trait Expected {
    /// How many devices it asks for.
    fn count(&self) -> u64;

    /// Whether it names its devices; else only their number is known.
    fn is_listed(&self) -> bool;

    /// Whether that device is on the list; true where there is none.
    ///
    /// # Errors
    /// The order cannot be read.
    fn contains(&self, serial: &SerialNumber) -> Result<bool, JournalError>;

    /// Tells those of the list that `made` does not know, in its order; nothing where there is no list.
    ///
    /// # Errors
    /// The order cannot be read, or `made` fails.
    fn missing(
        &self,
        made: &dyn Fn(&SerialNumber) -> Result<bool, JournalError>,
        each: &mut dyn FnMut(&SerialNumber),
    ) -> Result<(), JournalError>;
}
