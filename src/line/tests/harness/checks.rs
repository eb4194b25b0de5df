//! What has to hold at every action.

use super::Harness;
use crate::cloud::{Call, CertificateStatus};
use crate::device::rules::Register;
use crate::device::serial::SerialNumber;
use crate::device::{Certificate, Device, KeyState, Superseded};
use crate::fixture::{FailCode, StationMessage};
use crate::line::tests::account::der_of;
use crate::line::tests::setup::STATION;
use crate::pki::Fingerprint;

impl Harness {
    pub(super) fn speak(&mut self, fixture: usize, message: StationMessage) {
        match &message {
            StationMessage::Ack { id } => {
                let known = self.shelf.devices.values().any(|it| it.presentation.key.id == *id);
                let ended = self.shelf.events.iter().any(|(_, it)| {
                    it.presentation()
                        .is_some_and(|(key, _)| key.id == *id && key.fixture == self.setup.fixtures[fixture])
                });
                assert!(known || ended, "ack {id}, but the journal does not know it");
            }
            StationMessage::Pass { serial, .. } => {
                assert!(self.passed.contains(serial), "pass for {serial}, which has not passed");
            }
            StationMessage::Credentials(it) => {
                let device = self.device(&it.serial);
                if device.fingerprint().map(|it| it.to_string()).as_ref() == Some(&it.certificate_sha256) {
                    let before = self.offered.insert(it.serial.clone(), it.certificate_sha256.clone());
                    assert!(
                        before.is_none_or(|before| before == it.certificate_sha256),
                        "{} is offered a second certificate",
                        it.serial
                    );
                    self.newest.insert(it.serial.clone(), it.clone());
                } else {
                    // A copy that has waited for the disk while the device was renewed.
                    let old = |old: &Superseded| old.fingerprint.to_string() == it.certificate_sha256;
                    assert!(device.superseded.iter().any(old), "credentials that are not on disk");
                }
            }
            _ => {}
        }
        self.spoken.push((fixture, brief(&message)));
        self.heard[fixture].push(message);
    }

    /// Whether AWS issues.
    pub(in crate::line::tests) fn by_aws(&self) -> bool {
        self.setup.rules.certificate.register == Register::Aws
    }

    /// Whatever AWS is asked for has to be on disk first.
    pub(super) fn check_call(&self, serial: &SerialNumber, call: &Call) {
        let device = self.shelf.devices.get(serial).expect("AWS is called for a device that is not on disk");
        match call {
            Call::RegisterCertificate { certificate_pem, .. }
            | Call::RegisterCertificateWithoutCa { certificate_pem } => {
                let id = Fingerprint::of(&der_of(certificate_pem));
                assert_eq!(device.fingerprint(), Some(id), "a certificate is registered that is not on disk");
            }
            Call::CreateCertificateFromCsr { csr_pem } => {
                let request = device.request.as_ref().expect("AWS gets a request that is not on disk");
                assert_eq!(request.csr, der_of(csr_pem), "AWS gets another request than is on disk");
                assert!(request.open_since.is_some(), "AWS is asked, but the intent is not on disk");
                if request.key == KeyState::Sealed {
                    assert!(
                        self.keys.contains(&request.public_key) || self.keys_were_lost,
                        "without its key"
                    );
                }
            }
            Call::UpdateCertificate { id, status: CertificateStatus::Active } if self.by_aws() => {
                let recorded = device.fingerprint().is_some_and(|it| it.to_string() == *id);
                assert!(recorded, "a certificate is made active that is not on disk");
            }
            Call::DeleteCertificate { id } => {
                let old = device.superseded.iter().find(|it| it.fingerprint.to_string() == *id);
                let old = old.expect("a certificate is deleted that is not put aside on disk");
                let confirmed = old.goes_at_once() || self.confirmed.contains(serial.as_str());
                assert!(
                    device.is_scrapping() || confirmed && old.public_key.is_some(),
                    "{call:?} for {serial}, which is not given up on disk"
                );
            }
            Call::UpdateCertificate { id, status: CertificateStatus::Inactive }
                if device.superseded.iter().any(|it| it.spare && it.fingerprint.to_string() == *id) => {}
            Call::UpdateCertificate { id, status: CertificateStatus::Inactive } => {
                let old = device.superseded.iter().find(|it| it.fingerprint.to_string() == *id);
                let old = old.expect("a certificate is deactivated that was not replaced");
                assert!(
                    old.expired || device.is_scrapping() || self.confirmed.contains(serial.as_str()),
                    "the old certificate of {serial} is deactivated before the new one is confirmed on disk"
                );
            }
            Call::DetachPolicy { target, .. } | Call::DetachThingPrincipal { principal: target, .. } => {
                let expired =
                    device.superseded.iter().any(|it| it.expired && it.arn.as_ref() == Some(target));
                assert!(expired || device.is_scrapping() || self.confirmed.contains(serial.as_str()));
            }
            Call::DeleteThing { .. } | Call::DeletePolicy { .. } | Call::DeleteCredentialLocker { .. } => {
                assert!(device.is_scrapping(), "{call:?} for {serial}, which is not given up on disk");
            }
            _ => {}
        }
    }
}

/// Whether the device does not need the key of that name any more.
pub(super) fn is_old(device: &Device, key: Fingerprint) -> bool {
    let present = device.certificate.as_ref().map(Certificate::key_id);
    let asked = device.request.as_ref().map(|it| it.public_key);
    device.superseded.iter().any(|it| it.key_id() == key)
        || device.scrap.is_some()
        // Issued for a device that was put aside meanwhile: no record names it.
        || present != Some(key) && asked != Some(key)
}

pub(super) fn certificates(device: &Device) -> Vec<Fingerprint> {
    let present = device.certificate.iter().map(Certificate::key_id);
    let requested = device.request.iter().map(|it| it.public_key).chain(device.useless_keys.iter().copied());
    present.chain(requested).chain(device.superseded.iter().map(Superseded::key_id)).collect()
}

/// A message in a line; its sentence is checked on the way.
pub(super) fn brief(message: &StationMessage) -> String {
    let check = |text: &str| {
        assert!((1..=120).contains(&text.chars().count()), "{text}");
        assert!(!text.contains(char::is_control), "{text}");
    };
    match message {
        StationMessage::Hello { protocol, station } => {
            assert_eq!((*protocol, station.as_str()), (1, STATION));
            "hello".to_owned()
        }
        StationMessage::Pull => "pull".to_owned(),
        StationMessage::Ack { id } => format!("ack {id}"),
        StationMessage::Nak { id, code, message } => {
            check(message);
            id.map_or_else(|| format!("nak {code}"), |id| format!("nak {code} {id}"))
        }
        StationMessage::Credentials(it) => format!("credentials {} {}", it.id, it.serial),
        StationMessage::Pass { id, serial, again } => {
            format!("pass {id} {serial}{}", if *again { " again" } else { "" })
        }
        StationMessage::Fail { id, serial, code, message, retry } => {
            check(message);
            // The protocol's own list.
            let lost =
                ["rejected", "conflict", "mismatch", "quarantined", "superseded"].contains(&code.as_str());
            assert_eq!(*retry, !lost, "{code}");
            assert!(FailCode::ALL.contains(code));
            format!("fail {code} {id} {serial}")
        }
    }
}
