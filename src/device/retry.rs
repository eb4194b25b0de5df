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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cloud::Operation;

    fn error(kind: FailureKind, retry_after: Option<Duration>) -> CloudError {
        CloudError {
            operation: Operation::CreateThing,
            kind,
            code: None,
            status: None,
            message: String::new(),
            request_id: None,
            retry_after,
            resource_id: None,
            resource_arn: None,
        }
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
