//! Paces the calls to AWS: as fast as the account allows, and no faster.
//!
//! ```text
//!  call ──► lane of its operation ──► (lane of all that register certificates) ──► lane of the account ──► slot ──► AWS
//!           one at its head, waiting for the cell's next instant                                              │
//!                     ▲                                                                                      │
//!                     └──────── went through, throttled: learner of the limit that struck ◄──────────────────┘
//! ```
//!
//! AWS's quotas are calls a second for a whole account, and it documents no bursts. So a cell gives
//! one permit each period and saves none up: an idle hour does not buy two calls at once, and
//! neither does a restart, since a fresh cell's first permit comes one period after the last call that can have been. Only the head
//! of all lanes waits for a slot, so that a slow operation cannot use up all slots by waiting.
//!
//! Others use the account too, so that what is left of a quota moves. Each lane learns from what is
//! throttled ([`learner`]); which limit it was is found in `blame`, and whether it was any in `noise`. Within a lane the devices in
//! the nests go first (`queue`, [`Class`]). What came of it is in `docs/pace.md`.

mod blame;
mod creep;
mod lane;
pub mod learner;
mod lull;
mod noise;
mod queue;
mod search;
mod stats;
pub mod world;

#[cfg(test)]
mod tests;

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::{Semaphore, SemaphorePermit};

pub use self::lane::{Sleep, TokioSleep};
pub use self::stats::{OperationStats, Paces, SharedLimit, SharedStats};

use self::blame::{Blame, Limit};
use self::lane::Lane;
use self::learner::Effect;
use self::noise::Noise;
use self::queue::Turn;
use self::stats::Meter;
use super::{Answer, Call, Class, Cloud, CloudError, FailureKind, HeldBack, Operation, Quotas, Urgency};
use crate::clock::TimeSource;
use crate::histogram::Buckets;

/// Calls in flight at most, where the composition has no reason for another figure: far more than
/// any quota times any latency, and few enough for the connections of a small machine.
pub const MAX_IN_FLIGHT: usize = 128;

/// The longest that an answer's "retry after" holds a lane.
const PAUSE_MAX: Duration = Duration::from_secs(5 * 60);

/// How long a head sleeps at most before it looks again: its limit may have risen meanwhile.
const LOOK_AGAIN: Duration = Duration::from_secs(1);

/// A [`Cloud`] whose calls keep to [`Quotas`]. Share it by `Arc`: each `Paced` has its own permits.
pub struct Paced<C> {
    inner: C,
    /// By `Operation as usize`.
    lanes: Vec<Lane>,
    meters: Vec<Meter>,
    /// The quota that all calls share which register a device certificate.
    certificates: Lane,
    /// What all calls share, where the account as a whole is found to be limited.
    account: Lane,
    blame: Mutex<Blame>,
    noise: Mutex<Noise>,
    /// The part of the account that the quotas are.
    share: Mutex<f64>,
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

    /// As [`new`](Self::new), in a world that has its own way of waiting: a simulation.
    #[must_use]
    pub fn with_sleep(
        inner: C,
        quotas: &Quotas,
        (clock, sleep): (Arc<dyn TimeSource>, Arc<dyn Sleep>),
        max_in_flight: usize,
    ) -> Self {
        Self::seeded(inner, quotas, (clock, sleep), max_in_flight, fastrand::u64(..))
    }

    /// As [`with_sleep`](Self::with_sleep), with nothing left to chance but what follows from `seed`.
    #[must_use]
    pub fn seeded(
        inner: C,
        quotas: &Quotas,
        (clock, sleep): (Arc<dyn TimeSource>, Arc<dyn Sleep>),
        max_in_flight: usize,
        seed: u64,
    ) -> Self {
        let now = clock.now().mono;
        let mut seeds = fastrand::Rng::with_seed(seed);
        let rate = |operation: &Operation| quotas.rates.get(operation).copied();
        // Before the lanes, so that an operation more changes no draw but its own.
        let (certificates, account) = (seeds.u64(..), seeds.u64(..));
        Self {
            inner,
            lanes: Operation::ALL.iter().map(|it| Lane::new(rate(it), now, seeds.u64(..))).collect(),
            meters: Operation::ALL.iter().map(|_| Meter::new(now)).collect(),
            certificates: Lane::new(quotas.device_certificates, now, certificates),
            account: Lane::new(None, now, account),
            blame: Mutex::new(Blame::new(Operation::ALL.iter().map(rate).collect())),
            noise: Mutex::new(Noise::new(Operation::ALL.iter().map(rate).collect())),
            share: Mutex::new(quotas.share),
            slots: Semaphore::new(max_in_flight.clamp(1, Semaphore::MAX_PERMITS)),
            clock,
            sleep,
        }
    }

    /// Nobody has made calls in this one's name since `at` (monotonic), which lies before it was made: the first
    /// permit comes one period after that, and what a start takes is not waited for again.
    #[must_use]
    pub fn resting_since(self, at: Duration) -> Self {
        for lane in self.lanes.iter().chain([&self.certificates, &self.account]) {
            lane.rest_since(at);
        }
        self
    }

    /// Paces by other quotas from now on. Calls that wait in a lane take its new rate at their next look.
    pub fn set_quotas(&self, quotas: &Quotas) {
        let rates = || Operation::ALL.iter().map(|it| quotas.rates.get(it).copied());
        for (lane, rate) in self.lanes.iter().zip(rates()) {
            lane.set_ceiling(rate);
        }
        self.certificates.set_ceiling(quotas.device_certificates);
        *self.share.lock().unwrap_or_else(PoisonError::into_inner) = quotas.share;
        self.blame.lock().unwrap_or_else(PoisonError::into_inner).set_ceilings(rates().collect());
        self.noise.lock().unwrap_or_else(PoisonError::into_inner).set_ceilings(rates().collect());
    }

    /// How each operation and each shared limit fares.
    #[must_use]
    pub fn snapshot(&self) -> Paces {
        let now = self.clock.now().mono;
        let of = |operation: Operation| {
            let ceiling = self.lanes[operation as usize].ceiling();
            let limit = self.limits(operation).filter_map(Lane::rate).reduce(f64::min);
            let held_back = self.limits(operation).any(Lane::is_learned);
            // A limit that others share is this one's only while it binds.
            let limit = if held_back { limit } else { ceiling };
            let held_by = self.held_by(operation);
            let meter = &self.meters[operation as usize];
            OperationStats { ceiling, limit, learned: held_back, held_by, ..meter.snapshot(now) }
        };
        let operations: Vec<_> = Operation::ALL.iter().map(|it| (*it, of(*it))).collect();
        let shared = SharedLimit::ALL.map(|it| (it, self.shared(it, &operations))).to_vec();
        let share = *self.share.lock().unwrap_or_else(PoisonError::into_inner);
        Paces { operations, shared, share }
    }

    fn shared(&self, limit: SharedLimit, operations: &[(Operation, OperationStats)]) -> SharedStats {
        let lane = self.lane_of(limit);
        let covered = || operations.iter().filter(|(operation, _)| limit.covers(*operation)).map(|it| &it.1);
        SharedStats {
            ceiling: lane.ceiling(),
            limit: lane.rate(),
            learned: lane.is_learned(),
            rate: covered().map(|it| it.rate).sum(),
            calls: covered().map(|it| it.calls).sum(),
            waiting: covered().filter(|it| it.held_by == Some(limit)).map(|it| it.waiting).sum(),
        }
    }

    fn lane_of(&self, limit: SharedLimit) -> &Lane {
        match limit {
            SharedLimit::Certificates => &self.certificates,
            SharedLimit::Account => &self.account,
        }
    }

    /// The shared limit that callers of `operation` wait for. Where it has no rate, whoever is there waits for
    /// something else: a slot.
    fn held_by(&self, operation: Operation) -> Option<SharedLimit> {
        let (waits, at) = self.meters[operation as usize].waits();
        at.filter(|it| waits && self.lane_of(*it).rate().is_some())
    }

    /// How long the calls of each operation in use took since the start, seconds.
    #[must_use]
    pub fn latencies(&self) -> Vec<(Operation, Buckets)> {
        let all = Operation::ALL.iter().map(|it| (*it, self.meters[*it as usize].took()));
        all.filter(|(_, it)| it.count() > 0).collect()
    }

    /// The lanes that a call of `operation` goes through.
    fn limits(&self, operation: Operation) -> impl Iterator<Item = &Lane> {
        self.ways(operation).map(|it| it.1)
    }

    /// The same, with their names where they are shared; the operation's own comes first.
    fn ways(&self, operation: Operation) -> impl Iterator<Item = (Option<SharedLimit>, &Lane)> {
        let shared = SharedLimit::ALL.into_iter().filter(move |it| it.covers(operation));
        let own = std::iter::once((None, &self.lanes[operation as usize]));
        own.chain(shared.map(|it| (Some(it), self.lane_of(it))))
    }

    fn blame(&self) -> MutexGuard<'_, Blame> {
        self.blame.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn noise(&self) -> MutexGuard<'_, Noise> {
        self.noise.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits until a call of `operation` may be sent, and charges it. Whoever stops waiting before
    /// that has taken nothing.
    async fn turn(&self, operation: Operation, urgency: &Urgency) -> Option<SemaphorePermit<'_>> {
        let mut turns: Vec<Turn<'_>> = Vec::with_capacity(3);
        let mut head = None;
        // The own cell first: while it is not ready, the shared ones are for other operations.
        for (shared, lane) in self.ways(operation) {
            if let Some(shared) = shared {
                head.get_or_insert_with(|| self.meters[operation as usize].head()).is_at(shared);
            }
            let mut turn = lane.enter(urgency.clone()).await;
            self.wait_for(lane).await;
            while turn.has_to_give_way() {
                turn = turn.give_way().await;
                self.wait_for(lane).await;
            }
            turns.push(turn);
        }
        loop {
            for lane in self.limits(operation) {
                self.wait_for(lane).await;
            }
            // Never closed; if it were, a call too many in flight would be the lesser evil.
            let slot = self.slots.acquire().await.ok();
            let now = self.clock.now().mono;
            // A rate may have been lowered meanwhile, or AWS have asked to stay away.
            if self.limits(operation).any(|it| it.earliest() > now) {
                continue;
            }
            self.limits(operation).for_each(|it| it.charge(now));
            return slot;
        }
    }

    async fn wait_for(&self, lane: &Lane) {
        loop {
            let left = lane.earliest().saturating_sub(self.clock.now().mono);
            if left.is_zero() {
                return;
            }
            self.sleep.sleep(left.min(LOOK_AGAIN)).await;
        }
    }

    /// What an answer says about the limits that its call counted against.
    fn learn(&self, operation: Operation, outcome: &Result<Answer, CloudError>, sent: Duration) {
        let now = self.clock.now().mono;
        match outcome.as_ref().map_err(|it| it.kind) {
            Err(FailureKind::Throttled) => {
                let asked = outcome.as_ref().err().and_then(|it| it.retry_after);
                if let Some(wait) = asked {
                    let until = now + wait.min(PAUSE_MAX);
                    self.lanes[operation as usize].pause(until);
                    self.meters[operation as usize].paused(until);
                }
                if !self.is_excused(operation, true, sent) {
                    self.throttled(operation, asked, (sent, now));
                }
            }
            // It never reached the limit, or nobody knows whether it did.
            Err(FailureKind::Unreachable | FailureKind::Unknown) => return,
            Ok(_) | Err(_) => {
                self.is_excused(operation, false, sent);
                self.blame().went_through(operation, now);
                for lane in self.limits(operation) {
                    if lane.went_through(sent, now) {
                        tracing::info!(operation = operation.aws_name(), "AWS's limit is no longer felt");
                    }
                }
            }
        }
        for lane in self.limits(operation) {
            if let Some((calls, refused)) = lane.noise_found() {
                self.noise().measured((calls, refused));
                if refused > 0.0 {
                    tracing::info!(calls, refused, "AWS throttles whatever the rate");
                    self.lanes.iter().for_each(Lane::forget_share);
                }
            }
        }
    }

    /// What a call says of noise, and whether it was refused for no reason, as far as is known.
    fn is_excused(&self, operation: Operation, refused: bool, sent: Duration) -> bool {
        let mut noise = self.noise();
        let far = noise.is_told_by(operation);
        self.limits(operation).for_each(|it| it.sample(far, sent, refused));
        noise.excuses(operation, refused)
    }

    /// A throttled call lowers the limit that it ran into.
    fn throttled(&self, operation: Operation, asked: Option<Duration>, (sent, now): (Duration, Duration)) {
        let own = &self.lanes[operation as usize];
        let far = self.noise().is_told_by(operation);
        let (limit, acquitted, sure) = {
            let mut blame = self.blame();
            let (limit, acquitted) = blame.throttled(operation, far, self.account.is_learned(), now);
            (limit, acquitted, blame.is_sure_of_operations())
        };
        acquitted.iter().for_each(|it| self.lanes[*it as usize].forget());
        if limit == Limit::Operation && self.account.is_learned() {
            self.account.forget();
        }
        let (lane, name) = match limit {
            Limit::Operation => (own, operation.aws_name()),
            Limit::Certificates => (&self.certificates, "all certificates"),
            Limit::Account => (&self.account, "the whole account"),
        };
        let effect = lane.refused(sent, now, sure);
        let (rate, asked) = (lane.rate(), asked.map(|it| it.as_secs_f64()));
        tracing::trace!(?now, limit = name, ?effect, rate, "throttled");
        match effect {
            Effect::Begun => tracing::info!(limit = name, rate, asked, "AWS throttles; going slower"),
            Effect::Deepened => tracing::debug!(limit = name, rate, asked, "AWS still throttles"),
            Effect::Late | Effect::Noted => {}
        }
    }
}

impl<C: Cloud> Cloud for Paced<C> {
    async fn call(&self, call: &Call) -> Result<Answer, CloudError> {
        self.call_for(Class::NestBegun, call).await
    }

    async fn call_for(&self, class: Class, call: &Call) -> Result<Answer, CloudError> {
        self.call_timed(&class.into(), call).await.0
    }

    async fn call_timed(&self, urgency: &Urgency, call: &Call) -> (Result<Answer, CloudError>, Duration) {
        let operation = call.operation();
        let meter = &self.meters[operation as usize];
        let (waiting, asked) = (meter.wait(), self.clock.now().mono);
        let _slot = self.turn(operation, urgency).await;
        drop(waiting);
        let started = self.clock.now().mono;
        meter.begun(started);
        let outcome = self.inner.call_for(urgency.class(), call).await;
        let took = self.clock.now().mono.saturating_sub(started);
        meter.ended(took, outcome.as_ref().err().map(|it| it.kind));
        self.learn(operation, &outcome, started);
        (outcome, started.saturating_sub(asked))
    }

    fn held_back(&self) -> Vec<HeldBack> {
        let mut all: Vec<HeldBack> = Vec::new();
        let now = self.clock.now().mono;
        for operation in Operation::ALL {
            let meter = &self.meters[*operation as usize];
            // Also while nobody waits for it: who was refused waits for its next try.
            let paused_until = Some(meter.paused_until()).filter(|it| *it > now);
            if paused_until.is_some() {
                let ceiling = self.lanes[*operation as usize].ceiling();
                all.push(HeldBack { limit: operation.kebab(), rate: None, ceiling, paused_until });
            }
            if !meter.waits().0 {
                continue;
            }
            let (limit, lane) = match self.held_by(*operation) {
                Some(shared) => (shared.kebab(), self.lane_of(shared)),
                None => (operation.kebab(), &self.lanes[*operation as usize]),
            };
            let Some(rate) = lane.rate().filter(|_| lane.is_learned()) else { continue };
            if !all.iter().any(|it| it.limit == limit && it.rate.is_some()) {
                all.push(HeldBack { limit, rate: Some(rate), ceiling: lane.ceiling(), paused_until: None });
            }
        }
        all
    }
}
