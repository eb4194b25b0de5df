//! Whether the clock can be right. While it cannot, no certificate is issued and no new device taken
//! in; what has its certificate goes on. The gate opens by itself when the reason is gone.

use std::time::Duration;

use jiff::{SignedDuration, Timestamp};

use super::Line;
use crate::clock::{ClockSync, Now};
use crate::cloud::{FailureKind, StopCause};
use crate::device::operator::{Operator, Refusal};
use crate::device::steps::Step;
use crate::journal::StationEvent;

/// How far the clock may be behind the newest record, or go apart from the monotonic one between two
/// looks, before it is taken to have been set.
const TOLERANCE: Duration = Duration::from_secs(5 * 60);

/// Why the clock cannot be right.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Doubt {
    /// It is before the day on which this version was made.
    BeforeBuild,
    /// It is before the newest record.
    BeforeRecord,
    /// Who keeps it says that it is not synchronised.
    Unsynchronised,
}

/// The clock, as far as it can be judged.
#[derive(Debug)]
pub(super) struct ClockGate {
    built_at: Timestamp,
    /// The time of the newest record; of several, the latest.
    newest: Option<Timestamp>,
    sync: ClockSync,
    /// Why it is doubted, and the sentence for the operator.
    doubt: Option<(Doubt, String)>,
    /// Who has told the station to go on all the same.
    overridden: Option<Operator>,
    /// The newest look at it.
    seen: Now,
    /// Since when nobody has set it, monotonic.
    steady_since: Duration,
}

impl ClockGate {
    pub(super) fn new(built_at: Timestamp, newest: Option<Timestamp>, now: Now) -> Self {
        let sync = ClockSync::Unsaid;
        Self { built_at, newest, sync, doubt: None, overridden: None, seen: now, steady_since: now.mono }
    }

    /// A record bears this time.
    pub(super) fn note(&mut self, at: Timestamp) {
        self.newest = self.newest.max(Some(at));
    }

    /// Why it is not gone by, a sentence; none if it is.
    pub(super) fn closed(&self) -> Option<&str> {
        self.doubt.as_ref().filter(|_| self.overridden.is_none()).map(|(_, message)| message.as_str())
    }

    /// What whoever looks at the station should know.
    pub(super) fn told(&self) -> Option<String> {
        let (_, message) = self.doubt.as_ref()?;
        Some(match &self.overridden {
            None => message.clone(),
            Some(by) => format!("{message} (overridden by {}: {})", by.name, by.reason),
        })
    }

    /// Whether the clock may tell that a span has passed, since what follows cannot be undone: it is
    /// not doubted, and either it is synchronised, or it has not been set while this process has lived
    /// through that span itself.
    pub(super) fn proves(&self, span: Duration) -> bool {
        let lived = self.seen.mono.saturating_sub(self.steady_since) >= span;
        self.doubt.is_none()
            && match self.sync {
                ClockSync::Synchronised => true,
                ClockSync::Unsaid => lived,
                ClockSync::Unsynchronised(_) => false,
            }
    }

    /// For how long the clock is known to be right, whatever it has said in that time; none while it is doubted. As
    /// [`proves`](Self::proves), but a person's word is enough: what follows can be corrected.
    pub(super) fn proven(&self) -> Option<Duration> {
        match (&self.doubt, &self.overridden, &self.sync) {
            (Some(_), Some(_), _) | (None, _, ClockSync::Synchronised) => Some(Duration::MAX),
            (None, _, ClockSync::Unsaid) => Some(self.seen.mono.saturating_sub(self.steady_since)),
            (Some(_), None, _) | (None, _, ClockSync::Unsynchronised(_)) => None,
        }
    }

    fn look(&mut self, now: Now) {
        let wall = now.wall.duration_since(self.seen.wall);
        let mono = SignedDuration::try_from(now.mono.saturating_sub(self.seen.mono)).unwrap_or_default();
        if (wall - mono).unsigned_abs() > TOLERANCE {
            self.steady_since = now.mono;
        }
        self.seen = now;
    }

    fn judge(&self) -> Option<(Doubt, String)> {
        let now = self.seen.wall;
        let behind = self.newest.filter(|it| it.duration_since(now).unsigned_abs() > TOLERANCE && *it > now);
        if now < self.built_at {
            let message = format!("clock: {now:.0} is before linemint was built; set the clock");
            Some((Doubt::BeforeBuild, message))
        } else if let Some(newest) = behind {
            let message = format!("clock: {now:.0} is before the newest record, {newest:.0}; set the clock");
            Some((Doubt::BeforeRecord, message))
        } else if let ClockSync::Unsynchronised(who) = &self.sync {
            let message = format!("clock: {who} says that it is not synchronised");
            Some((Doubt::Unsynchronised, message))
        } else {
            None
        }
    }
}

impl Line {
    /// Who keeps the clock says this; the clock is looked at.
    pub(super) fn clock_told(&mut self, sync: ClockSync) {
        self.clock.sync = sync;
        self.look_at_clock();
    }

    pub(super) fn look_at_clock(&mut self) {
        self.clock.look(self.now);
        let doubt = self.clock.judge();
        let kind = |it: &Option<(Doubt, String)>| it.as_ref().map(|(kind, _)| *kind);
        let changed = kind(&doubt) != kind(&self.clock.doubt);
        self.clock.doubt = doubt;
        if !changed {
            return;
        }
        self.clock.overridden = None;
        match self.clock.doubt.clone() {
            Some((_, message)) => {
                tracing::error!(message, "no certificate is issued and no new device taken in");
                self.station_event(StationEvent::ClockDoubted { message });
            }
            None => {
                tracing::info!("the clock is gone by again");
                self.station_event(StationEvent::ClockTrusted);
            }
        }
        self.issue_waiting();
    }

    /// A person says to go on by the clock all the same.
    pub(super) fn override_clock(&mut self, by: Operator) -> Result<(), Refusal> {
        let Some((_, message)) = self.clock.doubt.clone() else {
            return Err(Refusal::Not("the clock is not doubted: there is nothing to override".to_owned()));
        };
        tracing::warn!(uid = by.uid, name = by.name, reason = by.reason, "the clock is gone by all the same");
        self.station_event(StationEvent::ClockOverridden { message, by: by.clone() });
        self.clock.overridden = Some(by);
        self.issue_waiting();
        Ok(())
    }

    /// Issues what has waited for the clock.
    fn issue_waiting(&mut self) {
        if self.clock.closed().is_some() {
            return;
        }
        let waits = |running: &super::running::Running| {
            !running.is_out() && matches!(running.last, Some((FailureKind::Stop(StopCause::Clock), _)))
        };
        let waiting = self.works.iter().filter(|(_, it)| it.running.get(&Step::Issue).is_some_and(waits));
        let mut waiting: Vec<_> = waiting.map(|(serial, _)| serial.clone()).collect();
        // The order of a hash map is not the same twice; a simulation's has to be.
        waiting.sort();
        for serial in waiting {
            self.issue(&serial);
        }
    }
}
