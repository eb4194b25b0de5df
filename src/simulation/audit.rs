//! What has to hold: at every promise and every effect, and at the end.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};

use super::cloud::{Account, arn, der_of};
use super::disk::SimKeys;
use super::folders::SimFolders;
use super::index::Index;
use super::orders::Shelved;
use super::plan::{BATCH_LOCKER, SHARED_POLICY, STATION};
use crate::cloud::{Call, CertificateStatus};
use crate::device::event::Event;
use crate::device::rules::{LockerRule, PolicyRule, ProductRules, Register};
use crate::device::steps::STATION_ATTRIBUTE;
use crate::device::{Device, KeyState, State};
use crate::fixture::{Credentials, StationMessage};
use crate::journal::{Record, What};
use crate::pki::Fingerprint;

/// A presentation: fixture, boot, id.
pub(super) type Place = (String, u64, u64);

/// What is true on disk and on the line, as nobody in the station knows it.
#[derive(Debug, Default)]
pub(super) struct Truth {
    /// The newest record that is on disk.
    pub(super) seq: u64,
    /// The newest record that any life of the station was told to be on disk.
    pub(super) told: u64,
    journaled: HashSet<Place>,
    /// Certificates in `issued` records, by serial.
    issued: HashMap<String, BTreeSet<Fingerprint>>,
    /// Certificates that `passed` records stand for, by serial.
    confirmed: HashMap<String, BTreeSet<Fingerprint>>,
    superseded: HashSet<Fingerprint>,
    /// Serials whose newest presentation has no outcome.
    open: HashSet<String>,
    renewals: HashMap<String, usize>,
    lost: HashMap<String, usize>,
    acked: HashSet<Place>,
    offered: HashMap<String, BTreeSet<Fingerprint>>,
    /// Serials that a fixture was told to be in the journal.
    pub(super) promised: BTreeSet<String>,
    /// Serials that a fixture was told to have passed.
    pub(super) passed: BTreeSet<String>,
    /// Serials for which a person has to be asked, whatever the station does.
    pub(super) excused: BTreeSet<String>,
    /// Serials that a person has given up.
    given_up: HashSet<String>,
    /// Serials whose names in the cloud are somebody else's.
    pub(super) foreign: BTreeSet<String>,
    /// How many resets of a fixture the station may not have heard of yet.
    pub(super) unheard: u64,
    /// Whether the key files were lost.
    pub(super) keys_lost: bool,
    /// Whether a call was on its way when the station ended: it may overtake what the next life does. What was
    /// given up may then hang on what is to be deleted.
    pub(super) overtaken: bool,
    /// Whether a call has taken effect long after it was given up: it may undo a detaching made meanwhile,
    /// which nobody can prevent. The certificate is inactive all the same.
    pub(super) late: bool,
    /// What was delivered, by serial and certificate: a hash of all of it.
    delivered: HashMap<(String, Fingerprint), Fingerprint>,
    /// The batch.
    pub(super) shelved: Shelved,
}

impl Truth {
    /// Nothing is true yet, and of so many resets of a fixture the station may not hear.
    pub(super) fn where_unheard(unheard: u64) -> Self {
        Self { unheard, ..Self::default() }
    }

    /// A record is on disk for good; the device after it.
    pub(super) fn on_disk(&mut self, record: &Record, device: Option<&Device>) -> Result<(), String> {
        if record.seq != self.seq + 1 {
            return Err(format!("record {} follows {}", record.seq, self.seq));
        }
        self.seq = record.seq;
        self.shelved.on_disk(record, device)?;
        let (Some(serial), Some(device), What::Device(event)) = (&record.serial, device, &record.what) else {
            return Ok(());
        };
        let serial = serial.as_str();
        let opens = matches!(event, Event::Presented { .. } | Event::Renewed(_) | Event::Repeated { .. });
        if opens && self.open.contains(serial) {
            return Err(format!("{serial} is taken while it is in another place"));
        }
        if device.is_open() {
            self.open.insert(serial.to_owned());
        } else {
            self.open.remove(serial);
        }
        if let Some((key, _)) = event.presentation() {
            self.journaled.insert((key.fixture.clone(), key.boot, key.id));
        }
        self.superseded.extend(device.superseded.iter().flat_map(|it| [it.fingerprint, it.key_id()]));
        self.superseded.extend(device.useless_keys.iter().copied());
        match event {
            Event::Issued { certificate } => {
                self.issued.entry(serial.to_owned()).or_default().insert(certificate.fingerprint);
            }
            Event::Passed { .. } => {
                self.confirmed
                    .entry(serial.to_owned())
                    .or_default()
                    .extend(device.certificate.iter().flat_map(|it| [it.fingerprint, it.key_id()]));
            }
            Event::Scrapping { .. } => {
                self.given_up.insert(serial.to_owned());
            }
            Event::Renewed(_) => *self.renewals.entry(serial.to_owned()).or_default() += 1,
            Event::KeyLost { .. } if !self.keys_lost => {
                return Err(format!("a private key of {serial} is lost, but no key file was"));
            }
            Event::KeyLost { .. } => *self.lost.entry(serial.to_owned()).or_default() += 1,
            _ => {}
        }
        Ok(())
    }

    /// What is said to a fixture whose boot is `boot`, or has just been one of those before: the station may
    /// not have heard of its resets yet.
    pub(super) fn said(&mut self, fixture: &str, boot: u64, message: &StationMessage) -> Result<(), String> {
        let unheard = self.unheard;
        let places = |id| (0..=unheard).map(move |ago| (fixture.to_owned(), boot.saturating_sub(ago), id));
        match message {
            StationMessage::Ack { id } => {
                let known: Vec<Place> = places(*id).filter(|it| self.journaled.contains(it)).collect();
                if known.is_empty() {
                    return Err(format!("ack {id} to {fixture}, but it is not on disk"));
                }
                self.acked.extend(known);
            }
            StationMessage::Pass { serial, .. } if !self.confirmed.contains_key(serial) => {
                return Err(format!("pass for {serial}, but it has not passed on disk"));
            }
            StationMessage::Credentials(it) => {
                if !places(it.id).any(|place| self.acked.contains(&place)) {
                    return Err(format!("credentials {} for {} before its ack", it.id, it.serial));
                }
                self.offers(it)?;
            }
            _ => {}
        }
        Ok(())
    }

    fn offers(&mut self, it: &Credentials) -> Result<(), String> {
        let serial = &it.serial;
        let fingerprint = Fingerprint::of(&der_of(&it.certificate));
        if !self.issued.get(serial).is_some_and(|it| it.contains(&fingerprint)) {
            return Err(format!("{serial} is offered a certificate that is not on disk"));
        }
        let offered = self.offered.entry(serial.clone()).or_default();
        offered.insert(fingerprint);
        let count = |of: &HashMap<String, usize>| of.get(serial).copied().unwrap_or_default();
        let most = 1 + count(&self.renewals) + count(&self.lost);
        if offered.len() > most {
            return Err(format!("{serial} is offered {} certificates, not {most}", offered.len()));
        }
        Ok(())
    }

    /// A call leaves for AWS. `devices` are those on disk.
    pub(super) fn calls(&self, device: Option<&Device>, call: &Call) -> Result<(), String> {
        let Some(device) = device else { return Err("AWS is called for what is not on disk".to_owned()) };
        let serial = device.serial.as_str();
        match call {
            Call::RegisterCertificate { certificate_pem, .. }
            | Call::RegisterCertificateWithoutCa { certificate_pem } => {
                let id = Fingerprint::of(&der_of(certificate_pem));
                if !self.issued.get(serial).is_some_and(|it| it.contains(&id)) {
                    return Err(format!("a certificate of {serial} is registered that is not on disk"));
                }
            }
            Call::CreateCertificateFromCsr { csr_pem } => {
                let asked = device.request.as_ref().filter(|it| it.csr == der_of(csr_pem));
                if asked.is_none_or(|it| it.open_since.is_none()) {
                    return Err(format!("AWS is asked for a certificate of {serial}, which is not on disk"));
                }
            }
            Call::UpdateCertificate { id, status: CertificateStatus::Active }
                if device.fingerprint().is_none_or(|it| it.to_string() != *id) =>
            {
                return Err(format!("{id} of {serial} is made active, and is not on disk"));
            }
            Call::DeleteCertificate { id }
                if device.superseded.iter().all(|it| it.fingerprint.to_string() != *id) =>
            {
                return Err(format!("{id} of {serial} is deleted, and is not put aside on disk"));
            }
            Call::UpdateCertificate { status: CertificateStatus::Inactive, .. } if device.scrap.is_some() => {
            }
            Call::DeleteThing { .. } | Call::DeletePolicy { .. } | Call::DeleteCredentialLocker { .. }
                if device.scrap.is_none() =>
            {
                return Err(format!("{} for {serial}, which is not given up on disk", call.operation()));
            }
            Call::UpdateCertificate { id, status: CertificateStatus::Inactive }
                if device.superseded.iter().any(|it| it.spare && it.fingerprint.to_string() == *id) => {}
            Call::UpdateCertificate { id, status: CertificateStatus::Inactive } => {
                let confirmed = self.confirmed.get(serial);
                let live = device.fingerprint();
                if live
                    .is_none_or(|it| it.to_string() == *id || !confirmed.is_some_and(|all| all.contains(&it)))
                {
                    return Err(format!("{id} of {serial} is deactivated before a new one is confirmed"));
                }
            }
            _ => {}
        }
        Ok(())
    }

    /// A private key is destroyed.
    pub(super) fn destroys(&self, serial: &str, fingerprint: &Fingerprint) -> Result<(), String> {
        let confirmed = self.confirmed.get(serial).is_some_and(|it| it.contains(fingerprint));
        if confirmed || self.superseded.contains(fingerprint) || self.given_up.contains(serial) {
            return Ok(());
        }
        Err(format!("the private key of {serial} is destroyed before it has passed on disk"))
    }

    /// A device has passed: its files are on disk, all of them, and are what they were.
    pub(super) fn delivers(
        &mut self,
        serial: &str,
        certificate: Fingerprint,
        folders: &SimFolders,
    ) -> Result<(), String> {
        let content = folders.check(serial, certificate)?;
        let before = *self.delivered.entry((serial.to_owned(), certificate)).or_insert(content);
        if before == content {
            Ok(())
        } else {
            Err(format!("what was delivered for {serial} is another thing now"))
        }
    }

    /// A unit hears `pass`.
    pub(super) fn hears_pass(&self, serial: &str, stored: Option<Fingerprint>) -> Result<(), String> {
        let confirmed = self.confirmed.get(serial);
        if stored.is_some_and(|it| confirmed.is_some_and(|all| all.contains(&it))) {
            return Ok(());
        }
        Err(format!("pass for {serial}, which holds {stored:?} and not what has passed"))
    }
}

/// What the whole world holds at the end.
pub(super) struct World<'a> {
    pub(super) truth: &'a Truth,
    pub(super) index: &'a Index,
    pub(super) account: &'a Account,
    pub(super) keys: &'a SimKeys,
    /// What each unit has stored.
    pub(super) stored: BTreeMap<String, Option<Fingerprint>>,
}

impl World<'_> {
    /// The audit.
    pub(super) fn audit(&self) -> Result<(), String> {
        let known: BTreeMap<&str, &Device> =
            self.index.devices.values().map(|it| (it.serial.as_str(), it)).collect();
        for serial in self.truth.promised.iter().chain(&self.truth.passed) {
            if !known.contains_key(serial.as_str()) {
                return Err(format!("{serial} was acknowledged and is forgotten"));
            }
        }
        for device in known.values() {
            self.device(device).map_err(|what| {
                let json = serde_json::to_string(device).unwrap_or_default();
                format!("{}: {what}: {json}", device.serial)
            })?;
        }
        for batch in self.index.book.batches.values() {
            let seen = known.values().filter(|it| it.batch.as_deref() == Some(batch.id().as_str())).count();
            if batch.seen() != seen as u64 {
                return Err(format!("{} has seen {} devices, not {seen}", batch.id(), batch.seen()));
            }
        }
        self.keys(&known)?;
        self.issued(&known)?;
        for name in self.account.things.keys().filter(|it| !known.contains_key(it.as_str())) {
            if !self.stored.contains_key(name) {
                return Err(format!("the thing {name} belongs to nobody"));
            }
        }
        Ok(())
    }

    fn device(&self, device: &Device) -> Result<(), String> {
        let serial = device.serial.as_str();
        let foreign = self.truth.foreign.contains(serial);
        match device.state {
            State::Passed if foreign => return Err("it has passed with what is not ours".to_owned()),
            State::Passed => {}
            State::Scrapped if self.truth.given_up.contains(serial) => return self.is_gone(device),
            State::Quarantined if foreign || self.truth.excused.contains(serial) => return Ok(()),
            State::Quarantined | State::Scrapped => return Err("it has no reason to be put aside".to_owned()),
            _ if self.truth.excused.contains(serial) => return Ok(()),
            _ => return Err("it is unfinished".to_owned()),
        }
        if device.to_retire().is_some() {
            return Err("an old certificate is not retired".to_owned());
        }
        let certificate = device.certificate.as_ref().ok_or("it has no certificate")?;
        let late = self.truth.excused.contains(serial);
        if !late && self.stored.get(serial).is_some_and(|it| *it != Some(certificate.fingerprint)) {
            return Err(format!("the unit holds {:?}", self.stored[serial]));
        }
        let sealed = |it: KeyState| it == KeyState::Sealed;
        if sealed(certificate.key) || device.superseded.iter().any(|it| sealed(it.key)) {
            return Err("a private key is not recorded as destroyed".to_owned());
        }
        let rules = self.index.rules.get(&device.rules).ok_or("its rules are gone")?;
        self.resources(serial, rules)?;
        self.certificates(serial, certificate.fingerprint, rules)
    }

    /// Whether something may have been attached or made again after it was detached or deleted.
    fn may_linger(&self) -> bool {
        self.truth.late || self.truth.overtaken
    }

    /// Nothing is left of what was given up.
    fn is_gone(&self, device: &Device) -> Result<(), String> {
        let (serial, account) = (device.serial.as_str(), self.account);
        let issued = account.certificates.values().filter(|it| it.owner == serial);
        if issued.filter(|it| it.made.pem.is_some() || !self.may_linger()).count() > 0 {
            return Err("it is given up, and a certificate of it is left".to_owned());
        }
        // A call that takes effect late makes again what was deleted.
        let late = self.may_linger();
        if !late && (account.things.contains_key(serial) || account.policies.contains_key(serial)) {
            return Err("it is given up, and its thing or policy is left".to_owned());
        }
        if account.managed_things.values().any(|it| it == serial) {
            return Err("it is given up, and its managed thing is left".to_owned());
        }
        if account.lockers.values().any(|it| it == serial) {
            return Err("it is given up, and its locker is left".to_owned());
        }
        Ok(())
    }

    fn resources(&self, serial: &str, rules: &ProductRules) -> Result<(), String> {
        let account = self.account;
        let thing = account.things.get(serial).ok_or("there is no thing")?;
        if thing.attributes.get(STATION_ATTRIBUTE).map(String::as_str) != Some(STATION) {
            return Err("the thing does not say whose it is".to_owned());
        }
        let lockers = account.lockers.values().filter(|it| *it == serial).count();
        let shared = account.lockers.values().filter(|it| *it == BATCH_LOCKER).count();
        let has_batch = matches!(rules.locker, LockerRule::Batch { .. });
        if shared != 1 && has_batch || shared > 1 {
            return Err(format!("the batch has {shared} lockers"));
        }
        let wanted = usize::from(matches!(rules.locker, LockerRule::Device { .. }));
        if lockers != wanted {
            return Err(format!("there are {lockers} lockers, not {wanted}"));
        }
        let managed = account.managed_things.values().filter(|it| *it == serial).count();
        if managed != usize::from(rules.managed_thing.is_some()) {
            return Err(format!("there are {managed} managed things"));
        }
        match policy_of(serial, rules) {
            Some(name) if !account.policies.contains_key(name) => Err(format!("there is no policy {name}")),
            _ => Ok(()),
        }
    }

    /// One live certificate, ours, at the thing and with the policy; all others are retired.
    fn certificates(&self, serial: &str, live: Fingerprint, rules: &ProductRules) -> Result<(), String> {
        let account = self.account;
        let id = live.to_string();
        let jitp = rules.certificate.register == Register::Jitp;
        let attached: BTreeSet<&String> = account.things[serial].principals.keys().collect();
        let ours = arn(&id);
        let as_it_should_be = attached.contains(&ours) && (attached.len() == 1 || self.truth.late);
        if !jitp && !as_it_should_be {
            return Err(format!("to the thing is attached {attached:?}"));
        }
        for (other, it) in account.certificates.iter().filter(|(_, it)| it.owner == serial) {
            let is_live = *other == id && !jitp;
            if it.made.pem.is_some() && !is_live {
                return Err(format!("AWS has issued {other}, which nobody has"));
            }
            if (it.status == CertificateStatus::Active) != is_live {
                return Err(format!("the certificate {other} is {:?}", it.status));
            }
            let policies: Vec<&str> = it.policies.keys().map(String::as_str).collect();
            let wanted: Vec<&str> = policy_of(serial, rules).filter(|_| is_live).into_iter().collect();
            if policies != wanted && (is_live || !self.truth.late) {
                return Err(format!("the certificate {other} carries {policies:?}, not {wanted:?}"));
            }
        }
        if jitp || account.certificates.contains_key(&id) {
            return Ok(());
        }
        Err("its certificate is not registered".to_owned())
    }

    /// Whatever became of a device: what AWS has issued lets nobody in that is not recorded.
    fn issued(&self, known: &BTreeMap<&str, &Device>) -> Result<(), String> {
        for (id, it) in self.account.certificates.iter().filter(|(_, it)| it.made.pem.is_some()) {
            let device = known.get(it.owner.as_str()).ok_or("AWS has issued for an unknown device")?;
            let recorded = id.parse().is_ok_and(|id| device.knows_certificate(&id));
            if it.status == CertificateStatus::Active && !recorded {
                return Err(format!("{id} of {} is active, and nobody knows it", it.owner));
            }
        }
        Ok(())
    }

    /// No key outlives its delivery; none is there that nobody knows.
    fn keys(&self, known: &BTreeMap<&str, &Device>) -> Result<(), String> {
        let wanted = |device: &&Device| {
            let made = device.certificate.iter().map(|it| (it.key, it.key_id()));
            let all = made.chain(device.request.iter().map(|it| (it.key, it.public_key)));
            all.filter(|it| it.0 == KeyState::Sealed).map(|it| it.1).collect::<Vec<_>>()
        };
        let kept: HashSet<Fingerprint> = known.values().flat_map(wanted).collect();
        match self.keys.held().into_iter().find(|it| !kept.contains(it)) {
            Some(key) => Err(format!("the private key of {key} is on the station still")),
            None => Ok(()),
        }
    }
}

fn policy_of<'a>(serial: &'a str, rules: &ProductRules) -> Option<&'a str> {
    match rules.policy {
        PolicyRule::Device { .. } => Some(serial),
        PolicyRule::Product { .. } => Some(SHARED_POLICY),
        _ => None,
    }
}
