//! A station, its products and its fixtures, as a test wants them.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use crate::cloud::Operation;
use crate::device::rules::ProductRules;
use crate::device::serial::SerialPattern;
use crate::device::testing::plain_rules;
pub(super) use crate::device::testing::{DOCUMENT, STATION, shared_policy, text};
use crate::fixture::Unit;
use crate::line::{Deliver, FixtureSettings, KnownCa, Product, Settings};
use crate::pki::Fingerprint;

/// How long an undelivered key is kept.
pub(super) const KEEP: Duration = Duration::from_secs(7 * 86_400);
pub(super) const RESEND: Duration = Duration::from_secs(2);

/// What a station is configured to be.
#[derive(Debug, Clone)]
pub(super) struct Setup {
    pub(super) rules: ProductRules,
    /// Those of other products.
    pub(super) others: Vec<ProductRules>,
    /// Names of the fixtures; all present the one product.
    pub(super) fixtures: Vec<String>,
    pub(super) seed: u64,
    /// Its CA's certificate.
    pub(super) ca: &'static str,
    /// The certificate of the CA before it.
    pub(super) previous_ca: Option<&'static str>,
    /// How long an undelivered key is kept.
    pub(super) keep: Duration,
    /// Devices of the backlog that are begun at a time.
    pub(super) in_progress: usize,
    /// Where credentials go.
    pub(super) deliver: Deliver,
    /// Where labels go.
    pub(super) labels: Option<std::path::PathBuf>,
}

impl Default for Setup {
    fn default() -> Self {
        Self {
            rules: rules(),
            others: Vec::new(),
            fixtures: vec!["jig-1".to_owned(), "jig-2".to_owned()],
            seed: 7,
            ca: "the CA",
            previous_ca: None,
            keep: KEEP,
            in_progress: 2,
            deliver: Deliver::Fixture,
            labels: None,
        }
    }
}

impl Setup {
    /// The default with other rules.
    pub(super) fn with(change: impl FnOnce(&mut ProductRules)) -> Self {
        let mut setup = Self::default();
        change(&mut setup.rules);
        setup
    }

    pub(super) fn settings(&self) -> Settings {
        let products = self.others.iter().chain([&self.rules]).map(|rules| {
            let serial = SerialPattern::new("^[A-Z0-9]{3,20}$").unwrap();
            let (deliver, labels) = (self.deliver.clone(), self.labels.clone());
            let product = Product { rules: Arc::new(rules.clone()), serial, deliver, labels };
            (rules.product.clone(), product)
        });
        let fixtures = self.fixtures.iter().map(|name| FixtureSettings {
            name: name.clone(),
            product: self.rules.product.clone(),
            resend: RESEND,
            answer_within: Duration::from_secs(60),
            patience: Duration::from_secs(60),
        });
        Settings {
            station: STATION.to_owned(),
            fixtures: fixtures.collect(),
            products: products.collect::<BTreeMap<_, _>>(),
            ca: Some(Fingerprint::of(self.ca.as_bytes())),
            ca_pem: format!("{}\n", self.ca),
            chain_pem: "the chain\n".to_owned(),
            previous_ca: self.previous_ca.map(|it| KnownCa {
                fingerprint: Fingerprint::of(it.as_bytes()),
                ca_pem: format!("{it}\n"),
                chain_pem: format!("the chain of {it}\n"),
            }),
            config_hash: "0".to_owned(),
            keep_undelivered: self.keep,
            backlog: 10_000,
            in_progress: self.in_progress,
            messages: Arc::default(),
            built_at: jiff::Timestamp::from_second(1_780_000_000).unwrap(),
            seed: self.seed,
        }
    }
}

fn rules() -> ProductRules {
    let endpoint = Some("abc-ats.iot.eu-west-1.amazonaws.com".to_owned());
    ProductRules { endpoint, ..plain_rules("thermostat") }
}

/// The calls that make a device.
pub(super) const MAKING: [Operation; 6] = [
    Operation::CreateCredentialLocker,
    Operation::CreatePolicy,
    Operation::CreateThing,
    Operation::RegisterCertificateWithoutCa,
    Operation::AttachPolicy,
    Operation::AttachThingPrincipal,
];

/// A unit in nest `a`.
pub(super) fn unit(id: u64, serial: &str) -> Unit {
    unit_in(id, serial, "a")
}

pub(super) fn unit_in(id: u64, serial: &str, nest: &str) -> Unit {
    Unit { id, serial: serial.to_owned(), nest: Some(nest.to_owned()), ..Unit::default() }
}
