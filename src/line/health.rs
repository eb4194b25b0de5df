//! How AWS is doing, operation by operation, and when the line is stopped.

use std::time::Duration;

use super::{Line, Timer};
use crate::cloud::{Answer, CloudError, FailureKind, Operation, StopCause};
use crate::journal::StationEvent;

/// When the line goes on, what has waited is tried again within this.
const WAKE_WITHIN: Duration = Duration::from_secs(1);

impl Line {
    /// Keeps what is known of each operation's health, and tells when the line stops or goes on.
    pub(super) fn note_health(&mut self, operation: Operation, result: &Result<Answer, CloudError>) {
        match result {
            Err(error) if matches!(error.kind, FailureKind::Stop(_)) => {
                let message = stop_sentence(error);
                if self.stopped.is_empty() {
                    tracing::error!(message, "the line is stopped");
                    self.station_event(StationEvent::LineStopped { message: message.clone() });
                }
                self.stopped.insert(operation, message);
            }
            Err(error) if matches!(error.kind, FailureKind::Unreachable | FailureKind::Unknown) => {
                let trouble = self.troubles.entry(operation).or_default();
                *trouble = (trouble.0 + 1, error.to_string());
            }
            _ => {
                self.troubles.remove(&operation);
                if self.stopped.remove(&operation).is_some() && self.stopped.is_empty() {
                    tracing::info!("the line goes on");
                    self.station_event(StationEvent::LineResumed);
                    self.wake_stopped();
                }
            }
        }
    }

    /// Tries again soon what has waited for a person, spread over a second.
    fn wake_stopped(&mut self) {
        let mut waiting = Vec::new();
        for (serial, work) in &self.works {
            let stopped = work.running.iter().filter(|(_, it)| it.waits_for_a_person());
            waiting.extend(stopped.map(|(step, _)| (serial.clone(), *step, work.device.generation)));
        }
        // The order of a hash map is not the same twice; a simulation's has to be.
        waiting.sort();
        for (serial, step, generation) in waiting {
            let wait = WAKE_WITHIN.mul_f64(self.random.f64());
            self.later(wait, Timer::Retry(serial, step, generation));
        }
        for number in self.stopped_surveys() {
            let wait = WAKE_WITHIN.mul_f64(self.random.f64());
            self.later(wait, Timer::Survey(number));
        }
    }
}

/// One sentence: what is refused, why, and whom to ask.
fn stop_sentence(error: &CloudError) -> String {
    let FailureKind::Stop(cause) = error.kind else { return error.to_string() };
    let operation = error.operation;
    let remedy = match cause {
        StopCause::Credentials => "renew the station's AWS credentials",
        StopCause::Permission => {
            "allow it in the station's IAM policy (linemint check-config --iam prints it)"
        }
        StopCause::Quota => "ask AWS for a higher quota in Service Quotas",
        StopCause::Clock => "set the station's clock",
        StopCause::Account => "give the station credentials of the configured account",
    };
    format!("{operation}: {cause}; {remedy}")
}

/// What was asked for has not shown yet, or nobody can tell.
pub(super) fn not_visible(operation: Operation) -> CloudError {
    CloudError {
        operation,
        kind: FailureKind::NotFound,
        code: None,
        status: None,
        message: "what was done does not show yet".to_owned(),
        request_id: None,
        retry_after: None,
        resource_id: None,
        resource_arn: None,
    }
}

/// A success that does not answer what was asked.
pub(super) fn not_an_answer(operation: Operation) -> CloudError {
    let message = "the success is no answer to what was asked".to_owned();
    CloudError { kind: FailureKind::Unknown, message, ..not_visible(operation) }
}

/// The CA could not issue: nothing that AWS said, but it waits the same way.
pub(super) fn not_issued(message: String) -> CloudError {
    CloudError {
        operation: Operation::RegisterCertificateWithoutCa,
        kind: FailureKind::Unknown,
        code: Some("issue".to_owned()),
        status: None,
        message,
        request_id: None,
        retry_after: None,
        resource_id: None,
        resource_arn: None,
    }
}
