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
