//! A policy that all devices of a product share: made once, by the first device that needs it.

use super::Line;

use crate::device::event::{Event, Output};
use crate::device::rules::PolicyRule;
use crate::device::serial::SerialNumber;
use crate::device::steps::{Step, Subject};
use crate::journal::StationEvent;

/// A policy that all devices of a product share.
#[derive(Debug)]
pub(super) enum SharedPolicy {
    /// It is there.
    Ready,
    /// One device makes it, the others wait.
    Making { by: SerialNumber, waiting: Vec<SerialNumber> },
}

impl Line {
    pub(super) fn is_shared(&self, serial: &SerialNumber) -> bool {
        self.works.get(serial).is_some_and(|it| matches!(it.rules.policy, PolicyRule::Product { .. }))
    }

    fn shared_name(&self, serial: &SerialNumber) -> Option<String> {
        let work = self.works.get(serial)?;
        Subject { device: &work.device, rules: &work.rules, ca_pem: "" }.policy_name()
    }

    /// Which device makes the shared policy that this one waits for.
    pub(super) fn maker_of_policy(&self, serial: &SerialNumber) -> Option<&SerialNumber> {
        match self.policies.get(&self.shared_name(serial)?)? {
            SharedPolicy::Making { by, waiting } if waiting.contains(serial) => Some(by),
            _ => None,
        }
    }

    /// The policy that a product's devices share is made once; whoever comes meanwhile waits.
    pub(super) fn begin_shared(&mut self, serial: &SerialNumber) -> bool {
        let Some(name) = self.shared_name(serial) else { return false };
        match self.policies.get_mut(&name) {
            Some(SharedPolicy::Ready) => {
                let event = Event::StepDone {
                    step: Step::Policy,
                    output: Output::Nothing,
                    // Others' devices have met it; this one has no earlier life because of that.
                    adopted: false,
                    request_id: None,
                };
                return self.record(serial, event);
            }
            Some(SharedPolicy::Making { waiting, .. }) => {
                waiting.push(serial.clone());
                if let Some(work) = self.works.get_mut(serial) {
                    work.running.entry(Step::Policy).or_default();
                }
            }
            None => {
                let making = SharedPolicy::Making { by: serial.clone(), waiting: Vec::new() };
                self.policies.insert(name, making);
                self.call_first(serial, Step::Policy);
            }
        }
        false
    }

    pub(super) fn shared_ready(&mut self, serial: &SerialNumber) {
        let Some(name) = self.shared_name(serial) else { return };
        self.station_event(StationEvent::PolicyReady { name: name.clone() });
        if let Some(SharedPolicy::Making { waiting, .. }) = self.policies.insert(name, SharedPolicy::Ready) {
            self.wake(waiting);
        }
    }

    pub(super) fn shared_lost(&mut self, serial: &SerialNumber) {
        let Some(name) = self.shared_name(serial) else { return };
        if matches!(self.policies.get(&name), Some(SharedPolicy::Ready)) {
            self.policies.remove(&name);
            self.station_event(StationEvent::PolicyLost { name });
        }
    }

    /// A device that was to make a shared policy is out: the next one makes it.
    pub(super) fn leave_policy(&mut self, serial: &SerialNumber) {
        let Some(name) = self.shared_name(serial) else { return };
        if !matches!(self.policies.get(&name), Some(SharedPolicy::Making { by, .. }) if by == serial) {
            return;
        }
        if let Some(SharedPolicy::Making { waiting, .. }) = self.policies.remove(&name) {
            self.wake(waiting);
        }
    }

    fn wake(&mut self, waiting: Vec<SerialNumber>) {
        for other in waiting {
            if let Some(work) = self.works.get_mut(&other) {
                work.running.remove(&Step::Policy);
            }
            self.progress(&other);
        }
    }
}
