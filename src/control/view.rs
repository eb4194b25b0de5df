//! How the journal's own types look on the wire.

use serde_json::Value;

use super::{Certificate, Device, Event, Failure, Presentation};
use crate::device::event::Outcome;
use crate::device::rules::{PolicyRule, ProductRules};
use crate::device::steps::Subject;
use crate::{device, journal};

/// The device as the API shows it. Without its `rules` the names of what it has in the cloud are
/// not known.
pub(super) fn device(it: &device::Device, rules: Option<&ProductRules>) -> Device {
    let subject = rules.map(|rules| Subject { device: it, rules, ca_pem: "" });
    Device {
        serial: it.serial.to_string(),
        product: it.product.clone(),
        batch: it.batch.clone(),
        extra: it.extra,
        mac: it.mac.as_ref().map(ToString::to_string),
        state: it.state,
        generation: it.generation,
        admitted_at: it.first_at(),
        updated_at: it.updated_at,
        passed_at: it.passed_at,
        presentations: it.presentations,
        presentation: presentation(&it.presentation),
        certificate: it.certificate.as_ref().map(certificate),
        thing: subject.filter(|_| it.done.thing).map(|it| it.thing_name()),
        policy: subject.filter(has_policy).and_then(|it| it.policy_name()),
        locker_id: subject.and_then(|it| it.locker_id()).or_else(|| it.done.locker.clone()),
        failure: it
            .failure
            .as_ref()
            .map(|failure| Failure { code: failure.code, message: failure.message.clone() }),
        certificates_issued: it.certificates_issued,
    }
}

/// A given policy is there before any device.
fn has_policy(it: &Subject<'_>) -> bool {
    it.device.done.policy || matches!(it.rules.policy, PolicyRule::Given { .. })
}

fn presentation(it: &device::Presentation) -> Presentation {
    let outcome = it.outcome.as_ref().map(|outcome| match outcome {
        Outcome::Passed { .. } => "passed",
        Outcome::Failed { .. } if it.deferred => "deferred",
        Outcome::Failed { .. } => "failed",
        Outcome::Closed => "closed",
    });
    Presentation {
        fixture: it.key.fixture.clone(),
        boot: it.key.boot,
        id: it.key.id,
        nest: it.nest.clone(),
        outcome: outcome.map(str::to_owned),
    }
}

fn certificate(it: &device::Certificate) -> Certificate {
    Certificate {
        fingerprint: it.fingerprint.to_string(),
        serial_number: it.serial_number.clone(),
        not_after: it.not_after,
        arn: it.arn.clone(),
        key: it.key,
    }
}

/// The record as the API shows it: all of it but a certificate's bytes, which nobody reads here.
///
/// # Errors
/// The record is none of this version's.
pub(super) fn event(record: &journal::Record) -> Result<Event, serde_json::Error> {
    let mut value = serde_json::to_value(record)?;
    if let Some(certificate) = value.get_mut("certificate").and_then(Value::as_object_mut) {
        certificate.remove("der");
    }
    serde_json::from_value(value)
}
