//! What tests of several parts begin with.

use std::collections::BTreeMap;

use super::rules::{
    CertificateRule, KeyOrigin, LockerRule, PolicyRule, ProductRules, Register, Repeat, Template,
};

/// The station that makes everything.
pub(crate) const STATION: &str = "L3-S07";

/// What a device's policy says.
pub(crate) const DOCUMENT: &str = r#"{"Version":"2012-10-17","Statement":[]}"#;

/// Reads a template.
pub(crate) fn text(it: &str) -> Template {
    Template::parse(it).unwrap()
}

/// A product as most stations have it.
pub(crate) fn plain_rules(product: &str) -> ProductRules {
    ProductRules {
        product: product.to_owned(),
        station: STATION.to_owned(),
        thing: text("{serial}"),
        locker: LockerRule::Device {
            name: text("{serial}"),
            tags: BTreeMap::from([("product".to_owned(), text("{product}"))]),
        },
        policy: PolicyRule::Device {
            name: text("{serial}"),
            document: DOCUMENT.to_owned(),
            tags: BTreeMap::new(),
        },
        certificate: CertificateRule {
            key: KeyOrigin::Station,
            days: 3650,
            common_name: text("{serial}"),
            register: Register::WithoutCa,
        },
        repeat: Repeat::Return,
        require_batch: false,
        max_certificates: 3,
        endpoint: None,
        roots: None,
        verify: crate::device::rules::Verify::None,
        article: None,
        managed_thing: None,
    }
}

/// One policy for all devices.
pub(crate) fn shared_policy() -> PolicyRule {
    PolicyRule::Product { name: text("lamps"), document: DOCUMENT.to_owned(), tags: BTreeMap::new() }
}
