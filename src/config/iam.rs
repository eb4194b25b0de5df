//! The IAM policy that a configuration needs.
//!
//! Which resources an action can be narrowed to is the Service Authorization Reference's
//! (list_iot, list_iot-managed-integrations, read 2026-11): an action without a resource type
//! takes `*` only, and is then held to the Region by a condition.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Value, json};

use super::{Aws, Config};
use crate::device::rules::{LockerRule, Part, Place, PolicyRule, ProductRules, Register, Template};

/// The IAM policy that allows exactly the calls that the daemon makes under `config`.
#[must_use]
pub fn iam_policy(config: &Config) -> Value {
    let all_by_ca = config.products.values().all(|it| it.rules.certificate.register == Register::WithCa);
    let has_previous = config.pki.as_ref().is_some_and(|it| it.previous.is_some());
    let by_ca_only = all_by_ca && !has_previous;
    let mut grants = Grants { aws: &config.aws, by_ca_only, by_resource: BTreeMap::new() };
    for product in config.products.values() {
        grants.product(&product.rules);
    }
    json!({ "Version": "2012-10-17", "Statement": grants.statements() })
}

struct Grants<'a> {
    aws: &'a Aws,
    /// Every certificate is on the list of the one CA: that of the whole account is never read.
    by_ca_only: bool,
    by_resource: BTreeMap<String, BTreeSet<&'static str>>,
}

impl Grants<'_> {
    fn product(&mut self, rules: &ProductRules) {
        self.locker(&rules.locker);
        self.managed_thing(rules);
        self.thing(rules);
        self.policy(rules);
        self.certificate(rules);
    }

    fn locker(&mut self, rule: &LockerRule) {
        let (LockerRule::Device { tags, .. } | LockerRule::Batch { tags, .. }) = rule else { return };
        // The list is for a locker whose answer was lost over an hour ago.
        let anywhere =
            ["iotmanagedintegrations:CreateCredentialLocker", "iotmanagedintegrations:ListCredentialLockers"];
        self.allow("*".to_owned(), &anywhere);
        let lockers = self.arn("iotmanagedintegrations", "credential-locker/*");
        // Deleting, here and below, is for devices that a person scraps.
        self.allow(lockers.clone(), &["iotmanagedintegrations:GetCredentialLocker"]);
        if matches!(rule, LockerRule::Device { .. }) {
            self.allow(lockers.clone(), &["iotmanagedintegrations:DeleteCredentialLocker"]);
        }
        if !tags.is_empty() {
            self.allow(lockers, &["iotmanagedintegrations:TagResource"]);
        }
    }

    fn managed_thing(&mut self, rules: &ProductRules) {
        if rules.managed_thing.is_none() {
            return;
        }
        self.allow("*".to_owned(), &["iotmanagedintegrations:CreateManagedThing"]);
        let things = self.arn("iotmanagedintegrations", "managed-thing/*");
        // Read by a reconciliation, deleted at scrap.
        let actions = ["iotmanagedintegrations:GetManagedThing", "iotmanagedintegrations:DeleteManagedThing"];
        self.allow(things, &actions);
        // A reconciliation makes it again only in a locker that is there.
        if matches!(rules.locker, LockerRule::Given { .. }) {
            let lockers = self.arn("iotmanagedintegrations", "credential-locker/*");
            self.allow(lockers, &["iotmanagedintegrations:GetCredentialLocker"]);
        }
    }

    fn thing(&mut self, rules: &ProductRules) {
        let thing = self.arn("iot", &format!("thing/{}", wildcard(&rules.thing, rules)));
        // The principals are looked at when something of that name was there already, and at scrap.
        let actions = ["iot:CreateThing", "iot:DescribeThing", "iot:DeleteThing", "iot:ListThingPrincipals"];
        self.allow(thing, &actions);
        // A reconciliation, here and below, reads what the account holds.
        self.allow("*".to_owned(), &["iot:ListThings"]);
    }

    fn policy(&mut self, rules: &ProductRules) {
        if let PolicyRule::Device { name, tags, .. } | PolicyRule::Product { name, tags, .. } = &rules.policy
        {
            let policy = self.arn("iot", &format!("policy/{}", wildcard(name, rules)));
            self.allow(policy.clone(), &["iot:CreatePolicy", "iot:GetPolicy"]);
            if matches!(rules.policy, PolicyRule::Device { .. }) {
                self.allow(policy.clone(), &["iot:DeletePolicy"]);
                self.allow("*".to_owned(), &["iot:ListPolicies"]);
            }
            if !tags.is_empty() {
                self.allow(policy, &["iot:TagResource"]);
            }
        }
    }

    /// Certificates and their attachments; a certificate's id is known only when it is made.
    fn certificate(&mut self, rules: &ProductRules) {
        if matches!(rules.certificate.register, Register::WithCa | Register::Jitp) {
            // The doctor asks whether AWS has the CA; so does the line when AWS refuses a certificate of it.
            self.allow(self.arn("iot", "cacert/*"), &["iot:DescribeCACertificate"]);
        }
        let register = match rules.certificate.register {
            Register::WithoutCa => "iot:RegisterCertificateWithoutCA",
            Register::WithCa => "iot:RegisterCertificate",
            Register::Aws => "iot:CreateCertificateFromCsr",
            Register::Jitp => {
                // AWS has made and attached it at the device's first connection; a replaced one is
                // deactivated, that of a scrapped device detached and deleted.
                let actions = [
                    "iot:DescribeCertificate",
                    "iot:UpdateCertificate",
                    "iot:DeleteCertificate",
                    "iot:DetachThingPrincipal",
                ];
                let certificates = self.arn("iot", "cert/*");
                self.allow(certificates.clone(), &actions);
                // Whose thing an unknown certificate of the CA's is at: another station's may have the same CA.
                self.allow("*".to_owned(), &["iot:ListPrincipalThings"]);
                if rules.policy != PolicyRule::None {
                    self.allow(certificates, &["iot:DetachPolicy"]);
                }
                return;
            }
        };
        // Where AWS issues, a certificate whose answer was lost is looked for in the list too.
        self.allow("*".to_owned(), &[register, "iot:ListPrincipalThings"]);
        if !self.by_ca_only {
            self.allow("*".to_owned(), &["iot:ListCertificates"]);
        }
        // With other products beside it, for as long as no device of theirs was made; with a CA before it, where that
        // is of no use any more.
        if rules.certificate.register == Register::WithCa {
            self.allow("*".to_owned(), &["iot:ListCertificatesByCA"]);
        }
        let certificates = self.arn("iot", "cert/*");
        // Detaching is for certificates that are replaced: at a renewal, and when the key of an
        // undelivered one was lost or kept too long.
        let always = [
            "iot:DescribeCertificate",
            "iot:UpdateCertificate",
            "iot:DeleteCertificate",
            "iot:AttachThingPrincipal",
            "iot:DetachThingPrincipal",
            "iot:ListAttachedPolicies",
        ];
        self.allow(certificates.clone(), &always);
        if rules.policy != PolicyRule::None {
            self.allow(certificates, &["iot:AttachPolicy", "iot:DetachPolicy"]);
        }
    }

    fn allow(&mut self, resource: String, actions: &[&'static str]) {
        self.by_resource.entry(resource).or_default().extend(actions);
    }

    fn arn(&self, service: &str, resource: &str) -> String {
        let region = &self.aws.region;
        let partition = if region.starts_with("cn-") {
            "aws-cn"
        } else if region.starts_with("us-gov-") {
            "aws-us-gov"
        } else {
            "aws"
        };
        let account = self.aws.account.as_deref().unwrap_or("*");
        format!("arn:{partition}:{service}:{region}:{account}:{resource}")
    }

    /// One statement for each set of actions, with all resources that it is needed on.
    fn statements(&self) -> Vec<Value> {
        let mut by_actions: BTreeMap<&BTreeSet<&str>, Vec<&str>> = BTreeMap::new();
        for (resource, actions) in &self.by_resource {
            by_actions.entry(actions).or_default().push(resource);
        }
        let statement = |(actions, resources): (_, Vec<&str>)| {
            let mut statement = json!({ "Effect": "Allow", "Action": actions, "Resource": resources });
            if resources == ["*"] {
                statement["Condition"] =
                    json!({ "StringEquals": { "aws:RequestedRegion": self.aws.region } });
            }
            statement
        };
        by_actions.into_iter().map(statement).collect()
    }
}

/// The names that `template` yields, as a pattern of an ARN.
fn wildcard(template: &Template, rules: &ProductRules) -> String {
    let mut pattern = String::new();
    for part in template.parts() {
        match part {
            Part::Text(text) => pattern.push_str(text),
            Part::Place(Place::Station) => pattern.push_str(&rules.station),
            Part::Place(Place::Product) => pattern.push_str(&rules.product),
            Part::Place(_) if pattern.ends_with('*') => {}
            Part::Place(_) => pattern.push('*'),
        }
    }
    pattern
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::tests::{MINIMAL, SHARED, parse};

    /// All pairs of action and resource.
    fn grants(text: &str) -> BTreeSet<(String, String)> {
        let policy = iam_policy(&parse(text).unwrap_or_else(|errors| panic!("{errors}")));
        let mut grants = BTreeSet::new();
        for statement in policy["Statement"].as_array().unwrap() {
            assert_eq!(statement["Effect"], "Allow");
            for action in statement["Action"].as_array().unwrap() {
                for resource in statement["Resource"].as_array().unwrap() {
                    let pair = (action.as_str().unwrap().to_owned(), resource.as_str().unwrap().to_owned());
                    let everywhere = pair.1 == "*";
                    assert_eq!(everywhere, statement.get("Condition").is_some(), "{statement}");
                    assert!(grants.insert(pair), "twice: {statement}");
                }
            }
        }
        grants
    }

    fn pairs(expected: &[(&str, &[&str])]) -> BTreeSet<(String, String)> {
        let pairs = expected.iter().flat_map(|(resource, actions)| {
            actions.iter().map(|it| ((*it).to_owned(), (*resource).to_owned()))
        });
        pairs.collect()
    }

    #[test]
    fn the_plain_configuration_may_make_and_read_its_own_names_only() {
        let expected = pairs(&[
            (
                "*",
                &[
                    "iotmanagedintegrations:CreateCredentialLocker",
                    "iotmanagedintegrations:ListCredentialLockers",
                    "iot:RegisterCertificateWithoutCA",
                    "iot:ListThings",
                    "iot:ListPolicies",
                    "iot:ListCertificates",
                    "iot:ListPrincipalThings",
                ],
            ),
            (
                "arn:aws:iotmanagedintegrations:eu-west-1:*:credential-locker/*",
                &[
                    "iotmanagedintegrations:DeleteCredentialLocker",
                    "iotmanagedintegrations:TagResource",
                    "iotmanagedintegrations:GetCredentialLocker",
                ],
            ),
            ("arn:aws:iot:eu-west-1:*:policy/*", &["iot:CreatePolicy", "iot:GetPolicy", "iot:DeletePolicy"]),
            (
                "arn:aws:iot:eu-west-1:*:thing/*",
                &["iot:CreateThing", "iot:DescribeThing", "iot:DeleteThing", "iot:ListThingPrincipals"],
            ),
            (
                "arn:aws:iot:eu-west-1:*:cert/*",
                &[
                    "iot:DescribeCertificate",
                    "iot:UpdateCertificate",
                    "iot:DeleteCertificate",
                    "iot:AttachThingPrincipal",
                    "iot:DetachThingPrincipal",
                    "iot:AttachPolicy",
                    "iot:DetachPolicy",
                    "iot:ListAttachedPolicies",
                ],
            ),
        ]);
        assert_eq!(grants(MINIMAL), expected);
    }

    #[test]
    fn the_locker_of_a_batch_is_made_and_never_deleted() {
        let locker = "require_batch = true\nlocker = { scope = \"batch\" }\ncertificate = {}";
        let grants = grants(&MINIMAL.replace("certificate = {}", locker));
        let lockers = grants.iter().filter(|it| it.0.contains("Locker")).map(|it| it.0.as_str());
        let wanted = ["CreateCredentialLocker", "GetCredentialLocker", "ListCredentialLockers"];
        assert!(
            lockers.eq(wanted.iter().map(|it| format!("iotmanagedintegrations:{it}")).collect::<Vec<_>>())
        );
    }

    #[test]
    fn a_managed_thing_is_made_read_and_deleted_and_nothing_else_of_them() {
        let managed = "upc = \"036000291452\"\nmanaged_thing = { role = \"device\" }\ncertificate = {}";
        let with = grants(&MINIMAL.replace("certificate = {}", managed));
        let more: Vec<_> = with.difference(&grants(MINIMAL)).cloned().collect();
        let pair =
            |action: &str, resource: &str| (format!("iotmanagedintegrations:{action}"), resource.to_owned());
        let things = "arn:aws:iotmanagedintegrations:eu-west-1:*:managed-thing/*";
        assert_eq!(
            more,
            [
                pair("CreateManagedThing", "*"),
                pair("DeleteManagedThing", things),
                pair("GetManagedThing", things)
            ]
        );
    }

    #[test]
    fn the_locker_that_was_given_for_managed_things_is_read_and_nothing_else() {
        let given = "locker = { scope = \"given\", id = \"0123456789abcdef\" }\ncertificate = {}";
        let managed =
            given.replace("locker", "upc = \"036000291452\"\nmanaged_thing = { role = \"device\" }\nlocker");
        let lockers = |config: &str| {
            let grants = grants(&MINIMAL.replace("certificate = {}", config));
            let named = grants.into_iter().map(|it| it.0).filter(|it| it.contains("CredentialLocker"));
            named.collect::<Vec<_>>()
        };
        assert_eq!(lockers(given), Vec::<String>::new());
        assert_eq!(lockers(&managed), ["iotmanagedintegrations:GetCredentialLocker"]);
    }

    #[test]
    fn names_with_a_prefix_are_held_to_it() {
        let grants = grants(SHARED);
        let has = |action: &str, resource: &str| {
            let resource = format!("arn:aws:iot:eu-west-1:123456789012:{resource}");
            grants.contains(&(action.to_owned(), resource))
        };
        assert!(has("iot:CreateThing", "thing/thermostat-*") && !has("iot:CreateThing", "thing/*"));
        assert!(has("iot:CreatePolicy", "policy/thermostat-device"));
        assert!(!grants.iter().any(|(action, _)| action == "iot:DeletePolicy"), "a shared policy stays");
        assert!(grants.contains(&("iot:RegisterCertificate".to_owned(), "*".to_owned())));
        assert!(grants.contains(&("iot:ListCertificatesByCA".to_owned(), "*".to_owned())));
        let ca = has("iot:DescribeCACertificate", "cacert/*");
        assert!(ca, "AWS is asked for the CA where it refuses a certificate of it");
        assert!(
            !grants.iter().any(|(action, _)| action == "iot:ListCertificates"),
            "its CA's list has them all"
        );
        assert!(!grants.iter().any(|(action, _)| action == "iot:ListPolicies"), "it has none of its own");
        assert!(!grants.iter().any(|(action, _)| action.contains("Locker") || action.contains("Tag")));
    }

    #[test]
    fn a_certificate_can_be_replaced_and_jitp_makes_and_attaches_none() {
        let actions = |text: &str| grants(text).into_iter().map(|it| it.0).collect::<BTreeSet<_>>();
        let plain = actions(MINIMAL);
        assert!(plain.contains("iot:DetachPolicy") && plain.contains("iot:DetachThingPrincipal"));
        assert!(plain.contains("iot:ListThingPrincipals") && plain.contains("iot:UpdateCertificate"));
        assert!(!plain.contains("iot:DescribeCACertificate"));
        let jitp = actions(&MINIMAL.replace("certificate = {}", "certificate = { register = \"jitp\" }"));
        assert!(!jitp.iter().any(|it| it.contains("Register") || it.contains("iot:Attach")));
        assert!(jitp.contains("iot:UpdateCertificate"), "a replaced certificate is deactivated");
        assert!(jitp.contains("iot:CreateThing") && jitp.contains("iot:CreatePolicy"));
        let cleared = ["iot:ListThingPrincipals", "iot:DetachThingPrincipal", "iot:DetachPolicy"];
        assert!(
            cleared.iter().all(|it| jitp.contains(*it)),
            "a device that is scrapped is cleared: {jitp:?}"
        );
        let aws = actions(&MINIMAL.replace("certificate = {}", "certificate = { issuer = \"aws\" }"));
        let more: Vec<_> = aws.difference(&plain).map(String::as_str).collect();
        assert_eq!(more, ["iot:CreateCertificateFromCsr"]);
        let less: Vec<_> = plain.difference(&aws).map(String::as_str).collect();
        assert_eq!(less, ["iot:RegisterCertificateWithoutCA"]);
        let gov = MINIMAL.replace("eu-west-1", "us-gov-west-1");
        assert!(grants(&gov).iter().all(|it| it.1 == "*" || it.1.starts_with("arn:aws-us-gov:")));
    }
}
