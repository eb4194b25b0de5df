//! Certificates that a device no longer has, and how far AWS has been told.

use serde::{Deserialize, Serialize};

use super::steps::Step;
use super::{Device, KeyState};
use crate::pki::Fingerprint;
use crate::sabotage::sabotaged;

/// A certificate that was replaced, given up, or made beside the device's own.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Superseded {
    /// Which one.
    pub fingerprint: Fingerprint,
    /// Its ARN, if AWS may know it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub arn: Option<String>,
    /// Where its private key is.
    pub key: KeyState,
    /// The policy that was attached to it, if any.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub policy: Option<String>,
    /// The thing that it was attached to, if the device's has another name since.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub thing: Option<String>,
    /// The last retiring step that is done: deactivate, detach the policy, detach the thing, and delete it
    /// where AWS has issued it or the device is scrapped.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub retired: Option<Step>,
    /// It is retired at once, not only when another one is confirmed: its key was kept too long.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub expired: bool,
    /// SHA-256 of its public key, if AWS has issued it: then it is deleted in the end.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub public_key: Option<Fingerprint>,
    /// It was made beside the device's own and never used: nothing has to be waited for.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub spare: bool,
}

impl Superseded {
    /// The name under which its private key is sealed; see [`Certificate::key_id`](super::Certificate::key_id).
    #[must_use]
    pub fn key_id(&self) -> Fingerprint {
        self.public_key.unwrap_or(self.fingerprint)
    }

    /// Whether AWS still has to be told.
    #[must_use]
    pub fn is_retired(&self) -> bool {
        let deleted = self.public_key.is_some() && !sabotaged!(ReplacedUndeleted);
        match self.retired {
            Some(Step::Delete | Step::DeleteCertificate) => true,
            Some(Step::DetachThing) => !deleted,
            // Nothing was ever attached to a certificate that AWS has not named.
            Some(Step::Deactivate) => self.arn.is_none() && !deleted,
            _ => false,
        }
    }

    /// Whether AWS does not know it any more.
    #[must_use]
    pub fn is_deleted(&self) -> bool {
        matches!(self.retired, Some(Step::Delete | Step::DeleteCertificate))
    }

    /// Whether it is retired whatever becomes of the device: nobody may use it, or ever could.
    #[must_use]
    pub fn goes_at_once(&self) -> bool {
        self.expired || self.spare
    }

    /// What has to be done next to retire it, in AWS's order.
    #[must_use]
    pub fn next_step(&self) -> Option<Step> {
        match self.retired {
            _ if self.is_retired() => None,
            None => Some(Step::Deactivate),
            Some(Step::Deactivate) if self.arn.is_none() => Some(Step::Delete),
            Some(Step::Deactivate) if self.policy.is_some() => Some(Step::DetachPolicy),
            Some(Step::DetachThing) => Some(Step::Delete),
            Some(_) => Some(Step::DetachThing),
        }
    }
}

impl Device {
    /// Puts the present certificate among the old ones. `policy` is what is attached to it. Its key counts as
    /// sealed until its destruction is recorded, even if it could not be read.
    pub(super) fn supersede(&mut self, policy: Option<&String>) {
        if let Some(old) = self.certificate.take() {
            self.superseded.push(Superseded {
                fingerprint: old.fingerprint,
                arn: old.arn,
                key: old.key,
                policy: policy.cloned(),
                thing: None,
                retired: None,
                expired: false,
                public_key: old.public_key,
                spare: false,
            });
        }
        self.issued_at = None;
        self.done.active = false;
        self.done.proved = false;
        self.done.attach_policy = false;
        self.done.attach_thing = false;
    }

    /// What the cloud holds under names that follow from the rules is made again, or found and adopted. Where
    /// the thing's name changes, `thing` is the one of before, and the old certificates are attached to that.
    pub(super) fn rename(&mut self, thing: Option<&String>) {
        self.done.policy = false;
        self.done.thing = false;
        if thing.is_some() {
            self.done.principals = false;
            for old in self.superseded.iter_mut().filter(|it| it.thing.is_none()) {
                old.thing = thing.cloned();
            }
        }
    }

    /// Puts certificates of an earlier life among the old ones.
    pub(super) fn inherit(&mut self, arns: &[String], policy: Option<&String>) {
        for arn in arns {
            let Some(fingerprint) = arn.rsplit_once(":cert/").and_then(|(_, id)| id.parse().ok()) else {
                continue;
            };
            if self.superseded.iter().all(|it| it.fingerprint != fingerprint) {
                self.superseded.push(Superseded {
                    fingerprint,
                    arn: Some(arn.clone()),
                    key: KeyState::Destroyed,
                    policy: policy.cloned(),
                    thing: None,
                    retired: None,
                    expired: false,
                    public_key: None,
                    spare: false,
                });
            }
        }
    }
}
