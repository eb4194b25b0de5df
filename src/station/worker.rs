//! Calls AWS for the line. Sees the [`Cloud`] trait only.

use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::Duration;

use futures_util::FutureExt as _;
use tokio::sync::mpsc;

use crate::cloud::{Call, Class, Cloud, CloudError, FailureKind, HeldBack, Urgency};
use crate::device::serial::SerialNumber;
use crate::device::steps::Step;
use crate::line::Input;

/// Makes each call in a task of its own; pace, order and the number of calls in flight are the
/// limiter's.
#[derive(Debug)]
pub(super) struct Worker<C> {
    cloud: Arc<C>,
    inputs: mpsc::Sender<Input>,
}

impl<C: Cloud + 'static> Worker<C> {
    pub(super) fn new(cloud: Arc<C>, inputs: mpsc::Sender<Input>) -> Self {
        Self { cloud, inputs }
    }

    /// The limits that calls wait for although the configuration allows more.
    pub(super) fn held_back(&self) -> Vec<HeldBack> {
        self.cloud.held_back()
    }

    /// Makes a call and tells the line the answer.
    pub(super) fn call(
        &self,
        serial: SerialNumber,
        step: Step,
        generation: u32,
        (urgency, call): (Urgency, Call),
    ) {
        let (cloud, inputs) = (self.cloud.clone(), self.inputs.clone());
        tokio::spawn(async move {
            let calling = AssertUnwindSafe(cloud.call_timed(&urgency, &call)).catch_unwind().await;
            let (result, waited) = calling.unwrap_or_else(|_| (Err(lost(&call)), Duration::ZERO));
            // The line may have ended meanwhile: what was done is found at the next start.
            let _ = inputs.send(Input::Called { serial, step, generation, result, waited }).await;
        });
    }

    /// Makes a call of a look at the whole account and tells the line the answer.
    pub(super) fn survey(&self, number: u64, class: Class, call: Call) {
        let (cloud, inputs) = (self.cloud.clone(), self.inputs.clone());
        tokio::spawn(async move {
            let calling = AssertUnwindSafe(cloud.call_for(class, &call)).catch_unwind().await;
            let result = calling.unwrap_or_else(|_| Err(lost(&call)));
            // The line may have ended meanwhile: the next start looks again.
            let _ = inputs.send(Input::Surveyed { number, result }).await;
        });
    }
}

/// What the line hears of a call that has ended in a bug: without it the device would wait for ever. Whether AWS has
/// carried it out nobody knows.
fn lost(call: &Call) -> CloudError {
    let operation = call.operation();
    tracing::error!(operation = %operation, "a call has ended in a bug; it counts as one without an answer");
    CloudError::new(operation, FailureKind::Unknown, "the call has ended in a bug of linemint's")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cloud::Answer;

    struct Broken;

    impl Cloud for Broken {
        async fn call(&self, _call: &Call) -> Result<Answer, CloudError> {
            panic!("a bug")
        }
    }

    #[tokio::test]
    async fn a_call_that_ends_in_a_bug_is_one_without_an_answer() {
        let (inputs, mut heard) = mpsc::channel(2);
        let worker = Worker::new(Arc::new(Broken), inputs);
        let call = || Call::DescribeThing { name: "SN1".to_owned() };
        let serial = SerialNumber::parse("SN0000000001").unwrap();
        worker.call(serial, Step::Thing, 7, (Class::NestNew.into(), call()));
        worker.survey(3, Class::BacklogNew, call());
        // Nobody is left who could still say something.
        drop(worker);
        let Some(Input::Called { generation: 7, result: Err(error), .. }) = heard.recv().await else {
            panic!("the line hears of it")
        };
        assert_eq!(error.kind, FailureKind::Unknown);
        let Some(Input::Surveyed { number: 3, result: Err(error) }) = heard.recv().await else {
            panic!("the line hears of it")
        };
        assert_eq!(error.kind, FailureKind::Unknown);
    }
}
