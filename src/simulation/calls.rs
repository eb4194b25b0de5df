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

/// A call on its way.
#[derive(Debug, Clone)]
pub(super) struct Out {
    pub(super) life: u64,
    pub(super) serial: SerialNumber,
    pub(super) step: Step,
    pub(super) generation: u32,
    pub(super) call: Call,
}

impl World {
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
        let is_absurd = fault == Some(Fault::Before(FailureKind::NotFound)) && retires(operation);
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
                let late = CALL_TIMEOUT + self.millis(1_500);
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
            format!("AWS, {fault:?}: {} {operation} {told}", out.serial)
        });
        self.out.remove(&id);
        let takes = self.millis(100);
        self.answered(&out, takes, result);
        Ok(())
    }

    fn answered(&mut self, out: &Out, takes: Duration, result: Result<Answer, CloudError>) {
        let Out { life, serial, step, generation, .. } = out.clone();
        self.after(takes, Event::Input(life, Input::Called { serial, step, generation, result }));
    }

    /// AWS does what a call asks for.
    pub(super) fn take_effect(&mut self, id: u64) -> Result<Reply, CloudError> {
        let Some(out) = self.out.get(&id) else {
            return Err(failure(Operation::CreateThing, FailureKind::Unknown));
        };
        let call = out.call.clone();
        let late = self.plan.rates.cloud > 0 && self.rng.u8(..3) == 0;
        let lag = if late { self.millis(4_000) } else { Duration::ZERO };
        self.account.act(&call, Moment { now: self.now, lag })
    }
}

/// Whether it takes something away from what is there.
const fn retires(operation: Operation) -> bool {
    matches!(
        operation,
        Operation::DetachPolicy | Operation::DetachThingPrincipal | Operation::UpdateCertificate
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
    )
}
