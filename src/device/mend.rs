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
            // It names its locker.
            Step::ManagedThing => has(Step::Locker),
            _ => false,
        };
        self.steps.iter().copied().filter(|it| !waits(it)).collect()
    }
}

/// Whether a step makes something again.
#[must_use]
pub const fn mends(step: Step) -> bool {
    use Step::{AttachPolicy, AttachThing, Certificate, Locker, ManagedThing, Policy, Thing};
    matches!(step, Locker | ManagedThing | Policy | Thing | Certificate | AttachPolicy | AttachThing)
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
        if steps.contains(&Step::ManagedThing) {
            self.managed_things_remade += 1;
        }
        self.mend = (!steps.is_empty()).then(|| Mend { steps, der: der.to_vec() });
    }

    /// A step is done, or can never be; then what was to follow it cannot either. A device that has yet to
    /// pass is known not to have what was not made again: it does not pass without it.
    pub(super) fn mended(&mut self, step: Step, done: bool) {
        let Some(mend) = &mut self.mend else { return };
        let follows = |it: Step| match it {
            Step::AttachPolicy => matches!(step, Step::Policy | Step::Certificate),
            Step::AttachThing => matches!(step, Step::Thing | Step::Certificate),
            Step::ManagedThing => step == Step::Locker,
            _ => false,
        };
        let (over, left) =
            std::mem::take(&mut mend.steps).into_iter().partition(|it| *it == step || !done && follows(*it));
        mend.steps = left;
        if mend.steps.is_empty() {
            self.mend = None;
        }
        if !done && self.state != State::Passed && !self.has_passed_before() {
            self.are_not_there(over);
        }
    }

    /// It is presented again: what was to be made again is made with the rest.
    pub(super) fn mend_with_the_rest(&mut self) {
        if let Some(mend) = self.mend.take() {
            self.are_not_there(mend.steps);
        }
    }

    /// What these steps have made is there no more.
    fn are_not_there(&mut self, steps: BTreeSet<Step>) {
        for step in steps {
            match step {
                Step::Locker => self.done.locker = None,
                Step::ManagedThing => self.done.managed_thing = None,
                Step::Policy => self.done.policy = false,
                Step::Thing => self.done.thing = false,
                // The policy is asked for once more, and so compared, before anything is attached to it.
                Step::AttachPolicy => (self.done.attach_policy, self.done.policy) = (false, false),
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

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use jiff::Timestamp;

    use super::super::article::ArticleNumber;
    use super::super::event::{Admission, Event, Output, PresentationKey, Waited};
    use super::super::operator::Operator;
    use super::super::rules::{ManagedRole, ManagedThingRule};
    use super::super::serial::SerialNumber;
    use super::super::steps::{STATION_ATTRIBUTE, Subject, Verdict};
    use super::super::testing::{DOCUMENT, STATION, plain_rules};
    use super::super::{Certificate, plan};
    use super::*;
    use crate::cloud::{Answer, Call, CertificateStatus, Reply};
    use crate::fixture::FailCode;
    use crate::journal::is_pending;

    const DER: &[u8] = b"a certificate";

    struct Life {
        device: Device,
        seq: u64,
    }

    impl Life {
        /// A device that has passed with all that a device has.
        fn passed() -> Self {
            let mut life = Self::made();
            let presentation = life.device.presentation.key.clone();
            life.takes(Event::Passed {
                presentation,
                directory: None,
                label: false,
                waited: Waited::default(),
            });
            assert!(!is_pending(&life.device) && life.ready().is_empty());
            life
        }

        /// A device that has all that a device has, and has not passed.
        fn made() -> Self {
            let rules = plain_rules("lamp");
            let presentation = PresentationKey { fixture: "nest-1".to_owned(), boot: 1, id: 1 };
            let admission = Admission::of("lamp", rules.id(), presentation);
            let serial = SerialNumber::parse("SN1").unwrap();
            let event = Event::Admitted(Box::new(admission));
            let mut life =
                Self { device: Device::admit(&serial, 1, Timestamp::UNIX_EPOCH, &event).unwrap(), seq: 1 };
            let fingerprint = Fingerprint::of(DER);
            life.takes(Event::Issued {
                certificate: Certificate {
                    fingerprint,
                    der: DER.to_vec(),
                    serial_number: "01".to_owned(),
                    not_after: Timestamp::MAX,
                    key: KeyState::Device,
                    arn: None,
                    public_key: None,
                    issuer: None,
                },
            });
            life.done(
                Step::Locker,
                Output::Locker { id: "locker1".to_owned(), arn: None, others: Vec::new() },
            );
            life.done(Step::Certificate, Output::Certificate { arn: format!("arn:x:cert/{fingerprint}") });
            for step in [Step::Policy, Step::Thing, Step::AttachPolicy, Step::AttachThing] {
                life.done(step, Output::Nothing);
            }
            life
        }

        /// Its fixture could not take what it was to be given.
        fn fails(&mut self) {
            let presentation = self.device.presentation.key.clone();
            let (code, message) = (FailCode::Rejected, "the unit did not take it".to_owned());
            self.takes(Event::Failed { presentation, code, message });
        }

        fn is_presented(&mut self) {
            let presentation = PresentationKey { fixture: "nest-1".to_owned(), boot: 1, id: 2 };
            self.takes(Event::Presented {
                presentation,
                nest: None,
                mac: None,
                anew: None,
                attributes: BTreeMap::new(),
            });
        }

        fn is_complete(&self) -> bool {
            plan::is_complete(&self.device, &plain_rules("lamp"))
        }

        fn takes(&mut self, event: Event) {
            self.seq += 1;
            self.device.apply(self.seq, Timestamp::UNIX_EPOCH, &event).unwrap();
        }

        fn refuses(&self, event: &Event) {
            self.device.clone().apply(self.seq + 1, Timestamp::UNIX_EPOCH, event).unwrap_err();
        }

        fn done(&mut self, step: Step, output: Output) {
            self.takes(Event::StepDone { step, output, adopted: false, request_id: None });
        }

        fn ready(&self) -> Vec<Step> {
            plan::ready(&self.device, &plain_rules("lamp"))
        }

        fn call(&self, step: Step) -> Call {
            let rules = plain_rules("lamp");
            Subject { device: &self.device, rules: &rules, ca_pem: "" }.call(step).unwrap()
        }
    }

    impl Life {
        fn verdict(&self, step: Step, call: &Call, reply: Reply) -> Verdict {
            let rules = plain_rules("lamp");
            let answer = Ok(Answer { reply, request_id: Some("r".to_owned()) });
            Subject { device: &self.device, rules: &rules, ca_pem: "" }.judge(step, call, &answer)
        }
    }

    fn by() -> Operator {
        Operator { uid: 0, name: "root".to_owned(), reason: "why".to_owned() }
    }

    fn mending(steps: &[Step]) -> Event {
        let der = if steps.contains(&Step::Certificate) { DER.to_vec() } else { Vec::new() };
        Event::Mending { by: by(), steps: steps.to_vec(), der }
    }

    #[test]
    fn what_is_gone_is_made_again_and_what_hangs_on_it_after_that() {
        use Step::{AttachPolicy, AttachThing, Certificate, Locker, Policy, Thing};
        let mut life = Life::passed();
        let first = life.call(Locker);
        life.takes(mending(&[Locker, Policy, Thing, Certificate, AttachPolicy, AttachThing]));
        assert!(is_pending(&life.device), "a restart goes on with it");
        life.refuses(&mending(&[Locker]));
        assert_eq!(life.ready(), [Locker, Policy, Thing, Certificate]);
        assert_ne!(life.call(Locker), first, "AWS may know the first token for the locker that is gone");
        let Call::RegisterCertificateWithoutCa { certificate_pem } = life.call(Certificate) else { panic!() };
        assert_eq!(certificate_pem, *crate::pki::to_pem("CERTIFICATE", DER), "the same one");
        life.done(Locker, Output::Locker { id: "locker2".to_owned(), arn: None, others: Vec::new() });
        life.done(Certificate, Output::Certificate { arn: "arn:x".to_owned() });
        assert_eq!(life.ready(), [Policy, Thing]);
        life.done(Policy, Output::Nothing);
        assert_eq!(life.ready(), [Thing, AttachPolicy]);
        life.takes(Event::MendFailed { step: Thing, message: "it is another's".to_owned() });
        assert_eq!(life.ready(), [AttachPolicy], "nothing is attached to what is not there");
        life.done(AttachPolicy, Output::Nothing);
        assert_eq!((life.ready(), life.device.state), (Vec::new(), State::Passed));
        assert_eq!(life.device.done.locker.as_deref(), Some("locker2"));
        assert!(!is_pending(&life.device));
    }

    #[test]
    fn a_managed_thing_is_made_again_in_its_locker_and_under_another_token() {
        use Step::{DeleteManagedThing, Locker, ManagedThing};
        let mut rules = plain_rules("lamp");
        rules.article = Some(ArticleNumber::parse("036000291452").unwrap());
        rules.managed_thing = Some(ManagedThingRule { role: ManagedRole::Device });
        let call = |life: &Life, step| {
            Subject { device: &life.device, rules: &rules, ca_pem: "" }.call(step).unwrap()
        };
        let made = |id: &str| Output::ManagedThing { id: id.to_owned(), arn: None };
        let mut life = Life::passed();
        life.done(ManagedThing, made("managed1"));
        let first = call(&life, ManagedThing);
        life.takes(mending(&[ManagedThing, Locker]));
        assert_eq!(life.ready(), [Locker], "it names its locker");
        life.done(Locker, Output::Locker { id: "locker2".to_owned(), arn: None, others: Vec::new() });
        assert_eq!(life.ready(), [ManagedThing]);
        let second = call(&life, ManagedThing);
        let token = |it: &Call| match it {
            Call::CreateManagedThing { client_token, locker, .. } => (client_token.clone(), locker.clone()),
            other => panic!("{other:?}"),
        };
        assert_ne!(
            token(&first).0,
            token(&second).0,
            "AWS may know the first token for the one that is gone"
        );
        assert_eq!(token(&second).1.as_deref(), Some("locker2"));
        life.done(ManagedThing, made("managed2"));
        assert_eq!((life.ready(), life.device.done.managed_thing.as_deref()), (Vec::new(), Some("managed2")));
        // Without its locker it is not made.
        life.takes(mending(&[ManagedThing, Locker]));
        life.takes(Event::MendFailed { step: Locker, message: "the account is full".to_owned() });
        assert_eq!((&life.device.mend, life.device.done.managed_thing.as_deref()), (&None, Some("managed2")));
        let scrapping = Event::Scrapping {
            presentation: None,
            by: by(),
            policy: None,
            message: String::new(),
            asked: false,
            managed_thing: true,
        };
        // Given up while its locker is awaited: nobody has asked for one in it.
        let mut waits = Life { device: life.device.clone(), seq: life.seq };
        waits.takes(mending(&[ManagedThing, Locker]));
        waits.takes(scrapping.clone());
        assert_eq!(
            call(&waits, DeleteManagedThing),
            Call::DeleteManagedThing { id: "managed2".to_owned() },
            "not made in a locker that is gone, to be deleted"
        );
        // Given up while its answer is awaited: the token finds what was made, so that it is deleted.
        life.takes(mending(&[ManagedThing]));
        let third = call(&life, ManagedThing);
        life.takes(scrapping);
        assert_eq!(call(&life, DeleteManagedThing), third);
    }

    #[test]
    fn a_device_that_has_yet_to_pass_does_not_pass_without_what_could_not_be_made_again() {
        use Step::{AttachPolicy, AttachThing, Certificate, Locker, Policy, Thing};
        for (gone, failed, anew) in [
            (&[Thing, AttachThing][..], Thing, &[Thing][..]),
            (&[AttachThing], AttachThing, &[AttachThing]),
            (&[Policy, AttachPolicy], Policy, &[Policy]),
            (&[Locker], Locker, &[Locker]),
            // What the policy says is compared once more before it is attached.
            (&[Certificate, AttachPolicy, AttachThing], Certificate, &[Policy, Certificate]),
            (&[AttachPolicy], AttachPolicy, &[Policy]),
        ] {
            let mut life = Life::made();
            life.fails();
            assert!(life.is_complete());
            life.takes(mending(gone));
            life.takes(Event::MendFailed { step: failed, message: "it is another's".to_owned() });
            assert_eq!(life.device.mend, None, "{failed}: nothing more can be done for it now");
            assert!(!life.is_complete());
            life.is_presented();
            assert!(!life.is_complete());
            assert_eq!(life.ready(), anew, "what was not there is made with the rest");
        }
    }

    #[test]
    fn a_device_that_is_tried_again_while_it_is_mended_waits_for_that() {
        let mut life = Life::made();
        life.fails();
        life.takes(mending(&[Step::AttachThing]));
        life.takes(Event::Retried { by: by() });
        assert_eq!(life.device.state, State::Provisioning);
        assert!(!life.is_complete(), "it would be handed over half made");
        life.done(Step::AttachThing, Output::Nothing);
        assert!(life.is_complete());
    }

    /// The order may be carried out hours after the look that it is of.
    #[test]
    fn what_is_attached_again_is_read_right_before() {
        use Step::{AttachPolicy, AttachThing};
        let mut life = Life::passed();
        let attaching = |life: &Life| (life.call(AttachPolicy), life.call(AttachThing));
        let (policy, thing) = attaching(&life);
        assert!(matches!(policy, Call::AttachPolicy { .. }), "a device is made as before");
        assert!(matches!(thing, Call::AttachThingPrincipal { .. }));
        life.takes(mending(&[AttachPolicy, AttachThing]));
        let name = || "SN1".to_owned();
        let looks = (Call::GetPolicy { name: name() }, Call::DescribeThing { name: name() });
        assert_eq!(attaching(&life), looks);

        let document = |document: &str| {
            let document = document.to_owned();
            Reply::Policy { name: name(), arn: String::new(), document }
        };
        let by = |station: &str| Reply::ThingDescription {
            name: name(),
            arn: String::new(),
            attributes: BTreeMap::from([(STATION_ATTRIBUTE.to_owned(), station.to_owned())]),
        };
        for (step, look, attach, right, wrong) in [
            (AttachPolicy, &looks.0, &policy, document(DOCUMENT), document("{}")),
            (AttachThing, &looks.1, &thing, by(STATION), by("L9")),
        ] {
            assert_eq!(life.verdict(step, look, right.clone()), Verdict::Ask(attach.clone()));
            let verdict = life.verdict(step, look, wrong.clone());
            assert!(matches!(verdict, Verdict::Never { .. }), "{step}: {verdict:?}");
            // Presented again while it was read: it is the same attaching.
            let mut presented = Life { device: life.device.clone(), seq: life.seq };
            presented.device.mend = None;
            assert_eq!(presented.verdict(step, look, right), Verdict::Ask(attach.clone()));
            assert!(matches!(presented.verdict(step, look, wrong), Verdict::Never { .. }));
        }
    }

    #[test]
    fn a_certificate_that_somebody_has_made_inactive_meanwhile_stays_so() {
        use Step::{AttachPolicy, AttachThing, Certificate};
        let described = |life: &Life, status| {
            let id = Fingerprint::of(DER).to_string();
            let call = Call::DescribeCertificate { id: id.clone() };
            let arn = format!("arn:x:cert/{id}");
            life.verdict(Certificate, &call, Reply::CertificateDescription { id, arn, status, pem: None })
        };
        let mut life = Life::passed();
        let verdict = described(&life, CertificateStatus::Inactive);
        assert!(matches!(verdict, Verdict::Ask(Call::UpdateCertificate { .. })), "{verdict:?}");
        life.takes(mending(&[Certificate, AttachPolicy, AttachThing]));
        let verdict = described(&life, CertificateStatus::Inactive);
        assert!(matches!(verdict, Verdict::Never { .. }), "{verdict:?}");
        let verdict = described(&life, CertificateStatus::Active);
        assert!(matches!(verdict, Verdict::Done { .. }), "{verdict:?}");
        life.takes(Event::MendFailed { step: Certificate, message: "it is inactive".to_owned() });
        assert_eq!(life.device.mend, None, "nothing is attached to it either");
    }

    #[test]
    fn only_what_rests_is_mended_and_only_by_steps_that_make() {
        let life = Life::passed();
        life.refuses(&mending(&[]));
        life.refuses(&mending(&[Step::DeleteThing]));
        let mut life = Life::passed();
        life.takes(Event::Scrapping {
            presentation: None,
            by: by(),
            policy: None,
            message: String::new(),
            asked: false,
            managed_thing: false,
        });
        life.refuses(&mending(&[Step::Thing]));
    }

    #[test]
    fn an_orphan_is_retired_in_awss_order_and_the_devices_own_certificate_never_is() {
        let mut life = Life::passed();
        let orphan = |der: &[u8]| Orphan {
            fingerprint: Fingerprint::of(der),
            public_key: Fingerprint::of(b"key"),
            arn: "arn:x:cert/orphan".to_owned(),
            policy: Some("SN1".to_owned()),
            thing: Some("elsewhere".to_owned()),
        };
        life.refuses(&Event::OrphanFound { by: by(), orphan: Box::new(orphan(DER)) });
        life.takes(Event::OrphanFound { by: by(), orphan: Box::new(orphan(b"orphan")) });
        life.refuses(&Event::OrphanFound { by: by(), orphan: Box::new(orphan(b"another")) });
        for step in [Step::Deactivate, Step::DetachPolicy, Step::DetachThing, Step::Delete] {
            assert_eq!(life.ready(), [step]);
            if let Call::DetachThingPrincipal { thing, .. } = life.call(step) {
                assert_eq!(thing, "elsewhere");
            }
            life.done(step, Output::Nothing);
        }
        assert!(life.ready().is_empty() && !is_pending(&life.device));
        assert_eq!(life.device.fingerprint(), Some(Fingerprint::of(DER)));
    }
}
