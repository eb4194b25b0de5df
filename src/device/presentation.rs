//! One time in a nest: which, since when, and how it ended.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::event::{Outcome, PresentationKey};
use crate::fixture::FailCode;

/// One time in a nest.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Presentation {
    /// Which one.
    pub key: PresentationKey,
    /// The nest, where the fixture names them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub nest: Option<String>,
    /// When it was journaled.
    pub at: Timestamp,
    /// Sequence number of the record that opened it.
    #[serde(default)]
    pub seq: u64,
    /// How it ended; none while it is open.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub outcome: Option<Outcome>,
    /// It ended with `fail` and the device has not failed: the work on it goes on.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub deferred: bool,
}

impl Presentation {
    /// One that begins.
    pub(super) fn begun(key: &PresentationKey, nest: Option<&String>, at: Timestamp, seq: u64) -> Self {
        Self { key: key.clone(), nest: nest.cloned(), at, seq, outcome: None, deferred: false }
    }

    /// It ends so, if it is that one.
    pub(super) fn close(&mut self, key: &PresentationKey, outcome: Outcome) {
        if self.key == *key {
            (self.outcome, self.deferred) = (Some(outcome), false);
        }
    }

    /// Likewise, with `fail`, but the work on the device goes on.
    pub(super) fn defer(&mut self, key: &PresentationKey, code: FailCode, message: &str) {
        self.close(key, Outcome::failed(code, message));
        self.deferred |= self.key == *key;
    }
    /// No more work is done on the device: a word that was put off is the last one.
    pub(super) fn settle(&mut self) {
        self.deferred = false;
    }
}
