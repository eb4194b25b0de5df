//! Paces the calls to AWS: a limiter for each operation, evenly, first come first served.
//!
//! ```text
//!  call ──► lane of its operation ──► (lane of all that register certificates) ──► slot ──► AWS
//!           one at its head, waiting for the cell's next instant
//! ```
//!
//! AWS's quotas are calls a second for a whole account, and it documents no bursts. So a cell gives
//! one permit each period and saves none up: an idle hour does not buy two calls at once, and
//! neither does a restart, since a fresh cell's first permit comes after one period. Only the head
//! of a lane waits for a slot, so that a slow operation cannot use up all slots by waiting.

mod lane;
mod stats;

#[cfg(test)]
mod tests;

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{Semaphore, SemaphorePermit};

pub use self::stats::OperationStats;

use self::lane::{Lane, Sleep, TokioSleep};
use self::stats::Meter;
use super::{Answer, Call, Cloud, CloudError, FailureKind, Operation, Quotas};
use crate::clock::TimeSource;

/// Calls in flight at most, where the composition has no reason for another figure: far more than
/// any quota times any latency, and few enough for the connections of a small machine.
pub const MAX_IN_FLIGHT: usize = 128;

/// The longest that an answer's "retry after" holds a lane.
const PAUSE_MAX: Duration = Duration::from_secs(5 * 60);

/// A [`Cloud`] whose calls keep to [`Quotas`]. Share it by `Arc`: each `Paced` has its own permits.
pub struct Paced<C> {
    inner: C,
    /// By `Operation as usize`.
    lanes: Vec<Lane>,
    meters: Vec<Meter>,
    /// The quota that all calls share which register a device certificate.
    certificates: Lane,
    slots: Semaphore,
    clock: Arc<dyn TimeSource>,
    sleep: Arc<dyn Sleep>,
}

impl<C> std::fmt::Debug for Paced<C> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Paced").field("free_slots", &self.slots.available_permits()).finish_non_exhaustive()
    }
}

impl<C: Cloud> Paced<C> {
    /// Paces `inner` by `quotas`; an operation that is not in them is unlimited.
    ///
    /// `clock`'s monotonic time must advance as tokio's timer does ([`crate::clock::SystemClock`]).
    /// At most `max_in_flight` calls (at least one) are under way at a time.
    #[must_use]
    pub fn new(inner: C, quotas: Quotas, clock: Arc<dyn TimeSource>, max_in_flight: usize) -> Self {
        Self::with_sleep(inner, &quotas, (clock, Arc::new(TokioSleep)), max_in_flight)
    }

    fn with_sleep(
        inner: C,
        quotas: &Quotas,
        (clock, sleep): (Arc<dyn TimeSource>, Arc<dyn Sleep>),
        max_in_flight: usize,
    ) -> Self {
        let now = clock.now().mono;
        let rate = |operation: &Operation| quotas.rates.get(operation).copied();
        Self {
            inner,
            lanes: Operation::ALL.iter().map(|it| Lane::new(rate(it), now)).collect(),
            meters: Operation::ALL.iter().map(|it| Meter::new(rate(it), now)).collect(),
            certificates: Lane::new(quotas.device_certificates, now),
            slots: Semaphore::new(max_in_flight.clamp(1, Semaphore::MAX_PERMITS)),
            clock,
            sleep,
        }
    }

    /// How each operation fares, every one of them, in the order of declaration.
    #[must_use]
    pub fn snapshot(&self) -> Vec<(Operation, OperationStats)> {
        let now = self.clock.now().mono;
        Operation::ALL.iter().map(|it| (*it, self.meters[*it as usize].snapshot(now))).collect()
    }

    /// Waits until a call of `operation` may be sent, and charges it. Whoever stops waiting before
    /// that has taken nothing.
    async fn turn(&self, operation: Operation) -> Option<SemaphorePermit<'_>> {
        let lane = &self.lanes[operation as usize];
        let mut own = lane.enter().await;
        // The own cell first: while it is not ready, the shared one is for other operations.
        self.wait_until(own.earliest()).await;
        let mut shared = match operation.registers_certificate() {
            true => Some(self.certificates.enter().await),
            false => None,
        };
        loop {
            let earliest = own.earliest().max(shared.as_ref().map_or(Duration::ZERO, |it| it.earliest()));
            self.wait_until(earliest.max(lane.paused_until())).await;
            // Never closed; if it were, a call too many in flight would be the lesser evil.
            let slot = self.slots.acquire().await.ok();
            let now = self.clock.now().mono;
            if lane.paused_until() > now {
                continue;
            }
            let at = lane::charged_at(earliest, now);
            own.charge(at);
            if let Some(shared) = &mut shared {
                shared.charge(at);
            }
            return slot;
        }
    }

    async fn wait_until(&self, instant: Duration) {
        loop {
            let left = instant.saturating_sub(self.clock.now().mono);
            if left.is_zero() {
                return;
            }
            self.sleep.sleep(left).await;
        }
    }

    /// What a throttled answer changes: with a time to stay away, the operation's lane pauses.
    /// Without one, nothing yet; a rate that adapts would be lowered here.
    fn throttled(&self, error: &CloudError) {
        let Some(wait) = error.retry_after else { return };
        let until = self.clock.now().mono + wait.min(PAUSE_MAX);
        self.lanes[error.operation as usize].pause(until);
        tracing::debug!(operation = error.operation.aws_name(), ?wait, "AWS asks to stay away for a while");
    }
}

impl<C: Cloud> Cloud for Paced<C> {
    async fn call(&self, call: &Call) -> Result<Answer, CloudError> {
        let operation = call.operation();
        let meter = &self.meters[operation as usize];
        let waiting = meter.wait();
        let _slot = self.turn(operation).await;
        drop(waiting);
        let started = self.clock.now().mono;
        meter.begun(started);
        let outcome = self.inner.call(call).await;
        let took = self.clock.now().mono.saturating_sub(started);
        meter.ended(took, outcome.as_ref().err().map(|it| it.kind));
        if let Err(error) = &outcome
            && error.kind == FailureKind::Throttled
        {
            self.throttled(error);
        }
        outcome
    }
}
