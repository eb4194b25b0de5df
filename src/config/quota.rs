//! `[aws.quota]`: how many calls a second this station may make.

use crate::cloud::{DEVICE_CERTIFICATES, DEVICE_CERTIFICATES_QUOTA, Operation, Quotas};

use super::errors::nearest;
use super::table::Table;

/// The Regions with lower quotas for things: Paris, Stockholm, Hong Kong, São Paulo, Canada (Central),
/// Bahrain, UAE, Ningxia, GovCloud, Malaysia, Spain (AWS General Reference, read 2026-11).
const SMALLER_REGIONS: [&str; 12] = [
    "eu-west-3",
    "eu-north-1",
    "ap-east-1",
    "sa-east-1",
    "ca-central-1",
    "me-south-1",
    "me-central-1",
    "cn-northwest-1",
    "us-gov-east-1",
    "us-gov-west-1",
    "ap-southeast-5",
    "eu-south-2",
];

/// What those Regions allow of each of [`SMALLER`], calls a second.
const SMALLER_QUOTA: f64 = 50.0;

const SMALLER: [Operation; 4] = [
    Operation::CreateThing,
    Operation::DeleteThing,
    Operation::AttachThingPrincipal,
    Operation::DetachThingPrincipal,
];

/// The quotas of `region` as the table changes them, times the station's share.
pub(super) fn quotas(table: Option<Table<'_>>, region: &str) -> Quotas {
    let Some(table) = table else { return documented(region) };
    let unlimited = table.choice("preset", false, &[("aws-default", false), ("unlimited", true)]);
    let mut quotas = if unlimited { Quotas::unlimited() } else { documented(region) };
    for operation in Operation::ALL {
        if let Some(at) = table.rate(operation.kebab(), operation.default_quota()) {
            quotas.rates.insert(*operation, at.value);
        }
    }
    if let Some(at) = table.rate(DEVICE_CERTIFICATES, DEVICE_CERTIFICATES_QUOTA) {
        quotas.device_certificates = Some(at.value);
    }
    let share = match table.rate("share", 0.5) {
        Some(at) if at.value > 1.0 => {
            table.problem(
                &at.place,
                "must be above 0 and at most 1",
                "with two stations on the account write share = 0.5",
            );
            1.0
        }
        Some(at) => at.value,
        None => 1.0,
    };
    finish(table);
    quotas.shared(share)
}

/// What AWS documents for `region`, whole.
#[must_use]
pub fn documented(region: &str) -> Quotas {
    let mut quotas = Quotas::aws_default();
    if SMALLER_REGIONS.contains(&region) {
        quotas.rates.extend(SMALLER.map(|it| (it, SMALLER_QUOTA)));
    }
    quotas
}

/// Tells unknown keys; a list of all that are known would be no help, there are forty.
fn finish(table: Table<'_>) {
    let known = || {
        let own = ["share", "preset", DEVICE_CERTIFICATES];
        own.into_iter().chain(Operation::ALL.iter().map(|it| it.kebab()))
    };
    for (at, _) in table.entries() {
        if known().any(|it| it == at.value) {
            continue;
        }
        let hint = match nearest(at.value, known()) {
            Some(word) => format!("did you mean {word}?"),
            None => "keys are share, preset, device-certificates and AWS operations as in create-policy"
                .to_owned(),
        };
        table.problem(&at.place, "is not an AWS operation that linemint knows", hint);
    }
}
