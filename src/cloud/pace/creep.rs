//! One's own part of a limit that others use too, none of whom can be asked.
//!
//! A throttled call says little about one's own part. But over time the same part of everybody's calls is
//! throttled, so that all come to the same rate if each lets its rate say which part it puts up with: the
//! greater the rate, the less. So rates creep up, and yield with each throttled call, and the two are such that a
//! rate stands still which is refused each 45 s at one call a second, each 90 s at two ([`between`]): one call in
//! 45 there, one in 180 here. Who has more than the others is refused more often than it puts up with, and sinks.
//!
//! How evenly it is shared follows from two figures. Chance decides who is refused, so that a part wanders by
//! `1 / (k * sqrt(refusals))` of itself over a time, where the rate that is put up with falls by the power `k` of the
//! part that is refused: with an increase by the same part of the rate `k` is 1, with the same increase of every rate 2, as
//! here between one and two calls a second. How much is yielded does not matter for it, and matters for what is left unused.

use std::time::Duration;

use super::learner::{Effect, FLOOR};

/// A throttled call within so long of the last one belongs to the same fall of the limit.
const FALL: Duration = Duration::from_millis(1000);

/// What a first refusal leaves of the rate that was measured.
const STEP_DOWN: f64 = 0.8;

/// What a refusal takes off, as a part of the rate; at more than [`YIELD_FROM`] calls a second less, by its root.
const YIELD: f64 = 0.3;
const YIELD_FROM: f64 = 1.5;

/// Seconds that are meant to lie between one refusal and the next at a rate of one call a second or less,
/// and at the fastest: between the two, as many as the rate is higher. See the head of this file.
const BETWEEN: f64 = 45.0;
const FASTEST: f64 = 2.0;

/// Where that would be more than one refusal in so many calls, it is one in so many.
const CALLS_BETWEEN: f64 = 8.0;

/// Times the usual between refusals without one, after which creeping becomes twice as fast with each
/// further; and after which others seem to have gone.
const QUIET: f64 = 2.0;
const GONE: f64 = 5.0;

/// So many calls without a refusal say that too, at rates at which they take less time.
const GONE_CALLS: f64 = 8000.0;

/// How far below its part a station stays after a refusal.
const CARE: f64 = 0.975;

/// Seconds in which a climbing rate doubles.
const DOUBLING: f64 = 0.45;

/// Calls without a refusal that let the ceiling count as reached.
const REACHED_CALLS: f64 = 60.0;

/// So often one's part is halved while nothing goes through, once it has been met: at more refusals in a row it is not
/// that again, but all are refused.
const HALVINGS: u32 = 3;

/// How often it is asked, at the slowest, whether anything goes through again, seconds: what a limit that is lifted
/// costs before that is seen.
const ASK_AGAIN: f64 = 2.0;

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
    /// How long nothing has been refused while calls were made, in times of what is usual between refusals.
    quiet: f64,
    /// When `rate` was last moved.
    moved: Duration,
    /// The present fall of the limit: its beginning, and what went through since.
    fall: (Duration, f64),
    /// One's own part at its beginning, and how often that was halved in it.
    halved: (f64, u32),
    /// Whether one's own part was ever met: something went through, and a later call was refused.
    met: bool,
}

#[derive(Debug, Clone, Copy, PartialEq)]
enum Phase {
    /// Slower than one's part, to pay back, until this.
    Held(Duration),
    /// At one's part, which grows.
    Steady,
    /// All is refused: that says nothing of one's part, which stays what it was, and asks for fewer calls.
    Blocked,
    /// Something goes through again: up to one's part.
    Back,
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
            quiet: 0.0,
            moved: now,
            fall: (now, 0.0),
            halved: (rate, 0),
            met: false,
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
            if self.phase == Phase::Blocked {
                // Where nothing had been met before, nobody is known to take a part.
                self.phase = if self.met { Phase::Back } else { Phase::Climb };
            }
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
        self.quiet += used / between(self.rate);
        let quiet = self.quiet;
        match self.phase {
            Phase::Held(until) if now < until => {}
            Phase::Held(_) => {
                self.rate = self.rate.max(self.known * CARE);
                self.phase = Phase::Steady;
            }
            Phase::Steady if quiet > GONE || self.good > GONE_CALLS => self.phase = Phase::Climb,
            Phase::Steady => {
                let faster = (quiet - QUIET).max(0.0).exp2();
                let by =
                    (-(1.0 - yields(self.rate)).ln() / between(self.rate) * used * faster).min(0.3).exp();
                self.rate *= by;
                self.known *= by;
            }
            Phase::Blocked => {}
            Phase::Back => {
                self.rate *= (used / DOUBLING).min(1.0).exp2();
                if self.rate >= self.known * CARE {
                    self.rate = self.known * CARE;
                    self.phase = Phase::Steady;
                }
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
        let rises = matches!(self.phase, Phase::Climb | Phase::Back);
        let again = now.saturating_sub(self.refused) < patience && !rises;
        let span = secs(now.saturating_sub(self.fall.0));
        self.good = 0.0;
        self.quiet = 0.0;
        self.refused = now;
        let nothing = self.fall.1 == 0.0;
        let halvings = if self.met { HALVINGS } else { 0 };
        if self.phase == Phase::Blocked || again && nothing && span >= 0.25 && self.halved.1 >= halvings {
            self.ask_less(now);
            return Effect::Deepened;
        }
        self.met |= !nothing;
        if again {
            if span >= 0.25 {
                let few = self.fall.1 < 2.0;
                self.known *= if few { 0.5 } else { 1.0 - yields(self.rate) };
                self.halved.1 += u32::from(few);
                self.pay_back(now);
            }
            return Effect::Deepened;
        }
        if self.phase == Phase::Climb {
            self.known = self.known.max(0.5 * self.rate);
        }
        self.known = self.known.min(self.rate / CARE) * (1.0 - yields(self.rate));
        self.pay_back(now);
        self.fall = (now, 0.0);
        self.halved = (self.known, 0);
        Effect::Begun
    }

    /// Nothing has gone through since the limit fell, so that nothing was learned of one's part.
    fn ask_less(&mut self, now: Duration) {
        self.known = self.halved.0;
        self.since = now;
        self.moved = now;
        // Fifty stations that are refused ask no faster than what they have of it.
        let slowest = (1.0 / ASK_AGAIN).min(0.5 * self.known).min(self.rate);
        self.rate = (self.rate * 0.35).max(slowest);
        self.phase = Phase::Blocked;
    }

    fn pay_back(&mut self, now: Duration) {
        self.since = now;
        self.moved = now;
        self.rate = self.known * 0.5;
        self.phase = Phase::Held(now + Duration::from_millis(300));
    }
}

/// Seconds that are meant to lie between two refusals at a rate, calls a second.
fn between(rate: f64) -> f64 {
    (BETWEEN * rate.clamp(1.0, FASTEST)).max(CALLS_BETWEEN / rate)
}

/// What a refusal takes off a rate, as a part of it.
fn yields(rate: f64) -> f64 {
    YIELD * (YIELD_FROM / rate).min(1.0).sqrt()
}

fn secs(it: Duration) -> f64 {
    it.as_secs_f64()
}
