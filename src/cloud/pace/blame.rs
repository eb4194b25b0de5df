//! Which limit was it that throttled a call: AWS does not say.
//!
//! A call counts against its operation's limit, sometimes against that of all certificates, and
//! perhaps against one of the whole account. What is throttled tells which: a limit of the account strikes
//! operations as often as they are called; their own limits strike those that come nearest to their
//! ceilings, and hardly ever one that may be called ten times as often. Each throttled call is weighed
//! by how likely it would be for the one reason and for the other, and the weights add up. Nothing but
//! certificates throttled, and more than one operation of them, is their shared limit.

use std::collections::VecDeque;
use std::time::Duration;

use crate::cloud::Operation;

/// So many calls are seen together, if no more than this lies between them: what is refused for a moment
/// is compared with what was called in that moment, and not before.
const NEIGHBOURS: usize = 8;
const MOMENT: Duration = Duration::from_secs(10);

/// So many operations, at least, have to be throttled for the account to be suspected.
const ACCOUNT_OPERATIONS: usize = 2;

/// The weight that acquits the account, and that clears its operations; as logarithms.
const ENOUGH: f64 = 3.0;

/// More than this is no more certain.
const CERTAIN: f64 = 5.0;

/// Before anything is known, the account is suspected: it is the costlier error to miss.
const SUSPICION: f64 = 1.5;

/// How much of the weight a further throttled call leaves.
const KEPT: f64 = 0.95;

/// So many throttled calls in a row of one operation among others acquit the account.
const IN_A_ROW: usize = 6;

/// A limit that a call can run into.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Limit {
    /// That of its operation.
    Operation,
    /// That of all calls which register certificates.
    Certificates,
    /// That of the account.
    Account,
}

/// The calls of the last moment, and what they weigh.
#[derive(Debug)]
pub(super) struct Blame {
    /// By `Operation as usize`.
    ceilings: Vec<Option<f64>>,
    /// When, which, and whether it was throttled.
    calls: VecDeque<(Duration, Operation, bool)>,
    /// The operation that was throttled last, and how often in a row.
    row: (Option<Operation>, usize),
    /// Above zero it is rather the account, below zero rather its operations.
    weight: f64,
    /// Whether a call has gone through since the last that was throttled.
    passed: bool,
}

impl Blame {
    /// Other ceilings are configured.
    pub(super) fn set_ceilings(&mut self, ceilings: Vec<Option<f64>>) {
        self.ceilings = ceilings;
    }

    /// For operations that have these ceilings, calls a second, by `Operation as usize`.
    pub(super) fn new(ceilings: Vec<Option<f64>>) -> Self {
        Self { ceilings, calls: VecDeque::new(), row: (None, 0), weight: SUSPICION, passed: false }
    }

    /// A call was not throttled.
    pub(super) fn went_through(&mut self, operation: Operation, now: Duration) {
        self.passed = true;
        self.note(operation, false, now);
    }

    /// A call was throttled, of an operation that is `far` below its ceiling or not. The limit that it ran
    /// into, and the operations whose own limits were taken for it before.
    pub(super) fn throttled(
        &mut self,
        operation: Operation,
        far: bool,
        account_is_limited: bool,
        now: Duration,
    ) -> (Limit, Vec<Operation>) {
        self.note(operation, true, now);
        self.row = match self.row {
            (Some(last), count) if last == operation => (Some(last), count + 1),
            _ => (Some(operation), 1),
        };
        // While nothing goes through, what is throttled is what is called, and tells nothing.
        if self.passed {
            self.weight = (self.weight * KEPT + self.weigh(operation)).clamp(-CERTAIN, CERTAIN);
        }
        self.passed = false;
        if far {
            // Whatever was thought before: hardly its own limit.
            self.weight = self.weight.max(0.0);
        }
        let struck = distinct(self.calls.iter().filter(|it| it.2).map(|it| it.1));
        let others = self.calls.iter().filter(|it| it.1 != operation && !it.2).count();
        let alone = self.row.1 >= IN_A_ROW && others > 1;
        if account_is_limited {
            let limit = if alone || self.weight < -ENOUGH { Limit::Operation } else { Limit::Account };
            return (limit, Vec::new());
        }
        if struck.len() > 1 && struck.iter().all(|it| it.registers_certificate()) {
            return (Limit::Certificates, struck);
        }
        if struck.len() >= ACCOUNT_OPERATIONS && !alone && self.weight > -ENOUGH {
            return (Limit::Account, struck);
        }
        (Limit::Operation, Vec::new())
    }

    /// Whether it has become clear that operations run into limits of their own, which others use too.
    pub(super) fn is_sure_of_operations(&self) -> bool {
        self.weight < -ENOUGH
    }

    /// How much likelier it is that the account's limit strikes this operation than its own.
    fn weigh(&self, operation: Operation) -> f64 {
        let count = |it: Operation| self.calls.iter().filter(|call| call.1 == it).count() as f64;
        // How near an operation comes to its ceiling.
        let near = |it: Operation| self.ceilings[it as usize].map(|ceiling| count(it) / ceiling);
        let used = distinct(self.calls.iter().map(|it| it.1));
        let Some(nears) = used.iter().map(|it| near(*it)).collect::<Option<Vec<f64>>>() else { return 0.0 };
        let by_account = count(operation) / self.calls.len() as f64;
        let by_itself = near(operation).unwrap_or_default() / nears.iter().sum::<f64>();
        (by_account / by_itself.max(1e-3)).ln()
    }

    fn note(&mut self, operation: Operation, throttled: bool, now: Duration) {
        while self.calls.front().is_some_and(|it| it.0 + MOMENT < now) || self.calls.len() >= NEIGHBOURS {
            self.calls.pop_front();
        }
        self.calls.push_back((now, operation, throttled));
    }
}

fn distinct(operations: impl Iterator<Item = Operation>) -> Vec<Operation> {
    let mut all: Vec<Operation> = operations.collect();
    all.sort_unstable();
    all.dedup();
    all
}

#[cfg(test)]
mod tests {
    use super::*;

    const AT: Duration = Duration::from_secs(1);

    const USED: [Operation; 6] = [
        Operation::CreateCredentialLocker,
        Operation::CreatePolicy,
        Operation::CreateThing,
        Operation::RegisterCertificateWithoutCa,
        Operation::AttachPolicy,
        Operation::AttachThingPrincipal,
    ];

    fn fresh() -> Blame {
        Blame::new(Operation::ALL.iter().map(|it| Some(it.default_quota())).collect())
    }

    /// Devices' calls, of which every seventh of those in `struck` is throttled; what was said at last.
    fn said(blame: &mut Blame, struck: &[Operation], calls: usize, account: bool) -> Limit {
        let mut limit = Limit::Operation;
        for call in 0..calls {
            let operation = USED[call % USED.len()];
            let at = AT + Duration::from_millis(100) * call as u32;
            if call % 7 == 6 && struck.contains(&operation) {
                limit = blame.throttled(operation, false, account, at).0;
            } else {
                blame.went_through(operation, at);
            }
        }
        limit
    }

    #[test]
    fn one_operation_that_is_throttled_has_its_own_limit() {
        let mut blame = fresh();
        assert_eq!(said(&mut blame, &[Operation::CreatePolicy], 200, false), Limit::Operation);
    }

    #[test]
    fn those_that_come_near_their_ceilings_have_limits_of_their_own() {
        // Three quotas of ten a second that other stations use too are still three quotas.
        let near = [
            Operation::CreateCredentialLocker,
            Operation::CreatePolicy,
            Operation::RegisterCertificateWithoutCa,
        ];
        let mut blame = fresh();
        assert_eq!(said(&mut blame, &near, 400, false), Limit::Operation);
        assert!(blame.is_sure_of_operations());
        // An account that was suspected is acquitted by the same.
        let mut blame = fresh();
        assert_eq!(said(&mut blame, &near, 400, true), Limit::Operation);
    }

    #[test]
    fn what_strikes_all_alike_is_the_account() {
        let mut blame = fresh();
        assert_eq!(said(&mut blame, &USED, 400, true), Limit::Account);
        assert!(!blame.is_sure_of_operations());
        let mut blame = fresh();
        blame.went_through(Operation::CreateThing, AT);
        assert_eq!(blame.throttled(Operation::CreateThing, false, false, AT).0, Limit::Operation);
        let (limit, acquitted) = blame.throttled(Operation::AttachPolicy, false, false, AT);
        assert_eq!((limit, acquitted.len()), (Limit::Account, 2));
    }

    #[test]
    fn an_operation_far_below_its_ceiling_is_not_thought_to_be_its_own_limit() {
        let near = [Operation::CreateCredentialLocker, Operation::CreatePolicy];
        let mut blame = fresh();
        said(&mut blame, &near, 400, false);
        assert!(blame.is_sure_of_operations());
        let limit = blame.throttled(Operation::CreateThing, true, true, AT * 41).0;
        assert!(!blame.is_sure_of_operations());
        assert_eq!(limit, Limit::Account);
    }

    #[test]
    fn while_everything_is_refused_what_is_called_tells_nothing() {
        let mut blame = fresh();
        said(&mut blame, &USED, 100, true);
        for call in 0..60 {
            let limit = blame.throttled(USED[call % 2], false, true, AT * 20).0;
            assert_eq!(limit, Limit::Account, "{call}");
        }
    }

    #[test]
    fn two_certificate_operations_share_theirs_and_moments_pass() {
        let mut blame = fresh();
        blame.throttled(Operation::RegisterCertificate, false, false, AT);
        let later = blame.throttled(Operation::RegisterCertificateWithoutCa, false, false, AT + MOMENT * 2);
        assert_eq!(later.0, Limit::Operation);
        let again = blame.throttled(Operation::RegisterCertificate, false, false, AT + MOMENT * 2);
        assert_eq!(again.0, Limit::Certificates);
    }
}
