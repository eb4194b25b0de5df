//! What the account's lists have shown, in little room: of each name only a hash is kept, and whose it is.
//!
//! A device takes some 100 bytes. Two names of one hash could hide a difference, at a chance of 1 in
//! 10¹¹ for a million devices; none is made up, since what seems to be missing is asked for by its name.

use std::collections::HashMap;

use crate::cloud::{CertificateStatus, ListedCertificate, ListedLocker, ListedThing};
use crate::device::Device;
use crate::device::rules::{LockerRule, PolicyRule, ProductRules};
use crate::device::serial::SerialNumber;
use crate::device::steps::Subject;
use crate::pki::Fingerprint;

use super::Owner;

/// Names of one kind that are taken at most.
pub const MAX_NAMES: usize = 2_000_000;

/// Things and certificates that the journal does not know and that are kept.
const MAX_STRANGERS: usize = 1_000_000;

/// A device that was not selected: it is only known.
const NOBODY: u32 = u32::MAX;

/// The account holds more than is taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("there are more than {MAX_NAMES} names of one kind: select a shift or a batch")]
pub struct TooMany;

/// What the lists have shown for a device.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Seen {
    /// Whether its thing is there and this station's.
    pub thing: bool,
    /// Whether its policy is there.
    pub policy: bool,
    /// Whether its locker is there.
    pub locker: bool,
    /// Its certificate's status.
    pub certificate: Option<CertificateStatus>,
}

/// How a run takes a device of the journal.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Taken {
    /// It was not selected: it is only known.
    Known,
    /// It was selected, and the run that this one goes on with has held it against the account. What it had
    /// before is still told, as that comes at the end of a run.
    Told,
    /// It is held against the account.
    Selected,
}

/// A device that was selected.
#[derive(Debug, Clone)]
pub struct Row {
    /// Its serial number.
    pub serial: SerialNumber,
    /// Whether it is still to be held against the account.
    pub waits: bool,
    /// Sequence number of its newest event when the journal was read.
    pub seq: u64,
    /// What the lists have shown.
    pub seen: Seen,
}

/// Names by their hash, with the row that they belong to.
#[derive(Debug, Default)]
struct Names {
    pairs: Vec<(u64, u32)>,
}

impl Names {
    fn add(&mut self, name: &str, row: u32) {
        self.pairs.push((hash(name.as_bytes()), row));
    }

    /// Whose that name is.
    fn find(&self, name: &str) -> Option<u32> {
        let wanted = hash(name.as_bytes());
        let at = self.pairs.binary_search_by_key(&wanted, |it| it.0).ok()?;
        Some(self.pairs[at].1)
    }
}

fn hash(bytes: &[u8]) -> u64 {
    Fingerprint::of(bytes).short()
}

/// The journal's devices and what the lists have shown for them.
#[derive(Debug, Default)]
pub struct Roster {
    rows: Vec<Row>,
    things: Names,
    policies: Names,
    lockers: Names,
    locker_names: Names,
    /// Present certificates.
    certificates: Names,
    /// Certificates that devices had before, those of scrapped ones among them.
    earlier: Names,
    other_lockers: HashMap<u32, Vec<String>>,
    /// Things that devices of the order would have, which were never presented here.
    ordered: Names,
    ordered_there: Vec<String>,
    extras: Vec<String>,
    strangers: Vec<ListedCertificate>,
    retired: Vec<(u32, ListedCertificate)>,
    listed: u64,
}

impl Roster {
    /// Takes a device of the journal. To be followed by [`sort`](Self::sort).
    ///
    /// # Errors
    /// There are too many.
    pub fn add(&mut self, device: &Device, rules: &ProductRules, taken: Taken) -> Result<(), TooMany> {
        if self.things.pairs.len() >= MAX_NAMES {
            return Err(TooMany);
        }
        let mut row = NOBODY;
        if taken != Taken::Known {
            row = u32::try_from(self.rows.len()).unwrap_or(NOBODY);
            let (serial, seq) = (device.serial.clone(), device.last_seq);
            self.rows.push(Row { serial, waits: taken == Taken::Selected, seq, seen: Seen::default() });
        }
        let subject = Subject { device, rules, ca_pem: "" };
        self.things.add(&subject.thing_name(), row);
        // A shared one is looked at once for all.
        if let (PolicyRule::Device { .. }, Some(name)) = (&rules.policy, subject.policy_name()) {
            self.policies.add(&name, row);
        }
        if let LockerRule::Device { name, .. } = &rules.locker {
            self.locker_names.add(&subject.fill(name), row);
        }
        if let Some(id) = &device.done.locker {
            self.lockers.add(id, row);
        }
        if let Some(id) = device.fingerprint() {
            self.certificates.add(&id.to_string(), row);
        }
        for old in &device.superseded {
            self.earlier.add(&old.fingerprint.to_string(), row);
        }
        Ok(())
    }

    /// Takes the name of the thing that a device of the order would have, which was never presented here.
    ///
    /// # Errors
    /// There are too many.
    pub fn order(&mut self, thing: &str) -> Result<(), TooMany> {
        if self.ordered.pairs.len() >= MAX_NAMES {
            return Err(TooMany);
        }
        self.ordered.add(thing, NOBODY);
        Ok(())
    }

    /// Makes the names ready to be looked up.
    pub fn sort(&mut self) {
        let all = [
            &mut self.things,
            &mut self.policies,
            &mut self.lockers,
            &mut self.locker_names,
            &mut self.certificates,
            &mut self.earlier,
            &mut self.ordered,
        ];
        for names in all {
            names.pairs.sort_unstable();
            names.pairs.shrink_to_fit();
        }
    }

    /// Takes a page of things, seen from `station`.
    pub fn things(&mut self, page: &[ListedThing], station: &str) {
        self.listed += page.len() as u64;
        for thing in page {
            let owner = Owner::of(&thing.attributes, station);
            if self.ordered.find(&thing.name).is_some() && self.ordered_there.len() < MAX_STRANGERS {
                self.ordered_there.push(thing.name.clone());
            }
            match self.things.find(&thing.name) {
                Some(row) if owner == Owner::Us => self.note(row, |it| it.thing = true),
                Some(_) => {}
                None if owner == Owner::Us && self.extras.len() < MAX_STRANGERS => {
                    self.extras.push(thing.name.clone());
                }
                None => {}
            }
        }
    }

    /// Takes a page of policies.
    pub fn policies(&mut self, page: &[String]) {
        self.listed += page.len() as u64;
        for name in page {
            if let Some(row) = self.policies.find(name) {
                self.note(row, |it| it.policy = true);
            }
        }
    }

    /// Takes a page of lockers.
    pub fn lockers(&mut self, page: &[ListedLocker]) {
        self.listed += page.len() as u64;
        for locker in page {
            if let Some(row) = self.lockers.find(&locker.id) {
                self.note(row, |it| it.locker = true);
            } else if let Some(row) = locker.name.as_ref().and_then(|it| self.locker_names.find(it))
                && row != NOBODY
            {
                self.other_lockers.entry(row).or_default().push(locker.id.clone());
            }
        }
    }

    /// Takes a page of certificates.
    pub fn certificates(&mut self, page: Vec<ListedCertificate>) {
        self.listed += page.len() as u64;
        for certificate in page {
            let id = certificate.id.to_string();
            if let Some(row) = self.certificates.find(&id) {
                self.note(row, |it| it.certificate = Some(certificate.status));
            } else if let Some(row) = self.earlier.find(&id) {
                self.retired.push((row, certificate));
            } else if self.strangers.len() < MAX_STRANGERS {
                self.strangers.push(certificate);
            }
        }
    }

    fn note(&mut self, row: u32, change: impl FnOnce(&mut Seen)) {
        if let Some(row) = self.rows.get_mut(row as usize) {
            change(&mut row.seen);
        }
    }

    /// The selected devices, in the order in which they were taken.
    #[must_use]
    pub fn rows(&self) -> &[Row] {
        &self.rows
    }

    /// How many of them are to be held against the account.
    #[must_use]
    pub fn selected(&self) -> u64 {
        self.rows.iter().filter(|it| it.waits).count() as u64
    }

    /// Other lockers of the name of that row's.
    #[must_use]
    pub fn other_lockers(&self, row: usize) -> Vec<String> {
        let row = u32::try_from(row).unwrap_or(NOBODY);
        self.other_lockers.get(&row).cloned().unwrap_or_default()
    }

    /// Names that the lists have shown.
    #[must_use]
    pub fn listed(&self) -> u64 {
        self.listed
    }

    /// Names of things that are this station's and no device's that the journal knows.
    #[must_use]
    pub fn extras(&self) -> &[String] {
        &self.extras
    }

    /// Names of things that devices of the order would have, which were never presented here.
    #[must_use]
    pub fn ordered_there(&self) -> &[String] {
        &self.ordered_there
    }

    /// Whether it is, or was, the certificate of a device of the journal.
    #[must_use]
    pub fn knows_certificate(&self, id: &Fingerprint) -> bool {
        let id = id.to_string();
        self.certificates.find(&id).is_some() || self.earlier.find(&id).is_some()
    }

    /// Certificates that the journal does not know, the newest first as far as the list was.
    #[must_use]
    pub fn strangers(&self) -> &[ListedCertificate] {
        &self.strangers
    }

    /// Certificates that selected devices had before and that are there, with whose they are.
    pub fn retired(&self) -> impl Iterator<Item = (&SerialNumber, &ListedCertificate)> {
        self.retired
            .iter()
            .filter_map(move |(row, it)| self.rows.get(*row as usize).map(|row| (&row.serial, it)))
    }
}
