//! What keeps calls back that cannot go through now, and tries with one of them whether they can again.
//!
//! | opened by | holds back | until |
//! |---|---|---|
//! | credentials or clock refused, once | every call | AWS answers one of them otherwise |
//! | another account than the configured one, once | every call | one succeeds whose answer is the configured one's |
//! | no permission, a quota of the account used up, or a CA that the account does not have or has asleep, once | calls of that operation | one of them is accepted |
//! | [`OUTAGE_AFTER`] calls to a service in a row without AWS's answer | calls to that service | AWS answers one of them |
//!
//! While it is open the calls wait in the order in which they came. When its pause is over one of them
//! goes out as a probe, a real call and no ping: only that shows that real calls go through. Its outcome
//! closes the breaker or doubles the pause. So an outage costs AWS and the network one call in a pause,
//! however many devices wait, and ends for all of them at once.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::cloud::{CloudError, FailureKind, Operation, Service, StopCause};

/// Calls to one service in a row that AWS has not answered, after which it is taken to be away. Single
/// losses on a bad network do not come in such rows.
pub(super) const OUTAGE_AFTER: u32 = 5;

/// The first and the longest pause of an outage.
const OUTAGE_PAUSE: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(10));

/// A probe of which nothing was heard for so long is lost: its device has been taken back meanwhile. Far
/// longer than any call may take.
const PROBE_LOST: Duration = Duration::from_secs(180);

/// The first and the longest pause where a person has to act: often enough to go on soon after.
const STOP_PAUSE: (Duration, Duration) = (Duration::from_secs(2), Duration::from_secs(30));

/// Characters that a sentence repeats of AWS's words at most.
const MAX_WORDS: usize = 300;

/// What is held back together.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Scope {
    All,
    Service(Service),
    Operation(Operation),
}

/// An open breaker.
#[derive(Debug)]
struct Open {
    /// Its newest failure.
    kind: FailureKind,
    /// A sentence for the operator.
    sentence: String,
    /// When the next probe may go out, on the monotonic clock; while one is out, when it is given up.
    until: Duration,
    /// Probes that have failed.
    failed: u32,
    /// The operation of the probe that is out.
    probe: Option<Operation>,
    /// That of the newest probe, out or not.
    last: Option<Operation>,
}

/// What an answer has changed.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Change {
    /// The line is stopped now and was not before: the sentence.
    pub(super) stopped: Option<String>,
    /// The line goes on and did not before.
    pub(super) resumed: bool,
    /// Calls that were held back may go out.
    pub(super) released: bool,
}

/// All breakers.
#[derive(Debug, Default)]
pub(super) struct Breakers {
    open: BTreeMap<Scope, Open>,
    /// Calls in a row that AWS has not answered.
    unanswered: BTreeMap<Service, u32>,
}

impl Breakers {
    /// Whether a call of `operation` may go out at the monotonic time `now`; if it is a probe, it is one
    /// from now on.
    pub(super) fn admit(&mut self, operation: Operation, now: Duration) -> bool {
        let scopes = scopes(operation);
        let open = || scopes.iter().filter_map(|it| self.open.get(it));
        if open().any(|it| it.until > now) {
            return false;
        }
        for scope in &scopes {
            if let Some(it) = self.open.get_mut(scope) {
                (it.probe, it.last) = (Some(operation), Some(operation));
                it.until = now + PROBE_LOST;
            }
        }
        true
    }

    /// When a call of `operation` may go out next, as a probe or not; in the past if it may now.
    pub(super) fn earliest(&self, operation: Operation) -> Duration {
        let open = scopes(operation).into_iter().filter_map(|it| self.open.get(&it));
        open.map(|it| it.until).max().unwrap_or_default()
    }

    /// The operation that tried last for all. Who is to be next in turn is after it: of one that is refused whatever
    /// happens, for want of a permission of its own, nothing is learned about the others.
    pub(super) fn tried_last(&self) -> Option<Operation> {
        self.open.get(&Scope::All)?.last
    }

    /// Lets a call of `operation` go out as a probe at once, whatever its pause: a person says so.
    pub(super) fn hurry(&mut self, operation: Operation, now: Duration) {
        for scope in scopes(operation) {
            if let Some(it) = self.open.get_mut(&scope).filter(|it| it.probe.is_none()) {
                it.until = it.until.min(now);
            }
        }
    }

    /// Takes in how a call has ended. `random` is uniform in 0…1.
    pub(super) fn ended(
        &mut self,
        operation: Operation,
        error: Option<&CloudError>,
        now: Duration,
        random: f64,
    ) -> Change {
        let was_stopped = self.is_stopped();
        let before = self.open.len();
        let probed: Vec<Scope> =
            scopes(operation).into_iter().filter(|it| self.is_probe(*it, operation)).collect();
        match error {
            Some(error) if is_unanswered(error.kind) => self.unanswered(operation, error, now, random),
            Some(error) => self.answered(operation, Some(error), now, random),
            None => self.answered(operation, None, now, random),
        }
        // A probe that has said nothing about its breaker leaves it open, for a pause more.
        for scope in probed {
            if let Some(it) = self.open.get_mut(&scope).filter(|it| it.probe == Some(operation)) {
                it.again(it.kind, now, random);
            }
        }
        let stopped = if was_stopped { None } else { self.stops().next().map(str::to_owned) };
        Change { stopped, resumed: was_stopped && !self.is_stopped(), released: self.open.len() < before }
    }

    /// Why nothing goes through until a person has acted, a sentence each.
    pub(super) fn stops(&self) -> impl Iterator<Item = &str> {
        self.open.values().filter(|it| is_stop(it.kind)).map(|it| it.sentence.as_str())
    }

    /// What is away, a sentence each.
    pub(super) fn outages(&self) -> impl Iterator<Item = &str> {
        self.open.values().filter(|it| !is_stop(it.kind)).map(|it| it.sentence.as_str())
    }

    /// What holds calls of `operation` back: the failure and its sentence.
    pub(super) fn cause(&self, operation: Operation) -> Option<(FailureKind, String)> {
        scopes(operation).iter().find_map(|it| self.open.get(it)).map(|it| (it.kind, it.sentence.clone()))
    }

    fn is_stopped(&self) -> bool {
        self.stops().next().is_some()
    }

    fn is_probe(&self, scope: Scope, operation: Operation) -> bool {
        self.open.get(&scope).is_some_and(|it| it.probe == Some(operation))
    }

    /// AWS has not answered.
    fn unanswered(&mut self, operation: Operation, error: &CloudError, now: Duration, random: f64) {
        let service = operation.service();
        let count = self.unanswered.entry(service).or_default();
        *count = count.saturating_add(1);
        if *count >= OUTAGE_AFTER {
            self.trip(Scope::Service(service), operation, error, (error.to_string(), now, random));
        }
    }

    /// AWS itself has answered, whatever it was.
    fn answered(&mut self, operation: Operation, error: Option<&CloudError>, now: Duration, random: f64) {
        let service = operation.service();
        self.unanswered.remove(&service);
        self.open.remove(&Scope::Service(service));
        let stop = error.and_then(|error| match error.kind {
            FailureKind::Stop(cause) => Some((error, cause)),
            _ => None,
        });
        if let Some((error, cause)) = stop {
            let concerns_all =
                matches!(cause, StopCause::Credentials | StopCause::Clock | StopCause::Account);
            if !concerns_all {
                self.let_in(operation, false);
            }
            let scope = if concerns_all { Scope::All } else { Scope::Operation(operation) };
            self.trip(scope, operation, error, (stop_sentence(error, cause), now, random));
            return;
        }
        self.let_in(operation, error.is_none());
        // Being throttled says nothing about a permission or a quota.
        if error.is_none_or(|it| it.kind != FailureKind::Throttled) {
            self.open.remove(&Scope::Operation(operation));
        }
    }

    /// AWS has let the station in. Whose account that is shows only a success that no other account could give: what is
    /// there already, or not allowed, is so in any.
    fn let_in(&mut self, operation: Operation, succeeded: bool) {
        let whose = self.open.get(&Scope::All).map(|it| it.kind);
        if whose != Some(FailureKind::Stop(StopCause::Account)) || (succeeded && shows_account(operation)) {
            self.open.remove(&Scope::All);
        }
    }

    /// Opens a breaker, or lets an open one wait longer if this was its probe.
    fn trip(
        &mut self,
        scope: Scope,
        operation: Operation,
        error: &CloudError,
        (sentence, now, random): (String, Duration, f64),
    ) {
        match self.open.get_mut(&scope) {
            // What was under way when it opened says nothing new.
            Some(it) if it.probe != Some(operation) => {}
            Some(it) => {
                it.sentence = sentence;
                it.again(error.kind, now, random);
            }
            None => {
                let until = now + pause(error.kind, 0, random);
                let kind = error.kind;
                self.open.insert(scope, Open { kind, sentence, until, failed: 0, probe: None, last: None });
            }
        }
    }
}

impl Open {
    fn again(&mut self, kind: FailureKind, now: Duration, random: f64) {
        self.kind = kind;
        self.probe = None;
        self.failed = self.failed.saturating_add(1);
        self.until = now + pause(kind, self.failed, random);
    }
}

/// Whether a success of it is of the configured account for certain: its answer has an ARN, which is held against the
/// configuration, or it was called for something by an ARN of that account.
fn shows_account(operation: Operation) -> bool {
    use Operation as It;
    operation.registers_certificate()
        || matches!(
            operation,
            It::CreateCredentialLocker | It::CreatePolicy | It::GetPolicy | It::CreateThing
        )
        || matches!(operation, It::DescribeThing | It::DescribeCertificate)
        || matches!(operation, It::CreateManagedThing | It::GetManagedThing)
        || matches!(operation, It::AttachPolicy | It::AttachThingPrincipal)
}

/// Widest first.
fn scopes(operation: Operation) -> [Scope; 3] {
    [Scope::All, Scope::Service(operation.service()), Scope::Operation(operation)]
}

fn is_unanswered(kind: FailureKind) -> bool {
    matches!(kind, FailureKind::Unreachable | FailureKind::Unknown)
}

fn is_stop(kind: FailureKind) -> bool {
    matches!(kind, FailureKind::Stop(_))
}

/// Doubled with each probe that failed, and a random part of a half shorter: stations that lost the
/// network together do not come back together.
fn pause(kind: FailureKind, failed: u32, random: f64) -> Duration {
    let (first, longest) = if is_stop(kind) { STOP_PAUSE } else { OUTAGE_PAUSE };
    let full = first.saturating_mul(1 << failed.min(10)).min(longest);
    full.mul_f64(1.0 - random.clamp(0.0, 1.0) / 2.0)
}

/// One sentence: what is refused, why, and what to do.
fn stop_sentence(error: &CloudError, cause: StopCause) -> String {
    let operation = error.operation;
    let remedy = match cause {
        StopCause::Credentials => "renew the station's AWS credentials".to_owned(),
        StopCause::Permission => format!(
            "allow {}:{operation} in the station's IAM policy (linemint check-config --iam prints it)",
            operation.service().iam_prefix()
        ),
        StopCause::Quota => quota_remedy(operation).to_owned(),
        StopCause::Clock => "set the station's clock".to_owned(),
        StopCause::Account => "give the station credentials of the configured account".to_owned(),
        StopCause::Ca => "register it and make it active with `linemint ca register`".to_owned(),
    };
    // AWS's own words name the quota, or the resource and the permission, more exactly than its reference does.
    let words: String =
        error.message.split_whitespace().collect::<Vec<_>>().join(" ").chars().take(MAX_WORDS).collect();
    // Without code and status it was not AWS that spoke.
    let is_aws = error.code.is_some() || error.status.is_some();
    let words = match cause {
        _ if words.is_empty() => words,
        // That the station has asked for itself.
        StopCause::Ca => format!(" ({words})"),
        _ if is_aws => format!(" (AWS says: {words})"),
        _ => format!(" ({words})"),
    };
    format!("{operation}: {cause}; {remedy}{words}")
}

/// What to ask AWS for when the account holds as many as it may. AWS publishes no figure for most of these
/// (AWS General Reference, read 2026-11), so that none is named.
fn quota_remedy(operation: Operation) -> &'static str {
    match operation {
        Operation::CreateCredentialLocker => {
            "ask AWS (Service Quotas, IoT managed integrations) for more credential lockers in the account, or delete unused ones"
        }
        Operation::CreatePolicy => {
            "ask AWS (Service Quotas, AWS IoT Core) for more policies in the account, or let all devices share one (scope = \"product\")"
        }
        Operation::CreateThing => "ask AWS (Service Quotas, AWS IoT Core) for more things in the account",
        Operation::AttachPolicy => {
            "detach what is not needed: AWS takes 10 policies on a certificate and raises that for nobody"
        }
        Operation::AttachThingPrincipal => {
            "ask AWS (Service Quotas, AWS IoT Core) for more attachments of things to certificates"
        }
        it if it.registers_certificate() => {
            "ask AWS (Service Quotas, AWS IoT Core) for more certificates in the account"
        }
        _ => "ask AWS for a higher quota in Service Quotas",
    }
}
