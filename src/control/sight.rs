//! What is shown besides the status, and how.

use std::sync::Arc;
use std::time::Duration;

use jiff::tz::TimeZone;
use tokio::sync::watch;

use super::figures::{Instruments, NoInstruments};
use super::tally::Tally;
use crate::clock::{SystemClock, TimeSource};

/// What is shown besides the status, and how.
#[derive(Clone)]
pub struct Sight {
    /// What the journal's newest records come to.
    pub tally: watch::Receiver<Arc<Tally>>,
    /// What is measured.
    pub instruments: Arc<dyn Instruments>,
    /// The time in which a device should be done, where the line has one.
    pub takt: Option<Duration>,
    /// In which times of day are shown.
    pub timezone: TimeZone,
    /// Tells the time.
    pub clock: Arc<dyn TimeSource>,
}

impl std::fmt::Debug for Sight {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Sight")
            .field("takt", &self.takt)
            .field("timezone", &self.timezone)
            .finish_non_exhaustive()
    }
}

impl Default for Sight {
    /// Nothing to be seen yet.
    fn default() -> Self {
        Self {
            tally: watch::channel(Arc::default()).1,
            instruments: Arc::new(NoInstruments),
            takt: None,
            timezone: TimeZone::UTC,
            clock: Arc::new(SystemClock::default()),
        }
    }
}
