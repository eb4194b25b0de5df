//! Work order, journal and cloud: what the journal says that the account should hold for a device, held
//! against what it does hold, and what to do about each difference.
//!
//! Nothing here asks anybody. `station::reconcile` reads the journal and the account, and hands on what a
//! repair is to do; [`Roster`] keeps what the account's lists have shown, in little room.
//!
//! | class | what it means | what `--repair` does |
//! |---|---|---|
//! | missing | nothing of a device's own is there; or what many share | makes it again; what many share it leaves |
//! | half-made | a part of it is there | makes the rest, but attaches no policy whose document is another |
//! | extra | a thing of this station's that the journal does not know, or knows as scrapped | with `--delete-extras`: scraps it |
//! | orphaned-certificate | a certificate of the station's CA that is no device's any more, or never was, and at no other station's thing | deactivates, detaches, deletes |
//! | inactive | a device's certificate is not active | nothing: somebody has done that |
//! | policy-differs | the document in force is another | nothing |
//! | attached-to-another | certificate, thing and policy are attached otherwise than recorded, or the managed thing names another locker | nothing |
//! | duplicated-locker | further lockers have the device's locker's name | nothing: names prove nothing |
//! | not-ours | the thing of that name was made by another station, or not by linemint | nothing |

mod compare;
mod expected;
pub mod newest;
mod roster;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::fmt;

use serde::{Deserialize, Serialize};

use crate::cloud::CertificateStatus;
use crate::device::mend::Orphan;
use crate::device::rules::{Part, Place, Template};
use crate::device::steps::Step;
use crate::shift::moment::Moment;

pub use self::compare::{compare, extra, on_order, orphan, shared_locker, shared_policy};
pub use self::expected::{
    BatchLockers, Expected, SharedLocker, WantedCertificate, WantedLocker, WantedPolicy, is_in_flight,
};
pub use self::roster::{MAX_NAMES, Roster, Row, Seen, Taken, TooMany};

/// What kind of difference.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[expect(missing_docs, reason = "the module's table says what each means")]
pub enum Class {
    Missing,
    HalfMade,
    Extra,
    OrphanedCertificate,
    Inactive,
    PolicyDiffers,
    AttachedToAnother,
    DuplicatedLocker,
    NotOurs,
}

impl Class {
    /// Every class, in the order in which they are told.
    pub const ALL: [Self; 9] = [
        Self::Missing,
        Self::HalfMade,
        Self::Extra,
        Self::OrphanedCertificate,
        Self::Inactive,
        Self::PolicyDiffers,
        Self::AttachedToAnother,
        Self::DuplicatedLocker,
        Self::NotOurs,
    ];

    /// The word used on the wire and on the terminal.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Missing => "missing",
            Self::HalfMade => "half-made",
            Self::Extra => "extra",
            Self::OrphanedCertificate => "orphaned-certificate",
            Self::Inactive => "inactive",
            Self::PolicyDiffers => "policy-differs",
            Self::AttachedToAnother => "attached-to-another",
            Self::DuplicatedLocker => "duplicated-locker",
            Self::NotOurs => "not-ours",
        }
    }
}

impl fmt::Display for Class {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// One difference: at most one of each class for a device.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Finding {
    /// What kind.
    pub class: Class,
    /// Whose it is; none where the journal knows nobody.
    pub serial: Option<String>,
    /// What it is about: `thing SN1`, `certificate 01ab…`.
    pub resource: String,
    /// What the journal says, a sentence's end.
    pub expected: String,
    /// What the account holds, a sentence's end.
    pub held: String,
    /// What to do about it, a sentence.
    pub remedy: String,
    /// What a repair does; none where it leaves it to a person.
    pub repair: Option<Repair>,
}

/// What a repair does about a finding.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "action", rename_all = "kebab-case")]
pub enum Repair {
    /// Makes what is not there, with the steps of provisioning.
    Finish {
        /// Which.
        steps: Vec<Step>,
    },
    /// Deactivates a certificate that is no device's, detaches and deletes it.
    Retire(Box<Orphan>),
    /// Takes a thing that the journal does not know into it, and scraps it.
    Clear {
        /// Its product.
        product: String,
    },
}

/// Whose a thing is, as its attribute says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Owner {
    /// This station's.
    Us,
    /// That station's.
    Station(String),
    /// Nobody's: linemint has not made it.
    Nobody,
}

impl Owner {
    /// Whose it is, seen from `station`.
    #[must_use]
    pub fn of(attributes: &BTreeMap<String, String>, station: &str) -> Self {
        match attributes.get(crate::device::steps::STATION_ATTRIBUTE) {
            Some(it) if it == station => Self::Us,
            Some(it) => Self::Station(it.clone()),
            None => Self::Nobody,
        }
    }
}

/// What the account holds for one device. What was not looked at is `None` in the inner option, and no
/// finding.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Held {
    /// Whose the thing is, if it is there.
    pub thing: Option<Owner>,
    /// The policy, if it is there, with its document. One that many share is looked at only before it is attached again.
    pub policy: Option<Option<String>>,
    /// The certificate's status, if it is there.
    pub certificate: Option<CertificateStatus>,
    /// Whether the locker is there.
    pub locker: bool,
    /// Ids of other lockers of its name.
    pub other_lockers: Vec<String>,
    /// Whether its managed thing is there.
    pub managed_thing: Option<bool>,
    /// Id of the locker that this names, where AWS tells one.
    pub managed_locker: Option<String>,
    /// If that is not: whether the locker that it would go into again is, where it is not the device's own.
    pub managed_into: Option<bool>,
    /// ARNs of the certificates that are attached to the thing.
    pub principals: Option<Vec<String>>,
    /// Names of the policies that are attached to the certificate.
    pub policies: Option<Vec<String>>,
    /// Names of the things that the certificate is attached to.
    pub things: Option<Vec<String>>,
}

/// Which devices.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[schema(as = ReconcileSelection)]
#[serde(default, deny_unknown_fields)]
pub struct Selection {
    /// Those of this batch.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub batch: Option<String>,
    /// Those first presented in this shift, `2026-11-21/early`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub shift: Option<String>,
    /// Those first presented since then: RFC 3339, or the station's own clock as `2026-11-22T06:00`.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>)]
    pub since: Option<Moment>,
    /// Those first presented before then, likewise.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>)]
    pub until: Option<Moment>,
}

impl Selection {
    /// Whether every device is selected.
    #[must_use]
    pub fn is_all(&self) -> bool {
        *self == Self::default()
    }
}

/// What is asked for: the body of `POST /v1/reconcile`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Wish {
    /// Which devices.
    pub selection: Selection,
    /// Only what the lists show: existence and status, no attachments and documents.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub quick: bool,
    /// Repairs what can be repaired.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub repair: bool,
    /// With `repair`: scraps what this station has made and the journal does not know.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub delete_extras: bool,
    /// With `repair`: why, one line of 1 to 200 characters.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// Goes on behind this serial number, where an earlier look was cut off. Not with `repair`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub after: Option<String>,
}

/// What is being read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Phase {
    /// The journal.
    Journal,
    /// The account's lists, names.
    Lists,
    /// Single reads, devices.
    Devices,
    /// Things and certificates that the journal does not know.
    Strangers,
    /// Repairs, findings.
    Repairs,
}

/// What a reconciliation tells while it runs, a JSON object a line.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "line", rename_all = "lowercase")]
pub enum Told {
    /// How far it is; some times a second at most.
    Progress {
        /// What is being read.
        phase: Phase,
        /// How many are done.
        done: u64,
        /// Of how many, where that is known.
        of: Option<u64>,
        /// Every device up to this serial number is told: where the next look may go on.
        after: Option<String>,
    },
    /// A difference.
    Finding(Box<Finding>),
    /// What has come of a repair.
    Repaired {
        /// Whose.
        serial: String,
        /// What it was about.
        class: Class,
        /// Whether it is done.
        done: bool,
        /// Why not, or not yet.
        why: Option<String>,
    },
    /// The end, and nothing after it.
    Summary(Summary),
    /// It could not go on; nothing comes after it.
    Problem {
        /// Why, a sentence.
        detail: String,
        /// Every device up to this serial number is told.
        after: Option<String>,
    },
}

/// What it all comes to.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Summary {
    /// Devices that were selected.
    pub selected: u64,
    /// Devices of them that were held against the account.
    pub compared: u64,
    /// Devices of them that are being worked on, or were meanwhile: no finding either way.
    pub in_flight: u64,
    /// Devices of which AWS could not be asked, after several tries.
    pub unread: u64,
    /// Names that the lists have shown; none where only single reads were made.
    pub listed: Option<u64>,
    /// Certificates that are not this journal's and that were not looked into.
    pub unexamined: u64,
    /// Of a batch: serial numbers on its list that were never presented here, and whose things were looked for.
    pub sought: u64,
    /// Of a batch: such serial numbers whose things were not, since their names cannot be told from them.
    pub unsought: u64,
    /// Findings by class, those without any left out.
    pub findings: BTreeMap<Class, u64>,
    /// Findings that were repaired.
    pub repaired: u64,
    /// Findings whose repair has failed or is not done yet.
    pub unrepaired: u64,
    /// How long it took, milliseconds.
    pub took_ms: u64,
    /// Calls that were made of AWS, by operation in kebab case.
    pub calls: BTreeMap<String, u64>,
}

impl Summary {
    /// How many findings there are.
    #[must_use]
    pub fn found(&self) -> u64 {
        self.findings.values().sum()
    }

    /// Whether every device was seen, and is as it should be. Certificates that nobody knows may not have been
    /// looked into.
    #[must_use]
    pub fn is_clean(&self) -> bool {
        self.found() == self.repaired && self.unread == 0 && self.unrepaired == 0
    }
}

/// The name that `template` makes for every device, where it has no place that tells them apart.
#[must_use]
pub fn fixed_name(template: &Template, station: &str, product: &str) -> Option<String> {
    let part = |part: &Part| match part {
        Part::Text(text) => Some(text.clone()),
        Part::Place(Place::Station) => Some(station.to_owned()),
        Part::Place(Place::Product) => Some(product.to_owned()),
        Part::Place(_) => None,
    };
    template.parts().iter().map(part).collect()
}

/// The serial number in a name that `template` has made; none if it cannot be told.
#[must_use]
pub fn serial_in<'a>(template: &Template, name: &'a str, station: &str, product: &str) -> Option<&'a str> {
    serial_between(template, name, (station, product, None))
}

/// Likewise, in the name of a device of that batch.
#[must_use]
pub fn serial_on_order<'a>(
    template: &Template,
    name: &'a str,
    (station, product, batch): (&str, &str, &str),
) -> Option<&'a str> {
    serial_between(template, name, (station, product, Some(batch)))
}

fn serial_between<'a>(
    template: &Template,
    name: &'a str,
    (station, product, batch): (&str, &str, Option<&str>),
) -> Option<&'a str> {
    let (mut before, mut after, mut seen) = (String::new(), String::new(), false);
    for part in template.parts() {
        let text = match part {
            Part::Text(text) => text.as_str(),
            Part::Place(Place::Station) => station,
            Part::Place(Place::Product) => product,
            Part::Place(Place::Batch) => batch?,
            Part::Place(Place::Serial) if !seen => {
                seen = true;
                continue;
            }
            Part::Place(_) => return None,
        };
        if seen { after.push_str(text) } else { before.push_str(text) }
    }
    let serial = name.strip_prefix(before.as_str())?.strip_suffix(after.as_str())?;
    (seen && !serial.is_empty()).then_some(serial)
}
