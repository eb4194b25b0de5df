//! Calls on their way to AWS and back, and what becomes of them there.

use std::time::Duration;

use super::cloud::{Fault, Moment};
use super::disk::Ending;
use super::plan::Trap;
use super::world::{Event, World};
use crate::cloud::testing::failure;
use crate::cloud::{Answer, Call, CloudError, FailureKind, Operation, Reply};
use crate::device::serial::SerialNumber;
use crate::device::steps::Step;
use crate::line::Input;

/// How long AWS is waited for.
const CALL_TIMEOUT: Duration = Duration::from_secs(10);

const FROM_CSR: Operation = Operation::CreateCertificateFromCsr;

/// A call on its way.
#[derive(Debug, Clone)]
pub(super) struct Out {
    pub(super) life: u64,
    pub(super) asker: Asker,
    pub(super) call: Call,
}

/// Who is told the answer.
#[derive(Debug, Clone)]
pub(super) enum Asker {
    /// A device's step.
    Step { serial: SerialNumber, step: Step, generation: u32 },
    /// A look at the whole account.
    Look(u64),
}

impl Asker {
    /// The device, or nobody.
    fn serial(&self) -> &str {
        match self {
            Self::Step { serial, .. } => serial.as_str(),
            Self::Look(_) => "",
        }
    }
}

impl World {
    /// A call leaves for AWS.
    pub(super) fn leaves(&mut self, out: Out) {
        let id = self.stats.calls as u64;
        self.stats.calls += 1;
        self.out.insert(id, out);
        let takes = self.millis(150);
        self.after(takes, Event::Arrives(id));
    }

    /// A call has arrived at AWS.
    pub(super) fn arrives(&mut self, id: u64) -> Result<(), String> {
        let Some(out) = self.out.get(&id).cloned() else { return Ok(()) };
        let here = usize::try_from(id).unwrap_or(usize::MAX);
        let crash = self.trap(|it| match it {
            Trap::CrashAtCall { number, after_effect } if *number == here => Some(*after_effect),
            _ => None,
        });
        if let Some(after_effect) = crash {
            if after_effect {
                let _lost = self.take_effect(id);
            }
            self.out.remove(&id);
            self.crash(Ending::PowerCut);
            return Ok(());
        }
        let trap = self.trap(|it| match it {
            Trap::Call { number, times, fault } if (*number..*number + *times).contains(&here) => {
                Some(*fault)
            }
            _ => None,
        });
        let rate = self.plan.rates.cloud;
        let fault =
            trap.or_else(|| self.happens(rate).then(|| Fault::ALL[self.rng.usize(..Fault::ALL.len())]));
        let operation = out.call.operation();
        // AWS does not say so of what has been there for long.
        let is_absurd = fault == Some(Fault::Before(FailureKind::NotFound))
            && (retires(operation) || matches!(out.asker, Asker::Look(_)));
        let fault = fault.filter(|_| !is_absurd);
        let unknown = || Err(failure(operation, FailureKind::Unknown));
        let signed = |it: Result<Reply, CloudError>, request_id: Option<&str>| {
            it.map(|reply| Answer { reply, request_id: request_id.map(str::to_owned) })
        };
        let result = match fault {
            None => signed(self.take_effect(id), Some("req-1")),
            Some(Fault::Before(kind)) => Err(failure(operation, kind)),
            Some(Fault::After) => {
                let _lost = self.take_effect(id);
                unknown()
            }
            Some(Fault::Late) => {
                self.truth.late = true;
                // AWS takes a request for five minutes.
                let most = if operation == FROM_CSR && self.rng.bool() { 280_000 } else { 1_500 };
                let late = CALL_TIMEOUT + self.millis(most);
                self.after(late, Event::ArrivesLate(id));
                self.answered(&out, CALL_TIMEOUT, unknown());
                return Ok(());
            }
            Some(Fault::Unsigned) => signed(self.take_effect(id), None),
            Some(Fault::Proxy) if answers_nothing(operation) => signed(Ok(Reply::Empty), None),
            Some(Fault::Proxy) => unknown(),
        };
        self.tell(|| {
            let told: String = format!("{result:?}").chars().take(160).collect();
            format!("AWS, {fault:?}: {} {operation} {told}", out.asker.serial())
        });
        self.out.remove(&id);
        let takes = self.millis(100);
        self.answered(&out, takes, result);
        Ok(())
    }

    fn answered(&mut self, out: &Out, takes: Duration, result: Result<Answer, CloudError>) {
        let input = match out.asker.clone() {
            Asker::Step { serial, step, generation } => {
                Input::Called { serial, step, generation, result, waited: Duration::ZERO }
            }
            Asker::Look(number) => Input::Surveyed { number, result },
        };
        self.after(takes, Event::Input(out.life, input));
    }

    /// AWS does what a call asks for.
    pub(super) fn take_effect(&mut self, id: u64) -> Result<Reply, CloudError> {
        let Some(out) = self.out.get(&id) else {
            return Err(failure(Operation::CreateThing, FailureKind::Unknown));
        };
        let (call, asker) = (out.call.clone(), out.asker.clone());
        let late = self.plan.rates.cloud > 0 && self.rng.u8(..3) == 0;
        let most = if call.operation() == FROM_CSR && self.rng.u8(..4) == 0 { 60_000 } else { 4_000 };
        let lag = if late { self.millis(most) } else { Duration::ZERO };
        self.account.act(&call, Moment { serial: asker.serial(), now: self.now, lag })
    }
}

/// Whether it takes something away from what is there, or looks whether it is there.
const fn retires(operation: Operation) -> bool {
    matches!(
        operation,
        Operation::DetachPolicy
            | Operation::DetachThingPrincipal
            | Operation::UpdateCertificate
            | Operation::DeleteCertificate
            | Operation::DeleteThing
            | Operation::DescribeThing
            | Operation::DeletePolicy
            | Operation::GetPolicy
            | Operation::DeleteCredentialLocker
            | Operation::DeleteManagedThing
    )
}

/// Whether a success of it has no content, so that a proxy's answer could be taken for one.
const fn answers_nothing(operation: Operation) -> bool {
    matches!(
        operation,
        Operation::AttachPolicy
            | Operation::AttachThingPrincipal
            | Operation::DetachPolicy
            | Operation::DetachThingPrincipal
            | Operation::UpdateCertificate
            | Operation::DeleteCertificate
            | Operation::DeleteThing
            | Operation::DeletePolicy
            | Operation::DeleteCredentialLocker
            | Operation::DeleteManagedThing
    )
}
