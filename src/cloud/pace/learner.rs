//! What is known of one limit that nobody tells: how fast calls may go now.
//!
//! ```text
//!            throttled                    so many more went through than the limit allows
//!  Free ───────────────► Held ──► Steady ──► Probe ───────────────────────────► Climb
//!    ▲  at the ceiling    ▲                    │ throttled                        │
//!    └────────────────────┼────────────────────┴──────────────────────────────────┤
//!                         └──────────────── throttled ────────────────────────────┘
//! ```
//!
//! A token bucket and a sliding window have one thing in common: when they refuse they are empty.
//! Between two refusals they let through what the limit allows and no more, whatever their burst.
//! So what went through between two throttled calls is the best measure of the limit; and when a
//! few calls more than that have gone through, the limit has risen, and nothing else can be the
//! reason. A probe is as short as that takes: it costs one throttled call if it finds nothing.
//!
//! Where many stations share a limit, a throttled call says little about one's own part. Who is
//! throttled while keeping to what it knows to be right concludes that it is not alone, probes no
//! more, and creeps: up by the same part of its rate in the same time as everybody, down by a part
//! with each throttled call. The greater rate is throttled more often, so that rates come together.

use std::collections::VecDeque;
use std::time::Duration;

/// No rate is learned below this, calls a second: a limit of zero would never be found to be gone.
pub const FLOOR: f64 = 0.05;

/// Answers that are remembered for the present rate.
const REMEMBERED: usize = 64;

/// How far below the known limit a station stays between probes.
const CARE: f64 = 0.975;

/// A throttled call within so long of the last one belongs to the same fall of the limit.
const FALL: Duration = Duration::from_millis(1000);

/// Where no ceiling is configured, a first refusal leaves at least this before it is deepened.
const BEGINNING: f64 = 50.0;

/// What a first refusal leaves of the rate that was measured.
const STEP_DOWN: f64 = 0.8;

/// What a refusal takes off at one call a second, where it was none of our doing; less at higher
/// rates, more at lower ones, by the power below. A rate that is refused seldom has to yield more
/// each time, or it would be refused too often; one that is refused often need not.
const YIELD: f64 = 0.35;
const YIELD_POWER: f64 = 0.1;
const YIELD_POWER_SLOW: f64 = 0.25;

/// What creeping adds in a second, as a part of the rate.
const CREEP: f64 = 0.006;

/// Calls without a refusal after which creeping becomes twice as fast, and again.
const CREEP_DOUBLES: f64 = 60.0;

/// Below this rate, calls a second, creeping is slower: few calls must bear the refusals.
const SLOW: f64 = 0.7;

/// Seconds in which a climbing rate doubles.
const DOUBLING: f64 = 0.45;

/// So many calls above what the limit allows prove that it has risen.
const PROOF: f64 = 2.0;

/// Calls without a refusal that let even a shared limit be probed.
const QUIET: f64 = 240.0;

/// Calls saved up before a probe that count for its proof to be hidden: a token may have been left.
const SAVED: f64 = 1.0;

/// Between two probes: at least this long.
const PROBE_EVERY: f64 = 1.3;

/// Calls between two probes of a limit that has stood for long: one or two of them are throttled.
const PROBE_CALLS: f64 = 70.0;

/// Seconds after which a limit counts as one that stands.
const SETTLED: f64 = 30.0;

/// How far a climbing rate may be ahead of what has gone through lately.
const AHEAD: f64 = 3.0;

/// A limit without a ceiling that was not felt for so long, and is far above what is called, is gone.
const CALM: Duration = Duration::from_secs(10);

/// Nothing called for so long, and what was known is out of date.
const STALE: Duration = Duration::from_secs(60);

/// What a throttled call has led to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Effect {
    /// Nothing: the call had been sent before the last decrease.
    Late,
    /// A first decrease: an episode begins.
    Begun,
    /// A further one, in the same fall of the limit.
    Deepened,
}

/// One limit, as far as it is known. Times are monotonic.
#[derive(Debug, Clone)]
pub struct Learner {
    ceiling: Option<f64>,
    learned: Option<Learned>,
    /// When the latest calls that went through were answered.
    answers: VecDeque<Duration>,
    random: fastrand::Rng,
    /// 0: throttled calls are our own doing; 1: others share the limit.
    others: f64,
}

#[derive(Debug, Clone)]
struct Learned {
    /// Calls a second now.
    rate: f64,
    /// The limit as it was last found.
    known: f64,
    phase: Phase,
    /// Calls sent before this say nothing new.
    since: Duration,
    /// The last refusal that counted.
    refused: Duration,
    /// What went through since then.
    good: f64,
    /// How much more than the limit allows has gone through: what was saved before counts a little.
    excess: f64,
    /// When `rate` was last moved.
    moved: Duration,
    /// The present fall of the limit: its beginning, and what went through since.
    fall: (Duration, f64),
    /// Since when `known` has been about the same.
    stands: Duration,
}

#[derive(Debug, Clone, Copy, PartialEq)]
enum Phase {
    /// Nothing is tried before the time.
    Held(Duration),
    /// At the known limit, until the next probe.
    Steady(Duration),
    /// Above it, until it is refused or proved.
    Probe,
    /// The limit has risen: up until it is found.
    Climb,
}

impl Learner {
    /// Nothing is known but the ceiling, if there is one, calls a second.
    #[must_use]
    pub fn new(ceiling: Option<f64>, seed: u64) -> Self {
        Self {
            ceiling,
            learned: None,
            answers: VecDeque::new(),
            random: fastrand::Rng::with_seed(seed),
            others: 0.0,
        }
    }

    /// Calls a second that may be made now; none: as many as come.
    #[must_use]
    pub fn rate(&self) -> Option<f64> {
        self.learned.as_ref().map(|it| it.rate).or(self.ceiling)
    }

    /// The configured rate.
    #[must_use]
    pub fn ceiling(&self) -> Option<f64> {
        self.ceiling
    }

    /// What was learned was not this limit's doing.
    pub fn forget(&mut self) {
        self.learned = None;
    }

    /// Whether it allows less than its ceiling.
    #[must_use]
    pub fn is_learned(&self) -> bool {
        self.learned.is_some()
    }

    /// A call sent at `sent` went through at `now`. Whether the limit has been forgotten by this: the
    /// ceiling is reached again.
    pub fn went_through(&mut self, sent: Duration, now: Duration) -> bool {
        self.answers.push_back(now);
        if self.answers.len() > REMEMBERED {
            self.answers.pop_front();
        }
        let recent = if self.learned.is_some() && self.ceiling.is_none() { self.recent(now) } else { None };
        let Some(it) = &mut self.learned else { return false };
        if sent >= it.since {
            it.good += 1.0;
            it.fall.1 += 1.0;
            it.excess += 1.0;
        }
        let others = self.others;
        let before = it.rate;
        it.rise(now, others, &mut self.random);
        // What is not asked for is not proved: the rate runs ahead of the calls by so much and no more.
        if let (Phase::Climb, Some(recent)) = (it.phase, recent) {
            it.rate = it.rate.min((AHEAD * recent).max(before));
        }
        let top = self.ceiling.unwrap_or(f64::INFINITY);
        if it.rate < top {
            // Nobody has set a ceiling: what is never refused any more is no limit.
            let calm = self.ceiling.is_none() && now.saturating_sub(it.refused) > CALM;
            if calm && recent.is_some_and(|recent| it.rate > 0.9 * AHEAD * recent) {
                self.learned = None;
                return true;
            }
            return false;
        }
        it.rate = top;
        // At the ceiling and not refused: done with it when as much has gone through as a probe is worth.
        let enough = it.good > PROOF + it.known * secs(now.saturating_sub(it.refused)) || it.known >= top;
        if enough && it.good >= 60.0 {
            self.learned = None;
            self.others = 0.0;
            return true;
        }
        false
    }

    /// A call sent at `sent` was throttled; it was said at `now`.
    pub fn refused(&mut self, sent: Duration, now: Duration) -> Effect {
        let recent = self.recent(now);
        let floor = FLOOR.min(self.ceiling.unwrap_or(f64::INFINITY));
        let Some(it) = &mut self.learned else {
            let rate = match self.ceiling {
                Some(ceiling) => recent.unwrap_or(ceiling * 0.25).min(ceiling),
                // What went through lately may be no more than was asked for, and a single refusal no
                // limit at all. Refused again, the rate falls fast enough.
                None => recent.unwrap_or(BEGINNING).max(BEGINNING),
            };
            let rate = (rate * STEP_DOWN).max(floor);
            // Refused within what AWS has granted: somebody else takes a part of it.
            self.others = if self.ceiling.is_some() { 1.0 } else { 0.0 };
            self.learned = Some(Learned {
                rate,
                known: rate,
                phase: Phase::Held(now + FALL / 2),
                since: now,
                refused: now,
                good: 0.0,
                excess: 0.0,
                moved: now,
                fall: (now, 0.0),
                stands: now,
            });
            return Effect::Begun;
        };
        if sent < it.since {
            return Effect::Late;
        }
        let effect = it.fall_back(now, recent, &mut self.others);
        it.rate = it.rate.max(floor);
        it.known = it.known.max(floor).min(self.ceiling.unwrap_or(f64::INFINITY));
        effect
    }

    /// How fast calls have gone through lately, if enough have.
    fn recent(&self, now: Duration) -> Option<f64> {
        let oldest = *self.answers.front()?;
        let second = Duration::from_secs(1);
        let count = self.answers.iter().filter(|it| **it + second > now).count();
        if count == self.answers.len() && count > 4 {
            return Some(count as f64 / secs(now.saturating_sub(oldest)).max(0.05));
        }
        if count >= 8 {
            return Some(count as f64);
        }
        let last = self.answers.len().min(8);
        let from = *self.answers.get(self.answers.len() - last)?;
        (last > 4).then(|| last as f64 / secs(now.saturating_sub(from)).max(0.05))
    }
}

impl Learned {
    /// Moves the rate up, as far as the time that was used has earned it.
    fn rise(&mut self, now: Duration, others: f64, random: &mut fastrand::Rng) {
        let passed = now.saturating_sub(self.moved);
        let shared = others > 0.5;
        self.moved = now;
        if passed > STALE || !shared && secs(now.saturating_sub(self.refused)) > 60.0 {
            self.phase = Phase::Climb;
        }
        // Time in which nothing was called proves nothing.
        let used = secs(passed).min(3.0 / self.rate);
        self.excess = (self.excess - self.known * secs(passed)).max(-SAVED);
        match self.phase {
            Phase::Held(until) if now < until => {}
            Phase::Held(_) => {
                let stood = secs(now.saturating_sub(self.stands));
                let calls = if stood > SETTLED { PROBE_CALLS } else { 14.0 };
                let wait = (calls / self.rate).clamp(PROBE_EVERY, 600.0) * (0.8 + 0.4 * random.f64());
                self.rate = self.rate.max(self.known * CARE);
                self.phase = Phase::Steady(now + Duration::from_secs_f64(wait));
            }
            Phase::Steady(until) if now < until => {
                let faster = (secs(now.saturating_sub(self.refused)) / CREEP_DOUBLES).min(6.0).exp2();
                let by = (CREEP * (self.rate / SLOW).min(1.0) * used * faster).min(0.3).exp();
                self.rate *= by;
                self.known *= by;
            }
            Phase::Steady(_)
                if shared && (secs(now.saturating_sub(self.refused)) < QUIET || self.good < 50.0) =>
            {
                let faster = (secs(now.saturating_sub(self.refused)) / CREEP_DOUBLES).min(6.0).exp2();
                let by = (CREEP * (self.rate / SLOW).min(1.0) * used * faster).min(0.3).exp();
                self.rate *= by;
                self.known *= by;
            }
            Phase::Steady(_) => {
                self.phase = Phase::Probe;
                self.rate = self.known * 1.6;
            }
            Phase::Probe => {
                if self.excess > PROOF {
                    self.phase = Phase::Climb;
                }
            }
            Phase::Climb => self.rate *= (used / DOUBLING).min(1.0).exp2(),
        }
    }

    fn fall_back(&mut self, now: Duration, recent: Option<f64>, others: &mut f64) -> Effect {
        let own = matches!(self.phase, Phase::Probe | Phase::Climb);
        let again =
            now.saturating_sub(self.refused) < FALL.max(Duration::from_secs_f64((3.0 / self.rate).min(60.0)));
        let span = secs(now.saturating_sub(self.fall.0));
        if again && !own {
            self.refused = now;
            self.good = 0.0;
            if span < 0.25 {
                return Effect::Deepened;
            }
            let to = if *others > 0.5 {
                self.known * if self.fall.1 < 2.0 { 0.5 } else { 1.0 - self.yields() }
            } else {
                ((self.fall.1 + 0.5) / span).clamp(self.known * 0.5, self.known * 0.95)
            };
            self.settle(to, now);
            self.pay_back(now, 0.3, 0.5);
            return Effect::Deepened;
        }
        let age = secs(now.saturating_sub(self.refused)).max(0.05);
        let between = (self.good / age).min(self.rate);
        match self.phase {
            Phase::Probe => {
                // What went through before the probe is no more than the limit, but may be less.
                if self.good >= 8.0 {
                    self.settle(between.clamp(self.known * 0.97, self.known * 1.2), now);
                }
                let excess = self.excess.max(0.0) + 1.0;
                self.pay_back(now, excess / (0.3 * self.known), 0.7);
            }
            Phase::Climb => {
                // The rate has doubled within the time that the measure looks back.
                let found = recent.unwrap_or(between).clamp(self.rate * 0.5, self.rate);
                self.settle(found, now);
                self.pay_back(now, 0.5, 0.5);
            }
            Phase::Held(_) | Phase::Steady(_) => {
                let off = self.yields();
                self.known = self.known.min(self.rate / CARE) * (1.0 - off);
                self.pay_back(now, 0.3, 0.5);
            }
        }
        self.refused = now;
        self.good = 0.0;
        self.excess = 0.0;
        self.fall = (now, 0.0);
        Effect::Begun
    }

    fn yields(&self) -> f64 {
        let power = if self.rate < 1.0 { YIELD_POWER_SLOW } else { YIELD_POWER };
        (YIELD * self.rate.powf(-power)).min(0.5)
    }

    fn pay_back(&mut self, now: Duration, time: f64, part: f64) {
        self.since = now;
        self.moved = now;
        self.rate = self.known * part;
        self.phase = Phase::Held(now + Duration::from_secs_f64(time.min(30.0)));
    }

    fn settle(&mut self, known: f64, now: Duration) {
        if !(0.65..1.5).contains(&(known / self.known)) {
            self.stands = now;
        }
        self.known = known;
    }
}

fn secs(it: Duration) -> f64 {
    it.as_secs_f64()
}

#[cfg(test)]
#[path = "learner_tests.rs"]
mod tests;
