//! Time comes in from here, so that a test can own it.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use jiff::Timestamp;

/// One reading of both clocks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Now {
    /// UTC wall clock, for records and certificates. May jump.
    pub wall: Timestamp,
    /// Monotonic time since some fixed instant, for waits. Never goes back.
    pub mono: Duration,
}

impl Now {
    /// The same instant, `by` later on both clocks.
    #[must_use]
    pub fn later(self, by: Duration) -> Self {
        let wall = self.wall.checked_add(jiff::SignedDuration::try_from(by).unwrap_or_default());
        Self { wall: wall.unwrap_or(self.wall), mono: self.mono + by }
    }
}

/// What whoever keeps the wall clock says of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ClockSync {
    /// It has been set by a time server.
    Synchronised,
    /// It has not; the name of the program that says so.
    Unsynchronised(String),
    /// Nobody says anything.
    Unsaid,
}

/// The newest date that was known when this version was made, UTC: no clock that is right is before
/// it. A constant, so that a build is the same whenever it is made.
const MADE_AT: i64 = 1_795_305_600;

/// When this version was made: the day in its source, or what the builder's `SOURCE_DATE_EPOCH` says
/// if that is later.
#[must_use]
pub fn made_at() -> Timestamp {
    let told = option_env!("SOURCE_DATE_EPOCH").and_then(|it| it.parse::<i64>().ok());
    Timestamp::from_second(told.unwrap_or(MADE_AT).max(MADE_AT)).unwrap_or(Timestamp::UNIX_EPOCH)
}

/// Tells the time.
pub trait TimeSource: Send + Sync {
    /// Both clocks, read at the same instant.
    fn now(&self) -> Now;
}

/// The system's clocks. The monotonic one follows `tokio::time::pause`.
#[derive(Debug, Clone)]
pub struct SystemClock {
    origin: tokio::time::Instant,
}

impl Default for SystemClock {
    fn default() -> Self {
        Self { origin: tokio::time::Instant::now() }
    }
}

impl TimeSource for SystemClock {
    #[expect(clippy::disallowed_methods, reason = "this is where the time comes from")]
    fn now(&self) -> Now {
        Now { wall: Timestamp::now(), mono: self.origin.elapsed() }
    }
}

/// A clock that stands until it is moved. For tests.
#[derive(Debug, Clone)]
pub struct ManualClock {
    now: Arc<Mutex<Now>>,
}

impl ManualClock {
    /// A clock that stands at `wall`, monotonic time zero.
    #[must_use]
    pub fn at(wall: Timestamp) -> Self {
        Self { now: Arc::new(Mutex::new(Now { wall, mono: Duration::ZERO })) }
    }

    /// Moves both clocks forward.
    pub fn advance(&self, by: Duration) {
        let mut now = self.now.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        *now = now.later(by);
    }
}

impl TimeSource for ManualClock {
    fn now(&self) -> Now {
        *self.now.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }
}
