//! A queue for one limit, and the cell at its head.

use std::collections::VecDeque;
use std::future::Future;
use std::num::NonZeroU32;
use std::pin::Pin;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use governor::clock::Clock;
use governor::middleware::NoOpMiddleware;
use governor::state::{InMemoryState, NotKeyed};
use governor::{Quota, RateLimiter};

use super::learner::{Effect, Learner};
use super::queue::{Queue, Turn};
use crate::cloud::Urgency;

/// A period is this much longer than the quota asks. Were it exact, the first of eleven calls at
/// ten a second, held up in the network by a hair, would fall into one second with the last.
/// Three per mille are 3 ms in a second, at any rate.
pub(super) const STRETCH: f64 = 1.003;

/// How late a wake-up may come without the next permit being put off: what a busy machine costs is
/// caught up. [`Window`] keeps a second from holding too many calls for that.
const LATENESS: Duration = Duration::from_millis(50);

/// The same where a limit is looked for, as a part of the period: what comes too early for a bucket of
/// one call is refused, so that lateness is made up for little by little.
const MADE_UP: f64 = 0.015;

/// By so much the span in which no more calls are sent than the quota says is longer than that: a margin for the
/// network.
const MARGIN: Duration = Duration::from_millis(2);

/// For so long calls are remembered: longer than the span of any rate of more than one a second ([`Window`]).
const REMEMBERED: Duration = Duration::from_millis(2010);

/// At more calls a second nothing is timed so finely.
const WINDOW_CALLS: usize = 1000;

/// What a rate that is no sensible number comes to. The configuration refuses such rates.
const PERIOD_MAX: Duration = Duration::from_secs(24 * 60 * 60);

/// The part of a learned period that is left to chance, so that stations which share a limit do
/// not fall into step: the one that always comes just after a token was made would get them all.
const SPREAD: f64 = 0.6;

/// How a lane waits. There is the system's way, and a simulation's, in which no time passes.
pub trait Sleep: Send + Sync {
    /// Returns after `time`, or a little later.
    fn sleep(&self, time: Duration) -> Pin<Box<dyn Future<Output = ()> + Send + '_>>;
}

/// Tokio's timer, which follows `tokio::time::pause`.
#[derive(Debug)]
pub struct TokioSleep;

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

/// The permits of one limit: one each period, none saved up. Without a rate, always one.
#[derive(Debug)]
struct Cell {
    /// The rate that the limiter was made for.
    rate: Option<f64>,
    limiter: Option<Limiter>,
    hand: Hand,
    /// When the last permit was charged.
    charged: Duration,
    earliest: Duration,
}

impl Cell {
    /// A cell that is spent at `now`: a restart is no new burst.
    fn new(rate: Option<f64>, now: Duration) -> Self {
        let mut cell = Self { rate: None, limiter: None, hand: Hand::default(), charged: now, earliest: now };
        cell.tune(rate);
        cell
    }

    /// Changes the rate. A fresh limiter would give a permit at once: it is spent at the instant
    /// of the last charge, so that no change of the rate is worth a call.
    fn tune(&mut self, rate: Option<f64>) {
        if self.rate == rate {
            return;
        }
        self.rate = rate;
        self.limiter = rate.map(|it| RateLimiter::direct_with_clock(quota(it), self.hand.clone()));
        self.earliest = self.charged;
        self.charge(self.charged);
    }

    /// Takes the permit at `at`, not before `earliest`.
    fn charge(&mut self, at: Duration) {
        self.charged = at;
        let Some(limiter) = &self.limiter else { return };
        self.hand.put(at);
        // With a burst of one the second question is always answered "not until".
        for _ in 0..2 {
            if let Err(not_until) = limiter.check() {
                self.earliest = not_until.earliest_possible();
                return;
            }
        }
    }
}

/// One call a period, a little stretched.
fn quota(rate: f64) -> Quota {
    let period = Duration::try_from_secs_f64(STRETCH / rate).unwrap_or(PERIOD_MAX);
    let period = period.clamp(Duration::from_nanos(1), PERIOD_MAX);
    // `per_second(10)` would allow a burst of ten, hence twenty calls in the first second.
    let quota = Quota::with_period(period).unwrap_or(Quota::per_second(NonZeroU32::MIN));
    quota.allow_burst(NonZeroU32::MIN)
}

/// When the latest calls were really sent. They are kept whatever is configured: a quota that changes does not
/// begin with an empty second.
///
/// As many calls as a rate has in a second, rounded up, may lie in the time that they take at it, which is a second or,
/// at a rate that is no whole number, a little more: were it a second for 1.9 calls rounded down, it were one call.
#[derive(Debug)]
struct Window {
    /// How many of them `span` may hold; 0 for as many as come.
    calls: usize,
    span: Duration,
    sent: VecDeque<Duration>,
}

impl Window {
    fn new(ceiling: Option<f64>) -> Self {
        let mut window = Self { calls: 0, span: Duration::ZERO, sent: VecDeque::new() };
        window.set_ceiling(ceiling);
        window
    }

    fn set_ceiling(&mut self, ceiling: Option<f64>) {
        // Below one a second too: what is made up for after a late call could bring the next within a second of it.
        let timed = ceiling.filter(|it| (0.0..=WINDOW_CALLS as f64).contains(it));
        let calls = timed.map(|it| it.ceil().max(1.0));
        self.calls = calls.map_or(0, |it| it as usize);
        let span = timed.zip(calls).map(|(rate, calls)| if rate < 1.0 { 1.0 } else { calls / rate });
        self.span = span.map_or(Duration::ZERO, |it| duration(it) + MARGIN);
    }

    fn earliest(&self) -> Duration {
        match self.sent.len().checked_sub(self.calls) {
            Some(oldest) if self.calls > 0 => self.sent[oldest] + self.span,
            _ => Duration::ZERO,
        }
    }

    fn note(&mut self, now: Duration) {
        let is_over = |it: &Duration| *it + REMEMBERED <= now;
        while self.sent.len() >= WINDOW_CALLS || self.sent.front().is_some_and(is_over) {
            self.sent.pop_front();
        }
        self.sent.push_back(now);
    }
}

/// The callers of one limit, and what is known of it.
#[derive(Debug)]
pub(super) struct Lane {
    queue: Queue,
    pace: Mutex<Pace>,
}

#[derive(Debug)]
struct Pace {
    cell: Cell,
    window: Window,
    learner: Learner,
    /// By what part chance makes the present period longer or shorter.
    chance: f64,
    random: fastrand::Rng,
    /// When the last call was really sent.
    sent: Option<Duration>,
    paused_until: Duration,
}

impl Lane {
    /// A lane for at most `ceiling` calls a second, above zero, or as many as come.
    pub(super) fn new(ceiling: Option<f64>, now: Duration, seed: u64) -> Self {
        let pace = Pace {
            cell: Cell::new(ceiling, now),
            window: Window::new(ceiling),
            learner: Learner::new(ceiling, seed),
            chance: 0.0,
            sent: None,
            random: fastrand::Rng::with_seed(seed.rotate_left(17)),
            paused_until: Duration::ZERO,
        };
        Self { queue: Queue::default(), pace: Mutex::new(pace) }
    }

    /// No call was made since `at`. For a lane that has given no permit yet.
    pub(super) fn rest_since(&self, at: Duration) {
        let mut pace = self.pace();
        let rate = pace.cell.rate;
        pace.cell = Cell::new(rate, at.min(pace.cell.charged));
    }

    fn pace(&self) -> MutexGuard<'_, Pace> {
        self.pace.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits to be the head.
    pub(super) async fn enter(&self, urgency: Urgency) -> Turn<'_> {
        self.queue.enter(urgency).await
    }

    /// The first instant at which the next permit may be taken, as things stand.
    pub(super) fn earliest(&self) -> Duration {
        self.pace().earliest()
    }

    /// Takes the permit at `now`, if it is due.
    pub(super) fn charge(&self, now: Duration) {
        let mut pace = self.pace();
        let at = pace.cell.earliest.max(now.saturating_sub(pace.lateness()));
        pace.cell.charge(at);
        pace.window.note(now);
        pace.sent = Some(now);
        pace.learner.sent(now);
        pace.chance = if pace.learner.is_shared() { SPREAD * (pace.random.f64() - 0.5) } else { 0.0 };
    }

    /// Lets no permit go before `until`.
    pub(super) fn pause(&self, until: Duration) {
        let mut pace = self.pace();
        pace.paused_until = pace.paused_until.max(until);
    }

    /// The configured rate.
    pub(super) fn ceiling(&self) -> Option<f64> {
        self.pace().learner.ceiling()
    }

    /// Another rate is configured from now on; what was learned under the one before is forgotten. Calls that wait
    /// look again within a second.
    pub(super) fn set_ceiling(&self, ceiling: Option<f64>) {
        let mut pace = self.pace();
        if pace.learner.ceiling() == ceiling {
            return;
        }
        pace.learner.set_ceiling(ceiling);
        pace.window.set_ceiling(ceiling);
        pace.chance = 0.0;
    }

    /// The rate now.
    pub(super) fn rate(&self) -> Option<f64> {
        self.pace().learner.rate()
    }

    /// Whether it goes slower than configured.
    pub(super) fn is_learned(&self) -> bool {
        self.pace().learner.is_learned()
    }

    /// What became of a call sent at `sent`, of an operation that is `far` below its ceiling or not.
    pub(super) fn sample(&self, far: bool, sent: Duration, refused: bool) {
        self.pace().learner.sample(far, sent, refused);
    }

    /// Calls of a lull, and how many of them were refused whatever the rate, when that has just been found.
    pub(super) fn noise_found(&self) -> Option<(f64, f64)> {
        self.pace().learner.noise_found()
    }

    /// A call went through. Whether the lane is free again by this.
    pub(super) fn went_through(&self, sent: Duration, now: Duration) -> bool {
        self.pace().learner.went_through(sent, now)
    }

    /// A call was throttled; `sure`: by this limit.
    pub(super) fn refused(&self, sent: Duration, now: Duration, sure: bool) -> Effect {
        self.pace().learner.refused(sent, now, sure)
    }

    /// What was learned of others who take a part was noise.
    pub(super) fn forget_share(&self) {
        let mut pace = self.pace();
        if pace.learner.is_shared() {
            pace.learner.forget();
        }
    }

    /// What was learned was another limit's doing.
    pub(super) fn forget(&self) {
        self.pace().learner.forget();
    }
}

impl Pace {
    fn earliest(&mut self) -> Duration {
        let rate = self.learner.rate();
        self.cell.tune(rate);
        let due = match rate {
            Some(rate) if self.chance != 0.0 => {
                let due = self.cell.earliest + duration(self.chance.max(0.0) / rate);
                due.saturating_sub(duration((-self.chance).max(0.0) / rate)).max(self.soonest())
            }
            _ => self.cell.earliest,
        };
        due.max(self.window.earliest()).max(self.paused_until).max(self.learner.hold())
    }

    /// How much of the lateness of a call is made up for by the next.
    fn lateness(&self) -> Duration {
        let Some(rate) = self.cell.rate else { return Duration::ZERO };
        if self.learner.is_learned() && !self.learner.is_shared() {
            return duration(MADE_UP / rate);
        }
        LATENESS + duration(self.chance.max(0.0) / rate)
    }

    /// The ceiling's own distance holds whatever chance says.
    fn soonest(&self) -> Duration {
        let ceiling = self.learner.ceiling();
        self.sent
            .map_or(Duration::ZERO, |sent| sent + ceiling.map_or(Duration::ZERO, |it| duration(STRETCH / it)))
    }
}

fn duration(seconds: f64) -> Duration {
    Duration::try_from_secs_f64(seconds).unwrap_or(PERIOD_MAX).min(PERIOD_MAX)
}
