//! One device: its life as a fold of events.
//!
//! [`Device::apply`] is the only thing that changes a [`Device`]; it runs when an event has just
//! been decided and again when the journal is read, so that both see the same device. What an
//! event may follow is checked there: an event out of place is a typed error, not a surprise.
//!
//! ```text
//!  (unknown) -admitted-> admitted -issued/done-> provisioning -offered-> delivering -passed-> passed
//!                                                     ^                      |                  |
//!                                                     |  presented again      v                  | renewed
//!                                                     +------------------- failed                |
//!                                                     +------------------------------------------+
//!  any of these -quarantined-> quarantined -released-> failed
//!  any of these -scrapping-> quarantined, while the cloud is cleared -scrapped-> scrapped
//! ```

pub mod article;
mod done;
pub mod event;
mod lingering;
pub mod mend;
pub mod operator;
pub mod plan;
mod presentation;
pub mod request;
pub mod retry;
pub mod rules;
pub mod scrap;
pub mod serial;
pub mod steps;
mod superseded;
#[cfg(test)]
pub(crate) mod testing;
mod transitions;

use std::collections::BTreeMap;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use self::event::{Event, Outcome, Output, PresentationKey};
use self::mend::Mend;
use self::request::{CertificateRequest, Doubt};
use self::rules::RulesId;
use self::scrap::Scrap;
use self::serial::{Mac, SerialNumber};
use self::steps::Step;
use crate::fixture::FailCode;
use crate::pki::{DevicePublicKey, Fingerprint};
use crate::sabotage::sabotaged;

pub use self::done::Done;
pub use self::presentation::Presentation;
pub use self::superseded::Superseded;

/// Where a device stands.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize, utoipa::ToSchema,
)]
#[serde(rename_all = "lowercase")]
pub enum State {
    /// It is in the journal; nothing has been done for it yet.
    Admitted,
    /// Its identity is being made.
    Provisioning,
    /// Its credentials are being handed over.
    Delivering,
    /// It has them, and has proved it.
    Passed,
    /// It could not take them; it may be presented again.
    Failed,
    /// A person has to look at it.
    Quarantined,
    /// Given up for good.
    Scrapped,
}

impl State {
    /// Every state, in the order of a device's life.
    pub const ALL: [Self; 7] = [
        Self::Admitted,
        Self::Provisioning,
        Self::Delivering,
        Self::Passed,
        Self::Failed,
        Self::Quarantined,
        Self::Scrapped,
    ];

    /// The word used everywhere outside.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Admitted => "admitted",
            Self::Provisioning => "provisioning",
            Self::Delivering => "delivering",
            Self::Passed => "passed",
            Self::Failed => "failed",
            Self::Quarantined => "quarantined",
            Self::Scrapped => "scrapped",
        }
    }

    /// Whether the cloud still owes the device something.
    #[must_use]
    pub const fn is_unfinished(self) -> bool {
        matches!(self, Self::Admitted | Self::Provisioning | Self::Delivering)
    }
}

/// A device as its events have made it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Device {
    /// Its serial number.
    pub serial: SerialNumber,
    /// What it is.
    pub product: String,
    /// The rules under which it was admitted.
    pub rules: RulesId,
    /// The batch that was open then.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub batch: Option<String>,
    /// It is not on the list of that batch.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub extra: bool,
    /// Its MAC address, where it has told one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mac: Option<Mac>,
    /// Its own public key, where it makes its own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub device_key: Option<DevicePublicKey>,
    /// What else the fixture knew of it.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub attributes: BTreeMap<String, String>,
    /// Where it stands.
    pub state: State,
    /// 1 for the first identity, one more with each rework.
    pub generation: u32,
    /// When it was first presented.
    pub admitted_at: Timestamp,
    /// When it was first presented, if it had come into the journal without that before.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub presented_at: Option<Timestamp>,
    /// When its present generation began, if it is not the first.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub renewed_at: Option<Timestamp>,
    /// When its newest event was decided.
    pub updated_at: Timestamp,
    /// When it passed last.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub passed_at: Option<Timestamp>,
    /// It passed with nobody there to be told: its last presentation had ended before its credentials were
    /// in their directory. Presented once more it is told, whatever its product does with others.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub unclaimed: bool,
    /// Its newest presentation.
    pub presentation: Presentation,
    /// How often it has been presented.
    pub presentations: u32,
    /// What AWS is to issue a certificate for; none once it has.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub request: Option<CertificateRequest>,
    /// The names of private keys whose requests were given up; until they are destroyed.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub useless_keys: Vec<Fingerprint>,
    /// Certificates that may have been made, or may still be made, without anybody knowing.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub doubts: Vec<Doubt>,
    /// Its present certificate.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub certificate: Option<Certificate>,
    /// Certificates that it had before; the last one may still have to be retired.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub superseded: Vec<Superseded>,
    /// How many certificates were issued for it.
    pub certificates_issued: u32,
    /// When the present one was issued; not known of devices recorded by earlier versions.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub issued_at: Option<Timestamp>,
    /// Certificates that it may use up beyond its product's number: one for each release.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub allowance: u32,
    /// A person has let it out of quarantine, and it has not been presented since.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub released: bool,
    /// How far it has been cleared away, once it is given up.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub scrap: Option<Scrap>,
    /// What is made again of it, since the account does not hold it any more.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mend: Option<Mend>,
    /// How often its locker was made again: each time under another client token.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub lockers_remade: u32,
    /// Likewise its managed thing.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub managed_things_remade: u32,
    /// Labels that were written for it.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub labels: u32,
    /// The number of the label that it is owed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub label_due: Option<u32>,
    /// What the cloud holds for it.
    pub done: Done,
    /// Why it failed or is in quarantine.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub failure: Option<Failure>,
    /// Sequence number of its newest event.
    pub last_seq: u64,
}

/// A certificate issued for a device.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Certificate {
    /// SHA-256 of its DER; its id in AWS IoT.
    pub fingerprint: Fingerprint,
    /// The DER; left out of a device's record once it has passed (its event keeps it).
    #[serde(default, skip_serializing_if = "Vec::is_empty", with = "crate::pki::base64_der")]
    pub der: Vec<u8>,
    /// Serial number, lower-case hex.
    pub serial_number: String,
    /// End of its life.
    pub not_after: Timestamp,
    /// Where its private key is.
    pub key: KeyState,
    /// Its ARN, once AWS has it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub arn: Option<String>,
    /// SHA-256 of its public key, if AWS has issued it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub public_key: Option<Fingerprint>,
    /// SHA-256 of the certificate of the station's CA that has issued it; not known of those that earlier
    /// versions recorded.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub issuer: Option<Fingerprint>,
}

impl Certificate {
    /// The name under which its private key is sealed. AWS issues after the key is sealed: then it is
    /// the public key.
    #[must_use]
    pub fn key_id(&self) -> Fingerprint {
        self.public_key.unwrap_or(self.fingerprint)
    }

    /// Whether its device has passed with it: that is when the DER is let go of.
    fn is_confirmed(&self) -> bool {
        self.der.is_empty()
    }
}

/// Where a certificate's private key is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum KeyState {
    /// Sealed on this station, to be delivered.
    Sealed,
    /// Destroyed here.
    Destroyed,
    /// Never was here: the device made it.
    Device,
}

/// For serde: what is zero is left out.
fn is_zero(number: &u32) -> bool {
    *number == 0
}

/// Why a device failed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Failure {
    /// The code told to the fixture.
    pub code: FailCode,
    /// The sentence told to the operator.
    pub message: String,
}

/// An event that cannot follow what went before: a bug, or a journal that was tampered with.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("event {event} cannot follow for {serial}, which is {state}")]
pub struct IllegalTransition {
    /// The event's name.
    pub event: &'static str,
    /// The device.
    pub serial: SerialNumber,
    /// Its state, or "unknown".
    pub state: &'static str,
}

impl Device {
    /// The device that an `admitted` event makes.
    ///
    /// # Errors
    /// Any other event.
    pub fn admit(
        serial: &SerialNumber,
        seq: u64,
        at: Timestamp,
        event: &Event,
    ) -> Result<Self, IllegalTransition> {
        let Event::Admitted(it) = event else {
            return Err(IllegalTransition { event: event.name(), serial: serial.clone(), state: "unknown" });
        };
        Ok(Self {
            serial: serial.clone(),
            product: it.product.clone(),
            rules: it.rules,
            batch: it.batch.clone(),
            extra: it.extra,
            mac: it.mac.clone(),
            device_key: it.device_key.clone(),
            attributes: it.attributes.clone(),
            state: State::Admitted,
            generation: 1,
            admitted_at: at,
            presented_at: None,
            renewed_at: None,
            updated_at: at,
            passed_at: None,
            unclaimed: false,
            presentation: Presentation::begun(&it.presentation, it.nest.as_ref(), at, seq),
            presentations: u32::from(!it.presentation.is_none()),
            request: it.request.clone(),
            useless_keys: Vec::new(),
            doubts: Vec::new(),
            certificate: None,
            superseded: Vec::new(),
            certificates_issued: 0,
            issued_at: None,
            allowance: 0,
            released: false,
            scrap: None,
            mend: None,
            lockers_remade: 0,
            managed_things_remade: 0,
            labels: 0,
            label_due: None,
            done: Done::default(),
            failure: None,
            last_seq: seq,
        })
    }

    /// Takes one more event.
    ///
    /// # Errors
    /// The event cannot follow; the device is as it was.
    pub fn apply(&mut self, seq: u64, at: Timestamp, event: &Event) -> Result<(), IllegalTransition> {
        if !self.may_follow(event) {
            return Err(self.illegal(event));
        }
        match event {
            Event::Admitted(_) | Event::Trouble { .. } => {}
            Event::Presented { presentation, nest, mac, anew, attributes } => {
                self.present(seq, at, presentation, nest.as_ref());
                self.present_again(mac.as_ref(), anew.as_deref());
                self.tell(attributes);
            }
            Event::Repeated { presentation, nest, attributes } => {
                self.repeat(seq, at, presentation, nest.as_ref());
                self.tell(attributes);
            }
            Event::Renewed(it) => self.renew(seq, at, it),
            Event::CsrMade { request } => self.csr_made(at, request),
            Event::CertificateAsked { .. } => self.certificate_asked(at),
            Event::CertificateInDoubt => self.certificate_in_doubt(at),
            Event::SpareFound { fingerprint, public_key } => self.spare_found(*fingerprint, *public_key),
            Event::Issued { certificate } => self.issued(at, certificate),
            Event::StepDone { step: Step::Sweep, .. } => self.swept(at),
            Event::StepDone { step, output, adopted, .. } => {
                self.done.met |= *adopted && matches!(step, Step::Policy | Step::Thing);
                self.step_done(*step, output);
                self.mended(*step, true);
            }
            Event::Mending { steps, der, .. } => self.begin_mending(steps, der),
            Event::MendFailed { step, .. } => self.mended(*step, false),
            Event::OrphanFound { orphan, .. } => self.take_orphan(orphan),
            Event::StepUndone { step } => self.step_undone(*step),
            Event::Offered { .. } => self.state = State::Delivering,
            Event::Passed { presentation, directory, label, .. } => {
                self.pass(at, presentation, directory.is_some(), *label);
            }
            Event::Labelled { number, directory } => self.labelled(*number, directory.is_some()),
            Event::LabelAsked { .. } => self.owe_label(),
            Event::Failed { presentation, code, message } => {
                self.close(presentation, Outcome::failed(*code, message));
                self.state = State::Failed;
                self.failure = Some(Failure { code: *code, message: message.clone() });
            }
            Event::Deferred { presentation, code, message, .. } => {
                self.presentation.defer(presentation, *code, message);
            }
            Event::Closed { presentation, .. } => self.close(presentation, Outcome::Closed),
            Event::Quarantined { presentation, code, message, .. } => {
                self.put_aside(presentation.as_ref(), *code, message);
            }
            Event::KeyDestroyed { fingerprint } => self.key_destroyed(*fingerprint),
            Event::KeyLost { policy, .. } => self.supersede(policy.as_ref()),
            Event::KeyExpired { fingerprint, policy, message } => {
                self.expire(*fingerprint, policy.as_ref(), message);
            }
            Event::Retried { .. } => self.retry(),
            Event::Released { .. } => self.release(),
            Event::Scrapping { presentation, policy, message, asked, managed_thing, .. } => {
                if !asked {
                    self.doubt_what_was_asked(at);
                }
                self.begin_scrap(presentation.as_ref(), policy.as_ref(), message, *managed_thing);
            }
            Event::Scrapped => (self.state, self.label_due) = (State::Scrapped, None),
        }
        self.last_seq = seq;
        self.updated_at = at;
        Ok(())
    }

    /// Whether its newest presentation is open.
    #[must_use]
    pub fn is_open(&self) -> bool {
        self.presentation.outcome.is_none()
    }

    /// The present certificate's fingerprint.
    #[must_use]
    pub fn fingerprint(&self) -> Option<Fingerprint> {
        self.certificate.as_ref().map(|it| it.fingerprint)
    }

    /// Whether it has still to be looked at what else is attached to its thing: AWS knows it from an
    /// earlier life, whose certificates are to be retired. It may pass before that.
    #[must_use]
    pub fn owes_look(&self) -> bool {
        self.done.met && self.done.attach_thing && !self.done.principals && !sabotaged!(EarlierLifeIgnored)
    }

    /// When it was first presented; when it came into the journal, as long as it never was. That decides which shift
    /// it belongs to.
    #[must_use]
    pub fn first_at(&self) -> Timestamp {
        self.presented_at.unwrap_or(self.admitted_at)
    }

    /// Whether it was ever presented.
    #[must_use]
    pub fn was_presented(&self) -> bool {
        self.presentations > 0
    }

    /// Whether its newest event is its first presentation, and it had come into the journal before that.
    #[must_use]
    pub fn comes_late(&self) -> bool {
        self.presented_at.is_some() && self.presentations == 1 && self.presentation.seq == self.last_seq
    }

    /// When its present generation began.
    #[must_use]
    pub fn began_at(&self) -> Timestamp {
        self.renewed_at.unwrap_or(self.admitted_at)
    }

    /// The private keys on this station that are no longer needed, by the names under which they are
    /// sealed: the present one's once the device has passed with it, whatever became of the device since; a
    /// request's once that or the device is given up.
    pub fn keys_to_destroy(&self) -> impl Iterator<Item = Fingerprint> + '_ {
        let present = self
            .certificate
            .iter()
            .filter(|it| it.key == KeyState::Sealed && (it.is_confirmed() || self.gives_up_key()))
            .map(Certificate::key_id);
        let asked = self.request.iter().filter(|it| it.key == KeyState::Sealed && self.scrap.is_some());
        let old = self.superseded.iter().filter(|it| it.key == KeyState::Sealed).map(Superseded::key_id);
        present.chain(asked.map(|it| it.public_key)).chain(self.useless_keys.iter().copied()).chain(old)
    }

    /// Whether the private key of the present certificate is needed no more.
    fn gives_up_key(&self) -> bool {
        self.state == State::Passed || sabotaged!(KeyDestroyedEarly) && self.state == State::Delivering
    }

    /// It comes once more, as what it is: passed.
    fn repeat(&mut self, seq: u64, at: Timestamp, key: &PresentationKey, nest: Option<&String>) {
        self.present(seq, at, key, nest);
        self.presentation.outcome = Some(Outcome::Passed { again: true });
        self.unclaimed = false;
        self.state = State::Passed;
        self.failure = None;
    }

    fn present(&mut self, seq: u64, at: Timestamp, key: &PresentationKey, nest: Option<&String>) {
        self.presentation = Presentation::begun(key, nest, at, seq);
        if self.presentations == 0 {
            self.presented_at = Some(at);
        }
        self.presentations += 1;
        self.released = false;
    }

    fn present_again(&mut self, mac: Option<&Mac>, anew: Option<&event::Admission>) {
        self.mend_with_the_rest();
        if self.mac.is_none() {
            self.mac = mac.cloned();
        }
        if let Some(it) = anew {
            self.begin_anew(it);
        }
        if self.state == State::Failed {
            self.state = State::Provisioning;
            self.failure = None;
        }
    }

    /// A device that has no batch may come into one with what it gets anew. One that has, keeps it.
    fn join(&mut self, it: &event::Admission) {
        if self.batch.is_none() {
            self.batch.clone_from(&it.batch);
            self.extra = it.extra;
        }
    }

    fn close(&mut self, key: &PresentationKey, outcome: Outcome) {
        self.presentation.close(key, outcome);
    }

    fn renew(&mut self, seq: u64, at: Timestamp, it: &event::Admission) {
        self.present(seq, at, &it.presentation, it.nest.as_ref());
        self.mend_with_the_rest();
        self.generation += 1;
        self.unclaimed = false;
        self.renewed_at = Some(at);
        self.state = State::Provisioning;
        self.failure = None;
        self.request.clone_from(&it.request);
        self.device_key.clone_from(&it.device_key);
        self.attributes.clone_from(&it.attributes);
        self.join(it);
        self.supersede(it.replaces_policy.as_ref());
        let other_mac = it.mac.is_some() && it.mac != self.mac;
        if other_mac {
            self.mac.clone_from(&it.mac);
        }
        // Other rules or another MAC address may mean other names.
        if self.rules != it.rules || other_mac {
            self.rules = it.rules;
            self.rename(it.replaces_thing.as_ref());
        }
    }

    /// What its fixture knows of it now stands for what was known; a fixture that knows nothing changes nothing.
    fn tell(&mut self, attributes: &BTreeMap<String, String>) {
        if !attributes.is_empty() {
            self.attributes.clone_from(attributes);
        }
    }

    /// It has never passed, and a person has let it out of quarantine: what was wrong with its rules may be
    /// put right by now. A request that AWS may have answered stays what it is.
    fn begin_anew(&mut self, it: &event::Admission) {
        self.supersede(it.replaces_policy.as_ref());
        if self.request.is_none() {
            self.request.clone_from(&it.request);
        }
        if it.device_key.is_some() {
            self.device_key.clone_from(&it.device_key);
        }
        self.attributes.clone_from(&it.attributes);
        self.join(it);
        if self.rules != it.rules {
            self.rules = it.rules;
            self.rename(it.replaces_thing.as_ref());
        }
    }

    fn pass(&mut self, at: Timestamp, presentation: &PresentationKey, into_directory: bool, label: bool) {
        if label {
            self.owe_label();
        }
        self.unclaimed = into_directory && !self.is_open();
        self.close(presentation, Outcome::Passed { again: false });
        if self.presentation.outcome.is_none() {
            self.presentation.outcome = Some(Outcome::Passed { again: false });
        }
        self.state = State::Passed;
        self.passed_at = Some(at);
        self.failure = None;
        if let Some(certificate) = &mut self.certificate {
            certificate.der = Vec::new();
        }
    }

    fn step_done(&mut self, step: Step, output: &Output) {
        match (step, output) {
            (Step::Locker, Output::Locker { id, arn, .. }) => {
                self.done.locker = Some(id.clone());
                self.done.locker_arn.clone_from(arn);
            }
            (Step::Certificate, Output::Certificate { arn }) => match &mut self.certificate {
                Some(certificate) => certificate.arn = Some(arn.clone()),
                None => self.named_late(arn),
            },
            (Step::ManagedThing, Output::ManagedThing { id, .. }) => {
                self.done.managed_thing = Some(id.clone());
            }
            (Step::Policy, _) => self.done.policy = true,
            (Step::Thing, _) => self.done.thing = true,
            (Step::Activate, _) => self.done.active = true,
            (Step::AttachPolicy, _) => self.done.attach_policy = true,
            (Step::AttachThing, _) => self.done.attach_thing = true,
            (Step::Verify | Step::Connect, _) => self.done.proved = true,
            (
                Step::Deactivate
                | Step::DetachPolicy
                | Step::DetachThing
                | Step::Delete
                | Step::DeleteCertificate,
                _,
            ) => {
                self.retired(step);
            }
            (step, _) if step.clears() => self.cleared(step, output),
            (Step::Principals, Output::Principals { others, policy }) => {
                self.done.principals = true;
                self.inherit(others, policy.as_ref());
            }
            _ => {}
        }
        if self.state == State::Admitted {
            self.state = State::Provisioning;
        }
    }

    fn step_undone(&mut self, step: Step) {
        match step {
            Step::Policy => self.done.policy = false,
            Step::Thing => self.done.thing = false,
            Step::Certificate => self.nothing_came_of_it(),
            _ => {}
        }
    }

    fn key_destroyed(&mut self, key: Fingerprint) {
        if let Some(it) = self.certificate.as_mut().filter(|it| it.key_id() == key) {
            it.key = KeyState::Destroyed;
        }
        if let Some(it) = self.request.as_mut().filter(|it| it.public_key == key) {
            it.key = KeyState::Destroyed;
        }
        self.useless_keys.retain(|it| *it != key);
        for it in self.superseded.iter_mut().filter(|it| it.key_id() == key) {
            it.key = KeyState::Destroyed;
        }
    }
}
