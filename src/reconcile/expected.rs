//! What the account should hold for a device, as the journal has it.

use std::collections::BTreeMap;

use crate::device::rules::{LockerRule, PolicyRule, ProductRules, Register};
use crate::device::steps::Subject;
use crate::device::{Device, State};
use crate::pki::Fingerprint;

/// The lockers that batches' devices share, as the journal has recorded them: their names by their ids. A device's
/// rules do not tell whose a locker is: it may have been made by others.
pub type BatchLockers = BTreeMap<String, String>;

/// What the account should hold for a device. What is not recorded as made is not expected: a device
/// that has failed or is in quarantine may have a part only.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Expected {
    /// Its serial number.
    pub serial: String,
    /// Sequence number of its newest event.
    pub seq: u64,
    /// The station's id, as its thing should bear it.
    pub station: String,
    /// It is scrapped: nothing of it should be there.
    pub gone: bool,
    /// Its thing's name.
    pub thing: String,
    /// Whether the thing should be there.
    pub has_thing: bool,
    /// Its own locker.
    pub locker: Option<WantedLocker>,
    /// Id of its managed thing.
    pub managed_thing: Option<String>,
    /// Id of the locker that this should name; none where it has none.
    pub managed_locker: Option<String>,
    /// Id of the locker that this would go into again, where it is not the device's own.
    pub managed_into: Option<String>,
    /// Its policy.
    pub policy: Option<WantedPolicy>,
    /// Its certificate.
    pub certificate: Option<WantedCertificate>,
    /// Certificates that it had, and that are not told to be gone from its thing.
    pub earlier: Vec<Fingerprint>,
}

/// A device's own locker.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WantedLocker {
    /// Its name.
    pub name: String,
    /// Its id.
    pub id: String,
}

/// The locker that the devices of a batch share.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct SharedLocker {
    /// Its id.
    pub id: String,
    /// Its name.
    pub name: String,
    /// The batch.
    pub batch: String,
}

impl SharedLocker {
    /// The one that `device` was given; none if it has none, or is scrapped.
    #[must_use]
    pub fn of(device: &Device, lockers: &BatchLockers) -> Option<Self> {
        let id = device.done.locker.as_ref().filter(|_| device.state != State::Scrapped)?;
        let name = lockers.get(id)?.clone();
        let batch = device.batch.clone().unwrap_or_default();
        Some(Self { id: id.clone(), name, batch })
    }
}

/// A device's policy.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WantedPolicy {
    /// Its name.
    pub name: String,
    /// The document that is to be in force; none where a person has made the policy.
    pub document: Option<String>,
    /// Whether it is the device's own.
    pub own: bool,
    /// Whether it should be attached to the certificate.
    pub attached: bool,
}

/// A device's certificate.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WantedCertificate {
    /// Its id.
    pub id: Fingerprint,
    /// Its ARN.
    pub arn: String,
    /// Whether it should be active.
    pub active: bool,
    /// Whether it should be attached to the thing.
    pub attached: bool,
    /// Whether the same one can be registered again. One that AWS has issued cannot.
    pub can_return: bool,
}

/// Whether a device is being worked on, so that what the account holds need not be what is recorded.
#[must_use]
pub fn is_in_flight(device: &Device) -> bool {
    device.state.is_unfinished()
        || device.is_scrapping()
        || device.to_retire().is_some()
        || device.state == State::Passed && device.owes_look()
        || device.needs_sweep()
        || device.mend.is_some()
}

impl Expected {
    /// What is expected of `device`, which was made by `rules`, beside the lockers of batches.
    #[must_use]
    pub fn of(device: &Device, rules: &ProductRules, lockers: &BatchLockers) -> Self {
        let subject = Subject { device, rules, ca_pem: "" };
        let gone = device.state == State::Scrapped;
        let jitp = rules.certificate.register == Register::Jitp;
        let earlier = device.superseded.iter().filter(|it| !it.is_retired()).map(|it| it.fingerprint);
        let locker = locker(&subject, lockers).filter(|_| !gone);
        // Rules without one cannot make it again.
        let managed_thing =
            device.done.managed_thing.clone().filter(|_| !gone && rules.managed_thing.is_some());
        let into = subject.locker_id().filter(|_| managed_thing.is_some());
        Self {
            serial: device.serial.to_string(),
            seq: device.last_seq,
            station: rules.station.clone(),
            gone,
            thing: subject.thing_name(),
            has_thing: device.done.thing && !gone,
            managed_into: into.clone().filter(|id| locker.as_ref().is_none_or(|own| own.id != *id)),
            managed_locker: into,
            locker,
            managed_thing,
            policy: policy(&subject).filter(|_| !gone),
            certificate: certificate(device).filter(|_| !gone && !jitp),
            earlier: earlier.collect(),
        }
    }

    /// Whether a thing of this station's would be a mistake there. Another's was left on purpose.
    #[must_use]
    pub fn is_to_be_gone(&self) -> bool {
        self.gone
    }
}

/// By rules that give it none of its own, nor one that it would be given, nothing is made again.
fn locker(subject: &Subject<'_>, lockers: &BatchLockers) -> Option<WantedLocker> {
    let (LockerRule::Device { name, .. } | LockerRule::Batch { name, .. }) = &subject.rules.locker else {
        return None;
    };
    let id = subject.device.done.locker.as_ref().filter(|id| !lockers.contains_key(*id))?;
    Some(WantedLocker { name: subject.fill(name), id: id.clone() })
}

fn policy(subject: &Subject<'_>) -> Option<WantedPolicy> {
    let (rule, done) = (&subject.rules.policy, &subject.device.done);
    let (document, own) = match rule {
        PolicyRule::Device { document, .. } => (Some(document.clone()), true),
        PolicyRule::Product { document, .. } => (Some(document.clone()), false),
        PolicyRule::Given { .. } => (None, false),
        PolicyRule::None => return None,
    };
    let made = done.policy || matches!(rule, PolicyRule::Given { .. });
    let name = subject.policy_name().filter(|_| made)?;
    Some(WantedPolicy { name, document, own, attached: done.attach_policy })
}

fn certificate(device: &Device) -> Option<WantedCertificate> {
    let it = device.certificate.as_ref()?;
    let by_aws = it.public_key.is_some();
    Some(WantedCertificate {
        id: it.fingerprint,
        arn: it.arn.clone()?,
        active: !by_aws || device.done.active,
        attached: device.done.attach_thing,
        can_return: !by_aws,
    })
}
