//! What several devices share: the policy of a product, the locker of a batch. It is made once, by the first device that
//! needs it; whoever comes meanwhile waits.

use std::collections::HashMap;

use super::Line;

use crate::device::event::{Event, Output};
use crate::device::rules::{LockerRule, PolicyRule};
use crate::device::serial::SerialNumber;
use crate::device::steps::{Step, Subject};
use crate::journal::{Recovered, SharedLocker, StationEvent};

/// What devices share, by the step that makes it and its name.
pub(super) type Shares = HashMap<(Step, String), Shared>;

/// Steps whose work devices may share.
const STEPS: [Step; 2] = [Step::Policy, Step::Locker];

/// Something that several devices share.
#[derive(Debug)]
pub(super) enum Shared {
    /// It is there.
    Ready(Output),
    /// One device makes it, the others wait.
    Making { by: SerialNumber, waiting: Vec<SerialNumber> },
}

/// What the journal knows to be there.
pub(super) fn recovered(from: &mut Recovered) -> Shares {
    let policies = std::mem::take(&mut from.policies).into_iter();
    let policies = policies.map(|name| ((Step::Policy, name), Shared::Ready(Output::Nothing)));
    let lockers = std::mem::take(&mut from.lockers).into_iter();
    let lockers = lockers.map(|(name, SharedLocker { id, arn })| {
        ((Step::Locker, name), Shared::Ready(Output::Locker { id, arn, others: Vec::new() }))
    });
    policies.chain(lockers).collect()
}

impl Line {
    /// Whether what a step makes is not for that device alone.
    pub(super) fn is_shared(&self, serial: &SerialNumber, step: Step) -> bool {
        let Some(work) = self.works.get(serial) else { return false };
        match step {
            Step::Policy => matches!(work.rules.policy, PolicyRule::Product { .. }),
            Step::Locker => matches!(work.rules.locker, LockerRule::Batch { .. }),
            _ => false,
        }
    }

    /// Whether a locker is that of a batch, as far as the journal knows.
    pub(super) fn is_a_batchs_locker(&self, id: &str) -> bool {
        let has_id = |it: &Shared| matches!(it, Shared::Ready(Output::Locker { id: it, .. }) if it == id);
        self.shares.values().any(has_id)
    }

    fn shared_key(&self, serial: &SerialNumber, step: Step) -> Option<(Step, String)> {
        let work = self.works.get(serial)?;
        let subject = Subject { device: &work.device, rules: &work.rules, ca_pem: "" };
        let name = match step {
            Step::Policy => subject.policy_name()?,
            _ => subject.locker_name()?,
        };
        Some((step, name))
    }

    /// Which device makes what this one waits for with that step.
    pub(super) fn maker_of(&self, serial: &SerialNumber, step: Step) -> Option<&SerialNumber> {
        if !self.is_shared(serial, step) {
            return None;
        }
        match self.shares.get(&self.shared_key(serial, step)?)? {
            Shared::Making { by, waiting } if waiting.contains(serial) => Some(by),
            _ => None,
        }
    }

    /// What the makers that this device waits for have under way.
    pub(super) fn makers_steps(
        &self,
        serial: &SerialNumber,
    ) -> impl Iterator<Item = &super::running::Running> {
        STEPS.into_iter().filter_map(|step| {
            let maker = self.maker_of(serial, step)?;
            self.works.get(maker)?.running.get(&step)
        })
    }

    /// What devices share is made once; whoever comes meanwhile waits.
    pub(super) fn begin_shared(&mut self, serial: &SerialNumber, step: Step) -> bool {
        let Some(key) = self.shared_key(serial, step) else { return false };
        match self.shares.get_mut(&key) {
            Some(Shared::Ready(output)) => {
                let event = Event::StepDone {
                    step,
                    output: output.clone(),
                    // Others' devices have met it; this one has no earlier life because of that.
                    adopted: false,
                    request_id: None,
                };
                return self.record(serial, event);
            }
            Some(Shared::Making { waiting, .. }) => {
                waiting.push(serial.clone());
                if let Some(work) = self.works.get_mut(serial) {
                    work.running.entry(step).or_default();
                }
            }
            None => {
                self.shares.insert(key, Shared::Making { by: serial.clone(), waiting: Vec::new() });
                self.call_first(serial, step);
            }
        }
        false
    }

    pub(super) fn shared_ready(&mut self, serial: &SerialNumber, step: Step) {
        let Some(key) = self.shared_key(serial, step) else { return };
        let name = key.1.clone();
        let output = match step {
            Step::Policy => {
                self.station_event(StationEvent::PolicyReady { name });
                Output::Nothing
            }
            _ => {
                let Some(done) = self.works.get(serial).map(|it| &it.device.done) else { return };
                let Some(id) = done.locker.clone() else { return };
                let arn = done.locker_arn.clone();
                self.station_event(StationEvent::LockerReady { name, id: id.clone(), arn: arn.clone() });
                Output::Locker { id, arn, others: Vec::new() }
            }
        };
        if let Some(Shared::Making { waiting, .. }) = self.shares.insert(key, Shared::Ready(output)) {
            self.wake(waiting, step);
        }
    }

    /// The shared policy is not to be found any more.
    pub(super) fn shared_lost(&mut self, serial: &SerialNumber) {
        let Some(key) = self.shared_key(serial, Step::Policy) else { return };
        if matches!(self.shares.get(&key), Some(Shared::Ready(_))) {
            self.station_event(StationEvent::PolicyLost { name: key.1.clone() });
            self.shares.remove(&key);
        }
    }

    /// A device that was to make something for others is out: the next one makes it.
    pub(super) fn leave_shared(&mut self, serial: &SerialNumber) {
        for step in STEPS {
            if !self.is_shared(serial, step) {
                continue;
            }
            let Some(key) = self.shared_key(serial, step) else { continue };
            if !matches!(self.shares.get(&key), Some(Shared::Making { by, .. }) if by == serial) {
                continue;
            }
            if let Some(Shared::Making { waiting, .. }) = self.shares.remove(&key) {
                self.wake(waiting, step);
            }
        }
    }

    fn wake(&mut self, waiting: Vec<SerialNumber>, step: Step) {
        for other in waiting {
            if let Some(work) = self.works.get_mut(&other) {
                work.running.remove(&step);
            }
            self.progress(&other);
        }
    }
}
