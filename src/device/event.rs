//! What can happen to a device. These are the journal's records; their names and members are
//! read again years later, so they only ever grow.

use std::collections::BTreeMap;
use std::fmt;

use serde::{Deserialize, Serialize};

use super::Certificate;
use super::mend::Orphan;
use super::operator::Operator;
use super::request::CertificateRequest;
use super::rules::RulesId;
use super::serial::Mac;
use super::steps::Step;
use crate::fixture::FailCode;
use crate::pki::{DevicePublicKey, Fingerprint};

/// Which presentation: one unit in one nest, once.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct PresentationKey {
    /// The fixture's name.
    pub fixture: String,
    /// The fixture's number of its last reset.
    pub boot: u64,
    /// The fixture's number for the presentation.
    pub id: u64,
}

impl PresentationKey {
    /// Whether it stands for no presentation: fixtures count from 1, and a device that came into the journal without
    /// having been presented has the number 0.
    #[must_use]
    pub const fn is_none(&self) -> bool {
        self.id == 0
    }
}

impl fmt::Display for PresentationKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}/{}", self.fixture, self.boot, self.id)
    }
}

/// What a device in a nest waited for while its identity was made, milliseconds. Where it waited for several
/// things at the same time the first of them in this order counts.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Waited {
    /// For AWS to answer, or to be reached.
    #[serde(rename = "cloud_ms", default, skip_serializing_if = "is_zero")]
    pub cloud: u64,
    /// For a call's turn under AWS's limits.
    #[serde(rename = "quota_ms", default, skip_serializing_if = "is_zero")]
    pub quota: u64,
    /// For a record to be on disk, without which nothing is asked of AWS.
    #[serde(rename = "journal_ms", default, skip_serializing_if = "is_zero")]
    pub journal: u64,
}

impl Waited {
    /// Adds what it waited for another time.
    pub fn add(&mut self, other: &Self) {
        self.cloud += other.cloud;
        self.quota += other.quota;
        self.journal += other.journal;
    }

    /// Whether it waited for nothing, or nobody knows.
    #[must_use]
    pub fn is_nothing(&self) -> bool {
        *self == Self::default()
    }
}

/// For serde: what is zero is left out.
#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde wants a reference")]
fn is_zero(number: &u64) -> bool {
    *number == 0
}

/// How a presentation ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "outcome", rename_all = "lowercase")]
pub enum Outcome {
    /// `pass` was answered.
    Passed {
        /// It had passed before.
        #[serde(default)]
        again: bool,
    },
    /// `fail` was answered.
    Failed {
        /// The code.
        code: FailCode,
        /// The sentence.
        message: String,
    },
    /// It ended without an answer: the fixture was reset, or presented another unit in that nest.
    Closed,
}

impl Outcome {
    /// A failed one.
    #[must_use]
    pub fn failed(code: FailCode, message: &str) -> Self {
        Self::Failed { code, message: message.to_owned() }
    }
}

/// Something that happened to a device.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "event", rename_all = "kebab-case")]
pub enum Event {
    /// It was presented for the first time.
    Admitted(Box<Admission>),
    /// It was presented again, unfinished or failed.
    Presented {
        /// Which presentation.
        presentation: PresentationKey,
        /// The nest.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        nest: Option<String>,
        /// A MAC address that it had not told before.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        mac: Option<Mac>,
        /// A person had let it out of quarantine before it ever passed: it is made by the rules of now.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        anew: Option<Box<Admission>>,
        /// What else the fixture knew of it this time.
        #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
        attributes: BTreeMap<String, String>,
    },
    /// It had passed and was presented again; the answer was `pass` again.
    Repeated {
        /// Which presentation.
        presentation: PresentationKey,
        /// The nest.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        nest: Option<String>,
        /// What else the fixture knew of it this time.
        #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
        attributes: BTreeMap<String, String>,
    },
    /// It had passed and gets a new identity.
    Renewed(Box<Admission>),
    /// A certificate signing request was made for AWS; its private key is sealed on disk.
    CsrMade {
        /// The request.
        request: CertificateRequest,
    },
    /// AWS is asked for a certificate: on disk before the call, since AWS makes one at each call.
    CertificateAsked {
        /// Which time it is for this request, from 1.
        attempt: u32,
    },
    /// Nobody knows whether the certificate asked for was made. It is looked for before it is asked for
    /// again.
    CertificateInDoubt,
    /// A certificate that was made for this device beside its own: AWS carried out a call whose answer
    /// was lost. It is deleted.
    SpareFound {
        /// Which one.
        fingerprint: Fingerprint,
        /// SHA-256 of its public key, by which it is known as this device's.
        public_key: Fingerprint,
    },
    /// A certificate was issued; its private key, if the station made it, is sealed on disk.
    Issued {
        /// The certificate.
        certificate: Certificate,
    },
    /// A step in the cloud is done.
    StepDone {
        /// Which.
        step: Step,
        /// What is kept of the answer.
        output: Output,
        /// It was there already, and is ours.
        #[serde(default, skip_serializing_if = "std::ops::Not::not")]
        adopted: bool,
        /// AWS's id of the request, for support cases.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        request_id: Option<String>,
    },
    /// What a step had made is not to be found any more: it is made again. Of `certificate`: what was
    /// intended was certainly not done.
    StepUndone {
        /// Which.
        step: Step,
    },
    /// A step did not go through; it is tried again. At most a few are kept for each step.
    Trouble {
        /// Which.
        step: Step,
        /// What the cloud said, in one line.
        message: String,
        /// How often it has been tried.
        attempt: u32,
        /// AWS's id of the request.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        request_id: Option<String>,
    },
    /// The credentials go to the fixture.
    Offered {
        /// For which presentation.
        presentation: PresentationKey,
        /// What the device has waited for since it was presented, as far as no earlier record tells it.
        #[serde(default, skip_serializing_if = "Waited::is_nothing")]
        waited: Waited,
    },
    /// The device holds its present certificate and has proved it.
    Passed {
        /// In which presentation.
        presentation: PresentationKey,
        /// The directory that its credentials were put into, where its fixture could not store them: the
        /// files are on disk.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        directory: Option<String>,
        /// It gets a label.
        #[serde(default, skip_serializing_if = "std::ops::Not::not")]
        label: bool,
        /// What the device has waited for since it was presented, as far as no earlier record tells it.
        #[serde(default, skip_serializing_if = "Waited::is_nothing")]
        waited: Waited,
    },
    /// A label that the device is owed is on disk, or is none any more.
    Labelled {
        /// Which: the first is 1, each later one is a copy.
        number: u32,
        /// Where; none if the configuration wants no more labels of the product.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        directory: Option<String>,
    },
    /// A person wants one more label of it.
    LabelAsked {
        /// Who, and why.
        by: Operator,
    },
    /// The device could not take its credentials.
    Failed {
        /// In which presentation.
        presentation: PresentationKey,
        /// Why.
        code: FailCode,
        /// What the operator was told.
        message: String,
    },
    /// The presentation ended with `fail`, the work on the device goes on.
    Deferred {
        /// Which presentation.
        presentation: PresentationKey,
        /// Why.
        code: FailCode,
        /// What the operator was told.
        message: String,
        /// What the device has waited for since it was presented, as far as no earlier record tells it.
        #[serde(default, skip_serializing_if = "Waited::is_nothing")]
        waited: Waited,
    },
    /// The presentation ended without an answer.
    Closed {
        /// Which presentation.
        presentation: PresentationKey,
        /// Why.
        why: CloseReason,
        /// What the device has waited for since it was presented, as far as no earlier record tells it.
        #[serde(default, skip_serializing_if = "Waited::is_nothing")]
        waited: Waited,
    },
    /// A person has to look at it.
    Quarantined {
        /// The presentation that ends with it.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        presentation: Option<PresentationKey>,
        /// Why.
        code: FailCode,
        /// What the operator was told.
        message: String,
        /// What the device has waited for since it was presented, as far as no earlier record tells it.
        #[serde(default, skip_serializing_if = "Waited::is_nothing")]
        waited: Waited,
    },
    /// A private key was destroyed on this station.
    KeyDestroyed {
        /// Its certificate; its public key, where AWS has issued the certificate.
        fingerprint: Fingerprint,
    },
    /// The private key of the present certificate is not on this station any more (a restore
    /// without the key files), or the CA that has issued it: a new certificate takes its place.
    KeyLost {
        /// Its certificate.
        fingerprint: Fingerprint,
        /// The policy that may be attached to it.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        policy: Option<String>,
    },
    /// The private key of the present certificate, or of a request that nobody follows up, has lain here for
    /// longer than undelivered ones are kept: it is destroyed and the certificate deactivated. Presented again,
    /// the device gets another.
    KeyExpired {
        /// Its certificate; its public key, where none is issued.
        fingerprint: Fingerprint,
        /// The policy that may be attached to it.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        policy: Option<String>,
        /// What the operator reads.
        message: String,
    },
    /// A person has told the station to try again now.
    Retried {
        /// Who, and why.
        by: Operator,
    },
    /// A person has let it out of quarantine; it may use up one certificate more.
    Released {
        /// Who, and why.
        by: Operator,
    },
    /// A person has given it up: what it has in the cloud is deactivated and deleted from now on.
    Scrapping {
        /// The presentation that ends with it.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        presentation: Option<PresentationKey>,
        /// Who, and why.
        by: Operator,
        /// The policy that may be attached to the present certificate.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        policy: Option<String>,
        /// What the fixture was told.
        message: String,
        /// The call for its certificate is out: what comes of it is recorded yet.
        #[serde(default, skip_serializing_if = "std::ops::Not::not")]
        asked: bool,
        /// It has a managed thing, or its product has them: its own is deleted too.
        #[serde(default, skip_serializing_if = "std::ops::Not::not")]
        managed_thing: bool,
    },
    /// Nothing of it is left, here or in the cloud.
    Scrapped,
    /// A person has had the account looked through: what is not there any more is made again.
    Mending {
        /// Who, and why.
        by: Operator,
        /// By these steps.
        steps: Vec<Step>,
        /// The certificate, if it is registered again.
        #[serde(default, skip_serializing_if = "Vec::is_empty", with = "crate::pki::base64_der")]
        der: Vec<u8>,
    },
    /// Something cannot be made again: a person has to look at it.
    MendFailed {
        /// By this step.
        step: Step,
        /// Why.
        message: String,
    },
    /// A person has had the account looked through: a certificate that bears this device's name, or was
    /// its own, is no device's. It is deactivated and deleted.
    OrphanFound {
        /// Who, and why.
        by: Operator,
        /// Which certificate, and what it is attached to.
        #[serde(flatten)]
        orphan: Box<Orphan>,
    },
}

/// What is known of a device when it gets an identity.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Admission {
    /// What it is.
    pub product: String,
    /// The rules it is made by.
    pub rules: RulesId,
    /// The batch that it comes into; none if it has one already.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub batch: Option<String>,
    /// It is not on the list of that batch.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub extra: bool,
    /// Which presentation.
    pub presentation: PresentationKey,
    /// The nest.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub nest: Option<String>,
    /// Its MAC address.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mac: Option<Mac>,
    /// Its own public key.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub device_key: Option<DevicePublicKey>,
    /// Its certificate signing request, where AWS gets it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub request: Option<CertificateRequest>,
    /// What else the fixture knows.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub attributes: BTreeMap<String, String>,
    /// With a renewal: the policy that is attached to the certificate that is replaced.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub replaces_policy: Option<String>,
    /// With a renewal after which the thing has another name: the one that it had, to which the certificates
    /// of before are attached.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub replaces_thing: Option<String>,
}

impl Admission {
    /// Of a presentation that tells nothing but the serial number, into no batch.
    #[must_use]
    pub fn of(product: &str, rules: RulesId, presentation: PresentationKey) -> Self {
        Self {
            product: product.to_owned(),
            rules,
            batch: None,
            extra: false,
            presentation,
            nest: None,
            mac: None,
            device_key: None,
            request: None,
            attributes: BTreeMap::new(),
            replaces_policy: None,
            replaces_thing: None,
        }
    }
}

/// What is kept of a step's answer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "made", rename_all = "lowercase")]
pub enum Output {
    /// Nothing but that it is done.
    Nothing,
    /// A locker.
    Locker {
        /// Its id.
        id: String,
        /// Its ARN.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        arn: Option<String>,
        /// Further lockers of the same name that were made since: not linemint's to touch.
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        others: Vec<String>,
    },
    /// What else is attached to the thing: certificates of an earlier life that this journal knows
    /// nothing of. They are retired when the new one is confirmed.
    Principals {
        /// Their ARNs.
        others: Vec<String>,
        /// The policy that may be attached to them.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        policy: Option<String>,
    },
    /// A registered certificate.
    Certificate {
        /// Its ARN.
        arn: String,
    },
    /// A managed thing.
    #[serde(rename = "managed-thing")]
    ManagedThing {
        /// Its id.
        id: String,
        /// Its ARN.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        arn: Option<String>,
    },
    /// It was not deleted, since it is another's.
    Left,
}

/// Why a presentation ended without an answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum CloseReason {
    /// The fixture was reset.
    NewBoot,
    /// The fixture presented another unit in the same nest.
    NewUnit,
    /// The fixture has been away for too long.
    FixtureAway,
}

impl Event {
    /// Its name in the journal.
    #[must_use]
    pub const fn name(&self) -> &'static str {
        match self {
            Self::Admitted(_) => "admitted",
            Self::Presented { .. } => "presented",
            Self::Repeated { .. } => "repeated",
            Self::Renewed(_) => "renewed",
            Self::CsrMade { .. } => "csr-made",
            Self::CertificateAsked { .. } => "certificate-asked",
            Self::CertificateInDoubt => "certificate-in-doubt",
            Self::SpareFound { .. } => "spare-found",
            Self::Issued { .. } => "issued",
            Self::StepDone { .. } => "step-done",
            Self::StepUndone { .. } => "step-undone",
            Self::Trouble { .. } => "trouble",
            Self::Offered { .. } => "offered",
            Self::Passed { .. } => "passed",
            Self::Labelled { .. } => "labelled",
            Self::LabelAsked { .. } => "label-asked",
            Self::Failed { .. } => "failed",
            Self::Deferred { .. } => "deferred",
            Self::Closed { .. } => "closed",
            Self::Quarantined { .. } => "quarantined",
            Self::KeyDestroyed { .. } => "key-destroyed",
            Self::KeyLost { .. } => "key-lost",
            Self::KeyExpired { .. } => "key-expired",
            Self::Retried { .. } => "retried",
            Self::Released { .. } => "released",
            Self::Scrapping { .. } => "scrapping",
            Self::Scrapped => "scrapped",
            Self::Mending { .. } => "mending",
            Self::MendFailed { .. } => "mend-failed",
            Self::OrphanFound { .. } => "orphan-found",
        }
    }

    /// What is known of the device, where it gets an identity, or another.
    #[must_use]
    pub fn admission(&self) -> Option<&Admission> {
        match self {
            Self::Admitted(it) | Self::Renewed(it) => Some(it),
            Self::Presented { anew, .. } => anew.as_deref(),
            _ => None,
        }
    }

    /// What the device has waited for, if it tells that.
    #[must_use]
    pub fn waited(&self) -> Option<&Waited> {
        match self {
            Self::Offered { waited, .. }
            | Self::Passed { waited, .. }
            | Self::Deferred { waited, .. }
            | Self::Closed { waited, .. }
            | Self::Quarantined { waited, .. } => Some(waited),
            _ => None,
        }
    }

    /// The presentation that it opens (with no outcome) or ends.
    #[must_use]
    pub fn presentation(&self) -> Option<(&PresentationKey, Option<Outcome>)> {
        match self {
            Self::Admitted(it) | Self::Renewed(it) => Some((&it.presentation, None)),
            Self::Presented { presentation, .. } => Some((presentation, None)),
            Self::Repeated { presentation, .. } => {
                Some((presentation, Some(Outcome::Passed { again: true })))
            }
            Self::Passed { presentation, .. } => Some((presentation, Some(Outcome::Passed { again: false }))),
            Self::Failed { presentation, code, message }
            | Self::Deferred { presentation, code, message, .. }
            | Self::Quarantined { presentation: Some(presentation), code, message, .. } => {
                Some((presentation, Some(Outcome::failed(*code, message))))
            }
            Self::Closed { presentation, .. } => Some((presentation, Some(Outcome::Closed))),
            Self::Scrapping { presentation: Some(presentation), message, .. } => {
                Some((presentation, Some(Outcome::failed(FailCode::Quarantined, message))))
            }
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    /// Journals of before it was told say nothing of it.
    #[test]
    fn what_was_waited_for_is_a_member_only_where_it_is_known() {
        let presentation = json!({ "fixture": "nest-1", "boot": 7, "id": 3 });
        let of = |rest: Value| {
            let mut event = json!({ "presentation": presentation });
            event.as_object_mut().unwrap().extend(rest.as_object().unwrap().clone());
            event
        };
        let events = [
            of(json!({ "event": "offered" })),
            of(json!({ "event": "passed" })),
            of(json!({ "event": "deferred", "code": "timeout", "message": "m" })),
            of(json!({ "event": "closed", "why": "new-unit" })),
            of(json!({ "event": "quarantined", "code": "conflict", "message": "m" })),
        ];
        for old in events {
            let event: Event = serde_json::from_value(old.clone()).unwrap();
            assert_eq!(event.waited(), Some(&Waited::default()), "{old}");
            assert_eq!(serde_json::to_value(&event).unwrap(), old);
            let mut told = old.clone();
            told["waited"] = json!({ "cloud_ms": 5_000, "journal_ms": 3 });
            let event: Event = serde_json::from_value(told.clone()).unwrap();
            assert_eq!(event.waited(), Some(&Waited { cloud: 5_000, quota: 0, journal: 3 }), "{told}");
            assert_eq!(serde_json::to_value(&event).unwrap(), told);
        }
    }
}
