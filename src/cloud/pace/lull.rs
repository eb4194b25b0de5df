//! The test of whether what refuses is a limit: the rate is lowered for a moment, and what is refused is counted.

use std::time::Duration;

/// What of the rate that goes through is called in a lull: less than any limit refuses at.
pub(super) const SLOWLY: f64 = 0.85;

/// Within so long of its beginning what is refused may be due to what was called before.
const SETTLES: Duration = Duration::from_millis(300);

/// Calls of a stage: if none of them was refused, if some were, and how many refused are enough.
const CALM: f64 = 60.0;
const SURE: f64 = 200.0;
const REFUSED: f64 = 4.0;

/// Refused calls of a first stage that ask for a second one, which is slower.
const SUSPECT: f64 = 2.0;

/// Seconds over which the rate that goes through is measured.
const MEASURED: f64 = 1.0;

/// Noise does not depend on the rate: what the second lull refuses is at least this part of what the first did.
const AS_MANY: f64 = 0.35;

/// What of the refusals of a stage may be chance.
const CHANCE: f64 = 1.0;

/// Refusals that the first stage lets expect of the second before none at all means that there is no noise.
const EXPECTED: f64 = 4.0;

/// More than this is no noise, but a limit that has fallen; how often a lull becomes slower for it.
const NOISY: f64 = 0.35;
const STAGES: u32 = 4;

/// Seconds of a lull at most, the same way.
const CALM_FOR: f64 = 2.5;
const SUSPICIOUS_FOR: f64 = 5.0;
const SURE_FOR: f64 = 20.0;

/// Fewer refused are chance.
const FEW: f64 = 3.0;

/// Noise strikes an operation far below its ceiling at least so often, beside the others.
const ALIKE: f64 = 0.25;

/// Refusals at the known limit that are suspicious, and how many times more after each lull for nothing.
const SUSPICIOUS: f64 = 2.5;
const MORE: f64 = 1.25;
const MOST: f64 = 6.0;

/// Calls after which there is a test without a suspicion, and how many times more after each.
const ANYWAY: f64 = 30.0;
const LATER: f64 = 4.0;
const LAST: f64 = 3000.0;

/// Calls a second above which such a test takes no longer than a second or two.
const QUICK: f64 = 20.0;

/// Calls that go through for a refusal to be forgotten.
const FORGIVEN: f64 = 150.0;

/// Calls, and what became of them.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
struct Count {
    calls: f64,
    refused: f64,
    /// The same of operations far below their ceilings.
    far: f64,
    far_refused: f64,
}

impl Count {
    fn share(&self) -> f64 {
        self.refused / self.calls.max(1.0)
    }

    fn and(&self, other: &Self) -> Self {
        Self {
            calls: self.calls + other.calls,
            refused: self.refused + other.refused,
            far: self.far + other.far,
            far_refused: self.far_refused + other.far_refused,
        }
    }

    /// Whether operations far below their ceilings have their part of the refusals: near them, operations
    /// have refusals of their own.
    fn is_alike(&self) -> bool {
        self.far_refused > 0.0 && self.far_refused * self.calls >= ALIKE * self.refused * self.far
    }
}

/// The suspicion that what refuses is no limit, and the test of it.
#[derive(Debug, Clone)]
pub(super) struct Lull {
    /// Refusals where none was expected, and how many of them are enough.
    suspicion: f64,
    enough: f64,
    /// Calls that went through since the last test, and those after which there is another.
    since: f64,
    next: f64,
    /// Of the present stage.
    count: Count,
    /// Of the stage before.
    before: Option<Count>,
    stages: u32,
    /// Whether any calls can tell.
    tells: bool,
}

/// What a lull has shown so far.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum Shown {
    /// Nothing yet.
    Nothing,
    /// Something is refused at this rate too: so much goes through, calls a second, and it has to be less.
    Slower(f64),
    /// There is no noise: of so many calls none was refused.
    Quiet(f64),
    /// Of so many calls so many are refused at any rate.
    Noise(f64, f64),
}

impl Default for Lull {
    fn default() -> Self {
        Self {
            suspicion: 0.0,
            enough: SUSPICIOUS,
            since: 0.0,
            next: ANYWAY,
            count: Count::default(),
            before: None,
            stages: 0,
            tells: false,
        }
    }
}

impl Lull {
    /// Where the limit was thought to be kept to, a call was refused.
    pub(super) fn suspect(&mut self) {
        self.suspicion += 1.0;
    }

    /// A call went through.
    pub(super) fn trust(&mut self) {
        self.suspicion = (self.suspicion - 1.0 / FORGIVEN).max(0.0);
        self.since += 1.0;
    }

    /// The limit has fallen: that explains what was refused.
    pub(super) fn clear(&mut self) {
        self.suspicion = 0.0;
    }

    /// Whether it is time for a test, at so many calls a second.
    pub(super) fn is_due(&self, rate: f64) -> bool {
        let anyway = self.since >= self.next && rate >= QUICK;
        self.tells && (self.suspicion >= self.enough || anyway)
    }

    /// From now on it counts.
    pub(super) fn begin(&mut self) {
        (self.count, self.before, self.stages) = (Count::default(), None, 0);
    }

    /// What became of a call, of an operation that is `far` below its ceiling or not; `since` the present
    /// stage began, if it was sent in one.
    pub(super) fn sample(&mut self, far: bool, since: Option<Duration>, refused: bool) {
        self.tells |= far;
        if since.is_none_or(|it| it < SETTLES) {
            return;
        }
        let (far, refused) = (f64::from(u8::from(far)), f64::from(u8::from(refused)));
        let one = Count { calls: 1.0, refused, far, far_refused: far * refused };
        self.count = self.count.and(&one);
    }

    /// What a stage shows after so many seconds.
    pub(super) fn shown(&mut self, seconds: f64) -> Shown {
        match self.before {
            None => self.first_shows(seconds),
            Some(before) => self.further_shows(&before, seconds),
        }
    }

    fn first_shows(&mut self, seconds: f64) -> Shown {
        if seconds < MEASURED {
            return Shown::Nothing;
        }
        if self.count.refused >= SUSPECT {
            return self.go_slower(seconds);
        }
        let patience = if self.suspicion >= self.enough { SUSPICIOUS_FOR } else { CALM_FOR };
        let over = if self.count.refused == 0.0 {
            self.count.calls >= CALM || seconds > patience
        } else {
            self.count.calls >= SURE || seconds > SURE_FOR
        };
        if over { self.end(None) } else { Shown::Nothing }
    }

    fn further_shows(&mut self, before: &Count, seconds: f64) -> Shown {
        let count = self.count;
        let over = if count.refused == 0.0 {
            count.calls >= (EXPECTED / before.share()).min(SURE) || seconds > SURE_FOR
        } else {
            let alike = count.and(before).is_alike();
            count.refused >= REFUSED && alike || count.calls >= SURE || seconds > SURE_FOR
        };
        if !over {
            return Shown::Nothing;
        }
        let most = (before.refused + CHANCE) / before.calls / AS_MANY;
        let least = (before.refused - CHANCE) / before.calls * AS_MANY;
        let fell = count.share() > NOISY.min(most);
        if fell && count.refused >= SUSPECT && self.stages < STAGES {
            return self.go_slower(seconds);
        }
        let all = count.and(before);
        let noise = count.refused >= FEW && !fell && count.share() >= least && all.is_alike();
        self.end(noise.then_some(all))
    }

    fn go_slower(&mut self, seconds: f64) -> Shown {
        let passed = (self.count.calls - self.count.refused) / (seconds - SETTLES.as_secs_f64()).max(0.1);
        self.before = Some(std::mem::take(&mut self.count));
        self.stages += 1;
        Shown::Slower(passed)
    }

    fn end(&mut self, noise: Option<Count>) -> Shown {
        self.suspicion = 0.0;
        self.since = 0.0;
        self.next = (self.next * LATER).min(LAST);
        if let Some(it) = noise {
            // It may have been a limit that fell just then: seen again soon.
            (self.enough, self.next) = (SUSPICIOUS, ANYWAY);
            return Shown::Noise(it.calls, it.refused);
        }
        self.enough = (self.enough * MORE).min(MOST);
        Shown::Quiet(if self.count.refused == 0.0 { self.count.calls } else { 0.0 })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Six calls a device at `rate` calls a second, of which `refuses` says at which rate which are
    /// refused: by the number of the call, and whether its operation is far below its ceiling.
    fn test(mut rate: f64, refuses: impl Fn(f64, usize, bool) -> bool) -> Shown {
        let mut lull = Lull::default();
        lull.begin();
        let (mut seconds, mut call) = (0.0, 0);
        loop {
            seconds += 1.0 / rate;
            call += 1;
            let far = call % 3 == 0;
            lull.sample(far, Some(Duration::from_secs_f64(seconds)), refuses(rate, call, far));
            match lull.shown(seconds) {
                Shown::Nothing => assert!(call < 10_000, "it never ends"),
                Shown::Slower(passed) => {
                    assert!(passed < 1.05 * rate, "{passed} of {rate}");
                    (rate, seconds) = (SLOWLY * passed.min(rate), 0.0);
                }
                shown => return shown,
            }
        }
    }

    #[test]
    fn nothing_refused_is_quiet_within_seconds() {
        assert_eq!(test(40.0, |_, _, _| false), Shown::Quiet(CALM));
        assert!(matches!(test(4.0, |_, _, _| false), Shown::Quiet(calls) if calls < 12.0));
    }

    #[test]
    fn what_is_refused_at_any_rate_is_noise() {
        for every in [5, 10, 20] {
            let Shown::Noise(calls, refused) = test(40.0, |_, call, _| call % every == 1) else {
                panic!("one of {every}");
            };
            let share = every as f64 * refused / calls;
            assert!((0.6..1.7).contains(&share), "{refused} of {calls}, one of {every}");
        }
    }

    #[test]
    fn what_only_a_higher_rate_has_refused_is_a_limit() {
        // A limit of 25 calls a second: of 40 it refuses three of eight.
        let shown = test(40.0, |rate, call, _| rate > 25.0 && call % 8 < 3);
        assert!(matches!(shown, Shown::Quiet(_)), "{shown:?}");
    }

    #[test]
    fn what_only_operations_near_their_ceilings_are_refused_is_no_noise() {
        let shown = test(40.0, |_, call, far| !far && call % 10 == 1);
        assert_eq!(shown, Shown::Quiet(0.0));
    }

    #[test]
    fn refusals_without_a_call_that_can_tell_lead_to_no_test() {
        let mut lull = Lull::default();
        (0..10).for_each(|_| lull.suspect());
        lull.sample(false, None, true);
        assert!(!lull.is_due(50.0));
        lull.sample(true, None, false);
        assert!(lull.is_due(50.0));
        lull.clear();
        assert!(!lull.is_due(50.0));
    }
}
