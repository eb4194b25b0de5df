//! Which permissions can be tried by reading something that does not exist: "not found" means that one
//! may look.

use std::collections::BTreeSet;

use crate::cloud::{Call, Operation, Service};
use crate::config::{Config, iam_policy};
use crate::device::rules::{Filling, PolicyRule, ProductRules, Template};
use crate::device::serial::{Mac, SerialNumber};

/// Products whose names are tried; they differ where IAM is held to a prefix of each.
const MAX_PRODUCTS: usize = 20;

/// A permission and the calls that try it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Probe {
    /// As in IAM, `iot:DescribeThing`.
    pub(super) action: String,
    pub(super) service: Service,
    /// Empty where nothing harmless would try it.
    pub(super) calls: Vec<Call>,
}

/// The actions that `config` needs, in the order of their names.
pub(super) fn actions(config: &Config) -> BTreeSet<String> {
    let policy = iam_policy(config);
    let statements = policy["Statement"].as_array().into_iter().flatten();
    let actions = statements.flat_map(|it| it["Action"].as_array().into_iter().flatten());
    actions.filter_map(|it| it.as_str().map(str::to_owned)).collect()
}

/// The operations that `config` makes use of.
pub(super) fn operations(config: &Config) -> Vec<Operation> {
    let actions = actions(config);
    let used = |it: &&Operation| actions.iter().any(|action| action.split(':').nth(1) == Some(it.aws_name()));
    Operation::ALL.iter().filter(used).copied().collect()
}

/// What is tried; `nobody` is 64 hex digits that name nothing, `account` the account's number.
pub(super) fn probes(config: &Config, nobody: &str, account: Option<&str>) -> Vec<Probe> {
    let made_up = MadeUp { config, nobody, account };
    let probe = |action: String| Probe {
        service: if action.starts_with("iot:") { Service::Iot } else { Service::ManagedIntegrations },
        calls: made_up.calls(&action),
        action,
    };
    // That one has a check of its own.
    actions(config).into_iter().filter(|it| it != "iot:DescribeCACertificate").map(probe).collect()
}

struct MadeUp<'a> {
    config: &'a Config,
    nobody: &'a str,
    account: Option<&'a str>,
}

impl MadeUp<'_> {
    fn calls(&self, action: &str) -> Vec<Call> {
        let nobody = || self.nobody.to_owned();
        let things =
            |call: fn(String) -> Call| self.each(|it| Some(&it.thing)).into_iter().map(call).collect();
        match action {
            "iot:DescribeThing" => things(|name| Call::DescribeThing { name }),
            "iot:ListThingPrincipals" => {
                things(|thing| Call::ListThingPrincipals { thing, next_token: None })
            }
            "iot:GetPolicy" => self.each(policy).into_iter().map(|name| Call::GetPolicy { name }).collect(),
            "iot:DescribeCertificate" => vec![Call::DescribeCertificate { id: nobody() }],
            "iot:ListCertificates" => vec![Call::ListCertificates { marker: None }],
            "iot:ListCertificatesByCA" => vec![Call::ListCertificatesByCa { ca: nobody(), marker: None }],
            "iot:ListThings" => vec![Call::ListThings { next_token: None }],
            "iot:ListPolicies" => vec![Call::ListPolicies { marker: None }],
            "iot:ListAttachedPolicies" => {
                let call = |target| Call::ListAttachedPolicies { target, marker: None };
                self.certificate().map(call).into_iter().collect()
            }
            "iot:ListPrincipalThings" => {
                let call = |principal| Call::ListPrincipalThings { principal, next_token: None };
                self.certificate().map(call).into_iter().collect()
            }
            "iotmanagedintegrations:ListCredentialLockers" => {
                vec![Call::ListCredentialLockers { next_token: None }]
            }
            "iotmanagedintegrations:GetCredentialLocker" => {
                vec![Call::GetCredentialLocker { id: self.nobody[..32].to_owned() }]
            }
            "iotmanagedintegrations:GetManagedThing" => {
                vec![Call::GetManagedThing { id: self.nobody[..32].to_owned() }]
            }
            _ => Vec::new(),
        }
    }

    /// The ARN of a certificate that does not exist, where the account is known.
    fn certificate(&self) -> Option<String> {
        let (region, account) = (&self.config.aws.region, self.account?);
        Some(format!("arn:aws:iot:{region}:{account}:cert/{}", self.nobody))
    }

    /// The names that a template of each product yields for a device that does not exist.
    fn each(&self, template: fn(&ProductRules) -> Option<&Template>) -> BTreeSet<String> {
        let serial = format!("LINEMINT-DOCTOR-{}", &self.nobody[..12]);
        let (Ok(serial), Ok(mac)) = (SerialNumber::parse(&serial), Mac::parse(&self.nobody[..12])) else {
            return BTreeSet::new();
        };
        let products = self.config.products.values().take(MAX_PRODUCTS);
        products
            .filter_map(|product| {
                let rules = &product.rules;
                let (station, name) = (rules.station.as_str(), rules.product.as_str());
                let with = Filling { serial: &serial, mac: Some(&mac), batch: None, station, product: name };
                Some(template(rules)?.fill(&with))
            })
            .collect()
    }
}

fn policy(rules: &ProductRules) -> Option<&Template> {
    match &rules.policy {
        PolicyRule::Device { name, .. } | PolicyRule::Product { name, .. } => Some(name),
        PolicyRule::Given { .. } | PolicyRule::None => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::doctor::tests::{config, config_with};

    const NOBODY: &str = "0a1b2c3d4e5f60718293a4b5c6d7e8f90a1b2c3d4e5f60718293a4b5c6d7e8f9";

    #[test]
    fn every_read_of_the_iam_policy_is_tried_and_nothing_that_makes_something() {
        let dir = tempfile::tempdir().unwrap();
        let probes = probes(&config(dir.path()), NOBODY, Some("123456789012"));
        let tried: Vec<_> =
            probes.iter().filter(|it| !it.calls.is_empty()).map(|it| it.action.as_str()).collect();
        assert_eq!(
            tried,
            [
                "iot:DescribeCertificate",
                "iot:DescribeThing",
                "iot:GetPolicy",
                "iot:ListAttachedPolicies",
                "iot:ListCertificates",
                "iot:ListPolicies",
                "iot:ListPrincipalThings",
                "iot:ListThingPrincipals",
                "iot:ListThings",
                "iotmanagedintegrations:GetCredentialLocker",
                "iotmanagedintegrations:ListCredentialLockers",
            ]
        );
        let reads = |call: &Call| {
            let name = call.operation().aws_name();
            ["Describe", "List", "Get"].iter().any(|it| name.starts_with(it))
        };
        assert!(probes.iter().flat_map(|it| &it.calls).all(reads));
        let not_tried = probes.iter().filter(|it| it.calls.is_empty()).count();
        assert!(not_tried >= 8, "creating, attaching, deleting");
    }

    #[test]
    fn a_managed_thing_is_asked_for_where_a_product_has_one() {
        let dir = tempfile::tempdir().unwrap();
        let with = config_with(dir.path(), "upc = \"036000291452\"\nmanaged_thing = { role = \"device\" }\n");
        let action = "iotmanagedintegrations:GetManagedThing";
        let calls = |config| {
            let all = probes(config, NOBODY, None);
            all.into_iter().filter(|it| it.action == action).flat_map(|it| it.calls).collect::<Vec<_>>()
        };
        assert_eq!(calls(&with), [Call::GetManagedThing { id: NOBODY[..32].to_owned() }]);
        assert_eq!(calls(&config(dir.path())), []);
    }

    #[test]
    fn names_are_made_by_the_products_templates() {
        let dir = tempfile::tempdir().unwrap();
        let config = config_with(dir.path(), "thing = \"lamp-{serial}\"\n");
        let probes = probes(&config, NOBODY, None);
        let thing = probes.iter().find(|it| it.action == "iot:DescribeThing").unwrap();
        let name = "lamp-LINEMINT-DOCTOR-0a1b2c3d4e5f".to_owned();
        assert_eq!(thing.calls, [Call::DescribeThing { name }]);
        let attached = probes.iter().find(|it| it.action == "iot:ListAttachedPolicies").unwrap();
        assert!(attached.calls.is_empty(), "nothing to ask for without an account");
    }

    #[test]
    fn the_operations_in_use_are_those_of_the_iam_policy() {
        let dir = tempfile::tempdir().unwrap();
        let used = operations(&config(dir.path()));
        assert!(
            used.contains(&Operation::CreatePolicy)
                && used.contains(&Operation::RegisterCertificateWithoutCa)
        );
        assert!(!used.contains(&Operation::RegisterThing));
    }
}
