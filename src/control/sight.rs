//! What is shown besides the status, and how.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;

use super::figures::{Instruments, NoInstruments};
use super::tally::Tally;
use crate::clock::{SystemClock, TimeSource};
use crate::report::fold::Maker;
use crate::report::limits::Limits;
use crate::shift::Calendar;

/// What of the configuration is looked at while the station works, as it is now.
#[derive(Debug, Clone, Default)]
pub struct Plant {
    /// The shift calendar, and its time zone, in which times of day are shown.
    pub calendar: Calendar,
    /// The time in which a device should be done, where the line has one.
    pub takt: Option<Duration>,
    /// The limits of AWS that are configured.
    pub limits: Limits,
    /// Hash of the configuration.
    pub config: String,
}

impl Plant {
    /// Has reports follow it.
    pub fn put_into(&self, maker: &mut Maker) {
        maker.calendar = self.calendar.clone();
        maker.takt_ms = self.takt.and_then(|it| u64::try_from(it.as_millis()).ok());
        maker.limits.clone_from(&self.limits);
        maker.station.config.clone_from(&self.config);
    }
}

/// What is shown besides the status, and how.
#[derive(Clone)]
pub struct Sight {
    /// What the journal's newest records come to.
    pub tally: watch::Receiver<Arc<Tally>>,
    /// What is measured.
    pub instruments: Arc<dyn Instruments>,
    /// Calendar and takt; none where they never change.
    pub plant: Option<watch::Receiver<Arc<Plant>>>,
    /// Tells the time.
    pub clock: Arc<dyn TimeSource>,
}

impl Sight {
    /// Calendar and takt as they are now.
    #[must_use]
    pub fn plant(&self) -> Arc<Plant> {
        self.plant.as_ref().map_or_else(Arc::default, |it| it.borrow().clone())
    }
}

impl std::fmt::Debug for Sight {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Sight").field("plant", &self.plant).finish_non_exhaustive()
    }
}

impl Default for Sight {
    /// Nothing to be seen yet.
    fn default() -> Self {
        Self {
            tally: watch::channel(Arc::default()).1,
            instruments: Arc::new(NoInstruments),
            plant: None,
            clock: Arc::new(SystemClock::default()),
        }
    }
}
