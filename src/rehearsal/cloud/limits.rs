//! AWS's throttling: a limit for each operation, one that the certificate operations share, and an
//! account-wide one that other users of the account may make narrower at any time.
//!
//! AWS documents the rates and not how they are held, so that there is more than one [`Kind`] of limit.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use crate::cloud::{Operation, Quotas};

/// How a limit counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Kind {
    /// A token bucket: it refills at the rate, and holds [`Throttling::burst`] of it.
    #[default]
    Bucket,
    /// No second holds more calls than the rate says, wherever it begins.
    Window,
    /// The same for the seconds that begin with the simulation, one after the other.
    FixedWindow,
}

/// How the simulated account holds its quotas, beside what they are.
#[derive(Debug, Clone, PartialEq)]
pub struct Throttling {
    /// How each limit counts.
    pub kind: Kind,
    /// How long a bucket takes to fill, so that a rested one gives so many seconds' worth at once; at
    /// least one call. AWS does not document its bursts.
    pub burst: Duration,
    /// A limit over all calls together, calls a second, that the station is not told.
    pub account: Option<f64>,
    /// What becomes of it, and how long after the beginning; in order.
    pub steps: Vec<(Duration, Option<f64>)>,
}

impl Default for Throttling {
    /// Buckets of a second's worth, and nothing that the station is not told.
    fn default() -> Self {
        Self { kind: Kind::default(), burst: WINDOW, account: None, steps: Vec::new() }
    }
}

/// The length of a window.
const WINDOW: Duration = Duration::from_secs(1);

/// Seconds, for a rate below all sense.
const LONGEST_WINDOW: f64 = 1e7;

/// Calls that a window remembers at most, for a rate beyond all sense.
const REMEMBERED: usize = 1 << 16;

/// One limit.
#[derive(Debug, Clone)]
struct Gate {
    /// Calls a second.
    rate: f64,
    count: Count,
}

#[derive(Debug, Clone)]
enum Count {
    /// The tokens left, and when they were counted.
    Tokens { capacity: f64, left: f64, at: Duration },
    /// When the calls of the last second came.
    Sliding(VecDeque<Duration>),
    /// Calls in the present second, and when it began.
    Fixed { calls: usize, from: Duration },
}

impl Gate {
    /// A gate that has rested.
    fn new(rate: f64, shape: (Kind, Duration), now: Duration) -> Self {
        let count = match shape.0 {
            Kind::Bucket => {
                let capacity = capacity(rate, shape.1);
                Count::Tokens { capacity, left: capacity, at: now }
            }
            Kind::Window => Count::Sliding(VecDeque::new()),
            Kind::FixedWindow => Count::Fixed { calls: 0, from: now },
        };
        Self { rate, count }
    }

    /// From now on another rate: what was counted stays counted.
    fn change(&mut self, rate: f64, burst: Duration, now: Duration) {
        self.pass(now);
        self.rate = rate;
        if let Count::Tokens { capacity: most, left, .. } = &mut self.count {
            *most = capacity(rate, burst);
            *left = left.min(*most);
        }
    }

    /// Brings the count up to `now`.
    fn pass(&mut self, now: Duration) {
        match &mut self.count {
            Count::Tokens { capacity, left, at } => {
                let passed = now.saturating_sub(*at).as_secs_f64();
                *left = passed.mul_add(self.rate, *left).min(*capacity);
                *at = now.max(*at);
            }
            Count::Sliding(calls) => {
                let window = window(self.rate);
                while calls.front().is_some_and(|it| *it + window <= now) || calls.len() >= REMEMBERED {
                    calls.pop_front();
                }
            }
            Count::Fixed { calls, from } => {
                let window = window(self.rate);
                let windows = now.saturating_sub(*from).as_nanos() / window.as_nanos();
                if windows > 0 {
                    *calls = 0;
                    *from += window.saturating_mul(u32::try_from(windows).unwrap_or(u32::MAX));
                }
            }
        }
    }

    fn is_open(&self) -> bool {
        // Sums of binary fractions fall short of the whole by a hair.
        let whole = if self.rate > 0.0 { self.rate.max(1.0) } else { 0.0 } + 1e-9;
        match &self.count {
            Count::Tokens { left, .. } => *left > 1.0 - 1e-9,
            Count::Sliding(calls) => (calls.len() + 1) as f64 <= whole,
            Count::Fixed { calls, .. } => (calls + 1) as f64 <= whole,
        }
    }

    fn charge(&mut self, now: Duration) {
        match &mut self.count {
            Count::Tokens { left, .. } => *left -= 1.0,
            Count::Sliding(calls) => calls.push_back(now),
            Count::Fixed { calls, .. } => *calls += 1,
        }
    }
}

/// How long a window is: a second, or at a lower rate as long as one call takes, so that one gets through.
fn window(rate: f64) -> Duration {
    if rate > 0.0 && rate < 1.0 { Duration::from_secs_f64((1.0 / rate).min(LONGEST_WINDOW)) } else { WINDOW }
}

/// Less than one call's worth would never let a call through, which only a rate of 0 means.
fn capacity(rate: f64, burst: Duration) -> f64 {
    if rate > 0.0 { (rate * burst.as_secs_f64()).max(1.0) } else { 0.0 }
}

/// All limits of the account.
#[derive(Debug)]
pub(crate) struct Limits {
    operations: BTreeMap<Operation, Gate>,
    device_certificates: Option<Gate>,
    account: Option<Gate>,
    /// What the account's limit becomes, and when.
    steps: VecDeque<(Duration, Option<f64>)>,
    shape: (Kind, Duration),
}

impl Limits {
    /// Rested limits for `quotas` at `now` (monotonic), from which on the steps count.
    pub(crate) fn new(quotas: &Quotas, throttling: &Throttling, now: Duration) -> Self {
        let shape = (throttling.kind, throttling.burst);
        let gate = |rate: f64| Gate::new(rate, shape, now);
        let mut limits = Self {
            operations: quotas.rates.iter().map(|(operation, rate)| (*operation, gate(*rate))).collect(),
            device_certificates: quotas.device_certificates.map(gate),
            account: None,
            steps: VecDeque::new(),
            shape,
        };
        limits.limit_account(throttling, now);
        limits
    }

    /// Begins anew, at `now`, with the hidden limit and its steps.
    pub(crate) fn limit_account(&mut self, throttling: &Throttling, now: Duration) {
        self.account = throttling.account.map(|it| Gate::new(it, self.shape, now));
        self.steps = throttling.steps.iter().map(|(after, rate)| (now + *after, *rate)).collect();
    }

    /// Sets or lifts the hidden limit over all operations together, calls a second.
    pub(crate) fn set_account(&mut self, rate: Option<f64>, now: Duration) {
        match (rate, &mut self.account) {
            (Some(rate), Some(gate)) => gate.change(rate, self.shape.1, now),
            (rate, account) => *account = rate.map(|it| Gate::new(it, self.shape, now)),
        }
    }

    /// Takes one call's permits from every limit that it counts against, or from none.
    pub(crate) fn admit(&mut self, operation: Operation, now: Duration) -> bool {
        while let Some((at, rate)) = self.steps.front().copied().filter(|it| it.0 <= now) {
            self.steps.pop_front();
            self.set_account(rate, at);
        }
        let certificates = self.device_certificates.as_mut().filter(|_| operation.registers_certificate());
        let mut gates: [Option<&mut Gate>; 3] =
            [self.operations.get_mut(&operation), certificates, self.account.as_mut()];
        for gate in gates.iter_mut().flatten() {
            gate.pass(now);
        }
        let admitted = gates.iter().flatten().all(|it| it.is_open());
        if admitted {
            gates.iter_mut().flatten().for_each(|it| it.charge(now));
        }
        admitted
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    fn limits(quotas: &Quotas, kind: Kind, burst: Duration) -> Limits {
        Limits::new(quotas, &Throttling { kind, burst, ..Throttling::default() }, Duration::ZERO)
    }

    fn admitted(limits: &mut Limits, operation: Operation, calls: u32, now: Duration) -> u32 {
        (0..calls).map(|_| u32::from(limits.admit(operation, now))).sum()
    }

    #[test]
    fn a_bucket_gives_its_burst_and_then_its_rate() {
        let mut limits = limits(&Quotas::aws_default(), Kind::Bucket, SECOND);
        assert_eq!(admitted(&mut limits, Operation::CreatePolicy, 50, Duration::ZERO), 10);
        assert_eq!(admitted(&mut limits, Operation::CreatePolicy, 50, SECOND / 2), 5);
        assert_eq!(admitted(&mut limits, Operation::CreatePolicy, 50, 100 * SECOND), 10);
    }

    #[test]
    fn a_window_slides_or_stands() {
        let mut limits = limits(&Quotas::aws_default(), Kind::Window, SECOND);
        assert_eq!(admitted(&mut limits, Operation::CreatePolicy, 6, SECOND / 2), 6);
        assert_eq!(admitted(&mut limits, Operation::CreatePolicy, 50, SECOND), 4);
        assert_eq!(admitted(&mut limits, Operation::CreatePolicy, 50, SECOND * 3 / 2), 6);
        let mut limits = self::limits(&Quotas::aws_default(), Kind::FixedWindow, SECOND);
        assert_eq!(admitted(&mut limits, Operation::CreatePolicy, 50, SECOND * 9 / 10), 10);
        assert_eq!(admitted(&mut limits, Operation::CreatePolicy, 50, SECOND), 10);
    }

    #[test]
    fn a_steady_caller_at_the_quota_is_never_throttled_even_without_burst() {
        for kind in [Kind::Bucket, Kind::Window, Kind::FixedWindow] {
            let mut limits = limits(&Quotas::aws_default(), kind, Duration::ZERO);
            for call in 0..1000 {
                assert!(limits.admit(Operation::CreatePolicy, call * SECOND / 10), "{call}");
            }
        }
    }

    #[test]
    fn less_than_a_call_a_second_lets_each_in_its_time() {
        let quotas = |rate| {
            let mut quotas = Quotas::aws_default();
            quotas.rates.insert(Operation::CreatePolicy, rate);
            quotas
        };
        for kind in [Kind::Bucket, Kind::Window, Kind::FixedWindow] {
            let mut limits = limits(&quotas(0.5), kind, SECOND);
            let seconds: u32 =
                (0..20).map(|at| admitted(&mut limits, Operation::CreatePolicy, 3, at * SECOND)).sum();
            assert_eq!(seconds, 10, "{kind:?}");
            let mut limits = self::limits(&quotas(1e-12), kind, SECOND);
            assert_eq!(admitted(&mut limits, Operation::CreatePolicy, 3, SECOND), 1, "{kind:?}");
        }
    }

    #[test]
    fn certificate_calls_share_one_bucket() {
        let mut limits = limits(&Quotas::aws_default(), Kind::Bucket, SECOND);
        let with_ca = admitted(&mut limits, Operation::RegisterCertificate, 50, Duration::ZERO);
        let without = admitted(&mut limits, Operation::RegisterCertificateWithoutCa, 50, Duration::ZERO);
        assert_eq!((with_ca, without), (10, 5));
    }

    #[test]
    fn the_hidden_limit_can_be_moved_and_lifted() {
        let mut limits = limits(&Quotas::unlimited(), Kind::Bucket, SECOND);
        limits.set_account(Some(3.0), Duration::ZERO);
        let things = admitted(&mut limits, Operation::CreateThing, 2, Duration::ZERO);
        let policies = admitted(&mut limits, Operation::CreatePolicy, 9, Duration::ZERO);
        assert_eq!((things, policies), (2, 1));
        limits.set_account(Some(0.0), SECOND);
        assert!(!limits.admit(Operation::CreateThing, 100 * SECOND));
        limits.set_account(None, Duration::ZERO);
        assert_eq!(admitted(&mut limits, Operation::CreatePolicy, 999, Duration::ZERO), 999);
    }

    #[test]
    fn steps_come_by_themselves_and_are_no_new_burst() {
        let throttling = Throttling {
            account: Some(50.0),
            steps: vec![(20 * SECOND, Some(15.0)), (30 * SECOND, None)],
            ..Throttling::default()
        };
        let mut limits = Limits::new(&Quotas::unlimited(), &throttling, 7 * SECOND);
        assert_eq!(admitted(&mut limits, Operation::CreateThing, 99, 26 * SECOND), 50);
        // Fifty more by the step, of which the smaller bucket holds fifteen; and as many a second later.
        assert_eq!(admitted(&mut limits, Operation::CreateThing, 99, 27 * SECOND), 15);
        assert_eq!(admitted(&mut limits, Operation::CreateThing, 99, 28 * SECOND), 15);
        assert_eq!(admitted(&mut limits, Operation::CreateThing, 99, 37 * SECOND), 99);
    }
}
