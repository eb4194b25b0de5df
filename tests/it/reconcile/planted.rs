//! Differences between account and journal, made through AWS's own API.

use std::collections::{BTreeMap, BTreeSet};

use linemint::clock::{SystemClock, TimeSource as _};
use linemint::cloud::{Call, CertificateStatus, Reply};
use linemint::pki::issuer::StationIssuer;
use linemint::pki::{Issuer as _, LeafKey, LeafRequest, to_pem};
use linemint::reconcile::Class;
use zeroize::Zeroizing;

use super::ca_of;
use crate::harness::World;

const OTHER_DOCUMENT: &str =
    r#"{"Version":"2012-10-17","Statement":[{"Effect":"Deny","Action":"*","Resource":"*"}]}"#;

/// What was planted.
pub(super) struct Planted {
    /// Class and serial.
    pub(super) all: BTreeSet<(Class, String)>,
    /// Certificates, things and lockers that nobody may touch.
    untouched: Vec<Call>,
}

/// What the account holds for a device.
pub(super) struct Part {
    pub(super) serial: String,
    certificate: String,
    pub(super) arn: String,
    locker: String,
}

impl Part {
    pub(super) fn detach_policy(&self) -> Call {
        Call::DetachPolicy { policy: self.serial.clone(), target: self.arn.clone() }
    }

    fn attach_policy(&self) -> Call {
        Call::AttachPolicy { policy: self.serial.clone(), target: self.arn.clone() }
    }

    fn detach_thing(&self) -> Call {
        Call::DetachThingPrincipal { thing: self.serial.clone(), principal: self.arn.clone() }
    }

    pub(super) fn delete_policy(&self) -> Call {
        Call::DeletePolicy { name: self.serial.clone() }
    }

    fn delete_thing(&self) -> Call {
        Call::DeleteThing { name: self.serial.clone() }
    }

    fn delete_locker(&self) -> Call {
        Call::DeleteCredentialLocker { id: self.locker.clone() }
    }

    fn deactivate(&self) -> Call {
        Call::UpdateCertificate { id: self.certificate.clone(), status: CertificateStatus::Inactive }
    }

    pub(super) fn delete_certificate(&self) -> Vec<Call> {
        let delete = Call::DeleteCertificate { id: self.certificate.clone() };
        vec![self.detach_policy(), self.detach_thing(), self.deactivate(), delete]
    }

    fn delete_all(&self) -> Vec<Call> {
        let mut calls = self.delete_certificate();
        calls.extend([self.delete_policy(), self.delete_thing(), self.delete_locker()]);
        calls
    }

    /// A half is left, in one of six ways.
    fn halve(&self, way: usize) -> Vec<Call> {
        match way % 6 {
            0 => vec![self.delete_locker()],
            1 => vec![self.detach_policy()],
            2 => vec![self.detach_thing()],
            3 => vec![self.detach_policy(), self.delete_policy()],
            4 => vec![self.detach_thing(), self.delete_thing()],
            _ => self.delete_certificate(),
        }
    }
}

impl Planted {
    /// Devices that `plant` uses up for one of each class.
    pub(super) const DEVICES: usize = 8;

    /// Devices that `lose` uses up.
    pub(super) const LOST: usize = 4;

    /// Plants `each` of every class.
    pub(super) fn plant(world: &World, serials: &[String], each: usize) -> Self {
        let parts = parts(world);
        let mut rest = serials.iter().map(|it| &parts[it]);
        let mut planted = Self { all: BTreeSet::new(), untouched: Vec::new() };
        let mut calls = Vec::new();
        let signer = Signer::of(world);
        for number in 0..each {
            let mut next = |class: Class, all: &mut BTreeSet<_>| {
                let part = rest.next().unwrap();
                all.insert((class, part.serial.clone()));
                part
            };
            let all = &mut planted.all;
            calls.extend(next(Class::Missing, all).delete_all());
            calls.extend(next(Class::HalfMade, all).halve(number));
            calls.push(next(Class::Inactive, all).deactivate());
            let it = next(Class::PolicyDiffers, all);
            calls.extend([it.detach_policy(), it.delete_policy()]);
            calls.extend([policy(&it.serial, OTHER_DOCUMENT), it.attach_policy()]);
            let it = next(Class::AttachedToAnother, all);
            let other = format!("bystander-{number}");
            calls.push(thing(&other, None));
            calls.push(Call::AttachThingPrincipal { thing: other.clone(), principal: it.arn.clone() });
            planted.untouched.push(Call::DescribeThing { name: other });
            let it = next(Class::DuplicatedLocker, all);
            calls.push(locker(&it.serial, number));
            let it = next(Class::NotOurs, all);
            let owner = (number % 2 == 0).then_some("L9-S99");
            calls.extend([it.detach_thing(), it.delete_thing(), thing(&it.serial, owner)]);
            planted.untouched.push(Call::DescribeThing { name: it.serial.clone() });
            let it = next(Class::OrphanedCertificate, all);
            calls.push(signer.register(&it.serial));
            let extra = format!("SNEXTRA{number:06}");
            all.insert((Class::Extra, extra.clone()));
            calls.push(thing(&extra, Some("IT")));
        }
        // Other people's things are no finding.
        calls.push(thing("somebody-elses", None));
        calls.push(policy("somebody-elses", OTHER_DOCUMENT));
        planted.untouched.push(Call::GetPolicy { name: "somebody-elses".to_owned() });
        let replies = world.aws(calls.clone());
        planted.attach_some(world, &calls, &replies);
        planted
    }

    /// Plants one of every class that can be repaired, two of the half-made; whose they are.
    pub(super) fn lose(&mut self, world: &World, serials: &[String], number: usize) -> BTreeSet<String> {
        let parts = parts(world);
        let [gone, half, other_half, orphaned] = [0, 1, 2, 3].map(|at| &parts[&serials[at]]);
        let extra = format!("SNLOST{number:06}");
        let mut calls = gone.delete_all();
        calls.extend(half.halve(number));
        calls.extend(other_half.halve(number + 3));
        calls.push(Signer::of(world).register(&orphaned.serial));
        calls.push(thing(&extra, Some("IT")));
        world.aws(calls);
        let lost = [
            (Class::Missing, &gone.serial),
            (Class::HalfMade, &half.serial),
            (Class::HalfMade, &other_half.serial),
            (Class::OrphanedCertificate, &orphaned.serial),
            (Class::Extra, &extra),
        ];
        let lost = lost.map(|(class, serial)| (class, serial.clone()));
        self.all.extend(lost.iter().cloned());
        lost.into_iter().map(|(_, serial)| serial).collect()
    }

    /// Every second orphan carries a policy, and every second extra a certificate and a policy.
    fn attach_some(&self, world: &World, calls: &[Call], replies: &[Reply]) {
        let signer = Signer::of(world);
        let mut more = Vec::new();
        let mut orphans = 0;
        for (call, reply) in calls.iter().zip(replies) {
            if let (Call::RegisterCertificateWithoutCa { .. }, Reply::Certificate { arn, .. }) = (call, reply)
            {
                orphans += 1;
                if orphans % 2 == 0 {
                    more.push(Call::AttachPolicy {
                        policy: "somebody-elses".to_owned(),
                        target: arn.clone(),
                    });
                }
            }
        }
        let extras = self.all.iter().filter(|(class, _)| *class == Class::Extra).step_by(2);
        for (_, serial) in extras {
            let registered = world.aws(vec![signer.register(serial)]);
            let [Reply::Certificate { arn, .. }] = registered.as_slice() else { panic!("{registered:?}") };
            let document = include_str!("../../../config/policies/thermostat.json");
            more.push(policy(serial, document));
            more.push(Call::AttachPolicy { policy: serial.clone(), target: arn.clone() });
            more.push(Call::AttachThingPrincipal { thing: serial.clone(), principal: arn.clone() });
        }
        world.aws(more);
    }

    /// What a repair puts right.
    pub(super) fn repairable(&self) -> BTreeSet<(Class, String)> {
        let can = |class: Class| {
            matches!(class, Class::Missing | Class::HalfMade | Class::Extra | Class::OrphanedCertificate)
        };
        self.all.iter().filter(|(class, _)| can(*class)).cloned().collect()
    }

    /// Panics if something is gone that is not provably the station's.
    pub(super) fn assert_left_alone(&self, world: &World) {
        world.aws(self.untouched.clone());
        let audit = world.audit(&[""; 0]);
        let extras = self.all.iter().filter(|(class, _)| *class == Class::Extra).count();
        assert!(extras > 0 && audit.orphans.active_unattached > 0, "{audit:?}");
    }
}

/// What AWS holds for each device, as the station tells it.
pub(super) fn parts(world: &World) -> BTreeMap<String, Part> {
    let mut parts = BTreeMap::new();
    let mut after = String::new();
    loop {
        let page = world.get(&format!("/v1/devices?limit=1000&after={after}")).unwrap();
        // An extra that was deleted is in the journal too, and had none of it.
        let whole = page["devices"].as_array().unwrap().iter().filter(|it| it["state"] == "passed");
        for device in whole {
            let text = |pointer: &str| device.pointer(pointer).unwrap().as_str().unwrap().to_owned();
            let part = Part {
                serial: text("/serial"),
                certificate: text("/certificate/fingerprint"),
                arn: text("/certificate/arn"),
                locker: text("/locker_id"),
            };
            parts.insert(part.serial.clone(), part);
        }
        match page["next"].as_str() {
            Some(next) => after = next.to_owned(),
            None => return parts,
        }
    }
}

fn thing(name: &str, station: Option<&str>) -> Call {
    let attributes = station.map(|it| ("linemint".to_owned(), it.to_owned())).into_iter().collect();
    Call::CreateThing { name: name.to_owned(), attributes }
}

pub(super) fn policy(name: &str, document: &str) -> Call {
    Call::CreatePolicy { name: name.to_owned(), document: document.to_owned(), tags: BTreeMap::new() }
}

fn locker(name: &str, number: usize) -> Call {
    let client_token = format!("somebody-{number}");
    Call::CreateCredentialLocker { name: name.to_owned(), client_token, tags: BTreeMap::new() }
}

/// The station's CA, used behind its back.
struct Signer(StationIssuer);

impl Signer {
    fn of(world: &World) -> Self {
        let (pem, key) = ca_of(world);
        Self(StationIssuer::load(&pem, Zeroizing::new(key), SystemClock::default().now().wall).unwrap())
    }

    fn register(&self, name: &str) -> Call {
        let request = LeafRequest { common_name: name.to_owned(), days: 30, key: LeafKey::Station };
        let issued = self.0.issue(&request, SystemClock::default().now().wall).unwrap();
        Call::RegisterCertificateWithoutCa { certificate_pem: to_pem("CERTIFICATE", &issued.der).to_string() }
    }
}
