//! A step under way.

use std::collections::VecDeque;
use std::time::Duration;

use super::principals::Pages;
use super::waits::Asked;
use crate::cloud::{Call, FailureKind, ListedLocker};

/// A step under way.
#[derive(Debug, Default)]
pub(super) struct Running {
    /// The call that is out; none while it waits.
    pub(super) call: Option<Call>,
    /// When that was asked for.
    pub(super) asked: Option<Asked>,
    /// The CA has been asked and has not answered.
    pub(super) issuing: bool,
    /// The call that is held back because none of its kind goes through now.
    pub(super) parked: Option<Call>,
    /// Since when, monotonic.
    pub(super) parked_at: Duration,
    /// Tries so far.
    pub(super) attempt: u32,
    /// Look-ups since the last try.
    pub(super) asks: u32,
    /// In this try, what hung on it has been taken away once more.
    pub(super) once_more: bool,
    /// Tries in a row that found nothing.
    pub(super) not_found: u32,
    /// The newest failure.
    pub(super) last: Option<(FailureKind, String)>,
    /// It waits for a look at the whole account.
    pub(super) seeking: Option<u64>,
    /// Looks in a row that found nothing.
    pub(super) looks: usize,
    /// Whatever was called so far has certainly done nothing.
    pub(super) in_vain: bool,
    /// Lockers that may be the device's.
    pub(super) candidates: VecDeque<ListedLocker>,
    /// Pages that a list has shown so far.
    pub(super) pages: Pages,
}

impl Running {
    /// Whether somebody has been asked and has not answered.
    pub(super) fn is_out(&self) -> bool {
        self.call.is_some() || self.issuing
    }

    /// Counts its tries from the beginning.
    pub(super) fn begin_anew(&mut self) {
        self.attempt = 0;
    }

    /// Holds a call back.
    pub(super) fn park(&mut self, call: Call, now: Duration) {
        (self.parked, self.parked_at) = (Some(call), now);
    }

    /// The call that is out.
    pub(super) fn call(&self) -> Option<&Call> {
        self.call.as_ref()
    }

    /// The call that is held back.
    pub(super) fn parked(&self) -> Option<&Call> {
        self.parked.as_ref()
    }

    /// Whether it makes no call now, and none for a while.
    pub(super) fn rests(&self) -> bool {
        let long = |kind: FailureKind| {
            use FailureKind::{Conflict, Exists, Refused, Stop};
            matches!(kind, Conflict | Exists | Refused | Stop(_))
        };
        let waits = !self.is_out() && self.parked.is_none();
        waits && (self.seeking.is_some() || self.last.as_ref().is_some_and(|(kind, _)| long(*kind)))
    }
}
