//! One's own part of a limit that others use too, none of whom can be asked.
//!
//! A throttled call says little about one's own part. So rates creep: up by the same part of the rate
//! in the same time as everybody's, down by a part with each throttled call. The greater rate is
//! throttled more often, so that rates come together.

use std::time::Duration;

use super::learner::{Effect, FLOOR};

/// A throttled call within so long of the last one belongs to the same fall of the limit.
const FALL: Duration = Duration::from_millis(1000);

/// What a first refusal leaves of the rate that was measured.
const STEP_DOWN: f64 = 0.8;

/// What a refusal takes off at one call a second; less at higher rates, more at lower ones, by the
/// power below. A rate that is refused seldom has to yield more each time, or it would be refused too
/// often; one that is refused often need not.
const YIELD: f64 = 0.35;
const YIELD_POWER: f64 = 0.1;
const YIELD_POWER_SLOW: f64 = 0.25;

/// What creeping adds in a second, as a part of the rate.
const CREEP: f64 = 0.004;

/// Seconds without a refusal after which creeping becomes twice as fast, and again.
const CREEP_DOUBLES: f64 = 60.0;

/// Below this rate, calls a second, creeping is slower: few calls must bear the refusals.
const SLOW: f64 = 0.47;

/// Seconds without a refusal, and calls, after which others seem to have gone.
const QUIET: f64 = 240.0;
const QUIET_CALLS: f64 = 50.0;

/// How far below its part a station stays after a refusal.
const CARE: f64 = 0.975;

/// Seconds in which a climbing rate doubles.
const DOUBLING: f64 = 0.45;

/// Calls without a refusal that let the ceiling count as reached.
const REACHED_CALLS: f64 = 60.0;

/// Nothing called for so long, and what was known is out of date.
const STALE: Duration = Duration::from_secs(60);

/// What is known of one's own part. Times are monotonic.
#[derive(Debug, Clone)]
pub(super) struct Creep {
    /// Calls a second now.
    rate: f64,
    /// One's own part.
    known: f64,
    phase: Phase,
    /// Calls sent before this say nothing new.
    since: Duration,
    /// The last refusal that counted.
    refused: Duration,
    /// What went through since then.
    good: f64,
    /// When `rate` was last moved.
    moved: Duration,
    /// The present fall of the limit: its beginning, and what went through since.
    fall: (Duration, f64),
}

#[derive(Debug, Clone, Copy, PartialEq)]
enum Phase {
    /// Slower than one's part, to pay back, until this.
    Held(Duration),
    /// At one's part, which grows.
    Steady,
    /// Others seem to have gone: up until that is refused.
    Climb,
}

impl Creep {
    /// A first call was refused, of those below `ceiling` of which `recent` went through lately.
    pub(super) fn new(ceiling: f64, recent: Option<f64>, now: Duration) -> Self {
        let rate = (recent.unwrap_or(ceiling * 0.25).min(ceiling) * STEP_DOWN).max(FLOOR.min(ceiling));
        Self {
            rate,
            known: rate,
            phase: Phase::Held(now + FALL / 2),
            since: now,
            refused: now,
            good: 0.0,
            moved: now,
            fall: (now, 0.0),
        }
    }

    /// Calls a second that may be made now.
    pub(super) fn rate(&self) -> f64 {
        self.rate
    }

    /// A call sent at `sent` went through at `now`. Whether the ceiling is reached.
    pub(super) fn went_through(&mut self, ceiling: f64, sent: Duration, now: Duration) -> bool {
        if sent >= self.since {
            self.good += 1.0;
            self.fall.1 += 1.0;
        }
        self.rise(now);
        if self.rate < ceiling {
            return false;
        }
        self.rate = ceiling;
        // At the ceiling and not refused.
        self.good >= REACHED_CALLS
    }

    /// Moves the rate up, as far as the time that was used has earned it.
    fn rise(&mut self, now: Duration) {
        let passed = now.saturating_sub(self.moved);
        self.moved = now;
        if passed > STALE {
            self.phase = Phase::Climb;
        }
        // Time in which nothing was called proves nothing.
        let used = secs(passed).min(3.0 / self.rate);
        let quiet = secs(now.saturating_sub(self.refused));
        match self.phase {
            Phase::Held(until) if now < until => {}
            Phase::Held(_) => {
                self.rate = self.rate.max(self.known * CARE);
                self.phase = Phase::Steady;
            }
            Phase::Steady if quiet > QUIET && self.good > QUIET_CALLS => self.phase = Phase::Climb,
            Phase::Steady => {
                let faster = (quiet / CREEP_DOUBLES).min(6.0).exp2();
                let by = (CREEP * (self.rate / SLOW).min(1.0) * used * faster).min(0.3).exp();
                self.rate *= by;
                self.known *= by;
            }
            Phase::Climb => self.rate *= (used / DOUBLING).min(1.0).exp2(),
        }
    }

    /// A call sent at `sent` was refused; it was said at `now`.
    pub(super) fn refused(&mut self, ceiling: f64, sent: Duration, now: Duration) -> Effect {
        if sent < self.since {
            return Effect::Late;
        }
        let effect = self.fall_back(now);
        let floor = FLOOR.min(ceiling);
        self.known = self.known.clamp(floor, ceiling);
        self.rate = self.rate.max(floor);
        effect
    }

    fn fall_back(&mut self, now: Duration) -> Effect {
        let patience = FALL.max(Duration::from_secs_f64((3.0 / self.rate).min(60.0)));
        let again = now.saturating_sub(self.refused) < patience && self.phase != Phase::Climb;
        let span = secs(now.saturating_sub(self.fall.0));
        self.good = 0.0;
        self.refused = now;
        if again {
            if span >= 0.25 {
                self.known *= if self.fall.1 < 2.0 { 0.5 } else { 1.0 - self.yields() };
                self.pay_back(now);
            }
            return Effect::Deepened;
        }
        if self.phase == Phase::Climb {
            self.known = self.known.max(0.5 * self.rate);
        }
        self.known = self.known.min(self.rate / CARE) * (1.0 - self.yields());
        self.pay_back(now);
        self.fall = (now, 0.0);
        Effect::Begun
    }

    fn yields(&self) -> f64 {
        let power = if self.rate < 1.0 { YIELD_POWER_SLOW } else { YIELD_POWER };
        (YIELD * self.rate.powf(-power)).min(0.5)
    }

    fn pay_back(&mut self, now: Duration) {
        self.since = now;
        self.moved = now;
        self.rate = self.known * 0.5;
        self.phase = Phase::Held(now + Duration::from_millis(300));
    }
}

fn secs(it: Duration) -> f64 {
    it.as_secs_f64()
}
