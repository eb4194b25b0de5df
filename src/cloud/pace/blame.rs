//! Which limit was it that throttled a call: AWS does not say.
//!
//! A call counts against its operation's limit, sometimes against that of all certificates, and
//! perhaps against one of the whole account. An operation that is throttled alone has run into its
//! own limit. When most of the operations that are in use are throttled within a moment, each with a
//! quota of its own, it is the account; when it is nothing but certificates, it is theirs.

use std::collections::VecDeque;
use std::time::Duration;

use crate::cloud::Operation;

/// What happened within so long is seen together.
const MOMENT: Duration = Duration::from_millis(1500);

/// Calls that are remembered at most.
const REMEMBERED: usize = 256;

/// So many operations, at least, have to be throttled for the account to be suspected.
const ACCOUNT_OPERATIONS: usize = 3;

/// So many throttled calls in a row of one operation among others acquit the account.
const IN_A_ROW: usize = 5;

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

/// The calls of the last moment.
#[derive(Debug, Default)]
pub(super) struct Blame {
    /// When, which, and whether it was throttled.
    calls: VecDeque<(Duration, Operation, bool)>,
    /// The operation that was throttled last, and how often in a row.
    row: (Option<Operation>, usize),
}

impl Blame {
    /// A call was not throttled.
    pub(super) fn went_through(&mut self, operation: Operation, now: Duration) {
        self.note(operation, false, now);
    }

    /// A call was throttled. The limit that it ran into, and the operations whose own limits were
    /// taken for it before.
    pub(super) fn throttled(
        &mut self,
        operation: Operation,
        account_is_limited: bool,
        now: Duration,
    ) -> (Limit, Vec<Operation>) {
        self.note(operation, true, now);
        self.row = match self.row {
            (Some(last), count) if last == operation => (Some(last), count + 1),
            _ => (Some(operation), 1),
        };
        let used = distinct(self.calls.iter().map(|it| it.1));
        let struck = distinct(self.calls.iter().filter(|it| it.2).map(|it| it.1));
        if account_is_limited {
            let alone = self.row.1 >= IN_A_ROW && used.len() >= ACCOUNT_OPERATIONS;
            return (if alone { Limit::Operation } else { Limit::Account }, Vec::new());
        }
        if struck.len() >= ACCOUNT_OPERATIONS && struck.len() * 10 >= used.len() * 6 {
            return (Limit::Account, struck);
        }
        if struck.len() > 1 && struck.iter().all(|it| it.registers_certificate()) {
            return (Limit::Certificates, struck);
        }
        (Limit::Operation, Vec::new())
    }

    fn note(&mut self, operation: Operation, throttled: bool, now: Duration) {
        while self.calls.front().is_some_and(|it| it.0 + MOMENT < now) || self.calls.len() >= REMEMBERED {
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

    fn busy() -> Blame {
        let mut blame = Blame::default();
        let used = [
            Operation::CreateCredentialLocker,
            Operation::CreatePolicy,
            Operation::CreateThing,
            Operation::RegisterCertificateWithoutCa,
            Operation::AttachPolicy,
            Operation::AttachThingPrincipal,
        ];
        used.into_iter().for_each(|it| blame.went_through(it, AT));
        blame
    }

    #[test]
    fn one_operation_that_is_throttled_has_its_own_limit() {
        let mut blame = busy();
        for _ in 0..20 {
            assert_eq!(blame.throttled(Operation::CreatePolicy, false, AT), (Limit::Operation, vec![]));
        }
        // Three quotas of ten a second that other stations use too are still three quotas.
        assert_eq!(blame.throttled(Operation::CreateCredentialLocker, false, AT).0, Limit::Operation);
        let third = blame.throttled(Operation::RegisterCertificateWithoutCa, false, AT);
        assert_eq!(third.0, Limit::Operation);
    }

    #[test]
    fn most_operations_throttled_in_a_moment_are_the_account() {
        let mut blame = busy();
        blame.throttled(Operation::CreatePolicy, false, AT);
        blame.throttled(Operation::CreateThing, false, AT);
        blame.throttled(Operation::AttachPolicy, false, AT);
        let (limit, acquitted) = blame.throttled(Operation::AttachThingPrincipal, false, AT);
        assert_eq!((limit, acquitted.len()), (Limit::Account, 4));
        // From then on the account is asked first, until one operation is throttled again and again.
        let account = |blame: &mut Blame| blame.throttled(Operation::CreatePolicy, true, AT).0;
        for _ in 1..IN_A_ROW {
            assert_eq!(account(&mut blame), Limit::Account);
        }
        assert_eq!(account(&mut blame), Limit::Operation);
    }

    #[test]
    fn two_certificate_operations_share_theirs_and_moments_pass() {
        let mut blame = busy();
        blame.throttled(Operation::RegisterCertificate, false, AT);
        let later = blame.throttled(Operation::RegisterCertificateWithoutCa, false, AT + MOMENT * 2);
        assert_eq!(later.0, Limit::Operation);
        let again = blame.throttled(Operation::RegisterCertificate, false, AT + MOMENT * 2);
        assert_eq!(again.0, Limit::Certificates);
    }
}
