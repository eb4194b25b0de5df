//! Calls AWS for the line. Sees the [`Cloud`] trait only.

use std::sync::Arc;

use tokio::sync::mpsc;

use crate::cloud::{Call, Class, Cloud, HeldBack, Urgency};
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
            let (result, waited) = cloud.call_timed(&urgency, &call).await;
            // The line may have ended meanwhile: what was done is found at the next start.
            let _ = inputs.send(Input::Called { serial, step, generation, result, waited }).await;
        });
    }

    /// Makes a call of a look at the whole account and tells the line the answer.
    pub(super) fn survey(&self, number: u64, class: Class, call: Call) {
        let (cloud, inputs) = (self.cloud.clone(), self.inputs.clone());
        tokio::spawn(async move {
            let result = cloud.call_for(class, &call).await;
            // The line may have ended meanwhile: the next start looks again.
            let _ = inputs.send(Input::Surveyed { number, result }).await;
        });
    }
}
