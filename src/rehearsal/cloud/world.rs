//! One request from arrival to answer: throttled or not, which fault, which effect, what is
//! written down. No I/O: how the answer travels is the server's business.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use hyper::HeaderMap;
use serde_json::Value;

use super::account::{Account, Done, Moment, Outcome};
use super::authority::Authority;
use super::command::{Command, Issuing};
use super::faults::{Fault, Faults, Lot};
use super::ledger::{Entry, Ledger};
use super::limits::Limits;
use super::refusal::Refusal;
use super::request::{Request, Route, check_signature};
use crate::clock::{Now, TimeSource};
use crate::cloud::{Operation, Service};

/// What the lock guards.
#[derive(Debug)]
pub(crate) struct World {
    pub(crate) account: Account,
    pub(crate) limits: Limits,
    pub(crate) faults: Faults,
    pub(crate) ledger: Ledger,
}

/// The simulated AWS, without its sockets.
pub(crate) struct Simulation {
    world: Mutex<World>,
    authority: Authority,
    clock: Arc<dyn TimeSource>,
    began: Now,
    /// Requests signed for another Region are refused; empty: any will do.
    region: String,
    issued: AtomicU64,
    unknown: AtomicU64,
}

/// An answer, and the fault that its delivery meets.
#[derive(Debug, PartialEq)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) error_type: Option<String>,
    pub(crate) body: Option<Value>,
    pub(crate) request_id: String,
    pub(crate) fault: Option<Fault>,
}

impl Simulation {
    /// Begins now.
    pub(crate) fn new(
        world: World,
        authority: Authority,
        clock: Arc<dyn TimeSource>,
        region: String,
    ) -> Self {
        let began = clock.now();
        Self {
            world: Mutex::new(world),
            authority,
            clock,
            began,
            region,
            issued: AtomicU64::new(0),
            unknown: AtomicU64::new(0),
        }
    }

    /// Carries out `effect` on the account, past limits, faults and ledger.
    pub(crate) fn place(
        &self,
        effect: impl FnOnce(&mut Account, Moment<'_>) -> Outcome,
    ) -> Result<(), String> {
        let at = Moment { now: self.now(), region: &self.region, delay: Duration::ZERO, must_see: true };
        effect(&mut self.world().account, at).map(|_| ()).map_err(|it| it.message)
    }

    /// Everything, for reading and for the knobs.
    pub(crate) fn world(&self) -> MutexGuard<'_, World> {
        // No code under the lock panics; if one does, its request is lost and no other.
        self.world.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The time.
    pub(crate) fn now(&self) -> Now {
        self.clock.now()
    }

    /// Answers a request for which AWS has an operation.
    pub(crate) fn answer(&self, request: &Request, headers: &HeaderMap) -> Answer {
        let now = self.now();
        let service = request.service();
        let signed = check_signature(headers, service).and_then(|it| self.check_region(it));
        let region = match signed {
            Ok(region) => region,
            Err(refusal) => return self.refuse(&request.route, refusal),
        };
        let issuing = Issuing {
            authority: &self.authority,
            number: self.issued.fetch_add(1, Ordering::Relaxed),
            now_unix_seconds: now.wall.as_second(),
        };
        let command = Command::parse(request, issuing);
        let mut world = self.world();
        let (label, tagged) = match &command {
            Ok(command) => (command.label(&world.account), command.is_tagged()),
            Err(_) => (request.route.name.clone(), false),
        };
        let operation = request.route.operation;
        let (outcome, fault) = world.decide(operation, &label, command, now, &region);
        self.write_down(&mut world, Asked { operation, label, tagged, now }, outcome, fault)
    }

    fn check_region(&self, region: String) -> Result<String, Refusal> {
        if self.region.is_empty() || self.region == region {
            return Ok(region);
        }
        let message = format!("Credential should be scoped to a valid region, not '{region}'.");
        Err(Refusal::new("InvalidSignatureException", 403, message))
    }

    /// Refuses what does not get as far as the service: it costs no quota and meets no fault.
    pub(crate) fn refuse(&self, route: &Route, refusal: Refusal) -> Answer {
        let (operation, label) = (route.operation, route.name.clone());
        let asked = Asked { operation, label, tagged: false, now: self.now() };
        self.write_down(&mut self.world(), asked, Err(refusal), None)
    }

    /// Refuses what is no operation at all, and so has no place in the ledger.
    pub(crate) fn refuse_unknown(&self) -> Answer {
        let refusal = Refusal::new("UnknownOperationException", 404, "There is no such operation");
        let number = self.unknown.fetch_add(1, Ordering::Relaxed);
        // Counts down, so that no recorded request has the same id.
        Answer::of(Err(refusal), Service::Iot, request_id(0, u64::MAX - number))
    }

    fn write_down(&self, world: &mut World, asked: Asked, outcome: Outcome, fault: Option<Fault>) -> Answer {
        let service = asked.operation.service();
        // What the client is told in place of the truth; the effect is what it is.
        let effect = matches!(&outcome, Ok(done) if done.effect);
        let told = match fault {
            Some(Fault::InternalAfter) => Err(Refusal::internal(service)),
            _ => outcome,
        };
        let (status, code) = match (&told, fault) {
            (_, Some(Fault::ClosedBefore | Fault::Hang | Fault::ResetAfter)) => (0, None),
            (_, Some(Fault::BadGatewayAfter)) => (502, None),
            (_, Some(Fault::ProxyPageBefore | Fault::ProxyPageAfter)) => (200, None),
            (Ok(done), _) => (done.status, None),
            (Err(refusal), _) => (refusal.status, Some(refusal.code)),
        };
        let ms = asked.now.mono.saturating_sub(self.began.mono).as_millis();
        let seq = world.ledger.record(Entry {
            ms: u64::try_from(ms).unwrap_or(u64::MAX),
            operation: asked.operation,
            resource: asked.label,
            status,
            code,
            fault,
            effect,
            tagged: asked.tagged,
        });
        Answer { fault, ..Answer::of(told, service, request_id(world.account.seed, seq)) }
    }
}

impl std::fmt::Debug for Simulation {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Simulation").finish_non_exhaustive()
    }
}

/// What was asked, for the ledger.
struct Asked {
    operation: Operation,
    label: String,
    tagged: bool,
    now: Now,
}

impl Answer {
    /// The answer to an outcome, delivered whole.
    pub(crate) fn of(outcome: Outcome, service: Service, request_id: String) -> Self {
        match outcome {
            Ok(Done { status, body, .. }) => Self { status, error_type: None, body, request_id, fault: None },
            Err(refusal) => Self {
                status: refusal.status,
                error_type: Some(refusal.error_type()),
                body: Some(refusal.body(service)),
                request_id,
                fault: None,
            },
        }
    }
}

impl World {
    /// Throttling first, as AWS's front end does it; then the fault before the effect; then the
    /// effect.
    fn decide(
        &mut self,
        operation: Operation,
        label: &str,
        command: Result<Command, Refusal>,
        now: Now,
        region: &str,
    ) -> (Outcome, Option<Fault>) {
        let service = operation.service();
        if !self.limits.admit(operation, now.mono) {
            return (Err(Refusal::throttled(service)), None);
        }
        let lot = self.faults.draw(operation, label);
        if let Some(fault) = lot.fault.filter(|it| !it.is_after_effect()) {
            return (Err(instead(fault, service)), Some(fault));
        }
        let delay = match operation {
            Operation::CreatePolicy | Operation::CreateThing => self.faults.absent_for(operation, label),
            Operation::AttachPolicy
            | Operation::AttachThingPrincipal
            | Operation::CreateCertificateFromCsr => self.faults.hidden_for(operation, label),
            _ => std::time::Duration::ZERO,
        };
        let moment = Moment { now, region, delay, must_see: lot.must_go_well };
        let outcome = command.and_then(|it| it.apply(&mut self.account, moment));
        let fault = self.blame(&outcome, lot);
        (outcome, fault)
    }

    fn blame(&mut self, outcome: &Outcome, lot: Lot) -> Option<Fault> {
        match outcome {
            Err(refusal) if refusal.not_visible_yet && lot.fault.is_none() => {
                self.faults.count_not_visible(lot);
                Some(Fault::NotVisibleYet)
            }
            _ => lot.fault,
        }
    }
}

/// What the client is answered, if anything, when a fault comes before the effect.
fn instead(fault: Fault, service: Service) -> Refusal {
    match fault {
        Fault::Throttled => Refusal::throttled(service),
        Fault::NotVisibleYet => Refusal::not_found("The resource does not exist"),
        Fault::InternalBefore => Refusal::internal(service),
        _ => Refusal::unavailable(),
    }
}

/// A request id in AWS's shape: the same run gives the same ones.
pub(crate) fn request_id(seed: u64, seq: u64) -> String {
    let random = fastrand::Rng::with_seed(seed ^ seq.rotate_left(32)).u64(..);
    let (a, b, c) = (random >> 32, (random >> 16) & 0xffff, random & 0xfff);
    format!("{a:08x}-{b:04x}-4{c:03x}-a{:03x}-{:012x}", (seq >> 48) & 0xfff, seq & 0xffff_ffff_ffff)
}
