//! When a step that did not go through is tried again.
//!
//! There is one retry layer and this is it: the SDK's is off. What a failure means is said by
//! its kind (`cloud::FailureKind`); how long to wait is computed here, with full jitter, so that
//! devices which failed together do not come back together.

use std::time::Duration;

use crate::cloud::{CloudError, FailureKind};

/// A step of which nothing was found this many times in a row is made again from the start:
/// with the delays below that is about half a minute, where AWS's reads settle within seconds.
pub const NOT_VISIBLE_TRIES: u32 = 9;

/// How long to wait before the next try: a bounded exponential with full jitter.
///
/// `attempt` counts from 1; `random` is uniform in 0…1. What AWS asks for (`Retry-After`) is
/// never undercut.
#[must_use]
pub fn delay(error: &CloudError, attempt: u32, random: f64) -> Duration {
    let (base, cap) = match error.kind {
        // The limiter paces the calls; this only spreads those that were refused together.
        FailureKind::Throttled => (Duration::from_millis(200), Duration::from_secs(10)),
        FailureKind::Unknown => (Duration::from_millis(100), Duration::from_secs(10)),
        FailureKind::Unreachable => (Duration::from_millis(250), Duration::from_secs(10)),
        FailureKind::NotFound => (Duration::from_millis(250), Duration::from_secs(8)),
        // A person has to act first: often enough to go on soon after, seldom enough to be no load.
        FailureKind::Stop(_) => (Duration::from_secs(2), Duration::from_secs(30)),
        FailureKind::Exists | FailureKind::Conflict | FailureKind::Refused => {
            (Duration::from_secs(60), Duration::from_secs(3600))
        }
    };
    let doublings = attempt.saturating_sub(1).min(16);
    let ceiling = base.saturating_mul(1 << doublings).min(cap);
    ceiling.mul_f64(random.clamp(0.0, 1.0)).max(error.retry_after.unwrap_or(Duration::ZERO))
}

/// Retries in a row that a service is good for.
const BUDGET: f64 = 100.0;

/// What an answer earns: up to a third of all calls may be retries.
const EARNED: f64 = 0.5;

/// Retries a second that nothing has to earn.
const FREE_PER_SECOND: f64 = 2.0;

/// The longest that a retry waits for the budget: a storm is spread over it, and no further.
const SPREAD: Duration = Duration::from_secs(30);

/// How many retries of calls that were not answered a service is good for. While most calls go through
/// it is never felt; when many do not, their retries come at a steady pace and not as a storm.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct RetryBudget {
    /// Below zero: taken in advance.
    tokens: f64,
    at: Duration,
}

impl Default for RetryBudget {
    fn default() -> Self {
        Self { tokens: BUDGET, at: Duration::ZERO }
    }
}

impl RetryBudget {
    /// A call was answered.
    pub fn earn(&mut self) {
        self.tokens = (self.tokens + EARNED).min(BUDGET);
    }

    /// Takes one retry, at the monotonic time `now`; says how long it has to wait.
    pub fn spend(&mut self, now: Duration) -> Duration {
        let free = now.saturating_sub(self.at).as_secs_f64() * FREE_PER_SECOND;
        let least = -SPREAD.as_secs_f64() * FREE_PER_SECOND;
        self.tokens = ((self.tokens + free).min(BUDGET) - 1.0).max(least);
        self.at = self.at.max(now);
        Duration::from_secs_f64((-self.tokens / FREE_PER_SECOND).max(0.0))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cloud::Operation;
    use crate::cloud::testing::failure;

    #[test]
    fn a_storm_of_retries_is_spread_and_a_few_are_not() {
        let mut budget = RetryBudget::default();
        let waits: Vec<_> = (0..300).map(|_| budget.spend(Duration::from_secs(5))).collect();
        assert!(waits[..100].iter().all(Duration::is_zero));
        assert_eq!(waits[119], Duration::from_secs(10), "two a second");
        assert_eq!(waits[299], Duration::from_secs(30), "and not for ever");
        // What is answered pays for what is not, up to a third of all.
        let mut budget = RetryBudget::default();
        for _ in 0..10_000 {
            budget.earn();
            budget.earn();
            assert_eq!(budget.spend(Duration::from_secs(5)), Duration::ZERO);
        }
    }

    #[test]
    fn a_budget_comes_back_with_time() {
        let mut budget = RetryBudget::default();
        (0..200).for_each(|_| {
            budget.spend(Duration::ZERO);
        });
        assert_eq!(budget.spend(Duration::from_secs(31)), Duration::ZERO);
    }

    fn error(kind: FailureKind, retry_after: Option<Duration>) -> CloudError {
        CloudError { retry_after, ..failure(Operation::CreateThing, kind) }
    }

    #[test]
    fn a_delay_doubles_up_to_its_cap_and_never_overflows() {
        let throttled = error(FailureKind::Throttled, None);
        assert_eq!(delay(&throttled, 1, 1.0), Duration::from_millis(200));
        assert_eq!(delay(&throttled, 3, 1.0), Duration::from_millis(800));
        assert_eq!(delay(&throttled, u32::MAX, 1.0), Duration::from_secs(10));
        assert_eq!(delay(&throttled, 3, 0.0), Duration::ZERO);
    }

    #[test]
    fn what_aws_asks_for_is_not_undercut() {
        let asked = error(FailureKind::Throttled, Some(Duration::from_secs(4)));
        assert_eq!(delay(&asked, 1, 0.5), Duration::from_secs(4));
    }
}
