//! How AWS is doing, operation by operation, and when the line is stopped.

use super::{Line, Timer};
use crate::cloud::{Answer, Call, CloudError, FailureKind, Operation, StopCause};
use crate::device::serial::SerialNumber;
use crate::device::steps::Step;
use crate::journal::StationEvent;

impl Line {
    /// Keeps what is known of each operation's health, and tells when the line stops or goes on.
    pub(super) fn note_health(&mut self, operation: Operation, result: &Result<Answer, CloudError>) {
        match result {
            Err(error) if matches!(error.kind, FailureKind::Unreachable | FailureKind::Unknown) => {
                let trouble = self.troubles.entry(operation).or_default();
                *trouble = (trouble.0.saturating_add(1), error.to_string());
            }
            _ => {
                self.troubles.remove(&operation);
            }
        }
        if result.is_ok() {
            self.budgets.entry(operation.service()).or_default().earn();
        }
        let random = self.random.f64();
        let change = self.breakers.ended(operation, result.as_ref().err(), self.now.mono, random);
        if let Some(message) = change.stopped {
            tracing::error!(message, "the line is stopped");
            self.station_event(StationEvent::LineStopped { message });
        }
        if change.resumed {
            tracing::info!("the line goes on");
            self.station_event(StationEvent::LineResumed);
        }
        if change.released || change.resumed {
            self.release_surveys();
        }
        if change.released {
            self.unpark();
        }
        self.plan_probe();
    }

    /// What is to be made of it that AWS does not have the CA that issued before: that concerns the devices which bear
    /// its certificates, and stops nobody else.
    pub(super) fn of_another_ca(
        &self,
        call: &Call,
        result: &Result<Answer, CloudError>,
    ) -> Option<Result<Answer, CloudError>> {
        let (Call::RegisterCertificate { ca_certificate_pem, .. }, Err(error)) = (call, result) else {
            return None;
        };
        let is_another = *ca_certificate_pem != self.settings.ca_pem;
        (is_another && error.kind == FailureKind::Stop(StopCause::Ca))
            .then(|| Err(CloudError { kind: FailureKind::Refused, ..error.clone() }))
    }

    /// Keeps a call back until it may go out.
    pub(super) fn park(&mut self, serial: &SerialNumber, step: Step, generation: u32, call: Call) {
        let Some(running) = self.works.get_mut(serial).and_then(|it| it.running.get_mut(&step)) else {
            return;
        };
        let operation = call.operation();
        running.park(call, self.now.mono);
        self.parked.entry(operation).or_default().push_back((serial.clone(), step, generation));
        self.plan_probe();
    }

    /// The pause of a breaker is over.
    pub(super) fn probe(&mut self) {
        self.probe_due = None;
        self.unpark();
        self.plan_probe();
    }

    /// Lets a call that is held back try now, if none of its kind is trying.
    pub(super) fn hurry(&mut self, serial: &SerialNumber, step: Step) {
        let parked = self.works.get(serial).and_then(|it| it.running.get(&step)?.parked());
        if let Some(operation) = parked.map(Call::operation) {
            self.breakers.hurry(operation, self.now.mono);
            self.unpark();
        }
    }

    /// Sends whatever may go out of what was held back: each operation's in order, the operations in turn.
    fn unpark(&mut self) {
        let parked = std::mem::take(&mut self.parked);
        let tried = self.breakers.tried_last();
        let (had, next): (Vec<_>, Vec<_>) = parked.into_iter().partition(|it| Some(it.0) <= tried);
        for (operation, mut queue) in next.into_iter().chain(had) {
            while let Some((serial, step, generation)) = queue.front() {
                let waits = self.works.get(serial).is_some_and(|it| {
                    let call = it.running.get(step).and_then(|it| it.parked());
                    it.device.generation == *generation && call.is_some_and(|it| it.operation() == operation)
                });
                let (serial, step) = (serial.clone(), *step);
                if waits && self.put_off(&serial, step) {
                    queue.pop_front();
                    continue;
                }
                if waits && !self.breakers.admit(operation, self.now.mono) {
                    break;
                }
                if waits {
                    self.send_parked(&serial, step);
                }
                queue.pop_front();
            }
            if !queue.is_empty() {
                self.parked.insert(operation, queue);
            }
        }
    }

    /// Sees to it that somebody wakes up when the next probe may go out.
    fn plan_probe(&mut self) {
        let Some(due) = self.parked.keys().map(|it| self.breakers.earliest(*it)).min() else { return };
        if self.probe_due.is_none_or(|it| it > due) {
            self.probe_due = Some(due);
            self.later(due.saturating_sub(self.now.mono), Timer::Probe);
        }
    }
}

/// What was asked for has not shown yet, or nobody can tell.
pub(super) fn not_visible(operation: Operation) -> CloudError {
    CloudError::new(operation, FailureKind::NotFound, "what was done does not show yet")
}

/// A success that does not answer what was asked.
pub(super) fn not_an_answer(operation: Operation) -> CloudError {
    CloudError::new(operation, FailureKind::Unknown, "the success is no answer to what was asked")
}

/// The CA could not issue: nothing that AWS said, but it waits the same way.
pub(super) fn not_issued(message: String) -> CloudError {
    CloudError {
        code: Some("issue".to_owned()),
        ..CloudError::new(Operation::RegisterCertificateWithoutCa, FailureKind::Unknown, message)
    }
}
