//! A product's rules, as far as they decide what a device becomes.
//!
//! They are made from the configuration once, checked there, and journaled whole under the
//! hash of their content, so that a device in flight keeps the rules under which it was
//! admitted whatever the configuration says by then.

use std::collections::BTreeMap;
use std::fmt;

use serde::{Deserialize, Serialize};

use super::article::ArticleNumber;
use super::serial::{Mac, SerialNumber};

/// Hash of a product's rules: 64 hex digits.
pub type RulesId = crate::pki::Fingerprint;

/// What a device of one product becomes. Valid by construction (see `config`).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProductRules {
    /// The product's name, `[A-Za-z0-9_-]{1,64}`.
    pub product: String,
    /// The station's id: the value of the attribute `linemint` on each thing.
    pub station: String,
    /// Name of the thing.
    pub thing: Template,
    /// Its locker.
    pub locker: LockerRule,
    /// Its policy.
    pub policy: PolicyRule,
    /// Its certificate.
    pub certificate: CertificateRule,
    /// What is done when a serial that has passed is presented again.
    pub repeat: Repeat,
    /// Whether a batch must be open.
    pub require_batch: bool,
    /// Certificates that one serial may use up before it is quarantined.
    pub max_certificates: u32,
    /// The AWS IoT data endpoint told to the device.
    pub endpoint: Option<String>,
    /// The server's roots told to the device, PEM.
    pub roots: Option<String>,
    /// How the result is tried out before the device may pass.
    #[serde(default, skip_serializing_if = "Verify::is_none")]
    pub verify: Verify,
    /// The product's number in trade: on labels, and in what authenticates a device.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub article: Option<ArticleNumber>,
    /// Its managed thing, if it gets one. The product then has an article number.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub managed_thing: Option<ManagedThingRule>,
}

impl ProductRules {
    /// The hash under which they are journaled.
    #[must_use]
    pub fn id(&self) -> RulesId {
        // Plain maps and strings with a fixed member order: cannot fail.
        RulesId::of(&serde_json::to_vec(self).unwrap_or_default())
    }
}

/// What kind of locker a device has.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "scope", rename_all = "lowercase")]
pub enum LockerRule {
    /// One for each device.
    Device {
        /// Its name.
        name: Template,
        /// Its tags.
        tags: BTreeMap<String, Template>,
    },
    /// One for each batch: made with its first device, shared by all of them.
    Batch {
        /// Its name; holds `{batch}`, and no `{serial}` or `{mac}`.
        name: Template,
        /// Its tags; they hold no `{serial}` or `{mac}`.
        tags: BTreeMap<String, Template>,
    },
    /// One that exists already.
    Given {
        /// Its id.
        id: String,
    },
    /// None.
    None,
}

/// What a device is to IoT managed integrations, which knows it by its serial and article number.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ManagedThingRule {
    /// Whether it is a hub.
    pub role: ManagedRole,
}

/// The roles of managed things.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ManagedRole {
    /// A hub, which provisions others.
    Controller,
    /// What is provisioned by a hub.
    Device,
}

/// What kind of policy a device has.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "scope", rename_all = "lowercase")]
pub enum PolicyRule {
    /// One for each device.
    Device {
        /// Its name.
        name: Template,
        /// The document: JSON without insignificant white space.
        document: String,
        /// Its tags.
        tags: BTreeMap<String, Template>,
    },
    /// One for the product: made with the first device, shared by all.
    Product {
        /// Its name; holds no `{serial}`, `{mac}` or `{batch}`.
        name: Template,
        /// The document: JSON without insignificant white space.
        document: String,
        /// Its tags.
        tags: BTreeMap<String, Template>,
    },
    /// One that exists already.
    Given {
        /// Its name.
        name: String,
    },
    /// None.
    None,
}

/// What a device's certificate holds and how AWS learns of it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CertificateRule {
    /// Who makes the key pair.
    pub key: KeyOrigin,
    /// Life in days. AWS issues for a time of its own, whatever this says.
    pub days: u32,
    /// Subject common name.
    pub common_name: Template,
    /// How AWS learns of it.
    pub register: Register,
}

/// How what was made for a device is tried out before it may pass.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Verify {
    /// Not at all: what AWS has answered counts.
    #[default]
    None,
    /// AWS is asked for it once more.
    Cloud,
    /// The station connects with the device's certificate and key; only where it has made the key. The
    /// rules then name an endpoint and its roots.
    Tls,
}

impl Verify {
    /// For serde: rules of before bear no such member, and keep their hash.
    fn is_none(&self) -> bool {
        *self == Self::None
    }
}

/// Who makes a device's key pair.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum KeyOrigin {
    /// The station, which then hands it over.
    Station,
    /// The device, which sends a certificate signing request.
    Device,
}

/// How AWS learns of a certificate: who issues it decides that.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Register {
    /// `RegisterCertificateWithoutCA`.
    WithoutCa,
    /// `RegisterCertificate`, with the CA that is registered in the account.
    WithCa,
    /// At the device's first connection (just in time provisioning): no call here.
    Jitp,
    /// Not at all: AWS issues it itself, from a certificate signing request
    /// (`CreateCertificateFromCsr`). The other three are for what the station's CA has signed.
    Aws,
}

/// What is done when a serial that has passed is presented again.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Repeat {
    /// It has passed: say so again.
    Return,
    /// It gets a new certificate.
    Renew,
    /// It is refused.
    Reject,
}

/// A text with places `{serial} {mac} {batch} {station} {product}`.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(into = "String", try_from = "String")]
pub struct Template {
    parts: Vec<Part>,
}

/// A piece of a [`Template`].
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Part {
    /// Text as it stands.
    Text(String),
    /// A place to be filled.
    Place(Place),
}

/// What fills a place of a [`Template`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Place {
    /// The serial number.
    Serial,
    /// The MAC address, 12 lower-case hex digits.
    Mac,
    /// The batch's id.
    Batch,
    /// The station's id.
    Station,
    /// The product's name.
    Product,
}

impl Place {
    const ALL: [(&'static str, Self); 5] = [
        ("serial", Self::Serial),
        ("mac", Self::Mac),
        ("batch", Self::Batch),
        ("station", Self::Station),
        ("product", Self::Product),
    ];
}

/// The text is no template.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct BadTemplate(pub String);

impl Template {
    /// Parses a text with places in braces.
    ///
    /// # Errors
    /// A brace without its partner, or a place of another name.
    pub fn parse(text: &str) -> Result<Self, BadTemplate> {
        let mut parts = Vec::new();
        let mut rest = text;
        while let Some(at) = rest.find(['{', '}']) {
            if rest.as_bytes()[at] == b'}' {
                return Err(BadTemplate(format!("{text:?} has a }} without its {{")));
            }
            if at > 0 {
                parts.push(Part::Text(rest[..at].to_owned()));
            }
            let Some(len) = rest[at..].find('}') else {
                return Err(BadTemplate(format!("{text:?} has a {{ without its }}")));
            };
            let name = &rest[at + 1..at + len];
            let Some((_, place)) = Place::ALL.iter().find(|(it, _)| *it == name) else {
                return Err(BadTemplate(format!(
                    "{{{name}}} is not known; known are {{serial}} {{mac}} {{batch}} {{station}} {{product}}"
                )));
            };
            parts.push(Part::Place(*place));
            rest = &rest[at + len + 1..];
        }
        if !rest.is_empty() {
            parts.push(Part::Text(rest.to_owned()));
        }
        Ok(Self { parts })
    }

    /// Its pieces in order.
    #[must_use]
    pub fn parts(&self) -> &[Part] {
        &self.parts
    }

    /// Whether `place` occurs in it.
    #[must_use]
    pub fn has(&self, place: Place) -> bool {
        self.parts.contains(&Part::Place(place))
    }

    /// The text for one device. A MAC address or batch that the device has not is left empty
    /// (a device whose product needs one is not admitted without).
    #[must_use]
    pub fn fill(&self, with: &Filling<'_>) -> String {
        self.parts
            .iter()
            .map(|part| match part {
                Part::Text(text) => text,
                Part::Place(Place::Serial) => with.serial.as_str(),
                Part::Place(Place::Mac) => with.mac.map_or("", Mac::as_str),
                Part::Place(Place::Batch) => with.batch.unwrap_or(""),
                Part::Place(Place::Station) => with.station,
                Part::Place(Place::Product) => with.product,
            })
            .collect()
    }
}

impl fmt::Display for Template {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.parts.iter().try_for_each(|part| match part {
            Part::Text(text) => f.write_str(text),
            Part::Place(place) => {
                let name = Place::ALL.iter().find(|(_, it)| it == place).map_or("", |(name, _)| name);
                write!(f, "{{{name}}}")
            }
        })
    }
}

impl From<Template> for String {
    fn from(it: Template) -> Self {
        it.to_string()
    }
}

impl TryFrom<String> for Template {
    type Error = BadTemplate;

    fn try_from(text: String) -> Result<Self, BadTemplate> {
        Self::parse(&text)
    }
}

/// What fills the places of a [`Template`] for one device.
#[derive(Debug, Clone, Copy)]
pub struct Filling<'a> {
    /// The serial number.
    pub serial: &'a SerialNumber,
    /// The MAC address, if it has told one.
    pub mac: Option<&'a Mac>,
    /// The batch it belongs to, if any.
    pub batch: Option<&'a str>,
    /// The station's id.
    pub station: &'a str,
    /// The product's name.
    pub product: &'a str,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_template_prints_what_it_was_parsed_from() {
        for text in ["", "{serial}", "dev-{product}-{serial}", "{mac}{batch}{station}"] {
            assert_eq!(Template::parse(text).unwrap().to_string(), text);
        }
        for bad in ["{", "}", "{serial", "{Serial}", "{}", "a}b{serial}", "{ser{ial}"] {
            assert!(Template::parse(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn a_template_is_filled_for_one_device() {
        let serial = SerialNumber::parse("SN1").unwrap();
        let mac = Mac::parse("AA:BB:CC:DD:EE:FF").unwrap();
        let with = Filling { serial: &serial, mac: Some(&mac), batch: None, station: "L3", product: "lamp" };
        let text = Template::parse("{product}/{serial}/{mac}/{batch}/{station}").unwrap().fill(&with);
        assert_eq!(text, "lamp/SN1/aabbccddeeff//L3");
    }
}
