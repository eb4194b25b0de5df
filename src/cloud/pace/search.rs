//! A limit that nobody tells and nobody else uses up: found, kept to, and followed when it moves.
//!
//! ```text
//!            refused             one goes through          long enough
//!  (free) ───────────► Blocked ──────────────────► Measure ────────────► Cruise ◄───────────┐
//!                        ▲  ▲                                            │    ▲            │
//!                        │  │ refused twice in a row                     │    │ refused      │ passed:
//!                        │  └────────────────────────────────────────────┤    │              │ a little more
//!                        │                                               ▼    │              │
//!                        └───────────────── Climb ◄─────────────────── Probe ─┴──────────────┘
//!                             refused              passed: much more
//! ```
//!
//! From Cruise there is a way to Lull and back: what is refused at the known limit again and again may be no
//! limit's doing, and is looked for at a lower rate (`lull`).
//!
//! Limits are held in more than one way: a bucket of one call, a bucket of many, a second that slides,
//! seconds that stand. Three things are true of all of them, and nothing else is relied on:
//!
//! * Calls at even distances go through for ever at any rate up to the limit. So calls are sent at even
//!   distances, and a rate is right when it goes through for as long as any of them remembers.
//! * None that is used up remembers more than a second. So what is refused within a second of a fall says only that it
//!   is not over: the rate is not lowered for it, the limit is asked less and less often until one goes
//!   through, and what goes through in the second after that is the limit.
//! * A probe that goes through for more than a second's worth of calls has found a higher limit. One
//!   that is refused has not found a lower one.

use std::collections::VecDeque;
use std::time::Duration;

use super::learner::{Effect, FLOOR, REMEMBERED};
use super::lull::{Lull, SLOWLY, Shown};

/// The longest that a limit remembers, and a little more, seconds.
const MEMORY: f64 = 1.05;

/// Calls that are measured at least, where a second does not hold as many.
const MEASURED: f64 = 5.0;

/// How far below the known limit calls are made, between probes.
const CARE: f64 = 0.98;

/// How much more is tried to see whether the limit has risen.
const BIG: f64 = 1.0;

/// The least that is tried to find the limit exactly; what is nearer than that is near enough.
const FINE: f64 = 0.03;

/// What is tried after a limit was found to be more than something.
const ROUGH: f64 = 0.3;

/// Seconds between two probes, and calls, at least.
const PROBE_EVERY: f64 = 1.5;
const PROBE_CALLS: f64 = 10.0;

/// Calls between two probes of a limit that has stood for so many seconds.
const SETTLED_CALLS: f64 = 80.0;
const SETTLED: f64 = 30.0;

/// Seconds after which what is known of a limit counts as right, so that more going through means that
/// the limit has risen.
const STOOD: f64 = 15.0;

/// Calls a second above which that is tried in larger steps: at fewer each refusal weighs too much.
const STOOD_RATE: f64 = 10.0;

/// The part of the calls that may be refused though no limit is met, and in a lull.
const QUIET: f64 = 0.01;
const NOISY: f64 = 0.3;

/// The part that a limit refuses when it is met.
const REFUSES: f64 = 0.6;

/// So much evidence that the limit is met fails a probe, and is a fall where the limit was not expected:
/// one refusal and two; in a lull more of them.
const MET: f64 = 4.0;
const FALLEN: f64 = 6.0;

/// Calls that a probe sends before it waits for what becomes of them.
const SCOUTS: u32 = 3;

/// Seconds in which a climbing rate doubles.
const DOUBLING: f64 = 0.4;

/// How far a rate may be ahead of what has gone through lately.
const AHEAD: f64 = 3.0;

/// The longest between two calls that ask whether a limit is still blocked, seconds.
const ASK_AGAIN: f64 = 0.15;

/// A limit that was not felt for so long, and is far above what is called, is gone.
const CALM: f64 = 10.0;

/// Nothing refused for so long, and what was known is out of date.
const STALE: f64 = 60.0;

/// What is known of one limit. Times are monotonic.
#[derive(Debug, Clone)]
pub(super) struct Search {
    /// The limit, as far as it is known.
    known: f64,
    /// Calls a second now.
    rate: f64,
    phase: Phase,
    /// Calls sent before this say nothing new.
    since: Duration,
    /// No call before this.
    hold: Duration,
    /// The last refusal.
    refused: Duration,
    /// How many of the latest answers were refusals.
    in_a_row: u32,
    /// How much likelier a limit makes the latest answers than mere noise does; a logarithm.
    evidence: f64,
    /// How much more the next probe tries to find the limit exactly; none when it is known so.
    step: Option<f64>,
    /// The limit that has stood for a while, and since when.
    stands: (f64, Duration),
    /// When the calls were sent that went through lately.
    passed: VecDeque<Duration>,
    /// When the rate was last moved by climbing.
    moved: Duration,
    /// How long an answer takes, seconds.
    takes: f64,
    lull: Lull,
    /// Calls and refusals of a lull, where those are noise.
    noise_found: Option<(f64, f64)>,
    random: fastrand::Rng,
}

#[derive(Debug, Clone, Copy)]
enum Phase {
    /// All is refused: from when, the distance between calls that ask, seconds, the rate before, and what
    /// had gone through in the second before the last refusal.
    Blocked { from: Duration, apart: f64, before: f64, full: f64 },
    /// Calls are counted: from when, how many went through, how many were refused, the rate, and when the
    /// last was refused.
    Measure { from: Duration, good: f64, bad: f64, top: f64, last: Duration },
    /// At the known limit, until the next probe.
    Cruise { until: Duration },
    /// Above it: from when, by how much, how many were sent and went through.
    Probe { from: Duration, step: f64, sent: u32, good: u32 },
    /// The limit has risen: up until it is found.
    Climb { from: Duration },
    /// Slower than the known limit, to see what is still refused: from when.
    Lull { from: Duration },
}

impl Search {
    /// A call sent at `sent` was refused at `now`, of about `before` calls a second, after those `passed`.
    pub(super) fn new(
        before: f64,
        (sent, now): (Duration, Duration),
        passed: VecDeque<Duration>,
        random: fastrand::Rng,
    ) -> Self {
        let mut it = Self {
            known: before,
            rate: before,
            phase: Phase::Climb { from: now },
            since: now,
            hold: Duration::ZERO,
            refused: now,
            in_a_row: 1,
            evidence: 0.0,
            step: None,
            stands: (before, now),
            passed,
            moved: now,
            takes: secs(now.saturating_sub(sent)),
            lull: Lull::default(),
            noise_found: None,
            random,
        };
        it.fall(before, (sent, now));
        it
    }

    /// Calls a second that may be made now.
    pub(super) fn rate(&self) -> f64 {
        self.rate
    }

    /// No call is to be made before this.
    pub(super) fn hold(&self) -> Duration {
        self.hold
    }

    /// A call is sent.
    pub(super) fn sent(&mut self, now: Duration) {
        match &mut self.phase {
            Phase::Cruise { until } if now >= *until => {
                let step = self.step.unwrap_or(BIG);
                self.phase = Phase::Probe { from: now, step, sent: 1, good: 0 };
                self.rate = self.known * (1.0 + step);
            }
            Phase::Probe { sent, good, .. } => {
                *sent += 1;
                // Not farther than what is known of the first of them.
                if *sent >= SCOUTS && *good < SCOUTS {
                    self.rate = self.known * CARE;
                }
            }
            _ => {}
        }
    }

    /// A call sent at `sent` went through at `now`. Whether the limit is gone.
    pub(super) fn went_through(&mut self, sent: Duration, now: Duration) -> bool {
        self.takes += 0.1 * (secs(now.saturating_sub(sent)) - self.takes);
        if self.passed.len() >= REMEMBERED {
            self.passed.pop_front();
        }
        self.passed.push_back(sent);
        if sent < self.since {
            return false;
        }
        self.in_a_row = 0;
        self.lull.trust();
        self.evidence = (self.evidence + ((1.0 - REFUSES) / (1.0 - self.expected())).ln()).max(0.0);
        match self.phase {
            Phase::Blocked { from, before, full, .. } => self.unblocked(from, (before, full), sent),
            Phase::Measure { from, good, bad, top, last } => {
                self.phase = Phase::Measure { from, good: good + 1.0, bad, top, last };
                self.rate = top;
                self.measured(sent, now);
            }
            Phase::Cruise { .. } if secs(now.saturating_sub(self.refused)) > STALE => self.climb(now),
            Phase::Cruise { .. } if self.lull.is_due(self.known) => self.begin_lull(now),
            Phase::Cruise { .. } => {}
            Phase::Probe { from, step, sent: calls, good } if sent >= from => {
                self.phase = Phase::Probe { from, step, sent: calls, good: good + 1 };
                self.probed(sent, now);
            }
            Phase::Probe { .. } => {}
            Phase::Lull { from } => {
                self.lulled(from, sent, now);
            }
            Phase::Climb { from } => {
                let used = secs(now.saturating_sub(self.moved)).min(3.0 / self.rate);
                let before = self.rate;
                self.moved = now;
                self.rate *= (used / DOUBLING).min(1.0).exp2();
                // What is not asked for is not proved.
                self.rate = self.rate.min((AHEAD * self.recent(sent)).max(before));
                let calm = secs(now.saturating_sub(self.refused.max(from))) > CALM;
                return calm && self.rate > 0.9 * AHEAD * self.recent(sent);
            }
        }
        false
    }

    /// A call sent at `sent` was refused; it was said at `now`.
    pub(super) fn refused(&mut self, sent: Duration, now: Duration) -> Effect {
        self.takes += 0.1 * (secs(now.saturating_sub(sent)) - self.takes);
        if sent < self.since {
            return Effect::Late;
        }
        self.in_a_row += 1;
        self.evidence += (REFUSES / self.expected()).ln();
        let before = std::mem::replace(&mut self.refused, sent);
        match self.phase {
            Phase::Blocked { from, apart, before, .. } => {
                let apart = (apart * 1.6).min(ASK_AGAIN.max(1.5 / before));
                let full = self.within(sent, 1.0);
                self.phase = Phase::Blocked { from, apart, before, full };
                self.rate = 1.0 / apart;
                Effect::Deepened
            }
            Phase::Measure { from, good, bad, top, .. } => {
                let found = 1.1 * (good + 1.0) / secs(sent.saturating_sub(from)).max(0.1);
                let top = found.clamp(0.82 * top, top);
                self.phase = Phase::Measure { from, good, bad: bad + 1.0, top, last: sent };
                // Less and less often, until one goes through again.
                self.rate =
                    (top * 0.7_f64.powi(self.in_a_row.min(9) as i32)).max(1.0 / ASK_AGAIN.max(1.5 / top));
                self.measured(sent, now);
                Effect::Deepened
            }
            Phase::Cruise { until } => self.cruised_into_it(until, before, (sent, now)),
            Phase::Probe { from, .. } if sent < from => Effect::Late,
            Phase::Probe { .. } | Phase::Climb { .. } if self.evidence < MET => Effect::Noted,
            Phase::Probe { from, step, good, .. } => {
                self.probe_failed((from, step, good), (sent, now));
                Effect::Begun
            }
            Phase::Lull { .. } if self.evidence >= MET => {
                self.lull.clear();
                self.fall(self.rate, (sent, now));
                Effect::Begun
            }
            Phase::Lull { from } => {
                self.lulled(from, sent, now);
                Effect::Noted
            }
            Phase::Climb { .. } => {
                let before = self.recent(sent).clamp(0.5 * self.rate, self.rate);
                self.fall(before, (sent, now));
                Effect::Begun
            }
        }
    }

    /// Everything is refused from now on, or so it seems.
    fn fall(&mut self, before: f64, (sent, now): (Duration, Duration)) {
        let apart = (1.5 / before).max(self.takes / 3.0);
        self.phase = Phase::Blocked { from: sent, apart, before, full: before };
        self.evidence = 0.0;
        self.since = now;
        self.rate = 1.0 / apart;
    }

    /// The part that may be refused without a limit.
    fn expected(&self) -> f64 {
        if matches!(self.phase, Phase::Lull { .. }) { NOISY } else { QUIET }
    }

    fn told(&self, now: Duration, what: &str) {
        tracing::trace!(?now, known = self.known, rate = self.rate, step = self.step, what);
    }

    /// The first call after a fall has gone through: at about which rate to measure.
    fn unblocked(&mut self, from: Duration, (before, full): (f64, f64), sent: Duration) {
        let blocked = secs(sent.saturating_sub(from));
        let top = if blocked > 0.3 && blocked > 3.0 / before {
            // A second that was full: it holds more than what is in it now, and no more than it did.
            (0.5 * (self.within(sent, 1.0) + 1.0 + full)).min(0.95 * before)
        } else {
            (0.9 * before).min((2.0 / blocked.max(0.01)).max(0.5 * before))
        };
        let top = top.max(FLOOR);
        self.phase = Phase::Measure { from: sent, good: 0.0, bad: 0.0, top, last: sent };
        self.rate = top;
    }

    /// Whether enough was counted, and what it says.
    fn measured(&mut self, sent: Duration, now: Duration) {
        let Phase::Measure { from, good, bad, top, last } = self.phase else { return };
        let span = secs(sent.saturating_sub(from));
        if span < MEMORY || good + bad < MEASURED && span < 20.0 {
            return;
        }
        let found = (good + 0.5) / span;
        let step = if bad <= 1.5 * QUIET * (good + bad) {
            self.known = top;
            BIG
        } else if secs(sent.saturating_sub(last)) < 0.5 * span {
            self.known = found.min(top);
            2.0 * FINE
        } else {
            // It was refused while it asked too fast, and not any more: the limit is between the two.
            self.known = found.max(top);
            ROUGH
        };
        self.step = Some(step);
        self.cruise(now, 0.2);
        if self.lull.is_due(self.known) {
            self.begin_lull(now);
        }
    }

    /// What became of a call sent at `sent`, of an operation that is `far` below its ceiling or not.
    pub(super) fn sample(&mut self, far: bool, sent: Duration, refused: bool) {
        let since = match self.phase {
            Phase::Lull { from } => sent.checked_sub(from),
            _ => None,
        };
        self.lull.sample(far, since, refused);
    }

    /// Calls of a lull, and how many of them were refused whatever the rate, when that has just been found.
    pub(super) fn noise_found(&mut self) -> Option<(f64, f64)> {
        self.noise_found.take()
    }

    fn begin_lull(&mut self, now: Duration) {
        self.told(now, "lull");
        self.lull.begin();
        self.since = now;
        self.evidence = 0.0;
        self.in_a_row = 0;
        self.phase = Phase::Lull { from: now };
        // What is refused at the known rate may be a limit's doing; what goes through is within it.
        self.rate = (self.known.min(1.15 * self.recent(now)) * SLOWLY).max(FLOOR);
    }

    fn lulled(&mut self, from: Duration, sent: Duration, now: Duration) {
        match self.lull.shown(secs(now.saturating_sub(from))) {
            Shown::Nothing => {}
            Shown::Slower(passed) => {
                self.since = now;
                self.phase = Phase::Lull { from: now };
                // It may have fallen just now.
                let lately = 2.0 * self.within(sent, 0.5) + 1.0;
                self.rate = (passed.min(lately) * SLOWLY).clamp(FLOOR, self.rate);
            }
            Shown::Quiet(calls) => {
                self.noise_found = Some((calls, 0.0));
                self.cruise(now, 0.2);
            }
            Shown::Noise(calls, refused) => {
                self.noise_found = Some((calls, refused));
                self.climb(now);
            }
        }
    }

    fn cruise(&mut self, now: Duration, probe_after: f64) {
        self.told(now, "cruise");
        self.known = self.known.max(FLOOR);
        if !(0.7..1.4).contains(&(self.known / self.stands.0)) {
            self.stands = (self.known, now);
        }
        self.rate = self.known * CARE;
        self.phase = Phase::Cruise { until: now + duration(probe_after) };
    }

    /// Refused where it ought not to be. One call may be anything; two in a row are a fall.
    fn cruised_into_it(
        &mut self,
        until: Duration,
        before: Duration,
        (sent, now): (Duration, Duration),
    ) -> Effect {
        self.lull.suspect();
        if self.lull.is_due(self.known) {
            self.begin_lull(now);
            return Effect::Noted;
        }
        if self.evidence >= FALLEN {
            self.fall(self.rate, (sent, now));
            return Effect::Begun;
        }
        let span = secs(sent.saturating_sub(before));
        // Between two refusals no more goes through than the limit.
        let found = if span > MEMORY { self.within(sent, span) / span } else { self.known };
        self.known *= (found / self.known).clamp(0.85, 0.98);
        self.rate = self.known * CARE;
        self.step = self.step.map(|it| (it / 2.0).max(FINE)).filter(|it| *it > FINE);
        self.phase = Phase::Cruise { until: until.max(now + duration(self.wait(now))) };
        Effect::Deepened
    }

    fn probed(&mut self, sent: Duration, now: Duration) {
        let Phase::Probe { from, step, sent: calls, good } = self.phase else { return };
        let span = secs(sent.saturating_sub(from));
        if calls >= SCOUTS && good >= SCOUTS {
            self.rate = self.known * (1.0 + step);
        }
        let quiet = secs(from.saturating_sub(self.refused));
        let saved =
            if step <= 0.5 * BIG { 0.0 } else { ((1.0 - CARE) * quiet).min(1.0) * (1.0 + step) / step };
        // A second's worth at the rate that is tried; or more than a second's worth at the one known.
        let enough = ((1.0 + step).min(1.05 + 0.5 * (1.0 - step).max(0.0)) + saved) * self.known + 2.0;
        if f64::from(good) < enough {
            // Not asked for as fast as it was allowed: that proves nothing.
            if span > 2.0 * enough / self.known + self.takes {
                self.cruise(now, PROBE_EVERY);
            }
            return;
        }
        self.known *= 1.0 + step;
        if step > 0.5 * BIG {
            self.climb(now);
            return;
        }
        // Nothing was wrong with what was known, or it has been right for long: then the limit has risen.
        let stood = secs(now.saturating_sub(self.stands.1)) > STOOD && self.known > STOOD_RATE;
        let next = if self.step.is_none() { BIG } else { step * if stood || step > 0.1 { 5.0 } else { 2.0 } };
        self.step = self.step.map(|_| next);
        self.phase = Phase::Probe { from: now, step: next, sent: 0, good: 0 };
        self.rate = self.known * (1.0 + next);
    }

    fn climb(&mut self, now: Duration) {
        self.told(now, "climb");
        self.phase = Phase::Climb { from: now };
        self.rate = self.known.max(self.rate);
        self.step = None;
        self.moved = now;
    }

    /// A probe was refused: the limit is where it was. What it got beyond that is paid back.
    fn probe_failed(&mut self, (from, step, good): (Duration, f64, u32), (sent, now): (Duration, Duration)) {
        let span = secs(sent.saturating_sub(from));
        let beyond = (f64::from(good) - self.known * span).clamp(0.0, self.known);
        self.hold = sent + duration((1.0 + beyond) / self.known);
        self.since = now;
        self.in_a_row = 0;
        self.evidence = 0.0;
        self.step = match self.step {
            _ if step >= BIG => self.step.map(|it| it.min(0.2)),
            Some(it) if it > FINE => Some(it / 2.0),
            _ => None,
        };
        let wait = if self.step.is_some_and(|it| it > 0.1) { 0.3 } else { self.wait(now) };
        self.cruise(now, wait);
    }

    /// Seconds until the next probe: each of them costs a throttled call, if the limit has not risen.
    fn wait(&mut self, now: Duration) -> f64 {
        let stood = secs(now.saturating_sub(self.stands.1)) > SETTLED;
        let calls = if stood { SETTLED_CALLS } else { PROBE_CALLS };
        PROBE_EVERY.max(calls / self.known) * (0.85 + 0.3 * self.random.f64())
    }

    /// Calls that went through of those sent in the `seconds` before `at`.
    fn within(&self, at: Duration, seconds: f64) -> f64 {
        let from = at.saturating_sub(duration(seconds));
        self.passed.iter().filter(|it| **it > from && **it <= at).count() as f64
    }

    /// How fast calls have gone through lately.
    fn recent(&self, at: Duration) -> f64 {
        let most = self.within(at, 1.0);
        if most >= 8.0 {
            return self.within(at, 0.5).max(0.5 * most) * 2.0;
        }
        let oldest = self.passed.get(self.passed.len().saturating_sub(8));
        oldest
            .map_or(most, |it| self.passed.len().min(8) as f64 / secs(at.saturating_sub(*it)).max(0.1))
            .max(most)
    }
}

fn secs(it: Duration) -> f64 {
    it.as_secs_f64()
}

fn duration(seconds: f64) -> Duration {
    Duration::try_from_secs_f64(seconds).unwrap_or_default()
}
