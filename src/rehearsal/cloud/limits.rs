//! AWS's throttling: a token bucket for each operation, one that the certificate operations
//! share, and an account-wide one that other users of the account may make narrower at any time.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::cloud::{Operation, Quotas};

/// Tokens that refill at a steady rate up to a capacity.
#[derive(Debug, Clone)]
struct Bucket {
    /// Tokens a second.
    rate: f64,
    capacity: f64,
    tokens: f64,
    filled_at: Duration,
}

impl Bucket {
    /// A full bucket. AWS does not document its bursts: `burst` says how many seconds' worth fit.
    fn full(rate: f64, burst: Duration, now: Duration) -> Self {
        // Less than one call's worth would never let a call through, which only a rate of 0 means.
        let capacity = if rate > 0.0 { (rate * burst.as_secs_f64()).max(1.0) } else { 0.0 };
        Self { rate, capacity, tokens: capacity, filled_at: now }
    }

    fn refill(&mut self, now: Duration) {
        let passed = now.saturating_sub(self.filled_at).as_secs_f64();
        self.tokens = passed.mul_add(self.rate, self.tokens).min(self.capacity);
        self.filled_at = now.max(self.filled_at);
    }

    fn has_token(&self) -> bool {
        // Sums of binary fractions fall short of the whole by a hair.
        self.tokens > 1.0 - 1e-9
    }
}

/// All buckets of the account.
#[derive(Debug)]
pub(crate) struct Limits {
    operations: BTreeMap<Operation, Bucket>,
    device_certificates: Option<Bucket>,
    account: Option<Bucket>,
    burst: Duration,
}

impl Limits {
    /// Full buckets for `quotas` at `now` (monotonic).
    pub(crate) fn new(quotas: &Quotas, burst: Duration, now: Duration) -> Self {
        let bucket = |rate: f64| Bucket::full(rate, burst, now);
        Self {
            operations: quotas.rates.iter().map(|(operation, rate)| (*operation, bucket(*rate))).collect(),
            device_certificates: quotas.device_certificates.map(bucket),
            account: None,
            burst,
        }
    }

    /// Sets or lifts the hidden limit over all operations together, calls a second.
    pub(crate) fn set_account(&mut self, rate: Option<f64>, now: Duration) {
        self.account = rate.map(|it| Bucket::full(it, self.burst, now));
    }

    /// Takes one call's tokens from every bucket that it counts against, or from none.
    pub(crate) fn admit(&mut self, operation: Operation, now: Duration) -> bool {
        let certificates = self.device_certificates.as_mut().filter(|_| operation.registers_certificate());
        let mut buckets: [Option<&mut Bucket>; 3] =
            [self.operations.get_mut(&operation), certificates, self.account.as_mut()];
        for bucket in buckets.iter_mut().flatten() {
            bucket.refill(now);
        }
        let admitted = buckets.iter().flatten().all(|it| it.has_token());
        if admitted {
            buckets.iter_mut().flatten().for_each(|it| it.tokens -= 1.0);
        }
        admitted
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    fn admitted(limits: &mut Limits, operation: Operation, calls: u32, now: Duration) -> u32 {
        (0..calls).map(|_| u32::from(limits.admit(operation, now))).sum()
    }

    #[test]
    fn a_bucket_gives_its_burst_and_then_its_rate() {
        let mut limits = Limits::new(&Quotas::aws_default(), SECOND, Duration::ZERO);
        assert_eq!(admitted(&mut limits, Operation::CreatePolicy, 50, Duration::ZERO), 10);
        assert_eq!(admitted(&mut limits, Operation::CreatePolicy, 50, SECOND / 2), 5);
        assert_eq!(admitted(&mut limits, Operation::CreatePolicy, 50, 100 * SECOND), 10);
    }

    #[test]
    fn a_steady_caller_at_the_quota_is_never_throttled_even_without_burst() {
        let mut limits = Limits::new(&Quotas::aws_default(), Duration::ZERO, Duration::ZERO);
        for call in 0..1000 {
            assert!(limits.admit(Operation::CreatePolicy, call * SECOND / 10), "{call}");
        }
    }

    #[test]
    fn certificate_calls_share_one_bucket() {
        let mut limits = Limits::new(&Quotas::aws_default(), SECOND, Duration::ZERO);
        let with_ca = admitted(&mut limits, Operation::RegisterCertificate, 50, Duration::ZERO);
        let without = admitted(&mut limits, Operation::RegisterCertificateWithoutCa, 50, Duration::ZERO);
        assert_eq!((with_ca, without), (10, 5));
    }

    #[test]
    fn the_hidden_limit_can_be_moved_and_lifted() {
        let mut limits = Limits::new(&Quotas::unlimited(), SECOND, Duration::ZERO);
        limits.set_account(Some(3.0), Duration::ZERO);
        let things = admitted(&mut limits, Operation::CreateThing, 2, Duration::ZERO);
        let policies = admitted(&mut limits, Operation::CreatePolicy, 9, Duration::ZERO);
        assert_eq!((things, policies), (2, 1));
        limits.set_account(Some(0.0), SECOND);
        assert!(!limits.admit(Operation::CreateThing, 100 * SECOND));
        limits.set_account(None, Duration::ZERO);
        assert_eq!(admitted(&mut limits, Operation::CreatePolicy, 999, Duration::ZERO), 999);
    }
}
