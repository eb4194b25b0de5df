//! What is counted of each operation, for status and metrics.

use std::sync::atomic::{AtomicU8, AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use super::super::{ACCOUNT, DEVICE_CERTIFICATES, FailureKind, Operation};
use crate::histogram::{Buckets, Histogram};

/// The seconds over which the rate is taken.
const WINDOW_SECONDS: u64 = 10;

/// So many of the latest latencies are kept.
const LATENCIES: usize = 512;

/// Upper bounds of the time that a call takes, seconds: from a Region nearby to the call's own limit.
const LATENCY_BOUNDS: &[f64] =
    &[0.01, 0.025, 0.05, 0.1, 0.15, 0.2, 0.3, 0.5, 0.75, 1.0, 1.5, 2.5, 5.0, 10.0, 30.0];

/// A limit that several operations share.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum SharedLimit {
    /// That of all calls which register a device certificate.
    Certificates,
    /// That of all calls, where the account as a whole is found to be limited.
    Account,
}

impl SharedLimit {
    /// Each of them.
    pub const ALL: [Self; 2] = [Self::Certificates, Self::Account];

    /// Its name beside those of the operations, kebab case.
    #[must_use]
    pub const fn kebab(self) -> &'static str {
        match self {
            Self::Certificates => DEVICE_CERTIFICATES,
            Self::Account => ACCOUNT,
        }
    }

    /// Whether calls of `operation` count against it.
    #[must_use]
    pub const fn covers(self, operation: Operation) -> bool {
        match self {
            Self::Certificates => operation.registers_certificate(),
            Self::Account => true,
        }
    }
}

/// How all limits fare.
#[derive(Debug, Clone, PartialEq)]
pub struct Paces {
    /// Every operation, in the order of declaration.
    pub operations: Vec<(Operation, OperationStats)>,
    /// Every limit that operations share.
    pub shared: Vec<(SharedLimit, SharedStats)>,
    /// The part of the account's quotas that the ceilings are, above 0 and at most 1.
    pub share: f64,
}

/// How a limit fares that several operations share.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct SharedStats {
    /// Calls a second that the configuration allows; none if it names no such limit.
    pub ceiling: Option<f64>,
    /// Calls a second that may be made now; none if unlimited.
    pub limit: Option<f64>,
    /// Whether that was learned from what AWS throttles: it gives less than is configured.
    pub learned: bool,
    /// Calls a second sent in the last ten seconds.
    pub rate: f64,
    /// Calls sent.
    pub calls: u64,
    /// Callers that wait, and this limit is why.
    pub waiting: u64,
}

/// How one operation fares. Counts are since the start.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct OperationStats {
    /// Calls a second that the configuration allows; none if unlimited.
    pub ceiling: Option<f64>,
    /// Calls a second that may be made now: less than the ceiling while AWS throttles; none if unlimited.
    pub limit: Option<f64>,
    /// Whether any of the limits that its calls count against was learned from what AWS throttles.
    pub learned: bool,
    /// The shared limit that its callers wait for; none if nobody waits, or for its own.
    pub held_by: Option<SharedLimit>,
    /// Calls a second sent in the last ten seconds.
    pub rate: f64,
    /// Calls sent.
    pub calls: u64,
    /// Calls that succeeded.
    pub ok: u64,
    /// Calls that AWS throttled.
    pub throttled: u64,
    /// Calls that failed otherwise, "exists" and "not found" among them.
    pub errors: u64,
    /// Callers that wait for their turn.
    pub waiting: u64,
    /// Half of the last 512 calls took at most this, in milliseconds, without the wait for a turn.
    pub p50_ms: Option<f64>,
    /// 99 % of the last 512 calls took at most this, in milliseconds.
    pub p99_ms: Option<f64>,
}

/// Counts one operation's calls.
#[derive(Debug)]
pub(super) struct Meter {
    born: Duration,
    waiting: AtomicU64,
    /// The shared limit that the first of those who wait is at, by its place in [`SharedLimit::ALL`] from 1 on.
    at: AtomicU8,
    /// Since the start, seconds.
    took: Histogram,
    counts: Mutex<Counts>,
}

#[derive(Debug, Default)]
struct Counts {
    calls: u64,
    ok: u64,
    throttled: u64,
    errors: u64,
    /// Until when AWS has asked not to be called, monotonic.
    paused_until: Duration,
    /// (second, calls begun in it), by the second modulo the window.
    seconds: [(u64, u64); WINDOW_SECONDS as usize],
    /// A ring, in microseconds; `next` is the place to be overwritten once it is full.
    latencies: Vec<u64>,
    next: usize,
}

/// A caller that waits, until it is dropped.
#[derive(Debug)]
pub(super) struct Waiting<'a>(&'a AtomicU64);

/// Where the first of an operation's callers waits, until it is dropped.
#[derive(Debug)]
pub(super) struct Head<'a>(&'a AtomicU8);

impl Head<'_> {
    /// It is at this limit now.
    pub(super) fn is_at(&self, limit: SharedLimit) {
        self.0.store(limit as u8 + 1, Ordering::Relaxed);
    }
}

impl Drop for Head<'_> {
    fn drop(&mut self) {
        self.0.store(0, Ordering::Relaxed);
    }
}

impl OperationStats {
    /// The throttled part of all calls, 0 to 1.
    #[must_use]
    pub fn throttled_share(&self) -> f64 {
        if self.calls == 0 { 0.0 } else { self.throttled as f64 / self.calls as f64 }
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Meter {
    pub(super) fn new(now: Duration) -> Self {
        let took = Histogram::new(LATENCY_BOUNDS);
        Self { born: now, waiting: AtomicU64::new(0), at: AtomicU8::new(0), took, counts: Mutex::default() }
    }

    fn counts(&self) -> MutexGuard<'_, Counts> {
        self.counts.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// One more waits for its turn.
    pub(super) fn wait(&self) -> Waiting<'_> {
        self.waiting.fetch_add(1, Ordering::Relaxed);
        Waiting(&self.waiting)
    }

    /// For the one caller that has passed its operation's own limit and waits for those that are shared.
    pub(super) fn head(&self) -> Head<'_> {
        Head(&self.at)
    }

    /// Whether anybody waits for a turn, and the shared limit that the first of them is at.
    pub(super) fn waits(&self) -> (bool, Option<SharedLimit>) {
        let at = usize::from(self.at.load(Ordering::Relaxed));
        let waits = self.waiting.load(Ordering::Relaxed) > 0;
        (waits, at.checked_sub(1).and_then(|it| SharedLimit::ALL.get(it)).copied())
    }

    /// AWS has asked not to be called until then, monotonic.
    pub(super) fn paused(&self, until: Duration) {
        let mut counts = self.counts();
        counts.paused_until = counts.paused_until.max(until);
    }

    /// Until when AWS has asked not to be called; that may be over.
    pub(super) fn paused_until(&self) -> Duration {
        self.counts().paused_until
    }

    /// A call is sent at the monotonic time `now`.
    pub(super) fn begun(&self, now: Duration) {
        let mut counts = self.counts();
        counts.calls += 1;
        let second = now.as_secs();
        let slot = &mut counts.seconds[(second % WINDOW_SECONDS) as usize];
        if slot.0 != second {
            *slot = (second, 0);
        }
        slot.1 += 1;
    }

    /// How long the calls took since the start, seconds.
    pub(super) fn took(&self) -> Buckets {
        self.took.buckets()
    }

    /// A call came to its end after `took`: well, or with a failure of a kind.
    pub(super) fn ended(&self, took: Duration, failure: Option<FailureKind>) {
        self.took.observe_time(took);
        let mut counts = self.counts();
        match failure {
            None => counts.ok += 1,
            Some(FailureKind::Throttled) => counts.throttled += 1,
            Some(_) => counts.errors += 1,
        }
        let micros = u64::try_from(took.as_micros()).unwrap_or(u64::MAX);
        if counts.latencies.len() < LATENCIES {
            counts.latencies.push(micros);
            return;
        }
        let next = counts.next;
        counts.latencies[next] = micros;
        counts.next = (next + 1) % LATENCIES;
    }

    /// The figures at the monotonic time `now`; the limits are the lane's to say.
    pub(super) fn snapshot(&self, now: Duration) -> OperationStats {
        let counts = self.counts();
        let mut sorted = counts.latencies.clone();
        sorted.sort_unstable();
        let second = now.as_secs();
        let recent = counts.seconds.iter().filter(|it| it.0 <= second && it.0 + WINDOW_SECONDS > second);
        let begun: u64 = recent.map(|it| it.1).sum();
        // The running second counts as far as it has come, and a young meter by its age.
        let window =
            Duration::from_secs(WINDOW_SECONDS - 1) + Duration::from_nanos(now.subsec_nanos().into());
        let window = window.min(now.saturating_sub(self.born)).max(Duration::from_secs(1));
        OperationStats {
            ceiling: None,
            limit: None,
            learned: false,
            held_by: None,
            rate: begun as f64 / window.as_secs_f64(),
            calls: counts.calls,
            ok: counts.ok,
            throttled: counts.throttled,
            errors: counts.errors,
            waiting: self.waiting.load(Ordering::Relaxed),
            p50_ms: percentile(&sorted, 50),
            p99_ms: percentile(&sorted, 99),
        }
    }
}

/// The nearest rank, in milliseconds.
fn percentile(sorted_micros: &[u64], percent: usize) -> Option<f64> {
    let rank = (sorted_micros.len() * percent).div_ceil(100);
    sorted_micros.get(rank.checked_sub(1)?).map(|it| *it as f64 / 1000.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(millis: u64) -> Duration {
        Duration::from_millis(millis)
    }

    #[test]
    fn percentiles_are_nearest_ranks_of_the_latest_calls() {
        let meter = Meter::new(at(0));
        assert_eq!(meter.snapshot(at(0)).p50_ms, None);
        for millis in (1..=600).rev() {
            meter.ended(at(millis), None);
        }
        // The oldest 88 have been pushed out: 600 down to 513.
        let stats = meter.snapshot(at(0));
        assert_eq!((stats.ok, stats.p50_ms, stats.p99_ms), (600, Some(256.0), Some(507.0)));
    }

    #[test]
    fn the_rate_is_that_of_the_last_ten_seconds() {
        let meter = Meter::new(at(0));
        for call in 0..300 {
            meter.begun(at(call * 100));
        }
        let rate = meter.snapshot(at(30_000)).rate;
        assert!((rate - 10.0).abs() < 0.2, "{rate}");
        assert!(meter.snapshot(at(35_000)).rate < 6.0);
        assert_eq!(meter.snapshot(at(41_000)).rate, 0.0);
    }

    #[test]
    fn a_young_meter_does_not_divide_by_ten_seconds() {
        let meter = Meter::new(at(5_500));
        for call in 0..20 {
            meter.begun(at(5_500 + call * 100));
        }
        let rate = meter.snapshot(at(7_500)).rate;
        assert!((rate - 10.0).abs() < 0.2, "{rate}");
    }
}
