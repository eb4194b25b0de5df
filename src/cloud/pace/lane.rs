//! A queue for one quota, and the cell at its head.

use std::future::Future;
use std::num::NonZeroU32;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use governor::clock::Clock;
use governor::middleware::NoOpMiddleware;
use governor::state::{InMemoryState, NotKeyed};
use governor::{Quota, RateLimiter};
use tokio::sync::{Mutex, MutexGuard};

/// A period is this much longer than the quota asks. Were it exact, the first of eleven calls at
/// ten a second, held up in the network by a hair, would fall into one second with the last.
/// Seven per mille are 7 ms in a second, at any rate: [`LATENESS`] of it goes to the timer, and the
/// rest is for the network.
const STRETCH: f64 = 1.007;

/// How late a timer may wake us without the next permit being put off. Tokio's wakes about one
/// millisecond late; charged at the true instant, ten calls a second would become 9.9.
const LATENESS: Duration = Duration::from_micros(1500);

/// What a rate that is no sensible number comes to. The configuration refuses such rates.
const PERIOD_MAX: Duration = Duration::from_secs(24 * 60 * 60);

/// The instant at which a permit is charged that was due at `earliest` and is taken `now`.
pub(super) fn charged_at(earliest: Duration, now: Duration) -> Duration {
    earliest.max(now.saturating_sub(LATENESS))
}

/// How a lane waits. There is the system's way, and a test's, in which no time passes.
pub(super) trait Sleep: Send + Sync {
    /// Returns after `time`, or a little later.
    fn sleep(&self, time: Duration) -> Pin<Box<dyn Future<Output = ()> + Send + '_>>;
}

/// Tokio's timer, which follows `tokio::time::pause`.
#[derive(Debug)]
pub(super) struct TokioSleep;

impl Sleep for TokioSleep {
    fn sleep(&self, time: Duration) -> Pin<Box<dyn Future<Output = ()> + Send + '_>> {
        Box::pin(tokio::time::sleep(time))
    }
}

/// governor's clock: it stands where the lane puts it, so that a permit can be charged at the
/// instant when it was due.
#[derive(Debug, Clone, Default)]
struct Hand(Arc<AtomicU64>);

impl Hand {
    fn put(&self, at: Duration) {
        self.0.store(u64::try_from(at.as_nanos()).unwrap_or(u64::MAX), Ordering::Relaxed);
    }
}

impl Clock for Hand {
    type Instant = Duration;

    fn now(&self) -> Duration {
        Duration::from_nanos(self.0.load(Ordering::Relaxed))
    }
}

type Limiter = RateLimiter<NotKeyed, InMemoryState, Hand, NoOpMiddleware<Duration>>;

/// The permits of one quota: one each period, none saved up. Without a quota, always one.
#[derive(Debug)]
pub(super) struct Cell {
    limiter: Option<(Limiter, Hand)>,
    earliest: Duration,
}

impl Cell {
    /// A cell that is spent at `now`: a restart is no new burst.
    fn new(rate: Option<f64>, now: Duration) -> Self {
        let limiter = rate.map(|rate| {
            let hand = Hand::default();
            hand.put(now);
            (RateLimiter::direct_with_clock(quota(rate), hand.clone()), hand)
        });
        let mut cell = Self { limiter, earliest: now };
        cell.charge(now);
        cell
    }

    /// The first instant at which the next permit may be taken.
    pub(super) fn earliest(&self) -> Duration {
        self.earliest
    }

    /// Takes the permit at `at`, not before [`Cell::earliest`].
    pub(super) fn charge(&mut self, at: Duration) {
        let Some((limiter, hand)) = &self.limiter else { return };
        hand.put(at);
        // With a burst of one the second question is always answered "not until".
        for _ in 0..2 {
            if let Err(not_until) = limiter.check() {
                self.earliest = not_until.earliest_possible();
                return;
            }
        }
    }
}

/// One call a period, stretched by half a percent.
fn quota(rate: f64) -> Quota {
    let period = Duration::try_from_secs_f64(STRETCH / rate).unwrap_or(PERIOD_MAX);
    let period = period.clamp(Duration::from_nanos(1), PERIOD_MAX);
    // `per_second(10)` would allow a burst of ten, hence twenty calls in the first second.
    let quota = Quota::with_period(period).unwrap_or(Quota::per_second(NonZeroU32::MIN));
    quota.allow_burst(NonZeroU32::MIN)
}

/// The callers of one quota, in the order of their coming.
#[derive(Debug)]
pub(super) struct Lane {
    /// Fair: tokio wakes in order, and who stops waiting is passed over.
    head: Mutex<Cell>,
    /// Monotonic nanoseconds.
    paused_until: AtomicU64,
}

impl Lane {
    /// A lane for `rate` calls a second, above zero, or as many as come.
    pub(super) fn new(rate: Option<f64>, now: Duration) -> Self {
        Self { head: Mutex::new(Cell::new(rate, now)), paused_until: AtomicU64::new(0) }
    }

    /// Waits to be the head.
    pub(super) async fn enter(&self) -> MutexGuard<'_, Cell> {
        self.head.lock().await
    }

    /// Lets no permit go before `until`.
    pub(super) fn pause(&self, until: Duration) {
        let nanos = u64::try_from(until.as_nanos()).unwrap_or(u64::MAX);
        self.paused_until.fetch_max(nanos, Ordering::Relaxed);
    }

    /// The monotonic time until which the lane is held.
    pub(super) fn paused_until(&self) -> Duration {
        Duration::from_nanos(self.paused_until.load(Ordering::Relaxed))
    }
}
