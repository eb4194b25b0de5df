//! What is put right of a device whose identity was whole, where the account is found to hold something
//! else than is recorded (`reconcile`): what is not there any more is made again by the steps that made it,
//! and a certificate that is no device's is retired as one that was replaced.

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};

use super::steps::Step;
use super::{Device, KeyState, State, Superseded};
use crate::pki::Fingerprint;

/// What is being made again.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Mend {
    /// The steps that are not done yet.
    pub steps: BTreeSet<Step>,
    /// The certificate that is registered again, DER; empty where it is there.
    #[serde(default, skip_serializing_if = "Vec::is_empty", with = "crate::pki::base64_der")]
    pub der: Vec<u8>,
}

/// A certificate that is no device's.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Orphan {
    /// Its id.
    pub fingerprint: Fingerprint,
    /// SHA-256 of its public key.
    pub public_key: Fingerprint,
    /// Its ARN.
    pub arn: String,
    /// The policy that is attached to it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub policy: Option<String>,
    /// The thing that it is attached to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub thing: Option<String>,
}

/// What is to be put right, as the account was seen when the device's newest record was the given one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum MendOrder {
    /// Make again what is not there.
    Finish {
        /// By these steps.
        steps: Vec<Step>,
        /// The certificate, if it is to be registered again.
        der: Vec<u8>,
        /// The device's newest record.
        seq: u64,
    },
    /// Retire a certificate that is no device's.
    Retire {
        /// Which one.
        orphan: Box<Orphan>,
        /// The device's newest record.
        seq: u64,
    },
    /// Scrap what this station has made and the journal does not know.
    Clear {
        /// What it is.
        product: String,
    },
}

impl Mend {
    /// The steps that can be taken now.
    #[must_use]
    pub fn ready(&self) -> Vec<Step> {
        let has = |step: Step| self.steps.contains(&step);
        let waits = |step: &Step| match step {
            Step::AttachPolicy => has(Step::Policy) || has(Step::Certificate),
            Step::AttachThing => has(Step::Thing) || has(Step::Certificate),
            _ => false,
        };
        self.steps.iter().copied().filter(|it| !waits(it)).collect()
    }
}

/// Whether a step makes something again.
#[must_use]
pub const fn mends(step: Step) -> bool {
    use Step::{AttachPolicy, AttachThing, Certificate, Locker, Policy, Thing};
    matches!(step, Locker | Policy | Thing | Certificate | AttachPolicy | AttachThing)
}

impl Device {
    /// Whether something of it can be made again: its identity is made, and nothing else is done with it.
    #[must_use]
    pub fn can_be_mended(&self) -> bool {
        matches!(self.state, State::Passed | State::Failed | State::Quarantined)
            && self.scrap.is_none()
            && self.mend.is_none()
            && self.to_retire().is_none()
    }

    /// The certificate that is to be registered: it is let go of once the device has passed with it.
    #[must_use]
    pub fn der_to_register(&self) -> Option<&[u8]> {
        let own = self.certificate.as_ref().map(|it| it.der.as_slice()).filter(|it| !it.is_empty());
        own.or_else(|| self.mend.as_ref().map(|it| it.der.as_slice()).filter(|it| !it.is_empty()))
    }

    pub(super) fn begin_mending(&mut self, steps: &[Step], der: &[u8]) {
        let steps: BTreeSet<Step> = steps.iter().copied().collect();
        if steps.contains(&Step::Locker) {
            self.lockers_remade += 1;
        }
        self.mend = (!steps.is_empty()).then(|| Mend { steps, der: der.to_vec() });
    }

    /// A step is done, or can never be; then what was to follow it cannot either.
    pub(super) fn mended(&mut self, step: Step, done: bool) {
        let Some(mend) = &mut self.mend else { return };
        mend.steps.remove(&step);
        if !done {
            if matches!(step, Step::Policy | Step::Certificate) {
                mend.steps.remove(&Step::AttachPolicy);
            }
            if matches!(step, Step::Thing | Step::Certificate) {
                mend.steps.remove(&Step::AttachThing);
            }
        }
        if mend.steps.is_empty() {
            self.mend = None;
        }
    }

    /// It is presented again: what was to be made again is made with the rest.
    pub(super) fn mend_with_the_rest(&mut self) {
        let Some(mend) = self.mend.take() else { return };
        for step in mend.steps {
            match step {
                Step::Locker => self.done.locker = None,
                Step::Policy => self.done.policy = false,
                Step::Thing => self.done.thing = false,
                Step::AttachPolicy => self.done.attach_policy = false,
                Step::AttachThing => self.done.attach_thing = false,
                Step::Certificate => {
                    if let Some(it) = self.certificate.as_mut().filter(|it| !it.der.is_empty()) {
                        it.arn = None;
                    }
                }
                _ => {}
            }
        }
    }

    /// Puts a certificate that is no device's among this one's old ones, to be retired at once.
    pub(super) fn take_orphan(&mut self, orphan: &Orphan) {
        self.superseded.retain(|it| it.fingerprint != orphan.fingerprint);
        self.superseded.push(Superseded {
            fingerprint: orphan.fingerprint,
            arn: Some(orphan.arn.clone()),
            key: KeyState::Destroyed,
            policy: orphan.policy.clone(),
            thing: orphan.thing.clone(),
            retired: None,
            expired: false,
            public_key: Some(orphan.public_key),
            spare: true,
        });
    }
}
